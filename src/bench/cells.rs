//! Turns models and settings into a measurement: lists the cells and measures each.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::config::{Bench, EngineName, Mode, Scenario};
use crate::engine::EngineOptions;
use crate::error::InputError;
use crate::progress::{Progress, Task};

use super::cell::{CellId, CellResult, speed_ups, sweeps};
use super::conditions::{Conditions, Snapshot};
use super::environment::{Environment, usable_threads};
use super::fresh::{Fresh, Request, fresh};
use super::measure::{Cell, Measured, Plan, measure};
use super::profile::profile;
use super::report::{BenchReport, ModelProfile, Offline, SCHEMA, Served};
use super::server::{Load, Monotonic, highest_rate, queries_for, serve};
use super::stats::{mean_interval, median, split};
use super::subject::{Loaded, Subject};

/// Seconds for which each batch size is measured to find the best one.
const SWEEP_SECONDS: f64 = 0.5;

/// Number of runs under the profiler.
const PROFILED_RUNS: usize = 100;

/// Inputs of a measurement besides its settings.
pub struct Benchmark<'a> {
    /// The model over which speed-ups are reported.
    pub baseline: String,
    pub seed: u64,
    pub progress: &'a dyn Progress,
    /// Set when the user asks to stop.
    pub stop: &'a AtomicBool,
    /// Path of this program, which fresh processes are started from.
    pub program: Option<PathBuf>,
}

/// Measures every model on every engine with every batch size, thread count and mode. Cells of the CUDA provider
/// only take turns with each other, because a GPU may lower its clocks while the CPU engines run. libtorch's
/// cells come last, because its threads keep spinning.
///
/// # Errors
/// If an engine cannot load a model, a run fails, or `stop` is set.
pub fn bench(subjects: &[Subject<'_>], settings: &Bench, benchmark: &Benchmark<'_>) -> Result<BenchReport> {
    let environment = Environment::read();
    let before = Snapshot::take();
    let mut report = BenchReport {
        schema: SCHEMA,
        environment,
        conditions: Conditions { before: before.clone(), after: before.clone() },
        settings: settings.clone(),
        models: subjects.iter().map(|subject| subject.model.clone()).collect(),
        cells: Vec::new(),
        speed_ups: Vec::new(),
        sweeps: Vec::new(),
        offline: Vec::new(),
        server: Vec::new(),
        fresh: Vec::new(),
        profiles: Vec::new(),
        budgets: Vec::new(),
        comparison: None,
        warnings: left_out(subjects, settings)?,
    };
    let (torch, others): (Vec<EngineName>, Vec<EngineName>) =
        settings.engines.iter().partition(|engine| **engine == EngineName::Torch);
    let (cuda, others): (Vec<EngineName>, Vec<EngineName>) =
        others.into_iter().partition(|engine| *engine == EngineName::OrtCuda);
    let mut blocks = vec![(others, settings.threads.clone()), (cuda, settings.threads.clone())];
    blocks.extend(settings.threads.iter().map(|&threads| (torch.clone(), vec![threads])));
    for (engines, threads) in blocks {
        let loaded = load(subjects, settings, &engines, &threads, benchmark.seed)?;
        if !loaded.is_empty() {
            block(&loaded, settings, benchmark, &mut report)?;
        }
    }
    report.profiles = profiles(subjects, settings, benchmark)?;
    report.fresh = fresh_processes(subjects, settings, benchmark)?;
    report.speed_ups = speed_ups(&report.cells, &benchmark.baseline, benchmark.seed);
    report.sweeps = sweeps(&report.cells);
    report.conditions.after = Snapshot::take();
    report.warnings.extend(report.conditions.warnings(&report.environment));
    report.warnings.extend(report.environment.oversubscribed(&settings.threads));
    Ok(report)
}

/// Warnings about batch sizes that a model does not take.
fn left_out(subjects: &[Subject<'_>], settings: &Bench) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for subject in subjects {
        let Some(fixed) = subject.batch else { continue };
        let name = &subject.model.name;
        let others: Vec<String> =
            settings.batch.iter().filter(|&&batch| batch != fixed).map(ToString::to_string).collect();
        if others.len() == settings.batch.len() {
            let problem = format!("{name} takes only batches of {fixed}");
            return Err(InputError::new(problem).hint(format!("measure it with --batch {fixed}")).into());
        }
        if !others.is_empty() {
            let others = others.join(", ");
            warnings.push(format!("{name} takes only batches of {fixed}; left out: {others}"));
        }
    }
    Ok(warnings)
}

/// The options of an engine for a thread count of the settings.
fn options(settings: &Bench, threads: usize) -> EngineOptions {
    let threads = if threads == 0 { usable_threads() } else { threads };
    EngineOptions { threads, cuda: settings.cuda, ..EngineOptions::default() }
}

fn load<'a>(
    subjects: &'a [Subject<'a>],
    settings: &Bench,
    engines: &[EngineName],
    threads: &[usize],
    seed: u64,
) -> Result<Vec<Loaded<'a>>> {
    let mut loaded = Vec::new();
    for &threads in threads {
        let options = options(settings, threads);
        for subject in subjects {
            for &engine in engines {
                for batch in batches(subject, settings) {
                    loaded.push(Loaded::open(subject, engine, batch, &options, seed)?);
                }
            }
        }
    }
    Ok(loaded)
}

