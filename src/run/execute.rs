//! Walks through the stages: reuse, run, record.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::bench::Environment;
use crate::config::{Labels, Stage};
use crate::data::Dataset;
use crate::error::{GateFailed, InputError, Interrupted};
use crate::files::{clear_half_written, write_atomic};
use crate::folder::{
    Artifacts, Choice, Lock, Manifest, RunFolder, SCHEMA, StageEntry, Status, hash_outputs, read_json,
};
use crate::plan::Plan;
use crate::progress::{Event, Progress, StageState};
use crate::report::Report;
use crate::stage::StageKind;
use crate::torch;
use crate::train::labelled_by;

use super::choose::too_large;
use super::key::{Surroundings, stage_key};
use super::options::Options;
use super::stages::Context;

/// Runs every stage that is not already done and returns the folder's report, or `None` if no student was
/// selected. `_lock` keeps other processes out of the folder until the run has ended.
///
/// # Errors
/// [`GateFailed`] after the report is written if a gate failed; [`Interrupted`] on request; [`InputError`] if the
/// folder holds an artifact that was changed.
pub fn execute(plan: &Plan, options: &Options<'_>, _lock: Lock) -> Result<Option<Report>> {
    let folder = RunFolder::new(&options.out);
    clear_half_written(folder.root())?;
    let known = Manifest::load(folder.root())?;
    plan.notes.iter().for_each(|note| options.progress.warn(note.clone()));
    options.progress.note(format!("reading {} images", plan.data.train_images));
    let mut data = crate::data::load(&plan.pipeline.data, &plan.base, plan.pipeline.seed)?;
    if let Some(adaptation) = &plan.adaptation {
        data = data.adapted(adaptation);
    }
    if let (Labels::Teacher, Some(teacher)) = (plan.pipeline.data.labels, &plan.teacher) {
        options.progress.note("the labels are the teacher's decisions, and accuracy is agreement with it");
        data = labelled_by(&teacher.known, plan.pipeline.device, data)?;
    }
    write_atomic(&folder.resolved_pipeline(), plan.resolved_yaml()?.as_bytes())?;

    let mut run = Run::new(plan, options, &folder, &data, known)?;
    let mut gate = None;
    for stage in &plan.pipeline.stages {
        if gate.is_some() && !run.reports_after_a_gate(stage)? {
            continue;
        }
        if let Some(failed) = run.stage(stage)? {
            gate = Some(failed);
        }
    }
    if let Some(Stage::Select(select)) = plan.pipeline.stage(StageKind::Select)
        && gate.is_none()
    {
        let choice: Choice = read_json(&folder.choice())?;
        gate = too_large(&choice, &select.budgets, &folder.chosen_onnx());
    }
    match gate {
        Some(failed) => Err(failed.into()),
        None if folder.choice().exists() => Ok(Some(crate::report::collect(&folder)?)),
        None => Ok(None),
    }
}

/// A run in progress.
struct Run<'a> {
    plan: &'a Plan,
    options: &'a Options<'a>,
    folder: &'a RunFolder,
    data: &'a Dataset,
    manifest: Manifest,
    /// Hash of every file of the stages that are done.
    files: BTreeMap<StageKind, BTreeMap<String, String>>,
    machine: Value,
}

impl<'a> Run<'a> {
    fn new(
        plan: &'a Plan,
        options: &'a Options<'a>,
        folder: &'a RunFolder,
        data: &'a Dataset,
        known: Option<Manifest>,
    ) -> Result<Self> {
        let environment = Environment::read();
        let device = torch::device_name(plan.pipeline.device)?;
        let threads = torch::threads();
        let stages = match known {
            Some(known) => {
                let here = [device.clone(), threads.to_string(), torch_version(&environment.versions)];
                let there = [known.device, known.threads.to_string(), torch_version(&known.versions)];
                if known.stages.iter().any(|stage| stage.status == Status::Running) {
                    warn_if_elsewhere(there, known.cpu_features, here, cpu_features(), options.progress);
                }
                known.stages
            }
            None => Vec::new(),
        };
        let manifest = Manifest {
            schema: SCHEMA,
            name: plan.pipeline.name.clone(),
            seed: plan.pipeline.seed,
            device,
            threads,
            cpu_features: cpu_features(),
            versions: environment.versions.clone(),
            data: data.fingerprint.clone(),
            sample: sample(data, folder)?,
            notes: plan.notes.clone(),
            stages,
        };
        let machine = serde_json::json!({
            "cpu": environment.cpu_model, "threads": environment.available_threads, "versions": environment.versions,
        });
        Ok(Self { plan, options, folder, data, manifest, files: BTreeMap::new(), machine })
    }

