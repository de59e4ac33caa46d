//! Training steps compared with the same steps in PyTorch, term by term.
#![cfg(feature = "train")]

use std::collections::BTreeMap;

use cohort::config::{LossTerms, LossWeights, Method, Optimizer, Sgd, Updates, parse};
use cohort::epoch::Term;
use cohort::graph::{Model, Role, Weights, fold_batch_norm, initial_weights, params};
use cohort::torch::Network;
use cohort::train::{Answerer, Iteration, Learner, OptimizerState, Targets, Teaching, step};
use cohort::zoo;
use ndarray::ArrayD;
use tch::{Device, Kind, Tensor};

/// Three steps as `scripts/reference-step.py` recorded them: by step, by student, by term.
const REFERENCE: &str = include_str!("reference/step.json");

const CLASSES: i64 = 100;
const BATCH: i64 = 16;
const SIZE: i64 = 16;

/// The same value as in the script.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 16) as u16) / 32_768.0 - 1.0
    };
    (0..count).map(next).collect()
}

fn student(number: u32, kind: Kind, device: Device) -> Learner<'static> {
    let spec = parse("family: resnet_cifar\ndepth: 20\n", "test").unwrap();
    let graph = zoo::build(&spec, [3, SIZE as usize, SIZE as usize], CLASSES as usize).unwrap();
    let mut weights: Weights = initial_weights(&graph, 0);
    let trained = params(&graph).into_iter().filter(|spec| spec.role != Role::Buffer);
    for (index, spec) in trained.enumerate() {
        let scale = match spec.name.as_str() {
            name if name.starts_with("classifier") => 0.125,
            name if name.contains("bn.weight")
                || name.contains("bn1.weight")
                || name.contains("bn2.weight") =>
            {
                continue;
            }
            _ => 0.0625,
        };
        let count = spec.shape.iter().product();
        let values = noise(count, number * 1_000 + index as u32).into_iter().map(|value| value * scale);
        weights.insert(spec.name, ArrayD::from_shape_vec(spec.shape, values.collect()).unwrap());
    }
    let network = |model: &Model| Network::new(model, device, kind).unwrap();
    let model = Model::new(graph, weights).unwrap();
    let learning = network(&model);
    let optimizer = Optimizer::Sgd(Sgd { lr: 0.05, ..Sgd::default() });
    Learner {
        name: format!("student {number}"),
        optimizer: OptimizerState::new(&learning, &optimizer).unwrap(),
        network: learning,
        frozen: Some(Answerer::Network(network(&fold_batch_norm(&model).unwrap()))),
        lr_factor: 1.0,
    }
}

fn images() -> Tensor {
    Tensor::from_slice(&noise((BATCH * 3 * SIZE * SIZE) as usize, 7)).view([BATCH, 3, SIZE, SIZE])
}

/// The largest relative error over the recorded steps.
fn largest_error(kind: Kind, steps: usize, device: Device) -> (f64, String) {
    let mut students = [student(1, kind, device), student(2, kind, device)];
    let images = images().to_kind(kind).to_device(device);
    let labels: Vec<i64> = (0..BATCH).map(|index| 7 * index % CLASSES).collect();
    let targets = Targets::plain(Tensor::from_slice(&labels).to_device(device));
    let weights =
        LossWeights { beta: Some(1.0), beta2: Some(1.0), gamma: Some(1.0), ..LossWeights::default() };
    let terms = Method::CtslMktPaper.terms(&weights);
    let teaching = Teaching { terms: &terms, updates: Updates::Simultaneous, teacher: None };
    let reference: Vec<Vec<BTreeMap<String, f64>>> = serde_json::from_str(REFERENCE).unwrap();
    assert_eq!(reference.len(), 3);
    let mut largest = (0.0, String::new());
    for (index, expected) in reference.iter().enumerate().take(steps) {
        let iteration = Iteration { step: index + 1, lr: 0.05 };
        let rows = step(&mut students, &teaching, &images, &targets, iteration).unwrap();
        for (student, expected) in expected.iter().enumerate() {
            for (name, term) in [
                ("cross_entropy", Term::CrossEntropy),
                ("distance", Term::Distance),
                ("angle", Term::Angle),
                ("response", Term::Response),
                ("self_distillation", Term::SelfDistillation),
            ] {
                let found = rows.double_value(&[student as i64, term as i64]);
                let error = (found - expected[name]).abs() / expected[name].abs();
                if error > largest.0 {
                    let expected = expected[name];
                    largest =
                        (error, format!("step {index}, student {student}, {name}: {found}, not {expected}"));
                }
            }
        }
    }
    largest
}

