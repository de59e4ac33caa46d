//! `cohort compress` through the real binary: a part of a trained file is written with the file's own interface, compared
//! with it, and made only once.
#![cfg(feature = "train")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use cohort::contract::{Contract, Dim, Element, Fit, Layout, Output as Answer, OutputKind, TensorInfo};
use cohort::graph::{Builder, Conv2d, Graph, Model, Op, initial_weights, node_params, with_channels_last};
use cohort::onnx::{OnnxFile, emit, import, plain_contract};
use ndarray::{ArrayD, Axis};
use prost::Message;
use support::{Workspace, succeeded, text};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};

fn compress(workspace: &Workspace, file: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
    let data: &[&str] = if more.contains(&"--data") { &[] } else { &["--data", "p.yaml"] };
    let arguments = ["compress", file, "--engine", "tract", "--epochs", "1", "--batch", "32"];
    command.current_dir(workspace.path(".")).args(arguments).args(data).args(more).output().unwrap()
}

/// A file with probabilities and the channels last that says nothing of its images, and mean and deviation of the original's.
/// Its score `c` is that of the digit `c + turn`.
fn foreign(from: &Path, to: &Path, turn: usize) -> [String; 2] {
    let file = OnnxFile::load(from).unwrap();
    let imported = import(&file).unwrap();
    let classes = imported.model.graph().classes();
    let batch = Dim::Symbolic("n".into());
    let contract = Contract {
        input: TensorInfo {
            name: "pictures".into(),
            element: Element::Float32,
            dims: vec![batch.clone(), Dim::Fixed(8), Dim::Fixed(8), Dim::Fixed(1)],
        },
        layout: Layout::ChannelsLast,
        preparation: None,
        outputs: vec![Answer {
            tensor: TensorInfo {
                name: "p".into(),
                element: Element::Float32,
                dims: vec![batch, Dim::Fixed(classes)],
            },
            kind: OutputKind::Probabilities,
        }],
        classes: Vec::new(),
        ..imported.contract
    };
    let model = with_channels_last(&turned(imported.model, turn)).unwrap();
    std::fs::write(to, emit(&model, &contract, None).unwrap()).unwrap();
    let metadata = file.metadata.unwrap();
    [metadata.mean, metadata.std].map(|values| values[0].to_string())
}

/// The network with its scores in another order.
fn turned(model: Model, turn: usize) -> Model {
    let (graph, mut weights) = model.into_parts();
    let classes = graph.classes();
    let last = graph.nodes().iter().rev().find(|node| matches!(node.op, Op::Linear { .. })).unwrap();
    let order: Vec<usize> = (0..classes).map(|class| (class + turn) % classes).collect();
    for spec in node_params(&graph, last) {
        let rows = weights.get(&spec.name).unwrap().select(Axis(0), &order);
        weights.insert(spec.name, rows);
    }
    Model::new(graph, weights).unwrap()
}

/// The students are compared with the original image by image, and stand beside it with what they cost.
fn compared(report: &serde_json::Value) {
    for student in report["students"].as_array().unwrap() {
        for split in ["validation", "test"] {
            let found = &student["against_original"][split];
            let number = |pointer: &str| found.pointer(pointer).and_then(serde_json::Value::as_f64).unwrap();
            let accuracy = |of: &serde_json::Value| of["accuracy"][split].as_f64().unwrap();
            let difference = accuracy(student) - accuracy(&report["original"]);
            let (images, here, there) =
                (number("/images"), number("/paired/only_here"), number("/paired/only_there"));
            assert!((difference - (here - there) / images).abs() < 1e-9, "{student:#}");
            assert!((difference - number("/paired/difference")).abs() < 1e-9, "{student:#}");
            assert!(number("/paired/interval/0") <= difference && difference <= number("/paired/interval/1"));
            assert!(number("/agreement") <= 1.0 - (here + there) / images + 1e-9, "{student:#}");
        }
    }
    let front = report["front"].as_array().unwrap();
    let names: Vec<&str> = front.iter().map(|row| row["model"].as_str().unwrap()).collect();
    assert_eq!((names[0], names.len()), ("the original", 3));
    assert_eq!(front[0]["accuracy"], report["original"]["accuracy"]["test"]);
    assert!(front.iter().all(|row| row["latency_ms"]["tract"].as_f64().unwrap() > 0.0), "{front:#?}");
    // Nothing is smaller than the smallest.
    assert_eq!(front[2]["on_front"], true, "{front:#?}");
}

