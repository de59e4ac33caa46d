//! An ONNX file as found, whose structure is checked before any runtime sees it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

use crate::contract::{Contract, Dim, Element, Output, Precision, TensorInfo, suitable};
use crate::error::InputError;

use super::cut;
use super::engine_casts;
use super::external;
use super::inputs::{dims_text, layout, only_input, tensor_of, tidy_axes};
use super::metadata::Metadata;
use super::outputs::{LeftOut, Readable, readable};
use super::proto::value_info;
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
    /// The sizes of the input as the file declares them; those of the contract may have been fixed since.
    pub declared: Vec<Dim>,
    /// Outputs that are not tensors of numbers, which engines do not see.
    pub left_out: Vec<LeftOut>,
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
        let fail = |problem: InputError| InputError {
            message: format!("{}: {}", path.display(), problem.message),
            ..problem
        };
        let not_onnx = |what: String| {
            fail(InputError::new(format!("not an ONNX file ({what})")))
                .hint("give a file that an exporter wrote as .onnx; a checkpoint must be exported first")
        };
        let mut model = ModelProto::decode(bytes.as_slice()).map_err(|error| not_onnx(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let left = MAX_BYTES.saturating_sub(bytes.len() as u64);
        let brought_in = external::bring_in(&mut model, folder, left).map_err(fail)?;
        let bytes = (brought_in == 0).then_some(bytes);
        if model.graph.is_none() {
            return Err(not_onnx("it holds no graph".into()).into());
        }
        Self::of_model(model, bytes, path).map_err(|error| match error.downcast::<InputError>() {
            Ok(problem) => fail(problem).into(),
            Err(error) => error,
        })
    }

    /// Reads a decoded model whose weights are all in it; `bytes` is the same model encoded, if it is at hand. Errors do
    /// not name the file.
    fn of_model(mut model: ModelProto, bytes: Option<Vec<u8>>, path: &Path) -> Result<Self> {
        let metadata = Metadata::from_model(&model).map_err(|problem| {
            InputError::new(problem)
                .hint("export the model again, or remove the entry 'cohort' from its metadata")
        })?;
        let graph = model.graph.get_or_insert_default();
        check(graph).map_err(|problem| {
            InputError::new(problem).hint("the file is damaged or was edited by hand: export the model again")
        })?;
        let before = (graph.input.len(), graph.output.clone());
        let input = only_input(graph)?;
        let Readable { outputs, left_out, classes } = readable(graph)?;
        let mut changed = before != (graph.input.len(), graph.output.clone());
        changed |= tidy_axes(graph);
        let layout = layout(&input);
        let preparation = metadata.as_ref().map(|metadata| metadata.preparation(layout));
        let contract = Contract {
            layout,
            precision: precision(graph, &input, &outputs),
            preparation,
            answer: suitable(&outputs, Contract::LOGITS).first().copied().unwrap_or(0),
            classes: metadata.as_ref().map_or(classes, |metadata| metadata.classes.clone()),
            input,
            outputs,
        };
        let float32 = |value: &ValueInfoProto| {
            tensor_of(value).is_some_and(|tensor| tensor.elem_type == DataType::Float as i32)
        };
        let plain = contract.input.element == Element::Float32 && graph.output.iter().all(float32);
        let bytes = if plain {
            bytes.filter(|_| !changed).unwrap_or_else(|| model.encode_to_vec())
        } else {
            let mut cast = model.clone();
            engine_casts::as_float32(cast.graph.get_or_insert_default(), &contract.input.name).map_err(
                |problem| {
                    InputError::new(problem).hint("export the model with an output that a node computes")
                },
            )?;
            cast.encode_to_vec()
        };
        let declared = contract.input.dims.clone();
        Ok(Self { path: path.to_path_buf(), bytes, contract, metadata, declared, left_out, model })
    }

    /// The same file with fixed sizes where it leaves them free: `sample` for the axes of one sample, and a batch, if
    /// one is given.
    ///
    /// # Errors
    /// [`InputError`] if a size contradicts one that the file fixes.
    pub fn with_sizes(mut self, batch: Option<usize>, sample: &[usize]) -> Result<Self> {
        let mut dims: Vec<Dim> = self.contract.input.dims.clone();
        if dims.is_empty() {
            dims = vec![Dim::Symbolic(String::new()); sample.len() + 1];
        }
        let fits = |(dim, &size): (&Dim, &usize)| matches!(dim, Dim::Symbolic(_)) || *dim == Dim::Fixed(size);
        if dims.len() != sample.len() + 1 || !dims[1..].iter().zip(sample).all(fits) {
            let (path, dims) = (self.path.display(), dims_text(&dims[1..]));
            return Err(InputError::new(format!("{path} takes images of {dims}, not of {sample:?}"))
                .hint("give a size for every axis except the batch, the file's own where it fixes one")
                .into());
        }
        if let Some(batch) = batch {
            dims[0] = Dim::Fixed(batch);
        }
        for (dim, &size) in dims[1..].iter_mut().zip(sample) {
            *dim = Dim::Fixed(size);
        }
        let info = TensorInfo { dims, ..self.contract.input.clone() };
        let answer = self.contract.answer().tensor.name.clone();
        if let Some(graph) = &mut self.model.graph {
            graph.input.retain(|input| input.name != info.name);
            graph.input.insert(0, value_info(&info));
            graph.value_info.clear();
        }
        let sized = Self::of_model(self.model, None, &self.path)?;
        Ok(Self { declared: self.declared, left_out: self.left_out, ..sized.answering(&answer)? })
    }

    /// The same file with another output as the one by which classes are decided.
    ///
    /// # Errors
    /// [`InputError`] if it has no such output.
    pub fn answering(mut self, output: &str) -> Result<Self, InputError> {
        let names: Vec<&str> =
            self.contract.outputs.iter().map(|output| output.tensor.name.as_str()).collect();
        let place = names.iter().position(|name| *name == output);
        self.contract.answer = place.ok_or_else(|| {
            InputError::new(format!("{} has no output '{output}'", self.path.display()))
                .hint(format!("its outputs are {}", names.join(", ")))
        })?;
        Ok(self)
    }

    /// A copy for engines whose only output is one of the file's tensors, with `values` numbers per image:
    /// float32 `[batch, values]`.
    ///
    /// # Errors
    /// [`InputError`] if there is no such tensor.
    pub fn cut_after(&self, tensor: &str, values: usize) -> Result<Self> {
        let mut model = self.model.clone();
        if let Some(graph) = &mut model.graph {
            let batch = self.contract.input.dims.first().cloned().unwrap_or(Dim::Symbolic(String::new()));
            cut::cut_after(graph, tensor, &batch, values);
        }
        Self::from_bytes(model.encode_to_vec(), &self.path)
    }

    /// Size of the file, including its weights.
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Int8 if any node quantises. Otherwise float16 if any input, output or weight is, because everything computed with it is
/// float16 too.
fn precision(graph: &GraphProto, input: &TensorInfo, outputs: &[Output]) -> Precision {
    let quantises = |node: &NodeProto| {
        node.op_type.starts_with("QLinear")
            || node.op_type.ends_with("QuantizeLinear")
            || matches!(node.op_type.as_str(), "DequantizeLinear" | "ConvInteger" | "MatMulInteger")
    };
    if graph.node.iter().any(quantises) {
        return Precision::Int8;
    }
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

#[cfg(test)]
mod tests {
    use super::super::proto::node;
    use super::*;
    use crate::contract::{ChannelOrder, Fit, PixelRange, Resize};
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
            fit: Fit::default(),
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
            ("2 inputs, expected the images alone: 'image' [batch, 1, 8, 8], 'second'", |graph| {
                let mut second = graph.input[0].clone();
                second.name = "second".into();
                graph.input.push(second);
                graph.node.push(node("sum", "Add", &["image", "second"], "sum", vec![]));
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
}
