//! One operation for one meaning: where two operations of the enum compute the same, every graph has only one of
//! them.
//!
//! Whatever is fused, folded, measured or guessed for one spelling therefore holds for all. The builder and the
//! importer's draft both apply this, so that no reading of a graph has to know the other spellings.

use super::op::{Binary, Op, Pool, Shape};

impl Op {
    /// The operation that replaces this one where it reads `inputs`, given as the operations of the nodes and
    /// their shapes for one image. It computes the same numbers.
    pub fn canonical(self, inputs: &[(&Op, &Shape)]) -> Self {
        let shape = inputs.first().map(|(_, shape)| shape.as_slice()).unwrap_or_default();
        // A constant has a batch of one where the others have the whole batch, so its sum is a broadcast.
        if self == Op::Binary(Binary::Add) && alike(inputs) && !inputs.iter().any(|(op, _)| is_constant(op)) {
            return Op::Add;
        }
        if shape.len() == 3 && self == (Op::Mean { axes: vec![1, 2] }) {
            return Op::GlobalAvgPool;
        }
        if let [_, height, width] = *shape
            && self == (Op::Max { axes: vec![1, 2] })
        {
            return Op::MaxPool(Pool { kernel: [height, width], ..Pool::square(1, 1) });
        }
        if self == (Op::Reshape { shape: vec![shape.iter().product()] }) {
            return Op::Flatten;
        }
        if self == (Op::Clip { min: 0.0, max: f64::INFINITY }) {
            return Op::Relu;
        }
        self
    }
}

fn alike(inputs: &[(&Op, &Shape)]) -> bool {
    inputs.windows(2).all(|pair| pair[0].1 == pair[1].1)
}

fn is_constant(op: &Op) -> bool {
    matches!(op, Op::Constant { .. })
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::super::build::{Builder, Graph};
    use super::*;

    /// The operation that a graph has after `op` was added to it, on one or two values of a shape.
    fn added(op: Op, shape: &[usize], with_constant: bool) -> Op {
        let (mut builder, image) = Builder::new(vec![2, 4, 4]).unwrap();
        let seen = builder.add("seen", Op::Reshape { shape: shape.to_vec() }, &[image]).unwrap();
        let values = ArrayD::zeros(IxDyn(shape));
        let constant = builder.add("constant", Op::Constant { values }, &[]).unwrap();
        let other = if with_constant { constant } else { seen };
        let inputs = if matches!(op, Op::Binary(_)) { vec![seen, other] } else { vec![seen] };
        let id = builder.add("op", op, &inputs).unwrap();
        builder.finish(&[(Graph::LOGITS, id)]).node(id).op.clone()
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        for (op, shape, expected) in [
            (Op::Binary(Binary::Add), vec![2, 4, 4], Op::Add),
            (Op::Mean { axes: vec![1, 2] }, vec![2, 4, 4], Op::GlobalAvgPool),
            (
                Op::Max { axes: vec![1, 2] },
                vec![2, 2, 8],
                Op::MaxPool(Pool { kernel: [2, 8], ..Pool::square(1, 1) }),
            ),
            (Op::Reshape { shape: vec![32] }, vec![2, 4, 4], Op::Flatten),
            (Op::Clip { min: 0.0, max: f64::INFINITY }, vec![32], Op::Relu),
        ] {
            assert_eq!(added(op, &shape, false), expected);
        }
    }

    #[test]
    fn a_shape_that_does_not_fit_is_still_refused() {
        let (mut builder, image) = Builder::new(vec![2, 4, 4]).unwrap();
        let error = builder.add("op", Op::Reshape { shape: vec![31] }, &[image]).unwrap_err();
        assert_eq!(error.op, "reshape");
    }

    #[test]
    fn what_only_looks_alike_stays() {
        for (op, shape, with_constant) in [
            (Op::Binary(Binary::Add), vec![2, 4, 4], true),
            (Op::Binary(Binary::Mul), vec![2, 4, 4], false),
            (Op::Mean { axes: vec![1, 2] }, vec![2, 2, 2, 4], false),
            (Op::Mean { axes: vec![0, 1] }, vec![2, 4, 4], false),
            (Op::Max { axes: vec![0, 1] }, vec![2, 4, 4], false),
            (Op::Reshape { shape: vec![4, 8] }, vec![2, 4, 4], false),
            (Op::Clip { min: 0.0, max: 6.0 }, vec![32], false),
            (Op::Clip { min: -1.0, max: f64::INFINITY }, vec![32], false),
        ] {
            assert_eq!(added(op.clone(), &shape, with_constant), op);
        }
    }
}
