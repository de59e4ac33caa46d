//! Resolves a loaded pipeline to a plan.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::config::{Budgets, Labels, LoadedPipeline, Pipeline, Stage, StudentModel, pipeline_yaml};
use crate::contract::{Contract, Preparation};
use crate::data::{Adaptation, DataInfo, Described, describe, places_of};
use crate::epoch::Term;
use crate::error::InputError;
use crate::graph::{Cost, Graph, Head, cost};
use crate::zoo;

use super::checks;
use super::problems::Problems;
use super::source::{self, Origin, Part, TeachersHead};
use super::teacher::{self, Teacher};

/// A pipeline that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub pipeline: Pipeline,
    /// Folder from which relative paths start.
    pub base: PathBuf,
    pub data: DataInfo,
    /// What a user should know of the data, in sentences.
    pub notes: Vec<String>,
    /// The contract of every exported file, except for the preparation of images, which is known once they
    /// are loaded.
    pub contract: Contract,
    pub peers: Vec<Peer>,
    /// The pipeline's teacher, if it has one.
    pub teacher: Option<Teacher>,
    /// What makes the data fit the teacher's file.
    pub adaptation: Option<Adaptation>,
}

/// A student with its network.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    pub name: String,
    /// Where its network comes from, as written.
    pub model: String,
    pub graph: Graph,
    pub cost: Cost,
    /// Factor on the stages' learning rates.
    pub lr_factor: f64,
    /// The part of a trained network that it is at the start, if it is not new.
    pub part: Option<Part>,
    /// The teacher's last layer, if it ends in that.
    pub head: Option<TeachersHead>,
}

