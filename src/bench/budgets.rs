//! Decides whether latency budgets are met.

use serde::{Deserialize, Serialize};

use crate::config::{Budget, LatencyLimit};

use super::cell::{CellId, CellResult};

/// The outcome of a budget or a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Holds,
    Fails,
    /// The samples are not enough to decide.
    Undecided,
}

impl Outcome {
    pub fn key(self) -> &'static str {
        match self {
            Outcome::Holds => "holds",
            Outcome::Fails => "FAILS",
            Outcome::Undecided => "undecided",
        }
    }
}

/// The verdict on a budget for one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub budget: Budget,
    /// `null` if no measured cell matches the budget.
    pub cell: Option<CellId>,
    pub outcome: Outcome,
    /// The measured value.
    pub found: String,
}

/// Judges every budget against every matching cell of the models that `judged` accepts. A budget holds if the
/// upper bound of its percentile is within it, and fails if the lower bound exceeds it. A share is one of what the model
/// `baseline` takes, which is not judged by it.
pub fn judge(
    budgets: &[Budget],
    cells: &[CellResult],
    baseline: &str,
    judged: impl Fn(&str) -> bool,
) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for budget in budgets {
        let relative = matches!(budget.limit, LatencyLimit::Share(_));
        let speaks = |cell: &&CellResult| {
            let id = &cell.cell;
            judged(&id.model) && !(relative && id.model == baseline) && concerns(budget, id)
        };
        let spoken: Vec<&CellResult> = cells.iter().filter(speaks).collect();
        if spoken.is_empty() {
            let found = "no cell of this engine, batch, threads and mode was measured".to_string();
            let (budget, outcome) = (*budget, Outcome::Undecided);
            verdicts.push(Verdict { budget, cell: None, outcome, found });
        }
        verdicts.extend(
            spoken.into_iter().map(|cell| verdict(budget, cell, limit(budget, cell, cells, baseline))),
        );
    }
    verdicts
}

/// Whether a budget applies to a cell of any model.
fn concerns(budget: &Budget, cell: &CellId) -> bool {
    cell.engine == budget.engine
        && cell.batch == budget.batch
        && budget.threads.is_none_or(|threads| threads == cell.threads)
        && budget.mode.is_none_or(|mode| mode == cell.mode)
}

/// The limit that a budget sets for a cell, in milliseconds. `None` if it is a share and the baseline was not measured.
fn limit(budget: &Budget, cell: &CellResult, cells: &[CellResult], baseline: &str) -> Option<f64> {
    let like = |other: &&CellResult| {
        let (one, two) = (&cell.cell, &other.cell);
        two.model == baseline
            && (one.engine, one.batch, one.threads, one.mode)
                == (two.engine, two.batch, two.threads, two.mode)
    };
    let compared_with = cells.iter().find(like).and_then(|cell| cell.percentile(budget.quantile));
    budget.limit.milliseconds(compared_with.map(|percentile| percentile.value))
}

/// Budgets that a model exceeds by the measured value itself, whatever its interval is, as sentences.
pub fn exceeded(budgets: &[Budget], cells: &[CellResult], baseline: &str, model: &str) -> Vec<String> {
    let mut exceeds = Vec::new();
    for budget in budgets {
        for cell in cells.iter().filter(|cell| cell.cell.model == model && concerns(budget, &cell.cell)) {
            let found = cell.percentile(budget.quantile).map(|percentile| percentile.value);
            if let (Some(found), Some(limit)) = (found, limit(budget, cell, cells, baseline))
                && found > limit
            {
                let (engine, key) = (budget.engine.key(), budget.quantile.key());
                exceeds.push(format!("{key} {found:.3} ms in {engine}, allowed {limit:.3}"));
            }
        }
    }
    exceeds
}

fn verdict(budget: &Budget, cell: &CellResult, limit_ms: Option<f64>) -> Verdict {
    let key = budget.quantile.key();
    let (outcome, found) = match (cell.percentile(budget.quantile), limit_ms) {
        (None, _) => (Outcome::Undecided, format!("{} samples are too few for {key}", cell.samples)),
        (Some(_), None) => {
            (Outcome::Undecided, "the model that it is a share of was not measured".to_string())
        }
        (Some(percentile), Some(limit_ms)) => {
            let high = percentile.high.unwrap_or(f64::INFINITY);
            let low = percentile.low.unwrap_or(0.0);
            let found = format!("{key} {:.3} ms [{low:.3}, {high:.3}]", percentile.value);
            if !cell.stability.stable {
                (Outcome::Undecided, format!("{found}, unstable"))
            } else if high <= limit_ms {
                (Outcome::Holds, found)
            } else if low > limit_ms {
                (Outcome::Fails, found)
            } else {
                (Outcome::Undecided, format!("{found} spans the limit"))
            }
        }
    };
    Verdict { budget: *budget, cell: Some(cell.cell.clone()), outcome, found }
}
