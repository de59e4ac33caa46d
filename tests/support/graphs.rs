//! Random classifiers: every kind of layer that a plain network may have, in any order that fits.

use cohort::graph::{
    self, Binary, Builder, Conv2d, Coordinates, Filter, Graph, Model, Op, Pool, Rounding, Unary,
    initial_weights, params,
};
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// Initial weights with running statistics as after training, so that BatchNorm has an effect.
pub fn with_statistics(graph: Graph, seed: u64) -> Model {
    let mut weights = initial_weights(&graph, seed);
    for spec in params(&graph) {
        let mut array = weights.get(&spec.name).unwrap().clone();
        let spread = |index: usize| ((index * 37 + 11) % 17) as f32 / 17.0;
        if spec.name.ends_with("running_var") {
            array.iter_mut().enumerate().for_each(|(index, value)| *value = 0.02 + spread(index));
        } else if spec.name.ends_with("running_mean") || spec.name.ends_with("bias") {
            array.iter_mut().enumerate().for_each(|(index, value)| *value = spread(index) - 0.5);
        }
        weights.insert(spec.name, array);
    }
    Model::new(graph, weights).unwrap()
}

/// Adds one layer to a graph; a layer that does not fit is left out.
#[derive(Debug, Clone)]
pub enum Step {
    Conv {
        out: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        dilation: usize,
        grouped: bool,
        bias: bool,
    },
    Norm,
    Relu,
    Clip,
    MaxPool {
        kernel: usize,
        stride: usize,
        ceil: bool,
    },
    AvgPool {
        kernel: usize,
        stride: usize,
        padding: usize,
        include: bool,
    },
    AddBack {
        to: usize,
    },
    ConcatBack {
        to: usize,
    },
    Slice {
        start: usize,
        keep: usize,
    },
    Shuffle,
    /// The difference to the largest value along an axis.
    BelowLargest {
        axis: usize,
    },
    /// A curve for negative values and the values themselves elsewhere; both are 0 at 0.
    Choose,
    OwnNorm,
    Resize {
        size: [usize; 2],
        coordinates: Coordinates,
    },
    /// Enlarges by whole numbers with the nearest pixels.
    Enlarge,
}

/// Any step.
pub fn step() -> impl Strategy<Value = Step> {
    let conv = (1usize..5, 1usize..4, 1usize..3, 0usize..3, 1usize..3, any::<bool>(), any::<bool>());
    prop_oneof![
        3 => conv.prop_map(|(out, kernel, stride, padding, dilation, grouped, bias)| Step::Conv {
            out: 2 * out, kernel, stride, padding, dilation, grouped, bias
        }),
        2 => Just(Step::Norm),
        2 => Just(Step::Relu),
        1 => Just(Step::Clip),
        1 => (1usize..4, 1usize..3, any::<bool>()).prop_map(|(kernel, stride, ceil)| Step::MaxPool { kernel, stride, ceil }),
        1 => (2usize..4, 1usize..3, 0usize..2, any::<bool>()).prop_map(|(kernel, stride, padding, include)| {
            Step::AvgPool { kernel, stride, padding, include }
        }),
        1 => (0usize..8).prop_map(|to| Step::AddBack { to }),
        1 => (0usize..8).prop_map(|to| Step::ConcatBack { to }),
        1 => (0usize..4, 1usize..5).prop_map(|(start, keep)| Step::Slice { start, keep }),
        1 => Just(Step::Shuffle),
        1 => (0usize..3).prop_map(|axis| Step::BelowLargest { axis }),
        1 => Just(Step::Choose),
        1 => Just(Step::OwnNorm),
        1 => resize(),
    ]
}

fn resize() -> impl Strategy<Value = Step> {
    let coordinates = prop_oneof![Just(Coordinates::HalfPixel), Just(Coordinates::Asymmetric)];
    (3usize..12, 3usize..12, any::<bool>(), coordinates).prop_map(|(height, width, nearest, coordinates)| {
        // Cases where rounding decides which pixel is the nearest are not compared.
        if nearest { Step::Enlarge } else { Step::Resize { size: [height, width], coordinates } }
    })
}

