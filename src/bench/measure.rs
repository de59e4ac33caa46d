//! The measuring loop: warm-up, then all cells interleaved in random order.
//!
//! It knows nothing about models: a cell is anything that runs once and returns how long it took.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::stats::median;

/// Minimum runs in a warm-up.
const WARMUP_RUNS: usize = 50;

/// Minimum and maximum seconds of a warm-up.
const WARMUP_SECONDS: (f64, f64) = (1.0, 10.0);

/// A warm-up ends when the medians of two consecutive windows differ by less than this share.
const WARMUP_AGREEMENT: f64 = 0.02;

/// Seconds for which one cell runs before the next one's turn.
const TURN_SECONDS: f64 = 0.1;

/// Something to measure: runs once and returns the nanoseconds it took.
pub struct Cell<'a> {
    pub run: Box<dyn FnMut() -> Result<u64> + 'a>,
}

/// How long cells run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    pub min_samples: usize,
    pub min_seconds: f64,
    pub max_seconds: f64,
    /// Seed for the order of turns.
    pub seed: u64,
}

/// One cell's samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Nanoseconds, in the order in which they were taken.
    pub samples: Vec<u64>,
    /// Number of samples per turn, in order.
    pub turns: Vec<usize>,
    pub warmup_runs: usize,
    /// Whether the warm-up ended because its windows agreed.
    pub warm: bool,
    pub(super) total_ns: u64,
}

impl Measured {
    fn done(&self, plan: &Plan) -> bool {
        let lasted = |seconds: f64| self.total_ns as f64 >= seconds * 1e9;
        (self.samples.len() >= plan.min_samples && lasted(plan.min_seconds)) || lasted(plan.max_seconds)
    }
}

/// Warms up every cell, then gives cells turns in random order until each has enough samples. The first run of a
/// turn refills the caches and is not counted. After every turn `step` is told how many phases are done (two per
/// cell: warm-up and measurement), and may end the measurement.
///
/// # Errors
/// The first error of a cell or of `step`.
pub fn measure(
    cells: &mut [Cell<'_>],
    plan: &Plan,
    mut step: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Measured>> {
    let mut measured = vec![Measured::default(); cells.len()];
    for (index, (cell, measured)) in cells.iter_mut().zip(&mut measured).enumerate() {
        warm_up(cell, measured)?;
        step(index + 1)?;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    loop {
        let mut open: Vec<usize> = (0..cells.len()).filter(|&index| !measured[index].done(plan)).collect();
        if open.is_empty() {
            return Ok(measured);
        }
        while !open.is_empty() {
            let place = (u64::from(rng.next_u32()) * open.len() as u64) >> 32;
            let index = open.swap_remove(place as usize);
            turn(&mut cells[index], &mut measured[index], plan)?;
            step(cells.len() + measured.iter().filter(|cell| cell.done(plan)).count())?;
        }
    }
}

fn turn(cell: &mut Cell<'_>, measured: &mut Measured, plan: &Plan) -> Result<()> {
    (cell.run)()?;
    let before = measured.samples.len();
    let mut seconds = 0.0;
    while seconds < TURN_SECONDS && !measured.done(plan) {
        let nanoseconds = (cell.run)()?;
        measured.samples.push(nanoseconds);
        seconds += nanoseconds as f64 * 1e-9;
        measured.total_ns += nanoseconds;
    }
    measured.turns.push(measured.samples.len() - before);
    Ok(())
}

fn warm_up(cell: &mut Cell<'_>, measured: &mut Measured) -> Result<()> {
    let mut samples: Vec<f64> = Vec::new();
    let mut seconds = 0.0;
    loop {
        let sample = (cell.run)()? as f64;
        samples.push(sample);
        seconds += sample * 1e-9;
        let window = samples.len() / 4;
        let enough = samples.len() >= WARMUP_RUNS && seconds >= WARMUP_SECONDS.0;
        if enough && samples.len().is_multiple_of(WARMUP_RUNS) {
            let (before, last) = samples[samples.len() - 2 * window..].split_at(window);
            measured.warm = (median(last) / median(before) - 1.0).abs() < WARMUP_AGREEMENT;
        }
        if (enough && measured.warm) || seconds >= WARMUP_SECONDS.1 {
            measured.warmup_runs = samples.len();
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(min_samples: usize, min_seconds: f64, max_seconds: f64) -> Plan {
        Plan { min_samples, min_seconds, max_seconds, seed: 1 }
    }

    #[test]
    fn every_cell_has_its_samples_and_its_time() {
        let mut cells: Vec<Cell<'_>> = [1_000_000, 20_000_000]
            .into_iter()
            .map(|time| Cell { run: Box::new(move || Ok(time)) })
            .collect();
        let measured = measure(&mut cells, &plan(100, 1.0, 5.0), |_| Ok(())).unwrap();
        assert_eq!(measured[0].samples.len(), 1_000);
        assert_eq!(measured[1].samples.len(), 100);
        assert!(measured.iter().all(|cell| cell.warm && cell.warmup_runs >= 50));
        let capped = measure(&mut cells, &plan(1_000, 0.0, 5.0), |_| Ok(())).unwrap();
        assert_eq!(capped[1].samples.len(), 250);
    }

    #[test]
    fn a_drifting_cell_is_not_warm() {
        let mut time = 10_000_000;
        let run = Box::new(move || {
            time += 300_000;
            Ok(time)
        });
        let measured = measure(&mut [Cell { run }], &plan(10, 0.0, 1.0), |_| Ok(())).unwrap();
        assert!(!measured[0].warm);
    }

    #[test]
    fn cells_take_turns() {
        let order = std::cell::RefCell::new(Vec::new());
        let mut cells: Vec<Cell<'_>> = (0..2)
            .map(|index| Cell {
                run: Box::new({
                    let order = &order;
                    move || {
                        order.borrow_mut().push(index);
                        Ok(10_000_000)
                    }
                }),
            })
            .collect();
        measure(&mut cells, &plan(100, 0.0, 60.0), |_| Ok(())).unwrap();
        let order = order.borrow();
        let changes = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes >= 10, "{changes} changes");
    }

    #[test]
    fn an_error_ends_the_measurement() {
        let run = Box::new(|| anyhow::bail!("broken"));
        assert!(measure(&mut [Cell { run }], &plan(1, 0.0, 1.0), |_| Ok(())).is_err());
    }
}
