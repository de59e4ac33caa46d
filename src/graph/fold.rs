//! BatchNorm folding: a convolution and the normalisation after it as one convolution.

use ndarray::ArrayD;

use super::build::{Graph, GraphError, NodeId};
use super::model::{Model, ModelError};
use super::op::{Conv2d, Op};
use super::weights::Weights;

/// Folds every BatchNorm whose input is a convolution that nothing else reads. The folded
/// convolution keeps its own name and has a bias; other BatchNorms stay. Computed in float64.
///
/// `W' = W · γ/√(σ² + ε)` per output channel, `b' = β + (b − μ) · γ/√(σ² + ε)`.
///
/// # Errors
/// [`ModelError`] if a folded weight is not finite.
pub fn fold_batch_norm(model: &Model) -> Result<Model, ModelError> {
    let (graph, weights) = (model.graph(), model.weights());
    let uses = graph.uses();
    let foldable = |id: NodeId| -> Option<&Conv2d> {
        let node = graph.node(id);
        let Op::BatchNorm { .. } = node.op else { return None };
        let before = node.inputs[0];
        let Op::Conv2d(conv) = &graph.node(before).op else { return None };
        (uses[before.index()] == 1).then_some(conv)
    };
    let folded_convs: Vec<NodeId> = graph
        .nodes()
        .iter()
        .enumerate()
        .filter_map(|(index, node)| foldable(graph.id(index)).map(|_| node.inputs[0]))
        .collect();

    let mut folded = weights.clone();
    let rewritten = graph.rewritten(&mut |builder, id, inputs| {
        let node = graph.node(id);
        if foldable(id).is_some() {
            fold_weights(graph, id, &mut folded)?;
            return Ok(inputs[0]);
        }
        let mut op = node.op.clone();
        if let Op::Conv2d(conv) = &mut op {
            conv.bias |= folded_convs.contains(&id);
        }
        builder.add(&node.name, op, inputs)
    })?;
    Ok(Model::new(rewritten, folded)?)
}

fn fold_weights(graph: &Graph, norm: NodeId, weights: &mut Weights) -> Result<(), GraphError> {
    let norm = graph.node(norm);
    let conv = graph.node(norm.inputs[0]);
    let Op::BatchNorm { eps, .. } = norm.op else { unreachable!("the caller matched a BatchNorm") };
    let missing = |name: String| GraphError {
        node: norm.name.clone(),
        op: "batch_norm",
        problem: format!("no weights '{name}'"),
    };
    let mut take = |node: &str, suffix: &str| {
        let name = format!("{node}.{suffix}");
        weights.remove(&name).ok_or_else(|| missing(name))
    };
    let mut kernel = take(&conv.name, "weight")?;
    let has_bias = matches!(conv.op, Op::Conv2d(Conv2d { bias: true, .. }));
    let bias = if has_bias { Some(take(&conv.name, "bias")?) } else { None };
    let [gamma, beta, mean, variance] = [
        take(&norm.name, "weight")?,
        take(&norm.name, "bias")?,
        take(&norm.name, "running_mean")?,
        take(&norm.name, "running_var")?,
    ];
    let at = |array: &ArrayD<f32>, channel: usize| f64::from(array[[channel].as_slice()]);
    let mut new_bias = beta.clone();
    for (channel, mut filter) in kernel.outer_iter_mut().enumerate() {
        let scale = at(&gamma, channel) / (at(&variance, channel) + eps).sqrt();
        filter.mapv_inplace(|value| (f64::from(value) * scale) as f32);
        let before = bias.as_ref().map_or(0.0, |bias| at(bias, channel));
        new_bias[[channel].as_slice()] = (at(&beta, channel) + (before - at(&mean, channel)) * scale) as f32;
    }
    weights.insert(format!("{}.weight", conv.name), kernel);
    weights.insert(format!("{}.bias", conv.name), new_bias);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, initial_weights};

    fn conv_norm(shared: bool) -> Graph {
        let (mut builder, image) = Builder::new(vec![2, 4, 4]).unwrap();
        let conv = builder.add("conv", Op::Conv2d(Conv2d::square(3, 3, 1)), &[image]).unwrap();
        let norm = builder.add("norm", Op::BatchNorm { eps: 1e-5, momentum: 0.1 }, &[conv]).unwrap();
        let last = if shared { builder.add("sum", Op::Add, &[norm, conv]).unwrap() } else { norm };
        builder.finish(&[(Graph::LOGITS, last)])
    }

    #[test]
    fn folded_weights_are_the_formula() {
        let graph = conv_norm(false);
        let mut weights = initial_weights(&graph, 1);
        for (name, value) in
            [("norm.weight", 2.0), ("norm.bias", 0.5), ("norm.running_mean", 3.0), ("norm.running_var", 4.0)]
        {
            weights.insert(name, ArrayD::from_elem(vec![3], value));
        }
        let (folded, new) =
            fold_batch_norm(&Model::new(graph, weights.clone()).unwrap()).unwrap().into_parts();
        assert_eq!(folded.nodes().len(), 2);
        let scale = 2.0 / (4.0f64 + 1e-5).sqrt();
        let before = f64::from(weights.get("conv.weight").unwrap()[[1, 1, 2, 0].as_slice()]);
        let after = f64::from(new.get("conv.weight").unwrap()[[1, 1, 2, 0].as_slice()]);
        assert!((after - before * scale).abs() < 1e-7);
        assert!(
            (f64::from(new.get("conv.bias").unwrap()[[0].as_slice()]) - (0.5 - 3.0 * scale)).abs() < 1e-6
        );
    }

    #[test]
    fn a_convolution_read_twice_stays() {
        let model = Model::untrained(conv_norm(true), 1);
        assert_eq!(fold_batch_norm(&model).unwrap(), model);
    }
}
