//! One step of the cohort: every student's forward pass, all losses, every student's update.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use crate::config::LossTerms;
use crate::torch::{Mode, Network};

use super::evaluate::hits;
use super::losses::{Relations, angle_term, cross_entropy, distance_term, relations, response};
use super::metrics::{COLUMNS, Term};
use super::optimizer::SgdState;

/// A peer as it learns.
pub struct Student {
    pub name: String,
    pub network: Network,
    /// The same student, pre-trained alone and frozen, for the self-distillation.
    pub frozen: Option<Network>,
    pub optimizer: SgdState,
}

/// What one student computed for a batch.
struct Pass {
    logits: Tensor,
    relations: Option<Relations>,
    /// Logits of the frozen copy.
    own_past: Option<Tensor>,
}

impl Pass {
    fn relations(&self) -> Result<&Relations> {
        self.relations.as_ref().context("relations are computed where a relational term is on")
    }
}

/// Trains all students on one batch and returns what it measured, `[students, COLUMNS]`, left on
/// the device. Peers are compared as they were before the step.
///
/// # Errors
/// If libtorch fails.
pub fn step(
    students: &mut [Student],
    terms: &LossTerms,
    images: &Tensor,
    labels: &Tensor,
    lr: f64,
) -> Result<Tensor> {
    let images = channels_last(images)?;
    let passes = students.iter().map(|student| pass(student, terms, &images)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::with_capacity(students.len());
    for (index, student) in students.iter_mut().enumerate() {
        let (loss, row) = losses(&passes, index, terms, labels)?;
        let gradients = Tensor::f_run_backward(&[loss], &student.network.trainable(), false, false)
            .with_context(|| format!("backward pass of '{}'", student.name))?;
        let gradient = student.network.flatten_gradients(&gradients)?;
        student.optimizer.step(&student.network, gradient, lr)?;
        rows.push(row);
    }
    Ok(Tensor::f_stack(&rows, 0)?)
}

/// The same batch with the strides in which convolutions are fastest.
fn channels_last(images: &Tensor) -> Result<Tensor> {
    Ok(images.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

fn pass(student: &Student, terms: &LossTerms, images: &Tensor) -> Result<Pass> {
    let (logits, embedding) = student.network.classify(images, Mode::Train)?;
    let relational = terms.beta > 0.0 && (terms.beta0 > 0.0 || terms.beta1 > 0.0);
    let own_past = match &student.frozen {
        Some(frozen) if terms.gamma > 0.0 => Some(tch::no_grad(|| frozen.classify(images, Mode::Eval))?.0),
        Some(_) | None => None,
    };
    let relations = if relational { Some(relations(&embedding)?) } else { None };
    Ok(Pass { logits: logits.f_to_kind(Kind::Float)?, relations, own_past })
}

/// The student's total loss, and the row of all its terms without their weights, total and hits.
fn losses(passes: &[Pass], index: usize, terms: &LossTerms, labels: &Tensor) -> Result<(Tensor, Tensor)> {
    let own = &passes[index];
    let zero = own.logits.f_detach()?.f_sum(Kind::Float)?.f_zeros_like()?;
    let mut values: Vec<Tensor> = (0..COLUMNS).map(|_| zero.shallow_clone()).collect();
    let mut total = zero;
    let mut add = |term: Term, weight: f64, value: Tensor| -> Result<()> {
        values[term as usize] = value.f_detach()?;
        total = total.f_add(&(value * weight))?;
        Ok(())
    };
    if terms.alpha > 0.0 {
        add(Term::CrossEntropy, terms.alpha, cross_entropy(&own.logits, labels)?)?;
    }
    if terms.beta > 0.0 && terms.beta0 > 0.0 {
        let distance =
            mean_over_peers(passes, index, |peer| distance_term(own.relations()?, peer.relations()?))?;
        add(Term::Distance, terms.beta * terms.beta0, distance)?;
    }
    if terms.beta > 0.0 && terms.beta1 > 0.0 {
        let angle = mean_over_peers(passes, index, |peer| angle_term(own.relations()?, peer.relations()?))?;
        add(Term::Angle, terms.beta * terms.beta1, angle)?;
    }
    if terms.beta > 0.0 && terms.beta2 > 0.0 {
        let mutual = mean_over_peers(passes, index, |peer| response(&own.logits, &peer.logits, 1.0))?;
        add(Term::Response, terms.beta * terms.beta2, mutual)?;
    }
    if let (true, Some(own_past)) = (terms.gamma > 0.0, &own.own_past) {
        add(Term::SelfDistillation, terms.gamma, response(&own.logits, own_past, terms.temperature)?)?;
    }
    values[Term::Total as usize] = total.f_detach()?;
    values[Term::Hits as usize] = hits(&own.logits, labels)?;
    Ok((total, Tensor::f_stack(&values, 0)?))
}

fn mean_over_peers(passes: &[Pass], index: usize, term: impl Fn(&Pass) -> Result<Tensor>) -> Result<Tensor> {
    let peers = passes.iter().enumerate().filter(|(other, _)| *other != index);
    let values = peers.map(|(_, peer)| term(peer)).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_stack(&values, 0)?.f_mean(Kind::Float)?)
}
