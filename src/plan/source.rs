//! Where a student comes from: a model of the zoo, or a part of a trained network.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::config::{Slim, SlimOf, Student, StudentModel};
use crate::error::InputError;
use crate::graph::{
    Block, Coupling, Graph, Model, Statistics, bare_convolutions, residual_blocks, unfold_batch_norm,
    without_blocks,
};
use crate::zoo;

use super::file::Classifier;
use super::teacher::Teacher;

/// A part of a trained network: what is taken away, in this order. Which channels stay is decided with images.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub of: Arc<Model>,
    /// Residual blocks that go.
    pub without: Vec<Block>,
    /// Whether each bare convolution gets a BatchNorm.
    pub batch_norm: bool,
    /// How many units of each group of coupled channels stay.
    pub counts: Vec<usize>,
    /// Whether its weights are new, so that only the shape of the part is taken.
    pub fresh: bool,
}

impl Part {
    /// The graph of the part.
    fn graph(&self) -> Result<Graph> {
        let shorter = without_blocks(&self.of, &self.without)?;
        let whole = if self.batch_norm { with_any_batch_norm(&shorter)? } else { shorter };
        let coupling = Coupling::of(whole.graph());
        let slim = coupling.keep(&whole, &coupling.first(&self.counts))?;
        Ok(slim.into_parts().0)
    }
}

/// The network with a BatchNorm behind each bare convolution, whose statistics are not known yet.
fn with_any_batch_norm(model: &Model) -> Result<Model> {
    let statistics = bare_convolutions(model.graph()).into_iter().map(|id| {
        let channels = model.graph().node(id).shape[0];
        (id, Statistics { mean: vec![0.0; channels], variance: vec![1.0; channels] })
    });
    Ok(unfold_batch_norm(model, &statistics.collect::<Vec<_>>())?)
}

/// The graph of a student, and the part of a trained network that it is, if it is one.
pub(super) fn build(
    student: &Student,
    base: &Path,
    teacher: Option<&Teacher>,
    image: [usize; 3],
    classes: usize,
) -> Result<(Graph, Option<Part>)> {
    let part = match &student.model {
        StudentModel::Named(name) => {
            return Ok((zoo::build(&zoo::find_model(name, base)?, image, classes)?, None));
        }
        StudentModel::Onnx(path) => {
            let of = from_file(&base.join(path), image, classes)?;
            let groups = Coupling::of(with_any_batch_norm(&of)?.graph()).uniform(1.0);
            Part { of, without: Vec::new(), batch_norm: true, counts: groups, fresh: false }
        }
        StudentModel::Slim(slim) => {
            let SlimOf::Teacher = slim.of;
            let teacher = teacher.ok_or_else(|| {
                InputError::new("there is no teacher to take a part of")
                    .hint("add `teacher: {onnx: FILE}` or `teacher: {model: …, weights: …}` to the pipeline")
            })?;
            part_of(slim, teacher.known.imported()?)?
        }
    };
    Ok((part.graph()?, Some(part)))
}

fn from_file(path: &Path, image: [usize; 3], classes: usize) -> Result<Arc<Model>> {
    let found = Classifier::open(path, None)?;
    let model = found.network.imported()?;
    let (shape, count) = (model.graph().input_shape(), model.graph().classes());
    if *shape != image || count != classes {
        let problem = format!(
            "{} takes images of {shape:?} and has {count} classes; the pipeline's images are {image:?}, with {classes} classes",
            path.display(),
        );
        return Err(InputError::new(problem).hint("give a file for these images and classes").into());
    }
    Ok(Arc::clone(model))
}

fn part_of(slim: &Slim, of: &Arc<Model>) -> Result<Part> {
    let blocks = residual_blocks(of.graph());
    let mut without = Vec::new();
    for name in &slim.without {
        let Some(block) = blocks.iter().find(|block| block.name == *name) else {
            let names: Vec<&str> = blocks.iter().map(|block| block.name.as_str()).collect();
            return Err(unknown("residual block that it could do without", name, &names).into());
        };
        without.push(block.clone());
    }
    let shorter = without_blocks(of, &without)?;
    let whole = if slim.batch_norm { with_any_batch_norm(&shorter)? } else { shorter };
    let coupling = Coupling::of(whole.graph());
    let groups = coupling.groups();
    if groups.is_empty() && slim.width < 1.0 {
        let reasons: Vec<&str> = coupling.whole().iter().map(|whole| whole.reason.as_str()).take(3).collect();
        let problem = format!("the teacher has no channels that can go: {}", reasons.join("; "));
        return Err(InputError::new(problem).hint("take a student of the zoo").into());
    }
    let mut counts = coupling.uniform(slim.width);
    for (name, &units) in &slim.units {
        let Some(place) = groups.iter().position(|group| group.name == *name) else {
            let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
            return Err(unknown("group of channels", name, &names).into());
        };
        let most = groups[place].units;
        if units == 0 || units > most {
            let problem = format!("the group '{name}' has {most} units, and {units} of them are to stay");
            return Err(InputError::new(problem).hint(format!("write a number from 1 to {most}")).into());
        }
        counts[place] = units;
    }
    Ok(Part { of: Arc::clone(of), without, batch_norm: slim.batch_norm, counts, fresh: slim.fresh })
}

fn unknown(what: &str, name: &str, names: &[&str]) -> InputError {
    let mut near = names.to_vec();
    near.sort_by(|a, b| strsim::jaro_winkler(b, name).total_cmp(&strsim::jaro_winkler(a, name)));
    let near: Vec<&str> = near.into_iter().take(5).collect();
    let hint =
        if near.is_empty() { "it has none".into() } else { format!("the nearest are {}", near.join(", ")) };
    InputError::new(format!("the teacher has no {what} '{name}'")).hint(hint)
}
