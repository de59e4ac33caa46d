//! Each command as scripts call it: one JSON document on stdout and nothing else there.

#[path = "support/folder.rs"]
mod folder;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use cohort::config::EngineName;
use cohort::contract::{ChannelOrder, Fit, PixelRange, Resize};
use cohort::engine::{EngineOptions, open};
use cohort::graph::{Builder, Graph, Model, Op, initial_weights};
use cohort::onnx::{Metadata, OnnxFile, Scored, ScoredSplit, emit, plain_contract};
use ndarray::ArrayD;
use ndarray_npy::NpzWriter;
use prost::Message;
use serde_json::Value;
use tract_onnx::pb::ModelProto;

use folder::Folder;

#[test]
fn predict_gives_probabilities_by_name_on_every_engine() {
    let folder = Folder::new();
    let ort = folder.json(&["predict", "m.onnx", "images", "--top", "3"]);
    let tract = folder.json(&[
        "predict",
        "m.onnx",
        "images/a.png",
        "images/b.JPG",
        "--top",
        "3",
        "--engine",
        "tract",
    ]);
    for predictions in [&ort, &tract] {
        assert_eq!(predictions.as_array().unwrap().len(), 2);
        for prediction in predictions.as_array().unwrap() {
            let classes = prediction["classes"].as_array().unwrap();
            let total: f64 = classes.iter().map(|class| class["probability"].as_f64().unwrap()).sum();
            assert!((total - 1.0).abs() < 1e-9, "{prediction}");
            assert!(classes[0]["probability"].as_f64() >= classes[1]["probability"].as_f64());
            assert!(classes.iter().any(|class| class["class"] == "wasp"));
        }
    }
    for place in 0..2 {
        assert_eq!(ort[place]["classes"][0]["class"], tract[place]["classes"][0]["class"]);
    }
    assert_eq!(
        folder.json(&["predict", "m.onnx", "images", "--top", "1"])[0]["classes"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn verify_without_a_checkpoint_reads_the_file_itself() {
    let report = Folder::new().json(&["verify", "m.onnx"]);
    assert_eq!(report["verdict"], "engines compute what the file says");
    assert_eq!(report["truth"], "file's own nodes, libtorch float64");
    assert_eq!(report["passed"], true);
    let engines = report["engines"].as_array().unwrap();
    let names: Vec<&str> = engines.iter().map(|engine| engine["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "libtorch CPU",
            "ONNX Runtime CPU",
            "ONNX Runtime CPU, not optimised",
            "tract",
            "tract, not optimised"
        ]
    );
    assert!(engines[1]["placement"]["CPUExecutionProvider"]["Conv"].as_u64().unwrap() >= 7, "{}", engines[1]);
    assert_eq!(engines[3]["placement"], serde_json::json!({}), "tract has but one place");
    let distances = report["distances"]["relative_l2"].as_array().unwrap();
    assert_eq!(distances.len(), 6);
    assert_eq!(distances[2][2], 0.0);
    assert!((1e-12..1e-5).contains(&distances[2][4].as_f64().unwrap()));
    assert_eq!(engines[4]["sets"][0]["samples"], 8, "tract runs few samples before it optimises");
}

/// A network of two classes that ends in a softmax, where the second class has probability 1e-9 on a black image.
fn with_softmax(folder: &Folder, name: &str, error: f32) {
    let (mut builder, image) = Builder::new(vec![3, 8, 8]).unwrap();
    let pooled = builder.add("pool", Op::GlobalAvgPool, &[image]).unwrap();
    let flat = builder.add("flat", Op::Flatten, &[pooled]).unwrap();
    let head = builder.add("head", Op::Linear { out_features: 2, bias: true }, &[flat]).unwrap();
    let end = builder.add("end", Op::Softmax { axis: 0 }, &[head]).unwrap();
    let graph = builder.finish(&[(Graph::LOGITS, end)]);
    let mut weights = initial_weights(&graph, 1);
    weights.insert("head.weight", ArrayD::from_elem(vec![2, 3], 0.1));
    weights.insert("head.bias", ndarray::array![0.0, 1e-9f32.ln() + error].into_dyn());
    let metadata = Metadata {
        classes: vec!["a".into(), "b".into()],
        input: [3, 8, 8],
        channel_order: ChannelOrder::Rgb,
        resize: Resize::default(),
        fit: Fit::default(),
        range: PixelRange::default(),
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        normalizes: None,
        score: None,
        student: "tiny".into(),
        run: "test".into(),
    };
    let bytes =
        emit(&Model::new(graph.clone(), weights).unwrap(), &plain_contract(&graph), Some(&metadata)).unwrap();
    std::fs::write(folder.path(name), bytes).unwrap();
}

#[test]
fn errors_of_small_probabilities_are_seen() {
    let folder = Folder::new();
    with_softmax(&folder, "one.onnx", 0.0);
    with_softmax(&folder, "same.onnx", 0.0);
    with_softmax(&folder, "other.onnx", 1e-2);
    let alone = folder.json(&["verify", "one.onnx"]);
    assert_eq!(alone["truth"], "file's own nodes before the softmax, libtorch float64");
    assert_eq!(alone["engines"][0]["name"], "libtorch CPU");
    let same = folder.json(&["verify", "one.onnx", "--reference", "same.onnx"]);
    assert_eq!(same["engines"].as_array().unwrap().len(), 5);
    let (code, said) = folder.fails(&["verify", "one.onnx", "--reference", "other.onnx"]);
    assert!(
        code == Some(1) && said.contains("class 1: -20.") && said.contains("the file itself is wrong"),
        "{said}"
    );
    // The failure is reported even though the case cannot be kept.
    let (code, said) =
        folder.fails(&["verify", "one.onnx", "--reference", "other.onnx", "--case", "one.onnx/case"]);
    assert!(code == Some(1) && said.contains("the failing case is not kept"), "{said}");
    // Compared with recorded probabilities, the file keeps its softmax.
    let images = ArrayD::<f32>::zeros(vec![2, 3, 8, 8]);
    let expected = ndarray::array![[1.0f32, 1e-9], [1.0, 1e-9]];
    ndarray_npy::write_npy(folder.path("x.npy"), &images).unwrap();
    ndarray_npy::write_npy(folder.path("y.npy"), &expected).unwrap();
    let recorded = folder.json(&["verify", "one.onnx", "--inputs", "x.npy", "--expected", "y.npy"]);
    assert_eq!(recorded["engines"].as_array().unwrap().len(), 4, "libtorch gives logits");
}

/// Files of other origin: bytes with channels last that end in a softmax, and a logarithm of a softmax.
#[test]
fn verify_cuts_foreign_files_before_their_softmax() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    for name in ["nhwc_uint8.onnx", "attention.onnx"] {
        let report = Folder::new().json(&["verify", &fixtures.join(name).display().to_string()]);
        assert_eq!(report["truth"], "file's own nodes before the softmax, libtorch float64", "{name}");
        assert_eq!(report["engines"].as_array().unwrap().len(), 5, "{name}");
    }
}

#[test]
fn verify_measures_a_file_of_half_precision_by_its_own_row() {
    let half = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/half.onnx");
    let report = Folder::new().json(&["verify", &half.display().to_string()]);
    let engines = report["engines"].as_array().unwrap();
    assert_eq!(engines.len(), 5);
    for engine in engines {
        let expected = if engine["engine"] == "torch" { (1e-5, true) } else { (5e-3, false) };
        let tolerance = &engine["tolerance"];
        assert_eq!(
            (&tolerance["atol"], &tolerance["ties_excused"]),
            (&expected.0.into(), &expected.1.into())
        );
        assert_eq!(engine["passed"], true, "{engine:#}");
    }
}

/// A file that takes bytes with channels last gets a data set's images unchanged.
#[test]
fn verify_gives_bytes_to_a_file_of_bytes() {
    let colours = Colours::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/nhwc_uint8.onnx");
    std::fs::copy(fixture, colours.folder.path("bytes.onnx")).unwrap();
    let pipeline = std::fs::read_to_string(colours.folder.path("p.yaml")).unwrap();
    std::fs::write(colours.folder.path("p.yaml"), pipeline.replace("[6, 6]", "[9, 8]")).unwrap();
    let report = colours.folder.json(&["verify", "bytes.onnx", "--data", "p.yaml"]);
    let set = &report["engines"][1]["sets"][0];
    assert_eq!((&set["set"], &set["passed"]), (&"images".into(), &true.into()));
    assert!(report["preprocessing"].is_null(), "the file says nothing of it");
}

/// A file whose inner shapes carry a symbol for the batch, as PyTorch's newer exporter writes them.
#[test]
fn verify_runs_every_engine_on_a_foreign_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/squeeze_excite.dynamo.onnx");
    let report = Folder::new().json(&["verify", &file.display().to_string()]);
    let engines = report["engines"].as_array().unwrap();
    assert_eq!(engines.len(), 5);
    for engine in engines {
        assert_eq!(engine["passed"], true, "{engine:#}");
    }
}

#[test]
fn verify_holds_a_file_against_another() {
    let folder = Folder::new();
    folder.model("other.onnx", [3, 8, 8], 2);
    folder.model("larger.onnx", [3, 9, 8], 1);
    std::fs::copy(folder.path("m.onnx"), folder.path("copy.onnx")).unwrap();
    let report = folder.json(&["verify", "m.onnx", "--reference", "copy.onnx"]);
    assert_eq!((&report["verdict"], &report["standing"]), (&"files agree".into(), &"reference".into()));
    let (code, said) = folder.fails(&["verify", "m.onnx", "--reference", "other.onnx"]);
    assert!(code == Some(1) && said.contains("times the tolerance"), "{said}");
    let (code, said) = folder.fails(&["verify", "m.onnx", "--reference", "larger.onnx"]);
    assert!(code == Some(2) && said.contains("take images of different sizes"), "{said}");
}

#[test]
fn verify_holds_a_file_against_recorded_outputs() {
    let folder = Folder::new();
    let images =
        ArrayD::from_shape_fn(vec![5, 3, 8, 8], |at| (at[0] + 2 * at[1] + at[2] * at[3]) as f32 / 50.0);
    let file = OnnxFile::load(&folder.path("m.onnx")).unwrap();
    let mut tract = open(&file, EngineName::Tract, &EngineOptions::default()).unwrap();
    let logits = tract.run(images.view()).unwrap().remove(0);
    let write = |name: &str, array: &ArrayD<f32>| ndarray_npy::write_npy(folder.path(name), array).unwrap();
    write("x.npy", &images);
    write("y.npy", &logits);
    let recorded = ["verify", "m.onnx", "--inputs", "x.npy", "--expected", "y.npy"];
    assert_eq!(folder.json(&recorded)["verdict"], "recorded outputs met");

    let mut archive = NpzWriter::new_compressed(std::fs::File::create(folder.path("xy.npz")).unwrap());
    archive.add_array("image", &images).unwrap();
    archive.add_array("logits", &logits).unwrap();
    archive.finish().unwrap();
    assert_eq!(
        folder.json(&["verify", "m.onnx", "--inputs", "xy.npz"])["engines"][0]["sets"][0]["samples"],
        5
    );

    let mut wrong = logits.clone();
    wrong[[3, 1].as_slice()] += 0.01;
    write("y.npy", &wrong);
    let (code, said) = folder.fails(&recorded);
    assert!(code == Some(1) && said.contains("worst at sample 3, class 1"), "{said}");
    wrong[[0, 0].as_slice()] = f32::NAN;
    write("y.npy", &wrong);
    let (code, said) = folder.fails(&recorded);
    assert!(code == Some(1) && said.contains("NaN or infinity"), "{said}");
    write("y.npy", &images);
    let (code, said) = folder.fails(&recorded);
    assert!(code == Some(2) && said.contains("outputs of shape [5, 3, 8, 8] for 5 inputs"), "{said}");
    write("x.npy", &logits);
    let (code, said) = folder.fails(&recorded);
    assert!(code == Some(2) && said.contains("the model takes [samples, 3, 8, 8]"), "{said}");
    std::fs::write(folder.path("x.npy"), b"\x93NUMPY\x01\x00").unwrap();
    let (code, said) = folder.fails(&recorded);
    assert!(code == Some(2) && said.contains("cannot read x.npy"), "{said}");
    let (code, said) = folder.fails(&["verify", "m.onnx", "--inputs", "none.npz"]);
    assert!(code == Some(2) && said.contains("cannot read none.npz"), "{said}");
}

/// Headers that claim more data than there is, or sizes that are not numbers, are refused before memory is allocated.
#[test]
fn recorded_arrays_are_believed_as_far_as_they_go() {
    let folder = Folder::new();
    let array = |descr: &str, shape: &str| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), &[0; 64]].concat()
    };
    let cases = [
        ("<f4", "(1000, 3, 8, 8)", "has 768000 bytes, but the file has 64"),
        ("<f4", "(1000000000, 3, 8, 8)", "at most 134217728 numbers and 8 axes are read"),
        ("<f8", "(18446744073709551615, 3, 8, 8)", "at most 134217728 numbers and 8 axes are read"),
        ("|O", "(1, 3, 8, 8)", "of type |O, not int, uint or float"),
    ];
    for (descr, shape, problem) in cases {
        std::fs::write(folder.path("x.npy"), array(descr, shape)).unwrap();
        let (code, said) = folder.fails(&["verify", "m.onnx", "--inputs", "x.npy", "--expected", "x.npy"]);
        assert!(code == Some(2) && said.contains(problem), "{said}");
        let mut archive = zip::ZipWriter::new(std::fs::File::create(folder.path("x.npz")).unwrap());
        archive.start_file("image.npy", zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&array(descr, shape)).unwrap();
        archive.finish().unwrap();
        let (code, said) = folder.fails(&["verify", "m.onnx", "--inputs", "x.npz"]);
        assert!(code == Some(2) && said.contains(problem), "{said}");
    }
    let mut archive = NpzWriter::new(std::fs::File::create(folder.path("x.npz")).unwrap());
    archive.add_array("other", &ArrayD::<f32>::zeros(vec![1, 3, 8, 8])).unwrap();
    archive.finish().unwrap();
    let (code, said) = folder.fails(&["verify", "m.onnx", "--inputs", "x.npz"]);
    assert!(code == Some(2) && said.contains("it has no array 'image', only other"), "{said}");
}

