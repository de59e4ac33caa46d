//! Models as seeds and as donors of parts: the fixtures, and models that emission writes.

use std::sync::LazyLock;

use cohort::config::{ModelSpec, parse};
use cohort::graph::Model;
use cohort::onnx::{contract_with_embedding, emit};
use cohort::zoo;
use prost::Message;
use tract_onnx::pb::ModelProto;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/onnx");

const MODELS: [&str; 2] = [
    "family: resnet_cifar\ndepth: 8\nwidth: 2",
    "layers:
  - conv: {out: 4, groups: 1, bias: true}
  - batch_norm
  - relu6
  - max_pool: {kernel: 3, stride: 2, padding: 1, ceil: true}
  - channel_shuffle: {groups: 2}
  - avg_pool: {kernel: 2}
  - global_avg_pool
  - flatten
  - linear: {out: classes}",
];

/// All donors.
pub static DONORS: LazyLock<Vec<ModelProto>> = LazyLock::new(|| {
    let entries = std::fs::read_dir(FIXTURES).expect("the fixtures are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "onnx"));
    paths.sort();
    let files = paths.iter().map(|path| std::fs::read(path).expect("a fixture can be read"));
    let decode = |bytes: Vec<u8>| ModelProto::decode(bytes.as_slice()).expect("a donor is a model");
    files.chain(MODELS.iter().map(|text| ready(text))).map(decode).collect()
});

fn ready(text: &str) -> Vec<u8> {
    let spec: ModelSpec = parse(text, "donor").expect("a donor is a model file");
    let graph = zoo::build(&spec, [3, 16, 16], 4).expect("a donor can be built");
    emitted(&Model::untrained(graph, 1))
}

/// The bytes of a model's file.
pub fn emitted(model: &Model) -> Vec<u8> {
    emit(model, &contract_with_embedding(model.graph()), None).expect("what is imported can be emitted")
}
