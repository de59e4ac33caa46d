//! The options that every verb takes.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::config::{self, EngineName};
use crate::engine::engine_names;
use crate::engine::ort::facts_or_warning;
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

/// Sizes of a sample's axes, as `3x224x224`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// Reads an option's value.
    ///
    /// # Errors
    /// A message that names the expected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let sizes: Option<Vec<usize>> =
            text.split('x').map(|size| size.parse().ok().filter(|&size| size > 0)).collect();
        sizes.map(Self).ok_or_else(|| "expected sizes such as 3x224x224".into())
    }
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
        match facts_or_warning(&self.ui())? {
            Some(_) => Ok(vec![EngineName::OrtCpu, EngineName::Tract]),
            None => Ok(vec![EngineName::Tract]),
        }
    }
}

/// Overrides as given, with relative paths that start at the current folder.
pub fn from_here(overrides: &[String]) -> Vec<String> {
    let here = std::env::current_dir().unwrap_or_default();
    config::from_here(overrides, &here)
}

/// Reads an option that is one of several words.
///
/// # Errors
/// The words.
pub fn choice<T: Copy>(text: &str, all: &[T], key: fn(T) -> &'static str) -> Result<T, String> {
    let keys: Vec<&str> = all.iter().map(|one| key(*one)).collect();
    all.iter().copied().find(|one| key(*one) == text).ok_or_else(|| format!("expected {}", keys.join(", ")))
}
