//! The measuring, measured: cells whose distribution is known must get their percentiles back, and the right flags.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::measure::{Cell, Measured, Plan, measure};
use super::stats::{Percentile, outliers, percentiles, stability};

const PLAN: Plan = Plan { min_samples: 5_000, min_seconds: 5.0, max_seconds: 30.0, seed: 1 };

/// Milliseconds of a run, by how many were before and a uniform draw.
type Law = fn(usize, f64) -> f64;

/// Measures a cell of this law beside another one, as cells are.
fn measured(law: Law) -> Measured {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut runs = 0;
    let cell = Cell {
        run: Box::new(move || {
            let draw = (f64::from(rng.next_u32()) + 0.5) / 2f64.powi(32);
            runs += 1;
            Ok((law(runs - 1, draw) * 1e6).round() as u64)
        }),
    };
    let other = Cell { run: Box::new(|| Ok(2_000_000)) };
    measure(&mut [cell, other], &PLAN, |_| Ok(())).unwrap().swap_remove(0)
}

/// p50, p90, p99 and p99.9 of what was measured, and all samples, in milliseconds.
fn figures(measured: &Measured) -> (Vec<Percentile>, Vec<f64>) {
    let ms: Vec<f64> = measured.samples.iter().map(|&sample| sample as f64 * 1e-6).collect();
    let found = percentiles(&ms, &measured.turns, &[0.5, 0.9, 0.99, 0.999]);
    (found.into_iter().map(Option::unwrap).collect(), ms)
}

fn holds(found: &Percentile, truth: f64) -> bool {
    found.low.unwrap() <= truth && truth <= found.high.unwrap()
}

#[test]
fn a_constant_is_constant() {
    let measured = measured(|_, _| 1.0);
    let (found, ms) = figures(&measured);
    for percentile in found {
        assert_eq!(percentile, Percentile { value: 1.0, low: Some(1.0), high: Some(1.0) });
    }
    assert!(stability(&ms).stable && measured.warm);
    assert_eq!((outliers(&ms), ms.len()), (0, 5_000));
    assert_eq!(measured.turns.iter().sum::<usize>(), 5_000);
}

#[test]
fn two_modes_are_not_averaged() {
    let measured = measured(|_, draw| if draw < 0.8 { 1.0 } else { 3.0 });
    let (found, ms) = figures(&measured);
    assert_eq!(found.iter().map(|found| found.value).collect::<Vec<_>>(), [1.0, 3.0, 3.0, 3.0]);
    assert!(stability(&ms).stable);
    let slow = ms.iter().filter(|&&sample| sample == 3.0).count();
    assert_eq!(outliers(&ms), slow, "more than half are equal, so that every other one is far away");
}

#[test]
fn a_heavy_tail_is_bounded_as_it_is() {
    // Pareto with index 3: the percentile of share s is (1 - s)^(-1/3).
    let measured = measured(|_, draw| draw.powf(-1.0 / 3.0));
    let (found, ms) = figures(&measured);
    for (found, share) in found.iter().zip([0.5f64, 0.9, 0.99, 0.999]) {
        let truth = (1.0 - share).powf(-1.0 / 3.0);
        assert!(holds(found, truth), "{share}: {found:?} should hold {truth}");
        assert!((found.value / truth - 1.0).abs() < 0.15, "{share}: {found:?}");
    }
    assert!(outliers(&ms) > 0);
}

#[test]
fn drift_is_flagged() {
    let slow = measured(|run, draw| 1.0 + 0.1 * draw + 4e-5 * run as f64);
    let (_, ms) = figures(&slow);
    assert!(!stability(&ms).stable, "{:?}", stability(&ms));
    let steady = measured(|_, draw| 1.0 + 0.1 * draw);
    assert!(stability(&figures(&steady).1).stable && steady.warm);
    // A tail that grows under a median that stays.
    let tail = measured(|run, draw| if draw < 0.9 { 1.0 } else { 1.5 + 1e-4 * run as f64 });
    let found = stability(&figures(&tail).1);
    assert!(!found.stable && found.median_spread == Some(0.0), "{found:?}");
}

#[test]
fn few_samples_say_so() {
    let plan = Plan { min_samples: 1, min_seconds: 0.0, max_seconds: 2.9, seed: 1 };
    let cell = Cell { run: Box::new(|| Ok(10_000_000)) };
    let measured = measure(&mut [cell], &plan, |_| Ok(())).unwrap().swap_remove(0);
    assert!(!measured.samples.is_empty() && measured.samples.len() < 59);
    let ms = vec![10.0; measured.samples.len()];
    assert_eq!(percentiles(&ms, &measured.turns, &[0.95, 0.99]), [None, None]);
}
