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
    /// Print no progress to stderr
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// ONNX Runtime's shared library [default: searched for, see `cohort doctor`]
    #[arg(long, global = true, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
}

impl Common {
    /// The terminal as a progress listener.
    pub fn ui(&self) -> Ui {
        Ui::detect(self.quiet)
    }

    /// The named engines. Without names: ONNX Runtime on the CPU and tract, or tract alone, with a warning,
    /// if ONNX Runtime is missing.
    ///
    /// # Errors
    /// [`InputError`] for an unknown engine name, and if the user named ONNX Runtime's library and it does
    /// not load.
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

/// ONNX Runtime's facts if it is available; otherwise a warning says how to get it.
///
/// # Errors
/// [`InputError`] if the user named its library, because then no other engine can replace it.
pub fn runtime(progress: &dyn Progress) -> Result<Option<ort::Facts>, InputError> {
    match ort::facts() {
        Ok(facts) => Ok(Some(facts)),
        Err(missing) if ort::is_named() => Err(missing),
        Err(missing) => {
            let remedy = missing.hint.as_deref().unwrap_or_default();
            progress.warn(format!("continuing without ONNX Runtime: {missing}\n  hint: {remedy}"));
            Ok(None)
        }
    }
}
