//! Decides whether latency budgets are met.

use serde::{Deserialize, Serialize};

use crate::config::{Bench, Budget};

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
/// upper bound of its percentile is within it, and fails if the lower bound exceeds it.
pub fn judge(settings: &Bench, cells: &[CellResult], judged: impl Fn(&str) -> bool) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for budget in &settings.budgets {
        let speaks = |cell: &&CellResult| {
            let id = &cell.cell;
            judged(&id.model)
                && id.engine == budget.engine
                && id.batch == budget.batch
                && budget.threads.is_none_or(|threads| threads == id.threads)
                && budget.mode.is_none_or(|mode| mode == id.mode)
        };
        let spoken: Vec<&CellResult> = cells.iter().filter(speaks).collect();
        if spoken.is_empty() {
            let found = "no cell of this engine, batch, threads and mode was measured".to_string();
            let (budget, outcome) = (*budget, Outcome::Undecided);
            verdicts.push(Verdict { budget, cell: None, outcome, found });
        }
        verdicts.extend(spoken.into_iter().map(|cell| verdict(budget, cell)));
    }
    verdicts
}

fn verdict(budget: &Budget, cell: &CellResult) -> Verdict {
    let key = budget.quantile.key();
    let (outcome, found) = match cell.percentile(budget.quantile) {
        None => (Outcome::Undecided, format!("{} samples are too few for {key}", cell.samples)),
        Some(percentile) => {
            let high = percentile.high.unwrap_or(f64::INFINITY);
            let low = percentile.low.unwrap_or(0.0);
            let found = format!("{key} {:.3} ms [{low:.3}, {high:.3}]", percentile.value);
            if !cell.stability.stable {
                (Outcome::Undecided, format!("{found}, unstable"))
            } else if high <= budget.limit_ms {
                (Outcome::Holds, found)
            } else if low > budget.limit_ms {
                (Outcome::Fails, found)
            } else {
                (Outcome::Undecided, format!("{found} spans the limit"))
            }
        }
    };
    Verdict { budget: *budget, cell: Some(cell.cell.clone()), outcome, found }
}
