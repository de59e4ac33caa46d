//! One step of the cohort: every student's forward pass, all losses, every student's update.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use crate::config::{LossTerms, Updates};
use crate::epoch::Term;
use crate::torch::{Answer, Gradients, Network, Pass, channels_last};

use super::answers::Answerer;
use super::contrast::contrast;
use super::distillation::{
    correlations, feature_maps, other_classes, standardised, target_class, transformed,
};
use super::losses::{Targets, cross_entropy, response, smooth_teacher};
use super::metrics::{COLUMNS, HITS, TOTAL};
use super::optimizer::OptimizerState;
use super::relations::{Comparison, Difference, compare};
use super::schedule::Iteration;

/// A student while it is trained.
pub struct Learner<'a> {
    pub name: String,
    pub network: Network,
    /// The same student, pre-trained alone and frozen, for the self-distillation.
    pub frozen: Option<Answerer<'a>>,
    pub optimizer: OptimizerState,
    /// Factor on the learning rate of each iteration.
    pub lr_factor: f64,
}

/// Everything but the students that decides a step.
pub struct Teaching<'a> {
    pub terms: &'a LossTerms,
    pub updates: Updates,
    /// The frozen teacher of all students.
    pub teacher: Option<&'a Answerer<'a>>,
}

/// A network's outputs for a batch, in float32 or float64 and detached from how they were computed.
struct Outputs {
    /// `[batch, classes]`.
    logits: Tensor,
    /// `[batch, features]`.
    embedding: Tensor,
    /// The feature maps before pooling, `[batch, channels, height, width]`, of a network that has them.
    features: Option<Tensor>,
}

impl Outputs {
    fn new(logits: &Tensor, embedding: &Tensor, features: Option<&Tensor>) -> Result<Self> {
        let plain = |tensor: &Tensor| {
            let kind = if tensor.kind() == Kind::Double { Kind::Double } else { Kind::Float };
            anyhow::Ok(tensor.f_detach()?.f_to_kind(kind)?)
        };
        let flat = |tensor: &Tensor| anyhow::Ok(plain(tensor)?.f_flatten(1, -1)?);
        let features = features.map(plain).transpose()?;
        Ok(Self { logits: flat(logits)?, embedding: flat(embedding)?, features })
    }

    fn of(pass: &Pass) -> Result<Self> {
        let logits = pass.logits().context("a pass has logits")?;
        Self::new(logits, pass.embedding().context("a pass has an embedding")?, pass.features())
    }

    fn answered(network: &Answerer<'_>, images: &Tensor) -> Result<Self> {
        let Answer { logits, embedding, features } = network.answer(images)?;
        Self::new(&logits, &embedding, features.as_ref())
    }
}