/// Recorded bytes for a file that takes bytes, and recordings that do not fit it.
#[test]
fn recorded_inputs_are_what_the_file_takes() {
    let folder = Folder::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    for name in ["nhwc_uint8.onnx", "nhwc_uint8.output.npy"] {
        std::fs::copy(fixtures.join(name), folder.path(name)).unwrap();
    }
    let images: ArrayD<f32> = ndarray_npy::read_npy(fixtures.join("nhwc_uint8.input.npy")).unwrap();
    let recorded = ["verify", "nhwc_uint8.onnx", "--inputs", "x.npy", "--expected", "nhwc_uint8.output.npy"];
    ndarray_npy::write_npy(folder.path("x.npy"), &images.mapv(|value| value as u8)).unwrap();
    assert_eq!(folder.json(&recorded)["verdict"], "recorded outputs met");
    ndarray_npy::write_npy(folder.path("x.npy"), &(images / 255.0)).unwrap();
    let (code, said) = folder.fails(&recorded);
    assert!(code == Some(2) && said.contains("takes integers from 0 to 255"), "{said}");
}

/// A file with an unknown operator, which tract only notices when it plans.
#[test]
fn an_engine_that_refuses_says_so_once() {
    let folder = Folder::new();
    let mut model = ModelProto::decode(std::fs::read(folder.path("m.onnx")).unwrap().as_slice()).unwrap();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    nodes.iter_mut().find(|node| node.op_type == "Relu").unwrap().op_type = "Rectify".into();
    std::fs::write(folder.path("odd.onnx"), model.encode_to_vec()).unwrap();
    let (code, said) = folder.fails(&["verify", "odd.onnx", "--engine", "tract"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cannot run odd.onnx, whose values are the reference"), "{said}");
    let (code, said) = folder.fails(&["verify", "odd.onnx", "--reference", "m.onnx"]);
    assert_eq!(code, Some(1), "{said}");
    for engine in ["ONNX Runtime CPU", "ONNX Runtime CPU, not optimised", "tract", "tract, not optimised"] {
        assert_eq!(said.matches(&format!("\n  {engine}: ")).count(), 1, "{engine}: {said}");
    }
}

#[test]
fn verify_with_data_counts_right_answers() {
    let folder = Folder::new();
    folder.model("digit.onnx", [1, 8, 8], 4);
    let cohort = "[{name: a, model: resnet8}, {name: b, model: resnet8}]";
    let pipeline =
        format!("{{version: 1, name: d, data: {{source: {{digits: {{}}}}}}, cohort: {cohort}, stages: []}}");
    std::fs::write(folder.path("p.yaml"), pipeline).unwrap();
    let report = folder.json(&["verify", "digit.onnx", "--data", "p.yaml", "--images", "64"]);
    let engines = report["engines"].as_array().unwrap();
    assert_eq!(
        (&engines[0]["sets"][0]["set"], &engines[0]["sets"][0]["samples"]),
        (&"images".into(), &64.into())
    );
    let (first, tract) = (&engines[0]["accuracy"], &engines[3]["accuracy"]);
    assert_eq!((&first["split"], &first["images"]), (&"test".into(), &359.into()));
    assert!(first["paired"].is_null() && first["reference"].is_null());
    assert_eq!(tract["reference"], first["accuracy"]);
    assert_eq!(tract["paired"]["with"], "libtorch CPU");
    assert!(engines[2]["accuracy"].is_null(), "only engines as they are deployed answer the whole split");
    let (code, said) = folder.fails(&["verify", "m.onnx", "--data", "p.yaml"]);
    assert!(code == Some(2) && said.contains("are [1, 8, 8], but m.onnx takes [3, 8, 8]"), "{said}");
}

/// Three classes of colours, and a network that chooses the channel that exceeds its mean most.
struct Colours {
    folder: Folder,
    metadata: Metadata,
}

impl Colours {
    fn new() -> Self {
        let folder = Folder::new();
        for (class, name) in ["blue", "green", "red"].iter().enumerate() {
            let place = folder.path(&format!("colours/{name}"));
            std::fs::create_dir_all(&place).unwrap();
            for index in 0..12 {
                let mut colour = [170, 110, 40];
                colour[2 - class] += 30;
                let image = image::RgbImage::from_pixel(6, 6, image::Rgb(colour.map(|part| part + index)));
                image.save(place.join(format!("{index}.png"))).unwrap();
            }
        }
        let source = "{folder: {root: colours, size: [6, 6], channels: 3, test: 0.25}}";
        let cohort = "[{name: a, model: resnet8}, {name: b, model: resnet8}]";
        let pipeline =
            format!("{{version: 1, name: c, data: {{source: {source}}}, cohort: {cohort}, stages: []}}");
        std::fs::write(folder.path("p.yaml"), pipeline).unwrap();
        let loaded = cohort::config::load_pipeline(&folder.path("p.yaml"), &[]).unwrap();
        let data = cohort::data::load(&loaded.pipeline.data, &loaded.base, loaded.pipeline.seed).unwrap();
        let metadata = Metadata {
            classes: data.info.classes.clone(),
            input: data.info.shape,
            channel_order: ChannelOrder::Rgb,
            resize: Resize::default(),
            fit: Fit::default(),
            range: PixelRange::default(),
            mean: data.normalization.mean.clone(),
            std: data.normalization.std.clone(),
            normalizes: None,
            score: Some(Scored { split: ScoredSplit::Test, images: 9, right: 9 }),
            student: "colours".into(),
            run: "test".into(),
        };
        Self { folder, metadata }
    }

    /// Writes the network with its metadata changed.
    fn write(&self, spoil: impl FnOnce(&mut Metadata)) {
        let (mut builder, image) = Builder::new(vec![3, 6, 6]).unwrap();
        let pooled = builder.add("pool", Op::GlobalAvgPool, &[image]).unwrap();
        let flat = builder.add("flat", Op::Flatten, &[pooled]).unwrap();
        let head = Op::Linear { out_features: 3, bias: true };
        let logits = builder.add("head", head, &[flat]).unwrap();
        let graph = builder.finish(&[(Graph::LOGITS, logits)]);
        let mut weights = initial_weights(&graph, 1);
        let turned = |at: ndarray::IxDyn| if at[0] + at[1] == 2 { 1.0 } else { 0.0 };
        weights.insert("head.weight", ArrayD::from_shape_fn(vec![3, 3], turned));
        // Red must stand out by a whole standard deviation, so that deviations matter.
        weights.insert("head.bias", ndarray::array![0.0, 0.0, -1.0].into_dyn());
        let mut metadata = self.metadata.clone();
        spoil(&mut metadata);
        let bytes =
            emit(&Model::new(graph.clone(), weights).unwrap(), &plain_contract(&graph), Some(&metadata))
                .unwrap();
        std::fs::write(self.folder.path("colours.onnx"), bytes).unwrap();
    }
}

/// Changes one thing in the metadata.
type Spoil = fn(&mut Metadata);

const COLOURS: [&str; 4] = ["verify", "colours.onnx", "--data", "p.yaml"];

#[test]
fn verify_holds_the_files_own_preprocessing_against_what_was_reported() {
    let colours = Colours::new();
    colours.write(|_| {});
    let report = colours.folder.json(&COLOURS);
    let accuracy = &report["engines"][0]["accuracy"];
    assert_eq!((&accuracy["accuracy"], &accuracy["reference"]), (&1.0.into(), &1.0.into()));
    assert_eq!(report["preprocessing"]["differences"], serde_json::json!([]));
    let spoilt: [(&str, Spoil); 4] = [
        ("channel order bgr where the data set's is rgb", |metadata| {
            metadata.channel_order = ChannelOrder::Bgr;
            metadata.mean.reverse();
            metadata.std.reverse();
        }),
        ("mean [0.9, ", |metadata| metadata.mean[0] = 0.9),
        ("std [9.0, ", |metadata| metadata.std[0] = 9.0),
        ("pixel range 0..255 where the data set's is 0..1", |metadata| metadata.range = PixelRange::Byte),
    ];
    for (problem, spoil) in spoilt {
        colours.write(spoil);
        let (code, said) = colours.folder.fails(&COLOURS);
        assert!(
            code == Some(1) && said.contains("the file's preprocessing is at fault"),
            "{problem}: {said}"
        );
        assert!(said.contains(problem), "{problem}: {said}");
        assert!(said.contains("with the data set's own the accuracy in"), "{problem}: {said}");
    }
    // If the data set's own preprocessing does not restore the score, preprocessing is not the only fault.
    colours.write(|metadata| {
        metadata.score = Some(Scored { split: ScoredSplit::Test, images: 9, right: 5 });
    });
    let (code, said) = colours.folder.fails(&COLOURS);
    assert!(
        code == Some(1) && said.contains("preprocessing is the data set's own: the cause lies"),
        "{said}"
    );
    // A change that has no effect on any image is a warning.
    colours.write(|metadata| metadata.std.iter_mut().for_each(|std| *std *= 1.1));
    let report = colours.folder.json(&COLOURS);
    assert!(report["findings"][0]["problem"].as_str().unwrap().contains("not the data set's own: std"));
    colours.write(|metadata| metadata.fit = Fit::Crop);
    let report = colours.folder.json(&COLOURS);
    let problem = report["findings"][0]["problem"].as_str().unwrap();
    assert!(
        problem.contains("not the data set's own: fit crop where the data set's is stretch"),
        "{problem}"
    );
}

#[test]
fn predict_follows_the_metadata() {
    let colours = Colours::new();
    let predicted = || {
        let found = colours.folder.json(&["predict", "colours.onnx", "colours/red/3.png", "--top", "1"]);
        found[0]["classes"][0]["class"].as_str().unwrap().to_string()
    };
    colours.write(|_| {});
    assert_eq!(predicted(), "red");
    colours.write(|metadata| {
        metadata.channel_order = ChannelOrder::Bgr;
        metadata.mean.reverse();
        metadata.std.reverse();
    });
    assert_eq!(predicted(), "blue", "the first channel is then blue");
    colours.write(|metadata| {
        metadata.range = PixelRange::Byte;
        metadata.mean.iter_mut().chain(&mut metadata.std).for_each(|value| *value *= 255.0);
    });
    assert_eq!(predicted(), "red", "another scale of everything is the same");
}

/// What a file does not say can be said on the command line, and gives the same answers.
#[test]
fn predict_is_told_how_a_foreign_file_is_to_be_used() {
    let folder = Folder::new();
    let mut model = ModelProto::decode(std::fs::read(folder.path("m.onnx")).unwrap().as_slice()).unwrap();
    model.metadata_props.clear();
    std::fs::write(folder.path("foreign.onnx"), model.encode_to_vec()).unwrap();
    let (code, said) = folder.fails(&["predict", "foreign.onnx", "images"]);
    assert!(code == Some(2) && said.contains("--mean 0.485"), "{said}");
    std::fs::write(folder.path("names.txt"), "ant\nbee\n\nwasp\n").unwrap();
    let told = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--labels", "names.txt"];
    let predict = |model, options: &[&str]| folder.json(&[&["predict", model, "images"], options].concat());
    let known = predict("m.onnx", &[]);
    assert_eq!(predict("foreign.onnx", &told), known);
    assert_ne!(predict("foreign.onnx", &[&told[..], &["--range", "0..255"]].concat()), known);
    let numbered = predict("foreign.onnx", &told[..4]);
    assert!(["0", "1", "2"].map(Value::from).contains(&numbered[0]["classes"][0]["class"]), "{numbered}");
    std::fs::write(folder.path("names.txt"), "ant\nbee\n").unwrap();
    let (_, said) = folder.fails(&[&["predict", "foreign.onnx", "images"], &told[..]].concat());
    assert!(said.contains("gives 3 scores, and --labels has 2 names"), "{said}");
    let (_, said) = folder.fails(&["predict", "foreign.onnx", "images", "--mean", "0.5", "--std", "0.25"]);
    assert!(said.contains("does not fit images of 3 channels"), "{said}");
    // What is said goes before what the file says.
    assert_ne!(predict("m.onnx", &["--range", "0..255"]), known);
}

/// Images that cannot be read do not hide the answers for the others.
#[test]
fn predict_answers_for_what_it_can_read() {
    let folder = Folder::new();
    let whole = std::fs::read(folder.path("images/b.JPG")).unwrap();
    std::fs::create_dir(folder.path("images/deeper")).unwrap();
    std::fs::write(folder.path("images/deeper/cut.jpg"), &whole[..whole.len() - 9]).unwrap();
    std::fs::write(folder.path("images/empty.png"), "").unwrap();
    let output = folder.output(&["predict", "m.onnx", "images"]);
    assert_eq!(output.status.code(), Some(2));
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.as_array().unwrap().len(), 2);
    let said = String::from_utf8_lossy(&output.stderr);
    let named = ["2 images cannot be read", "deeper/cut.jpg: the image's data end too early", "empty.png"];
    assert!(named.iter().all(|part| said.contains(part)), "{said}");
    std::fs::remove_file(folder.path("images/empty.png")).unwrap();
    let answers = folder.json(&["predict", "m.onnx", "images", "--allow-truncated"]);
    assert_eq!(answers.as_array().unwrap().len(), 3);
}

#[test]
fn errors_are_json_too() {
    let folder = Folder::new();
    std::fs::write(folder.path("p.yaml"), "version: 1\nnome: x\n").unwrap();
    let output = folder.output(&["check", "p.yaml"]);
    let error = &serde_json::from_slice::<Value>(&output.stdout).unwrap()["error"];
    assert!(error["message"].as_str().unwrap().starts_with("p.yaml:2:1: unknown key `nome`"), "{error}");
    assert_eq!(
        (error["hint"].as_str(), error["exit_code"].as_u64()),
        (Some("did you mean `name`?"), Some(2))
    );
}

/// The system's loader would end the program with the name of a file.
#[cfg(feature = "train")]
#[test]
#[cfg_attr(not(cohort_namespaces), ignore = "needs user namespaces and tmpfs")]
fn a_missing_libtorch_is_named_with_its_remedy() {
    let script = format!(
        "mount -t tmpfs none {} && exec {} doctor",
        env!("COHORT_LIBTORCH"),
        env!("CARGO_BIN_EXE_cohort")
    );
    let mut unshare = Command::new("unshare");
    let output = unshare.args(["--map-root-user", "--mount", "sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("libtorch is missing: there is no"), "{said}");
    assert!(said.contains("make setup"), "{said}");
}

#[cfg(feature = "train")]
#[test]
fn the_two_programs_belong_together() {
    let folder = Folder::new();
    std::fs::copy(env!("CARGO_BIN_EXE_cohort"), folder.path("cohort")).unwrap();
    let output = Command::new(folder.path("cohort")).arg("doctor").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("belong together"), "{said}");
}

#[test]
fn inspect_counts_the_same_in_a_file_and_in_its_model() {
    let folder = Folder::new();
    let file = folder.json(&["inspect", "m.onnx"]);
    let model = folder.json(&["inspect", "resnet8", "--classes", "3", "--input", "3x8x8"]);
    assert_eq!(file["totals"], model["totals"]);
    assert_eq!(file["metadata"]["student"], "tiny");
    assert_eq!(file["file"]["opset"], 17);
    let shapes = |report: &Value, name: &str| {
        let layers = report["layers"].as_array().unwrap().clone();
        layers.into_iter().find(|layer| layer["name"] == name).unwrap()["shape"].clone()
    };
    assert_eq!(shapes(&file, "stage3.0.conv2"), shapes(&model, "stage3.0.conv2"));
}

#[test]
fn an_untrained_network_can_be_written_and_measured() {
    let folder = Folder::new();
    let model = folder.json(&[
        "inspect",
        "resnet8",
        "--classes",
        "3",
        "--input",
        "3x8x8",
        "--onnx",
        "new/untrained.onnx",
    ]);
    let file = folder.json(&["inspect", "new/untrained.onnx"]);
    assert_eq!(file["totals"]["macs"], model["totals"]["macs"]);
    assert!(file["metadata"].is_null(), "it was trained on nothing");
    let quick = [
        "--engine",
        "tract",
        "--batch",
        "1",
        "--min-samples",
        "5",
        "--min-seconds",
        "0.01",
        "--max-seconds",
        "0.1",
    ];
    let bench = folder.json(&[&["bench", "new/untrained.onnx"][..], &quick].concat());
    assert_eq!(bench["cells"].as_array().unwrap().len(), 1);
    let (code, said) = folder.fails(&["inspect", "new/untrained.onnx", "--onnx", "again.onnx"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("is already an ONNX file"), "{said}");
}

#[test]
fn check_and_doctor_say_what_there_is() {
    let folder = Folder::new();
    let checked = folder.json(&["check"]);
    assert_eq!(checked["input"], serde_json::json!([1, 8, 8]));
    let stages = ["collaborate", "select", "export", "verify", "bench", "report"];
    assert_eq!(checked["stages"], serde_json::json!(stages));
    let ramp = checked["pipeline"]["stages"][0]["collaborate"]["ramp_epochs"].as_u64();
    assert_eq!(ramp, Some(40), "what was left to the method is filled in");
    let doctor = folder.json(&["doctor"]);
    let names: Vec<&str> = doctor["libraries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|library| library["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["libtorch", "ONNX Runtime", "tract"]);
    for library in doctor["libraries"].as_array().unwrap() {
        assert!(library["version"].is_string(), "{library}");
    }
}

#[test]
fn every_pipeline_of_the_project_is_read() {
    let folder = Folder::new();
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    for entry in std::fs::read_dir(pipelines).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_cohort"))
            .current_dir(folder.0.path())
            .args(["check", &path.display().to_string()])
            .env_remove("COHORT_DATA")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let lines = text.lines().filter(|line| line.contains("error") || line.contains("problem")).count();
        let only_data = lines == 1 && text.contains("the data folder") && text.contains("does not exist");
        assert!(output.status.success() || only_data, "{}: {text}", path.display());
    }
}

#[test]
fn every_study_of_the_project_is_read_to_its_last_cell() {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/studies");
    let mut cells = 0;
    for entry in std::fs::read_dir(studies).unwrap() {
        let path = entry.unwrap().path();
        let Ok(study) = cohort::config::load_study(&path) else { continue };
        for cell in &study.spec.cells {
            let overrides = study.spec.overrides(cell, 1, &[]).unwrap();
            let loaded = cohort::config::load_pipeline(&study.pipeline, &overrides)
                .unwrap_or_else(|error| panic!("{}, {}: {error}", path.display(), cell.name));
            assert!(loaded.pipeline.stages.iter().any(|stage| stage.name() == "select"), "{}", cell.name);
            cells += 1;
        }
    }
    assert_eq!(
        cells,
        9 + 4 + 3 * 4 + 3 + 3 * 6 + 4,
        "the folder's models and base pipelines are not studies"
    );
}
