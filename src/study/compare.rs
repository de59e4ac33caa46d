//! Computes means over seeds and paired differences.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Minimum number of pairs for an interval.
pub(super) const PAIRS_FOR_INTERVAL: usize = 3;
/// Minimum number of pairs for a p-value.
const PAIRS_FOR_P: usize = 5;
/// Differences of shares that vary by less, all the same but for rounding, say nothing of how much they would vary.
const ALIKE: f64 = 1e-12;

/// The differences between paired values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    pub pairs: usize,
    /// Mean of the differences.
    pub difference: f64,
    /// Two-sided 95 % interval by Student's t, if there are at least three pairs and their differences vary.
    pub interval: Option<[f64; 2]>,
    /// Two-sided p-value of the paired t-test, if there are at least five pairs and their differences vary.
    pub p: Option<f64>,
}

/// The mean, and the sample standard deviation if there are at least two values.
pub fn mean_and_deviation(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

/// Compares values in pairs of (one, other); `None` without pairs.
pub fn paired(pairs: &[(f64, f64)]) -> Option<Paired> {
    if pairs.is_empty() {
        return None;
    }
    let differences: Vec<f64> = pairs.iter().map(|(one, other)| one - other).collect();
    let (difference, deviation) = mean_and_deviation(&differences);
    let count = pairs.len();
    let error =
        deviation.filter(|deviation| *deviation > ALIKE).map(|deviation| deviation / (count as f64).sqrt());
    let student = StudentsT::new(0.0, 1.0, count as f64 - 1.0).ok();
    let (mut interval, mut p) = (None, None);
    if let (Some(error), Some(student)) = (error, student) {
        if count >= PAIRS_FOR_INTERVAL {
            let reach = student.inverse_cdf(0.975) * error;
            interval = Some([difference - reach, difference + reach]);
        }
        if count >= PAIRS_FOR_P {
            p = Some(2.0 * (1.0 - student.cdf((difference / error).abs())));
        }
    }
    Some(Paired { pairs: count, difference, interval, p })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Student's own sleep data (1908), extra hours under two drugs: t = -4.0621, p = 0.002833, interval
    /// -2.4598858 to -0.7001142.
    #[test]
    fn sleep_data_give_their_known_figures() {
        let one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let other = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let pairs: Vec<(f64, f64)> = one.into_iter().zip(other).collect();
        let found = paired(&pairs).unwrap();
        assert!((found.difference + 1.58).abs() < 1e-9);
        assert!((found.p.unwrap() - 0.002833).abs() < 1e-6, "{found:?}");
        let [low, high] = found.interval.unwrap();
        assert!((low + 2.459_885_8).abs() < 1e-6 && (high + 0.700_114_2).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn few_pairs_claim_little() {
        assert_eq!(paired(&[]), None);
        let two = paired(&[(1.0, 0.0), (3.0, 1.0)]).unwrap();
        assert_eq!((two.interval, two.p), (None, None));
        let four = paired(&[(1.0, 0.0), (3.0, 1.0), (2.0, 1.5), (2.0, 1.0)]).unwrap();
        assert!(four.interval.is_some() && four.p.is_none());
        let alike = paired(&[(0.92, 0.91), (0.94, 0.93), (0.96, 0.95), (0.9, 0.89), (0.5, 0.49)]).unwrap();
        assert_eq!((alike.interval, alike.p), (None, None), "{alike:?}");
        assert_eq!(mean_and_deviation(&[2.0]), (2.0, None));
    }
}
