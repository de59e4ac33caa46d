//! The ready architectures under `models/`, and how a pipeline's `model` names one.

use std::path::Path;

use crate::config::{ModelSpec, parse};
use crate::error::InputError;

macro_rules! models {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/", $name, ".yaml")))),*]
    };
}

/// Name and text of every file of `models/`, sorted by name.
const READY: &[(&str, &str)] = models![
    "alexnet",
    "mobilenet_v2",
    "mobilenet_v2-w0.25",
    "plain-cnn",
    "resnet110",
    "resnet14",
    "resnet18",
    "resnet20",
    "resnet20-w32",
    "resnet32",
    "resnet32x4",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet8",
    "resnet8x4",
    "shufflenet_v2",
    "shufflenet_v2-x0.5",
    "squeezenet",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg8",
    "vgg8-w8",
    "wrn_16_1",
    "wrn_16_2",
    "wrn_40_1",
    "wrn_40_2",
];

/// Names and texts of the ready architectures, sorted by name.
pub fn ready() -> &'static [(&'static str, &'static str)] {
    READY
}

/// The model that `reference` names: a ready architecture (`resnet20`), or the path of a model file, which
/// ends in `.yaml` or `.yml` and is relative to `base`.
///
/// # Errors
/// [`InputError`] if there is no such architecture or file, with the nearest names, or if the file is not a
/// model.
pub fn find_model(reference: &str, base: &Path) -> anyhow::Result<ModelSpec> {
    if let Some((name, text)) = READY.iter().find(|(name, _)| *name == reference) {
        return Ok(parse(text, &format!("ready model {name}"))?);
    }
    if !is_model_path(reference) {
        let problem = format!("there is no ready model '{reference}'");
        return Err(InputError::new(problem).hint(suggestion(reference)).into());
    }
    let path = base.join(reference);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let problem = format!("cannot read the model file {}: {error}", path.display());
        InputError::new(problem).hint(suggestion(reference))
    })?;
    Ok(parse(&text, &path.display().to_string())?)
}

/// Whether a reference is meant as a path.
pub fn is_model_path(reference: &str) -> bool {
    reference.ends_with(".yaml") || reference.ends_with(".yml")
}

/// The ready names nearest to a reference that was not found.
fn suggestion(reference: &str) -> String {
    let stem = Path::new(reference).file_name().unwrap_or_default().to_string_lossy();
    let stem = stem.trim_end_matches(".yaml").trim_end_matches(".yml").to_lowercase();
    if READY.iter().any(|(name, _)| *name == stem) {
        return format!("the ready model of that name needs no path: {stem}");
    }
    let mut names: Vec<&str> = READY.iter().map(|(name, _)| *name).collect();
    names.sort_by(|a, b| {
        strsim::jaro_winkler(b, &stem).total_cmp(&strsim::jaro_winkler(a, &stem)).then(a.cmp(b))
    });
    format!(
        "the nearest ready models: {}; a model file's path ends in .yaml",
        names.iter().take(3).copied().collect::<Vec<_>>().join(", ")
    )
}
