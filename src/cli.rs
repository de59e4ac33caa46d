//! The command line and its verbs.

use clap::{Parser, Subcommand};

use crate::commands::{self, Common};

/// Compress an image model: train a cohort, select, export, verify, measure.
#[derive(Debug, Parser)]
#[command(name = "cohort", version, max_term_width = 80)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a trained classifier smaller, with the same interface
    Compress(commands::compress::Args),
    /// Run a pipeline from start to report; finished stages are reused
    Run(commands::run::Args),
    /// Run a pipeline with several settings and seeds, and compare the results
    Study(commands::study::Args),
    /// Check a pipeline file without running it
    Check(commands::check::Args),
    /// Compare the engines' outputs for an ONNX file
    Verify(commands::verify::Args),
    /// Measure the latency of ONNX files
    Bench(commands::bench::Args),
    /// Measure the start of this process
    #[command(hide = true)]
    FreshStart(commands::bench::FreshStart),
    /// Classify images with an exported model
    Predict(commands::predict::Args),
    /// List layers, shapes, parameters and MACs of a model
    Inspect(commands::inspect::Args),
    /// Report which libraries were found, where, and whether they load
    Doctor(commands::doctor::Args),
}

impl Cli {
    /// Runs the chosen verb.
    ///
    /// # Errors
    /// The error that stopped it; `crate::error::exit_code_of` gives its exit code.
    pub fn dispatch(&self) -> anyhow::Result<()> {
        if let Some(path) = &self.common.ort_lib {
            crate::engine::ort::use_library(path);
        }
        match &self.verb {
            Verb::Compress(args) => commands::compress::run(args, &self.common),
            Verb::Run(args) => commands::run::run(args, &self.common),
            Verb::Study(args) => commands::study::run(args, &self.common),
            Verb::Check(args) => commands::check::run(args, &self.common),
            Verb::Verify(args) => commands::verify::run(args, &self.common),
            Verb::Bench(args) => commands::bench::run(args, &self.common),
            Verb::FreshStart(args) => commands::bench::fresh_start(args),
            Verb::Predict(args) => commands::predict::run(args, &self.common),
            Verb::Inspect(args) => commands::inspect::run(args, &self.common),
            Verb::Doctor(args) => commands::doctor::run(args, &self.common),
        }
    }
}