#[test]
fn a_part_of_a_file_drops_in_for_it() {
    let workspace = Workspace::new(3);
    succeeded(&workspace.run("out", &["--set", "stages.bench.min_samples=5"]));
    let [mean, std] = foreign(&workspace.path("out/04-export/wide.onnx"), &workspace.path("theirs.onnx"), 0);
    let prepared = ["--mean", &mean, "--std", &std];
    let more = [&prepared[..], &["--target", "params<=50%", "--out", "small", "--json"]].concat();
    let report = succeeded(&compress(&workspace, "theirs.onnx", &more));
    let number = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_f64).unwrap();
    assert!(number("/params") <= 0.5 * number("/original/params"), "{report:#}");
    assert!(number("/original/accuracy/test") > 0.2, "{report:#}");
    assert_eq!(report["verify"]["passed"], true);
    let mut measured: Vec<&str> =
        report["bench"].as_array().unwrap().iter().map(|row| row["model"].as_str().unwrap()).collect();
    measured.sort_unstable();
    assert_eq!(measured, ["global", "the original", "uniform"]);
    compared(&report);
    let page = std::fs::read_to_string(workspace.path("small/report.md")).unwrap();
    for part in ["## Against the original", "| uniform | test |", "| the original |", "(front.svg)"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(std::fs::read_to_string(workspace.path("small/front.svg")).unwrap().contains("the original"));

    let [theirs, ours] = ["theirs.onnx", "small/04-export/student.onnx"]
        .map(|path| OnnxFile::load(&workspace.path(path)).unwrap());
    assert_eq!(ours.contract.input, theirs.contract.input);
    assert_eq!(ours.contract.outputs, theirs.contract.outputs);
    assert_eq!(ours.contract.layout, Layout::ChannelsLast);
    let verified = Command::new(env!("CARGO_BIN_EXE_cohort"))
        .current_dir(workspace.path("."))
        .args(["verify", "small/04-export/student.onnx", "--effort", "quick", "--engine", "tract", "--json"])
        .output()
        .unwrap();
    let verified = succeeded(&verified);
    assert_eq!(verified["truth"], "checkpoint, unfolded, libtorch float64");
    assert_eq!(verified["preprocessing"]["differences"], serde_json::json!([]));

    // The same again does nothing again.
    let again = compress(&workspace, "theirs.onnx", &more);
    assert_eq!(succeeded(&again)["params"], report["params"]);
    let told = text(&again.stderr);
    assert!(
        told.contains("the same was asked for before") && told.contains("collaborate: done before"),
        "{told}"
    );
    let shown = compress(&workspace, "theirs.onnx", &more[..more.len() - 1]);
    let said = text(&shown.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("of the decisions are the same"), "{said}");
    // Another target is another run.
    let other = [&prepared[..], &["--target", "macs<=60%", "--out", "small", "--plan", "--json"]].concat();
    let planned = succeeded(&compress(&workspace, "theirs.onnx", &other));
    let original = planned["original"]["macs"].as_f64().unwrap();
    assert!(planned["students"][0]["macs"].as_f64().unwrap() <= 0.6 * original, "{planned:#}");
    assert!(planned["students"][0]["latency_ms"]["tract"][0].as_f64().unwrap() > 0.0);
    // The plan validates with the images that the pipeline file validates with: its seed is taken over.
    let scored = planned.pointer("/engines/0/accuracy").and_then(serde_json::Value::as_f64).unwrap();
    assert!((scored - number("/original/accuracy/validation")).abs() < 1e-9, "{scored}: {report:#}");
    assert!(std::fs::read_to_string(workspace.path("small/pipeline.yaml")).unwrap().contains("seed: 3"));

    // Without a word about preparation, the usual ways are tried, and what was tried is printed.
    let guessed =
        compress(&workspace, "theirs.onnx", &["--target", "params<=50%", "--out", "guessed", "--plan"]);
    let (told, said) = (text(&guessed.stderr), text(&guessed.stdout));
    assert!(guessed.status.success() && said.contains("the usual ways were tried"), "{told}{said}");
    assert!(said.contains("0..255 less") && said.contains("nothing is trained yet"), "{said}");
    assert!(!workspace.path("guessed/02-collaborate").exists());
    // Every engine is shown, and decides as the imported network does.
    let rows: Vec<&str> = said.lines().filter(|line| line.ends_with("100.00 %")).collect();
    let named = |name: &str| rows.iter().find(|row| row.trim_start().starts_with(name));
    let accuracy = |name: &str| named(name).map(|row| row.split_whitespace().rev().nth(3).unwrap());
    assert!(accuracy("tract").is_some() && accuracy("tract") == accuracy("torch"), "{said}");

    for (file, arguments, problem, remedy) in [
        (
            "theirs.onnx",
            vec!["--target", "params<=50%", "--data", "nowhere"],
            "no such folder or file",
            "a folder that has",
        ),
        ("missing.onnx", vec!["--target", "params<=50%"], "cannot read missing.onnx", "ONNX"),
        ("theirs.onnx", vec!["--target", "params<=1000000"], "within the target", "ask for less"),
        ("theirs.onnx", vec!["--target", "params<=10"], "no network meets the target", "ask for"),
        (
            "theirs.onnx",
            vec!["--target", "params<=50%", "--mean", "0.1"],
            "--mean and --std belong together",
            "give both",
        ),
        (
            "theirs.onnx",
            vec!["--target", "params<=50%", "--labels", "p.yaml"],
            "names of classes",
            "one name for each score",
        ),
        ("theirs.onnx", vec!["--target", "params<=50%", "--shape", "3x9x9"], "theirs.onnx", ""),
        ("theirs.onnx", vec!["--target", "size<=50%"], "neither params, macs, bytes", "a target looks like"),
    ] {
        let refused = compress(&workspace, file, &[&arguments[..], &["--out", "refused"]].concat());
        let told = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(problem) && told.contains(remedy), "{arguments:?}: {told}");
    }
}

