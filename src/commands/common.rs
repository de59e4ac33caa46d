//! The options that every verb takes.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::config::EngineName;
use crate::engine::{engine_names, ort};
use crate::error::InputError;
use crate::progress::Progress;
use crate::ui::Ui;

/// Options that every verb takes.
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
    /// The terminal, as a listener to progress.
    pub fn ui(&self) -> Ui {
        Ui::detect(self.quiet)
    }

    /// The engines that are named; without names, ONNX Runtime on the CPU and tract, or tract alone, with a
    /// warning, where ONNX Runtime is missing.
    ///
    /// # Errors
    /// [`InputError`] for a name that no engine has, and for an ONNX Runtime that was named and does not
    /// load.
    pub fn engines(&self, named: &[String]) -> Result<Vec<EngineName>> {
        if !named.is_empty() {
            return Ok(engine_names(named)?);
        }
        match runtime(&self.ui())? {
            Some(_) => Ok(vec![EngineName::OrtCpu, EngineName::Tract]),
            None => Ok(vec![EngineName::Tract]),
        }
    }
}

/// ONNX Runtime's facts, if it is there; otherwise a warning says how to get it.
///
/// # Errors
/// [`InputError`] if the user named its library, because then no other engine can replace it.
pub fn runtime(progress: &dyn Progress) -> Result<Option<ort::Facts>, InputError> {
    match ort::facts() {
        Ok(facts) => Ok(Some(facts)),
        Err(missing) if ort::is_named() => Err(missing),
        Err(missing) => {
            let remedy = missing.hint.as_deref().unwrap_or_default();
            progress.warn(format!("without ONNX Runtime: {missing}\n  hint: {remedy}"));
            Ok(None)
        }
    }
}
