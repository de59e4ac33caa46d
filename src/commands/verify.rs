//! `cohort verify`: compares an ONNX file with its checkpoint, another file or recorded outputs, or its engines
//! with each other.

use std::path::PathBuf;

use anyhow::Result;

use crate::engine::engine_names;
use crate::error::{GateFailed, InputError};
use crate::report::{verify_row, verify_screen};
use crate::ui::{out, out_json};
use crate::validate::{Request, validate};
use crate::verify::Effort;

use super::common::{Common, Shape, choice};
use super::self_test;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An ONNX file
    pub model: PathBuf,
    /// Run folder with the checkpoint [default: the one that contains the file]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["reference", "inputs"])]
    pub run: Option<PathBuf>,
    /// Another ONNX file that must compute the same outputs
    #[arg(long, value_name = "FILE", conflicts_with = "inputs")]
    pub reference: Option<PathBuf>,
    /// Recorded inputs: .npy with --expected, or .npz with inputs and outputs by tensor name
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub inputs: Option<PathBuf>,
    /// Recorded outputs for --inputs, .npy
    #[arg(long, value_name = "FILE", requires = "inputs")]
    pub expected: Option<PathBuf>,
    /// Pipeline whose data set provides images and labels [default: the run folder's, else seeded noise]
    #[arg(long, value_name = "PIPELINE")]
    pub data: Option<PathBuf>,
    /// Number of validation images to compare [default: by --effort, at most 256]
    #[arg(long)]
    pub images: Option<usize>,
    /// Number of samples and length of the search: quick, default, thorough
    #[arg(long, default_value = "default", value_parser = effort)]
    pub effort: Effort,
    /// Engines: torch (with a run folder), ort-cpu, ort-cuda, tract [default: all available]
    #[arg(long, value_delimiter = ',')]
    pub engine: Vec<String>,
    /// Output with the scores [default: the first with one row of scores per image]
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// Size of one image without the batch, where the file leaves it free
    #[arg(long, value_name = "CxHxW", value_parser = Shape::parse)]
    pub shape: Option<Shape>,
    /// Seed for noise inputs
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder for a failing case: model, inputs, expected outputs [default: MODEL.case]
    #[arg(long, value_name = "DIR")]
    pub case: Option<PathBuf>,
    /// Plant faults in copies of the model instead and count how many are found
    #[arg(long, conflicts_with_all = ["reference", "inputs", "data"])]
    pub self_test: bool,
}

/// Compares the engines and prints the result.
///
/// # Errors
/// [`GateFailed`] if an engine is not within its tolerance; [`crate::error::InputError`] if something cannot be
/// read.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let request = args.request()?;
    if args.self_test {
        return self_test::run(&request, common);
    }
    let report = validate(&request, &common.ui())?;
    let problems = (!report.passed).then(|| report.problems());
    if common.json {
        out_json(&report)?
    } else {
        out(verify_screen(&verify_row(report)))?
    }
    match problems {
        None => Ok(()),
        Some(problems) => Err(GateFailed(format!("{} failed{problems}", args.model.display())).into()),
    }
}

impl Args {
    fn request(&self) -> Result<Request, InputError> {
        Ok(Request {
            model: self.model.clone(),
            run: self.run.clone(),
            reference: self.reference.clone(),
            inputs: self.inputs.clone(),
            expected: self.expected.clone(),
            data: self.data.clone(),
            images: self.images,
            effort: self.effort,
            engines: engine_names(&self.engine)?,
            output: self.output.clone(),
            shape: self.shape.as_ref().map(|shape| shape.0.clone()),
            seed: self.seed,
            case: self.case.clone(),
        })
    }
}

fn effort(text: &str) -> Result<Effort, String> {
    choice(text, &Effort::ALL, Effort::key)
}
