//! Stand-in for libtorch in a program that was built without it: every constructor returns an error.

use anyhow::Result;
use ndarray::{ArrayD, ArrayViewD};

use crate::config::Device;
use crate::error::InputError;
use crate::graph::{Model, Node};

use super::Engine;

fn absent() -> anyhow::Error {
    InputError::new("this program was built without libtorch")
        .hint("leave the engine `torch` out, or build with `cargo build --release`")
        .into()
}

/// Never constructed.
pub enum TorchEngine {}

impl TorchEngine {
    /// Returns an error.
    ///
    /// # Errors
    /// [`InputError`], always.
    pub fn new(_model: &Model, _device: Device, _threads: usize) -> Result<Self> {
        Err(absent())
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn ascent(
        &self,
        _images: ArrayViewD<'_, f32>,
        _direction: ArrayViewD<'_, f32>,
    ) -> Result<ArrayD<f32>> {
        match *self {}
    }
}

impl Engine for TorchEngine {
    fn name(&self) -> String {
        match *self {}
    }

    fn outputs(&self) -> Vec<String> {
        match *self {}
    }

    fn run(&mut self, _images: ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f32>>> {
        match *self {}
    }

    fn bind(&mut self, _images: ArrayViewD<'_, f32>) -> Result<()> {
        match *self {}
    }

    fn run_bound(&mut self) -> Result<()> {
        match *self {}
    }
}

/// Never constructed.
pub enum Truth {}

impl Truth {
    /// Returns an error.
    ///
    /// # Errors
    /// [`InputError`], always.
    pub fn new(_model: &Model) -> Result<Self> {
        Err(absent())
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn logits(&self, _images: ArrayViewD<'_, f32>) -> Result<ArrayD<f64>> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn logits_through(
        &self,
        _images: ArrayViewD<'_, f32>,
        _seen: &mut dyn FnMut(usize, ArrayD<f64>) -> Result<Option<ArrayD<f64>>>,
    ) -> Result<ArrayD<f64>> {
        match *self {}
    }
}

/// Never constructed.
pub enum Rounding {}

impl Rounding {
    /// Returns an error.
    ///
    /// # Errors
    /// [`InputError`], always.
    pub fn new(_model: &Model) -> Result<Self> {
        Err(absent())
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn logits(&self, _images: ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f64>>> {
        match *self {}
    }
}

/// Returns an error.
///
/// # Errors
/// [`InputError`], always.
pub fn node_value(_node: &Node, _params: &[ArrayD<f64>], _inputs: &[ArrayD<f64>]) -> Result<ArrayD<f64>> {
    Err(absent())
}
