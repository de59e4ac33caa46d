//! Decides whether latency budgets are met.

use serde::{Deserialize, Serialize};

use crate::config::{Budget, LatencyLimit, Quantile};

use super::cell::{CellId, CellResult};
use super::stats::{Ratio, Stability, paired_ratio};

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
/// `baseline` takes, which is not judged by it; a share of the median is judged by the ratio of the two, paired by rounds.
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
            let found = "nothing with this engine, batch, threads and mode was measured".to_string();
            let (budget, outcome) = (*budget, Outcome::Undecided);
            verdicts.push(Verdict { budget, cell: None, outcome, found });
        }
        verdicts.extend(spoken.into_iter().map(|cell| {
            let (outcome, found) = match measured(budget, cell, cells, baseline) {
                Ok(measured) => measured.outcome(),
                Err(reason) => (Outcome::Undecided, reason),
            };
            Verdict { budget: *budget, cell: Some(cell.cell.clone()), outcome, found }
        }));
    }
    verdicts
}

/// Budgets that a model exceeds by the measured value itself, whatever its interval is, as sentences.
pub fn exceeded(budgets: &[Budget], cells: &[CellResult], baseline: &str, model: &str) -> Vec<String> {
    let mut exceeds = Vec::new();
    for budget in budgets {
        for cell in cells.iter().filter(|cell| cell.cell.model == model && concerns(budget, &cell.cell)) {
            let Ok(found) = measured(budget, cell, cells, baseline) else { continue };
            if found.value > found.allowed {
                let Measured { value, allowed, unit, .. } = found;
                let (engine, key) = (budget.engine.key(), budget.quantile.key());
                exceeds.push(format!("{key} {value:.3}{unit} in {engine}, allowed {allowed:.3}{unit}"));
            }
        }
    }
    exceeds
}

/// Whether a budget applies to a cell, regardless of its model.
fn concerns(budget: &Budget, cell: &CellId) -> bool {
    cell.engine == budget.engine
        && cell.batch == budget.batch
        && budget.threads.is_none_or(|threads| threads == cell.threads)
        && budget.mode.is_none_or(|mode| mode == cell.mode)
}

/// The value that a budget limits, with its 95 % confidence interval.
struct Measured {
    key: &'static str,
    value: f64,
    low: f64,
    high: f64,
    /// The largest value that is allowed.
    allowed: f64,
    unit: &'static str,
    /// How far the value drifted while it was measured, as a share of it; `None` where it cannot be told.
    drift: Option<f64>,
}

/// The value that a budget limits in a cell, or the reason why there is none.
fn measured(
    budget: &Budget,
    cell: &CellResult,
    cells: &[CellResult],
    baseline: &str,
) -> Result<Measured, String> {
    let key = budget.quantile.key();
    let found = cell
        .percentile(budget.quantile)
        .ok_or_else(|| format!("{} samples are too few for {key}", cell.samples))?;
    let like = |other: &&CellResult| {
        let (one, two) = (&cell.cell, &other.cell);
        two.model == baseline
            && (one.engine, one.batch, one.threads, one.mode)
                == (two.engine, two.batch, two.threads, two.mode)
    };
    let whole = cells.iter().find(like);
    if let (LatencyLimit::Share(allowed), Quantile::P50, Some(whole)) = (budget.limit, budget.quantile, whole)
        && let Some(ratio) = paired_ratio(&cell.turn_medians(), &whole.turn_medians(), 0)
    {
        let Ratio { value, low, high } = ratio;
        // Both drift with the machine, and the pairs of a round do so together.
        return Ok(Measured { key, value, low, high, allowed, unit: "x", drift: Some(0.0) });
    }
    let compared_with = whole.and_then(|cell| cell.percentile(budget.quantile));
    let allowed = budget
        .limit
        .milliseconds(compared_with.map(|percentile| percentile.value))
        .ok_or("the model that it is a share of was not measured")?;
    let Stability { stable, median_spread, p95_spread } = cell.stability;
    let drift = match budget.quantile {
        Quantile::P50 => median_spread,
        Quantile::P90 | Quantile::P95 | Quantile::P99 | Quantile::P999 => p95_spread,
    };
    Ok(Measured {
        key,
        value: found.value,
        low: found.low.unwrap_or(0.0),
        high: found.high.unwrap_or(f64::INFINITY),
        allowed,
        unit: " ms",
        drift: if stable { Some(0.0) } else { drift },
    })
}

impl Measured {
    /// A value that drifted decides if it is as far from the limit as it drifted.
    fn outcome(&self) -> (Outcome, String) {
        let Self { key, value, low, high, allowed, unit, drift } = *self;
        let found = format!("{key} {value:.3}{unit} [{low:.3}, {high:.3}]");
        let Some(drift) = drift else { return (Outcome::Undecided, format!("{found}, unstable")) };
        let drifted =
            if drift > 0.0 { format!(", drifted by {:.0} %", 100.0 * drift) } else { String::new() };
        if high * (1.0 + drift) <= allowed {
            (Outcome::Holds, found + &drifted)
        } else if low / (1.0 + drift) > allowed {
            (Outcome::Fails, found + &drifted)
        } else {
            (Outcome::Undecided, format!("{found}{drifted} spans the limit"))
        }
    }
}
