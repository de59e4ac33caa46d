//! Visits the file's nodes, and collects what is refused.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use anyhow::Result;
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn};
use tract_onnx::pb::{GraphProto, NodeProto};

use crate::contract::{Element, OutputKind};
use crate::error::InputError;
use crate::graph::{Graph, NodeId, Op, Shape};

use super::super::outputs::before_argmax;
use super::super::read::OnnxFile;
use super::Import;
use super::arguments::known;
use super::constant::constant;
use super::draft::{Draft, Finished, Params};
use super::fold::fold;
use super::node::{FileNode, Images, Input};
use super::softmax::{before_softmax, embedding};
use super::value::{Budget, Data, MAX_FILLED, Unread, Value};

/// Operator sets that can be imported. Before 7, operators broadcast by other rules.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=26;

/// Maximum number of problems in a message.
const MAX_PROBLEMS: usize = 12;

/// Maximum characters of one problem: a file's names and numbers may be long.
const MAX_PROBLEM: usize = 600;

const HINT: &str = "export the model in inference mode, at opset 17, with constant folding and fixed channels, \
                    height and width; engines can be compared without importing the file";

/// Remedy for a file of an operator set that is not supported.
const CONVERT: &str = "convert it with Python's onnx: onnx.version_converter.convert_version(onnx.load(FILE), 17); engines \
                       can be compared without importing the file";

