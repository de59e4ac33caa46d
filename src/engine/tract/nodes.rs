//! The time tract spends in each node of a plan.

use std::time::Instant;

use anyhow::{Context, Result};
use ndarray::ArrayViewD;
use tract_onnx::tract_core::plan::eval;

use super::super::Engine;
use super::super::timed::{TimedNode, TimedRuns, warmup};
use super::cost::macs;
use super::plan::Plan;
use super::runtime::TractEngine;

impl TractEngine {
    /// Runs a batch with every node timed.
    ///
    /// # Errors
    /// If the shape does not fit the network or a run fails.
    pub fn time_nodes(mut self, images: ArrayViewD<'_, f32>, runs: usize) -> Result<TimedRuns> {
        self.bind(images)?;
        let bound = self.bound.take().context("a batch was bound")?;
        let mut timed = TimedRuns::default();
        let mut places = Vec::new();
        for run in 0..warmup(runs) + runs {
            let whole = Instant::now();
            let mut us = Vec::new();
            self.execute(&bound, |state, inputs| {
                if timed.nodes.is_empty() {
                    (timed.nodes, places) = described(state.plan(), bound.parts.len());
                }
                us.resize(timed.nodes.len(), 0.0);
                state.run_plan_with_eval(inputs, |context, state, node, inputs| {
                    let start = Instant::now();
                    let outputs = eval(context, state, node, inputs);
                    us[places[node.id]] += start.elapsed().as_secs_f64() * 1e6;
                    outputs
                })
            })?;
            if run >= warmup(runs) {
                timed.run_us.push(whole.elapsed().as_secs_f64() * 1e6);
                timed.nodes.iter_mut().zip(us).for_each(|(node, us)| node.us.push(us));
            }
        }
        Ok(timed)
    }
}

/// The nodes of a plan in the order in which they run, and the position of each by its id. MACs are per run of the
/// whole batch, in which the plan runs once per part of the batch.
fn described(plan: &Plan, parts: usize) -> (Vec<TimedNode>, Vec<usize>) {
    let model = plan.model();
    let mut places = vec![0; model.nodes().len()];
    let order = plan.order_without_consts();
    let nodes = order.iter().enumerate().map(|(place, &id)| {
        places[id] = place;
        let node = model.node(id);
        let output = node.outputs.first().and_then(|output| output.fact.shape.as_concrete());
        TimedNode {
            name: node.name.clone(),
            op: node.op.name().into_owned(),
            macs: macs(model, node).map(|macs| macs * parts as u64),
            output: output.map_or_else(Vec::new, <[usize]>::to_vec),
            ..TimedNode::default()
        }
    });
    (nodes.collect(), places)
}
