//! Settles what a file's interface leaves open: the size of its images, and the batch that the network really takes.

use anyhow::Result;
use ndarray::ArrayD;

use crate::config::EngineName;
use crate::engine::{EngineOptions, open};
use crate::error::InputError;
use crate::graph::Op;
use crate::onnx::{Finding, Import, OnnxFile, Severity, dims_text, import};

/// The file with the sizes of its images fixed: those given, else those of its metadata where it leaves them free.
///
/// # Errors
/// [`InputError`] if a given size contradicts the file, or if a size is free and nothing says it.
pub fn fix_sizes(file: OnnxFile, given: Option<&[usize]>) -> Result<OnnxFile> {
    if let Some(sample) = given {
        return file.with_sizes(None, sample);
    }
    if file.contract.sample_shape().is_some() {
        return Ok(file);
    }
    if let Some(metadata) = &file.metadata {
        let sample = file.contract.layout.ordered(metadata.input);
        return file.with_sizes(None, &sample);
    }
    let (path, dims) = (file.path.display(), dims_text(&file.contract.input.dims));
    let sizes = if file.contract.input.dims.is_empty() {
        "the file declares no sizes for its input".to_string()
    } else {
        format!("the file leaves sizes of its input free: {dims}")
    };
    Err(InputError::new(format!("{path}: {sizes}"))
        .hint("give the size of one image with --shape, such as --shape 3x224x224")
        .into())
}

/// A file with the batch that it takes, its import, and a finding if that is not the batch that it declares.
pub struct Batched {
    pub file: OnnxFile,
    pub import: Result<Import>,
    pub finding: Option<Finding>,
}

/// Imports a file. If it declares a free batch, but can only be imported with a batch of one, that is its batch.
///
/// # Errors
/// [`InputError`] if the file cannot be read again with a fixed batch.
pub fn fix_batch(file: OnnxFile) -> Result<Batched> {
    let refused = match import(&file) {
        Ok(import) => return Ok(Batched { file, import: Ok(import), finding: None }),
        Err(refused) => refused,
    };
    let Some(sample) = file.contract.sample_shape().filter(|_| file.contract.batch().is_none()) else {
        return Ok(Batched { file, import: Err(refused), finding: None });
    };
    let one = file.clone().with_sizes(Some(1), &sample)?;
    match import(&one) {
        Ok(import) => {
            let finding = single_image(&one, &first_problem(&refused));
            Ok(Batched { file: one, import: Ok(import), finding: Some(finding) })
        }
        Err(_) => Ok(Batched { file, import: Err(refused), finding: None }),
    }
}

/// The same by running the file in an engine, for files that cannot be imported.
///
/// # Errors
/// As [`fix_batch`].
pub fn probe_batch(file: OnnxFile, engine: EngineName) -> Result<(OnnxFile, Option<Finding>)> {
    let Some(sample) = file.contract.sample_shape().filter(|_| file.contract.batch().is_none()) else {
        return Ok((file, None));
    };
    let Ok(mut loaded) = open(&file, engine, &EngineOptions { optimize: false, ..EngineOptions::default() })
    else {
        return Ok((file, None));
    };
    let images = |batch: usize| ArrayD::<f32>::zeros([&[batch], &sample[..]].concat());
    let Err(problem) = loaded.run(images(2).view()) else { return Ok((file, None)) };
    if loaded.run(images(1).view()).is_err() {
        return Ok((file, None));
    }
    let one = file.with_sizes(Some(1), &sample)?;
    let finding = single_image(&one, &format!("{problem:#}"));
    Ok((one, Some(finding)))
}

fn single_image(file: &OnnxFile, problem: &str) -> Finding {
    Finding::new(
        Severity::Warning,
        format!(
            "input '{}' declares a free batch, but the file takes one image at a time: {problem}",
            file.contract.input.name
        ),
        "a shape inside the network was exported with the batch of the example: write it with -1 for the batch \
                 (x.flatten(1) in place of x.view(1, ...)) and export again, or declare a batch of 1",
    )
}

/// The first line of a refusal that names a node.
fn first_problem(refused: &anyhow::Error) -> String {
    let text = refused.to_string();
    let node = text.lines().find_map(|line| line.find("node '").map(|start| line[start..].to_string()));
    node.unwrap_or(text)
}

/// What an import shows of a file's structure: a softmax that gives 1 whatever it reads.
pub fn structure(import: &Import) -> Vec<Finding> {
    let graph = import.model.graph();
    let constant = |place: usize| {
        let node = &graph.nodes()[place];
        let Op::Softmax { axis } = node.op else { return None };
        let problem = format!(
            "softmax '{}' runs over an axis of length 1 of {:?}, so it gives 1 everywhere",
            import.origins[place], node.shape
        );
        let remedy = "give it the axis of the classes: before operator set 13 its default was 1, since then it is the last";
        (node.shape[axis] == 1).then(|| Finding::new(Severity::Warning, problem, remedy))
    };
    (0..graph.nodes().len()).filter_map(constant).collect()
}
