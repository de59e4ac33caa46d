//! Compares an engine's numbers and decisions with the reference.

use ndarray::{ArrayView1, ArrayView2};

use crate::task::{Agreement, agreement};

use super::report::{Flip, SetReport, Worst};
use super::tolerance::Tolerance;

/// Smallest scale of a sample, so that zero logits have a tolerance as well.
const MIN_SCALE: f64 = 1e-6;

/// How many times further from the reference an engine may be than float32 evaluations of the network are from one another.
/// Sums in another order and fused operations differ from those by small factors.
pub const FACTOR: f64 = 4.0;

/// Compares logits `[samples, classes]`.
pub fn compare(
    set: &str,
    gates: bool,
    truth: ArrayView2<'_, f64>,
    found: ArrayView2<'_, f32>,
    tolerance: &Tolerance,
) -> SetReport {
    compare_rounded(set, gates, truth, found, &Limits { tolerance, spreads: &[] })
}

/// What each sample is allowed.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    pub tolerance: &'a Tolerance,
    /// The largest distance between float32 evaluations, by sample; 0 where none was needed.
    pub spreads: &'a [f64],
}

impl Limits<'_> {
    fn allowed(&self, sample: usize, truth: f64, scale: f64) -> f64 {
        let spread = self.spreads.get(sample).copied().unwrap_or(0.0);
        self.tolerance.allowed(truth, scale).max(FACTOR * spread)
    }
}

/// Samples that are out of their limits or decided otherwise, the worst first.
pub fn exceeding(
    truth: ArrayView2<'_, f64>,
    found: ArrayView2<'_, f32>,
    tolerance: &Tolerance,
    spreads: &[f64],
) -> Vec<usize> {
    let limits = Limits { tolerance, spreads };
    let mut samples = Vec::new();
    for (sample, (truth, found)) in truth.outer_iter().zip(found.outer_iter()).enumerate() {
        let scale = scale(truth);
        let share = |(&truth, &found): (&f64, &f32)| {
            (f64::from(found) - truth).abs() / limits.allowed(sample, truth, scale)
        };
        let used = truth.iter().zip(found).map(share).fold(0.0, f64::max);
        let flip = flip(sample, truth, found, &limits).0.is_some_and(|flip| !flip.tie);
        if used > 1.0 || flip {
            samples.push((used, sample));
        }
    }
    samples.sort_by(|a, b| b.0.total_cmp(&a.0));
    samples.into_iter().map(|(_, sample)| sample).collect()
}

/// Compares logits `[samples, classes]` with limits that may be wider on some samples.
pub fn compare_rounded(
    set: &str,
    gates: bool,
    truth: ArrayView2<'_, f64>,
    found: ArrayView2<'_, f32>,
    limits: &Limits<'_>,
) -> SetReport {
    let mut report = empty(set, gates, truth, found);
    if !report.finite || truth.dim() != found.dim() || truth.is_empty() {
        return report;
    }
    numbers(&mut report, truth, found, limits);
    decisions(&mut report, truth, found, limits);
    report.passed =
        !gates || (report.tolerance_used <= 1.0 && excused_top1(&report) >= limits.tolerance.top1);
    report
}

/// A report without a comparison so far, which does not pass.
fn empty(set: &str, gates: bool, truth: ArrayView2<'_, f64>, found: ArrayView2<'_, f32>) -> SetReport {
    SetReport {
        set: set.to_string(),
        samples: truth.nrows(),
        gates,
        max_abs: 0.0,
        mean_abs: 0.0,
        p99_abs: 0.0,
        relative_l2: 0.0,
        cosine: 1.0,
        tolerance_used: 0.0,
        worst: None,
        finite: found.iter().all(|value| value.is_finite()) && truth.iter().all(|value| value.is_finite()),
        top1: 0.0,
        top5: 0.0,
        flips: Vec::new(),
        certified: 0,
        rounding: None,
        passed: false,
    }
}

