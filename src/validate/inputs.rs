//! The sources of a verification's inputs: noise, a data set, or arrays that were recorded elsewhere.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ndarray::ArrayD;

use crate::config::{Labels, load_pipeline};
use crate::contract::{Element, ImageInput, Normalization, Preparation, rows};
use crate::data::{Dataset, Split, load};
use crate::error::InputError;
use crate::folder::{Manifest, RunFolder};
use crate::onnx::{OnnxFile, ScoredSplit};
use crate::plan::fitted_to_file;
use crate::verify::{Amount, InputSet, ReferenceKind, Truths, images_of, input_sets, pool_size};

use super::numpy::read_array;

/// A data set, prepared as the file expects it.
pub struct Images {
    data: Dataset,
    labels: Labels,
    pub preparation: Preparation,
    /// The data set's own preparation, set if the file has metadata: its statistics, or no normalisation if
    /// the file normalises by itself.
    pub own: Option<Preparation>,
}

impl Images {
    /// A pipeline's data set for a file; images are prepared as the file says, else by the data set's statistics.
    ///
    /// # Errors
    /// [`InputError`] if its images have another shape than the file's.
    pub fn of(data: PipelineData, pipeline: &Path, file: &OnnxFile) -> Result<Self> {
        let PipelineData { data, labels, teacher } = data;
        let wanted = file.contract.layout.planar(image_shape(file)?);
        if data.info.shape != wanted {
            let problem = format!(
                "the images of {} are {:?}, but {} takes {wanted:?} (channels, height, width)",
                pipeline.display(),
                data.info.shape,
                file.path.display()
            );
            return Err(InputError::new(problem).hint("give a pipeline with images of that size").into());
        }
        let fit = data.validation.fit();
        let preparation = file.contract.preparation_or(&data.normalization, fit.unwrap_or_default());
        let own = file.metadata.as_ref().map(|metadata| {
            let own = match (&metadata.normalizes, teacher) {
                (_, Some(preparation)) => preparation,
                (Some(_), None) => Preparation::of(&Normalization::none(wanted[0]), file.contract.layout),
                (None, None) => Preparation::of(&data.normalization, file.contract.layout),
            };
            Preparation { fit: fit.unwrap_or(metadata.fit), ..own }
        });
        Ok(Self { data, labels, preparation, own })
    }

    /// Opens the data set that a run was trained on, if it is still there and unchanged; otherwise says why
    /// not.
    ///
    /// # Errors
    /// [`InputError`] if the run folder is damaged.
    pub fn of_run(folder: &RunFolder, file: &OnnxFile) -> Result<Result<Self, String>> {
        let Some(manifest) = Manifest::load(folder.root())? else {
            return Ok(Err("the run has no manifest".into()));
        };
        let pipeline = folder.resolved_pipeline();
        Ok(match dataset(&pipeline).and_then(|data| Self::of(data, &pipeline, file)) {
            Ok(images) if images.data.fingerprint == manifest.data => Ok(images),
            Ok(_) => Err("they are no longer the ones it was trained on".into()),
            Err(error) => Err(format!("{error:#}")),
        })
    }

    pub fn classes(&self) -> usize {
        self.data.info.classes.len()
    }

    /// Whether the images have labels of their own, and decisions can be scored.
    pub fn have_labels(&self) -> bool {
        self.labels.are_own()
    }

    /// The split on which the score is computed, with its name.
    pub fn labelled(&self) -> (ScoredSplit, &Split) {
        match &self.data.test {
            Some(test) => (ScoredSplit::Test, test),
            None => (ScoredSplit::Validation, &self.data.validation),
        }
    }

    /// A pool of validation images, spread over the split, from which adversarial inputs are chosen.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn pool(&self, amount: &Amount) -> Result<ArrayD<f32>> {
        images_of(&self.data.validation.spread(pool_size(self.data.info.shape, amount)), &self.preparation)
    }

    /// Every kind of input, with validation images spread over the split.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn sets(&self, file: &OnnxFile, seed: u64, amount: &Amount) -> Result<Vec<InputSet>> {
        let split = self.data.validation.spread(amount.images.max(1));
        let images = images_of(&split, &self.preparation)?;
        Ok(input_sets(Some(images), &image_input(file, Some(self))?, seed, amount))
    }
}

/// The data set of a pipeline, with the classes of its teacher's file if it has one.
pub struct PipelineData {
    pub(super) data: Dataset,
    labels: Labels,
    /// How that file wants images prepared.
    teacher: Option<Preparation>,
}

/// The data set of a pipeline.
///
/// # Errors
/// [`InputError`] if the pipeline, its data set or its teacher's file cannot be read.
pub fn dataset(pipeline: &Path) -> Result<PipelineData> {
    let loaded = load_pipeline(pipeline, &[])?;
    let data = load(&loaded.pipeline.data, &loaded.base, loaded.pipeline.seed)?;
    let labels = loaded.pipeline.data.labels;
    Ok(match fitted_to_file(&loaded)? {
        Some((contract, adaptation)) => {
            PipelineData { data: data.adapted(&adaptation), labels, teacher: contract.preparation }
        }
        None => PipelineData { data, labels, teacher: None },
    })
}

