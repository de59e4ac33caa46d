//! Files whose interface differs from those that this program writes, each validated with the command that a user runs.

use std::path::{Path, PathBuf};

use cohort::contract::{Contract, Dim, OutputKind};
use cohort::error::InputError;
use cohort::graph::Model;
use cohort::onnx::{OnnxFile, Severity, emit, plain_contract};
use cohort::progress::Silent;
use cohort::validate::{Request, validate};
use cohort::verify::{ReferenceKind, VerifyReport};
use cohort::zoo;
use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
};

const CLASSES: usize = 4;

fn student() -> Model {
    let spec = zoo::find_model("resnet8", Path::new(".")).unwrap();
    Model::untrained(zoo::build(&spec, [3, 8, 8], CLASSES).unwrap(), 1)
}

/// A student's file under a contract, changed by the test, in a folder of its own.
struct Changed {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn changed(contract: impl Fn(&mut Contract), change: impl Fn(&mut GraphProto)) -> Changed {
    let student = student();
    let mut own = plain_contract(student.graph());
    contract(&mut own);
    let mut model = ModelProto::decode(emit(&student, &own, None).unwrap().as_slice()).unwrap();
    change(model.graph.as_mut().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    Changed { folder, path }
}

impl Changed {
    fn request(&self) -> Request {
        Request { case: Some(self.folder.path().join("case")), ..Request::of(self.path.clone()) }
    }

    fn verified(&self) -> VerifyReport {
        validate(&self.request(), &Silent).unwrap()
    }