fn batches<'a>(subject: &'a Subject<'_>, settings: &'a Bench) -> impl Iterator<Item = usize> + 'a {
    let takes = |batch: &usize| subject.batch.is_none_or(|fixed| fixed == *batch);
    settings.batch.iter().copied().filter(takes)
}

/// Runs every scenario on the loaded models.
fn block(
    loaded: &[Loaded<'_>],
    settings: &Bench,
    benchmark: &Benchmark<'_>,
    report: &mut BenchReport,
) -> Result<()> {
    for scenario in &settings.scenarios {
        match scenario {
            Scenario::SingleStream => report.cells.extend(single_stream(loaded, settings, benchmark)?),
            Scenario::Offline => report.offline.extend(offline(loaded, settings, benchmark)?),
            Scenario::Server => report.server.extend(server(loaded, settings, benchmark)?),
        }
    }
    Ok(())
}

fn plan(settings: &Bench, seed: u64) -> Plan {
    Plan {
        min_samples: settings.min_samples,
        min_seconds: settings.min_seconds,
        max_seconds: settings.max_seconds,
        seed,
    }
}

fn cell<'a>(loaded: &'a Loaded<'a>, mode: Mode) -> Cell<'a> {
    Cell { run: Box::new(move || loaded.run(mode)) }
}

fn single_stream(
    loaded: &[Loaded<'_>],
    settings: &Bench,
    benchmark: &Benchmark<'_>,
) -> Result<Vec<CellResult>> {
    let pairs = || loaded.iter().flat_map(|loaded| settings.modes.iter().map(move |&mode| (loaded, mode)));
    let mut cells: Vec<Cell<'_>> = pairs().map(|(loaded, mode)| cell(loaded, mode)).collect();
    let task = benchmark.progress.begin("bench", 2 * cells.len() as u64, "phases");
    let measured =
        measure(&mut cells, &plan(settings, benchmark.seed), |done| advance(&task, done, benchmark.stop))?;
    let results = pairs().zip(measured);
    Ok(results.map(|((loaded, mode), measured)| loaded.result(mode, measured)).collect())
}

/// Throughput of each model on each engine at each thread count, at the batch size that gives the most.
fn offline(loaded: &[Loaded<'_>], settings: &Bench, benchmark: &Benchmark<'_>) -> Result<Vec<Offline>> {
    let group = |loaded: &Loaded<'_>| CellId { batch: 0, ..loaded.id(Mode::Host) };
    let mut groups: Vec<CellId> = loaded.iter().map(group).collect();
    groups.dedup();
    let task = benchmark.progress.begin("offline", groups.len() as u64, "rows");
    let mut results = Vec::new();
    for id in groups {
        advance(&task, results.len(), benchmark.stop)?;
        let same: Vec<&Loaded<'_>> = loaded.iter().filter(|loaded| group(loaded) == id).collect();
        let short = Plan {
            min_samples: 1,
            min_seconds: SWEEP_SECONDS,
            max_seconds: SWEEP_SECONDS,
            seed: benchmark.seed,
        };
        let mut sizes: Vec<Cell<'_>> = same.iter().map(|loaded| cell(loaded, Mode::Host)).collect();
        let sweep: Vec<f64> = measure(&mut sizes, &short, |_| advance(&task, 0, benchmark.stop))?
            .iter()
            .zip(&same)
            .map(|(measured, loaded)| throughput(loaded.batch, &measured.samples))
            .collect();
        let Some((best, _)) = same.iter().zip(&sweep).max_by(|a, b| a.1.total_cmp(b.1)) else { continue };
        let long = plan(settings, benchmark.seed);
        let measured = measure(&mut [cell(best, Mode::Host)], &long, |_| advance(&task, 0, benchmark.stop))?;
        let sweep: Vec<(usize, f64)> = same.iter().map(|loaded| loaded.batch).zip(sweep).collect();
        results.extend(
            measured.iter().map(|measured| offline_of(best, measured, sweep.clone(), benchmark.seed)),
        );
    }
    Ok(results)
}

fn offline_of(best: &Loaded<'_>, measured: &Measured, sweep: Vec<(usize, f64)>, seed: u64) -> Offline {
    let turns = split(&measured.samples, &measured.turns).map(|turn| throughput(best.batch, turn));
    let turns: Vec<f64> = turns.collect();
    Offline {
        cell: best.id(Mode::Host),
        images_per_second: throughput(best.batch, &measured.samples),
        interval: mean_interval(&turns, seed).map(|mean| [mean.low, mean.high]),
        samples: best.batch * measured.samples.len(),
        seconds: measured.samples.iter().sum::<u64>() as f64 * 1e-9,
        sweep,
    }
}

/// Samples of the model per second.
fn throughput(batch: usize, nanoseconds: &[u64]) -> f64 {
    let seconds = nanoseconds.iter().sum::<u64>() as f64 * 1e-9;
    (batch * nanoseconds.len()) as f64 / seconds.max(1e-12)
}

/// Measures every model as a server, one after another, because two queues would compete for the machine.
fn server(loaded: &[Loaded<'_>], settings: &Bench, benchmark: &Benchmark<'_>) -> Result<Vec<Served>> {
    let task = benchmark.progress.begin("server", loaded.len() as u64, "rows");
    let mut results = Vec::new();
    for loaded in loaded {
        let step = || advance(&task, results.len(), benchmark.stop);
        let mut services = Vec::new();
        let warm = Plan {
            min_samples: 1,
            min_seconds: SWEEP_SECONDS,
            max_seconds: SWEEP_SECONDS,
            seed: benchmark.seed,
        };
        for measured in measure(&mut [cell(loaded, Mode::Host)], &warm, |_| step())? {
            services.extend(measured.samples.iter().map(|&nanoseconds| nanoseconds as f64 * 1e-6));
        }
        let clock = Monotonic::start();
        let mut answer = || loaded.run(Mode::Host).map(|_| ());
        let mut rates = Vec::new();
        let load = |rate: f64, give_up: bool| Load {
            rate,
            queries: queries_for(rate, settings.min_seconds),
            max_seconds: settings.max_seconds,
            target_ms: settings.p99_target_ms,
            give_up,
            seed: benchmark.seed,
        };
        for &rate in &settings.rates {
            step()?;
            rates.push(serve(&mut answer, &clock, &load(rate, false))?);
        }
        let search = settings.p99_target_ms.map(|_| {
            let (service, wanted) = (median(&services), load(0.0, true));
            highest_rate(&mut answer, &clock, service, settings.min_seconds, &wanted, step)
        });
        let search = search.transpose()?;
        results.push(Served { cell: loaded.id(Mode::Host), rates, search });
    }
    Ok(results)
}

/// A model in an engine at a batch size, to be opened again in a fresh process.
struct Opened<'a> {
    subject: &'a Subject<'a>,
    engine: EngineName,
    options: EngineOptions,
    batch: usize,
}

/// Everything that was opened, except libtorch, which does not open files.
fn opened<'a>(subjects: &'a [Subject<'a>], settings: &Bench) -> Vec<Opened<'a>> {
    let mut opened = Vec::new();
    for &threads in &settings.threads {
        for subject in subjects {
            for &engine in settings.engines.iter().filter(|&&engine| engine != EngineName::Torch) {
                for batch in batches(subject, settings) {
                    opened.push(Opened { subject, engine, options: options(settings, threads), batch });
                }
            }
        }
    }
    opened
}

fn profiles(
    subjects: &[Subject<'_>],
    settings: &Bench,
    benchmark: &Benchmark<'_>,
) -> Result<Vec<ModelProfile>> {
    if !settings.profile {
        return Ok(Vec::new());
    }
    let opened = opened(subjects, settings);
    let task = benchmark.progress.begin("profile", opened.len() as u64, "rows");
    let mut profiles = Vec::new();
    for Opened { subject, engine, options, batch } in opened {
        advance(&task, profiles.len(), benchmark.stop)?;
        let profile = profile(subject.file, engine, &options, batch, &subject.model.sample, PROFILED_RUNS)?;
        profiles.push(ModelProfile { model: subject.model.name.clone(), profile });
    }
    Ok(profiles)
}

fn fresh_processes(
    subjects: &[Subject<'_>],
    settings: &Bench,
    benchmark: &Benchmark<'_>,
) -> Result<Vec<Fresh>> {
    let starts = settings.cold_starts.max(usize::from(settings.memory));
    let Some(program) = benchmark.program.as_ref().filter(|_| starts > 0) else { return Ok(Vec::new()) };
    let opened = opened(subjects, settings);
    let task = benchmark.progress.begin("fresh", (starts * opened.len()) as u64, "processes");
    let mut done = 0;
    let mut step = || {
        done += 1;
        advance(&task, done - 1, benchmark.stop)
    };
    let one = |Opened { subject, engine, options, batch }: Opened<'_>| {
        let (model, sample) = (subject.model.path.clone(), subject.model.sample.clone());
        let request = Request { model, engine, options, batch, sample, seed: benchmark.seed };
        fresh(program, &request, subject.model.name.clone(), starts, &mut step)
    };
    opened.into_iter().map(one).collect()
}

/// Reports progress, and ends the measurement when the user asks to stop.
fn advance(task: &Task<'_>, done: usize, stop: &AtomicBool) -> Result<()> {
    task.set(done as u64);
    if stop.load(Ordering::Relaxed) { bail!("the measurement was stopped") } else { Ok(()) }
}