#[test]
fn every_term_is_pytorchs() {
    terms_are_pytorchs_on(Device::Cpu);
}

#[test]
#[ignore = "needs CUDA"]
fn every_term_is_pytorchs_on_cuda() {
    let device = cohort::torch::resolve_device(cohort::config::Device::Cuda(0)).unwrap();
    cohort::torch::set_convolutions(false, false).unwrap();
    terms_are_pytorchs_on(device);
}

#[track_caller]
fn terms_are_pytorchs_on(device: Device) {
    let (error, place) = largest_error(Kind::Double, 3, device);
    assert!(error < 1e-6, "float64, {place}");
    let (error, place) = largest_error(Kind::Float, 1, device);
    assert!(error < 1e-4, "float32, {place}");
}

/// Alternate updates: the second student sees the updated first one, so its response term differs, and nothing else in
/// its first step does.
#[test]
fn alternate_updates_show_peers_as_they_have_become() {
    let images =
        Tensor::from_slice(&noise((BATCH * 3 * SIZE * SIZE) as usize, 7)).view([BATCH, 3, SIZE, SIZE]);
    let targets = Targets::plain(Tensor::from_slice(&(0..BATCH).collect::<Vec<_>>()));
    let terms = Method::CtslMktPaper.terms(&LossWeights::default());
    let first_step = |updates| {
        let mut students = [student(1, Kind::Float, Device::Cpu), student(2, Kind::Float, Device::Cpu)];
        let teaching = Teaching { terms: &terms, updates, teacher: None };
        step(&mut students, &teaching, &images, &targets, Iteration { step: 1, lr: 0.05 }).unwrap()
    };
    let (together, in_turn) = (first_step(Updates::Simultaneous), first_step(Updates::Alternate));
    let term = |rows: &Tensor, student, term: Term| rows.double_value(&[student, term as i64]);
    for one in [Term::CrossEntropy, Term::Response, Term::Angle, Term::Distance] {
        assert_eq!(term(&together, 0, one), term(&in_turn, 0, one), "{one:?} of the first student");
    }
    assert_eq!(term(&together, 1, Term::CrossEntropy), term(&in_turn, 1, Term::CrossEntropy));
    for one in [Term::Response, Term::Angle, Term::Distance] {
        assert_ne!(term(&together, 1, one), term(&in_turn, 1, one), "{one:?} of the second student");
    }
}

/// A frozen teacher with the student's own weights gives a loss of zero; another teacher does not.
#[test]
fn a_teacher_teaches_what_the_student_does_not_know() {
    let images =
        Tensor::from_slice(&noise((BATCH * 3 * SIZE * SIZE) as usize, 7)).view([BATCH, 3, SIZE, SIZE]);
    let targets = Targets::plain(Tensor::from_slice(&(0..BATCH).collect::<Vec<_>>()));
    let all = LossWeights { teacher_distance: Some(1.0), teacher_angle: Some(1.0), ..LossWeights::default() };
    let terms = Method::Kd.terms(&all);
    let mut learner = [student(1, Kind::Float, Device::Cpu)];
    let other = student(2, Kind::Float, Device::Cpu).frozen.unwrap();
    let teaching = Teaching { terms: &terms, updates: Updates::Simultaneous, teacher: Some(&other) };
    let rows = step(&mut learner, &teaching, &images, &targets, Iteration { step: 1, lr: 0.0 }).unwrap();
    for one in [Term::Teacher, Term::TeacherDistance, Term::TeacherAngle] {
        assert!(rows.double_value(&[0, one as i64]) > 1e-3, "{one:?}");
    }
    assert_eq!(rows.double_value(&[0, Term::Response as i64]), 0.0, "there is no peer");
}

