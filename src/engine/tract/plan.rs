//! Turns a file into a plan: a network that is rewritten for a known input shape.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, TensorProto};
use tract_onnx::prelude::{
    Datum, Framework, InferenceModel, InferenceModelExt, IntoRunnable, RunnableModel, TractResult, TypedFact,
    TypedModel, TypedOp,
};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::infer::InferenceFact;

use crate::error::InputError;
use crate::onnx::OnnxFile;

use super::cost::macs;
use super::depthwise::channels_last;

pub(super) type Plan = Arc<RunnableModel<TypedFact, Box<dyn TypedOp>>>;

/// Weights of at most this many bytes stay in a core's cache from image to image.
const CACHE_BYTES: u64 = 1 << 20;

/// Parses a file with tract.
///
/// # Errors
/// [`InputError`] if tract refuses it.
pub(super) fn read(file: &OnnxFile) -> Result<InferenceModel> {
    guarded(|| {
        let mut model = ModelProto::decode(file.bytes.as_slice())?;
        model.graph.iter_mut().for_each(prepare);
        tract_onnx::onnx().model_for_proto_model(&model)
    })
    .map_err(|error| InputError::new(format!("tract refuses {}: {error:#}", file.path.display())).into())
}

/// Takes out the shapes that a file declares for inner tensors: tract infers them for a given batch, and a symbol there
/// would contradict it. Writes out the value of a ConstantOfShape that has the default, float32 zero, because tract takes
/// it for a float64.
fn prepare(graph: &mut GraphProto) {
    graph.value_info.clear();
    let zeros =
        graph.node.iter_mut().filter(|node| node.op_type == "ConstantOfShape" && node.attribute.is_empty());
    for node in zeros {
        node.attribute.push(AttributeProto {
            name: "value".into(),
            r#type: AttributeType::Tensor.into(),
            t: Some(TensorProto {
                dims: vec![1],
                data_type: DataType::Float.into(),
                float_data: vec![0.0],
                ..TensorProto::default()
            }),
            ..AttributeProto::default()
        });
    }
}

/// Infers every shape of the network for an input shape and, with `optimize`, rewrites the network.
pub(super) fn typed(model: &InferenceModel, shape: &[usize], optimize: bool) -> Result<TypedModel> {
    let model = model.clone();
    guarded(|| {
        let typed =
            model.with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?.into_typed()?;
        if !optimize {
            return Ok(typed);
        }
        let mut typed = typed.into_decluttered()?;
        channels_last(&mut typed)?;
        Ok(typed)
    })
    .with_context(|| format!("tract cannot plan for input {shape:?}"))
}

/// Makes a runnable plan of the network.
pub(super) fn plan(typed: TypedModel, optimize: bool) -> Result<Plan> {
    guarded(|| if optimize { typed.into_optimized()? } else { typed }.into_runnable())
}

/// Whether a batch runs faster image by image, judged by the network for one image.
///
/// tract's convolutions gather their input on the fly for one image but copy it out beforehand for several, and some
/// additions and activations are fused into a product only for one. Running the whole batch pays when weights used once
/// per image dominate memory traffic, because it then reads them once per batch. The decision compares the bytes of
/// such weights with the bytes of the computed values. A batch is split only if every output has one row per image.
pub(super) fn image_by_image(typed: &TypedModel) -> bool {
    let bytes = |fact: &TypedFact| {
        fact.shape.as_concrete().map_or(0, |shape| 4 * shape.iter().product::<usize>() as u64)
    };
    let (mut read_again, mut computed) = (0, 0);
    for node in typed.nodes().iter().filter(|node| !node.op_is::<Const>()) {
        computed += node.outputs.iter().map(|output| bytes(&output.fact)).sum::<u64>();
        let inputs = typed.node_input_facts(node.id).unwrap_or_default();
        let weights = inputs.iter().filter(|input| input.konst.is_some()).map(|input| bytes(input));
        let macs = macs(typed, node);
        read_again += weights.filter(|weight| macs.map(|macs| 4 * macs) == Some(*weight)).sum::<u64>();
    }
    let outputs = typed.output_outlets().unwrap_or_default();
    let rows = |fact: &TypedFact| fact.shape.as_concrete().and_then(<[usize]>::first) == Some(&1);
    let apart = outputs.iter().all(|outlet| typed.outlet_fact(*outlet).is_ok_and(rows));
    apart && read_again <= computed.max(CACHE_BYTES)
}

