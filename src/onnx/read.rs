//! An ONNX file as found, whose structure is checked before any runtime sees it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, ValueInfoProto};

use crate::contract::{Contract, Dim, Element, Layout, Output, Precision, TensorInfo};
use crate::error::InputError;

use super::cut;
use super::engine_casts;
use super::external;
use super::metadata::Metadata;
use super::outputs::outputs;
use super::tensor;

/// Maximum bytes of a file, including the files beside it that hold its weights: protobuf's own limit.
const MAX_BYTES: u64 = 2 << 30;

/// An ONNX file with one input whose first axis is the batch: images `[batch, channels, height, width]`, or
/// channels last.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    pub path: PathBuf,
    /// What engines load: the file, including weights from other files, and with casts where its input or an
    /// output is not float32. Images of integers must then be given as integers in float32.
    pub bytes: Vec<u8>,
    /// The file's interface. Its classes and the preparation of its images come from its metadata.
    pub contract: Contract,
    pub metadata: Option<Metadata>,
    pub(super) model: ModelProto,
}

impl OnnxFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`InputError`] if it is missing, truncated, not ONNX, or not an image network; if weights in other
    /// files are incomplete, or not in the file's own folder; if its metadata cannot be used.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |problem: String| InputError::new(format!("cannot read {}: {problem}", path.display()));
        let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(fail(format!("{size} bytes; at most {MAX_BYTES} bytes are supported")).into());
        }
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        Self::from_bytes(bytes, path)
    }

    /// Checks the bytes of a file; `path` is its name in errors.
    ///
    /// # Errors
    /// As [`OnnxFile::load`].
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        let fail = |problem: String| {
            InputError::new(format!("{}: {problem}", path.display()))
                .hint("export the model again, with one image input [batch, channels, height, width]")
        };
        let mut model = ModelProto::decode(bytes.as_slice())
            .map_err(|error| fail(format!("not an ONNX file ({error})")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let left = MAX_BYTES.saturating_sub(bytes.len() as u64);
        let brought_in = external::bring_in(&mut model, folder, left).map_err(fail)?;
        let graph =
            model.graph.as_ref().ok_or_else(|| fail("not an ONNX file (it holds no graph)".into()))?;
        check(graph).map_err(fail)?;
        let input = only_input(graph).map_err(fail)?;
        let tensors = graph.output.iter().map(tensor_info).collect::<Result<Vec<_>, _>>().map_err(fail)?;
        if tensors.is_empty() {
            return Err(fail("the graph has no output".into()).into());
        }
        let metadata = Metadata::from_model(&model).map_err(fail)?;
        let float32 = |info: &TensorInfo| info.element == Element::Float32;
        let bytes = if !float32(&input) || !tensors.iter().all(float32) {
            let mut cast = model.clone();
            cast.graph
                .as_mut()
                .map_or(Ok(false), |graph| engine_casts::as_float32(graph, &input.name))
                .map_err(fail)?;
            cast.encode_to_vec()
        } else if brought_in > 0 {
            model.encode_to_vec()
        } else {
            bytes
        };
        let outputs = outputs(graph, tensors);
        let contract = Contract {
            layout: layout(&input),
            precision: precision(graph, &input, &outputs),
            input,
            preparation: metadata.as_ref().map(Metadata::preparation),
            outputs,
            classes: metadata.as_ref().map(|metadata| metadata.classes.clone()).unwrap_or_default(),
        };
        Ok(Self { path: path.to_path_buf(), bytes, contract, metadata, model })
    }

    /// A copy for engines whose only output is one of the file's tensors, with `values` numbers per image:
    /// float32 `[batch, values]`.
    ///
    /// # Errors
    /// [`InputError`] if there is no such tensor.
    pub fn cut_after(&self, tensor: &str, values: usize) -> Result<Self> {
        let mut model = self.model.clone();
        if let Some(graph) = &mut model.graph {
            cut::cut_after(graph, tensor, &self.contract.input.dims[0], values);
        }
        Self::from_bytes(model.encode_to_vec(), &self.path)
    }

    /// What engines load, without the shapes that the file declares for inner tensors. An engine that infers
    /// shapes itself for a given batch would find a symbol there that contradicts it.
    pub fn bytes_without_inner_shapes(&self) -> Cow<'_, [u8]> {
        if self.model.graph.as_ref().is_none_or(|graph| graph.value_info.is_empty()) {
            return Cow::Borrowed(&self.bytes);
        }
        let Ok(mut model) = ModelProto::decode(self.bytes.as_slice()) else {
            return Cow::Borrowed(&self.bytes);
        };
        model.graph.iter_mut().for_each(|graph| graph.value_info.clear());
        Cow::Owned(model.encode_to_vec())
    }

    /// Size of the file, including its weights.
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The order of an input's axes: channels last if only the last axis can be the channels of a grey or colour
/// image.
fn layout(input: &TensorInfo) -> Layout {
    let colours = |channels: usize| matches!(channels, 1 | 3);
    match input.sample_shape().as_deref() {
        Some([first, _, last]) if colours(*last) && !colours(*first) => Layout::ChannelsLast,
        Some(_) | None => Layout::ChannelsFirst,
    }
}

