//! `cohort check`: checks a pipeline and shows what it would do, without running it.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::config::{EngineName, Stage, TermKind, load_pipeline, quickstart};
use crate::epoch::Term;
use crate::graph::Graph;
use crate::plan::{Plan, plan, relation_bytes};
use crate::progress::Progress;
use crate::report::{count, plain_table, wrap};
use crate::ui::{out, out_json};

use super::Common;
use super::common::from_here;

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
    /// What a user should know of the data, in sentences.
    notes: &'a [String],
    students: Vec<CheckedStudent<'a>>,
    teacher: Option<CheckedTeacher<'a>>,
    /// Bytes that the relational terms hold at once on the CPU; `null` if they are off.
    relation_bytes: Option<usize>,
    stages: Vec<&'static str>,
    /// The pipeline with every default filled in.
    pipeline: &'a crate::config::Pipeline,
}

#[derive(Serialize)]
struct CheckedStudent<'a> {
    name: &'a str,
    model: &'a str,
    params: u64,
    macs: u64,
    activation_bytes: u64,
}

#[derive(Serialize)]
struct CheckedTeacher<'a> {
    model: &'a str,
    weights: String,
}

/// Checks a pipeline and prints what it would do.
///
/// # Errors
/// [`crate::error::InputError`] that lists every problem.
pub fn run(args: &Args, common: &Common) -> Result<()> {
    let loaded = match &args.pipeline {
        Some(path) => load_pipeline(path, &from_here(&args.overrides))?,
        None => quickstart(&from_here(&args.overrides))?,
    };
    let plan = plan(&loaded)?;
    let ui = common.ui();
    let progress: &dyn Progress = &ui;
    plan.notes.iter().for_each(|note| progress.warn(note.clone()));
    #[cfg(feature = "train")]
    if let Err(error) = crate::torch::device_name(plan.pipeline.device) {
        progress.warn(format!("it cannot run on this machine: {error:#}"));
    }
    if common.json { out_json(&checked(&plan)) } else { out(text(&plan)) }
}

fn checked(plan: &Plan) -> Checked<'_> {
    let students = plan.peers.iter().map(|peer| CheckedStudent {
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
        train_images: train_images(plan),
        validation_images: plan.data.validation_images,
        test_images: plan.data.test_images,
        notes: &plan.notes,
        students: students.collect(),
        teacher: plan.teacher.as_ref().map(|teacher| CheckedTeacher {
            model: &teacher.model,
            weights: teacher.file.display().to_string(),
        }),
        relation_bytes: plan.pipeline.stages.iter().find_map(|stage| relations(plan, stage)),
        stages: plan.pipeline.stages.iter().map(Stage::name).collect(),
        pipeline: &plan.pipeline,
    }
}

/// Training images that are used.
fn train_images(plan: &Plan) -> usize {
    plan.pipeline.data.images.unwrap_or(usize::MAX).min(plan.data.train_images)
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
    let stages: Vec<String> = plan.pipeline.stages.iter().map(|one| stage(plan, one)).collect();
    let teacher = plan
        .teacher
        .as_ref()
        .map_or(String::new(), |teacher| format!("\nfrozen teacher: {}\n", teacher.origin()));
    let (used, all) = (train_images(plan), plan.data.train_images);
    let used = if used < all { format!("{used} of {all}") } else { all.to_string() };
    let counts = format!(
        "{}: {} classes, images of {channels}x{height}x{width}, {used} training images, {validation}, {tests}",
        plan.pipeline.name,
        plan.data.classes.len()
    );
    format!(
        "{}\n  from {source}\n\n{}\n{teacher}\n{}",
        wrap(&counts, ""),
        plain_table(&["student", "model", "parameters", "MACs"], &rows),
        stages.join("\n")
    )
}

fn engines(engines: &[EngineName]) -> String {
    engines.iter().map(|engine| engine.key()).collect::<Vec<_>>().join(", ")
}

