//! Profiles a run: every node's share of the time, and the arithmetic it does in that time.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::config::EngineName;
use crate::engine::{EngineOptions, TimedNode, TimedRuns, time_nodes};
use crate::error::InputError;
use crate::onnx::OnnxFile;

use super::noise::noise;

/// Seed for the batch that is run.
const SEED: u64 = 7;

/// A network's time in one engine, node by node.
///
/// Times are means over the faster half of the runs, so that they add up and a disturbed run does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The engine's name, with every option that is not its default.
    pub engine: String,
    /// Images per run.
    pub batch: usize,
    /// Intra-op threads.
    pub threads: usize,
    /// Number of timed runs; the faster half of them counts.
    pub runs: usize,
    /// Microseconds per run, including the overhead of timing the nodes.
    pub total_us: f64,
    /// Nodes, the most expensive first.
    pub nodes: Vec<NodeTime>,
}

/// One node as the engine runs it: after the engine's optimiser, and under the engine's own names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeTime {
    pub name: String,
    pub op: String,
    /// The execution provider, where an engine has several.
    pub provider: Option<String>,
    /// Microseconds per run.
    pub us: f64,
    /// Share of the run's time.
    pub share: f64,
    /// Multiply-accumulates per run; `None` for anything but a convolution or a matrix product.
    pub macs: Option<u64>,
    /// 2 × MACs divided by the time, in 10⁹ operations per second; `None` without MACs, or where the time is
    /// too short to measure.
    pub gflops: Option<f64>,
    /// Shape of the first output, including the batch; empty where the engine does not report it.
    pub output: Vec<usize>,
}

impl Profile {
    /// Microseconds of a run that belong to no node: the engine's own work and the overhead of timing.
    pub fn outside_us(&self) -> f64 {
        self.total_us - self.nodes.iter().map(|node| node.us).sum::<f64>()
    }
}

/// Runs a batch of noise in its own session and times every node; `sample` is the shape of one sample.
///
/// # Errors
/// [`InputError`] if the file takes another batch size or the engine refuses it; other errors if a run fails.
pub fn profile(
    file: &OnnxFile,
    engine: EngineName,
    options: &EngineOptions,
    batch: usize,
    sample: &[usize],
    runs: usize,
) -> Result<Profile> {
    ensure!(batch > 0 && runs > 0, "a profile needs at least one image and one run");
    let path = file.path.display();
    if let Some(fixed) = file.contract.batch().filter(|&fixed| fixed != batch) {
        return Err(InputError::new(format!("{path} takes batches of {fixed}, not of {batch}")).into());
    }
    let timed = time_nodes(
        file,
        engine,
        options,
        noise(batch, sample, file.contract.input.element, SEED).view(),
        runs,
    )?;
    Ok(ranked(options.name(engine), batch, options.threads, timed))
}

