//! What a user sees when something is wrong: one snapshot per error, through the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cohort::contract::{ChannelOrder, Fit, PixelRange, Resize};
use cohort::graph::Model;
use cohort::onnx::{Metadata, emit, plain_contract};
use cohort::zoo;

/// A valid pipeline, which each case breaks in one place.
const RIGHT: &str = "\
version: 1
name: small
data:
  source: {digits: {}}
cohort:
  - {name: big,  model: resnet14}
  - {name: tiny, model: resnet8}
stages:
  - pretrain: {epochs: 1}
  - collaborate: {method: ctsl-mkt-paper, epochs: 1}
  - select: {}
  - export: {}
  - report: {}
";

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// The valid pipeline with one text replaced.
    fn broken(from: &str, to: &str) -> Self {
        assert!(RIGHT.contains(from), "{from}");
        Self::new().with("p.yaml", RIGHT.replace(from, to))
    }

    /// Exit code and stderr, without the folder's name.
    fn run(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_cohort"))
            .current_dir(self.folder.path())
            .args(args)
            .env_remove("ORT_DYLIB_PATH")
            .env_remove("COHORT_NOWHERE")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!text.contains("panicked"), "{text}");
        let here = self.folder.path().display().to_string();
        format!("exit code {}\n{}", output.status.code().unwrap_or(-1), text.replace(&here, "[here]"))
    }
}

fn model(input: [usize; 3]) -> Vec<u8> {
    let spec = zoo::find_model("resnet8", Path::new(".")).unwrap();
    let graph = zoo::build(&spec, input, 3).unwrap();
    let metadata = Metadata {
        classes: ["a", "b", "c"].map(String::from).to_vec(),
        input,
        channel_order: ChannelOrder::decoded(input[0]),
        resize: Resize::default(),
        fit: Fit::default(),
        range: PixelRange::default(),
        mean: vec![0.5; input[0]],
        std: vec![0.5; input[0]],
        normalizes: None,
        score: None,
        student: "one".into(),
        run: "test".into(),
    };
    emit(&Model::untrained(graph.clone(), 1), &plain_contract(&graph), Some(&metadata)).unwrap()
}

/// Bytes in which one text is replaced by another of the same length.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let place = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[place..place + from.len()].copy_from_slice(&to.as_bytes()[..from.len()]);
    bytes
}

macro_rules! snapshot {
    ($name:ident, $case:expr, $args:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), $case.run(&$args));
        }
    };
}

const CHECK: [&str; 2] = ["check", "p.yaml"];

snapshot!(missing_pipeline, Case::new(), ["run", "nowhere.yaml"]);
snapshot!(yaml_syntax, Case::broken("name: small", "name: \"small"), CHECK);
snapshot!(
    unknown_key,
    Case::broken("collaborate: {method: ctsl-mkt-paper, epochs: 1}", "collaborate: {epoch: 1}"),
    CHECK
);
snapshot!(unknown_top_key, Case::broken("cohort:", "cohrt:"), CHECK);
snapshot!(unknown_stage, Case::broken("- select: {}", "- selekt: {}"), CHECK);
snapshot!(
    unknown_fit,
    Case::broken("{digits: {}}", "{folder: {root: x, size: [8, 8], fit: letterbx}}"),
    CHECK
);
snapshot!(unknown_source, Case::broken("{digits: {}}", "{cifar: {root: x}}"), CHECK);
snapshot!(wrong_type, Case::broken("pretrain: {epochs: 1}", "pretrain: {epochs: many}"), CHECK);
snapshot!(wrong_version, Case::broken("version: 1", "version: 7"), CHECK);
snapshot!(wrong_device, Case::broken("name: small", "name: small\ndevice: gpu"), CHECK);
snapshot!(
    stages_out_of_order,
    Case::broken("  - select: {}\n  - export: {}", "  - export: {}\n  - select: {}"),
    CHECK
);
snapshot!(self_distillation_without_a_copy, Case::broken("  - pretrain: {epochs: 1}\n", ""), CHECK);
snapshot!(alone_among_peers, Case::broken("  - {name: tiny, model: resnet8}\n", ""), CHECK);
snapshot!(budget_nobody_meets, Case::broken("select: {}", "select: {budgets: {max_params: 5%}}"), CHECK);
snapshot!(wrong_budget, Case::broken("select: {}", "select: {budgets: {max_params: small}}"), CHECK);
snapshot!(unknown_model, Case::broken("resnet14", "resnet15"), CHECK);
snapshot!(missing_model_file, Case::broken("resnet14", "mine/net.yaml"), CHECK);
snapshot!(
    wrong_model_file,
    Case::broken("resnet14", "net.yaml").with("net.yaml", "family: resnet_cifar\ndepht: 20\n"),
    CHECK
);
snapshot!(
    impossible_depth,
    Case::broken("resnet14", "net.yaml").with("net.yaml", "family: resnet_cifar\ndepth: 19\n"),
    CHECK
);
snapshot!(missing_data, Case::broken("{digits: {}}", "{idx: {root: data/none}}"), CHECK);
snapshot!(missing_variable, Case::broken("{digits: {}}", "{idx: {root: '${COHORT_NOWHERE}/x'}}"), CHECK);
snapshot!(
    batch_above_the_data,
    Case::broken("pretrain: {epochs: 1}", "pretrain: {epochs: 1, batch: 5000}"),
    CHECK
);
snapshot!(
    damaged_idx,
    Case::broken("{digits: {}}", "{idx: {root: data}}")
        .with("data/train-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02\x01")
        .with("data/train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x02\0\x01"),
    ["run", "p.yaml", "--quiet", "--set", "stages.pretrain.batch=1", "--set", "stages.collaborate.batch=1"]
);
snapshot!(
    classes_that_differ,
    Case::broken("{digits: {}}", "{folder: {root: data, size: [8, 8]}}")
        .with("data/train/ant/a.png", "")
        .with("data/train/bee/a.png", "")
        .with("data/val/ant/a.png", "")
        .with("data/val/wasp/a.png", ""),
    CHECK
);
snapshot!(
    broken_images,
    Case::broken("{digits: {}}", "{folder: {root: data, size: [8, 8]}}")
        .with("data/ant/a.png", "no image")
        .with("data/ant/b.png", "no image")
        .with("data/bee/a.jpg", "\u{7f}")
        .with("data/bee/b.jpg", ""),
    [
        "run",
        "p.yaml",
        "--quiet",
        "--set",
        "data.validation=0.5",
        "--set",
        "stages.pretrain.batch=1",
        "--set",
        "stages.collaborate.batch=1"
    ]
);
snapshot!(
    override_without_value,
    Case::broken("name: small", "name: small"),
    ["check", "p.yaml", "--set", "seed"]
);
snapshot!(
    override_of_an_unknown_key,
    Case::broken("name: small", "name: small"),
    ["check", "p.yaml", "--set", "stages.collaborate.epoch=3"]
);
snapshot!(
    override_with_a_wrong_value,
    Case::broken("name: small", "name: small"),
    ["check", "p.yaml", "--set", "stages.collaborate.epochs=0"]
);
snapshot!(
    many_problems_at_once,
    Case::new().with(
        "p.yaml",
        "version: 1
name: 'a b'
data: {source: {digits: {}}, validation: 2, augment: [crop: {padding: 0}]}
cohort:
  - {name: x, model: resnet8}
  - {name: x, model: nothing}
  - {name: student, model: resnet8}
stages:
  - collaborate: {epochs: 0, batch: 0, loss: {alpha: -1}, optimizer: {sgd: {lr: 0, momentum: 1}}}
  - verify: {engines: []}
  - bench: {batch: [0], min_seconds: 5, max_seconds: 1}
"
    ),
    CHECK
);
snapshot!(
    cuda_that_is_not_there,
    Case::broken("name: small", "name: small\ndevice: cuda:7"),
    ["run", "p.yaml", "--quiet"]
);
snapshot!(
    a_file_where_the_run_goes,
    Case::broken("name: small", "name: small").with("out", ""),
    ["run", "p.yaml", "--quiet", "--out", "out"]
);

