//! The stage `pretrain`: each student learns alone.

use anyhow::Result;

use crate::config::Pretrain;

use super::training::{self, initial, start};
use super::{Context, Done};

pub(super) fn run(context: &Context<'_>, settings: &Pretrain, key: &str) -> Result<Done> {
    let starts = context.plan.peers.iter().map(|peer| Ok(start(peer, initial(context, peer)?, None)));
    training::run(context, &settings.recipe(), starts.collect::<Result<_>>()?, None, key)
}