/// Compares decisions `[samples, 1]`, class indices of which none may differ. `tolerance_used` is the number of those that
/// do.
pub fn compare_decisions(
    set: &str,
    gates: bool,
    truth: ArrayView2<'_, f64>,
    found: ArrayView2<'_, f32>,
) -> SetReport {
    let mut report = empty(set, gates, truth, found);
    if !report.finite || truth.dim() != found.dim() || truth.is_empty() {
        return report;
    }
    for (sample, (truth, found)) in truth.iter().zip(found).enumerate() {
        let found = f64::from(*found);
        report.max_abs = report.max_abs.max((found - truth).abs());
        if found != *truth {
            report.worst = report.worst.or(Some(Worst { sample, class: 0, truth: *truth, found }));
            let index = |class: f64| class.max(0.0) as usize;
            let (truth, found) = (index(*truth), index(found));
            report.flips.push(Flip { sample, truth, found, margin: 0.0, tie: false });
        }
    }
    let changed = report.flips.len();
    report.top1 = 1.0 - changed as f64 / report.samples as f64;
    report.top5 = report.top1;
    report.mean_abs = report.flips.iter().map(|flip| flip.truth.abs_diff(flip.found) as f64).sum::<f64>()
        / report.samples as f64;
    report.p99_abs = report.max_abs;
    report.tolerance_used = changed as f64;
    report.certified = report.samples - changed;
    report.passed = !gates || changed == 0;
    report
}

/// Share of samples that agree or are excused by a tie.
fn excused_top1(report: &SetReport) -> f64 {
    let wrong = report.flips.iter().filter(|flip| !flip.tie).count();
    1.0 - wrong as f64 / report.samples as f64
}

fn numbers(
    report: &mut SetReport,
    truth: ArrayView2<'_, f64>,
    found: ArrayView2<'_, f32>,
    limits: &Limits<'_>,
) {
    let mut errors = Vec::with_capacity(truth.len());
    let (mut difference, mut true_square, mut found_square, mut product) = (0.0, 0.0, 0.0, 0.0);
    for (sample, (truth, found)) in truth.outer_iter().zip(found.outer_iter()).enumerate() {
        let scale = scale(truth);
        for (class, (&truth, &found)) in truth.iter().zip(found).enumerate() {
            let found = f64::from(found);
            let error = (found - truth).abs();
            errors.push(error);
            difference += error * error;
            true_square += truth * truth;
            found_square += found * found;
            product += truth * found;
            let used = error / limits.allowed(sample, truth, scale);
            if report.worst.is_none() || used > report.tolerance_used {
                report.tolerance_used = used;
                report.worst = Some(Worst { sample, class, truth, found });
            }
        }
    }
    errors.sort_by(f64::total_cmp);
    let count = errors.len();
    report.max_abs = errors[count - 1];
    report.mean_abs = errors.iter().sum::<f64>() / count as f64;
    report.p99_abs = errors[((0.99 * count as f64).ceil() as usize).clamp(1, count) - 1];
    report.relative_l2 = difference.sqrt() / true_square.sqrt().max(f64::MIN_POSITIVE);
    let lengths = (true_square * found_square).sqrt();
    report.cosine = if lengths > 0.0 { product / lengths } else { 1.0 };
}

fn decisions(
    report: &mut SetReport,
    truth: ArrayView2<'_, f64>,
    found: ArrayView2<'_, f32>,
    limits: &Limits<'_>,
) {
    let mut top5 = 0;
    for (sample, (truth, found)) in truth.outer_iter().zip(found.outer_iter()).enumerate() {
        let (flip, Agreement { in_top5, certified, .. }) = flip(sample, truth, found, limits);
        report.certified += usize::from(certified);
        top5 += usize::from(in_top5);
        report.flips.extend(flip);
    }
    report.top1 = 1.0 - report.flips.len() as f64 / report.samples as f64;
    report.top5 = top5 as f64 / report.samples as f64;
}

/// The change of a sample's decision, if it changed.
fn flip(
    sample: usize,
    truth: ArrayView1<'_, f64>,
    found: ArrayView1<'_, f32>,
    limits: &Limits<'_>,
) -> (Option<Flip>, Agreement) {
    let found: Vec<f64> = found.iter().map(|&value| f64::from(value)).collect();
    let agreement = agreement(&truth.to_vec(), &found);
    let Agreement { decision, runner_up, found, margin, .. } = agreement;
    if found == decision {
        return (None, agreement);
    }
    let allowed = |class: usize| limits.allowed(sample, truth[class], scale(truth));
    let tie = limits.tolerance.ties_excused && margin < 2.0 * allowed(decision).max(allowed(runner_up));
    (Some(Flip { sample, truth: decision, found, margin, tie }), agreement)
}

