//! Limits on what a network may cost.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A number (`250000`, `250k`, `1.5M`) or a percentage of what the network has that others are compared with (`25%`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum Limit {
    Absolute(u64),
    Percent(f64),
}

impl Limit {
    /// The largest allowed value, where the network that others are compared with has `largest`.
    pub fn allowed(self, largest: u64) -> f64 {
        match self {
            Limit::Absolute(number) => number as f64,
            Limit::Percent(percent) => largest as f64 * percent / 100.0,
        }
    }
}

/// What a number of a limit may end in.
const MULTIPLES: [(&str, f64); 3] = [("k", 1e3), ("M", 1e6), ("G", 1e9)];

/// `250000`, `250k`, `1.5M`, `25%`.
impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
        let limit = match text.strip_suffix('%') {
            Some(percent) => number(percent).map(Limit::Percent),
            None => {
                let multiple = MULTIPLES.into_iter().find(|(unit, _)| text.ends_with(unit));
                let (digits, factor) =
                    multiple.map_or((text, 1.0), |(unit, factor)| (&text[..text.len() - unit.len()], factor));
                number(digits).map(|number| Limit::Absolute((number * factor).round() as u64))
            }
        };
        limit.ok_or_else(|| format!("'{text}' is not a number above 0, such as 250000, 250k or 25%"))
    }
}

/// Written by hand, because serde's `try_from` would lose the place of the error.
impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitVisitor;
        impl Visitor<'_> for LimitVisitor {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 250000 or 250k, or a percentage such as 25%")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Limit, E> {
                Ok(Limit::Absolute(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Limit, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(LimitVisitor)
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Absolute(number) => number.to_string(),
            Limit::Percent(percent) => format!("{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written() {
        for (text, limit, written) in [
            ("250000", Limit::Absolute(250_000), "250000"),
            ("250k", Limit::Absolute(250_000), "250000"),
            ("1.5 M", Limit::Absolute(1_500_000), "1500000"),
            ("12.5 %", Limit::Percent(12.5), "12.5%"),
        ] {
            assert_eq!((text.parse(), String::from(limit)), (Ok(limit), written.to_string()));
        }
        for text in ["", "small", "0", "-5", "nan%", "5 %%", "infM"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
