//! Files keep the contract under which they are written: names, types, layout, batch, shapes and kinds of outputs.

use std::path::{Path, PathBuf};

use cohort::config::EngineName;
use cohort::contract::{Contract, Dim, Element, Layout, Output, OutputKind, Precision, TensorInfo};
use cohort::engine::{EngineOptions, open};
use cohort::graph::{Graph, Model, with_channels_last};
use cohort::onnx::{OnnxFile, emit, import, plain_contract};
use cohort::zoo;
use ndarray::{ArrayD, Axis};

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    assert!(paths.len() > 10);
    paths
}

fn load(bytes: Vec<u8>) -> OnnxFile {
    OnnxFile::from_bytes(bytes, Path::new("emitted.onnx")).unwrap()
}

fn answers(file: &OnnxFile, engine: EngineName, images: &ArrayD<f32>) -> ArrayD<f32> {
    let mut engine = open(file, engine, &EngineOptions::default()).unwrap();
    engine.run(images.view()).unwrap().swap_remove(file.contract.answer)
}

#[test]
fn every_file_can_be_written_again_under_its_own_contract() {
    for path in fixtures() {
        let file = OnnxFile::load(&path).unwrap();
        let imported = import(&file).unwrap();
        if file.contract.precision == Precision::Int8 {
            let refused = emit(&imported.model, &imported.contract, None).unwrap_err();
            assert!(refused.to_string().contains("int8"), "{refused}");
            continue;
        }
        let again = load(emit(&imported.model, &imported.contract, None).unwrap());
        assert_eq!(again.contract, imported.contract, "{}", path.display());
        assert_eq!(import(&again).unwrap().contract, imported.contract, "{}", path.display());

        let images: ArrayD<f32> = ndarray_npy::read_npy(path.with_extension("input.npy")).unwrap();
        let given = [&file, &again].map(|file| answers(file, EngineName::OrtCpu, &images));
        assert_eq!(given[0].shape(), given[1].shape(), "{}", path.display());
        let largest = given[0].iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let apart = given[0].iter().zip(&given[1]).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        let tolerance = if file.contract.precision == Precision::Float16 { 2e-2 } else { 1e-4 };
        assert!(apart <= tolerance * largest, "{}: {apart} of {largest}", path.display());
    }
}

fn student() -> Model {
    let spec = zoo::find_model("resnet8", Path::new(".")).unwrap();
    Model::untrained(zoo::build(&spec, [3, 8, 8], 4).unwrap(), 1)
}

fn images(shape: [usize; 4]) -> ArrayD<f32> {
    ArrayD::from_shape_fn(shape.to_vec(), |at| {
        ((at[0] * 31 + at[1] * 17 + at[2] * 7 + at[3] * 3) % 256) as f32
    })
}

/// A contract that shares nothing with the plain one: bytes with the channels last, a fixed batch, other names, one of
/// which is that of an inner tensor, and probabilities of two more axes in double precision.
fn another(graph: &Graph) -> Contract {
    let bytes = Element::Integer { least: 0, most: 255 };
    let dims = |sizes: &[usize]| sizes.iter().map(|&size| Dim::Fixed(size)).collect();
    Contract {
        input: TensorInfo { name: "classifier".into(), element: bytes, dims: dims(&[2, 8, 8, 3]) },
        layout: Layout::ChannelsLast,
        outputs: vec![Output {
            tensor: TensorInfo { name: "image".into(), element: Element::Float64, dims: dims(&[2, 4, 1, 1]) },
            kind: OutputKind::Probabilities,
        }],
        ..plain_contract(graph)
    }
}

#[test]
fn a_student_drops_in_for_another_file() {
    let student = student();
    let plain = load(emit(&student, &plain_contract(student.graph()), None).unwrap());
    let contract = another(student.graph());
    let model = with_channels_last(&student).unwrap();
    let last = images([2, 8, 8, 3]);
    let planar = last.view().permuted_axes(vec![0, 3, 1, 2]).as_standard_layout().into_owned();
    for precision in [Precision::Float32, Precision::Float16] {
        let contract = Contract { precision, ..contract.clone() };
        let file = load(emit(&model, &contract, None).unwrap());
        assert_eq!(file.contract, contract);
        for engine in [EngineName::OrtCpu, EngineName::Tract] {
            let logits = answers(&plain, engine, &planar).mapv(f64::from);
            let expected = OutputKind::Probabilities.of_logits(logits);
            let found = answers(&file, engine, &last).index_axis_move(Axis(3), 0).index_axis_move(Axis(2), 0);
            let apart =
                found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            let tolerance = if precision == Precision::Float16 { 2e-2 } else { 1e-5 };
            assert!(apart < tolerance, "{engine:?}, {precision:?}: {apart}");
        }
    }
}

/// A student that replaces a file whose only output is the class also outputs only the class.
#[test]
fn a_student_gives_decisions_where_the_contract_does() {
    let student = student();
    let plain = load(emit(&student, &plain_contract(student.graph()), None).unwrap());
    let planar = images([3, 3, 8, 8]);
    for (dims, element) in [
        (vec![Dim::Symbolic("n".into())], Element::Integer { least: i64::MIN, most: i64::MAX }),
        (vec![Dim::Symbolic("n".into()), Dim::Fixed(1)], Element::Integer { least: 0, most: 255 }),
    ] {
        let tensor = TensorInfo { name: "class".into(), element, dims: dims.clone() };
        let contract = Contract {
            outputs: vec![Output { tensor, kind: OutputKind::Decision }],
            ..plain_contract(student.graph())
        };
        let file = load(emit(&student, &contract, None).unwrap());
        assert_eq!(file.contract, contract);
        assert_eq!(import(&file).unwrap().contract, contract);
        for engine in [EngineName::OrtCpu, EngineName::Tract] {
            let logits = answers(&plain, engine, &planar).mapv(f64::from);
            let found = answers(&file, engine, &planar);
            assert_eq!(found.ndim(), dims.len());
            let expected = OutputKind::Decision.of_logits(logits);
            assert!(found.iter().zip(&expected).all(|(a, b)| f64::from(*a) == *b), "{engine:?}: {found}");
        }
    }
}

#[test]
fn a_contract_that_is_not_the_models_is_refused() {
    let student = student();
    let plain = plain_contract(student.graph());
    let refused = |change: &dyn Fn(&mut Contract)| {
        let mut contract = plain.clone();
        change(&mut contract);
        format!("{:#}", emit(&student, &contract, None).unwrap_err())
    };
    let image = refused(&|contract| contract.input = TensorInfo::batched("image", &[3, 9, 9]));
    assert_eq!(image, "the contract takes images [3, 9, 9] and the model [3, 8, 8]");
    let classes = refused(&|contract| contract.outputs[0].tensor = TensorInfo::batched("logits", &[5]));
    assert!(classes.starts_with("the contract's output 'logits' is [Fixed(5)]"), "{classes}");
    let twice = refused(&|contract| contract.outputs.push(contract.outputs[0].clone()));
    assert_eq!(twice, "the model has nothing for the output 'logits'");
    let int8 = refused(&|contract| contract.precision = Precision::Int8);
    assert_eq!(int8, "files of precision int8 cannot be written yet");
}
