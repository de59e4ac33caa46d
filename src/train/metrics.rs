//! What an epoch measures: sums while it runs, and one record when it ends.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::config::LossTerms;
use crate::epoch::{StudentRecord, Term};
use crate::error::InputError;
use crate::task::Score;
use crate::torch::to_f64;

/// Column of a step's row that has the weighted sum of all terms; the columns before it are those of [`Term::ALL`].
pub const TOTAL: usize = Term::ALL.len();

/// Column with the number of images whose label was predicted.
pub const HITS: usize = TOTAL + 1;

/// Length of a step's row.
pub const COLUMNS: usize = HITS + 1;

fn column_name(column: usize) -> &'static str {
    match Term::ALL.get(column) {
        Some(term) => term.name(),
        None if column == TOTAL => "total",
        None => "hits",
    }
}

/// Steps whose rows stay on the device before they are read, so that no step waits for the GPU.
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
    /// Starts from a checkpoint's sums, which are zero at the start of an epoch.
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

    /// Reads the rows that are still on the device and returns the sums.
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
                        return Err(diverged(column_name(column), names[student], self.epoch, self.steps));
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
    let mean = |column: usize| sums[column] / steps.max(1) as f64;
    let term = |term: Term| (terms.weight(term) > 0.0).then(|| mean(term as usize));
    StudentRecord::new(name, term, mean(TOTAL), mean(HITS) / batch as f64, validation)
}
