//! The key of a stage: a hash of all that decides its result.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{Pipeline, Stage};
use crate::folder::SCHEMA;
use crate::plan::{Peer, Plan, Teacher};

/// Version of each stage's own behaviour: raised when the same configuration gives other files.
fn stage_version(stage: &Stage) -> u32 {
    match stage {
        Stage::Pretrain(_) => 2,
        Stage::Collaborate(_) => 2,
        Stage::Select(_) => 2,
        Stage::Export(_) => 2,
        Stage::Verify(_) => 2,
        Stage::Bench(_) => 2,
        Stage::Report(_) => 1,
    }
}

/// What a stage depends on beside its own configuration.
#[derive(Debug, Clone, Serialize)]
pub struct Inputs<'a> {
    /// Hash of the data and of how it is split.
    pub data: &'a str,
    /// Outputs of all stages before, by path.
    pub artifacts: &'a BTreeMap<String, String>,
    /// Device libtorch trains on, as resolved.
    #[serde(skip)]
    pub device: &'a str,
    /// What latency and parity depend on: the machine and the runtimes.
    #[serde(skip)]
    pub machine: &'a Value,
}

/// The stage's key, in hex.
///
/// # Errors
/// If the configuration cannot be serialised, which would be our fault.
pub fn stage_key(plan: &Plan, stage: &Stage, inputs: &Inputs<'_>) -> Result<String> {
    let pipeline = &plan.pipeline;
    let document = json!({
        "schema": SCHEMA,
        "version": stage_version(stage),
        "name": pipeline.name,
        "seed": pipeline.seed,
        "peers": plan.peers.iter().map(peer).collect::<Result<Vec<_>>>()?,
        "stage": serde_json::to_value(stage)?,
        "inputs": serde_json::to_value(inputs)?,
        "surroundings": match stage {
            Stage::Pretrain(_) => training(pipeline, inputs)?,
            Stage::Collaborate(settings) => {
                let taught = settings.method.terms(&settings.loss).taught();
                json!({
                    "training": training(pipeline, inputs)?,
                    "teacher": plan.teacher.as_ref().filter(|_| taught).map(teacher),
                })
            }
            Stage::Verify(_) | Stage::Bench(_) => inputs.machine.clone(),
            Stage::Select(_) | Stage::Export(_) => Value::Null,
            Stage::Report(_) => json!({"program": env!("CARGO_PKG_VERSION")}),
        },
    });
    Ok(blake3::hash(serde_json::to_string(&document)?.as_bytes()).to_hex().to_string())
}

/// What every training stage depends on beside its own settings.
fn training(pipeline: &Pipeline, inputs: &Inputs<'_>) -> Result<Value> {
    let augment = serde_json::to_value(&pipeline.data.augment)?;
    Ok(
        json!({"device": inputs.device, "augment": augment, "precision": serde_json::to_value(pipeline.precision)?}),
    )
}

/// A teacher as far as results depend on it: its graph and its weights.
fn teacher(teacher: &Teacher) -> Value {
    let nodes: Vec<String> = teacher.graph.nodes().iter().map(|node| format!("{node:?}")).collect();
    json!({"nodes": nodes, "weights": blake3::hash(&teacher.weights.to_safetensors(None)).to_hex().to_string()})
}

/// A peer as far as results depend on it: its name, its graph and how fast it learns.
fn peer(peer: &Peer) -> Result<Value> {
    let nodes: Vec<String> = peer.graph.nodes().iter().map(|node| format!("{node:?}")).collect();
    Ok(json!({"name": peer.name, "nodes": nodes, "lr_factor": peer.lr_factor}))
}
