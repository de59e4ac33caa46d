//! Resolves a loaded pipeline to a plan.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::config::{Budgets, LoadedPipeline, Pipeline, Stage};
use crate::contract::Contract;
use crate::data::{DataInfo, describe};
use crate::graph::{Cost, Graph, cost};
use crate::zoo;

use super::checks;
use super::problems::Problems;
use super::teacher::{self, Teacher};

/// A pipeline that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub pipeline: Pipeline,
    /// Folder from which relative paths start.
    pub base: PathBuf,
    pub data: DataInfo,
    /// The contract of every exported file, except for the preparation of images, which is known once they
    /// are loaded.
    pub contract: Contract,
    pub peers: Vec<Peer>,
    /// The pipeline's teacher, if it has one.
    pub teacher: Option<Teacher>,
}

/// A student with its network.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    pub name: String,
    /// A ready architecture or a model file, as written.
    pub model: String,
    pub graph: Graph,
    pub cost: Cost,
    /// Factor on the stages' learning rates.
    pub lr_factor: f64,
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
        if let Some(teacher) = &mut pipeline.teacher {
            teacher.weights = absolute(&self.base.join(&teacher.weights));
            if zoo::is_model_path(&teacher.model) {
                teacher.model = absolute(&self.base.join(&teacher.model)).display().to_string();
            }
        }
        for student in &mut pipeline.cohort {
            if zoo::is_model_path(&student.model) {
                student.model = absolute(&self.base.join(&student.model)).display().to_string();
            }
        }
        let mut bytes = Vec::new();
        let mut serializer = serde_yaml::Serializer::new(&mut bytes);
        serde_yaml::with::singleton_map_recursive::serialize(&pipeline, &mut serializer)?;
        String::from_utf8(bytes).context("YAML is UTF-8")
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
    let data = match describe(&loaded.pipeline.data.source, &loaded.base) {
        Ok(data) => Some(data),
        Err(error) => {
            problems.add_error("data.source", &error);
            None
        }
    };
    let mut peers = Vec::new();
    for (index, student) in loaded.pipeline.cohort.iter().enumerate() {
        let place = format!("cohort[{index}].model");
        let built = zoo::find_model(&student.model, &loaded.base).and_then(|model| match &data {
            Some(data) => zoo::build(&model, data.shape, data.classes.len()).map(Some),
            None => Ok(None),
        });
        match built {
            Ok(Some(graph)) => {
                let (name, model) = (student.name.clone(), student.model.clone());
                peers.push(Peer { name, model, cost: cost(&graph), graph, lr_factor: student.lr_factor });
            }
            Ok(None) => {}
            Err(error) => problems.add_error(&place, &error),
        }
    }
    let mut found = None;
    if let (Some(spec), Some(data)) = (&loaded.pipeline.teacher, &data) {
        match teacher::teacher(spec, &loaded.base, data) {
            Ok(teacher) => found = Some(teacher),
            Err(error) => problems.add_error("teacher", &error),
        }
    }
    if let Some(data) = &data {
        checks::check_sizes(&loaded.pipeline, data, &mut problems);
        check_budgets(&loaded.pipeline, &peers, &mut problems);
    }
    problems.into_result()?;
    let data = data.context("without data there was a problem")?;
    let (pipeline, base) = (loaded.pipeline.clone(), loaded.base.clone());
    let contract = Contract {
        precision: pipeline.export().precision,
        ..Contract::classifier(data.shape, data.classes.clone())
    };
    Ok(Plan { pipeline, base, data, contract, peers, teacher: found })
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
        let Budgets { max_params, max_macs, max_onnx_bytes: _ } = select.budgets;
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
