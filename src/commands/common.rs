//! The options of every verb.

use std::path::PathBuf;

use clap::Args;

use crate::ui::Ui;

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Print one JSON document to stdout instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress on stderr
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// ONNX Runtime's shared library [default: found by itself, see `cohort doctor`]
    #[arg(long, global = true, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
}

impl Common {
    pub fn ui(&self) -> Ui {
        Ui::detect(self.quiet)
    }
}
