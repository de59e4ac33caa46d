//! The normalisation of pixels as part of a network: before its first layer, or in that layer's weights.

use ndarray::{ArrayD, IxDyn};

use super::build::{Builder, Graph, GraphError, NodeId};
use super::model::{Model, ModelError};
use super::op::{Binary, Op};
use super::weights::Weights;

/// The network with `(pixel − mean) / std` per channel before everything else: on pixels it computes what `model`
/// computes on normalised pixels.
///
/// # Errors
/// [`ModelError`] if the numbers of means and deviations are not the number of channels.
pub fn normalizing(model: &Model, mean: &[f32], std: &[f32]) -> Result<Model, ModelError> {
    let graph = insert_after_input(model.graph(), &|_, op| op.clone(), &|builder, image| {
        let centred = by_channel(builder, image, Binary::Sub, "mean", "centred", mean)?;
        by_channel(builder, centred, Binary::Div, "std", "normalised", std)
    })?;
    Ok(Model::new(graph, model.weights().clone())?)
}

/// The same with as few nodes as give the same numbers. If a single convolution is all that reads the image, the
/// division is folded into its weights; the subtraction is folded into its bias if it has no padding, and is
/// otherwise a node of its own, after which padded zeros mean the same as in the normalised image.
///
/// `W' = W / std` per input channel, `b' = b − Σ W' · mean`.
///
/// # Errors
/// [`ModelError`] if the numbers of means and deviations are not the number of channels, or if a folded weight is
/// not finite.
pub fn fold_normalization(model: &Model, mean: &[f32], std: &[f32]) -> Result<Model, ModelError> {
    let (graph, weights) = (model.graph(), model.weights());
    let reads = |node: &super::build::Node| node.inputs.iter().any(|id| id.index() == 0);
    let mut readers = graph.nodes().iter().enumerate().filter(|(_, node)| reads(node));
    let only = readers.next().filter(|_| readers.next().is_none() && graph.uses()[0] == 1);
    let Some((place, Op::Conv2d(conv))) = only.map(|(place, node)| (graph.id(place), &node.op)) else {
        return normalizing(model, mean, std);
    };
    let padded = conv.padding != [0, 0];
    let folded = fold_weights(graph, place, weights, (!padded).then_some(mean), std)?;
    let write = |id: NodeId, op: &Op| {
        let mut op = op.clone();
        if let Op::Conv2d(conv) = &mut op {
            conv.bias |= id == place && !padded;
        }
        op
    };
    let rewritten = insert_after_input(graph, &write, &|builder, image| match padded {
        true => by_channel(builder, image, Binary::Sub, "mean", "centred", mean),
        false => Ok(image),
    })?;
    Ok(Model::new(rewritten, folded)?)
}

/// The graph with new nodes between its image and everything that reads it: `first` adds them and returns the
/// last one, and `write` gives the replacement of each of the graph's own operations.
fn insert_after_input(
    graph: &Graph,
    write: &dyn Fn(NodeId, &Op) -> Op,
    first: &dyn Fn(&mut Builder, NodeId) -> Result<NodeId, GraphError>,
) -> Result<Graph, GraphError> {
    let (mut builder, image) = Builder::new(graph.input_shape().clone())?;
    let normalised = first(&mut builder, image)?;
    graph.rewritten_on(builder, normalised, &mut |builder, id, inputs| {
        let node = graph.node(id);
        builder.add(&node.name, write(id, &node.op), inputs)
    })
}

/// Adds `values`, one per channel, and `function` of the image and these values.
fn by_channel(
    builder: &mut Builder,
    image: NodeId,
    function: Binary,
    operand: &str,
    result: &str,
    values: &[f32],
) -> Result<NodeId, GraphError> {
    let values = ArrayD::from_shape_fn(IxDyn(&[values.len(), 1, 1]), |at| values[at[0]]);
    let operand = builder.add(format!("image.{operand}"), Op::Constant { values }, &[])?;
    builder.add(format!("image.{result}"), Op::Binary(function), &[image, operand])
}