/// Shapes of all tensors that tract can infer, by tensor name, for a batch of one sample of shape `sample`.
///
/// # Errors
/// [`InputError`] if tract refuses the file.
pub fn tensor_shapes(file: &OnnxFile, sample: &[usize]) -> Result<HashMap<String, Vec<usize>>> {
    let model = read(file)?;
    let fact = InferenceFact::dt_shape(f32::datum_type(), [&[1], sample].concat());
    let model = guarded(|| {
        let mut model = model.with_input_fact(0, fact)?;
        model.analyse(false)?;
        Ok(model)
    })?;
    let mut shapes = HashMap::new();
    for node in model.nodes() {
        for (slot, output) in node.outputs.iter().enumerate() {
            let Some(shape) = output.fact.shape.as_concrete_finite().ok().flatten() else { continue };
            let label = model.outlet_label((node.id, slot).into()).unwrap_or(&node.name);
            shapes.insert(label.to_string(), shape.to_vec());
        }
    }
    Ok(shapes)
}

/// Turns a panic of tract into an error: it panics on some models that it cannot handle.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| anyhow!("{error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave up");
            Err(anyhow!("tract: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ndarray::{ArrayD, Axis, Slice};

    use crate::engine::{Engine, EngineOptions};
    use crate::graph::{Builder, Conv2d, Graph, Model, Op};
    use crate::onnx::{OnnxFile, emit, plain_contract};

    use super::super::TractEngine;

    /// A network of convolutions, including a depthwise one with short rows between two products, with `logits` logits.
    fn file(logits: usize) -> OnnxFile {
        let (mut builder, mut last) = Builder::new(vec![3, 16, 16]).unwrap();
        let depthwise = Conv2d { groups: 32, ..Conv2d::square(32, 3, 2) };
        let convolutions =
            [Conv2d::square(16, 3, 1), Conv2d::square(32, 1, 1), depthwise, Conv2d::square(48, 1, 1)];
        for (index, conv) in convolutions.into_iter().enumerate() {
            last = builder.add(format!("conv{index}"), Op::Conv2d(conv), &[last]).unwrap();
            last = builder.add(format!("relu{index}"), Op::Relu, &[last]).unwrap();
        }
        let flat = builder.add("flat", Op::Flatten, &[last]).unwrap();
        let logits = builder.add("fc", Op::Linear { out_features: logits, bias: true }, &[flat]).unwrap();
        let graph = builder.finish(&[(Graph::LOGITS, logits)]);
        let bytes = emit(&Model::untrained(graph.clone(), 1), &plain_contract(&graph), None).unwrap();
        OnnxFile::from_bytes(bytes, Path::new("planned.onnx")).unwrap()
    }

    fn images() -> ArrayD<f32> {
        ArrayD::from_shape_fn(vec![3, 3, 16, 16], |at| {
            ((at[0] * 5 + at[1] * 3 + at[2] * 7 + at[3]) % 11) as f32 - 5.0
        })
    }

    #[test]
    fn batches_are_taken_apart_unless_weights_are_most_of_what_is_moved() {
        for (logits, parts) in [(10, 3), (200, 1)] {
            let mut engine = TractEngine::new(&file(logits), &EngineOptions::default()).unwrap();
            engine.bind(images().view()).unwrap();
            assert_eq!(engine.bound.as_ref().unwrap().parts.len(), parts, "{logits} logits");
            engine.run_bound().unwrap();
            engine.run_bound().unwrap();
        }
    }

    #[test]
    fn every_way_gives_every_image_its_own_row() {
        let run = |logits: usize, optimize: bool, images: ArrayD<f32>| {
            let options = EngineOptions { optimize, ..EngineOptions::default() };
            let mut engine = TractEngine::new(&file(logits), &options).unwrap();
            engine.run(images.view()).unwrap().remove(0)
        };
        for logits in [10, 200] {
            let (apart, plain) = (run(logits, true, images()), run(logits, false, images()));
            assert_eq!(apart.shape(), [3, logits]);
            for (row, single) in
                (0..3).map(|row| (row, images().slice_axis(Axis(0), Slice::from(row..row + 1)).to_owned()))
            {
                let single = run(logits, true, single);
                let rows = [apart.index_axis(Axis(0), row as usize), plain.index_axis(Axis(0), row as usize)];
                let error = |a: f32, b: f32| (a - b).abs() < 1e-4 * b.abs().max(1.0);
                assert!(
                    rows.iter().all(|row| row.iter().zip(&single).all(|(&a, &b)| error(a, b))),
                    "row {row}"
                );
            }
        }
    }
}