    /// After a failed gate only the report is made, if there is a choice to report on; files that an earlier
    /// run left for the other stages are moved aside.
    fn reports_after_a_gate(&mut self, stage: &Stage) -> Result<bool> {
        let kind = stage.kind();
        if kind == StageKind::Report {
            return Ok(self.folder.choice().exists());
        }
        if let Some(old) = self.manifest.take(kind.name()) {
            self.retire(kind, &old.key)?;
            self.manifest.save(self.folder.root())?;
        }
        Ok(false)
    }

    /// Runs or reuses one stage; returns a failed gate after the stage's files are recorded.
    fn stage(&mut self, stage: &Stage) -> Result<Option<GateFailed>> {
        let kind = stage.kind();
        let progress = self.options.progress;
        if self.options.stop.load(Ordering::Relaxed) {
            return Err(Interrupted { resume: self.options.resume.clone() }.into());
        }
        let surroundings = Surroundings {
            data: &self.manifest.data,
            files: &self.files,
            device: &self.manifest.device,
            machine: &self.machine,
        };
        let key = stage_key(self.plan, stage, &surroundings)?;
        if let Some(outputs) = self.reusable(kind, &key)? {
            progress.stage(kind, StageState::Reused);
            self.files.insert(kind, outputs);
            return Ok(None);
        }
        if let Some(entry) = self.borrowed(kind, &key)? {
            progress.stage(kind, StageState::Copied);
            self.files.insert(kind, entry.outputs.clone());
            self.record(entry)?;
            return Ok(None);
        }
        self.clear_the_way(kind, &key)?;
        let mut entry = StageEntry {
            name: kind.name().to_string(),
            key: key.clone(),
            status: Status::Running,
            seconds: 0.0,
            warnings: Vec::new(),
            outputs: BTreeMap::new(),
        };
        self.record(entry.clone())?;
        progress.stage(kind, StageState::Running);
        let started = Instant::now();
        let (plan, folder, data) = (self.plan, self.folder, self.data);
        let heard = Warnings { to: progress, heard: Mutex::default() };
        let options = &Options { progress: &heard, ..self.options.clone() };
        let done = Context { stage: kind, plan, options, folder, data }.run(stage, &key)?;
        let seconds = started.elapsed().as_secs_f64();
        entry.seconds = seconds;
        entry.warnings = heard.heard.into_inner().unwrap_or_else(PoisonError::into_inner);
        entry.outputs = hash_outputs(folder.root(), &done.files)?;
        let ended;
        (entry.status, ended) = match done.gate {
            Some(_) => (Status::GateFailed, StageState::GateFailed { seconds }),
            None => (Status::Done, StageState::Done { seconds }),
        };
        self.files.insert(kind, entry.outputs.clone());
        self.record(entry)?;
        self.clean_up(kind)?;
        progress.stage(kind, ended);
        Ok(done.gate)
    }

    /// The outputs of a stage that is done with this key, if its files are unchanged.
    fn reusable(&self, stage: StageKind, key: &str) -> Result<Option<BTreeMap<String, String>>> {
        let name = stage.name();
        let entry =
            self.manifest.stage(name).filter(|entry| entry.key == key && entry.status == Status::Done);
        let Some(entry) = entry else { return Ok(None) };
        let root = self.folder.root();
        match entry.artifacts(root)? {
            Artifacts::Intact => Ok(Some(entry.outputs.clone())),
            Artifacts::Missing(path) => {
                self.options.progress.note(format!("{name}: {path} is gone, running the stage again"));
                Ok(None)
            }
            Artifacts::Changed(path) => {
                let file = root.join(path);
                Err(InputError::new(format!("{} is not what stage '{name}' wrote", file.display()))
                    .hint("put the original back, or delete the file to run the stage again")
                    .into())
            }
        }
    }

