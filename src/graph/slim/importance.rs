//! How much each unit of a group matters, and which units stay.

use super::super::build::Graph;
use super::super::params::node_params;
use super::super::weights::Weights;
use super::couple::{Coupling, Group};

/// From this many channels on, a group keeps a multiple of [`STEP`], as engines compute eight channels at a time or more.
const LARGE: usize = 64;
const STEP: usize = 8;

/// The share of a group that stays however little its units matter.
const LEAST: f64 = 1.0 / 16.0;

/// A number of units that a group can keep, near this one.
fn rounded(group: &Group, units: f64) -> usize {
    let step = if group.units * group.channels < LARGE { 1 } else { STEP.div_ceil(group.channels) };
    let steps = (units / step as f64).round() as usize;
    (steps * step).clamp(step.min(group.units), group.units)
}

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
        let count = |group: &Group| rounded(group, group.units as f64 * width);
        self.groups().iter().map(count).collect()
    }

    /// The same where the units of all groups are ranked together by what they matter for each part of their cost, and the
    /// best `width` of all of them stay, but at least a sixteenth of each group.
    pub fn global(&self, importance: &[Vec<f64>], cost: &[Vec<f64>], width: f64) -> Vec<usize> {
        let mut ranked: Vec<(f64, usize)> = Vec::new();
        for (group, (importance, cost)) in importance.iter().zip(cost).enumerate() {
            ranked.extend(importance.iter().zip(cost).map(|(one, cost)| (one / cost.max(1.0), group)));
        }
        ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut best = vec![0usize; self.groups().len()];
        let count = (ranked.len() as f64 * width).round() as usize;
        ranked.iter().take(count).for_each(|(_, group)| best[*group] += 1);
        let count =
            |(group, &best): (&Group, &usize)| rounded(group, (best as f64).max(group.units as f64 * LEAST));
        self.groups().iter().zip(&best).map(count).collect()
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

#[cfg(test)]
mod tests {
    use super::super::super::{Builder, Conv2d, Graph, Op};
    use super::*;

    /// Two convolutions, of four and of eight channels, and the logits.
    fn two_groups() -> Coupling {
        let (mut builder, image) = Builder::new(vec![1, 4, 4]).unwrap();
        let mut add = |name: &str, op: Op, from| builder.add(name, op, &[from]).unwrap();
        let one = add("one", Op::Conv2d(Conv2d::square(4, 3, 1)), image);
        let one = add("one.relu", Op::Relu, one);
        let two = add("two", Op::Conv2d(Conv2d::square(8, 3, 1)), one);
        let two = add("two.relu", Op::Relu, two);
        let logits = add("logits", Op::Conv2d(Conv2d::square(3, 4, 1)), two);
        Coupling::of(&builder.finish(&[(Graph::LOGITS, logits)]))
    }

    #[test]
    fn units_are_ranked_over_all_groups_by_worth_for_cost() {
        let coupling = two_groups();
        let units: Vec<usize> = coupling.groups().iter().map(|group| group.units).collect();
        assert_eq!(units, [4, 8]);
        let importance = [vec![4.0, 3.0, 2.0, 1.0], vec![10.0; 8]];
        let equal = [vec![1.0; 4], vec![1.0; 8]];
        // The eight units of the second group matter most; the first keeps its one.
        assert_eq!(coupling.global(&importance, &equal, 8.0 / 12.0), [1, 8]);
        // Where they cost ten times as much, those of the first group come first.
        let dear = [vec![1.0; 4], vec![10.0; 8]];
        assert_eq!(coupling.global(&importance, &dear, 3.0 / 12.0), [3, 1]);
        assert_eq!(coupling.global(&importance, &dear, 1.0), [4, 8]);
        assert_eq!(coupling.uniform(0.5), [2, 4]);
    }
}
