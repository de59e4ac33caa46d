//! The verifier's negative controls: planted faults are caught and blamed, and untouched copies raise no alarm.
#![cfg(feature = "train")]

use std::io::Write;
use std::path::Path;

use cohort::config::EngineName;
use cohort::contract::{ImageInput, Layout, Pixels};
use cohort::graph::{Graph, Model, initial_weights, params};
use cohort::onnx::{OnnxFile, import};
use cohort::progress::Silent;
use cohort::torch::{Mode, Network, batch_tensor};
use cohort::verify::{Amount, Outcome, SelfTestReport, Specimen, input_sets, self_test};
use cohort::zoo;
use ndarray::ArrayD;

/// Models of every family.
const READY: [&str; 8] = [
    "alexnet",
    "mobilenet_v2-w0.25",
    "plain-cnn",
    "resnet8",
    "shufflenet_v2-x0.5",
    "squeezenet",
    "vgg8-w8",
    "wrn_16_1",
];

fn image(graph: &Graph) -> ImageInput {
    ImageInput {
        shape: graph.input_shape().as_slice().try_into().unwrap(),
        layout: Layout::ChannelsFirst,
        pixels: Pixels::Single { black: -2.0, white: 2.0 },
    }
}

/// Initial weights with biases and the running statistics of noise, similar to a trained network.
fn trained(graph: Graph) -> Model {
    let mut weights = initial_weights(&graph, 11);
    for spec in params(&graph).into_iter().filter(|spec| spec.name.ends_with(".bias")) {
        let values = |at: ndarray::IxDyn| ((at[0] * 37 + 11) % 17) as f32 / 17.0 - 0.5;
        weights.insert(spec.name, ArrayD::from_shape_fn(spec.shape, values));
    }
    let image = image(&graph);
    let model = Model::new(graph, weights).unwrap();
    let network = Network::new(&model, tch::Device::Cpu, tch::Kind::Float).unwrap();
    for seed in 0..20 {
        let noise = input_sets(None, &image, seed, &Amount::default()).swap_remove(0).images;
        let images = batch_tensor(noise.view(), tch::Device::Cpu).unwrap();
        tch::no_grad(|| network.forward(&images, Mode::Train)).unwrap();
    }
    Model::new(model.into_parts().0, network.weights().unwrap()).unwrap()
}

fn tested(name: &str, model: &Model) -> SelfTestReport {
    let (image, engine) = (image(model.graph()), EngineName::OrtCpu);
    self_test(&Specimen { name, model, image, engine, threads: 2, seed: 1 }, &Silent).unwrap()
}

#[test]
fn faults_are_caught_and_blamed_and_copies_raise_no_alarm() {
    let mut reports: Vec<SelfTestReport> = Vec::new();
    for name in READY {
        let model = zoo::find_model(name, Path::new(".")).unwrap();
        let side = if name == "alexnet" { 20 } else { 16 };
        let graph = zoo::build(&model, [3, side, side], 7).unwrap();
        reports.push(tested(name, &trained(graph)));
    }
    // Files of other exporters, as imported.
    for name in
        ["squeeze_excite.torchscript", "attention", "norm_gelu.torchscript", "shuffle.dynamo", "keras"]
    {
        let path = format!("{}/tests/fixtures/onnx/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
        let imported = import(&OnnxFile::load(Path::new(&path)).unwrap()).unwrap();
        reports.push(tested(name, &imported.model));
    }
    let mut amiss = Vec::new();
    let (mut caught, mut observable, mut blamed, mut planted, mut copies) = (0, 0, 0, 0, 0);
    for report in &reports {
        for fault in &report.faults {
            let wrong = fault.outcome == Outcome::Caught && !fault.blamed_rightly;
            if wrong || fault.outcome == Outcome::Missed {
                amiss.push(format!("{}: {fault:?}", report.model));
            }
        }
        assert!(report.alarms.is_empty(), "{}: {:?}", report.model, report.alarms);
        assert!(report.copies >= 20, "{}", report.copies);
        caught += report.caught();
        observable += report.observable();
        blamed += report.blamed_rightly();
        planted += report.faults.len();
        copies += report.copies;
    }
    // Written past the test harness, which captures output.
    let _ = writeln!(
        std::io::stderr(),
        "{planted} faults in {} models: {caught} of {observable} observable ones caught, {blamed} blamed rightly; no \
         alarm on {copies} untouched copies",
        reports.len()
    );
    assert!(planted >= 100 && caught * 100 >= observable * 95, "{caught} of {observable} caught: {amiss:#?}");
    assert!(blamed * 100 >= caught * 95, "{blamed} of {caught} blamed rightly: {amiss:#?}");
}
