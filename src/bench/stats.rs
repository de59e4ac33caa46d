//! Statistics of samples: percentiles with intervals, outliers, stability, ratios.
//!
//! It is arithmetic only and knows neither clocks nor models. Successive samples are correlated, so intervals
//! are made from turns (groups of successive samples), not from single samples.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Largest relative difference between windows of a stable cell.
const STABLE: f64 = 0.05;

/// A median absolute deviation times this estimates the standard deviation of a normal distribution.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// Modified z-score from which a sample is an outlier (Iglewicz & Hoaglin 1993).
const OUTLIER: f64 = 3.5;

/// One-sided 95 % quantile of the normal distribution.
const Z_95: f64 = 1.644_854;

/// Number of bootstrap resamples.
const RESAMPLES: usize = 2_000;

/// Minimum number of turns for a bootstrap interval.
const MIN_TURNS: usize = 10;

/// A percentile with an interval from order statistics, in the samples' unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    pub value: f64,
    /// Each bound holds with 95 % confidence; `None` where there are too few samples beyond it.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// Nearest-rank percentile of samples in the order in which they were taken, `0 < share < 1`. `None` if there are
/// too few for a one-sided 95 % upper bound: fewer than `ln 0.05 / ln share`, which is 59 for p95 and 299 for
/// p99.
///
/// The bounds are order statistics (Woodruff 1952) whose ranks are spread by the design effect of the turns
/// (Kish 1965): samples within a turn are correlated, so they count for fewer than their number.
pub fn percentile(samples: &[f64], turns: &[usize], share: f64) -> Option<Percentile> {
    percentile_of_sorted(&sorted(samples), |value| design_effect(samples, turns, value), share)
}

/// Like [`percentile`], for several shares of the same samples.
pub fn percentiles(samples: &[f64], turns: &[usize], shares: &[f64]) -> Vec<Option<Percentile>> {
    let sorted = sorted(samples);
    let of =
        |&share: &f64| percentile_of_sorted(&sorted, |value| design_effect(samples, turns, value), share);
    shares.iter().map(of).collect()
}

fn percentile_of_sorted(sorted: &[f64], effect: impl FnOnce(f64) -> f64, share: f64) -> Option<Percentile> {
    let count = sorted.len();
    if (count as f64) < (0.05f64.ln() / share.ln()).ceil() {
        return None;
    }
    let rank = ((share * count as f64).ceil() as usize).clamp(1, count);
    let value = sorted[rank - 1];
    // The number of samples below the true percentile is binomial; its normal approximation gives the ranks of
    // the bounds.
    let spread = Z_95 * (count as f64 * share * (1.0 - share) * effect(value)).sqrt();
    let low = (share * count as f64 - spread).floor();
    let high = (share * count as f64 + spread).ceil() + 1.0;
    let at = |rank: f64| (rank >= 1.0 && rank <= count as f64).then(|| sorted[rank as usize - 1]);
    let high = at(high).or_else(|| sorted.last().copied());
    Some(Percentile { value, low: at(low), high })
}

/// The design effect: the variance of the share of samples at most `value`, divided by that of independent
/// samples, and at least 1. It is estimated from how the share varies between turns.
fn design_effect(samples: &[f64], turns: &[usize], value: f64) -> f64 {
    let at_most = |samples: &[f64]| samples.iter().filter(|sample| **sample <= value).count() as f64;
    let count = samples.len() as f64;
    let share = at_most(samples) / count;
    let independent = count * share * (1.0 - share);
    if turns.len() < 2 || independent == 0.0 {
        return 1.0;
    }
    let apart = split(samples, turns).map(|turn| at_most(turn) - share * turn.len() as f64);
    let between: f64 = apart.map(|difference| difference * difference).sum();
    let turns = turns.len() as f64;
    (between * turns / (turns - 1.0) / independent).max(1.0)
}

/// Splits samples by turn.
pub(super) fn split<'a, T>(samples: &'a [T], turns: &'a [usize]) -> impl Iterator<Item = &'a [T]> {
    let mut rest = samples;
    turns.iter().map(move |&turn| {
        let (now, later) = rest.split_at(turn.min(rest.len()));
        rest = later;
        now
    })
}

