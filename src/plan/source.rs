//! Where a student comes from: a model of the zoo, or a part of a trained network.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::config::{HeadOf, Slim, SlimOf, Student, StudentModel};
use crate::error::InputError;
use crate::graph::{
    Block, Coupling, Graph, Head, Model, Statistics, Weights, bare_convolutions, initial_weights,
    node_params, params, residual_blocks, unfold_batch_norm, with_head_of, without_blocks,
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

/// The teacher's last layer, reused by a student.
#[derive(Debug, Clone, PartialEq)]
pub struct TeachersHead {
    pub of: Arc<Model>,
    /// The layer's parameters, which keep the teacher's values.
    pub params: Vec<String>,
}

impl TeachersHead {
    /// A student's graph that ends in the teacher's last layer, and that layer.
    fn on(student: &Graph, teacher: Option<&Teacher>) -> Result<(Graph, Self)> {
        let teacher = teacher.ok_or_else(|| {
            InputError::new("`head: teacher` needs a teacher").hint("add `teacher: {…}` to the pipeline")
        })?;
        let of = Arc::clone(teacher.known.imported()?);
        let graph = with_head_of(student, of.graph()).map_err(|problem| {
            InputError::new(format!("`head: teacher`: {problem}"))
                .hint("leave `head` out; then the student has a last layer of its own")
        })?;
        let linear = Head::of(&graph).context("the head was built just now")?.linear;
        let params = node_params(&graph, graph.node(linear)).into_iter().map(|spec| spec.name).collect();
        Ok((graph, Self { of, params }))
    }

    /// The model of a student: its body's weights, new ones for the projector, and the teacher's for the last layer.
    pub fn model(&self, graph: &Graph, body: &Weights, seed: u64) -> Result<Model> {
        let mut weights = initial_weights(graph, seed);
        for spec in params(graph) {
            let source = if self.params.contains(&spec.name) { self.of.weights() } else { body };
            if let Some(values) = source.get(&spec.name) {
                weights.insert(spec.name, values.clone());
            }
        }
        Ok(Model::new(graph.clone(), weights)?)
    }
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

/// Where a student's network comes from.
pub(super) struct Origin {
    pub graph: Graph,
    /// The part of a trained network that it is, if it is one.
    pub part: Option<Part>,
    /// The teacher's last layer, if it ends in that.
    pub head: Option<TeachersHead>,
}

/// Builds the graph of a student.
pub(super) fn build(
    student: &Student,
    base: &Path,
    teacher: Option<&Teacher>,
    image: [usize; 3],
    classes: usize,
) -> Result<Origin> {
    let (graph, part) = body(student, base, teacher, image, classes)?;
    Ok(match student.head {
        Some(HeadOf::Teacher) => {
            let (graph, head) = TeachersHead::on(&graph, teacher)?;
            Origin { graph, part, head: Some(head) }
        }
        None => Origin { graph, part, head: None },
    })
}

fn body(
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