/// Trains all students on one batch and returns the measured terms, `[students, COLUMNS]`, still on the device.
///
/// # Errors
/// If libtorch fails.
pub fn step(
    students: &mut [Learner<'_>],
    teaching: &Teaching<'_>,
    images: &Tensor,
    targets: &Targets,
    iteration: Iteration,
) -> Result<Tensor> {
    let images = channels_last(images)?;
    let mut passes = Vec::with_capacity(students.len());
    let mut outputs = Vec::with_capacity(students.len());
    for student in students.iter_mut() {
        let pass = student.network.learn(&images)?;
        outputs.push(Outputs::of(&pass)?);
        passes.push(Some(pass));
    }
    let teacher = match teaching.teacher {
        Some(teacher) if teaching.terms.taught() => Some(Outputs::answered(teacher, &images)?),
        Some(_) | None => None,
    };
    let count = students.len();
    let everyone: Vec<usize> = (0..count).collect();
    let mut related = match teaching.updates {
        Updates::Simultaneous => relate(&outputs, teacher.as_ref(), teaching.terms, &everyone)?,
        Updates::Alternate => Vec::new(),
    };
    let mut rows = Vec::with_capacity(count);
    for index in 0..count {
        let relation = match teaching.updates {
            Updates::Simultaneous => related[index].take(),
            Updates::Alternate => {
                relate(&outputs, teacher.as_ref(), teaching.terms, &[index])?.pop().flatten()
            }
        };
        let student = &mut students[index];
        let own_past = match &student.frozen {
            Some(frozen) if teaching.terms.gamma > 0.0 => Some(Outputs::answered(frozen, &images)?.logits),
            Some(_) | None => None,
        };
        let view = View { outputs: &outputs, index, teacher: teacher.as_ref(), own_past: own_past.as_ref() };
        let losses = losses(&view, relation.as_ref(), teaching.terms, targets)?;
        let pass = passes[index].take().context("each student learns once a step")?;
        let related = relation.and_then(|relation| relation.gradient);
        let embedding = match (related, losses.embedding) {
            (Some(one), Some(other)) => Some(one.f_add(&other)?),
            (one, other) => one.or(other),
        };
        let gradients = Gradients { logits: losses.gradient, embedding, features: losses.features };
        student.network.backward(pass, &gradients).with_context(|| format!("student '{}'", student.name))?;
        let iteration = Iteration { lr: iteration.lr * student.lr_factor, ..iteration };
        student.optimizer.step(&student.network, iteration)?;
        student.network.restore()?;
        rows.push(losses.row);
        if teaching.updates == Updates::Alternate && index + 1 < count {
            outputs[index] = Outputs::of(&student.network.look_again(&images)?)?;
        }
    }
    Ok(Tensor::f_stack(&rows, 0)?)
}

/// One student's relational terms, and the gradient of its embedding.
struct Relation {
    distance: Option<Tensor>,
    angle: Option<Tensor>,
    teacher_distance: Option<Tensor>,
    teacher_angle: Option<Tensor>,
    gradient: Option<Tensor>,
}

/// Compares embeddings for the students in `learners`; `None` where no relational term is on.
fn relate(
    outputs: &[Outputs],
    teacher: Option<&Outputs>,
    terms: &LossTerms,
    learners: &[usize],
) -> Result<Vec<Option<Relation>>> {
    let mut comparisons = Vec::new();
    let peers = outputs.len().saturating_sub(1).max(1) as f64;
    for &learner in learners {
        if terms.relational() {
            for other in (0..outputs.len()).filter(|&other| other != learner) {
                let weight = terms.beta / peers;
                let (distance, angle) = (weight * terms.beta0, weight * terms.beta1);
                comparisons.push(Comparison { learner, other, distance, angle });
            }
        }
        if teacher.is_some() && (terms.teacher_distance > 0.0 || terms.teacher_angle > 0.0) {
            let (distance, angle) = (terms.teacher_distance, terms.teacher_angle);
            comparisons.push(Comparison { learner, other: outputs.len(), distance, angle });
        }
    }
    if comparisons.is_empty() {
        return Ok(learners.iter().map(|_| None).collect());
    }
    let embeddings: Vec<Tensor> =
        outputs.iter().chain(teacher).map(|outputs| outputs.embedding.shallow_clone()).collect();
    let (differences, mut gradients) = compare(&embeddings, &comparisons)?;
    let mut relations = Vec::with_capacity(learners.len());
    for &learner in learners {
        let of = |teacher: bool, term: fn(&Difference) -> &Tensor, on: fn(&Comparison) -> f64| {
            let mine = comparisons.iter().zip(&differences).filter(|(one, _)| {
                one.learner == learner && (one.other == outputs.len()) == teacher && on(one) > 0.0
            });
            let values: Vec<&Tensor> = mine.map(|(_, difference)| term(difference)).collect();
            if values.is_empty() {
                return anyhow::Ok(None);
            }
            Ok(Some(Tensor::f_stack(&values, 0)?.f_mean(outputs[0].embedding.kind())?))
        };
        relations.push(Some(Relation {
            distance: of(false, |difference| &difference.distance, |one| one.distance)?,
            angle: of(false, |difference| &difference.angle, |one| one.angle)?,
            teacher_distance: of(true, |difference| &difference.distance, |one| one.distance)?,
            teacher_angle: of(true, |difference| &difference.angle, |one| one.angle)?,
            gradient: gradients[learner].take(),
        }));
    }
    Ok(relations)
}

/// What a student's losses are computed from.
struct View<'a> {
    outputs: &'a [Outputs],
    index: usize,
    teacher: Option<&'a Outputs>,
    /// Logits of the student's frozen copy.
    own_past: Option<&'a Tensor>,
}

/// A student's losses.
struct Losses {
    /// The gradient of the logits, from all terms that read them.
    gradient: Tensor,
    /// The gradient of the embedding, from the contrast.
    embedding: Option<Tensor>,
    /// The gradient of the feature maps.
    features: Option<Tensor>,
    /// All terms without their weights, the total and the hits: `[COLUMNS]`.
    row: Tensor,
}

