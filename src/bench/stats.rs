//! What samples say: percentiles with intervals, outliers, stability.

use serde::{Deserialize, Serialize};

/// Largest relative difference between windows of a stable cell.
const STABLE: f64 = 0.05;

/// A median absolute deviation times this estimates a normal distribution's deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// Modified z-score from which a sample is an outlier (Iglewicz & Hoaglin 1993).
const OUTLIER: f64 = 3.5;

/// One-sided 95 % quantile of the normal distribution.
const Z_95: f64 = 1.644_854;

/// A percentile with an interval from order statistics, in the samples' unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    pub value: f64,
    /// Each bound holds with 95 % confidence; `None` where there are too few samples below or
    /// above.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// Nearest-rank percentile of sorted samples, `0 < share < 1`. `None` if there are too few samples
/// for a one-sided 95 % upper bound: below `ln 0.05 / ln share`, which is 59 for p95, 299 for p99.
pub fn percentile(sorted: &[f64], share: f64) -> Option<Percentile> {
    let count = sorted.len();
    if (count as f64) < (0.05f64.ln() / share.ln()).ceil() {
        return None;
    }
    let rank = ((share * count as f64).ceil() as usize).clamp(1, count);
    // The number of samples below the true percentile is binomial; its normal approximation gives
    // the ranks of the bounds.
    let spread = Z_95 * (count as f64 * share * (1.0 - share)).sqrt();
    let low = (share * count as f64 - spread).floor();
    let high = (share * count as f64 + spread).ceil() + 1.0;
    let at = |rank: f64| (rank >= 1.0 && rank <= count as f64).then(|| sorted[rank as usize - 1]);
    let high = at(high).or_else(|| sorted.last().copied());
    Some(Percentile { value: sorted[rank - 1], low: at(low), high })
}

/// Middle of the samples, which need not be sorted; 0 if there are none.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// How many samples lie far above or below the median, by the median absolute deviation. If more
/// than half of the samples are equal, every other one counts.
pub fn outliers(samples: &[f64]) -> usize {
    let middle = median(samples);
    let deviations: Vec<f64> = samples.iter().map(|sample| (sample - middle).abs()).collect();
    let limit = OUTLIER * MAD_TO_DEVIATION * median(&deviations);
    deviations.iter().filter(|deviation| **deviation > limit).count()
}

/// Whether a cell's samples agree over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    pub stable: bool,
    /// Largest relative difference between the medians of three windows.
    pub median_spread: f64,
    /// The same of their 95th percentiles; `None` with too few samples.
    pub p95_spread: Option<f64>,
}

/// Compares three windows of samples in the order they were taken.
pub fn stability(samples: &[f64]) -> Stability {
    let size = samples.len() / 3;
    if size == 0 {
        return Stability { stable: false, median_spread: f64::INFINITY, p95_spread: None };
    }
    let windows: Vec<&[f64]> = (0..3).map(|window| &samples[window * size..][..size]).collect();
    let medians: Vec<f64> = windows.iter().map(|window| median(window)).collect();
    let tails: Option<Vec<f64>> = windows
        .iter()
        .map(|window| {
            let mut sorted = window.to_vec();
            sorted.sort_by(f64::total_cmp);
            Some(percentile(&sorted, 0.95)?.value)
        })
        .collect();
    let median_spread = spread(&medians);
    let p95_spread = tails.as_deref().map(spread);
    let stable = median_spread <= STABLE && p95_spread.is_some_and(|spread| spread <= STABLE);
    Stability { stable, median_spread, p95_spread }
}

fn spread(values: &[f64]) -> f64 {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low > 0.0 { high / low - 1.0 } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(count: usize) -> Vec<f64> {
        (1..=count).map(|value| value as f64).collect()
    }

    #[test]
    fn percentiles_need_enough_samples() {
        for (share, enough) in [(0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2_995)] {
            assert_eq!(percentile(&ramp(enough - 1), share), None, "{share}");
            assert!(percentile(&ramp(enough), share).is_some(), "{share}");
        }
    }

    #[test]
    fn nearest_rank_and_its_interval() {
        let p95 = percentile(&ramp(1_000), 0.95).unwrap();
        assert_eq!(p95.value, 950.0);
        assert!(p95.low.unwrap() < 950.0 && p95.high.unwrap() > 950.0);
        assert_eq!(percentile(&ramp(1_000), 0.5).unwrap().value, 500.0);
    }

    #[test]
    fn intervals_cover_the_true_percentile() {
        // Uniform samples from a counter generator: the true p90 is 0.9.
        use rand_chacha::rand_core::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut covered = 0;
        for _ in 0..400 {
            let mut samples: Vec<f64> = (0..300).map(|_| f64::from(rng.next_u32()) / 2f64.powi(32)).collect();
            samples.sort_by(f64::total_cmp);
            let p90 = percentile(&samples, 0.9).unwrap();
            covered += usize::from(p90.low.unwrap() <= 0.9 && 0.9 <= p90.high.unwrap());
        }
        assert!((345..=385).contains(&covered), "{covered} of 400, expected about 90 %");
    }

    #[test]
    fn outliers_without_deviation_are_all_others() {
        assert_eq!(outliers(&[1.0, 1.0, 1.0, 1.0, 9.0]), 1);
        assert_eq!(outliers(&ramp(100)), 0);
    }

    #[test]
    fn drift_is_unstable() {
        let steady: Vec<f64> = (0..600).map(|index| 10.0 + f64::from(index % 7) * 0.01).collect();
        assert!(stability(&steady).stable);
        let drifting: Vec<f64> = (0..600).map(|index| 10.0 + f64::from(index) * 0.01).collect();
        assert!(!stability(&drifting).stable);
        assert!(!stability(&steady[..60]).stable, "windows of 20 have no p95");
    }
}