/// Float16 if any input, output or weight is, because everything computed with it is float16 too.
fn precision(graph: &GraphProto, input: &TensorInfo, outputs: &[Output]) -> Precision {
    let half = |data_type: i32| data_type == DataType::Float16 as i32;
    let mut tensors = std::iter::once(input).chain(outputs.iter().map(|output| &output.tensor));
    match tensors.any(|info| info.element == Element::Float16)
        || graph.initializer.iter().any(|tensor| half(tensor.data_type))
    {
        true => Precision::Float16,
        false => Precision::Float32,
    }
}

/// Checks what runtimes take for granted: nodes in order, every tensor written once, initializers complete.
fn check(graph: &GraphProto) -> Result<(), String> {
    let mut known: HashSet<&str> = HashSet::from([""]);
    for tensor in &graph.initializer {
        tensor::check(tensor)?;
        if !known.insert(&tensor.name) {
            return Err(format!("initializer '{}' is already defined", tensor.name));
        }
    }
    known.extend(
        graph.sparse_initializer.iter().filter_map(|sparse| Some(sparse.values.as_ref()?.name.as_str())),
    );
    known.extend(graph.input.iter().map(|input| input.name.as_str()));
    for (index, node) in graph.node.iter().enumerate() {
        let name = if node.name.is_empty() { format!("number {index}") } else { format!("'{}'", node.name) };
        if let Some(input) = node.input.iter().find(|input| !known.contains(input.as_str())) {
            let op = &node.op_type;
            return Err(format!("node {name} ({op}) reads '{input}', which no earlier node writes"));
        }
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if !known.insert(output) {
                return Err(format!("node {name} gives '{output}', which is already defined"));
            }
        }
    }
    match graph.output.iter().find(|output| !known.contains(output.name.as_str())) {
        Some(output) => Err(format!("no node gives the output '{}'", output.name)),
        None => Ok(()),
    }
}

fn only_input(graph: &GraphProto) -> Result<TensorInfo, String> {
    let initializers: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !initializers.contains(input.name.as_str())).collect();
    let [input] = inputs[..] else { return Err(format!("{} inputs, expected one", inputs.len())) };
    let info = tensor_info(input)?;
    if info.dims.len() < 2 {
        return Err(format!(
            "input '{}' has {} dimensions, expected a batch of something",
            info.name,
            info.dims.len()
        ));
    }
    Ok(info)
}

fn tensor_info(value: &ValueInfoProto) -> Result<TensorInfo, String> {
    let name = value.name.clone();
    let Some(Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Err(format!("'{name}' is not a tensor"));
    };
    let element = element(tensor.elem_type).ok_or_else(|| {
        format!(
            "'{name}' is of type {}, which is not a plain number type",
            tensor::type_name(tensor.elem_type)
        )
    })?;
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.as_slice()).unwrap_or_default();
    let dims = shape.iter().map(|dim| match &dim.value {
        Some(dimension::Value::DimValue(size)) if *size > 0 => Ok(Dim::Fixed(*size as usize)),
        Some(dimension::Value::DimValue(size)) => Err(format!("'{name}' has a dimension of {size}")),
        Some(dimension::Value::DimParam(symbol)) => Ok(Dim::Symbolic(symbol.clone())),
        None => Ok(Dim::Symbolic(String::new())),
    });
    let dims = dims.collect::<Result<Vec<_>, _>>()?;
    Ok(TensorInfo { name, element, dims })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "ONNX's types, of which these are read")]
