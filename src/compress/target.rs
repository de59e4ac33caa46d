//! What the compressed network may cost.

use std::fmt;
use std::str::FromStr;

use crate::config::EngineName;

/// A limit on one cost: `params<=25%`, `macs<=1M`, `bytes<=500k`, `ort-cpu:p50<=0.5x`, `tract:p50<=2ms`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    pub cost: Cost,
    pub bound: Bound,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    Params,
    Macs,
    /// Bytes of the ONNX file.
    Bytes,
    /// Median milliseconds of one image.
    Latency(EngineName),
}

/// By how much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// A share of the original's cost.
    Share(f64),
    /// A number, in milliseconds for a latency.
    Absolute(f64),
}

impl Target {
    /// The largest allowed cost, where the original's is `original`.
    pub fn allowed(&self, original: f64) -> f64 {
        match self.bound {
            Bound::Share(share) => share * original,
            Bound::Absolute(number) => number,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cost::Params => f.write_str("parameters"),
            Cost::Macs => f.write_str("MACs"),
            Cost::Bytes => f.write_str("ONNX bytes"),
            Cost::Latency(engine) => write!(f, "median latency in {}", engine.key()),
        }
    }
}

const FORMS: &str =
    "a target looks like params<=25%, macs<=25%, bytes<=500k, ort-cpu:p50<=0.5x or tract:p50<=2ms";

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let broken = |what: String| format!("'{text}': {what}; {FORMS}");
        let (what, limit) =
            text.split_once("<=").or_else(|| text.split_once('<')).ok_or_else(|| broken("no '<='".into()))?;
        let (what, limit) = (what.trim(), limit.trim());
        let cost = match what {
            "params" => Cost::Params,
            "macs" => Cost::Macs,
            "bytes" => Cost::Bytes,
            other => Cost::Latency(engine(other).map_err(broken)?),
        };
        let units: &[(&str, f64)] = match cost {
            Cost::Latency(_) => &[("us", 1e-3), ("ms", 1.0), ("s", 1e3)],
            Cost::Params | Cost::Macs | Cost::Bytes => &[("k", 1e3), ("M", 1e6), ("G", 1e9), ("", 1.0)],
        };
        let share = limit
            .strip_suffix('%')
            .map(|number| (number, 0.01))
            .or(limit.strip_suffix('x').map(|number| (number, 1.0)));
        let (number, bound): (&str, fn(f64) -> Bound) = match share {
            Some((number, factor)) => {
                (number, if factor < 1.0 { |n| Bound::Share(n / 100.0) } else { Bound::Share })
            }
            None => (limit, Bound::Absolute),
        };
        let scale = match bound(1.0) {
            Bound::Share(_) => Some((number, 1.0)),
            Bound::Absolute(_) => {
                units.iter().find_map(|(unit, factor)| Some((number.strip_suffix(unit)?, *factor)))
            }
        };
        let value = scale.and_then(|(number, factor)| Some(number.trim().parse::<f64>().ok()? * factor));
        let value = value.filter(|value| *value > 0.0 && value.is_finite());
        let bound = bound(value.ok_or_else(|| broken(format!("'{limit}' is not a limit on {cost}")))?);
        match bound {
            Bound::Share(share) if share >= 1.0 => Err(broken("nothing would have to be smaller".into())),
            Bound::Share(_) | Bound::Absolute(_) => Ok(Self { cost, bound }),
        }
    }
}

fn engine(text: &str) -> Result<EngineName, String> {
    let (name, quantile) = text
        .split_once(':')
        .ok_or_else(|| format!("'{text}' is neither params, macs, bytes nor ENGINE:p50"))?;
    if quantile.trim() != "p50" {
        return Err(format!("'{}': a target is on the median, p50", quantile.trim()));
    }
    match EngineName::ALL.into_iter().find(|engine| engine.key() == name.trim()) {
        Some(EngineName::Torch) | None => Err(format!("'{name}' is not one of ort-cpu, ort-cuda, tract")),
        Some(engine) => Ok(engine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        for (text, cost, bound) in [
            ("params<=25%", Cost::Params, Bound::Share(0.25)),
            ("macs <= 1.5M", Cost::Macs, Bound::Absolute(1.5e6)),
            ("bytes<500k", Cost::Bytes, Bound::Absolute(5e5)),
            ("params<=1000", Cost::Params, Bound::Absolute(1e3)),
            ("ort-cpu:p50<=0.5x", Cost::Latency(EngineName::OrtCpu), Bound::Share(0.5)),
            ("tract:p50<=800us", Cost::Latency(EngineName::Tract), Bound::Absolute(0.8)),
        ] {
            assert_eq!(text.parse(), Ok(Target { cost, bound }), "{text}");
        }
        assert_eq!("params<=25%".parse::<Target>().unwrap().allowed(400.0), 100.0);
        assert_eq!("params<=25".parse::<Target>().unwrap().allowed(400.0), 25.0);
    }

    #[test]
    fn what_is_no_target_says_why() {
        for (text, reason) in [
            ("params", "no '<='"),
            ("parms<=25%", "neither params"),
            ("params<=0", "not a limit"),
            ("params<=-3%", "not a limit"),
            ("params<=nan%", "not a limit"),
            ("params<=120%", "nothing would"),
            ("ort-cpu:p50<=2x", "nothing would"),
            ("ort-cpu:p95<=0.5x", "on the median"),
            ("ort-cpu:p50<=2", "not a limit"),
            ("onnx:p50<=0.5x", "not one of"),
            ("torch:p50<=0.5x", "not one of"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
