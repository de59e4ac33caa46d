//! The stage `pretrain`: each student learns alone.

use anyhow::Result;

use crate::config::{LossWeights, Method, Pretrain, Updates};

use super::training::{Training, start, untrained};
use super::{Context, Done};

pub(super) fn run(context: &Context<'_>, settings: &Pretrain, key: &str) -> Result<Done> {
    let starts = context.plan.peers.iter().map(|peer| start(peer, untrained(context.plan, peer), None));
    let job = Training {
        terms: Method::Plain.terms(&LossWeights::default()),
        updates: Updates::Simultaneous,
        ramp_epochs: 0,
        teacher: None,
        epochs: settings.epochs,
        batch: settings.batch,
        keep: settings.keep,
        validate_every: settings.validate_every,
        optimizer: &settings.optimizer,
        schedule: &settings.schedule,
    };
    job.run(context, starts.collect(), key)
}