/// The same file with an operator in front that cannot be imported: what is not a number becomes 0.
fn with_unknown_operator(path: &Path) {
    let mut model = ModelProto::decode(std::fs::read(path).unwrap().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let image = graph.input[0].name.clone();
    for name in graph.node.iter_mut().flat_map(|node| &mut node.input).filter(|name| **name == image) {
        *name = "numbers".into();
    }
    let node = |op: &str, input: &[&str], output: &str| NodeProto {
        op_type: op.into(),
        input: input.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let nothing = TensorProto {
        name: "nothing".into(),
        data_type: DataType::Float as i32,
        float_data: vec![0.0],
        ..TensorProto::default()
    };
    graph.initializer.push(nothing);
    graph.node.insert(0, node("IsNaN", &[&image], "isnt"));
    graph.node.insert(1, node("Where", &["isnt", "nothing", &image], "numbers"));
    std::fs::write(path, model.encode_to_vec()).unwrap();
}

/// It teaches new students through ONNX Runtime; they have its interface, and are compared with it.
#[test]
fn a_file_that_cannot_be_imported_teaches_students_of_the_zoo() {
    let workspace = Workspace::new(2);
    workspace.write("wide.yaml", "family: resnet_cifar\ndepth: 8\nwidth: 32\n");
    succeeded(&workspace.run("out", &["--set", "stages.bench.min_samples=5"]));
    let theirs = workspace.path("theirs.onnx");
    let [mean, std] = foreign(&workspace.path("out/04-export/wide.onnx"), &theirs, 0);
    with_unknown_operator(&theirs);
    let prepared = ["--mean", &mean, "--std", &std, "--engine", "ort-cpu", "--out", "zoo"];
    let more = [&prepared[..], &["--target", "macs<=2M", "--json"]].concat();
    let made = compress(&workspace, "theirs.onnx", &more);
    let told = text(&made.stderr);
    assert!(told.contains("students of the zoo") && told.contains("IsNaN"), "{told}");
    let report = succeeded(&made);
    assert_eq!(report["original"]["macs"], serde_json::Value::Null);
    assert!(report["original"]["params"].as_f64().unwrap() > 1e3, "{report:#}");
    assert!(report["original"]["accuracy"]["test"].as_f64().unwrap() > 0.5, "{report:#}");
    assert!(report["macs"].as_f64().unwrap() <= 2e6, "{report:#}");
    assert_eq!(report["verify"]["passed"], true);
    let pipeline = std::fs::read_to_string(workspace.path("zoo/pipeline.yaml")).unwrap();
    assert!(!pipeline.contains("slim:") && pipeline.contains("max_macs: '2000000'"), "{pipeline}");
    let metrics = std::fs::read_to_string(workspace.path("zoo/02-collaborate/metrics.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    assert!(first.pointer("/students/0/teacher").unwrap().as_f64().unwrap() > 0.0, "{first:#}");
    let [theirs, ours] = ["theirs.onnx", "zoo/04-export/student.onnx"]
        .map(|path| OnnxFile::load(&workspace.path(path)).unwrap());
    assert_eq!(
        (ours.contract.input, ours.contract.outputs),
        (theirs.contract.input, theirs.contract.outputs)
    );

    image::GrayImage::new(20, 10).save(workspace.path("a.png")).unwrap();
    let predicted = Command::new(env!("CARGO_BIN_EXE_cohort"))
        .current_dir(workspace.path("."))
        .args(["predict", "zoo/04-export/student.onnx", "a.png", "--json"])
        .output()
        .unwrap();
    assert_eq!(succeeded(&predicted)[0]["classes"].as_array().map(Vec::len), Some(5));

    // How many multiply-accumulates it has is not known, and no part of it can be taken.
    let refused = compress(&workspace, "theirs.onnx", &[&prepared[..], &["--target", "macs<=50%"]].concat());
    let told = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && told.contains("give a number, such as macs<=5M"), "{told}");
    workspace.write(
        "part.yaml",
        &format!(
            "version: 1\nname: part\ndata: {{source: {{digits: {{}}}}}}\n\
             teacher: {{onnx: theirs.onnx, prepare: {{mean: [{mean}], std: [{std}]}}}}\n\
             cohort: [{{name: a, model: {{slim: {{of: teacher, width: 0.5}}}}}}]\nstages: [slim: {{}}]\n"
        ),
    );
    let checked = Command::new(env!("CARGO_BIN_EXE_cohort"))
        .current_dir(workspace.path("."))
        .args(["check", "part.yaml"])
        .output()
        .unwrap();
    let told = text(&checked.stderr);
    assert!(checked.status.code() == Some(2) && told.contains("take students from the zoo"), "{told}");
}

/// A file for grey images that says nothing of their preparation: class 1 if they are bright.
fn brightness(to: &Path) {
    let (mut builder, image) = Builder::new(vec![1, 8, 8]).unwrap();
    let conv =
        builder.add("conv", Op::Conv2d(Conv2d { bias: true, ..Conv2d::square(16, 1, 1) }), &[image]).unwrap();
    let relu = builder.add("relu", Op::Relu, &[conv]).unwrap();
    let pooled = builder.add("pool", Op::GlobalAvgPool, &[relu]).unwrap();
    let flat = builder.add("flat", Op::Flatten, &[pooled]).unwrap();
    let head = builder.add("head", Op::Linear { out_features: 2, bias: true }, &[flat]).unwrap();
    let graph = builder.finish(&[(Graph::LOGITS, head)]);
    let mut weights = initial_weights(&graph, 1);
    weights.insert("conv.weight", ArrayD::from_elem(vec![16, 1, 1, 1], 1.0));
    weights.insert("conv.bias", ArrayD::zeros(vec![16]));
    let head = |at: ndarray::IxDyn| if at[0] == 1 { 1.0 / 16.0 } else { -1.0 / 16.0 };
    weights.insert("head.weight", ArrayD::from_shape_fn(vec![2, 16], head));
    weights.insert("head.bias", ndarray::array![0.5, -0.5].into_dyn());
    let bytes = emit(&Model::new(graph.clone(), weights).unwrap(), &plain_contract(&graph), None).unwrap();
    std::fs::write(to, bytes).unwrap();
}

/// Wide images whose class is the brightness of their middle third; of many, the other two thirds are the opposite.
fn wide_images(root: &Path) {
    let values = [40, 200];
    for split in ["train", "val", "test"] {
        for (class, value) in values.into_iter().enumerate() {
            let folder = root.join(split).join(["dark", "light"][class]);
            std::fs::create_dir_all(&folder).unwrap();
            for index in 0..40u8 {
                let around = if index % 5 < 2 { values[1 - class] } else { value };
                let pixel =
                    |x: u32, _| image::Luma([index % 7 + if (8..16).contains(&x) { value } else { around }]);
                image::GrayImage::from_fn(24, 8, pixel).save(folder.join(format!("{index}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn the_fit_of_images_is_found_and_kept() {
    let workspace = Workspace::new(1);
    brightness(&workspace.path("theirs.onnx"));
    wide_images(&workspace.path("images"));
    let asked = ["--data", "images", "--target", "params<=60%", "--plan"];
    let found = compress(&workspace, "theirs.onnx", &[&asked[..], &["--out", "found"]].concat());
    let (told, said) = (text(&found.stderr), text(&found.stdout));
    assert!(found.status.success(), "{told}{said}");
    let row = |end: &str| {
        said.lines().find(|line| line.contains(end)).unwrap_or_else(|| panic!("no {end}: {said}"))
    };
    assert!(row(", crop").contains("100.00 %") && !row(", letterbox").contains("100.00 %"), "{said}");
    assert!(row("taken:").contains(", crop") && told.contains("with the fit 'crop'"), "{told}{said}");
    let pipeline = std::fs::read_to_string(workspace.path("found/pipeline.yaml")).unwrap();
    assert!(pipeline.contains("fit: crop"), "{pipeline}");

    // A fit that is given is the only one.
    let given = ["--out", "given", "--fit", "stretch"];
    let said = text(&compress(&workspace, "theirs.onnx", &[&asked[..], &given].concat()).stdout);
    assert!(said.contains("taken:") && !said.contains(", crop"), "{said}");
    assert!(!std::fs::read_to_string(workspace.path("given/pipeline.yaml")).unwrap().contains("fit:"));

    // The exported file says so, and that is right.
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
        command.current_dir(workspace.path(".")).args(arguments).arg("--json").output().unwrap()
    };
    let quick =
        ["stages.bench.min_samples=5", "stages.bench.min_seconds=0.05"].map(|set| ["--set", set]).concat();
    let longer = ["--set", "stages.collaborate.epochs=20"];
    succeeded(&run(&[&["run", "found/pipeline.yaml", "--out", "found"][..], &longer, &quick].concat()));
    let student = "found/04-export/student.onnx";
    let exported = OnnxFile::load(&workspace.path(student)).unwrap().metadata.unwrap();
    assert_eq!(exported.fit, Fit::Crop);
    let verified = succeeded(&run(&["verify", student, "--effort", "quick", "--engine", "tract"]));
    assert_eq!(verified["preprocessing"]["passed"], true);
    assert_eq!(verified["preprocessing"]["differences"], serde_json::json!([]));
    // Images that are prepared for prediction as they were for the run's own score are answered as often rightly.
    let mut right = 0;
    for folder in ["dark", "light"] {
        let predicted =
            succeeded(&run(&["predict", student, &format!("images/test/{folder}"), "--top", "1"]));
        right +=
            predicted.as_array().unwrap().iter().filter(|one| one["classes"][0]["class"] == folder).count();
    }
    let score = exported.score.unwrap();
    assert_eq!((right, score.images), (score.right, 80));
    assert!(right > 70, "the opposite borders are cut off: {right} of 80 are right");
    // Its own record of the fit is followed, and nothing is tried.
    let again = ["--out", "again", "--target", "params<=90%", "--data", "images", "--plan"];
    let again = compress(&workspace, student, &again);
    assert!(again.status.success() && !text(&again.stdout).contains("were tried"), "{}", text(&again.stderr));
    assert!(std::fs::read_to_string(workspace.path("again/pipeline.yaml")).unwrap().contains("fit: crop"));
    // Trained with another one, it is warned of.
    let other = ["--set", "data.source.folder.fit=letterbox"];
    let warned = run(&[&["run", "again/pipeline.yaml", "--out", "again"][..], &other, &quick].concat());
    assert!(
        text(&warned.stderr).contains("the fit 'crop', and the data have 'letterbox'"),
        "{}",
        text(&warned.stderr)
    );
    // Data whose images have one size have no fit.
    let refused = compress(
        &workspace,
        "theirs.onnx",
        &["--target", "params<=60%", "--fit", "crop", "--out", "refused"],
    );
    let told = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && told.contains("--fit does not apply to p.yaml"), "{told}");
}

#[test]
fn neither_labels_nor_the_order_of_classes_must_be_known() {
    let workspace = Workspace::new(10);
    succeeded(&workspace.run("out", &["--set", "stages.bench.min_samples=5"]));
    let student = workspace.path("out/04-export/wide.onnx");
    let [mean, std] = foreign(&student, &workspace.path("theirs.onnx"), 0);
    let prepared = ["--mean", &mean, "--std", &std, "--target", "params<=50%"];

    // Its own decisions are the labels, so that it is always right.
    let more = [&prepared[..], &["--unlabelled", "--out", "unlabelled", "--json"]].concat();
    let report = succeeded(&compress(&workspace, "theirs.onnx", &more));
    assert_eq!(report["original"]["accuracy"]["test"], 1.0);
    assert!(report["accuracy"]["test"].as_f64().unwrap() > 0.2, "{report:#}");
    assert!(report["notes"][0].as_str().unwrap().contains("there are no labels"), "{report:#}");
    assert_eq!(report["verify"]["passed"], true);
    let pipeline = std::fs::read_to_string(workspace.path("unlabelled/pipeline.yaml")).unwrap();
    assert!(pipeline.contains("labels: teacher") && pipeline.contains("alpha: 0"), "{pipeline}");
    let unprepared = compress(&workspace, "theirs.onnx", &["--unlabelled", "--target", "params<=50%"]);
    let told = text(&unprepared.stderr);
    assert!(unprepared.status.code() == Some(2) && told.contains("without labels the usual ways"), "{told}");

    // Scores in another order than the data's classes are found out.
    foreign(&student, &workspace.path("turned.onnx"), 3);
    let more = [&prepared[..], &["--plan", "--out", "turned"]].concat();
    let planned = compress(&workspace, "turned.onnx", &more);
    let told = text(&planned.stderr);
    assert!(planned.status.success() && told.contains("its decisions show: 3, 4, 5, 6, 7, 8, …"), "{told}");
}
