//! `cohort check`: what a pipeline means, without running it.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::config::{EngineName, Stage, load_pipeline, quickstart};
use crate::plan::{Plan, plan};
use crate::report::{count, plain_table};
use crate::ui::{out, out_json};

use super::Common;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pipeline file [default: the quick start]
    pub pipeline: Option<PathBuf>,
    /// Override a key, such as stages.collaborate.epochs=5
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    classes: usize,
    input: [usize; 3],
    train_images: usize,
    validation_images: Option<usize>,
    test_images: Option<usize>,
    students: Vec<Student<'a>>,
    stages: Vec<&'static str>,
    /// The pipeline with every default filled in.
    pipeline: &'a crate::config::Pipeline,
}

#[derive(Serialize)]
struct Student<'a> {
    name: &'a str,
    model: &'a str,
    params: u64,
    macs: u64,
    activation_bytes: u64,
}

/// Checks a pipeline and prints what it would do.
///
/// # Errors
/// [`crate::error::InputError`] with everything that is wrong.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let loaded = match &args.pipeline {
        Some(path) => load_pipeline(path, &args.overrides)?,
        None => quickstart(&args.overrides)?,
    };
    let plan = plan(&loaded)?;
    if common.json { out_json(&checked(&plan)) } else { out(text(&plan)) }
}

fn checked(plan: &Plan) -> Checked<'_> {
    let students = plan.peers.iter().map(|peer| Student {
        name: &peer.name,
        model: &peer.model,
        params: peer.cost.params,
        macs: peer.cost.macs,
        activation_bytes: peer.cost.activation_bytes,
    });
    Checked {
        name: &plan.pipeline.name,
        classes: plan.data.classes.len(),
        input: plan.data.shape,
        train_images: plan.data.train_images,
        validation_images: plan.data.validation_images,
        test_images: plan.data.test_images,
        students: students.collect(),
        stages: plan.pipeline.stages.iter().map(Stage::name).collect(),
        pipeline: &plan.pipeline,
    }
}

fn text(plan: &Plan) -> String {
    let [channels, height, width] = plan.data.shape;
    let mut source = plan.pipeline.data.source.clone();
    let name = source.name();
    let source = source.root_mut().map_or(name.to_string(), |root| root.display().to_string());
    let share = 100.0 * plan.pipeline.data.validation;
    let validation = match plan.data.validation_images {
        Some(images) => format!("{images} validation images"),
        None => format!("{share:.0} % of them for validation"),
    };
    let tests =
        plan.data.test_images.map_or("no test split".into(), |images| format!("{images} test images"));
    let rows: Vec<Vec<String>> = plan
        .peers
        .iter()
        .map(|peer| {
            vec![peer.name.clone(), peer.model.clone(), count(peer.cost.params), count(peer.cost.macs)]
        })
        .collect();
    let stages: Vec<String> = plan.pipeline.stages.iter().map(stage).collect();
    format!(
        "{}: {} classes, images of {channels}x{height}x{width}, {} training images, {validation}, {tests}\n  from {source}\n\n{}\n\n{}",
        plan.pipeline.name,
        plan.data.classes.len(),
        plan.data.train_images,
        plain_table(&["student", "model", "parameters", "MACs"], &rows),
        stages.join("\n")
    )
}

fn engines(engines: &[EngineName]) -> String {
    engines.iter().map(|engine| engine.key()).collect::<Vec<_>>().join(", ")
}

fn stage(stage: &Stage) -> String {
    let what = match stage {
        Stage::Pretrain(settings) => format!("{} epochs, batch {}", settings.epochs, settings.batch),
        Stage::Collaborate(settings) => {
            let terms = settings.method.terms(&settings.loss);
            let weights = [
                ("alpha", terms.alpha),
                ("beta", terms.beta),
                ("gamma", terms.gamma),
                ("beta0", terms.beta0),
                ("beta1", terms.beta1),
                ("beta2", terms.beta2),
            ];
            let weights = weights.map(|(name, weight)| format!("{name} {weight}")).join(", ");
            format!("{} epochs, batch {}; {weights}", settings.epochs, settings.batch)
        }
        Stage::Select(_) => "best validation accuracy within the budgets".into(),
        Stage::Export(settings) if settings.fold_batch_norm => "ONNX, BatchNorm folded".into(),
        Stage::Export(_) => "ONNX, BatchNorm kept".into(),
        Stage::Verify(settings) => format!("{}, {} images", engines(&settings.engines), settings.images),
        Stage::Bench(settings) => format!("{}, batches {:?}", engines(&settings.engines), settings.batch),
        Stage::Report(_) => "report.md, report.json".into(),
    };
    format!("  {:<12} {what}", stage.name())
}
