//! How much each unit of a group matters, and which units stay.

use super::super::build::Graph;
use super::super::params::node_params;
use super::super::weights::Weights;
use super::couple::{Coupling, Group};

/// From this many channels on, a group keeps a multiple of [`STEP`], as engines compute eight channels at a time or more.
const LARGE: usize = 64;
const STEP: usize = 8;

impl Coupling {
    /// The sum of the scores of all parameters that go with each unit, by group. `scores` has an array for each parameter
    /// that counts, with its name and shape: squares of weights, or products of weights and gradients.
    pub fn importance(&self, graph: &Graph, scores: &Weights) -> Vec<Vec<f64>> {
        let mut sums = vec![0.0; self.slots()];
        for (index, node) in graph.nodes().iter().enumerate() {
            let labels = self.param_labels(graph, graph.id(index));
            for (spec, labels) in node_params(graph, node).into_iter().zip(labels) {
                let Some(array) = scores.get(&spec.name) else { continue };
                for (axis, label) in labels.iter().enumerate() {
                    let Some(label) = label else { continue };
                    for (part, &slot) in array.axis_iter(ndarray::Axis(axis)).zip(label.iter()) {
                        sums[slot as usize] += part.iter().map(|&score| f64::from(score)).sum::<f64>();
                    }
                }
            }
        }
        let of = |group: &Group| group.roots.iter().map(|&root| sums[root as usize]).collect();
        self.groups().iter().map(of).collect()
    }

    /// How many units of each group a network of this width keeps, where 1 is all of them: at least one, and multiples of
    /// eight channels in large groups.
    pub fn uniform(&self, width: f64) -> Vec<usize> {
        let count = |group: &Group| {
            let step = if group.units * group.channels < LARGE { 1 } else { STEP.div_ceil(group.channels) };
            let steps = (group.units as f64 * width / step as f64).round() as usize;
            (steps * step).clamp(step.min(group.units), group.units)
        };
        self.groups().iter().map(count).collect()
    }

    /// Flags for the most important units of each group, as many as `counts` says; of equal ones, the first.
    pub fn best(&self, importance: &[Vec<f64>], counts: &[usize]) -> Vec<Vec<bool>> {
        let of = |(scores, &count): (&Vec<f64>, &usize)| {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let mut kept = vec![false; scores.len()];
            order.into_iter().take(count).for_each(|unit| kept[unit] = true);
            kept
        };
        importance.iter().zip(counts).map(of).collect()
    }

    /// Flags for the first units of each group, as many as `counts` says: enough to know shapes and cost.
    pub fn first(&self, counts: &[usize]) -> Vec<Vec<bool>> {
        let units = self.groups().iter().map(|group| group.units);
        units.zip(counts).map(|(units, &count)| (0..units).map(|unit| unit < count).collect()).collect()
    }
}
