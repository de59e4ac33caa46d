//! The stage `export`: every student as an ONNX file, and the chosen one also under its own name.

use anyhow::{Context as _, Result};
use tracing::debug;

use crate::config::Export;
use crate::contract::{Contract, Layout, Normalization, Preparation};
use crate::files::write_atomic;
use crate::graph::{Graph, fold_batch_norm, fold_normalization};
use crate::onnx::{Metadata, Scored, emit};
use crate::plan::{Peer, as_file_takes};

use super::{Context, Done};

pub(super) fn run(context: &Context<'_>, settings: &Export) -> Result<Done> {
    let choice = context.choice()?;
    let mut files = Vec::new();
    for peer in &context.plan.peers {
        let bytes = bytes(context, peer, settings, context.scored(&peer.name)?)?;
        let path = context.folder.onnx(&peer.name);
        debug!(path = %path.display(), bytes = bytes.len(), "exported");
        write_atomic(&path, &bytes)?;
        files.push(path);
        if peer.name == choice.student {
            write_atomic(&context.folder.chosen_onnx(), &bytes)?;
            files.push(context.folder.chosen_onnx());
        }
    }
    Ok(Done { files, gate: None })
}

/// How the run prepares images for its files: as the teacher's file takes them, or as in training, except for what a file
/// does by itself.
pub(super) fn prepared(context: &Context<'_>, settings: &Export) -> Preparation {
    let data = context.data;
    if let Some(preparation) = &context.plan.contract.preparation {
        return preparation.clone();
    }
    let inside = Normalization::none(data.normalization.mean.len());
    let normalization = if settings.fold_normalization { &inside } else { &data.normalization };
    let fit = data.validation.fit().unwrap_or_default();
    Preparation { fit, ..Preparation::of(normalization, Layout::ChannelsFirst) }
}

/// The bytes of a student's ONNX file.
pub(super) fn bytes(context: &Context<'_>, peer: &Peer, settings: &Export, score: Scored) -> Result<Vec<u8>> {
    let preparation = prepared(context, settings);
    let normalizes = settings.fold_normalization.then(|| context.data.normalization.clone());
    let Preparation { resize, fit, order, range, normalization, .. } = preparation.clone();
    let metadata = Metadata {
        classes: context.plan.contract.classes.clone(),
        input: context.data.info.shape,
        channel_order: order,
        resize,
        fit,
        range,
        mean: normalization.mean,
        std: normalization.std,
        normalizes,
        score: Some(score),
        student: peer.name.clone(),
        run: context.plan.pipeline.name.clone(),
    };
    let mut model = context.trained(peer)?;
    if settings.fold_batch_norm {
        model = fold_batch_norm(&model)?;
    }
    if let Some(Normalization { mean, std }) = &metadata.normalizes {
        model = fold_normalization(&model, mean, std)?;
    }
    let mut contract = Contract { preparation: Some(preparation), ..context.plan.contract.clone() };
    model = as_file_takes(model, &contract)?;
    if settings.embedding {
        let embedding = model.graph().output(Graph::EMBEDDING).context("a student has an embedding")?;
        contract = contract.with_embedding(&model.graph().node(embedding).shape);
    }
    emit(&model, &contract, Some(&metadata)).with_context(|| format!("cannot export '{}'", peer.name))
}
