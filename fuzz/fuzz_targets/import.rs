//! Reads any bytes as an ONNX file: they are refused with a message or imported, and an imported graph survives emission
//! and import unchanged.
#![no_main]

mod donors;
mod mutate;
mod words;

use std::collections::HashMap;
use std::path::Path;

use cohort::contract::OutputKind;
use cohort::error::InputError;
use cohort::graph::cost;
use cohort::onnx::{Import, OnnxFile, findings, import};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

/// External weights are looked for in the fixtures' folder.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/onnx/any.onnx");

fuzz_target!(|bytes: &[u8]| {
    let file = match OnnxFile::from_bytes(bytes.to_vec(), Path::new(PATH)) {
        Ok(file) => file,
        Err(error) => return assert!(error.is::<InputError>(), "{error:#}"),
    };
    findings(&file);
    file.summary();
    file.rows(&HashMap::new());
    file.bytes_without_inner_shapes();
    match import(&file) {
        Ok(imported) => comes_back(&imported),
        Err(error) => assert!(error.is::<InputError>(), "{error:#}"),
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(data, size, max_size, seed)
});

fn comes_back(first: &Import) {
    cost(first.model.graph());
    let emitted = donors::emitted(&first.model);
    let file = OnnxFile::from_bytes(emitted, Path::new("emitted.onnx")).expect("what is emitted can be read");
    let second = import(&file).expect("what is emitted can be imported");
    // A softmax of a softmax: each import removes one.
    if second.contract.answer().kind != OutputKind::Logits {
        return;
    }
    assert_eq!(first.model, second.model);
}