/// The median of every turn that has samples.
pub fn turn_medians(samples: &[f64], turns: &[usize]) -> Vec<f64> {
    split(samples, turns).filter(|turn| !turn.is_empty()).map(median).collect()
}

/// Median of the samples, which need not be sorted; 0 if there are none.
pub fn median(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Number of samples far above or below the median, by the median absolute deviation. If more than half of
/// the samples are equal, every sample that differs from them counts.
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
    /// Largest relative difference between the medians of three windows; `None` with too few samples.
    pub median_spread: Option<f64>,
    /// The same for their 95th percentiles; `None` with too few samples.
    pub p95_spread: Option<f64>,
}

/// Compares three windows of samples in the order in which they were taken.
pub fn stability(samples: &[f64]) -> Stability {
    let size = samples.len() / 3;
    if size == 0 {
        return Stability { stable: false, median_spread: None, p95_spread: None };
    }
    let windows: Vec<&[f64]> = (0..3).map(|window| &samples[window * size..][..size]).collect();
    let medians: Vec<f64> = windows.iter().map(|window| median(window)).collect();
    let tails: Option<Vec<f64>> =
        windows.iter().map(|window| Some(percentile(window, &[], 0.95)?.value)).collect();
    let median_spread = spread(&medians);
    let p95_spread = tails.as_deref().and_then(spread);
    let within = |spread: Option<f64>| spread.is_some_and(|spread| spread <= STABLE);
    Stability { stable: within(median_spread) && within(p95_spread), median_spread, p95_spread }
}

fn spread(values: &[f64]) -> Option<f64> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (low > 0.0).then(|| high / low - 1.0)
}

