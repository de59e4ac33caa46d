//! Where a verification's inputs come from: noise, a data set, or arrays that were recorded elsewhere.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray::{Array2, ArrayD};
use ndarray_npy::{NpzReader, ReadNpyExt};

use crate::config::load_pipeline;
use crate::data::{Dataset, Preparation, Split, load};
use crate::error::InputError;
use crate::folder::{Manifest, RunFolder};
use crate::onnx::{Element, Metadata, OnnxFile, ScoredSplit};
use crate::verify::{Frame, InputSet, Pixels, images_of, input_sets, noise_pool};

/// Validation images among which those with the smallest margins are looked for.
const POOLED_IMAGES: usize = 1024;

/// The same in noise, where there are no images.
const POOLED_NOISE: usize = 256;

/// Values of a pool, at most: 128 MiB.
const MAX_POOL: usize = 1 << 25;

/// A data set, prepared as the file wants it.
pub struct Images {
    data: Dataset,
    pub preparation: Preparation,
    /// What the data set's own statistics say, where the file has a word of its own.
    pub own: Option<Preparation>,
}

impl Images {
    /// Opens the data set of a pipeline; a file that says how its images are prepared is believed.
    ///
    /// # Errors
    /// [`InputError`] if the data set cannot be read or is of another shape than the file's images.
    pub fn open(pipeline: &Path, file: &OnnxFile) -> Result<Self> {
        let loaded = load_pipeline(pipeline, &[])?;
        let data = load(&loaded.pipeline.data, &loaded.base, loaded.pipeline.seed)?;
        let wanted = file.layout().planar(image_shape(file)?);
        if data.info.shape != wanted {
            let problem = format!(
                "the images of {} are {:?}, {} takes {wanted:?} (channels, height, width)",
                pipeline.display(),
                data.info.shape,
                file.path.display()
            );
            return Err(InputError::new(problem).hint("give a pipeline with images of that size").into());
        }
        let own = Preparation::of(&data.normalization, file.layout());
        let (preparation, own) = match (&file.metadata, file.input.element) {
            (Some(metadata), _) => (metadata.preparation(), Some(own)),
            (None, Element::Integer { .. }) => (Preparation::bytes(wanted[0], file.layout()), None),
            (None, Element::Float32 | Element::Float16 | Element::BFloat16 | Element::Float64) => (own, None),
        };
        Ok(Self { data, preparation, own })
    }

    /// Opens the data set a run learned from, if it is still there and still the same; otherwise says why not.
    ///
    /// # Errors
    /// [`InputError`] if the run folder is damaged.
    pub fn of_run(folder: &RunFolder, file: &OnnxFile) -> Result<Result<Self, String>> {
        let Some(manifest) = Manifest::load(folder.root())? else {
            return Ok(Err("it has no manifest".into()));
        };
        Ok(match Self::open(&folder.resolved_pipeline(), file) {
            Ok(images) if images.data.fingerprint == manifest.data => Ok(images),
            Ok(_) => Err("they are not those it learned from any more".into()),
            Err(error) => Err(format!("{error:#}")),
        })
    }

    /// The split that accuracy is taken on, with its name.
    pub fn labelled(&self) -> (ScoredSplit, &Split) {
        match &self.data.test {
            Some(test) => (ScoredSplit::Test, test),
            None => (ScoredSplit::Validation, &self.data.validation),
        }
    }

    /// Validation images, spread over the split, to choose some of.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn pool(&self) -> Result<ArrayD<f32>> {
        let image: usize = self.data.info.shape.iter().product();
        let split = self.data.validation.spread(pool_size(image, POOLED_IMAGES));
        images_of(&split, &self.preparation)
    }

    /// Every kind of input, with `images` validation images spread over the split.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn sets(&self, file: &OnnxFile, images: usize, seed: u64) -> Result<Vec<InputSet>> {
        let split = self.data.validation.spread(images.max(1));
        let images = images_of(&split, &self.preparation)?;
        Ok(input_sets(Some(images), &frame(file, Some(&self.preparation))?, seed))
    }
}

/// Every kind of input but images.
///
/// # Errors
/// [`InputError`] if the file does not fix the size of its images.
pub fn noise(file: &OnnxFile, seed: u64) -> Result<Vec<InputSet>> {
    Ok(input_sets(None, &own_frame(file)?, seed))
}

/// Noise to choose some of.
pub fn noise_pool_of(frame: &Frame, seed: u64) -> ArrayD<f32> {
    noise_pool(frame, seed, pool_size(frame.shape.iter().product(), POOLED_NOISE))
}

/// As many images of that size as are wanted and may be held.
fn pool_size(image: usize, wanted: usize) -> usize {
    wanted.min(MAX_POOL / image.max(1)).max(1)
}

