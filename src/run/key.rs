//! The key of a stage: a hash of everything that decides its result, as the stage declares it.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::config::Stage;
use crate::folder::SCHEMA;
use crate::graph::{Model, fingerprint};
use crate::plan::{Known, Peer, Plan};
use crate::stage::{Read, StageKind};

/// What a stage may depend on that is not in the plan.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// Hash of the data and of its splits.
    pub data: &'a str,
    /// Hash of every file of the stages that are done, by path.
    pub files: &'a BTreeMap<StageKind, BTreeMap<String, String>>,
    /// The resolved device on which libtorch trains.
    pub device: &'a str,
    /// What latency and parity depend on: the machine and the runtimes.
    pub machine: &'a Value,
}

/// The stage's key, in hex.
///
/// # Errors
/// If the configuration cannot be serialised, which would be a fault of the program.
pub fn stage_key(plan: &Plan, stage: &Stage, surroundings: &Surroundings<'_>) -> Result<String> {
    let declaration = stage.kind().declaration();
    let mut reads = Map::new();
    for read in declaration.reads {
        reads.insert(format!("{read:?}"), value(plan, stage, *read, surroundings)?);
    }
    let document = json!({
        "schema": SCHEMA,
        "version": declaration.version,
        "name": plan.pipeline.name,
        "seed": plan.pipeline.seed,
        "stage": serde_json::to_value(stage)?,
        "reads": reads,
    });
    Ok(blake3::hash(serde_json::to_string(&document)?.as_bytes()).to_hex().to_string())
}

/// The part of the key for something that is read.
fn value(plan: &Plan, stage: &Stage, read: Read, surroundings: &Surroundings<'_>) -> Result<Value> {
    let pipeline = &plan.pipeline;
    Ok(match read {
        Read::Data => match &plan.adaptation {
            None => json!(surroundings.data),
            Some(adaptation) => json!([surroundings.data, adaptation]),
        },
        Read::Students => plan.peers.iter().map(student).collect(),
        Read::Training => json!({
            "device": surroundings.device,
            "augment": serde_json::to_value(&pipeline.data.augment)?,
            "precision": serde_json::to_value(pipeline.precision)?,
        }),
        Read::Device => json!(surroundings.device),
        Read::Teacher => {
            let taught = match stage {
                Stage::Collaborate(settings) => settings.terms().taught(),
                Stage::Slim(_)
                | Stage::Pretrain(_)
                | Stage::Select(_)
                | Stage::Export(_)
                | Stage::Verify(_)
                | Stage::Bench(_)
                | Stage::Report(_) => true,
            };
            json!(plan.teacher.as_ref().filter(|_| taught).map(|teacher| known(&teacher.known)))
        }
        Read::Interface => json!(format!("{:?}", plan.contract)),
        Read::Machine => surroundings.machine.clone(),
        Read::Program => json!(env!("CARGO_PKG_VERSION")),
        Read::Files(other) => json!(surroundings.files.get(&other)),
        Read::Settings(other) => serde_json::to_value(pipeline.stage(other))?,
    })
}

/// What results depend on in a student: its name, its graph and its learning rate factor.
fn student(peer: &Peer) -> Value {
    let mut student =
        json!({"name": peer.name, "graph": fingerprint(&peer.graph), "lr_factor": peer.lr_factor});
    if let Some(part) = &peer.part {
        student["part"] = json!({
            "of": network(&part.of), "without": part.without.iter().map(|block| &block.name).collect::<Vec<_>>(),
            "batch_norm": part.batch_norm, "counts": part.counts, "fresh": part.fresh,
        });
    }
    if let Some(head) = &peer.head {
        student["head"] = network(&head.of);
    }
    student
}

/// A trained network: its graph and weights, or its file where they are not known.
fn known(known: &Known) -> Value {
    match known {
        Known::Network(model) => network(model),
        Known::File(opaque) => {
            let file = blake3::hash(&opaque.file.bytes).to_hex().to_string();
            json!({"file": file, "reversed": opaque.reversed})
        }
    }
}

/// A graph and its weights.
fn network(model: &Model) -> Value {
    let weights = blake3::hash(&model.weights().to_safetensors(None));
    json!({"graph": fingerprint(model.graph()), "weights": weights.to_hex().to_string()})
}
