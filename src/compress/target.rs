//! What the compressed network may cost.

use std::fmt;
use std::str::FromStr;

use crate::config::{Budget, Budgets, EngineName, LatencyLimit, Limit, Mode, Quantile};

/// A limit on one cost: `params<=25%`, `macs<=1M`, `bytes<=500k`, `ort-cpu:p50<=0.5x`, `tract:p50<=2ms`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    Params(Limit),
    Macs(Limit),
    /// Bytes of the ONNX file.
    Bytes(Limit),
    /// The median of one image in one thread.
    Latency(Budget),
}

impl Target {
    /// The engine whose latency is limited, if one is.
    pub fn engine(self) -> Option<EngineName> {
        match self {
            Target::Latency(budget) => Some(budget.engine),
            Target::Params(_) | Target::Macs(_) | Target::Bytes(_) => None,
        }
    }

    /// The largest allowed cost, where the original's is `original`; `None` if that would have to be known and is not.
    pub fn allowed(self, original: Option<f64>) -> Option<f64> {
        match self {
            Target::Params(limit) | Target::Macs(limit) | Target::Bytes(limit) => match (limit, original) {
                (Limit::Absolute(number), _) => Some(number as f64),
                (Limit::Percent(_), original) => original.map(|original| limit.allowed(original as u64)),
            },
            Target::Latency(budget) => budget.limit.milliseconds(original),
        }
    }

    /// A cost in the unit of what is limited.
    pub fn told(self, cost: f64) -> String {
        match self {
            Target::Params(_) | Target::Macs(_) | Target::Bytes(_) => format!("{cost:.0} {self}"),
            Target::Latency(_) => format!("{cost:.3} {self}"),
        }
    }

    /// The same limit as a budget of the stage `select`, where the original has `original`. None for a latency: it was
    /// measured before the training, and the stage `bench` measures it again.
    pub fn budgets(self, original: Option<f64>) -> Budgets {
        let limit = self.allowed(original).map(|allowed| Limit::Absolute(allowed as u64));
        match self {
            Target::Params(_) => Budgets { max_params: limit, ..Budgets::default() },
            Target::Macs(_) => Budgets { max_macs: limit, ..Budgets::default() },
            Target::Bytes(_) => Budgets { max_onnx_bytes: limit, ..Budgets::default() },
            Target::Latency(_) => Budgets::default(),
        }
    }
}

/// The name of what is limited.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Params(_) => f.write_str("parameters"),
            Target::Macs(_) => f.write_str("MACs"),
            Target::Bytes(_) => f.write_str("ONNX bytes"),
            Target::Latency(budget) => write!(f, "median milliseconds in {}", budget.engine.key()),
        }
    }
}

const FORMS: &str =
    "a target looks like params<=25%, macs<=25%, bytes<=500k, ort-cpu:p50<=0.5x or tract:p50<=2ms";

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let broken = |what: &str| format!("'{text}': {what}; {FORMS}");
        if text.contains(':') {
            return latency(text).map_err(|what| broken(&what));
        }
        let (what, limit) = text.split_once('<').ok_or_else(|| broken("no '<='"))?;
        let limit = limit.trim_start_matches('=').trim();
        let target = match what.trim() {
            "params" => Target::Params,
            "macs" => Target::Macs,
            "bytes" => Target::Bytes,
            _ => return Err(broken("it is on neither params, macs, bytes nor ENGINE:p50")),
        };
        let share = limit.strip_suffix('x').and_then(|share| share.trim().parse::<f64>().ok());
        let limit = match share {
            Some(share) => format!("{}%", 100.0 * share).parse(),
            None => limit.parse(),
        };
        match limit.map_err(|what: String| broken(&what))? {
            Limit::Percent(percent) if percent >= 100.0 => Err(broken("nothing would have to be smaller")),
            limit @ (Limit::Percent(_) | Limit::Absolute(_)) => Ok(target(limit)),
        }
    }
}

/// A budget on the median of one image.
fn latency(text: &str) -> Result<Target, String> {
    let budget: Budget = text.parse()?;
    let Budget { engine, mode, quantile, limit, batch, threads } = budget;
    if engine == EngineName::Torch {
        return Err("a file runs in ort-cpu, ort-cuda or tract".into());
    }
    if quantile != Quantile::P50 {
        return Err(format!("{}: a target is on the median, p50", quantile.key()));
    }
    if batch != 1 || !matches!(threads, None | Some(1)) || !matches!(mode, None | Some(Mode::Device)) {
        return Err("a target is on one image in one thread, in the mode device".into());
    }
    match limit {
        LatencyLimit::Share(share) if share >= 1.0 => Err("nothing would have to be faster".into()),
        LatencyLimit::Share(_) | LatencyLimit::Milliseconds(_) => Ok(Target::Latency(budget)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        for (text, original, allowed) in [
            ("params<=25%", Some(400.0), Some(100.0)),
            ("params<=0.25x", Some(400.0), Some(100.0)),
            ("params<=25%", None, None),
            ("macs <= 1.5M", None, Some(1.5e6)),
            ("bytes<500k", Some(1e6), Some(5e5)),
            ("params<=25", Some(400.0), Some(25.0)),
            ("ort-cpu:p50<=0.5x", Some(3.0), Some(1.5)),
            ("ort-cpu:p50<=50%", Some(3.0), Some(1.5)),
            ("tract:p50 <= 800us@1", None, Some(0.8)),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().allowed(original), allowed, "{text}");
        }
        let target: Target = "tract:p50<2ms".parse().unwrap();
        assert_eq!((target.engine(), target.budgets(None)), (Some(EngineName::Tract), Budgets::default()));
        let target: Target = "macs<=25%".parse().unwrap();
        assert_eq!(target.budgets(Some(80.0)).max_macs, Some(Limit::Absolute(20)));
    }

    #[test]
    fn what_is_no_target_says_why() {
        for (text, reason) in [
            ("params", "no '<='"),
            ("parms<=25%", "neither params"),
            ("params<=0", "above 0"),
            ("params<=-3%", "above 0"),
            ("params<=nan%", "above 0"),
            ("params<=120%", "nothing would"),
            ("params<=1.2x", "nothing would"),
            ("ort-cpu:p50<=2x", "nothing would"),
            ("ort-cpu:p95<=0.5x", "on the median"),
            ("ort-cpu:p50<=2", "the limit is"),
            ("ort-cpu:p50<=2ms@8", "one image"),
            ("onnx:p50<=0.5x", "the engines are"),
            ("torch:p50<=0.5x", "runs in"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