fn losses(
    view: &View<'_>,
    relation: Option<&Relation>,
    terms: &LossTerms,
    targets: &Targets,
) -> Result<Losses> {
    let own = &view.outputs[view.index];
    let logits = own.logits.f_detach()?.f_set_requires_grad(true)?;
    let kind = logits.kind();
    let zero = Tensor::f_zeros([], (kind, logits.device()))?;
    let mut values: Vec<Tensor> = (0..COLUMNS).map(|_| zero.shallow_clone()).collect();
    let mut total = zero.shallow_clone();
    let on = |term: Term| terms.weight(term) > 0.0;
    let mut add = |term: Term, value: Tensor| -> Result<()> {
        values[term as usize] = value.f_detach()?;
        total = total.f_add(&(value * terms.weight(term)))?;
        Ok(())
    };
    let as_compared = |switch: bool, logits: &Tensor| match switch {
        true => standardised(logits),
        false => Ok(logits.shallow_clone()),
    };
    let mean_over_peers = |term: &dyn Fn(&Outputs) -> Result<Tensor>| -> Result<Tensor> {
        let peers = view.outputs.iter().enumerate().filter(|(other, _)| *other != view.index);
        let each = peers.map(|(_, peer)| term(peer)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_stack(&each, 0)?.f_mean(kind)?)
    };
    if on(Term::CrossEntropy) {
        add(Term::CrossEntropy, cross_entropy(&logits, targets, terms.label_smoothing)?)?;
    }
    if on(Term::Response) {
        let switch = terms.standardise_peers;
        let student = as_compared(switch, &logits)?;
        let term = |peer: &Outputs| response(&student, &as_compared(switch, &peer.logits)?, 1.0);
        add(Term::Response, mean_over_peers(&term)?)?;
    }
    let mut embedding = None;
    if on(Term::Contrast) {
        let leaf = own.embedding.f_detach()?.f_set_requires_grad(true)?;
        let term = |peer: &Outputs| contrast(&leaf, &peer.embedding, terms.contrast_temperature);
        let value = mean_over_peers(&term)?;
        add(Term::Contrast, value.f_detach()?)?;
        let weighted = value * terms.weight(Term::Contrast);
        embedding = Some(Tensor::f_run_backward(&[weighted], &[&leaf], false, false)?.swap_remove(0));
    }
    let mut features = None;
    if let (true, Some(teacher)) = (on(Term::TeacherFeatures), view.teacher) {
        let [own, theirs] =
            [own, teacher].map(|outputs| outputs.features.as_ref().context("a plan has checked the heads"));
        let leaf = own?.f_detach()?.f_set_requires_grad(true)?;
        let value = feature_maps(&leaf, theirs?)?;
        add(Term::TeacherFeatures, value.f_detach()?)?;
        let weighted = value * terms.weight(Term::TeacherFeatures);
        features = Some(Tensor::f_run_backward(&[weighted], &[&leaf], false, false)?.swap_remove(0));
    }
    if let (true, Some(own_past)) = (on(Term::SelfDistillation), view.own_past) {
        let [student, past] = [&logits, own_past].map(|one| as_compared(terms.standardise_self, one));
        add(Term::SelfDistillation, response(&student?, &past?, terms.temperature)?)?;
    }
    if let Some(teacher) = view.teacher {
        let temperature = terms.teacher_temperature;
        let [student, compared] =
            [&logits, &teacher.logits].map(|one| as_compared(terms.standardise_teacher, one));
        let (student, compared) = (student?, compared?);
        if on(Term::Teacher) {
            add(Term::Teacher, response(&student, &compared, temperature)?)?;
        }
        if on(Term::TeacherTarget) {
            add(Term::TeacherTarget, target_class(&student, &compared, targets, temperature)?)?;
        }
        if on(Term::TeacherOthers) {
            add(Term::TeacherOthers, other_classes(&student, &compared, targets, temperature)?)?;
        }
        if on(Term::TeacherClasses) || on(Term::TeacherImages) {
            let found = correlations(&logits, &teacher.logits, temperature)?;
            for (term, value) in [Term::TeacherClasses, Term::TeacherImages].into_iter().zip(found) {
                if on(term) {
                    add(term, value)?;
                }
            }
        }
        if on(Term::TeacherTransformed) {
            add(Term::TeacherTransformed, transformed(&logits, &teacher.logits, temperature)?)?;
        }
    }
    if on(Term::SmoothTeacher) {
        add(Term::SmoothTeacher, smooth_teacher(&logits, targets, terms.smooth_temperature)?)?;
    }
    if let Some(relation) = relation {
        for (term, value) in [
            (Term::Distance, &relation.distance),
            (Term::Angle, &relation.angle),
            (Term::TeacherDistance, &relation.teacher_distance),
            (Term::TeacherAngle, &relation.teacher_angle),
        ] {
            if let Some(value) = value {
                add(term, value.shallow_clone())?;
            }
        }
    }
    values[TOTAL] = total.f_detach()?;
    values[HITS] = targets.hits(&logits)?;
    let row = Tensor::f_stack(&values, 0)?;
    let gradient = match total.requires_grad() {
        true => Tensor::f_run_backward(&[total], &[&logits], false, false)?.swap_remove(0),
        false => logits.f_detach()?.f_zeros_like()?,
    };
    Ok(Losses { gradient, embedding, features, row })
}