/// The root mean square of a sample's logits, at least `MIN_SCALE`.
pub(super) fn scale(logits: ArrayView1<'_, f64>) -> f64 {
    let square = logits.iter().map(|value| value * value).sum::<f64>() / logits.len().max(1) as f64;
    square.sqrt().max(MIN_SCALE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineName;
    use crate::contract::Precision;
    use crate::engine::EngineOptions;
    use ndarray::{Array2, array};

    fn run(truth: &Array2<f64>, found: &Array2<f32>) -> SetReport {
        compare(
            "x",
            true,
            truth.view(),
            found.view(),
            &Tolerance::of(EngineName::OrtCpu, &EngineOptions::default(), Precision::Float32),
        )
    }

    #[test]
    fn small_errors_pass_and_large_ones_name_their_place() {
        let truth = array![[1.0, -2.0, 3.0], [0.5, 0.25, -0.5]];
        let mut found = truth.mapv(|value| value as f32);
        assert!(run(&truth, &found).passed);
        found[[1, 2]] += 1e-3;
        let report = run(&truth, &found);
        assert!(!report.passed && report.tolerance_used > 1.0);
        let worst = report.worst.unwrap();
        assert_eq!((worst.sample, worst.class), (1, 2));
        assert!((report.max_abs - 1e-3).abs() < 1e-6);
    }

    #[test]
    fn nan_always_fails() {
        let truth = array![[1.0, 2.0]];
        let report = compare(
            "x",
            false,
            truth.view(),
            array![[1.0f32, f32::NAN]].view(),
            &Tolerance::of(EngineName::Tract, &EngineOptions::default(), Precision::Float32),
        );
        assert!(!report.passed && !report.finite);
    }

    #[test]
    fn only_ties_of_the_tolerance_are_excused() {
        // A margin far below the tolerance may flip; one above it may not, however large the error was.
        let tie = run(&array![[1.0, 1.0 - 1e-9, 0.0]], &array![[1.0f32, 1.000_01, 0.0]]);
        assert!(tie.flips[0].tie && tie.passed, "{tie:?}");
        let flip = run(&array![[1.0, 0.99, 0.0]], &array![[0.99f32, 1.0, 0.0]]);
        assert!(!flip.flips[0].tie && !flip.passed, "{flip:?}");
        assert_eq!((flip.certified, tie.certified), (0, 0));
    }

    #[test]
    fn half_precision_is_wider_and_excuses_no_ties() {
        let half = |truth: &Array2<f64>, found: &Array2<f32>| {
            compare("x", true, truth.view(), found.view(), &Tolerance::half())
        };
        let wide = half(&array![[1.0, -2.0, 3.0]], &array![[1.01f32, -2.01, 3.01]]);
        assert!(wide.passed && !run(&array![[1.0, -2.0, 3.0]], &array![[1.01f32, -2.01, 3.01]]).passed);
        let tie = half(&array![[1.0, 1.0 - 1e-9, 0.0]], &array![[1.0f32, 1.000_01, 0.0]]);
        assert!(!tie.flips[0].tie && !tie.passed, "{tie:?}");
    }

    #[test]
    fn decisions_agree_or_not() {
        let truth = array![[3.0], [7.0], [0.0], [1.0]];
        let run = |found: &Array2<f32>| compare_decisions("x", true, truth.view(), found.view());
        assert!(run(&truth.mapv(|value| value as f32)).passed);
        let changed = run(&array![[3.0f32], [2.0], [0.0], [1.0]]);
        assert!(!changed.passed, "one is one too many");
        assert_eq!((changed.flips[0].sample, changed.flips[0].truth, changed.flips[0].found), (1, 7, 2));
        assert_eq!((changed.top1, changed.certified), (0.75, 3));
    }

    #[test]
    fn top5_and_certificates() {
        let truth = array![[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]];
        let same = run(&truth, &truth.mapv(|value| value as f32));
        assert_eq!((same.top1, same.top5, same.certified), (1.0, 1.0, 1));
        let reversed = run(&truth, &truth.mapv(|value| -value as f32));
        assert_eq!((reversed.top1, reversed.top5), (0.0, 0.0));
    }
}
