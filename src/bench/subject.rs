//! A model to measure, its inputs, and one run of it in each mode.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use ndarray::{ArrayD, Axis, Slice};
use serde::{Deserialize, Serialize};

use crate::config::{EngineName, Mode};
use crate::contract::Preparation;
use crate::data::prepared_bytes;
use crate::engine::{Engine, EngineOptions, Placement};
use crate::error::InputError;
use crate::onnx::OnnxFile;
use crate::task::decision;

use super::cell::{CellId, CellResult};
use super::measure::Measured;
use super::noise::noise;

/// Opens a model in an engine.
pub type Open<'a> = Box<dyn Fn(EngineName, &EngineOptions) -> Result<Box<dyn Engine>> + 'a>;

/// A model to measure.
pub struct Subject<'a> {
    pub file: &'a OnnxFile,
    pub model: ModelFacts,
    /// The only batch size that it takes, if there is only one, whatever the file declares.
    pub batch: Option<usize>,
    /// The images that are decoded in [`Mode::EndToEnd`].
    pub pictures: Option<Pictures>,
    pub open: Open<'a>,
}

/// Identifies the file that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    pub name: String,
    pub path: PathBuf,
    /// BLAKE3 hash of the file, in hex.
    pub blake3: String,
    pub bytes: u64,
    /// Sizes of one sample's axes.
    pub sample: Vec<usize>,
}

impl ModelFacts {
    pub fn of(file: &OnnxFile, name: String, sample: Vec<usize>) -> Self {
        let blake3 = blake3::hash(&file.bytes).to_hex().to_string();
        Self { name, path: file.path.clone(), blake3, bytes: file.size_bytes(), sample }
    }
}

/// Image files in memory, and the preparation that a network expects.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// Names, for error messages, and contents of the files.
    pub files: Vec<(String, Vec<u8>)>,
    pub preparation: Preparation,
    /// `[channels, height, width]` of the network's input.
    pub shape: [usize; 3],
}

impl Pictures {
    /// Pictures for a file that takes images, prepared as the file says, or scaled to 0..1 if it does not
    /// say.
    pub fn of(file: &OnnxFile, files: Vec<(String, Vec<u8>)>) -> Option<Self> {
        let layout = file.contract.layout;
        let shape = layout.planar(file.contract.image_shape()?);
        let preparation = match &file.contract.preparation {
            Some(preparation) => preparation.clone(),
            None => Preparation::unit(shape[0], layout),
        };
        Some(Self { files, preparation, shape })
    }
}

/// A model in an engine, with its batch size fixed.
pub(super) struct Loaded<'a> {
    pub subject: &'a Subject<'a>,
    pub engine: EngineName,
    pub engine_name: String,
    pub batch: usize,
    pub threads: usize,
    pub load_ms: f64,
    pub first_run_ms: f64,
    pub placement: Placement,
    runner: RefCell<Runner>,
}

struct Runner {
    engine: Box<dyn Engine>,
    input: ArrayD<f32>,
    outputs: Vec<ArrayD<f32>>,
    /// Index of the next picture.
    next: usize,
}

impl<'a> Loaded<'a> {
    /// Opens a model, sets the batch size and runs it once.
    ///
    /// # Errors
    /// If the engine refuses the model.
    pub fn open(
        subject: &'a Subject<'a>,
        engine: EngineName,
        batch: usize,
        options: &EngineOptions,
        seed: u64,
    ) -> Result<Self> {
        let context = || format!("{} on {}, batch {batch}", subject.model.name, engine.key());
        let start = Instant::now();
        let mut loaded = (subject.open)(engine, options)?;
        let load_ms = milliseconds(start);
        let input = noise(batch, &subject.model.sample, subject.file.contract.input.element, seed);
        let start = Instant::now();
        let outputs = loaded.run(input.view()).map_err(|error| {
            InputError::new(format!("cannot measure {}: {error:#}", context()))
                .hint("`cohort verify` looks into it; --batch and --engine measure what does run")
        })?;
        let first_run_ms = milliseconds(start);
        loaded.bind(input.view()).with_context(context)?;
        loaded.run_bound().with_context(context)?;
        Ok(Self {
            subject,
            engine,
            engine_name: loaded.name(),
            batch,
            threads: options.threads,
            load_ms,
            first_run_ms,
            placement: loaded.placement()?,
            runner: RefCell::new(Runner { engine: loaded, input, outputs, next: 0 }),
        })
    }

    pub fn id(&self, mode: Mode) -> CellId {
        CellId {
            model: self.subject.model.name.clone(),
            engine: self.engine,
            batch: self.batch,
            threads: self.threads,
            mode,
        }
    }

    /// Turns this model's measurement into a cell.
    pub fn result(&self, mode: Mode, measured: Measured) -> CellResult {
        CellResult {
            engine_name: self.engine_name.clone(),
            load_ms: self.load_ms,
            first_run_ms: self.first_run_ms,
            placement: self.placement.clone(),
            ..CellResult::of(self.id(mode), measured)
        }
    }

    /// Runs once in a mode and returns the nanoseconds it took.
    ///
    /// # Errors
    /// If the runtime fails, or a picture cannot be decoded.
    pub fn run(&self, mode: Mode) -> Result<u64> {
        let runner = &mut *self.runner.borrow_mut();
        let start = Instant::now();
        match mode {
            Mode::Device => runner.engine.run_bound()?,
            Mode::Host => runner.engine.run_into(runner.input.view(), &mut runner.outputs)?,
            Mode::EndToEnd => {
                let pictures = self.subject.pictures.as_ref().context("there are no pictures to decode")?;
                runner.classify(pictures)?;
            }
        }
        Ok(start.elapsed().as_nanos() as u64)
    }
}

impl Runner {
    /// Decodes and prepares a batch of files, runs it, and returns the decisions.
    fn classify(&mut self, pictures: &Pictures) -> Result<Vec<usize>> {
        for place in 0..self.input.shape()[0] {
            let (name, file) = &pictures.files[self.next % pictures.files.len()];
            let image = prepared_bytes(&pictures.preparation, file, name, pictures.shape)?;
            self.input.slice_axis_mut(Axis(0), Slice::from(place..place + 1)).assign(&image);
            self.next += 1;
        }
        self.engine.run_into(self.input.view(), &mut self.outputs)?;
        let logits = self.outputs.first().context("the model has no output")?;
        let decisions = logits.axis_iter(Axis(0)).map(|row| decision(row.iter()).unwrap_or(0));
        Ok(std::hint::black_box(decisions.collect()))
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