/// Imports a file's image classifier as a graph.
///
/// # Errors
/// [`InputError`] with everything that is not supported, by node and operator.
pub fn import(file: &OnnxFile) -> Result<Import> {
    let fail = |problem: String| {
        InputError::new(format!("{} cannot be imported: {problem}", file.path.display())).hint(HINT)
    };
    let image =
        file.contract.image_shape().ok_or_else(|| fail("the image size is not fixed in the file".into()))?;
    let graph = file.model.graph.as_ref().ok_or_else(|| fail("it holds no graph".into()))?;
    let mut sets = file.model.opset_import.iter().filter(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    let opset = sets.next().map_or(0, |set| set.version);
    if !OPSETS.contains(&opset) {
        let (least, most) = OPSETS.into_inner();
        let problem = fail(format!("it uses opset {opset}; opsets {least} to {most} are supported"));
        return Err(problem.hint(CONVERT).into());
    }
    // A stored value takes at least one byte.
    let most_stored = file.bytes.len().saturating_add(MAX_FILLED);
    let draft = Draft::new(image.to_vec(), &file.contract.input.name, most_stored).map_err(fail)?;
    let mut walk = Walk {
        draft,
        budget: Budget::new(file.bytes.len()),
        fixed_batch: file.contract.batch(),
        arrays: HashMap::new(),
        constants: HashMap::new(),
    };
    let logits = answer_tensor(file, graph);
    let embedding = file.contract.outputs.iter().find(|output| output.kind == OutputKind::Embedding);
    let features = embedding.map(|output| &output.tensor.name);
    let wanted: Vec<&str> = std::iter::once(&logits).chain(features).map(String::as_str).collect();
    let values = walk.all(graph, file, opset, &wanted).map_err(fail)?;
    finish(walk, file, graph, &values, (&logits, features.map(String::as_str)))
        .map_err(|problem| fail(problem).into())
}

/// Names the outputs and closes the graph.
fn finish(
    mut walk: Walk<'_>,
    file: &OnnxFile,
    proto: &GraphProto,
    values: &HashMap<&str, Value<'_>>,
    (output, features): (&str, Option<&str>),
) -> Result<Import, String> {
    let mut contract = file.contract.clone();
    let computed = |name: &str| match values.get(name) {
        Some(Value::Data(Data { node, integers: false })) => Ok(*node),
        Some(Value::Data(_)) => Err(format!("its output '{name}' is the image or a rearrangement of it")),
        Some(Value::Known(_) | Value::Unread(_)) => {
            Err(format!("its output '{name}' is the same for every image"))
        }
        Some(Value::Booleans(_)) => Err(format!("its output '{name}' holds booleans")),
        Some(Value::Quantized(_)) => Err(format!("its output '{name}' holds quantised values")),
        Some(Value::Placed(_) | Value::Counted(_)) => {
            Err(format!("its output '{name}' has no axis of images before the others"))
        }
        Some(Value::Unknown) | None => Err(format!("its output '{name}' is not what a node gives first")),
    };
    let (last, kind) = before_softmax(&walk.draft, computed(output)?);
    let kind = if contract.answer().kind == OutputKind::Decision { OutputKind::Decision } else { kind };
    let logits_tensor = match kind {
        OutputKind::Logits | OutputKind::Embedding => None,
        OutputKind::Probabilities | OutputKind::LogProbabilities | OutputKind::Decision => {
            tensor_of(proto, values, last)
        }
    };
    let shape = walk.draft.node(last).shape.clone();
    let classes: usize = shape.iter().product();
    if !shape.contains(&classes) {
        return Err(format!("its output '{output}' gives {shape:?} for one image, not a row of classes"));
    }
    let logits = if shape.len() == 1 {
        last
    } else {
        let (name, origin) =
            (format!("{}.flat", walk.draft.node(last).name), walk.draft.node(last).origin.clone());
        walk.draft.add(&name, &origin, Op::Flatten, &[last], Vec::new())?
    };
    let mut outputs = vec![(Graph::LOGITS, logits)];
    let features = match features {
        Some(name) => Some(computed(name)?),
        None => embedding(&walk.draft, logits),
    };
    outputs.extend(features.map(|node| (Graph::EMBEDDING, node)));
    // Nothing else holds the weights then, so they need not be copied.
    walk.arrays.clear();
    let Finished { model, origins, ids } = walk.draft.finish(&outputs)?;
    let stands_for = |(name, value): (&&str, &Value<'_>)| match value {
        Value::Data(Data { node, integers: false }) => {
            let id = ids[*node]?;
            // A constant has one row for all images, its tensor in the file may have one for each.
            let constant = matches!(model.graph().node(id).op, Op::Constant { .. });
            (!constant).then(|| ((*name).to_string(), id))
        }
        Value::Data(_)
        | Value::Unread(_)
        | Value::Known(_)
        | Value::Placed(_)
        | Value::Counted(_)
        | Value::Booleans(_)
        | Value::Quantized(_)
        | Value::Unknown => None,
    };
    let mut tensors: Vec<(String, NodeId)> = values.iter().filter_map(stands_for).collect();
    tensors.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    let answer = contract.answer;
    contract.outputs[answer].kind = kind;
    Ok(Import { model, contract, origins, tensors, logits_tensor })
}

/// The tensor that is the answer, before an ArgMax where the answer is a decision.
fn answer_tensor(file: &OnnxFile, graph: &GraphProto) -> String {
    let answer = file.contract.answer();
    let name = &answer.tensor.name;
    let before = (answer.kind == OutputKind::Decision).then(|| before_argmax(graph, name)).flatten();
    before.unwrap_or_else(|| name.clone())
}

/// The file's first tensor that corresponds to a node.
fn tensor_of(file: &GraphProto, values: &HashMap<&str, Value<'_>>, node: usize) -> Option<String> {
    let stands = |tensor: &&String| matches!(values.get(tensor.as_str()), Some(Value::Data(data)) if data.node == node);
    file.node.iter().flat_map(|node| &node.output).find(stands).cloned()
}

/// The state of the import.
pub struct Walk<'a> {
    pub draft: Draft,
    pub budget: Budget,
    /// The batch size, if the file fixes it.
    pub fixed_batch: Option<usize>,
    /// Weights by the address of their numbers, because a tensor may have several names.
    arrays: HashMap<usize, Rc<ArrayD<f32>>>,
    /// Constants that already are nodes, by name and shape.
    constants: HashMap<(&'a str, Shape), usize>,
}

impl<'a> Walk<'a> {
    /// Computes the values of all tensors that the wanted ones need.
    fn all(
        &mut self,
        graph: &'a GraphProto,
        file: &'a OnnxFile,
        opset: i64,
        wanted: &[&str],
    ) -> Result<HashMap<&'a str, Value<'a>>, String> {
        let mut values: HashMap<&'a str, Value<'a>> = HashMap::new();
        for tensor in &graph.initializer {
            values.insert(&tensor.name, Value::Unread(Unread::Tensor(tensor)));
        }
        let integers = matches!(file.contract.input.element, Element::Integer { .. });
        values.insert(&file.contract.input.name, Value::Data(Data { node: 0, integers }));
        let needed = needed(graph, wanted);
        let mut problems = Problems::default();
        for (place, proto) in graph.node.iter().enumerate().filter(|(place, _)| needed[*place]) {
            let node = file_node(proto, place, opset, &values);
            let mut given =
                if node.inputs.iter().flatten().any(|input| matches!(input.value, Value::Unknown)) {
                    Vec::new()
                } else {
                    self.step(&node).unwrap_or_else(|problem| {
                        problems.add(&format!("node '{}' ({}): {problem}", node.name, proto.op_type));
                        Vec::new()
                    })
                }
                .into_iter();
            for output in proto.output.iter().filter(|output| !output.is_empty()) {
                values.insert(output, given.next().unwrap_or(Value::Unknown));
            }
        }
        if problems.count == 0 { Ok(values) } else { Err(problems.told()) }
    }

    /// The outputs of a node, from the first on.
    fn step(&mut self, node: &FileNode<'a>) -> Result<Vec<Value<'a>>, String> {
        if !matches!(node.proto.domain.as_str(), "" | "ai.onnx") {
            return Err(format!("is an operator of '{}', not of ONNX itself", node.proto.domain));
        }
        match node.op() {
            "Identity" => return Ok(vec![node.input(0)?.value.clone()]),
            "Constant" => return Ok(vec![constant(node, &mut self.budget)?]),
            "Dropout" => {
                if let Some(training) = node.optional(2)
                    && known(training, &mut self.budget)?.ints()?.iter().any(|&flag| flag != 0)
                {
                    return Err("drops values, as in training".into());
                }
                return Ok(vec![node.input(0)?.value.clone()]);
            }
            "Shape" | "Size" => return Ok(vec![self.shape(node)?]),
            _ => {}
        }
        if let Some(value) = self.strided(node)? {
            return Ok(vec![value]);
        }
        if let Some(value) = self.repeated(node)? {
            return Ok(vec![value]);
        }
        if let Some(values) = self.views(node)? {
            return Ok(values);
        }
        if let Some(values) = self.placed(node)? {
            return Ok(values);
        }
        if let Some(value) = self.quantized(node)? {
            return Ok(vec![value]);
        }
        if let Some(values) = self.booleans(node)? {
            return Ok(values);
        }
        let is_known = |input: &Input<'a>| matches!(input.value, Value::Known(_) | Value::Unread(_));
        let all_known = node.inputs.iter().flatten().all(is_known);
        if all_known && matches!(node.op(), "Einsum" | "MatMul" | "Gemm" | "Conv") {
            let product = matches!(node.op(), "Einsum" | "MatMul");
            let array = if product { self.known_product(node)? } else { self.known_layer(node)? };
            return Ok(vec![Value::Known(Rc::new(array))]);
        }
        if all_known {
            return fold(node, &mut self.budget)?.ok_or_else(|| {
                "is not worked out in advance, and nothing it reads depends on the image".into()
            });
        }
        self.layer(node)
    }

    /// The draft's node of an input that is data; only floats are accepted.
    pub fn data(&self, node: &FileNode<'a>, place: usize) -> Result<usize, String> {
        let input = node.input(place)?;
        match &input.value {
            Value::Data(Data { node, integers: false }) => Ok(*node),
            Value::Data(_) => {
                Err(format!("computes with the integers '{}'; a Cast must come before", input.name))
            }
            Value::Booleans(_) => {
                Err(format!("computes with the booleans '{}'; a Cast must come before", input.name))
            }
            Value::Quantized(_) => Err(format!(
                "computes with the quantised '{}'; a DequantizeLinear must come before",
                input.name
            )),
            Value::Placed(_) | Value::Counted(_) => {
                Err(format!("'{}' has no axis of images before the others", input.name))
            }
            Value::Unread(_) | Value::Known(_) | Value::Unknown => {
                Err(format!("'{}' is the same for every image", input.name))
            }
        }
    }

    pub fn shape_of(&self, node: usize) -> &Shape {
        &self.draft.node(node).shape
    }

    /// Adds a node with the name of the file's node.
    pub fn add(
        &mut self,
        node: &FileNode<'a>,
        op: Op,
        inputs: &[usize],
        params: Params,
    ) -> Result<usize, String> {
        self.draft.add(&node.name, &node.name, op, inputs, params)
    }

    /// Adds a further node that the file's node needs besides the one with its own name.
    pub fn add_part(
        &mut self,
        node: &FileNode<'a>,
        part: &str,
        op: Op,
        inputs: &[usize],
    ) -> Result<usize, String> {
        self.draft.add(&format!("{}.{part}", node.name), &node.name, op, inputs, Vec::new())
    }

    /// The weights in an input.
    pub fn weights(&mut self, input: &Input<'a>) -> Result<Rc<ArrayD<f32>>, String> {
        let place = match &input.value {
            Value::Unread(unread) => unread.address(),
            Value::Known(array) => Rc::as_ptr(array).addr(),
            Value::Data(_)
            | Value::Placed(_)
            | Value::Counted(_)
            | Value::Booleans(_)
            | Value::Quantized(_)
            | Value::Unknown => 0,
        };
        if let Some(array) = self.arrays.get(&place) {
            self.budget.read(array.len())?;
            return Ok(Rc::clone(array));
        }
        let (dims, values) = match &input.value {
            Value::Unread(unread) => (unread.dims(), unread.weights()?),
            Value::Known(array) => {
                (array.dims.clone(), array.floats()?.into_iter().map(|value| value as f32).collect())
            }
            Value::Data(_)
            | Value::Placed(_)
            | Value::Counted(_)
            | Value::Booleans(_)
            | Value::Quantized(_)
            | Value::Unknown => {
                return Err(format!("its weights '{}' depend on the image", input.name));
            }
        };
        let array = ArrayD::from_shape_vec(IxDyn(&dims), values).map_err(|error| error.to_string())?;
        let array = Rc::new(array);
        self.arrays.insert(place, Rc::clone(&array));
        Ok(array)
    }

    /// A known input as a node with this many axes; missing axes are added in front.
    pub fn constant(&mut self, input: &Input<'a>, axes: usize) -> Result<usize, String> {
        let array = self.weights(input)?;
        self.constant_node(input, array.view(), axes)
    }

    /// Known booleans as a node of zeros and ones with this many axes.
    pub fn mask(&mut self, input: &Input<'a>, axes: usize) -> Result<usize, String> {
        let known = known(input, &mut self.budget)?;
        let values = known.ints()?.into_iter().map(|value| f32::from(u8::from(value != 0))).collect();
        let array = ArrayD::from_shape_vec(IxDyn(&known.dims), values).map_err(|error| error.to_string())?;
        self.constant_node(input, array.view(), axes)
    }

    fn constant_node(
        &mut self,
        input: &Input<'a>,
        mut array: ArrayViewD<'_, f32>,
        axes: usize,
    ) -> Result<usize, String> {
        // The same for each image of a batch.
        if array.ndim() == axes + 1
            && (array.shape()[0] == 1 || self.fixed_batch == Some(array.shape()[0]))
            && array.outer_iter().all(|one| one == array.index_axis(Axis(0), 0))
        {
            array = array.index_axis_move(Axis(0), 0);
        }
        let mut dims = array.shape().to_vec();
        if dims.len() > axes {
            return Err(format!("'{}' of {dims:?} has more axes than what it meets", input.name));
        }
        dims.splice(0..0, std::iter::repeat_n(1, axes - dims.len()));
        let key = (input.name, dims);
        if let Some(&node) = self.constants.get(&key) {
            return Ok(node);
        }
        let values = array.to_shape(IxDyn(&key.1)).map_err(|error| error.to_string())?.into_owned();
        let node = self.draft.add(input.name, input.name, Op::Constant { values }, &[], Vec::new())?;
        self.constants.insert(key, node);
        Ok(node)
    }

    /// A single number as a node with this many axes.
    pub fn number(
        &mut self,
        node: &FileNode<'a>,
        part: &str,
        value: f64,
        axes: usize,
    ) -> Result<usize, String> {
        let values = ArrayD::from_elem(vec![1; axes], value as f32);
        self.add_part(node, part, Op::Constant { values }, &[])
    }
}

/// Which nodes the wanted tensors need.
fn needed(graph: &GraphProto, wanted: &[&str]) -> Vec<bool> {
    let mut needed = vec![false; graph.node.len()];
    let mut tensors: HashSet<&str> = wanted.iter().copied().collect();
    for (place, node) in graph.node.iter().enumerate().rev() {
        if node.output.iter().any(|output| tensors.contains(output.as_str())) {
            needed[place] = true;
            tensors.extend(node.input.iter().map(String::as_str));
        }
    }
    needed
}

fn file_node<'a>(
    proto: &'a NodeProto,
    place: usize,
    opset: i64,
    values: &HashMap<&'a str, Value<'a>>,
) -> FileNode<'a> {
    let input = |name: &'a String| {
        let value = values.get(name.as_str()).cloned().unwrap_or(Value::Unknown);
        (!name.is_empty()).then_some(Input { name, value })
    };
    let first = proto.output.first().filter(|output| !output.is_empty());
    let name = match (proto.name.as_str(), first) {
        ("", Some(output)) => output.clone(),
        ("", None) => format!("{}.{place}", proto.op_type),
        (name, _) => name.to_string(),
    };
    let inputs: Vec<Option<Input<'a>>> = proto.input.iter().map(input).collect();
    let known = |input: &Input<'a>| matches!(input.value, Value::Known(_) | Value::Unread(_));
    let images = if inputs.iter().flatten().all(known) { Images::Nowhere } else { Images::First };
    FileNode { proto, opset, name, inputs, images }
}

/// The first refused node, in words.
#[derive(Default)]
struct Problems {
    lines: Vec<String>,
    count: usize,
}

impl Problems {
    fn add(&mut self, problem: &str) {
        self.count += 1;
        if self.lines.len() < MAX_PROBLEMS {
            self.lines.push(problem.chars().take(MAX_PROBLEM).collect());
        }
    }

    /// Every problem on a line of its own, up to a maximum number.
    fn told(mut self) -> String {
        if self.count > MAX_PROBLEMS {
            self.lines.push(format!("and {} more", self.count - MAX_PROBLEMS));
        }
        match self.lines.as_slice() {
            [only] => only.clone(),
            lines => format!("{} nodes are not supported\n  {}", self.count, lines.join("\n  ")),
        }
    }
}
