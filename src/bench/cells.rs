//! From models and settings to cells, measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ndarray::{ArrayD, IxDyn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::{Bench, EngineName};
use crate::engine::{Engine, EngineOptions};
use crate::ui::{Bar, Ui};

use super::environment::{Environment, usable_threads};
use super::measure::{Cell, Plan, measure};
use super::report::{BenchReport, CellResult, CellStart};

/// How a model is opened in an engine.
type Open<'a> = Box<dyn Fn(EngineName, &EngineOptions) -> Result<Box<dyn Engine>> + 'a>;

/// A model to measure.
pub struct Subject<'a> {
    pub name: String,
    /// `[channels, height, width]`.
    pub image: [usize; 3],
    /// The only batch size it takes, if it takes but one.
    pub fixed_batch: Option<usize>,
    pub open: Open<'a>,
}

/// A cell ready to be measured.
struct Ready {
    start: CellStart,
    engine: Box<dyn Engine>,
}

/// Measures every model on every engine with every batch size and thread count. libtorch's cells
/// run after the others: its threads go on spinning.
///
/// # Errors
/// If an engine cannot load a model, a run fails, or `stop` is set.
pub fn bench(
    subjects: &[Subject<'_>],
    settings: &Bench,
    seed: u64,
    ui: Ui,
    stop: &AtomicBool,
) -> Result<BenchReport> {
    let environment = Environment::read();
    let mut cells = Vec::new();
    let (torch, others): (Vec<EngineName>, Vec<EngineName>) =
        settings.engines.iter().partition(|engine| **engine == EngineName::Torch);
    let mut blocks = vec![(others, settings.threads.clone())];
    blocks.extend(settings.threads.iter().map(|&threads| (torch.clone(), vec![threads])));
    for (engines, threads) in blocks {
        let ready = ready(subjects, settings, &engines, &threads, seed)?;
        if !ready.is_empty() {
            cells.extend(run(ready, settings, seed, ui, stop)?);
        }
    }
    let mode = "device".to_string();
    Ok(BenchReport { environment, settings: settings.clone(), mode, cells })
}

fn ready(
    subjects: &[Subject<'_>],
    settings: &Bench,
    engines: &[EngineName],
    threads: &[usize],
    seed: u64,
) -> Result<Vec<Ready>> {
    let mut ready = Vec::new();
    for &threads in threads {
        let threads = if threads == 0 { usable_threads() } else { threads };
        let options = EngineOptions { threads, ..EngineOptions::default() };
        for subject in subjects {
            for &engine in engines {
                for &batch in &settings.batch {
                    if subject.fixed_batch.is_some_and(|fixed| fixed != batch) {
                        continue;
                    }
                    let context = || format!("{} on {}, batch {batch}", subject.name, engine.key());
                    let start = Instant::now();
                    let mut loaded = (subject.open)(engine, &options)?;
                    let load_ms = start.elapsed().as_secs_f64() * 1e3;
                    let start = Instant::now();
                    loaded.bind(noise(batch, subject.image, seed).view()).with_context(context)?;
                    loaded.run_bound().with_context(context)?;
                    let first_run_ms = start.elapsed().as_secs_f64() * 1e3;
                    let model = subject.name.clone();
                    let engine_name = loaded.name();
                    let start =
                        CellStart { model, engine, engine_name, batch, threads, load_ms, first_run_ms };
                    ready.push(Ready { start, engine: loaded });
                }
            }
        }
    }
    Ok(ready)
}

fn run(
    mut ready: Vec<Ready>,
    settings: &Bench,
    seed: u64,
    ui: Ui,
    stop: &AtomicBool,
) -> Result<Vec<CellResult>> {
    let plan = Plan {
        min_samples: settings.min_samples,
        min_seconds: settings.min_seconds,
        max_seconds: settings.max_seconds,
        seed,
    };
    let mut bar = ui.bar("bench", 2 * ready.len() as u64, "halves of cells");
    let mut cells: Vec<Cell<'_>> = ready
        .iter_mut()
        .map(|ready| Cell {
            run: Box::new(|| {
                let start = Instant::now();
                ready.engine.run_bound()?;
                Ok(start.elapsed().as_nanos() as u64)
            }),
        })
        .collect();
    let measured = measure(&mut cells, &plan, |done| advance(&mut bar, done, stop))?;
    drop(cells);
    let starts = ready.into_iter().map(|ready| ready.start);
    Ok(starts.zip(measured).map(|(start, measured)| CellResult::new(start, measured)).collect())
}

/// Shows progress; ends the measurement when the user asks for it.
fn advance(bar: &mut Bar, done: usize, stop: &AtomicBool) -> Result<()> {
    bar.set(done as u64);
    if stop.load(Ordering::Relaxed) { bail!("the measurement was stopped") } else { Ok(()) }
}

/// A batch of seeded noise, uniform in ±1.7: as spread as normalised pixels.
fn noise(batch: usize, [channels, height, width]: [usize; 3], seed: u64) -> ArrayD<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let half = f64::from(u32::MAX) / 2.0;
    ArrayD::from_shape_simple_fn(IxDyn(&[batch, channels, height, width]), || {
        (1.7 * (f64::from(rng.next_u32()) / half - 1.0)) as f32
    })
}
