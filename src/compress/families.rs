//! Families of parts of a network: with and without some of its residual blocks, all groups of channels equally wide or
//! ranked against each other. A family has one number, its width.

use anyhow::Result;
use ndarray::ArrayD;

use crate::config::{Device, Slimming};
use crate::data::Dataset;
use crate::graph::{Block, Coupling, Model, Op, Weights, cost, node_params, residual_blocks};
use crate::train::{Measured, block_divergences};

/// Images on which the use of a residual block is measured.
const BLOCK_IMAGES: usize = 256;

/// Shares of the residual blocks that are left out.
const SHARES: [f64; 3] = [0.0, 0.25, 0.5];

/// Multiply-accumulates that ranking the channels of one network may take; about half a minute on two cores.
const MOST_MACS: f64 = 5e11;

/// How the widths of the groups follow from one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Widths {
    /// The same share of every group.
    Uniform,
    /// The most important units of all groups together.
    Global,
}

impl Widths {
    pub(super) const ALL: [Self; 2] = [Self::Uniform, Self::Global];

    pub(super) fn name(self) -> &'static str {
        match self {
            Widths::Uniform => "uniform",
            Widths::Global => "global",
        }
    }
}

/// A network without some of its residual blocks, whose channels are ranked.
pub(super) struct Depth {
    /// The blocks that are left out.
    pub(super) without: Vec<Block>,
    pub(super) measured: Measured,
    /// What each unit of each group costs.
    cost: Vec<Vec<f64>>,
}

impl Depth {
    pub(super) fn coupling(&self) -> &Coupling {
        self.measured.coupling()
    }

    /// Whether anything can be taken away.
    pub(super) fn can_shrink(&self) -> bool {
        !self.coupling().groups().is_empty() || !self.without.is_empty()
    }

    /// How many units of each group stay.
    pub(super) fn counts(&self, widths: Widths, width: f64) -> Vec<usize> {
        match widths {
            Widths::Uniform => self.coupling().uniform(width),
            Widths::Global => self.coupling().global(self.measured.importance(), &self.cost, width),
        }
    }

    /// A network of this shape. Which channels stay does not change what it costs.
    pub(super) fn shape(&self, counts: &[usize]) -> Result<Model> {
        Ok(self.coupling().keep(self.measured.whole(), &self.coupling().first(counts))?)
    }
}

/// The depths that are tried: the whole network, then those without its least useful blocks. `places` says whether the cost of
/// a weight is the number of places at which it is applied.
pub(super) fn depths(network: &Model, dataset: &Dataset, places: bool) -> Result<Vec<Depth>> {
    let (graph, device) = (network.graph(), Device::Auto);
    let blocks = residual_blocks(graph);
    let tried = dataset.validation.spread(BLOCK_IMAGES);
    let divergences = block_divergences(network, &blocks, &tried, &dataset.normalization, device)?;
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by(|&a, &b| divergences[a].total_cmp(&divergences[b]));
    let mut counts: Vec<usize> =
        SHARES.iter().map(|share| (share * blocks.len() as f64).ceil() as usize).collect();
    counts.dedup();
    let settings = slimming(network);
    let mut depths = Vec::new();
    for count in counts {
        let without: Vec<Block> = order[..count].iter().map(|&place| blocks[place].clone()).collect();
        let measured = Measured::of(network, &without, &settings, dataset, device)?;
        let cost = measured.coupling().importance(measured.whole().graph(), &costs(measured.whole(), places));
        depths.push(Depth { without, measured, cost });
    }
    Ok(depths)
}

/// The settings of the stage `slim`, with fewer images where the network is large.
fn slimming(network: &Model) -> Slimming {
    let usual = Slimming::default();
    let macs = cost(network.graph()).macs.max(1) as f64;
    let batch = usual.batch.min(32);
    let batches = (MOST_MACS / macs / batch as f64) as usize;
    Slimming { images: usual.images.min(batch * batches.max(2)), batch, ..usual }
}

/// What each weight costs: itself, or the multiply-accumulates it takes part in.
fn costs(model: &Model, places: bool) -> Weights {
    let graph = model.graph();
    let mut costs = Weights::new();
    for node in graph.nodes() {
        let channels = if let Op::Linear { .. } = node.op { node.shape.last() } else { node.shape.first() };
        let applied = node.shape.iter().product::<usize>() / channels.copied().unwrap_or(1).max(1);
        let each = if places { applied as f32 } else { 1.0 };
        for spec in node_params(graph, node) {
            costs.insert(spec.name, ArrayD::from_elem(spec.shape, each));
        }
    }
    costs
}
