//! `cohort bench`: latency of ONNX files.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::Result;

use crate::bench::{Subject, bench};
use crate::config::Bench;
use crate::engine::open;
use crate::error::InputError;
use crate::folder::write_json;
use crate::onnx::OnnxFile;
use crate::report::{bench_rows, bench_table};
use crate::ui::{out, out_json};

use super::Common;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// ONNX files; speed-ups are over the first
    #[arg(required = true)]
    pub models: Vec<PathBuf>,
    /// Engines: ort-cpu, ort-cuda, tract [default: ort-cpu if it is there, and tract]
    #[arg(long, value_delimiter = ',')]
    pub engine: Vec<String>,
    /// Batch sizes
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub batch: Vec<usize>,
    /// Intra-op threads; 0 takes all
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub threads: Vec<usize>,
    /// Runs a cell, at least
    #[arg(long, default_value_t = Bench::default().min_samples)]
    pub min_samples: usize,
    /// Seconds a cell, at least
    #[arg(long, default_value_t = Bench::default().min_seconds)]
    pub min_seconds: f64,
    /// Seconds a cell, at most
    #[arg(long, default_value_t = Bench::default().max_seconds)]
    pub max_seconds: f64,
    /// Write everything, raw samples too, to this JSON file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// [`InputError`] if a model or an engine cannot be used.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let settings = settings(args, common)?;
    let mut subjects = Vec::new();
    for path in &args.models {
        let file = OnnxFile::load(path)?;
        let image = file.image_shape().ok_or_else(|| {
            InputError::new(format!("{}: the image size is not fixed in the file", path.display()))
                .hint("export it with fixed channels, height and width; the batch may be free")
        })?;
        subjects.push(Subject {
            name: path.display().to_string(),
            image,
            fixed_batch: file.fixed_batch(),
            open: Box::new(move |engine, options| open(&file, engine, options)),
        });
    }
    let report = bench(&subjects, &settings, 0, common.ui(), &AtomicBool::new(false))?;
    if let Some(path) = &args.out {
        write_json(path, &report)?;
    }
    if common.json {
        return out_json(&report);
    }
    let first = &subjects[0].name;
    out(bench_table(&bench_rows(&report, first), (subjects.len() > 1).then_some(first.as_str())))
}

fn settings(args: &Args, common: &Common) -> Result<Bench> {
    let wrong = |problem: &str, hint: &str| Err(InputError::new(problem).hint(hint).into());
    if args.batch.contains(&0) {
        return wrong("--batch 0: a batch holds at least one image", "give sizes such as --batch 1,8");
    }
    if args.min_samples == 0 {
        return wrong("--min-samples 0: nothing would be measured", "1000 is the default");
    }
    let seconds =
        args.min_seconds >= 0.0 && args.max_seconds >= args.min_seconds && args.max_seconds.is_finite();
    if !seconds {
        return wrong(
            "--max-seconds must be at least --min-seconds, which must be at least 0",
            "5 and 30 are the defaults",
        );
    }
    Ok(Bench {
        engines: common.engines(&args.engine)?,
        batch: args.batch.clone(),
        threads: args.threads.clone(),
        min_samples: args.min_samples,
        min_seconds: args.min_seconds,
        max_seconds: args.max_seconds,
    })
}
