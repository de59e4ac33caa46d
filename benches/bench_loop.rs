//! The overhead of the measuring loop per run: cells that do nothing, timed by the loop itself and by a clock around it.
//!
//! `cargo bench --bench bench_loop`

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::time::Instant;

use anyhow::Result;
use cohort::bench::{Cell, Plan, measure, median};

const CELLS: usize = 2;

fn main() -> Result<()> {
    let plan = Plan { min_samples: 200_000, min_seconds: 0.0, max_seconds: 1e9, seed: 1 };
    let mut cells: Vec<Cell<'_>> = (0..CELLS)
        .map(|_| Cell {
            run: Box::new(|| {
                let start = Instant::now();
                std::hint::black_box(());
                Ok(start.elapsed().as_nanos() as u64)
            }),
        })
        .collect();
    // The warm-up lasts until cells have run for a second, which empty cells hardly do, so it is left out.
    let mut warm = None;
    let measured = measure(&mut cells, &plan, |done| {
        if done >= CELLS && warm.is_none() {
            warm = Some(Instant::now());
        }
        Ok(())
    })?;
    let elapsed_ns = warm.map_or(0.0, |warm| warm.elapsed().as_nanos() as f64);
    let runs: usize = measured.iter().map(|cell| cell.samples.len()).sum();
    let inside: f64 = measured.iter().flat_map(|cell| &cell.samples).map(|&sample| sample as f64).sum();
    let readings: Vec<f64> =
        measured.iter().flat_map(|cell| &cell.samples).map(|&sample| sample as f64).collect();
    println!(
        "{runs} runs of nothing: {:.0} ns each read on the clock (median {:.0})",
        inside / runs as f64,
        median(&readings)
    );
    println!("around each: {:.0} ns of the loop", (elapsed_ns - inside) / runs as f64);
    Ok(())
}