/// The weights, with those of the convolution `id` divided; where means are given, its bias is reduced by their
/// share.
fn fold_weights(
    graph: &Graph,
    id: NodeId,
    weights: &Weights,
    mean: Option<&[f32]>,
    std: &[f32],
) -> Result<Weights, GraphError> {
    let node = graph.node(id);
    let fail = |problem: String| GraphError { node: node.name.clone(), op: node.op.kind(), problem };
    let [weight, bias] = ["weight", "bias"].map(|suffix| format!("{}.{suffix}", node.name));
    let mut folded = weights.clone();
    let mut kernel = folded.remove(&weight).ok_or_else(|| fail(format!("no weights '{weight}'")))?;
    let channels = graph.input_shapes(node)[0][0];
    if std.len() != channels || mean.is_some_and(|mean| mean.len() != channels) {
        return Err(fail(format!("{channels} channels are normalised by {} numbers", std.len())));
    }
    let (filters, share) = (kernel.shape()[0], kernel.shape()[1]);
    // In a grouped convolution each filter reads only its group's channels.
    let channel = |filter: usize, input: usize| filter * (channels / share) / filters * share + input;
    for (at, value) in kernel.indexed_iter_mut() {
        *value = (f64::from(*value) / f64::from(std[channel(at[0], at[1])])) as f32;
    }
    if let Some(mean) = mean {
        let mut sums = vec![0.0; filters];
        for (at, value) in kernel.indexed_iter() {
            sums[at[0]] += f64::from(*value) * f64::from(mean[channel(at[0], at[1])]);
        }
        let before = folded.remove(&bias);
        let before = |filter: usize| before.as_ref().map_or(0.0, |bias| f64::from(bias[[filter].as_slice()]));
        let after = ArrayD::from_shape_fn(IxDyn(&[filters]), |at| (before(at[0]) - sums[at[0]]) as f32);
        folded.insert(bias, after);
    }
    folded.insert(weight, kernel);
    Ok(folded)
}

#[cfg(test)]
mod tests {
    use super::super::op::Conv2d;
    use super::*;
    const MEAN: [f32; 2] = [0.5, 0.25];
    const STD: [f32; 2] = [0.5, 0.125];

    fn network(conv: Conv2d, read_twice: bool) -> Graph {
        let (mut builder, image) = Builder::new(vec![2, 4, 4]).unwrap();
        let conv = builder.add("conv", Op::Conv2d(conv), &[image]).unwrap();
        let last = match read_twice {
            true => builder.add("both", Op::Add, &[conv, image]).unwrap(),
            false => conv,
        };
        builder.finish(&[(Graph::LOGITS, last)])
    }

    fn names(graph: &Graph) -> Vec<&str> {
        graph.nodes().iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn without_padding_all_of_it_is_in_the_convolution() {
        let conv = Conv2d { padding: [0; 2], groups: 2, ..Conv2d::square(4, 3, 1) };
        let model = Model::untrained(network(conv, false), 1);
        let (folded, new) = fold_normalization(&model, &MEAN, &STD).unwrap().into_parts();
        let weights = model.weights();
        assert_eq!(names(&folded), ["image", "conv"]);
        let value = |weights: &Weights, at: [usize; 4]| weights.get("conv.weight").unwrap()[at.as_slice()];
        // There are two filters per group, so the third filter reads the second channel.
        assert_eq!(value(&new, [1, 0, 2, 0]), value(weights, [1, 0, 2, 0]) / STD[0]);
        assert_eq!(value(&new, [2, 0, 2, 0]), value(weights, [2, 0, 2, 0]) / STD[1]);
        let filter = new.get("conv.weight").unwrap().index_axis(ndarray::Axis(0), 3).sum();
        assert!((new.get("conv.bias").unwrap()[[3].as_slice()] + MEAN[1] * filter).abs() < 1e-6);
    }

    #[test]
    fn what_is_padded_is_centred_before() {
        let model = Model::untrained(network(Conv2d::square(3, 3, 1), false), 1);
        let folded = fold_normalization(&model, &MEAN, &STD).unwrap();
        assert_eq!(names(folded.graph()), ["image", "image.mean", "image.centred", "conv"]);
    }

    #[test]
    fn an_image_that_is_read_twice_is_normalised_by_nodes() {
        let model = Model::untrained(network(Conv2d::square(2, 3, 1), true), 1);
        let folded = fold_normalization(&model, &MEAN, &STD).unwrap();
        assert_eq!(folded, normalizing(&model, &MEAN, &STD).unwrap());
        let folded = folded.graph();
        let normalised = ["image", "image.mean", "image.centred", "image.std", "image.normalised"];
        assert_eq!(names(folded)[..5], normalised);
        assert!(folded.nodes()[6].inputs.contains(&folded.id(4)), "the sum reads it, too");
    }

    #[test]
    fn there_is_a_number_for_each_channel() {
        let model = Model::untrained(network(Conv2d::square(2, 3, 1), false), 1);
        assert!(normalizing(&model, &[0.5; 3], &[0.5; 3]).is_err());
        assert!(fold_normalization(&model, &[0.5; 3], &[0.5; 3]).is_err());
    }
}
