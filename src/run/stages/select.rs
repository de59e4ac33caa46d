//! The stage `select`: chooses one student on the validation split, then opens the test split.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;

use crate::bench::exceeded;
use crate::config::{Bench, Budget, Mode, Select};
use crate::data::Split;
use crate::error::GateFailed;
use crate::folder::{AgainstOriginal, Candidate, Original, write_json};
use crate::onnx::{OnnxFile, Scored};
use crate::plan::Peer;
use crate::report::ORIGINAL;
use crate::task::{Comparison, Score};
use crate::train::{Evaluation, decide};

use super::super::choose::choose;
use super::latency::{self, Rival};
use super::{Context, Done, export};

pub(super) fn run(context: &Context<'_>, settings: &Select) -> Result<Done> {
    let folder = context.folder;
    let export = context.export_settings()?;
    let mut candidates = Vec::new();
    for kept in context.kept()? {
        let peer = context.peer(&kept.name)?;
        let onnx_bytes = export::bytes(context, peer, &export, best_score(context))?.len() as u64;
        candidates.push(Candidate {
            name: kept.name,
            validation: kept.validation,
            params: peer.cost.params,
            macs: peer.cost.macs,
            onnx_bytes,
            exceeds: Vec::new(),
        });
    }
    let mut files = too_slow(context, &mut candidates, &settings.budgets.latency)?;
    let choice = match choose(candidates, &settings.budgets) {
        Ok(choice) => choice,
        Err(error) => {
            return match error.downcast::<GateFailed>() {
                Ok(gate) => Ok(Done { files, gate: Some(gate) }),
                Err(error) => Err(error),
            };
        }
    };
    context.options.progress.note(format!("select: '{}', {}", choice.student, choice.reason));
    write_json(&folder.choice(), &choice)?;
    files.push(folder.choice());
    // The test split is opened once, after the choice is written.
    let tested = context.data.test.as_ref().map(|test| decided(context, test)).transpose()?;
    if let Some(students) = &tested {
        let scores: BTreeMap<&str, Score> =
            students.iter().map(|(name, found)| (*name, found.score)).collect();
        write_json(&folder.test_scores(), &scores)?;
        files.push(folder.test_scores());
    }
    files.extend(original(context, tested.as_ref())?);
    Ok(Done { files, gate: None })
}

/// Measures the students' files if there are budgets of latency, and notes which they exceed.
fn too_slow(context: &Context<'_>, candidates: &mut [Candidate], budgets: &[Budget]) -> Result<Vec<PathBuf>> {
    if budgets.is_empty() {
        return Ok(Vec::new());
    }
    let export = context.export_settings()?;
    let mut rivals = Vec::new();
    for candidate in candidates.iter() {
        let bytes = export::bytes(context, context.peer(&candidate.name)?, &export, best_score(context))?;
        let file = OnnxFile::from_bytes(bytes, &context.folder.onnx(&candidate.name))?;
        rivals.push(Rival::student(context, &candidate.name, file)?);
    }
    let largest = candidates.iter().max_by_key(|candidate| candidate.params);
    let original = Rival::original(context, ORIGINAL)?;
    let baseline = match (&original, largest) {
        (Some(original), _) => original.name.to_string(),
        (None, Some(largest)) => largest.name.clone(),
        (None, None) => return Ok(Vec::new()),
    };
    rivals.extend(original);
    let measured = latency::measure(context, &rivals, &baseline, &settings_for(budgets), &[])?;
    for candidate in candidates.iter_mut() {
        candidate.exceeds = exceeded(budgets, &measured.cells, &baseline, &candidate.name);
    }
    let path = context.folder.selection_latency();
    write_json(&path, &measured.cells)?;
    Ok(vec![path])
}

/// A short measurement of all that the budgets speak of.
fn settings_for(budgets: &[Budget]) -> Bench {
    fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
        values.collect::<BTreeSet<T>>().into_iter().collect()
    }
    Bench {
        engines: distinct(budgets.iter().map(|budget| budget.engine)),
        batch: distinct(budgets.iter().map(|budget| budget.batch)),
        threads: distinct(budgets.iter().map(|budget| budget.threads.unwrap_or(1))),
        modes: distinct(budgets.iter().map(|budget| budget.mode.unwrap_or(Mode::Device))),
        min_samples: 300,
        min_seconds: 1.0,
        max_seconds: 10.0,
        ..Bench::default()
    }
}

/// The score whose text is the longest: every decision right. The test split is not open before the choice.
fn best_score(context: &Context<'_>) -> Scored {
    let (split, labelled) = context.scored_on();
    Scored { split, images: labelled.len(), right: labelled.len() }
}

/// What each student decides on a split, by name.
type Decided<'a> = BTreeMap<&'a str, Evaluation>;

/// Evaluates the students on a split.
fn decided<'a>(context: &'a Context<'_>, split: &Split) -> Result<Decided<'a>> {
    let (device, normalization) = (context.plan.pipeline.device, &context.data.normalization);
    let of = |peer: &'a Peer| {
        Ok((peer.name.as_str(), decide(&context.trained(peer)?, device, split, normalization)?))
    };
    context.plan.peers.iter().map(of).collect()
}

/// Evaluates the teacher's file as the students are evaluated, and compares each of them with it image by image.
fn original(context: &Context<'_>, tested: Option<&Decided<'_>>) -> Result<Option<PathBuf>> {
    let Some(teacher) = context.plan.teacher.as_ref().filter(|teacher| teacher.contract.is_some()) else {
        return Ok(None);
    };
    let (data, device) = (context.data, context.plan.pipeline.device);
    let compared = |split: &Split, students: &Decided<'_>| -> Result<(Score, BTreeMap<String, Comparison>)> {
        let whole = decide(&teacher.known, device, split, &data.normalization)?;
        let students = students.iter().map(|(name, student)| {
            let found = Comparison::of(split.labels(), &student.decisions, &whole.decisions);
            (name.to_string(), found)
        });
        Ok((whole.score, students.collect()))
    };
    let (validation, on_validation) = compared(&data.validation, &decided(context, &data.validation)?)?;
    let test = data.test.as_ref().zip(tested);
    let (test, on_test) = test.map(|(split, students)| compared(split, students)).transpose()?.unzip();
    let students = on_validation.into_iter().map(|(name, validation)| {
        let test = on_test.as_ref().and_then(|found| found.get(&name)).copied();
        (name, AgainstOriginal { validation, test })
    });
    let original = Original {
        params: teacher.known.params(),
        macs: teacher.known.macs(),
        onnx_bytes: std::fs::metadata(&teacher.file).map_or(0, |file| file.len()),
        validation,
        test,
        gives_labels: !context.plan.pipeline.data.labels.are_own(),
        students: students.collect(),
    };
    let path = context.folder.original();
    write_json(&path, &original)?;
    Ok(Some(path))
}