    fn refused(&self) -> InputError {
        let error = validate(&self.request(), &Silent).unwrap_err();
        error.downcast::<InputError>().unwrap()
    }
}

fn plain(_: &mut Contract) {}

fn tensor(value: &mut ValueInfoProto) -> &mut Tensor {
    let Value::TensorType(tensor) = value.r#type.as_mut().unwrap().value.as_mut().unwrap();
    tensor
}

fn axes(value: &mut ValueInfoProto) -> &mut Vec<Dimension> {
    &mut tensor(value).shape.as_mut().unwrap().dim
}

fn set_axis(value: &mut ValueInfoProto, axis: usize, size: dimension::Value) {
    axes(value)[axis].value = Some(size);
}

fn declared(name: &str, kind: DataType, sizes: &[i64]) -> ValueInfoProto {
    let dim =
        |size: &i64| Dimension { value: Some(dimension::Value::DimValue(*size)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: sizes.iter().map(dim).collect() };
    let tensor = Tensor { elem_type: kind as i32, shape: Some(shape) };
    let kind = TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> NodeProto {
    let attribute = |(name, i): &(&str, i64)| AttributeProto {
        name: (*name).into(),
        r#type: AttributeType::Int as i32,
        i: *i,
        ..AttributeProto::default()
    };
    NodeProto {
        name: format!("{output}.node"),
        op_type: op.into(),
        input: inputs.iter().map(|input| (*input).to_string()).collect(),
        output: vec![output.into()],
        attribute: attributes.iter().map(attribute).collect(),
        ..NodeProto::default()
    }
}

/// Replaces the last reshape by one that fits a single image only.
fn bake_batch_in(graph: &mut GraphProto) {
    let flatten = graph.node.iter_mut().find(|node| node.op_type == "Flatten").unwrap();
    flatten.op_type = "Reshape".into();
    flatten.name = "head/Reshape".into();
    flatten.attribute.clear();
    flatten.input.push("to".into());
    graph.initializer.push(TensorProto {
        name: "to".into(),
        dims: vec![2],
        data_type: DataType::Int64 as i32,
        int64_data: vec![1, 64],
        ..TensorProto::default()
    });
}

#[test]
fn a_free_batch_is_written_in_several_ways() {
    let symbol = |name: &str| dimension::Value::DimParam(name.into());
    for batch in
        [dimension::Value::DimValue(-1), symbol("batch-size"), symbol("?"), symbol("N + 1"), symbol("")]
    {
        let file = changed(plain, |graph| {
            set_axis(&mut graph.input[0], 0, batch.clone());
            set_axis(&mut graph.output[0], 0, batch.clone());
        });
        let report = file.verified();
        assert!(report.passed && report.batches.len() > 1, "{batch:?}: {}", report.problems());
        assert_eq!(report.engines.len(), 5, "{batch:?}");
    }
    let empty =
        changed(plain, |graph| set_axis(&mut graph.input[0], 0, dimension::Value::DimValue(0))).refused();
    assert!(empty.message.contains("declares a batch of 0"), "{empty}");
}

#[test]
fn a_batch_that_a_reshape_fixes_is_named_and_kept_to() {
    let report = changed(plain, bake_batch_in).verified();
    assert!(report.passed, "{}", report.problems());
    assert_eq!(report.batches, [1]);
    let told = &report.findings[0];
    assert!(
        told.severity == Severity::Warning && told.problem.contains("takes one image at a time"),
        "{told:?}"
    );
    assert!(told.problem.contains("'head/Reshape' (Reshape)"), "{told:?}");
    let frozen = report.findings.iter().any(|finding| finding.problem.contains("frozen batch"));
    assert!(!frozen, "the file does not declare it");
}

#[test]
fn free_sizes_are_asked_for_and_another_size_is_checked() {
    let free = || {
        changed(plain, |graph| {
            for (axis, symbol) in [(2, "height"), (3, "width")] {
                set_axis(&mut graph.input[0], axis, dimension::Value::DimParam(symbol.into()));
            }
        })
    };
    let asked = free().refused();
    assert!(asked.message.contains("[batch, 3, height, width]"), "{asked}");
    assert!(asked.hint.unwrap().contains("--shape"));
    let file = free();
    let report = validate(&Request { shape: Some(vec![3, 12, 8]), ..file.request() }, &Silent).unwrap();
    assert!(report.passed, "{}", report.problems());
    assert_eq!(report.sizes.len(), 1);
    assert!(report.sizes[0].passed && report.sizes[0].sample == [3, 20, 24]);
    let wrong = validate(&Request { shape: Some(vec![1, 8, 8]), ..file.request() }, &Silent).unwrap_err();
    assert!(wrong.to_string().contains("takes images of [3, height, width], not of [1, 8, 8]"), "{wrong}");
}

#[test]
fn a_size_that_is_free_in_name_only_is_told() {
    let vgg = zoo::build(&zoo::find_model("vgg8", Path::new(".")).unwrap(), [3, 32, 32], CLASSES).unwrap();
    let bytes = emit(&Model::untrained(vgg.clone(), 1), &plain_contract(&vgg), None).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    for axis in [2, 3] {
        axes(&mut graph.input[0])[axis].value = None;
    }
    // A mean over a window of fixed size in place of one over the whole image.
    let pool = graph.node.iter_mut().find(|node| node.op_type == "GlobalAveragePool").unwrap();
    *pool = NodeProto { input: pool.input.clone(), ..node("AveragePool", &[], &pool.output[0].clone(), &[]) };
    let ints = vec![4, 4];
    pool.attribute.push(AttributeProto {
        name: "kernel_shape".into(),
        r#type: AttributeType::Ints as i32,
        ints,
        ..AttributeProto::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    let request = Request { shape: Some(vec![3, 32, 32]), ..Request::of(path) };
    let report = validate(&request, &Silent).unwrap();
    assert!(report.passed && report.sizes.is_empty(), "{}", report.problems());
    assert!(
        report.findings[0].problem.contains("at [3, 40, 48] the file does not run"),
        "{:?}",
        report.findings
    );
}

#[test]
fn the_scores_are_found_wherever_they_are() {
    let beside = |first: bool| {
        changed(plain, |graph| {
            graph.node.push(node("ArgMax", &["logits"], "class", &[("axis", 1), ("keepdims", 0)]));
            let class = declared("class", DataType::Int64, &[-1]);
            graph.output.insert(if first { 0 } else { 1 }, class);
        })
    };
    let alone = |contract: &mut Contract| {
        let tensor = &mut contract.outputs[0].tensor;
        tensor.name = "class".into();
        tensor.dims = vec![Dim::Symbolic("n".into())];
        tensor.element = cohort::contract::Element::Integer { least: i64::MIN, most: i64::MAX };
        contract.outputs[0].kind = OutputKind::Decision;
    };
    for file in [beside(true), beside(false), changed(alone, |_| {})] {
        let report = file.verified();
        assert!(report.passed, "{}", report.problems());
        assert!(report.engines.iter().all(|engine| engine.sets[0].samples > 1));
        assert!(report.truth.contains("own nodes"), "{}", report.truth);
    }
    assert!(changed(alone, |_| {}).verified().truth.contains("before the ArgMax"));
}

#[test]
fn a_row_of_scores_may_have_axes_of_length_one() {
    for sizes in [&[CLASSES, 1, 1][..], &[1, 1, CLASSES]] {
        for kind in [OutputKind::Logits, OutputKind::Probabilities] {
            let contract = |contract: &mut Contract| {
                let free = Dim::Symbolic("n".into());
                let sizes = sizes.iter().map(|&size| Dim::Fixed(size));
                contract.outputs[0].tensor.dims = std::iter::once(free).chain(sizes).collect();
                contract.outputs[0].kind = kind;
            };
            let report = changed(contract, |_| {}).verified();
            assert!(report.passed, "{sizes:?}, {kind:?}: {}", report.problems());
        }
    }
}

#[test]
fn outputs_that_are_no_numbers_are_left_out() {
    let zipped = |graph: &mut GraphProto| {
        let names = AttributeProto {
            name: "classlabels_strings".into(),
            r#type: AttributeType::Strings as i32,
            strings: ["a", "b", "c", "d"].iter().map(|name| name.as_bytes().to_vec()).collect(),
            ..AttributeProto::default()
        };
        let zip = NodeProto { domain: "ai.onnx.ml".into(), ..node("ZipMap", &["logits"], "loss", &[]) };
        graph.node.push(NodeProto { attribute: vec![names], ..zip });
        // The protocol buffers used here have no type for a list of maps.
        let list =
            ValueInfoProto { name: "loss".into(), r#type: Some(TypeProto::default()), ..Default::default() };
        graph.output = vec![list];
    };
    let file = changed(plain, zipped);
    assert_eq!(OnnxFile::load(&file.path).unwrap().contract.classes, ["a", "b", "c", "d"]);
    let report = file.verified();
    assert!(report.passed, "{}", report.problems());
    let told = report.findings.iter().any(|finding| finding.problem.contains("'loss' is left out"));
    assert!(told, "{:?}", report.findings);

    let untyped = changed(plain, |graph| graph.output[0].r#type = None).verified();
    assert!(untyped.passed, "{}", untyped.problems());

    let words =
        changed(plain, |graph| tensor(&mut graph.output[0]).elem_type = DataType::String as i32).refused();
    assert!(
        words.message.contains("no output is a tensor of numbers: 'logits' is a tensor of type STRING"),
        "{words}"
    );
    assert!(words.hint.unwrap().contains("extract_model"));
}

#[test]
fn an_output_is_chosen_by_its_name() {
    let heads = |graph: &mut GraphProto| {
        graph.node.push(node("Neg", &["logits"], "negated", &[]));
        graph.node.push(node("Identity", &["logits"], "first", &[]));
        graph.output = vec![
            declared("first", DataType::Float, &[-1, CLASSES as i64]),
            declared("negated", DataType::Float, &[-1, CLASSES as i64]),
        ];
    };
    let file = changed(plain, heads);
    let report = file.verified();
    assert!(report.passed, "{}", report.problems());
    let told =
        report.findings.iter().find(|finding| finding.problem.contains("could be the scores")).unwrap();
    assert!(told.problem.ends_with("'first' is compared") && told.remedy.contains("--output"), "{told:?}");
    let other = validate(&Request { output: Some("negated".into()), ..file.request() }, &Silent).unwrap();
    assert!(other.passed, "{}", other.problems());
    let typo = validate(&Request { output: Some("negatd".into()), ..file.request() }, &Silent).unwrap_err();
    let typo = typo.downcast::<InputError>().unwrap();
    assert!(typo.hint.unwrap().contains("first, negated"));
}

#[test]
fn an_output_that_is_the_same_for_every_image_fails() {
    let report = changed(plain, |graph| {
        graph.node.push(node("Sub", &["logits", "logits"], "zero", &[]));
        graph.output = vec![declared("zero", DataType::Float, &[-1, CLASSES as i64])];
    })
    .verified();
    assert!(!report.passed && report.engines.iter().all(|engine| engine.passed));
    assert!(report.findings[0].problem.contains("the same for every input"), "{:?}", report.findings);
}

#[test]
fn a_stray_manifest_does_not_make_a_file_a_runs() {
    let file = changed(plain, |_| {});
    let inner = file.folder.path().join("models");
    std::fs::create_dir(&inner).unwrap();
    let moved = inner.join("model.onnx");
    std::fs::rename(&file.path, &moved).unwrap();
    std::fs::write(file.folder.path().join("manifest.json"), "{\"name\": \"a web app\"}").unwrap();
    let report = validate(&Request::of(moved), &Silent).unwrap();
    assert!(report.passed && report.truth.contains("own nodes"), "{}", report.truth);
}

#[test]
fn an_input_that_no_node_reads_does_not_count() {
    let with_input = |name: &'static str, read: bool| {
        changed(plain, move |graph| {
            graph.input.push(declared(name, DataType::Float, &[1]));
            if read {
                graph.node.push(node("Add", &["logits", name], "sum", &[]));
                graph.output = vec![declared("sum", DataType::Float, &[-1, CLASSES as i64])];
            }
        })
    };
    let report = with_input("unused", false).verified();
    assert!(report.passed && report.engines.len() == 5, "{}", report.problems());
    let two = with_input("offset", true).refused();
    assert!(
        two.message.contains("2 inputs, expected the images alone: 'image' [batch, 3, 8, 8], 'offset' [1]"),
        "{two}"
    );
}

#[test]
fn a_quantised_file_is_compared_with_floats_by_its_decisions() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let (int8, floats) = (fixtures.join("op_quantised.onnx"), fixtures.join("op_norms.onnx"));
    let request = Request { reference: Some(floats.clone()), ..Request::of(int8.clone()) };
    let report = validate(&request, &Silent).unwrap();
    assert_eq!(report.reference_kind, ReferenceKind::Unquantized);
    assert!(report.passed, "without images its decisions are only told: {}", report.problems());
    let changed =
        |report: &VerifyReport| report.engines[0].sets.iter().map(|set| set.flips.len()).sum::<usize>();
    assert!(changed(&report) > 0, "the two are different networks");
    // With the files exchanged, or with two files in floats, every number is compared.
    let folder = tempfile::tempdir().unwrap();
    let case = Some(folder.path().join("case"));
    let request = Request { reference: Some(int8), case, ..Request::of(floats) };
    let report = validate(&request, &Silent).unwrap();
    assert!(!report.passed && report.reference_kind == ReferenceKind::Reference);
}