    /// Copies a stage that another run has done with this key, if there is one and it is intact. A stage that
    /// was begun here is finished here.
    fn borrowed(&self, stage: StageKind, key: &str) -> Result<Option<StageEntry>> {
        let name = stage.name();
        let begun = self.manifest.stage(name).is_some_and(|entry| entry.key == key);
        if begun {
            return Ok(None);
        }
        for sibling in &self.options.siblings {
            let Some(manifest) = Manifest::load(sibling)? else { continue };
            let Some(entry) = manifest.stage(name) else { continue };
            if entry.key != key
                || entry.status != Status::Done
                || entry.artifacts(sibling)? != Artifacts::Intact
            {
                continue;
            }
            self.clear_the_way(stage, key)?;
            for file in entry.outputs.keys() {
                let path = sibling.join(file);
                let bytes =
                    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                write_atomic(&self.folder.root().join(file), &bytes)?;
            }
            return Ok(Some(entry.clone()));
        }
        Ok(None)
    }

    /// Moves aside what another configuration left; an unfinished stage of this configuration stays.
    fn clear_the_way(&self, stage: StageKind, key: &str) -> Result<()> {
        match self.manifest.stage(stage.name()) {
            Some(entry) if entry.key == key && entry.status == Status::Running => Ok(()),
            Some(entry) => self.retire(stage, &entry.key),
            None => self.retire(stage, "unknown"),
        }
    }

    fn retire(&self, stage: StageKind, key: &str) -> Result<()> {
        if let Some(to) = self.folder.retire(stage, key)? {
            let name = stage.name();
            self.options.progress.note(format!(
                "{name}: what was there belongs to another configuration and is now in {}",
                to.display()
            ));
        }
        Ok(())
    }

    /// Removes what a finished stage needed only for resuming.
    fn clean_up(&self, stage: StageKind) -> Result<()> {
        let checkpoint = self.folder.checkpoint(stage);
        if !checkpoint.exists() {
            return Ok(());
        }
        std::fs::remove_dir_all(&checkpoint)
            .with_context(|| format!("cannot remove {}", checkpoint.display()))
    }

    fn record(&mut self, entry: StageEntry) -> Result<()> {
        self.manifest.put(entry);
        self.manifest.save(self.folder.root())
    }
}

/// An image of the last split: its file, or one written for it.
fn sample(data: &Dataset, folder: &RunFolder) -> Result<Option<PathBuf>> {
    let split = data.test.as_ref().unwrap_or(&data.validation);
    if split.is_empty() {
        return Ok(None);
    }
    if let Some(path) = split.path(0) {
        return Ok(Some(path.to_path_buf()));
    }
    // Images of other than one or three channels have no format.
    let Ok(file) = split.encoded(0) else { return Ok(None) };
    write_atomic(&folder.sample(), &file)?;
    Ok(Some(folder.sample()))
}

/// Passes everything on, and keeps the warnings for the report.
struct Warnings<'a> {
    to: &'a dyn Progress,
    heard: Mutex<Vec<String>>,
}

impl Progress for Warnings<'_> {
    fn hear(&self, event: Event) {
        if let Event::Warning(text) = &event {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
        }
        self.to.hear(event);
    }
}

/// What decides the last bits of a sum, besides the device.
fn warn_if_elsewhere(
    there: [String; 3],
    mut features_there: Vec<String>,
    here: [String; 3],
    mut features_here: Vec<String>,
    progress: &dyn Progress,
) {
    let mut changes = Vec::new();
    for (name, (there, here)) in ["device", "threads", "libtorch"].iter().zip(there.iter().zip(&here)) {
        if there != here {
            changes.push(format!("{name} {there}, now {here}"));
        }
    }
    if features_there != features_here {
        let common: Vec<String> =
            features_there.iter().filter(|feature| features_here.contains(feature)).cloned().collect();
        features_there.retain(|feature| !common.contains(feature));
        features_here.retain(|feature| !common.contains(feature));
        let list = |features: &[String]| if features.is_empty() { "none".into() } else { features.join(" ") };
        changes.push(format!(
            "processor with {} that are not here, and {} here that were not there",
            list(&features_there),
            list(&features_here)
        ));
    }
    if !changes.is_empty() {
        progress.warn(format!(
            "this run began elsewhere ({}); a stage resumed here will not end with the very same weights",
            changes.join("; ")
        ));
    }
}

fn torch_version(versions: &BTreeMap<String, String>) -> String {
    versions.get("libtorch").cloned().unwrap_or_else(|| "unknown".into())
}

/// The vector instructions by which libtorch and our kernels choose their code.
fn cpu_features() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", std::is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", std::is_x86_feature_detected!("avx512bf16")),
        ("avx512fp16", std::is_x86_feature_detected!("avx512fp16")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(&str, bool); 0] = [];
    features.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_string()).collect()
}