/// The element type of a tensor of an ONNX type; `None` for types that no input or output may have here.
fn element(data_type: i32) -> Option<Element> {
    let integer = |least: i64, most: i64| Some(Element::Integer { least, most });
    match DataType::try_from(data_type).ok()? {
        DataType::Float => Some(Element::Float32),
        DataType::Float16 => Some(Element::Float16),
        DataType::Bfloat16 => Some(Element::BFloat16),
        DataType::Double => Some(Element::Float64),
        DataType::Uint8 => integer(0, u8::MAX.into()),
        DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
        DataType::Uint16 => integer(0, u16::MAX.into()),
        DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
        DataType::Uint32 => integer(0, u32::MAX.into()),
        DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => integer(i64::MIN, i64::MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::data_type;
    use super::*;
    use crate::contract::{ChannelOrder, PixelRange, Resize};
    use crate::graph::Model;
    use crate::onnx::{emit, plain_contract};

    fn model() -> ModelProto {
        let spec = crate::zoo::find_model("resnet8", Path::new(".")).unwrap();
        let graph = crate::zoo::build(&spec, [1, 8, 8], 3).unwrap();
        let metadata = Metadata {
            classes: ["a", "b", "c"].map(String::from).to_vec(),
            input: [1, 8, 8],
            channel_order: ChannelOrder::decoded(1),
            resize: Resize::default(),
            range: PixelRange::default(),
            mean: vec![0.5],
            std: vec![0.5],
            normalizes: None,
            score: None,
            student: "one".into(),
            run: "test".into(),
        };
        let bytes = {
            let contract = plain_contract(&graph);
            emit(&Model::untrained(graph, 1), &contract, Some(&metadata)).unwrap()
        };
        ModelProto::decode(bytes.as_slice()).unwrap()
    }

    /// Breaks a graph in some place.
    type Spoil = fn(&mut GraphProto);

    fn load(model: &ModelProto) -> Result<OnnxFile> {
        OnnxFile::from_bytes(model.encode_to_vec(), Path::new("m.onnx"))
    }

    #[test]
    fn an_emitted_file_says_what_it_is() {
        let file = load(&model()).unwrap();
        assert_eq!((file.contract.image_shape(), file.contract.batch()), (Some([1, 8, 8]), None));
        assert_eq!(file.contract.answer().tensor.name, "logits");
        assert_eq!(file.metadata.unwrap().classes, ["a", "b", "c"]);
    }

    #[test]
    fn hostile_graphs_are_refused_before_a_runtime_sees_them() {
        let breaks: [(&str, Spoil); 11] = [
            ("which no earlier node writes", |graph| graph.node.reverse()),
            ("which no earlier node writes", |graph| {
                let last = graph.node.last().unwrap().output[0].clone();
                graph.node[0].input[0] = last;
            }),
            ("is already defined", |graph| graph.node[1].output[0] = graph.node[0].output[0].clone()),
            ("and holds", |graph| graph.initializer[0].dims[0] = 1 << 40),
            ("impossible dimensions", |graph| graph.initializer[0].dims[0] = -1),
            ("impossible dimensions", |graph| graph.initializer[0].dims = vec![i64::MAX, i64::MAX]),
            ("lies in another file: the file is not named", |graph| {
                graph.initializer[0].data_location = Some(1)
            }),
            ("no node gives the output", |graph| graph.output[0].name = "other".into()),
            ("no output", |graph| graph.output.clear()),
            ("inputs, expected one", |graph| {
                let mut second = graph.input[0].clone();
                second.name = "second".into();
                graph.input.push(second);
            }),
            ("which no earlier node writes", |graph| graph.initializer.clear()),
        ];
        for (problem, spoil) in breaks {
            let mut model = model();
            spoil(model.graph.as_mut().unwrap());
            let error = load(&model).unwrap_err();
            assert!(
                error.is::<InputError>() && error.to_string().contains(problem),
                "{error} should say {problem}"
            );
        }
    }

    #[test]
    fn any_truncation_is_an_error_or_a_file_without_a_panic() {
        let bytes = model().encode_to_vec();
        for cut in (0..bytes.len()).step_by(997) {
            let _ = OnnxFile::from_bytes(bytes[..cut].to_vec(), Path::new("m.onnx"));
        }
    }

    #[test]
    fn a_type_that_can_be_read_is_written_as_itself() {
        use DataType::*;
        for expected in [Float, Float16, Bfloat16, Double, Uint8, Int8, Uint16, Int16, Uint32, Int32, Int64] {
            let read = element(expected as i32).unwrap();
            assert_eq!(data_type(read), expected, "{read:?}");
        }
    }
}