/// Every kind of input except images.
///
/// # Errors
/// [`InputError`] if the file does not fix the size of its images.
pub fn noise(file: &OnnxFile, seed: u64, amount: &Amount) -> Result<Vec<InputSet>> {
    Ok(input_sets(None, &image_input(file, None)?, seed, amount))
}

/// The file's image input: prepared as for the data set, or as the file's contract says.
///
/// # Errors
/// [`InputError`] if the file does not fix the size of its images.
pub fn image_input(file: &OnnxFile, images: Option<&Images>) -> Result<ImageInput, InputError> {
    let preparation = images.map(|images| &images.preparation).or(file.contract.preparation.as_ref());
    file.contract.image_input(preparation).ok_or_else(|| no_size(file))
}

fn image_shape(file: &OnnxFile) -> Result<[usize; 3], InputError> {
    file.contract.image_shape().ok_or_else(|| no_size(file))
}

fn no_size(file: &OnnxFile) -> InputError {
    let axes = file.contract.input.dims.len();
    if axes != 4 {
        return InputError::new(format!("{}: an input of {axes} axes is not an image", file.path.display()))
            .hint("images are [batch, channels, height, width]; `cohort bench` takes other inputs too");
    }
    InputError::new(format!("{}: the image size is not fixed in the file", file.path.display()))
        .hint("give it with --shape, such as --shape 3x224x224")
}

/// Inputs, and the outputs that another program recorded for them.
pub struct Recorded {
    /// The inputs as stored, `[samples, …]`.
    pub images: ArrayD<f64>,
    outputs: ArrayD<f64>,
    inputs_path: PathBuf,
    outputs_path: PathBuf,
}

impl Recorded {
    /// Reads two `.npy` files, or one `.npz` by tensor name.
    ///
    /// # Errors
    /// [`InputError`] if a file cannot be read, or if the inputs have no batch.
    pub fn read(file: &OnnxFile, inputs: &Path, expected: Option<&Path>) -> Result<Self> {
        let (images, outputs) = match expected {
            Some(expected) => (read_array(inputs, None)?, read_array(expected, None)?),
            None => {
                let output = &file.contract.answer().tensor.name;
                (read_array(inputs, Some(&file.contract.input.name))?, read_array(inputs, Some(output))?)
            }
        };
        if images.ndim() < 2 || images.is_empty() {
            let problem = format!(
                "{}: an array of shape {:?}, not a batch of images",
                inputs.display(),
                images.shape()
            );
            return Err(InputError::new(problem).hint("record the inputs as the model receives them").into());
        }
        let outputs_path = expected.unwrap_or(inputs).to_path_buf();
        Ok(Self { images, outputs, inputs_path: inputs.to_path_buf(), outputs_path })
    }

    /// The inputs as a set, with the outputs as their truth.
    ///
    /// # Errors
    /// [`InputError`] if they do not match the model's input and output.
    pub fn truth(self, file: &OnnxFile) -> Result<(Vec<InputSet>, Truths)> {
        let Self { images, outputs, inputs_path, outputs_path } = self;
        let hint = "record the inputs as the model receives them";
        let wanted = image_shape(file)?;
        if images.shape()[1..] != wanted {
            let [first, second, third] = wanted;
            let problem = format!(
                "{}: an array of shape {:?}, but the model takes [samples, {first}, {second}, {third}]",
                inputs_path.display(),
                images.shape()
            );
            return Err(InputError::new(problem).hint(hint).into());
        }
        if let Some(problem) = whole(file, &images) {
            return Err(InputError::new(format!("{}: {problem}", inputs_path.display())).hint(hint).into());
        }
        let samples = images.shape()[0];
        let shape = outputs.shape().to_vec();
        let table = rows(outputs, samples).map_err(|_| {
            InputError::new(format!(
                "{}: outputs of shape {shape:?} for {samples} inputs",
                outputs_path.display()
            ))
            .hint("record [samples, classes], one row per input")
        })?;
        let images = images.mapv(|value| value as f32);
        let name = format!("outputs of {}", outputs_path.display());
        let set = InputSet { name: "recorded", images, gates: true };
        Ok((vec![set], Truths { name, kind: ReferenceKind::Recorded, logits: vec![table] }))
    }
}

/// Reports an input that is not an integer in the file's range, because engines convert such numbers
/// differently.
fn whole(file: &OnnxFile, images: &ArrayD<f64>) -> Option<String> {
    let Element::Integer { least, most } = file.contract.input.element else { return None };
    let fits = |value: f64| value.fract() == 0.0 && (least as f64..=most as f64).contains(&value);
    let odd = images.iter().find(|value| !fits(**value))?;
    Some(format!("{odd} among the inputs, but the model takes integers from {least} to {most}"))
}