impl Plan {
    /// The pipeline with every default filled in and every path absolute.
    ///
    /// # Errors
    /// If it cannot be serialised, which would be a fault of the program.
    pub fn resolved_yaml(&self) -> Result<String> {
        let mut pipeline = self.pipeline.clone();
        if let Some(root) = pipeline.data.source.root_mut() {
            *root = absolute(&self.base.join(&*root));
        }
        let here = |path: &Path| absolute(&self.base.join(path));
        if let Some(teacher) = &mut pipeline.teacher {
            for path in [&mut teacher.weights, &mut teacher.onnx].into_iter().flatten() {
                *path = here(path);
            }
            if let Some(model) = teacher.model.as_mut().filter(|model| zoo::is_model_path(model)) {
                *model = here(Path::new(model)).display().to_string();
            }
        }
        for student in &mut pipeline.cohort {
            match &mut student.model {
                StudentModel::Named(name) if zoo::is_model_path(name) => {
                    *name = here(Path::new(name)).display().to_string();
                }
                StudentModel::Onnx(path) => *path = here(path),
                StudentModel::Named(_) | StudentModel::Slim(_) => {}
            }
        }
        pipeline_yaml(&pipeline)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Checks a pipeline and builds its networks.
///
/// # Errors
/// [`crate::error::InputError`] with everything that is wrong, each with its place and remedy.
pub fn plan(loaded: &LoadedPipeline) -> Result<Plan> {
    let mut problems = Problems::new(loaded);
    checks::check(&loaded.pipeline, &mut problems);
    let (data, mut notes) = match describe(&loaded.pipeline.data, &loaded.base) {
        Ok(Described { info, notes }) => (Some(info), notes),
        Err(error) => {
            problems.add_error("data.source", &error);
            (None, Vec::new())
        }
    };
    let (mut found, mut adaptation) = (None, None);
    if let (Some(spec), Some(data)) = (&loaded.pipeline.teacher, &data) {
        match teacher::teacher(spec, &loaded.base, data, loaded.pipeline.data.source.fit()) {
            Ok(teacher) => {
                adaptation = teacher.contract.as_ref().and_then(|contract| {
                    adaptation_to(&teacher, contract, &data.classes, loaded.pipeline.data.labels)
                        .map_err(|error| problems.add_error("teacher.classes", &error))
                        .ok()
                });
                found = Some(teacher);
            }
            Err(error) => problems.add_error("teacher", &error),
        }
    }
    let taught = loaded.pipeline.teacher.is_none() || found.is_some();
    let classes =
        data.as_ref().map(|data| adaptation.as_ref().map_or(&data.classes, |adaptation| &adaptation.classes));
    let mut peers = Vec::new();
    for (index, student) in loaded.pipeline.cohort.iter().enumerate() {
        let of_teacher = matches!(student.model, StudentModel::Slim(_)) || student.head.is_some();
        let (Some(data), Some(classes)) = (&data, classes) else { continue };
        if of_teacher && !taught {
            continue;
        }
        match source::build(student, &loaded.base, found.as_ref(), data.shape, classes.len()) {
            Ok(Origin { graph, part, head }) => {
                let (name, model) = (student.name.clone(), student.model.to_string());
                peers.push(Peer {
                    name,
                    model,
                    cost: cost(&graph),
                    graph,
                    lr_factor: student.lr_factor,
                    part,
                    head,
                });
            }
            Err(error) => problems.add_error(&format!("cohort[{index}].model"), &error),
        }
    }
    if let Some(data) = &data {
        checks::check_sizes(&loaded.pipeline, data, &mut problems);
        check_budgets(&loaded.pipeline, &peers, &mut problems);
        check_features(&loaded.pipeline, &peers, found.as_ref(), &mut problems);
    }
    problems.into_result()?;
    let data = data.context("without data there was a problem")?;
    notes.extend(checks::unused_pretraining(&loaded.pipeline));
    let (mut pipeline, base) = (loaded.pipeline.clone(), loaded.base.clone());
    for stage in &mut pipeline.stages {
        if let Stage::Collaborate(settings) = stage {
            settings.resolve();
        }
    }
    let precision = pipeline.export().precision;
    let contract = match (&found, &adaptation) {
        (Some(Teacher { contract: Some(contract), .. }), Some(adaptation)) => {
            let preparation = contract.preparation.clone().map(|recorded| Preparation {
                fit: pipeline.data.source.fit().unwrap_or(recorded.fit),
                ..recorded
            });
            Contract { precision, preparation, classes: adaptation.classes.clone(), ..contract.clone() }
        }
        _ => Contract { precision, ..Contract::classifier(data.shape, data.classes.clone()) },
    };
    Ok(Plan { pipeline, base, data, notes, contract, peers, teacher: found, adaptation })
}

/// The teacher's file of a pipeline, if it has one, and how the pipeline's data fit it.
///
/// # Errors
/// [`InputError`] if the file or the data cannot be used.
pub fn fitted_to_file(loaded: &LoadedPipeline) -> Result<Option<(Contract, Adaptation)>> {
    let Some(spec) = loaded.pipeline.teacher.as_ref().filter(|teacher| teacher.onnx.is_some()) else {
        return Ok(None);
    };
    let data = describe(&loaded.pipeline.data, &loaded.base)?.info;
    let teacher = teacher::teacher(spec, &loaded.base, &data, loaded.pipeline.data.source.fit())?;
    let Some(contract) = &teacher.contract else { return Ok(None) };
    let adaptation = adaptation_to(&teacher, contract, &data.classes, loaded.pipeline.data.labels)?;
    Ok(Some((contract.clone(), adaptation)))
}

/// How data with these classes fit a file. Without names, the classes are those of the data in their order, or numbers where
/// its decisions become the labels.
fn adaptation_to(
    teacher: &Teacher,
    contract: &Contract,
    data: &[String],
    labels: Labels,
) -> Result<Adaptation> {
    let preparation = contract.preparation.as_ref().context("a teacher's file has a preparation")?;
    let scores = teacher.known.classes();
    let (classes, labels) = match (labels, contract.classes.is_empty()) {
        (Labels::Own, false) => (contract.classes.clone(), places_of(data, &contract.classes)?),
        (Labels::Own, true) => (data.to_vec(), (0..data.len() as u32).collect()),
        (Labels::Teacher, false) => (contract.classes.clone(), Vec::new()),
        (Labels::Teacher, true) => ((0..scores).map(|class| class.to_string()).collect(), Vec::new()),
    };
    if scores != classes.len() {
        let problem = format!("the teacher gives {scores} scores and the data has {} classes", data.len());
        return Err(InputError::new(problem)
            .hint("write `classes` under `teacher`: one name for each score")
            .into());
    }
    Ok(Adaptation { classes, labels, normalization: preparation.decoded() })
}

/// Reports students whose feature maps cannot be compared with the teacher's, where a method compares them.
fn check_features(
    pipeline: &Pipeline,
    peers: &[Peer],
    teacher: Option<&Teacher>,
    problems: &mut Problems<'_>,
) {
    let compares = |stage: &Stage| matches!(stage, Stage::Collaborate(settings) if settings.terms().any(&[Term::TeacherFeatures]));
    let (Some(index), Some(teacher)) = (pipeline.stages.iter().position(compares), teacher) else { return };
    let channels = |graph: &Graph| Head::of(graph).map(|head| graph.node(head.features).shape[0]);
    let path = format!("stages[{index}].collaborate.method");
    let Some(theirs) = teacher.known.network().and_then(|model| channels(model.graph())) else {
        let problem =
            "the teacher has no feature maps to compare: it does not end in a linear layer on pooled ones";
        problems.add(&path, problem, "take another method, such as kd or dkd");
        return;
    };
    for peer in peers.iter().filter(|peer| channels(&peer.graph) != Some(theirs)) {
        let problem = format!("'{}' has no feature maps of {theirs} channels as the teacher has", peer.name);
        problems.add(&path, problem, "write `head: teacher` beside the student's model");
    }
}

/// Reads one number of a cost.
type Value = fn(&Cost) -> u64;

/// Reports budgets that no student of the cohort can meet, before anything is trained.
fn check_budgets(pipeline: &Pipeline, peers: &[Peer], problems: &mut Problems<'_>) {
    if peers.len() < pipeline.cohort.len() {
        return;
    }
    let Some(largest) = peers.iter().max_by_key(|peer| peer.cost.params) else { return };
    for (index, stage) in pipeline.stages.iter().enumerate() {
        let Stage::Select(select) = stage else { continue };
        let Budgets { max_params, max_macs, max_onnx_bytes: _, latency: _ } = select.budgets;
        let params = ("max_params", max_params, (|cost| cost.params) as Value);
        let macs = ("max_macs", max_macs, (|cost| cost.macs) as Value);
        for (key, limit, value) in [params, macs] {
            let Some(limit) = limit else { continue };
            let allowed = limit.allowed(value(&largest.cost));
            let smallest = peers.iter().min_by_key(|peer| value(&peer.cost));
            if let Some(smallest) = smallest.filter(|peer| value(&peer.cost) as f64 > allowed) {
                let needs = value(&smallest.cost);
                let path = format!("stages[{index}].select.budgets.{key}");
                let problem =
                    format!("no student is within it: allowed {allowed:.0}, '{}' has {needs}", smallest.name);
                problems.add(&path, problem, "raise the budget or add a smaller student");
            }
        }
    }
}
