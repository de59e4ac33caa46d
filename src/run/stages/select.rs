//! The stage `select`: chooses one student on the validation split, then opens the test split.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::config::Select;
use crate::error::GateFailed;
use crate::folder::{Candidate, Original, write_json};
use crate::graph::cost;
use crate::onnx::Scored;
use crate::task::Score;
use crate::train::evaluate_model;

use super::super::choose::choose;
use super::{Context, Done, export};

pub(super) fn run(context: &Context<'_>, settings: &Select) -> Result<Done> {
    let folder = context.folder;
    let export = context.export_settings()?;
    let mut candidates = Vec::new();
    for kept in context.kept()? {
        let peer = context.peer(&kept.name)?;
        // The test split is not open yet. The file's size is at most that with every decision right.
        let (split, labelled) = context.scored_on();
        let best = Scored { split, images: labelled.len(), right: labelled.len() };
        let onnx_bytes = export::bytes(context, peer, &export, best)?.len() as u64;
        candidates.push(Candidate {
            name: kept.name,
            validation: kept.validation,
            params: peer.cost.params,
            macs: peer.cost.macs,
            onnx_bytes,
            exceeds: Vec::new(),
        });
    }
    let choice = match choose(candidates, &settings.budgets) {
        Ok(choice) => choice,
        Err(error) => {
            return match error.downcast::<GateFailed>() {
                Ok(gate) => Ok(Done { files: Vec::new(), gate: Some(gate) }),
                Err(error) => Err(error),
            };
        }
    };
    context.options.progress.note(format!("select: '{}', {}", choice.student, choice.reason));
    write_json(&folder.choice(), &choice)?;
    let mut files = vec![folder.choice()];
    files.extend(test_scores(context)?);
    files.extend(original(context)?);
    Ok(Done { files, gate: None })
}

/// Scores the teacher's file as the students are scored, to be compared with them.
fn original(context: &Context<'_>) -> Result<Option<PathBuf>> {
    let Some(teacher) = context.plan.teacher.as_ref().filter(|teacher| teacher.contract.is_some()) else {
        return Ok(None);
    };
    let (data, device) = (context.data, context.plan.pipeline.device);
    let score = |split| evaluate_model(&teacher.network, device, split, &data.normalization);
    let cost = cost(teacher.network.graph());
    let original = Original {
        params: cost.params,
        macs: cost.macs,
        onnx_bytes: std::fs::metadata(&teacher.file).map_or(0, |file| file.len()),
        validation: score(&data.validation)?,
        test: data.test.as_ref().map(score).transpose()?,
    };
    let path = context.folder.original();
    write_json(&path, &original)?;
    Ok(Some(path))
}

/// Opens the test split once, after the choice is written.
fn test_scores(context: &Context<'_>) -> Result<Option<PathBuf>> {
    let Some(test) = &context.data.test else { return Ok(None) };
    let mut scores: BTreeMap<&str, Score> = BTreeMap::new();
    for peer in &context.plan.peers {
        let (model, device) = (context.trained(peer)?, context.plan.pipeline.device);
        let score = evaluate_model(&model, device, test, &context.data.normalization)?;
        scores.insert(&peer.name, score);
    }
    let path = context.folder.test_scores();
    write_json(&path, &scores)?;
    Ok(Some(path))
}
