//! Tests of the measurement itself: cells with a known distribution must yield its percentiles, the right
//! flags and the right verdicts.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::{CudaSettings, EngineName, Mode};

use super::budgets::{Outcome, judge};
use super::cell::{CellId, CellResult, speed_ups};
use super::compare::{Comparison, Side, compare};
use super::environment::Environment;
use super::gpu::Gpu;
use super::measure::{Cell, Measured, Plan, measure};

use super::stats::{Percentile, outliers, percentiles, stability};

const PLAN: Plan = Plan { min_samples: 5_000, min_seconds: 5.0, max_seconds: 30.0, seed: 1 };

/// Milliseconds of a run, given the number of runs before it and a uniform draw.
type Law = fn(usize, f64) -> f64;

fn measured(law: Law) -> Measured {
    drawn(law, 7)
}

/// Measures a cell with this distribution beside another one, as real cells are measured.
fn drawn(law: Law, seed: u64) -> Measured {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
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

/// Measured p50, p90, p99 and p99.9, and all samples, in milliseconds.
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
    assert_eq!(outliers(&ms), slow, "more than half are equal, so every other sample is an outlier");
}

#[test]
fn a_heavy_tail_is_bounded_as_it_is() {
    // Pareto distribution with index 3: the percentile of share s is (1 - s)^(-1/3).
    let mut held = [0; 4];
    for seed in 0..30 {
        let (found, ms) = figures(&drawn(|_, draw| draw.powf(-1.0 / 3.0), seed));
        for ((found, share), held) in found.iter().zip([0.5f64, 0.9, 0.99, 0.999]).zip(&mut held) {
            let truth = (1.0 - share).powf(-1.0 / 3.0);
            assert!((found.value / truth - 1.0).abs() < 0.5, "{share}: {found:?}");
            *held += usize::from(holds(found, truth));
        }
        assert!(outliers(&ms) > 0);
    }
    assert!(held.iter().all(|&held| held >= 24), "{held:?} of 30, expected about 90 %");
}

