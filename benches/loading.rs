//! Throughput of the loader: decodes and augments a pipeline's training images for one epoch, without training.
//!
//! `cargo bench --bench loading -- pipelines/cifar100.yaml --set data.workers=1`

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use cohort::config::{load_pipeline, quickstart};
use cohort::data::{TrainingOrder, load, training_batches};

#[derive(Parser)]
struct Args {
    /// Pipeline file [default: the quick start]
    pipeline: Option<PathBuf>,
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[arg(long, default_value_t = 64)]
    batch: usize,
    #[arg(long, default_value_t = 3)]
    epochs: usize,
    /// Passed by cargo to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let loaded = match &args.pipeline {
        Some(path) => load_pipeline(path, &args.overrides)?,
        None => quickstart(&args.overrides)?,
    };
    let settings = &loaded.pipeline.data;
    let start = Instant::now();
    let data = load(settings, &loaded.base, loaded.pipeline.seed)?;
    let [channels, height, width] = data.info.shape;
    println!(
        "opened {} images of {channels}x{height}x{width} in {:.2} s",
        data.train.len(),
        start.elapsed().as_secs_f64()
    );
    for epoch in 0..args.epochs {
        let order = TrainingOrder { batch: args.batch, seed: 1, epoch, first_batch: 0 };
        let start = Instant::now();
        let mut images = 0;
        let grey = data.normalization.grey();
        for batch in training_batches(&data.train, &settings.augment, &grey, order, settings.workers) {
            images += batch?.recipe.labels.len();
        }
        println!("epoch {}: {:.0} images/s", epoch + 1, images as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}
