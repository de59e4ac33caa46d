//! The stage `slim`: students that are parts of a trained network get the weights of those parts.

use anyhow::Result;

use crate::config::Slimming;
use crate::files::write_atomic;
use crate::folder::{Kept, write_json};
use crate::train::{evaluate_model, take_part};

use super::{Context, Done, collaborate, training};

pub(super) fn run(context: &Context<'_>, settings: &Slimming) -> Result<Done> {
    let (folder, plan, data) = (context.folder, context.plan, context.data);
    let mut files = vec![folder.training_result(context.stage)];
    if let Some(teacher) = &plan.teacher {
        files.push(collaborate::introduce(context, teacher, folder.slim_teacher_score())?.0);
    }
    let mut kept = Vec::new();
    for peer in &plan.peers {
        let model = match &peer.part {
            Some(part) if part.fresh => training::untrained(plan, peer)?,
            Some(part) => {
                training::with_head(plan, peer, take_part(part, settings, data, plan.pipeline.device)?)?
            }
            None => training::untrained(plan, peer)?,
        };
        let validation = evaluate_model(&model, plan.pipeline.device, &data.validation, &data.normalization)?;
        if peer.part.is_some() {
            context
                .options
                .progress
                .note(format!("slim: '{}', {validation} on validation before training", peer.name));
        }
        let path = folder.weights(context.stage, &peer.name);
        write_atomic(&path, &model.weights().to_safetensors(None))?;
        files.push(path);
        let name = peer.name.clone();
        kept.push(Kept { name, epoch: 0, epochs: 0, validation, optimizer: String::new() });
    }
    write_json(&folder.training_result(context.stage), &kept)?;
    Ok(Done { files, gate: None })
}