/// Bytes that the relational terms of a stage hold at once on the CPU.
fn relations(plan: &Plan, stage: &Stage) -> Option<usize> {
    let Stage::Collaborate(settings) = stage else { return None };
    let relations = [Term::Distance, Term::Angle, Term::TeacherDistance, Term::TeacherAngle];
    let relational = settings.terms().any(&relations);
    let features = |graph: &Graph| {
        let embedding = graph.output(Graph::EMBEDDING).map(|id| graph.node(id).shape.iter().product());
        embedding.unwrap_or(0)
    };
    let teacher = plan.teacher.as_ref().map(|teacher| match teacher.known.network() {
        Some(model) => features(model.graph()),
        None => teacher.known.classes(),
    });
    let widest = plan.peers.iter().map(|peer| features(&peer.graph)).chain(teacher).max().unwrap_or(0);
    let members = plan.peers.len() + usize::from(plan.teacher.is_some());
    relational.then(|| relation_bytes(members, settings.batch, widest))
}

/// For which lengths of training the measurements speak for students that teach each other: the study
/// `pipelines/studies/fashion-methods.yaml` in RESULTS.md.
fn evidence(plan: &Plan) -> String {
    let epochs: usize = plan
        .pipeline
        .stages
        .iter()
        .map(|stage| match stage {
            Stage::Pretrain(settings) => settings.epochs,
            Stage::Collaborate(settings) => settings.epochs,
            Stage::Slim(_)
            | Stage::Select(_)
            | Stage::Export(_)
            | Stage::Verify(_)
            | Stage::Bench(_)
            | Stage::Report(_) => 0,
        })
        .sum();
    format!(
        "\nteaching each other was ahead of training alone (0.6 and 1.2 points, by `ctsl-mkt-paper`) where students got 80 epochs \
         of 2,000 images and no longer gained alone; where they still did, that method harmed and `ctsl-mkt` did next to \
         nothing. Here they get {epochs} in all: a study against `method: plain` tells"
    )
}

fn stage(plan: &Plan, stage: &Stage) -> String {
    let what = match stage {
        Stage::Slim(settings) => format!("parts of a trained network, {} images", settings.images),
        Stage::Pretrain(settings) => format!("{} epochs, batch {}", settings.epochs, settings.batch),
        Stage::Collaborate(settings) => {
            let fields = settings.terms().fields();
            let on =
                fields.iter().filter(|(_, kind, number)| *kind != TermKind::Temperature && *number > 0.0);
            let mut on: Vec<String> = on.map(|(key, _, number)| format!("{key} {number}")).collect();
            on.extend(settings.terms().switches().into_iter().map(String::from));
            let ramp = settings.ramp();
            on.extend((ramp > 0).then(|| format!("rising over {ramp} epochs")));
            let on = on.join(", ");
            let memory = relations(plan, stage).map_or(String::new(), |bytes| {
                format!("\nrelations hold up to {} MiB on the CPU", bytes.div_ceil(1 << 20))
            });
            let evidence = if settings.terms().mutual() { evidence(plan) } else { String::new() };
            format!("{} epochs, batch {}; {on}{memory}{evidence}", settings.epochs, settings.batch)
        }
        Stage::Select(_) => "best validation accuracy within the budgets".into(),
        Stage::Export(settings) if settings.fold_batch_norm => "ONNX, BatchNorm folded".into(),
        Stage::Export(_) => "ONNX, BatchNorm kept".into(),
        Stage::Verify(settings) => format!("{}, {} images", engines(&settings.engines), settings.images),
        Stage::Bench(settings) => {
            let modes: Vec<&str> = settings.modes.iter().map(|mode| mode.key()).collect();
            let budgets: Vec<String> = settings.budgets.iter().map(ToString::to_string).collect();
            let budgets =
                if budgets.is_empty() { String::new() } else { format!("; {}", budgets.join(", ")) };
            format!(
                "{}, batches {:?}, {}{budgets}",
                engines(&settings.engines),
                settings.batch,
                modes.join(", ")
            )
        }
        Stage::Report(_) => "report.md, report.json".into(),
    };
    // The name takes the place of the first line's indent.
    let indent = " ".repeat(15);
    let lines: Vec<String> = what.lines().map(|line| wrap(line, &indent)).collect();
    format!("  {:<12} {}", stage.name(), lines.join("\n").trim_start())
}
