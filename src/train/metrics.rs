//! What an epoch measured: sums while it runs, one record when it ends.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::config::LossTerms;
use crate::epoch::StudentRecord;
use crate::error::InputError;
use crate::score::Score;
use crate::torch::to_f64;

/// Columns of a step's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    CrossEntropy,
    Distance,
    Angle,
    Response,
    SelfDistillation,
    Teacher,
    TeacherDistance,
    TeacherAngle,
    SmoothTeacher,
    Total,
    Hits,
}

/// Length of a step's row.
pub const COLUMNS: usize = 11;

const TERMS: [(Term, &str); COLUMNS] = [
    (Term::CrossEntropy, "cross_entropy"),
    (Term::Distance, "distance"),
    (Term::Angle, "angle"),
    (Term::Response, "response"),
    (Term::SelfDistillation, "self_distillation"),
    (Term::Teacher, "teacher"),
    (Term::TeacherDistance, "teacher_distance"),
    (Term::TeacherAngle, "teacher_angle"),
    (Term::SmoothTeacher, "smooth_teacher"),
    (Term::Total, "total"),
    (Term::Hits, "hits"),
];

/// Steps whose rows stay on the device before they are read, so that a GPU is not waited for at
/// every step.
const PENDING: usize = 32;

/// Sums over the steps of an epoch.
pub struct Sums {
    pending: Vec<Tensor>,
    /// `[students][COLUMNS]`.
    sums: Vec<[f64; COLUMNS]>,
    steps: usize,
    epoch: usize,
}

impl Sums {
    /// Starts with what a checkpoint held, all zero at an epoch's start.
    pub fn new(sums: Vec<[f64; COLUMNS]>, steps: usize, epoch: usize) -> Self {
        Self { pending: Vec::new(), sums, steps, epoch }
    }

    /// Adds a step's rows, `[students, COLUMNS]`.
    ///
    /// # Errors
    /// [`InputError`] if a loss is not finite; it names term, student, epoch and batch.
    pub fn add(&mut self, rows: Tensor, names: &[&str]) -> Result<()> {
        self.pending.push(rows);
        if self.pending.len() >= PENDING { self.drain(names) } else { Ok(()) }
    }

    /// Reads what is still on the device and returns the sums.
    ///
    /// # Errors
    /// As [`Sums::add`].
    pub fn finish(&mut self, names: &[&str]) -> Result<&[[f64; COLUMNS]]> {
        self.drain(names)?;
        Ok(&self.sums)
    }

    /// Steps summed so far.
    pub fn steps(&self) -> usize {
        self.steps
    }

    fn drain(&mut self, names: &[&str]) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let rows = to_f64(&Tensor::f_stack(&self.pending, 0)?.f_to_kind(Kind::Double)?)?;
        self.pending.clear();
        for step in rows.outer_iter() {
            for (student, row) in step.outer_iter().enumerate() {
                for (column, value) in row.iter().enumerate() {
                    if !value.is_finite() {
                        return Err(diverged(TERMS[column].1, names[student], self.epoch, self.steps));
                    }
                    self.sums[student][column] += value;
                }
            }
            self.steps += 1;
        }
        Ok(())
    }
}

fn diverged(term: &str, student: &str, epoch: usize, step: usize) -> anyhow::Error {
    let (epoch, batch) = (epoch + 1, step + 1);
    InputError::new(format!("'{term}' of student '{student}' is not finite at epoch {epoch}, batch {batch}"))
        .hint("lower the learning rate or the term's weight; the last good checkpoint is kept")
        .into()
}

/// Turns one student's sums into its record.
pub fn record(
    name: &str,
    sums: &[f64; COLUMNS],
    terms: &LossTerms,
    steps: usize,
    batch: usize,
    validation: Option<Score>,
) -> StudentRecord {
    let mean = |term: Term| sums[term as usize] / steps.max(1) as f64;
    let if_on = |on: bool, term: Term| on.then(|| mean(term));
    let mutual = |weight: f64| terms.beta > 0.0 && weight > 0.0;
    StudentRecord {
        name: name.to_string(),
        cross_entropy: if_on(terms.alpha > 0.0, Term::CrossEntropy),
        distance: if_on(mutual(terms.beta0), Term::Distance),
        angle: if_on(mutual(terms.beta1), Term::Angle),
        response: if_on(mutual(terms.beta2), Term::Response),
        self_distillation: if_on(terms.gamma > 0.0, Term::SelfDistillation),
        teacher: if_on(terms.teacher > 0.0, Term::Teacher),
        teacher_distance: if_on(terms.teacher_distance > 0.0, Term::TeacherDistance),
        teacher_angle: if_on(terms.teacher_angle > 0.0, Term::TeacherAngle),
        smooth_teacher: if_on(terms.smooth_teacher > 0.0, Term::SmoothTeacher),
        total: mean(Term::Total),
        train_accuracy: mean(Term::Hits) / batch as f64,
        validation,
    }
}