/// A ratio with its two-sided 95 % bootstrap interval (Efron & Tibshirani 1993, percentile method).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// Whether the interval excludes 1.
    pub fn is_distinguishable(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

/// `over / under` of two cells that took turns: the median over rounds of the ratio of the turns' medians in a
/// round. Rounds that only one of them has are left out. `None` with too few rounds.
pub fn paired_ratio(over: &[f64], under: &[f64], seed: u64) -> Option<Ratio> {
    let ratios: Vec<f64> = over.iter().zip(under).map(|(over, under)| over / under).collect();
    if ratios.len() < MIN_TURNS {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let resampled = (0..RESAMPLES).map(|_| median(&resample(&ratios, &mut rng)));
    Some(interval(median(&ratios), resampled.collect()))
}

/// `over / under` of two cells that were measured at different times: the ratio of the medians of their turns'
/// medians. `None` with too few turns.
pub fn unpaired_ratio(over: &[f64], under: &[f64], seed: u64) -> Option<Ratio> {
    if over.len().min(under.len()) < MIN_TURNS {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let resampled =
        (0..RESAMPLES).map(|_| median(&resample(over, &mut rng)) / median(&resample(under, &mut rng)));
    let resampled = resampled.collect();
    Some(interval(median(over) / median(under), resampled))
}

/// A mean with its two-sided 95 % bootstrap interval; `None` with too few values.
pub fn mean_interval(values: &[f64], seed: u64) -> Option<Ratio> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    if values.len() < MIN_TURNS {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let resampled = (0..RESAMPLES).map(|_| mean(&resample(values, &mut rng))).collect();
    Some(interval(mean(values), resampled))
}

fn resample(values: &[f64], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let pick = |_| values[((u64::from(rng.next_u32()) * values.len() as u64) >> 32) as usize];
    (0..values.len()).map(pick).collect()
}

fn interval(value: f64, mut resampled: Vec<f64>) -> Ratio {
    resampled.sort_by(f64::total_cmp);
    let at = |share: f64| resampled[((share * resampled.len() as f64) as usize).min(resampled.len() - 1)];
    Ratio { value, low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(count: usize) -> Vec<f64> {
        (1..=count).map(|value| value as f64).collect()
    }

    fn uniform(rng: &mut ChaCha8Rng) -> f64 {
        f64::from(rng.next_u32()) / 2f64.powi(32)
    }

    #[test]
    fn percentiles_need_enough_samples() {
        for (share, enough) in [(0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2_995)] {
            assert_eq!(percentile(&ramp(enough - 1), &[], share), None, "{share}");
            assert!(percentile(&ramp(enough), &[], share).is_some(), "{share}");
        }
    }

    #[test]
    fn nearest_rank_and_its_interval() {
        let p95 = percentile(&ramp(1_000), &[], 0.95).unwrap();
        assert_eq!(p95.value, 950.0);
        assert!(p95.low.unwrap() < 950.0 && p95.high.unwrap() > 950.0);
        let both = percentiles(&ramp(1_000), &[], &[0.5, 0.95]);
        assert_eq!((both[0].unwrap().value, both[1]), (500.0, Some(p95)));
    }

    /// How many of 400 intervals contain the true 90th percentile of uniform samples, where each turn of 10
    /// is shifted as a whole by up to `shift`.
    fn covered(shift: f64, turns: &[usize]) -> usize {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draw = |rng: &mut ChaCha8Rng| {
            let mut samples = Vec::with_capacity(300);
            for _ in 0..30 {
                let moved = shift * uniform(rng);
                samples.extend((0..10).map(|_| moved + uniform(rng)));
            }
            samples
        };
        let many: Vec<f64> = (0..2_000).flat_map(|_| draw(&mut rng)).collect();
        let truth = percentile(&many, &[], 0.9).unwrap().value;
        let holds = |samples: Vec<f64>| {
            let p90 = percentile(&samples, turns, 0.9).unwrap();
            p90.low.unwrap() <= truth && truth <= p90.high.unwrap()
        };
        (0..400).filter(|_| holds(draw(&mut rng))).count()
    }

    #[test]
    fn intervals_cover_the_true_percentile() {
        let turns = [10; 30];
        assert!((345..=385).contains(&covered(0.0, &[])), "expected about 90 %: {}", covered(0.0, &[]));
        assert!((345..=392).contains(&covered(0.0, &turns)), "{}", covered(0.0, &turns));
        // Samples of a turn are correlated, so the small number of turns is what counts.
        assert!(covered(2.0, &[]) < 320, "{}", covered(2.0, &[]));
        assert!((340..=392).contains(&covered(2.0, &turns)), "{}", covered(2.0, &turns));
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

    #[test]
    fn turns_have_their_medians() {
        assert_eq!(turn_medians(&[1.0, 2.0, 3.0, 9.0, 7.0], &[3, 0, 2]), [2.0, 8.0]);
    }

    /// Medians of 40 turns around `level`, with 5 % noise; `weather` is the slowdown that both cells of a
    /// round share.
    fn turns(level: f64, rng: &mut ChaCha8Rng, weather: &[f64]) -> Vec<f64> {
        weather.iter().map(|weather| level * weather * (0.95 + 0.1 * uniform(rng))).collect()
    }

    #[test]
    fn pairing_takes_away_what_both_suffer() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut held, mut apart, mut widths) = (0, 0, (0.0, 0.0));
        for seed in 0..100 {
            let weather: Vec<f64> = (0..40).map(|_| 1.0 + uniform(&mut rng)).collect();
            let (slow, fast) = (turns(1.2, &mut rng, &weather), turns(1.0, &mut rng, &weather));
            let paired = paired_ratio(&slow, &fast, seed).unwrap();
            let unpaired = unpaired_ratio(&slow, &fast, seed).unwrap();
            held += usize::from(paired.low <= 1.2 && 1.2 <= paired.high);
            apart += usize::from(paired.is_distinguishable());
            widths.0 += paired.high - paired.low;
            widths.1 += unpaired.high - unpaired.low;
        }
        assert!(held >= 88, "{held} of 100 intervals hold the true ratio");
        assert_eq!(apart, 100);
        assert!(widths.0 < 0.5 * widths.1, "{widths:?}");
    }

    #[test]
    fn equals_are_not_told_apart() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let weather = vec![1.0; 40];
        let apart = (0..100).filter(|&seed| {
            let (one, other) = (turns(1.0, &mut rng, &weather), turns(1.0, &mut rng, &weather));
            unpaired_ratio(&one, &other, seed).unwrap().is_distinguishable()
        });
        let apart = apart.count();
        assert!(apart <= 12, "{apart} of 100");
        assert_eq!(paired_ratio(&[1.0; 9], &[1.0; 9], 0), None);
        assert_eq!(mean_interval(&[2.0; 10], 0), Some(Ratio { value: 2.0, low: 2.0, high: 2.0 }));
    }
}
