//! The time tract spends in each node of a plan.

use std::time::Instant;

use anyhow::{Context, Result};
use ndarray::ArrayViewD;
use tract_onnx::prelude::{Node, TypedFact, TypedModel, TypedOp};
use tract_onnx::tract_core::ops::Cost;
use tract_onnx::tract_core::plan::eval;

use super::super::Engine;
use super::super::timed::{TimedNode, TimedRuns, warmup};
use super::runtime::TractEngine;

impl TractEngine {
    /// Runs a batch with a clock around every node.
    ///
    /// # Errors
    /// If the shape does not fit the network or a run fails.
    pub fn time_nodes(mut self, images: ArrayViewD<'_, f32>, runs: usize) -> Result<TimedRuns> {
        self.bind(images)?;
        let bound = self.bound.as_ref().context("a batch was bound")?;
        let model = bound.plan.model();
        let order = bound.plan.order_without_consts();
        let mut timed = TimedRuns {
            run_us: Vec::with_capacity(runs),
            nodes: order.iter().map(|&id| described(model, model.node(id))).collect(),
        };
        let mut place = vec![0; model.nodes().len()];
        order.iter().enumerate().for_each(|(index, &id)| place[id] = index);
        for run in 0..warmup(runs) + runs {
            let mut us = vec![0.0; order.len()];
            let whole = Instant::now();
            self.scoped(|| {
                let mut state = bound.plan.spawn()?;
                state.run_plan_with_eval(bound.inputs.clone(), |context, state, node, inputs| {
                    let start = Instant::now();
                    let outputs = eval(context, state, node, inputs);
                    us[place[node.id]] += start.elapsed().as_secs_f64() * 1e6;
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

fn described(model: &TypedModel, node: &Node<TypedFact, Box<dyn TypedOp>>) -> TimedNode {
    let output = node.outputs.first().and_then(|output| output.fact.shape.as_concrete());
    TimedNode {
        name: node.name.clone(),
        op: node.op.name().into_owned(),
        macs: macs(model, node),
        output: output.map_or_else(Vec::new, <[usize]>::to_vec),
        ..TimedNode::default()
    }
}

/// What tract itself says a node costs, a run.
fn macs(model: &TypedModel, node: &Node<TypedFact, Box<dyn TypedOp>>) -> Option<u64> {
    let inputs = model.node_input_facts(node.id).ok()?;
    let costs = node.op.cost(&inputs).ok()?;
    let products = costs.iter().filter(|(cost, _)| matches!(cost, Cost::FMA(_)));
    let macs: u64 = products.filter_map(|(_, count)| u64::try_from(count.to_i64().ok()?).ok()).sum();
    (macs > 0).then_some(macs)
}
