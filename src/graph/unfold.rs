//! The inverse of folding: a BatchNorm behind each convolution that has none, such that the network stays the same.
//!
//! Exporters fold BatchNorm into convolutions, and a deep network without it trains badly after channels are taken away.

use std::collections::HashSet;

use ndarray::{ArrayD, IxDyn};

use super::build::{Graph, Node, NodeId};
use super::model::{Model, ModelError};
use super::op::Op;

/// `eps` of a new BatchNorm.
const EPS: f64 = 1e-5;

/// Weight of the new batch in its running statistics.
const MOMENTUM: f64 = 0.1;

/// Mean and variance of each output channel of a convolution over many images.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

/// The convolutions behind which a BatchNorm would stand if it had not been folded: those with a bias, over more than one
/// pixel, that no normalisation follows and that are not the last layer.
pub fn bare_convolutions(graph: &Graph) -> Vec<NodeId> {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.nodes().len()];
    for (index, node) in graph.nodes().iter().enumerate() {
        node.inputs.iter().for_each(|input| readers[input.index()].push(index));
    }
    // Whether a layer with weights comes later.
    let mut goes_on = vec![false; graph.nodes().len()];
    for index in (0..goes_on.len()).rev() {
        let layer = |reader: &usize| {
            let op = &graph.nodes()[*reader].op;
            matches!(op, Op::Conv2d(_) | Op::Linear { .. } | Op::MatMul) || goes_on[*reader]
        };
        goes_on[index] = readers[index].iter().any(layer);
    }
    let bare = |index: &usize| {
        let node = &graph.nodes()[*index];
        let Op::Conv2d(conv) = &node.op else { return false };
        let pixels: usize = node.shape[1..].iter().product();
        conv.bias
            && pixels > 1
            && goes_on[*index]
            && !readers[*index].iter().any(|reader| normalises(graph, &readers, *reader))
    };
    (0..graph.nodes().len()).filter(bare).map(|index| graph.id(index)).collect()
}

/// Whether a node normalises what it reads, or only moves it to where that is done.
fn normalises(graph: &Graph, readers: &[Vec<usize>], mut index: usize) -> bool {
    loop {
        match (&graph.nodes()[index].op, &readers[index][..]) {
            (Op::BatchNorm { .. } | Op::LayerNorm { .. } | Op::InstanceNorm { .. }, _) => return true,
            (Op::Transpose { .. } | Op::Reshape { .. }, [reader]) => index = *reader,
            _ => return false,
        }
    }
}

/// Puts a BatchNorm behind each of these convolutions, with these running statistics, and a scale and shift that undo it;
/// the convolution's bias moves into it. The network computes the same until it is trained.
///
/// # Errors
/// [`ModelError`] if statistics do not fit their convolution or are not finite.
pub fn unfold_batch_norm(model: &Model, statistics: &[(NodeId, Statistics)]) -> Result<Model, ModelError> {
    let graph = model.graph();
    let mut weights = model.weights().clone();
    let mut names: HashSet<String> = graph.nodes().iter().map(|node| node.name.clone()).collect();
    let rewritten = graph.rewritten(&mut |builder, id, inputs| {
        let Node { name, op, .. } = graph.node(id);
        let found = statistics.iter().find(|(conv, _)| *conv == id).map(|(_, found)| found);
        let (Some(Statistics { mean, variance }), Op::Conv2d(conv)) = (found, op) else {
            return builder.add(name, op.clone(), inputs);
        };
        let mut norm = format!("{name}.norm");
        while !names.insert(norm.clone()) {
            norm.push('_');
        }
        let bias = weights.remove(&format!("{name}.bias"));
        let array =
            |values: Vec<f32>| ArrayD::from_shape_vec(IxDyn(&[values.len()]), values).expect("one axis");
        let scale = variance.iter().map(|variance| (f64::from(*variance) + EPS).sqrt() as f32);
        // Without its bias, the convolution's mean is lower by it.
        let running = mean
            .iter()
            .enumerate()
            .map(|(channel, mean)| mean - bias.as_ref().map_or(0.0, |bias| bias[[channel].as_slice()]));
        for (suffix, values) in [
            ("weight", scale.collect()),
            ("bias", mean.clone()),
            ("running_mean", running.collect()),
            ("running_var", variance.clone()),
        ] {
            weights.insert(format!("{norm}.{suffix}"), array(values));
        }
        let mut conv = conv.clone();
        conv.bias = false;
        let conv = builder.add(name, Op::Conv2d(conv), inputs)?;
        builder.add(norm, Op::BatchNorm { eps: EPS, momentum: MOMENTUM }, &[conv])
    })?;
    Ok(Model::new(rewritten, weights)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Conv2d, fold_batch_norm};

    #[test]
    fn folding_gives_back_what_was_unfolded() {
        let (mut builder, image) = Builder::new(vec![2, 4, 4]).unwrap();
        let biased = |channels: usize, kernel: usize| {
            Op::Conv2d(Conv2d { bias: true, ..Conv2d::square(channels, kernel, 1) })
        };
        let first = builder.add("first", biased(3, 3), &[image]).unwrap();
        let relu = builder.add("first.norm", Op::Relu, &[first]).unwrap();
        let pool = builder.add("pool", Op::GlobalAvgPool, &[relu]).unwrap();
        let gate = builder.add("gate", biased(3, 1), &[pool]).unwrap();
        let second = builder.add("second", biased(3, 1), &[relu]).unwrap();
        let product = builder.add("product", Op::Binary(crate::graph::Binary::Mul), &[second, gate]).unwrap();
        let last = builder.add("last", biased(5, 1), &[product]).unwrap();
        let graph = builder.finish(&[(Graph::LOGITS, last)]);
        let bare = bare_convolutions(&graph);
        assert_eq!(bare, [first, second]);
        let model = Model::untrained(graph, 3);
        let statistics =
            |id: &NodeId| (*id, Statistics { mean: vec![0.3, -2.0, 0.0], variance: vec![4.0, 0.0, 1e-3] });
        let statistics: Vec<_> = bare.iter().map(statistics).collect();
        let unfolded = unfold_batch_norm(&model, &statistics).unwrap();
        assert_eq!(unfolded.graph().nodes().len(), model.graph().nodes().len() + 2);
        assert!(bare_convolutions(unfolded.graph()).is_empty());
        let folded = fold_batch_norm(&unfolded).unwrap();
        assert_eq!(folded.graph(), model.graph());
        for (name, array) in model.weights().iter() {
            let found = folded.weights().get(name).unwrap();
            let apart = array.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-6, "{name}: {apart}");
        }
    }
}