#[test]
fn drift_is_flagged() {
    let slow = measured(|run, draw| 1.0 + 0.1 * draw + 4e-5 * run as f64);
    let (_, ms) = figures(&slow);
    assert!(!stability(&ms).stable, "{:?}", stability(&ms));
    let steady = measured(|_, draw| 1.0 + 0.1 * draw);
    assert!(stability(&figures(&steady).1).stable && steady.warm);
    // The tail grows while the median stays.
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

fn result(model: &str, law: Law) -> CellResult {
    let (engine, batch, threads, mode) = (EngineName::Tract, 1, 1, Mode::Device);
    CellResult::of(CellId { model: model.into(), engine, batch, threads, mode }, measured(law))
}

/// Compares a new cell with an old one, both from this machine.
fn held_against(new: &CellResult, old: &CellResult) -> Comparison {
    let (environment, cuda) = (Environment::read(), CudaSettings::default());
    let side = |cell| Side { models: 2, environment: &environment, cuda, cells: std::slice::from_ref(cell) };
    compare(&side(new), &side(old), "old.json".into(), 0.05, 1).unwrap()
}

#[test]
fn budgets_hold_fail_or_are_undecided() {
    let steady = result("a", |_, draw| 1.0 + 0.1 * draw);
    let drifting = result("b", |run, _| 1.0 + 1e-4 * run as f64);
    let few = CellResult::of(
        CellId { batch: 8, ..steady.cell.clone() },
        Measured { samples: vec![1_000_000; 20], turns: vec![20], ..Measured::default() },
    );
    let cells = [steady, drifting, few];
    // Within the drift, though far beyond the interval.
    let p50 = cells[1].p50.unwrap();
    let [above, below] = [1.04 * p50.value, p50.value / 1.04];
    assert!(p50.high.unwrap() < above && p50.low.unwrap() > below && !cells[1].stability.stable, "{p50:?}");
    let [above, below] = [above, below].map(|limit| format!("tract:p50<{limit}ms@1"));
    for (budget, model, outcome) in [
        (above.as_str(), "b", Outcome::Undecided),
        (below.as_str(), "b", Outcome::Undecided),
        ("tract:p95<2ms@1", "a", Outcome::Holds),
        ("tract:p95<1.05ms@1", "a", Outcome::Fails),
        ("tract:p50<1.05ms@1", "a", Outcome::Undecided),
        // Far beyond the drift.
        ("tract:p95<100ms@1", "b", Outcome::Holds),
        ("tract:p50<0.1ms@1", "b", Outcome::Fails),
        ("tract:p95<2ms@8", "a", Outcome::Undecided),
        ("tract:p95<2ms@1x2", "a", Outcome::Undecided),
        ("tract/host:p95<2ms@1", "a", Outcome::Undecided),
        ("ort-cpu:p95<2ms@1", "a", Outcome::Undecided),
        ("tract:p50<9x@1", "a", Outcome::Holds),
        ("tract:p50<0.01x@1", "a", Outcome::Fails),
        ("tract:p50<0.5x@8", "a", Outcome::Undecided),
    ] {
        let verdicts = judge(&[budget.parse().unwrap()], &cells, "b", |name| name == model);
        assert_eq!(verdicts.len(), 1, "{budget}");
        assert_eq!(verdicts[0].outcome, outcome, "{budget}: {}", verdicts[0].found);
    }
}

#[test]
fn a_regression_is_found_and_noise_is_none() {
    let old = result("a", |_, draw| 1.0 + 0.1 * draw);
    let laws: [(Law, Outcome); 4] = [
        (|_, draw| 1.0 + 0.1 * draw, Outcome::Holds),
        (|_, draw| 0.5 + 0.1 * draw, Outcome::Holds),
        (|_, draw| 1.2 + 0.1 * draw, Outcome::Fails),
        (|run, _| 1.0 + 1e-4 * run as f64, Outcome::Undecided),
    ];
    for (law, outcome) in laws {
        let compared = held_against(&result("a", law), &old);
        assert_eq!(compared.cells[0].outcome, outcome, "{:?}", compared.cells[0]);
    }
    let (here, cuda) = (Environment::read(), CudaSettings::default());
    let there = Environment { cpu_model: "another".into(), ..here.clone() };
    let then = Side { models: 1, environment: &there, cuda, cells: std::slice::from_ref(&old) };
    let renamed = [result("b", |_, draw| 1.0 + 0.1 * draw)];
    let now = Side { models: 1, environment: &here, cuda, cells: &renamed };
    let compared = compare(&now, &then, "old.json".into(), 0.05, 1).unwrap();
    assert_eq!(compared.cells[0].outcome, Outcome::Undecided);
    assert!(compared.differences[0].starts_with("CPU was"), "{:?}", compared.differences);
    assert!(compare(&Side { models: 2, ..now }, &then, "old.json".into(), 0.05, 1).is_err(), "names differ");
    let graph = Side { cuda: CudaSettings { graph: true, ..cuda }, environment: &here, ..then };
    let compared =
        |graph: &Side<'_>, now: &Side<'_>| compare(now, graph, "old.json".into(), 0.05, 1).unwrap();
    assert_eq!(compared(&graph, &now).cells[0].outcome, Outcome::Holds, "only CUDA's cells depend on it");
    let on_cuda = |cell: &CellResult| CellResult {
        cell: CellId { engine: EngineName::OrtCuda, ..cell.cell.clone() },
        ..cell.clone()
    };
    let (old, new) = ([on_cuda(&old)], [on_cuda(&renamed[0])]);
    let now = Side { cells: &new, ..now };
    assert_eq!(compared(&Side { cells: &old, ..graph }, &now).cells[0].outcome, Outcome::Undecided);
    let then = Side { cells: &old, cuda, ..graph };
    assert_eq!(compared(&then, &now).cells[0].outcome, Outcome::Holds);
    let gpu = Gpu { name: "another".into(), driver: String::new(), cuda: String::new(), memory_bytes: None };
    let there = Environment { gpu: Some(gpu), ..here.clone() };
    assert_eq!(compared(&Side { environment: &there, ..then }, &now).cells[0].outcome, Outcome::Undecided);
}

#[test]
fn speed_ups_are_over_the_same_cell_of_the_baseline() {
    let cells = [result("slow", |_, draw| 2.0 + 0.1 * draw), result("fast", |_, draw| 1.0 + 0.05 * draw)];
    let found = speed_ups(&cells, "slow", 1);
    assert_eq!((found.len(), found[0].cell.model.as_str()), (1, "fast"));
    assert!(found[0].distinguishable && (found[0].ratio.value - 2.0).abs() < 0.02, "{:?}", found[0]);
}
