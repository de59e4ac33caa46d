//! Budgets of latency: which percentile of which engine may be how long.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::measured::{EngineName, Mode, Quantile};

/// A limit on a percentile of every matching cell: `ENGINE[/MODE]:PERCENTILE<LIMIT@BATCH[xTHREADS]`, such as
/// `ort-cpu:p95<2ms@1`, `tract/host:p99<800us@8x2` or `ort-cpu:p50<0.5x@1`; `<=` means the same, and `50%` the same as `0.5x`.
/// Without `@`, the batch is 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(into = "String")]
pub struct Budget {
    pub engine: EngineName,
    /// `None` matches every mode.
    pub mode: Option<Mode>,
    pub quantile: Quantile,
    pub limit: LatencyLimit,
    /// Images per run.
    pub batch: usize,
    /// `None` matches every thread count.
    pub threads: Option<usize>,
}

/// How long a percentile may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LatencyLimit {
    /// Milliseconds.
    Milliseconds(f64),
    /// A share of the same percentile of the model that others are compared with, measured in turns with it.
    Share(f64),
}

impl LatencyLimit {
    /// The limit in milliseconds, where the model that others are compared with has this percentile.
    pub fn milliseconds(self, compared_with: Option<f64>) -> Option<f64> {
        match self {
            LatencyLimit::Milliseconds(limit) => Some(limit),
            LatencyLimit::Share(share) => compared_with.map(|percentile| share * percentile),
        }
    }
}

/// Units of a budget's limit, in milliseconds.
const UNITS: [(&str, f64); 3] = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let broken = |what: &str| format!("'{text}': {what}; a budget looks like ort-cpu:p95<2ms@1");
        let (who, rest) = text.split_once(':').ok_or_else(|| broken("no ':' after the engine"))?;
        let (quantile, rest) = rest.split_once('<').ok_or_else(|| broken("no '<' before the limit"))?;
        let rest = rest.strip_prefix('=').unwrap_or(rest);
        let (limit, at) = rest.split_once('@').unwrap_or((rest, "1"));
        let (engine, mode) = who.split_once('/').map_or((who, None), |(engine, mode)| (engine, Some(mode)));
        let engine = EngineName::ALL.into_iter().find(|name| name.key() == engine.trim());
        let mode = mode.map(|mode| Mode::ALL.into_iter().find(|name| name.key() == mode.trim()));
        let quantile = Quantile::ALL.into_iter().find(|name| name.key() == quantile.trim());
        let (batch, threads) =
            at.split_once('x').map_or((at, None), |(batch, threads)| (batch, Some(threads)));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number > 0);
        Ok(Self {
            engine: engine.ok_or_else(|| broken("the engines are torch, ort-cpu, ort-cuda and tract"))?,
            mode: mode
                .map(|mode| mode.ok_or_else(|| broken("the modes are device, host and end-to-end")))
                .transpose()?,
            quantile: quantile.ok_or_else(|| broken("the percentiles are p50, p90, p95, p99 and p99.9"))?,
            limit: latency_limit(limit)
                .ok_or_else(|| broken("the limit is a number above 0 with us, ms, s, x or %"))?,
            batch: number(batch).ok_or_else(|| broken("the batch is a whole number above 0"))?,
            threads: threads
                .map(|threads| {
                    number(threads).ok_or_else(|| broken("the threads are a whole number above 0"))
                })
                .transpose()?,
        })
    }
}

fn latency_limit(text: &str) -> Option<LatencyLimit> {
    let text = text.trim();
    let number =
        |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
    if let Some(share) = text.strip_suffix('x') {
        return number(share).map(LatencyLimit::Share);
    }
    if let Some(percent) = text.strip_suffix('%') {
        return number(percent).map(|percent| LatencyLimit::Share(percent / 100.0));
    }
    let (unit, factor) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    number(&text[..text.len() - unit.len()]).map(|number| LatencyLimit::Milliseconds(number * factor))
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.engine.key())?;
        if let Some(mode) = self.mode {
            write!(f, "/{}", mode.key())?;
        }
        write!(f, ":{}<", self.quantile.key())?;
        match self.limit {
            LatencyLimit::Milliseconds(limit) => write!(f, "{limit}ms")?,
            LatencyLimit::Share(share) => write!(f, "{share}x")?,
        }
        write!(f, "@{}", self.batch)?;
        self.threads.map_or(Ok(()), |threads| write!(f, "x{threads}"))
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_and_written() {
        let budget: Budget = "ort-cpu:p95<2ms@1".parse().unwrap();
        assert_eq!((budget.engine, budget.mode, budget.threads), (EngineName::OrtCpu, None, None));
        assert_eq!(
            (budget.quantile, budget.limit, budget.batch),
            (Quantile::P95, LatencyLimit::Milliseconds(2.0), 1)
        );
        let budget: Budget = "tract/end-to-end: p99.9 < 800us @8x2".parse().unwrap();
        assert_eq!((budget.mode, budget.quantile), (Some(Mode::EndToEnd), Quantile::P999));
        assert_eq!(
            (budget.limit, budget.batch, budget.threads),
            (LatencyLimit::Milliseconds(0.8), 8, Some(2))
        );
        assert_eq!(budget.to_string(), "tract/end-to-end:p99.9<0.8ms@8x2");
        assert_eq!(budget.to_string().parse::<Budget>().unwrap(), budget);
        assert_eq!("tract:p50<1s@1".parse::<Budget>().unwrap().limit, LatencyLimit::Milliseconds(1_000.0));
        let share: Budget = "tract:p50<0.5x".parse().unwrap();
        assert_eq!((share.limit, share.batch), (LatencyLimit::Share(0.5), 1));
        assert_eq!(share.to_string(), "tract:p50<0.5x@1");
        assert_eq!("tract:p50<=50%".parse(), Ok(share));
        assert_eq!((share.limit.milliseconds(Some(3.0)), share.limit.milliseconds(None)), (Some(1.5), None));
    }

    #[test]
    fn what_is_no_budget_says_why() {
        for (text, reason) in [
            ("ort:p95<2ms@1", "the engines are"),
            ("ort-cpu/fast:p95<2ms@1", "the modes are"),
            ("ort-cpu:p96<2ms@1", "the percentiles are"),
            ("ort-cpu:p95<2@1", "the limit is"),
            ("ort-cpu:p95<-2ms@1", "the limit is"),
            ("ort-cpu:p95<nanms@1", "the limit is"),
            ("ort-cpu:p95<2ms@0", "the batch is"),
            ("ort-cpu:p95<2ms@1x0", "the threads are"),
            ("ort-cpu:p95<0x", "the limit is"),
            ("ort-cpu:p95@1", "no '<'"),
            ("ort-cpu", "no ':'"),
        ] {
            let error = text.parse::<Budget>().unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
