//! Where a classifier ends: its feature maps, their pooling and its last layer; and a network that ends as another one does.
//!
//! Owns the search for these nodes and the surgery. Knows no weights but by name.

use super::build::{Builder, Graph, GraphError, NodeId};
use super::op::{Conv2d, Op};

/// A student's projector has the teacher's channels divided by this inside (Chen et al. 2022).
const BOTTLENECK: usize = 2;

/// The end of a classifier: one linear layer on pooled feature maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The feature maps before pooling, `[channels, height, width]`.
    pub features: NodeId,
    /// The layer from pooled features to logits.
    pub linear: NodeId,
}

impl Head {
    /// The end of a graph, if it ends so.
    pub fn of(graph: &Graph) -> Option<Self> {
        let linear = past_views(graph, graph.output(Graph::LOGITS)?);
        let Op::Linear { .. } = graph.node(linear).op else { return None };
        let pooling = past_views(graph, graph.node(linear).inputs[0]);
        let (Op::GlobalAvgPool | Op::AvgPool { .. }) = graph.node(pooling).op else { return None };
        let features = graph.node(pooling).inputs[0];
        let [channels, _, _] = graph.node(features).shape[..] else { return None };
        let pooled: usize = graph.node(pooling).shape.iter().product();
        (pooled == channels).then_some(Self { features, linear })
    }
}

/// The node that has this one's values in the same order.
fn past_views(graph: &Graph, mut id: NodeId) -> NodeId {
    while let Op::Flatten | Op::Reshape { .. } = graph.node(id).op {
        id = graph.node(id).inputs[0];
    }
    id
}

/// The student with the teacher's last layer, behind a projector of its feature maps to the teacher's channels (Chen et al.
/// 2022, "Knowledge Distillation with the Reused Teacher Classifier", arXiv 2203.14001): convolutions of 1×1, 3×3 and 1×1, each
/// with BatchNorm and ReLU, then pooling and a linear layer, which has the name of the teacher's.
///
/// # Errors
/// A sentence, if one of the two does not end in a linear layer on pooled feature maps.
pub fn with_head_of(student: &Graph, teacher: &Graph) -> Result<Graph, String> {
    let ends = |graph: &Graph, whose: &str| {
        Head::of(graph)
            .ok_or_else(|| format!("{whose} does not end in a linear layer on pooled feature maps"))
    };
    let (own, theirs) = (ends(student, "the student")?, ends(teacher, "the teacher")?);
    build(student, own, teacher, theirs).map_err(|error| error.to_string())
}

fn build(student: &Graph, own: Head, teacher: &Graph, theirs: Head) -> Result<Graph, GraphError> {
    let (mut builder, image) = Builder::new(student.input_shape().clone())?;
    let mut written = vec![image];
    for node in &student.nodes()[1..=own.features.index()] {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|id| written[id.index()]).collect();
        written.push(builder.add(&node.name, node.op.clone(), &inputs)?);
    }
    let channels = teacher.node(theirs.features).shape[0];
    let mut x = written[own.features.index()];
    let inside = (channels / BOTTLENECK).max(1);
    for (place, (channels, kernel)) in [(inside, 1), (inside, 3), (channels, 1)].into_iter().enumerate() {
        let name = format!("projector.{place}");
        x = builder.add(format!("{name}.conv"), Op::Conv2d(Conv2d::square(channels, kernel, 1)), &[x])?;
        x = builder.add(format!("{name}.bn"), Op::BatchNorm { eps: 1e-5, momentum: 0.1 }, &[x])?;
        x = builder.add(format!("{name}.relu"), Op::Relu, &[x])?;
    }
    let pooled = builder.add("projector.pool", Op::GlobalAvgPool, &[x])?;
    let embedding = builder.add("projector.flatten", Op::Flatten, &[pooled])?;
    let linear = teacher.node(theirs.linear);
    let logits = builder.add(&linear.name, linear.op.clone(), &[embedding])?;
    Ok(builder.finish(&[(Graph::LOGITS, logits), (Graph::EMBEDDING, embedding)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Pool;

    /// Maps of these channels, then pooling, a view and a linear layer.
    fn network(channels: usize, pooling: Op, last: &str) -> Graph {
        let (mut builder, image) = Builder::new(vec![3, 8, 8]).unwrap();
        let conv = builder.add("conv", Op::Conv2d(Conv2d::square(channels, 3, 2)), &[image]).unwrap();
        let relu = builder.add("relu", Op::Relu, &[conv]).unwrap();
        let pooled = builder.add("pool", pooling, &[relu]).unwrap();
        let flat = builder.add("flat", Op::Flatten, &[pooled]).unwrap();
        let logits = builder.add(last, Op::Linear { out_features: 5, bias: true }, &[flat]).unwrap();
        builder.finish(&[(Graph::LOGITS, logits)])
    }

    #[test]
    fn a_head_is_a_linear_layer_on_pooled_maps() {
        let whole = network(6, Op::AvgPool { pool: Pool::square(4, 4), count_include_pad: true }, "fc");
        for graph in [network(6, Op::GlobalAvgPool, "fc"), whole] {
            let head = Head::of(&graph).unwrap();
            assert_eq!(
                (graph.node(head.features).name.as_str(), graph.node(head.linear).name.as_str()),
                ("relu", "fc")
            );
        }
        let quarters = Op::AvgPool { pool: Pool::square(2, 2), count_include_pad: true };
        for pooling in [quarters, Op::MaxPool(Pool::square(4, 4))] {
            assert_eq!(Head::of(&network(6, pooling, "fc")), None);
        }
    }

    #[test]
    fn a_student_gets_a_projector_and_the_teachers_layer() {
        let teacher = network(10, Op::GlobalAvgPool, "classifier");
        let student = network(4, Op::GlobalAvgPool, "fc");
        let graph = with_head_of(&student, &teacher).unwrap();
        let names: Vec<&str> = graph.nodes().iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names[..3], ["image", "conv", "relu"]);
        assert_eq!(*names.last().unwrap(), "classifier");
        let head = Head::of(&graph).unwrap();
        assert_eq!(graph.node(head.features).shape, [10, 4, 4]);
        let inside: Vec<usize> = (0..3).map(|place| graph.nodes()[3 + 3 * place].shape[0]).collect();
        assert_eq!(inside, [5, 5, 10]);
        let flat = network(4, Op::MaxPool(Pool::square(4, 4)), "fc");
        let problem = with_head_of(&flat, &teacher).unwrap_err();
        assert_eq!(problem, "the student does not end in a linear layer on pooled feature maps");
    }
}