fn ranked(engine: String, batch: usize, threads: usize, timed: TimedRuns) -> Profile {
    let mut order: Vec<usize> = (0..timed.run_us.len()).collect();
    order.sort_by(|&a, &b| timed.run_us[a].total_cmp(&timed.run_us[b]));
    order.truncate(order.len().div_ceil(2));
    let mean = |us: &[f64]| order.iter().map(|&run| us[run]).sum::<f64>() / order.len().max(1) as f64;
    let total_us = mean(&timed.run_us);
    let node = |node: TimedNode| {
        let us = mean(&node.us);
        let gflops = node.macs.filter(|_| us > 0.0).map(|macs| 2e-3 * macs as f64 / us);
        NodeTime {
            name: node.name,
            op: node.op,
            provider: node.provider,
            us,
            share: if total_us > 0.0 { us / total_us } else { 0.0 },
            macs: node.macs,
            gflops,
            output: node.output,
        }
    };
    let mut nodes: Vec<NodeTime> = timed.nodes.into_iter().map(node).collect();
    nodes.sort_by(|a, b| b.us.total_cmp(&a.us));
    Profile { engine, batch, threads, runs: timed.run_us.len(), total_us, nodes }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::graph::{Builder, Conv2d, Graph, Model, Op, cost};
    use crate::onnx::{emit, plain_contract};

    use super::*;

    /// Plain, grouped and strided convolutions whose channels do not fill a block, a depthwise one, and a
    /// linear layer.
    fn network() -> Graph {
        let (mut builder, mut last) = Builder::new(vec![3, 16, 16]).unwrap();
        let grouped = Conv2d { groups: 2, ..Conv2d::square(20, 3, 1) };
        let depthwise = Conv2d { groups: 20, ..Conv2d::square(20, 3, 1) };
        let convolutions = [Conv2d::square(24, 3, 2), grouped, depthwise, Conv2d::square(33, 1, 1)];
        for (index, conv) in convolutions.into_iter().enumerate() {
            last = builder.add(format!("conv{index}"), Op::Conv2d(conv), &[last]).unwrap();
            last = builder.add(format!("relu{index}"), Op::Relu, &[last]).unwrap();
        }
        let flat = builder.add("flat", Op::Flatten, &[last]).unwrap();
        let logits = builder.add("fc", Op::Linear { out_features: 10, bias: true }, &[flat]).unwrap();
        builder.finish(&[(Graph::LOGITS, logits)])
    }

    fn file() -> OnnxFile {
        let graph = network();
        let bytes = emit(&Model::untrained(graph.clone(), 1), &plain_contract(&graph), None).unwrap();
        OnnxFile::from_bytes(bytes, Path::new("profiled.onnx")).unwrap()
    }

    #[test]
    fn macs_are_the_graphs_and_times_add_up() {
        let (file, macs) = (file(), cost(&network()).macs);
        for engine in [EngineName::OrtCpu, EngineName::Tract] {
            for (optimize, batch) in [(true, 1), (true, 3), (false, 2)] {
                let options = EngineOptions { optimize, ..EngineOptions::default() };
                let profile = profile(&file, engine, &options, batch, &[3, 16, 16], 5).unwrap();
                let nodes = || profile.nodes.iter();
                let sum: u64 = nodes().filter_map(|node| node.macs).sum();
                assert_eq!(sum, batch as u64 * macs, "{profile:#?}");
                assert!(nodes().all(|node| node.us >= 0.0) && profile.outside_us() >= 0.0, "{profile:#?}");
                assert!(nodes().is_sorted_by(|a, b| a.us >= b.us));
                assert_eq!((profile.batch, profile.runs), (batch, 5));
            }
        }
    }

    #[test]
    fn what_disturbs_half_of_the_runs_does_not_count() {
        let node = |name: &str, macs, us: &[f64]| TimedNode {
            name: name.into(),
            macs,
            us: us.to_vec(),
            ..TimedNode::default()
        };
        let nodes = vec![node("a", None, &[1.0, 1.0, 90.0]), node("b", Some(4_000), &[2.0, 4.0, 2.0])];
        let profile = ranked("fake".into(), 1, 1, TimedRuns { run_us: vec![4.0, 6.0, 99.0], nodes });
        assert_eq!((profile.total_us, profile.outside_us()), (5.0, 1.0));
        assert_eq!((profile.nodes[0].name.as_str(), profile.nodes[0].us), ("b", 3.0));
        assert_eq!(profile.nodes[0].gflops, Some(8.0 / 3.0));
        assert_eq!((profile.nodes[1].share, profile.nodes[1].gflops), (0.2, None));
    }

    #[test]
    fn nothing_and_libtorch_cannot_be_profiled() {
        let file = file();
        for (engine, batch) in [(EngineName::Tract, 0), (EngineName::Torch, 1)] {
            assert!(profile(&file, engine, &EngineOptions::default(), batch, &[3, 16, 16], 1).is_err());
        }
    }
}