/// Alone in the loss, every term becomes smaller by a small step, and nothing but its own weight makes the total.
#[test]
fn every_term_is_minimised() {
    let own = |change: fn(&mut LossWeights)| {
        let mut weights = LossWeights { alpha: Some(0.0), ..LossWeights::default() };
        change(&mut weights);
        Method::Plain.terms(&weights)
    };
    let mutual = |change: fn(&mut LossWeights)| {
        let mut terms = own(change);
        terms.beta = 2.0;
        terms
    };
    let plain = Method::Plain.terms(&LossWeights::default());
    let all: Vec<(Term, LossTerms)> = vec![
        (Term::CrossEntropy, plain),
        (Term::Distance, mutual(|weights| weights.beta0 = Some(3.0))),
        (Term::Angle, mutual(|weights| weights.beta1 = Some(3.0))),
        (Term::Response, mutual(|weights| weights.beta2 = Some(3.0))),
        (Term::Contrast, mutual(|weights| weights.beta3 = Some(3.0))),
        (Term::SelfDistillation, own(|weights| weights.gamma = Some(0.5))),
        (Term::Teacher, own(|weights| weights.teacher = Some(0.5))),
        (Term::TeacherDistance, own(|weights| weights.teacher_distance = Some(3.0))),
        (Term::TeacherAngle, own(|weights| weights.teacher_angle = Some(3.0))),
        (Term::TeacherTarget, own(|weights| weights.teacher_target = Some(0.5))),
        (Term::TeacherOthers, own(|weights| weights.teacher_others = Some(0.5))),
        (Term::TeacherClasses, own(|weights| weights.teacher_classes = Some(0.5))),
        (Term::TeacherImages, own(|weights| weights.teacher_images = Some(0.5))),
        (Term::TeacherTransformed, own(|weights| weights.teacher_transformed = Some(0.5))),
        (Term::TeacherFeatures, own(|weights| weights.teacher_features = Some(0.5))),
        (Term::SmoothTeacher, own(|weights| weights.smooth_teacher = Some(0.5))),
    ];
    assert_eq!(all.len(), Term::ALL.len(), "a term is not tried");
    let images = images().to_kind(Kind::Double);
    let targets = Targets::plain(Tensor::from_slice(&(0..BATCH).collect::<Vec<_>>()));
    let frozen = |number| student(number, Kind::Double, Device::Cpu).frozen.unwrap();
    let other = frozen(3);
    for (term, terms) in all {
        for standardised in [false, true] {
            let terms = LossTerms {
                standardise_peers: standardised,
                standardise_self: standardised,
                standardise_teacher: standardised,
                ..terms
            };
            // The peer only answers: its learning rate is 0.
            let mut learners = vec![student(1, Kind::Double, Device::Cpu)];
            if terms.mutual() {
                let peer = student(2, Kind::Double, Device::Cpu);
                learners.push(Learner { lr_factor: 0.0, ..peer });
            }
            learners[0].frozen = (term == Term::SelfDistillation).then(|| frozen(4));
            let teaching = Teaching { terms: &terms, updates: Updates::Simultaneous, teacher: Some(&other) };
            let mut measure = |number, lr| {
                let rows = step(&mut learners, &teaching, &images, &targets, Iteration { step: number, lr })
                    .unwrap();
                let of = |column: usize| rows.double_value(&[0, column as i64]);
                let total = of(Term::ALL.len());
                let found = of(term as usize);
                assert!((total - terms.weight(term) * found).abs() < 1e-9 * total.abs(), "{term:?}: {total}");
                found
            };
            let before = measure(1, 1e-3);
            let after = measure(2, 0.0);
            assert!(before > 0.0 && after < before, "{term:?}, {standardised}: {before}, then {after}");
        }
    }
}