/// What the file takes for an image of the data set, or by its own word.
///
/// # Errors
/// [`InputError`] if the file does not fix the size of its images.
pub fn frame_of(file: &OnnxFile, images: Option<&Images>) -> Result<Frame> {
    match images {
        Some(images) => frame(file, Some(&images.preparation)),
        None => own_frame(file),
    }
}

/// What the file takes for an image, by its own word.
///
/// # Errors
/// [`InputError`] if the file does not fix the size of its images.
pub fn own_frame(file: &OnnxFile) -> Result<Frame> {
    frame(file, file.metadata.as_ref().map(Metadata::preparation).as_ref())
}

/// What the file takes for an image: pixels as they are prepared for it, or from 0 to 1 where nobody says; whole
/// numbers are bytes, or all there are where there are less.
fn frame(file: &OnnxFile, preparation: Option<&Preparation>) -> Result<Frame> {
    let (black, white) = preparation.map_or((0.0, 1.0), Preparation::black_and_white);
    let pixels = match file.input.element {
        Element::Integer { least, most } if least <= 0 && most >= 255 => {
            Pixels::Whole { black: 0.0, white: 255.0 }
        }
        Element::Integer { least, most } => Pixels::Whole { black: least as f32, white: most as f32 },
        Element::Float32 | Element::BFloat16 | Element::Float64 if !file.computes_in_half() => {
            Pixels::Single { black, white }
        }
        Element::Float16 | Element::Float32 | Element::BFloat16 | Element::Float64 => {
            Pixels::Half { black, white }
        }
    };
    Ok(Frame { shape: image_shape(file)?, layout: file.layout(), pixels })
}

fn image_shape(file: &OnnxFile) -> Result<[usize; 3], InputError> {
    file.image_shape().ok_or_else(|| {
        InputError::new(format!("{}: the image size is not fixed in the file", file.path.display()))
            .hint("export it with fixed channels, height and width; the batch may be free")
    })
}

/// Inputs and the outputs that another program recorded for them, from two `.npy` files or one `.npz` by
/// tensor name.
///
/// # Errors
/// [`InputError`] if a file cannot be read, or is not what the model takes and gives.
pub fn recorded(
    file: &OnnxFile,
    inputs: &Path,
    expected: Option<&PathBuf>,
) -> Result<(InputSet, Array2<f64>)> {
    let (images, logits) = match expected {
        Some(expected) => (array(inputs, None)?, array(expected, None)?),
        None => {
            let output = file.outputs.first().context("a file has an output")?;
            (array(inputs, Some(&file.input.name))?, array(inputs, Some(&output.name))?)
        }
    };
    let wanted = image_shape(file)?;
    if images.ndim() != 4 || images.shape()[1..] != wanted || images.is_empty() {
        let [channels, height, width] = wanted;
        let problem = format!(
            "{}: an array of {:?}, the model takes [samples, {channels}, {height}, {width}]",
            inputs.display(),
            images.shape()
        );
        return Err(InputError::new(problem).hint("record the inputs as the model gets them").into());
    }
    let samples = images.shape()[0];
    let (shape, place) = (logits.shape().to_vec(), expected.map_or(inputs, PathBuf::as_path));
    let table = logits.into_dimensionality().ok().filter(|table: &Array2<f64>| table.nrows() == samples);
    let table = table.ok_or_else(|| {
        InputError::new(format!("{}: outputs of {shape:?} for {samples} inputs", place.display()))
            .hint("record [samples, classes], a row for each input")
    })?;
    let images = images.mapv(|value| value as f32);
    Ok((InputSet { name: "recorded", images, gates: true }, table))
}

/// An array of floats from a `.npy` file, or by name from a `.npz` file.
fn array(path: &Path, name: Option<&str>) -> Result<ArrayD<f64>> {
    let fail = |problem: String| {
        InputError::new(format!("cannot read {}: {problem}", path.display()))
            .hint("write it with numpy.save, or numpy.savez by tensor name, as float32 or float64")
    };
    let open = || File::open(path).map_err(|error| fail(error.to_string()));
    let Some(name) = name else {
        let single = ArrayD::<f32>::read_npy(open()?).map(|array| array.mapv(f64::from));
        return match single {
            Ok(array) => Ok(array),
            Err(_) => ArrayD::<f64>::read_npy(open()?).map_err(|error| fail(error.to_string()).into()),
        };
    };
    let mut archive = NpzReader::new(open()?).map_err(|error| fail(error.to_string()))?;
    let entry = format!("{name}.npy");
    let single: Result<ArrayD<f32>, _> = archive.by_name(&entry);
    match single {
        Ok(array) => Ok(array.mapv(f64::from)),
        Err(_) => archive.by_name(&entry).map_err(|error| fail(format!("'{name}': {error}")).into()),
    }
}
