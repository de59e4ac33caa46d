//! One hash of everything that a graph computes, by which results can be reused.

use super::build::Graph;
use super::op::Op;

/// BLAKE3 hash of everything in a graph, in hex: equal graphs have equal fingerprints. Constants count with the
/// bytes of every value, because their `Debug` form leaves out the middle of long arrays.
pub fn fingerprint(graph: &Graph) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for node in graph.nodes() {
        field(node.name.as_bytes());
        if let Op::Constant { values } = &node.op {
            field(format!("constant {:?}", values.shape()).as_bytes());
            field(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        } else {
            field(format!("{:?}", node.op).as_bytes());
        }
        field(format!("{:?}", node.inputs).as_bytes());
    }
    for output in graph.outputs() {
        field(output.name.as_bytes());
        field(&output.node.index().to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use super::*;
    use crate::graph::{Binary, Builder};

    /// A graph that adds a long constant with a given value in its middle.
    fn with_constant(middle: f32) -> Graph {
        let (mut builder, image) = Builder::new(vec![1, 64, 64]).unwrap();
        let mut values = ArrayD::zeros(vec![1, 64, 64]);
        values[[0, 31, 31].as_slice()] = middle;
        let constant = builder.add("constant", Op::Constant { values }, &[]).unwrap();
        let sum = builder.add("sum", Op::Binary(Binary::Add), &[image, constant]).unwrap();
        builder.finish(&[(Graph::LOGITS, sum)])
    }

    #[test]
    fn every_value_of_a_constant_counts() {
        let [one, other] = [1.0, 2.0].map(with_constant);
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "Debug leaves the middle out");
        assert_ne!(fingerprint(&one), fingerprint(&other));
        assert_eq!(fingerprint(&one), fingerprint(&with_constant(1.0)));
    }

    #[test]
    fn operations_inputs_and_outputs_count() {
        let graph = |op: Op, output: &str| {
            let (mut builder, image) = Builder::new(vec![1, 4, 4]).unwrap();
            let last = builder.add("op", op, &[image]).unwrap();
            builder.finish(&[(output, last)])
        };
        let relu = fingerprint(&graph(Op::Relu, "logits"));
        assert_ne!(relu, fingerprint(&graph(Op::GlobalAvgPool, "logits")));
        assert_ne!(relu, fingerprint(&graph(Op::Relu, "embedding")));
    }
}
