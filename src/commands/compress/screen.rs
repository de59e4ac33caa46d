//! Terminal output of `cohort compress` before training: facts of the file, its score in each engine, the candidates.

use anyhow::Result;

use crate::compress::{Candidates, EngineScore, Prepared, Subject};
use crate::config::EngineName;
use crate::report::{bytes, count, or_na, percent, plain_table, short};
use crate::task::{Comparison, Score};

use super::Args;

/// The classifier's facts, its score, and the preparations that were tried, for the terminal.
pub(super) fn seen(subject: &Subject, args: &Args) -> String {
    let known = &subject.network;
    let macs = known.macs().map_or(String::new(), |macs| format!(", {} MACs", count(macs)));
    let mut text = format!(
        "{}: {} classes, images of {:?}, {} parameters{macs}\n{} on {} validation images",
        args.model.display(),
        known.classes(),
        subject.dataset.info.shape,
        count(known.params()),
        subject.validation,
        subject.dataset.validation.len(),
    );
    if !subject.data.labels.are_own() {
        text += ", whose labels are its own decisions: accuracy is agreement with it from here on";
    }
    if let Some(best) = subject.guesses.first() {
        let rows: Vec<Vec<String>> = subject
            .guesses
            .iter()
            .map(|guess| vec![guess.name.clone(), percent(guess.score.value())])
            .collect();
        text += &format!(
            "\n\nThe file does not say how its images are prepared; the usual ways were tried:\n{}\n\
             taken: {}; another one is given with --mean, --std, --range, --channel-order and --fit",
            plain_table(&["preparation", "accuracy"], &rows),
            best.name
        );
    }
    text
}

/// The original in each engine, on validation images.
pub(super) fn engine_table(scores: &[EngineScore]) -> String {
    let rows: Vec<Vec<String>> = scores
        .iter()
        .map(|score| {
            let name = match score.engine {
                EngineName::Torch => "torch, the imported network",
                EngineName::OrtCpu | EngineName::OrtCuda | EngineName::Tract => score.engine.key(),
            };
            let Comparison { images, agreement, .. } = score.against_teacher;
            vec![name.into(), images.to_string(), percent(score.accuracy), percent(agreement)]
        })
        .collect();
    format!("\n{}", plain_table(&["the original in", "images", "accuracy", "same decisions"], &rows))
}

/// The original and the networks that meet the target: what they cost, and what they know. Two tables, because one would be
/// wider than a terminal.
pub(super) fn table(candidates: &Candidates, engines: &[EngineName]) -> String {
    let original = &candidates.original;
    let mut header = vec!["", "params", "MACs", "ONNX", "memory"];
    let mut costs = vec![vec![
        "original".to_string(),
        short(original.params),
        or_na(original.macs, short),
        bytes(original.bytes),
        or_na(original.memory_bytes, bytes),
    ]];
    let mut known = Vec::new();
    let score = |score: Option<Score>| score.map_or(String::new(), |score| percent(score.value()));
    for candidate in &candidates.students {
        costs.push(vec![
            candidate.student.name.clone(),
            format!("{:.1} %", 100.0 * candidate.params as f64 / original.params.max(1) as f64),
            short(candidate.macs),
            bytes(candidate.bytes),
            bytes(candidate.memory_bytes),
        ]);
        known.push(vec![
            candidate.student.name.clone(),
            score(candidate.before_training),
            score(candidate.after_trial),
        ]);
    }
    for engine in engines.iter().map(|engine| engine.key()) {
        header.push(engine);
        costs[0].push(original.latency_ms.get(engine).map_or(String::new(), |ms| format!("{ms:.3} ms")));
        for (row, candidate) in costs[1..].iter_mut().zip(&candidates.students) {
            let share = candidate.latency_ms.get(engine).map(|[part, whole]| part / whole);
            row.push(share.map_or(String::new(), |share| format!("{share:.2}x")));
        }
    }
    let trained: Vec<&str> = candidates.trained().map(|candidate| candidate.student.name.as_str()).collect();
    let mut text = format!(
        "\n{}\n\nmemory: weights and activations of one image, computed\n\n{}\n\nto be trained: {}",
        plain_table(&header, &costs),
        plain_table(&["accuracy", "right after slimming", "after a few steps of training"], &known),
        trained.join(", ")
    );
    if !candidates.whole.is_empty() {
        let names: Vec<String> = candidates
            .whole
            .iter()
            .take(3)
            .map(|whole| format!("{} ({})", whole.name, whole.reason))
            .collect();
        let more = candidates.whole.len().saturating_sub(names.len());
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        text += &format!("\n\nlayers that keep channels: {}{rest}", names.join(", "));
    }
    text
}

/// The result of `--plan` as JSON.
pub(super) fn planned(prepared: &Prepared) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(&prepared.candidates)?;
    value["engines"] = serde_json::to_value(&prepared.engines)?;
    value["epochs"] = prepared.settings.epochs.into();
    value["epoch_seconds"] = prepared.epoch_seconds.into();
    Ok(value)
}
