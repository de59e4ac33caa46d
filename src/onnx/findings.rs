//! Problems in a file's own structure that speak against deploying it, found before any runtime reads it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::outputs::LeftOut;
use super::read::OnnxFile;
use crate::contract::{Contract, Dim, suitable};

/// Operator sets for which the pinned runtimes were made.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=24;

/// The newest operator set with which tract is tested, according to its documentation.
const TRACT_OPSET: i64 = 18;

/// IR versions for which the pinned runtimes were made.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=12;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// May fail or be slow in other places.
    Warning,
    /// The file does not compute what an inference model should.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// The problem, with its place.
    pub problem: String,
    pub remedy: String,
}

impl Finding {
    pub fn new(severity: Severity, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity, problem: problem.into(), remedy: remedy.into() }
    }
}

/// Examines a file; the worst findings come first.
pub fn findings(file: &OnnxFile) -> Vec<Finding> {
    let mut found = Vec::new();
    versions(file, &mut found);
    if let Some(Dim::Fixed(size)) = file.declared.first() {
        let problem = format!("input '{}' has a frozen batch of {size}", file.contract.input.name);
        found.push(Finding::new(Severity::Warning, problem, "export it with a dynamic batch dimension"));
    }
    outputs(file, &mut found);
    if file.metadata.is_none() {
        let problem = "the file does not say how its images are prepared, nor what its classes are";
        found.push(Finding::new(
            Severity::Note,
            problem,
            "keep mean, deviation and class names with the file",
        ));
    }
    if let Some(graph) = &file.model.graph {
        let initializers: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        for (index, node) in graph.node.iter().enumerate() {
            found.extend(unsteady(&initializers, node, index));
        }
        foreign_operators(graph, &mut found);
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// Outputs that engines do not see, and a choice among several that could be the scores.
fn outputs(file: &OnnxFile, found: &mut Vec<Finding>) {
    for LeftOut { output, what, instead } in &file.left_out {
        let instead =
            instead.as_ref().map_or(String::new(), |tensor| format!("; '{tensor}' takes its place"));
        found.push(Finding::new(
            Severity::Note,
            format!("output '{output}' is left out, because it is {what}{instead}"),
            "tensors of numbers are what every runtime gives alike",
        ));
    }
    let names = suitable(&file.contract.outputs, Contract::LOGITS);
    if names.len() > 1 {
        let named = |place: &usize| format!("'{}'", file.contract.outputs[*place].tensor.name);
        let all = names.iter().map(named).collect::<Vec<_>>().join(", ");
        let problem =
            format!("the outputs {all} could be the scores; {} is compared", named(&file.contract.answer));
        found.push(Finding::new(Severity::Note, problem, "choose another one with --output"));
    }
}

fn versions(file: &OnnxFile, found: &mut Vec<Finding>) {
    let ir = file.model.ir_version;
    if !IR_VERSIONS.contains(&ir) {
        let problem = format!("IR version {ir}; the runtimes are made for {IR_VERSIONS:?}");
        found.push(Finding::new(Severity::Warning, problem, "export it with another version of onnx"));
    }
    let own = file.model.opset_import.iter().find(|set| set.domain.is_empty() || set.domain == "ai.onnx");
    match own.map(|set| set.version) {
        Some(version) if version > TRACT_OPSET && OPSETS.contains(&version) => {
            let problem = format!("operator set {version}; tract is tested with {TRACT_OPSET} and below");
            found.push(Finding::new(
                Severity::Note,
                problem,
                "export it with opset 17 if tract is to run it",
            ));
        }
        Some(version) if OPSETS.contains(&version) => {}
        Some(version) => {
            let problem = format!("operator set {version}; the runtimes are made for {OPSETS:?}");
            found.push(Finding::new(Severity::Warning, problem, "export it with opset 17"));
        }
        None => {
            let problem = "the file does not say which operator set it uses";
            found.push(Finding::new(Severity::Warning, problem, "export it again with a current exporter"));
        }
    }
}

/// Finds a node whose result for an image depends on the batch or on chance: a normalisation or dropout as in training,
/// a softmax over the batch.
fn unsteady(initializers: &HashMap<&str, &TensorProto>, node: &NodeProto, index: usize) -> Option<Finding> {
    let place = if node.name.is_empty() { format!("number {index}") } else { format!("'{}'", node.name) };
    let given = |place: usize| node.output.get(place).is_some_and(|name| !name.is_empty());
    match node.op_type.as_str() {
        "BatchNormalization" => {
            let mode = attribute(node, "training_mode").is_some_and(|mode| mode != 0);
            let statistics = (1..node.output.len()).any(given);
            (mode || statistics).then(|| {
                let problem = format!("node {place} (BatchNormalization) is in training mode: it takes each batch's own statistics");
                Finding::new(Severity::Error, problem, "call model.eval() before exporting")
            })
        }
        "Softmax" | "LogSoftmax" if attribute(node, "axis") == Some(0) => {
            let problem = format!(
                "node {place} ({}) runs over the first axis, so over the images unless the network moves the batch",
                node.op_type
            );
            Some(Finding::new(Severity::Warning, problem, "give it the axis of the classes, 1 or the last"))
        }
        "Dropout" => {
            let mode = node.input.get(2).filter(|name| !name.is_empty())?;
            let inference = initializers.get(mode.as_str()).is_some_and(|tensor| is_zero(tensor));
            (!inference).then(|| {
                let problem =
                    format!("node {place} (Dropout) may be in training mode: it drops values at random");
                Finding::new(Severity::Error, problem, "call model.eval() before exporting")
            })
        }
        _ => None,
    }
}

fn attribute(node: &NodeProto, name: &str) -> Option<i64> {
    let found = node.attribute.iter().find(|attribute| attribute.name == name);
    found.map(|attribute| attribute.i)
}

/// Whether a boolean scalar is false, in any of the ways of storing it.
fn is_zero(tensor: &TensorProto) -> bool {
    match tensor.raw_data.as_slice() {
        [] => tensor.int32_data.iter().all(|value| *value == 0),
        raw => raw.iter().all(|byte| *byte == 0),
    }
}

fn foreign_operators(graph: &GraphProto, found: &mut Vec<Finding>) {
    let foreign = graph.node.iter().filter(|node| !matches!(node.domain.as_str(), "" | "ai.onnx"));
    let mut names: Vec<String> = foreign.map(|node| format!("{}.{}", node.domain, node.op_type)).collect();
    names.sort();
    names.dedup();
    if !names.is_empty() {
        let problem = format!("operators beside the standard's: {}", names.join(", "));
        let remedy = "export from the framework itself, before any runtime has optimised the file";
        found.push(Finding::new(Severity::Warning, problem, remedy));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prost::Message;
    use tract_onnx::pb::{AttributeProto, ModelProto};

    use super::*;
    use crate::contract::{ChannelOrder, Fit, PixelRange, Resize};
    use crate::graph::Model;
    use crate::onnx::{Metadata, emit, plain_contract};

    fn spoilt(spoil: impl Fn(&mut ModelProto)) -> Vec<Finding> {
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
        let bytes =
            emit(&Model::untrained(graph.clone(), 1), &plain_contract(&graph), Some(&metadata)).unwrap();
        let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
        spoil(&mut model);
        findings(&OnnxFile::from_bytes(model.encode_to_vec(), Path::new("x.onnx")).unwrap())
    }

    fn nodes(model: &mut ModelProto) -> &mut Vec<NodeProto> {
        &mut model.graph.as_mut().unwrap().node
    }

    #[track_caller]
    fn finds(severity: Severity, part: &str, spoil: impl Fn(&mut ModelProto)) {
        let found = spoilt(spoil);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].severity == severity && found[0].problem.contains(part), "{found:?}");
    }

    #[test]
    fn a_good_file_has_no_findings() {
        assert_eq!(spoilt(|_| {}), []);
    }

    #[test]
    fn what_is_wrong_is_named() {
        finds(Severity::Error, "(BatchNormalization) is in training mode", |model| {
            let norm = nodes(model).iter_mut().find(|node| node.op_type == "BatchNormalization").unwrap();
            norm.attribute.push(AttributeProto {
                name: "training_mode".into(),
                i: 1,
                ..AttributeProto::default()
            });
        });
        finds(Severity::Error, "(Dropout) may be in training mode", |model| {
            let relu = nodes(model).iter_mut().find(|node| node.op_type == "Relu").unwrap();
            relu.op_type = "Dropout".into();
            relu.input.extend([String::new(), "mode".into()]);
            let mode = TensorProto {
                name: "mode".into(),
                data_type: tract_onnx::pb::tensor_proto::DataType::Bool as i32,
                raw_data: vec![1],
                ..TensorProto::default()
            };
            model.graph.as_mut().unwrap().initializer.push(mode);
        });
        finds(Severity::Warning, "operator set 3", |model| model.opset_import[0].version = 3);
        finds(Severity::Note, "operator set 20; tract is tested with 18", |model| {
            model.opset_import[0].version = 20;
        });
        finds(Severity::Warning, "IR version 99", |model| model.ir_version = 99);
        finds(Severity::Warning, "com.example.Relu", |model| {
            nodes(model).iter_mut().find(|node| node.op_type == "Relu").unwrap().domain =
                "com.example".into();
        });
        finds(Severity::Note, "does not say how its images are prepared", |model| {
            model.metadata_props.clear();
        });
    }
}