snapshot!(no_onnx, Case::new().with("m.onnx", "not a model"), ["verify", "m.onnx"]);
snapshot!(empty_onnx, Case::new().with("m.onnx", ""), ["bench", "m.onnx"]);
snapshot!(truncated_onnx, Case::new().with("m.onnx", &model([3, 8, 8])[..2_000]), ["verify", "m.onnx"]);
snapshot!(missing_onnx, Case::new(), ["predict", "m.onnx", "a.png"]);
snapshot!(missing_image, Case::new().with("m.onnx", model([3, 8, 8])), ["predict", "m.onnx", "a.png"]);
snapshot!(
    broken_image,
    Case::new().with("m.onnx", model([3, 8, 8])).with("a.png", "no image"),
    ["predict", "m.onnx", "a.png"]
);
snapshot!(
    unknown_engine,
    Case::new().with("m.onnx", model([3, 8, 8])),
    ["bench", "m.onnx", "--engine", "tensorrt"]
);
snapshot!(
    libtorch_has_no_onnx,
    Case::new().with("m.onnx", model([3, 8, 8])),
    ["bench", "m.onnx", "--engine", "torch"]
);
snapshot!(
    metadata_of_another_kind,
    Case::new().with("m.onnx", replaced(&model([3, 8, 8]), "bilinear-antialiased", "bilinear-and-nothing")),
    ["predict", "m.onnx", "a.png"]
);
snapshot!(
    cuda_graph_from_the_host,
    Case::new().with("m.onnx", model([3, 8, 8])),
    ["bench", "m.onnx", "--engine", "ort-cuda", "--cuda-graph", "--mode", "device,host"]
);
snapshot!(
    profile_on_cuda,
    Case::new().with("m.onnx", model([3, 8, 8])),
    ["bench", "m.onnx", "--engine", "ort-cuda", "--profile"]
);
snapshot!(empty_batch, Case::new().with("m.onnx", model([3, 8, 8])), ["bench", "m.onnx", "--batch", "0"]);
snapshot!(
    missing_runtime,
    Case::new().with("m.onnx", model([3, 8, 8])),
    ["verify", "m.onnx", "--ort-lib", "nowhere/libonnxruntime.so"]
);
snapshot!(
    wrong_runtime,
    Case::new().with("m.onnx", model([3, 8, 8])).with("lib.so", "no library"),
    ["verify", "m.onnx", "--ort-lib", "lib.so"]
);
snapshot!(
    run_folder_that_is_none,
    Case::new().with("m.onnx", model([3, 8, 8])),
    ["verify", "m.onnx", "--run", "."]
);
snapshot!(unknown_model_to_inspect, Case::new(), ["inspect", "resnet21"]);

#[test]
fn cuda_is_never_replaced_by_the_cpu() {
    let case = Case::new().with("m.onnx", model([3, 8, 8]));
    let text = case.run(&["bench", "m.onnx", "--engine", "ort-cuda"]);
    let there = cohort::engine::ort::facts().is_ok_and(|facts| facts.cuda);
    assert!(there || text.starts_with("exit code 2"), "{text}");
    assert!(there || text.contains("CUDA"), "{text}");
}