/// A classifier of these layers, with its embedding, for images of a shape.
pub fn grow(steps: &[Step], shape: Vec<usize>) -> Graph {
    let (mut builder, image) = Builder::new(shape).unwrap();
    let mut values = vec![image];
    for (index, step) in steps.iter().enumerate() {
        let last = *values.last().unwrap();
        let channels = builder.shape(last)[0];
        let back = |to: usize| values[to % values.len()];
        let (op, inputs) = match step {
            Step::Conv { out, kernel, stride, padding, dilation, grouped, bias } => {
                let conv = Conv2d {
                    padding: [*padding; 2],
                    dilation: [*dilation; 2],
                    groups: if *grouped { 2 } else { 1 },
                    bias: *bias,
                    ..Conv2d::square(*out, *kernel, *stride)
                };
                (Op::Conv2d(conv), vec![last])
            }
            Step::Norm => (Op::BatchNorm { eps: 1e-5, momentum: 0.1 }, vec![last]),
            Step::Relu => (Op::Relu, vec![last]),
            Step::Clip => (Op::Clip { min: -0.5, max: 1.5 }, vec![last]),
            Step::MaxPool { kernel, stride, ceil } => {
                let pool =
                    Pool { padding: [kernel / 2; 2], ceil_mode: *ceil, ..Pool::square(*kernel, *stride) };
                (Op::MaxPool(pool), vec![last])
            }
            Step::AvgPool { kernel, stride, padding, include } => {
                let pool = Pool { padding: [*padding; 2], ..Pool::square(*kernel, *stride) };
                (Op::AvgPool { pool, count_include_pad: *include }, vec![last])
            }
            Step::AddBack { to } => (Op::Add, vec![last, back(*to), last]),
            Step::ConcatBack { to } => (Op::Concat { axis: 0 }, vec![last, back(*to)]),
            Step::Slice { start, keep } => {
                let start = start % channels;
                (Op::Slice { axis: 0, start, end: (start + keep).min(channels), step: 1 }, vec![last])
            }
            Step::Shuffle => (Op::ChannelShuffle { groups: 2 }, vec![last]),
            Step::BelowLargest { axis } => {
                let largest = builder.add(format!("n{index}.max"), Op::Max { axes: vec![*axis] }, &[last]);
                (Op::Binary(Binary::Sub), vec![last, largest.unwrap()])
            }
            Step::Choose => {
                let zero = Op::Constant { values: ndarray::ArrayD::zeros(vec![1, 1, 1]) };
                let zero = builder.add(format!("n{index}.zero"), zero, &[]).unwrap();
                let less = Op::Binary(Binary::Less);
                let less = builder.add(format!("n{index}.less"), less, &[last, zero]).unwrap();
                let curve = builder.add(format!("n{index}.curve"), Op::Unary(Unary::Sin), &[last]).unwrap();
                (Op::Where, vec![less, curve, last])
            }
            Step::OwnNorm => (Op::InstanceNorm { eps: 0.1 }, vec![last]),
            Step::Enlarge => {
                let shape = builder.shape(last);
                let factor = [0, 1].map(|axis| if shape[axis + 1] < 12 { axis + 2 } else { 1 });
                let size = [0, 1].map(|axis| factor[axis] * shape[axis + 1]);
                let filter = Filter::Nearest(Rounding::Floor);
                let coordinates = Coordinates::Asymmetric;
                let scale = factor.map(|factor| factor as f64);
                (Op::Resize(graph::Resize { size, scale, filter, coordinates }), vec![last])
            }
            Step::Resize { size, coordinates } => {
                let shape = builder.shape(last);
                let scale = [0, 1].map(|axis| f64::from(size[axis] as f32 / shape[axis + 1] as f32));
                let (filter, coordinates) = (Filter::Linear, *coordinates);
                (Op::Resize(graph::Resize { size: *size, scale, filter, coordinates }), vec![last])
            }
        };
        values.extend(builder.add(format!("n{index}"), op, &inputs));
    }
    let last = *values.last().unwrap();
    let pool = builder.add("pool", Op::GlobalAvgPool, &[last]).unwrap();
    let flat = builder.add("flat", Op::Flatten, &[pool]).unwrap();
    let logits = builder.add("classifier", Op::Linear { out_features: 4, bias: true }, &[flat]).unwrap();
    builder.finish(&[(Graph::LOGITS, logits), (Graph::EMBEDDING, flat)])
}
