//! Which channels belong together: slots run through the whole graph, and each operation says how.
//!
//! Convolutions and linear layers open slots for what they give, and read what comes in freely: a channel that nobody
//! reads can go. Whatever works element by element ties the slots of what it reads; what runs over an axis (a softmax, a
//! normalisation of features) needs all of it. The logits stay.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::build::{Graph, Node, NodeId};
use super::super::facts::elements;
use super::super::op::{Conv2d, Op, Shape};
use super::slots::{Label, Reason, Slots};

/// Channels that can be kept or dropped one by one: all that lie on exactly the same axes of the network. As long as one
/// of each group is kept, no axis becomes empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The first layer that computes them.
    pub name: String,
    /// How many there are.
    pub units: usize,
    /// How many channels of that layer each one is: more than one in a grouped convolution.
    pub channels: usize,
    /// The slots.
    pub(super) roots: Vec<u32>,
}

/// A layer whose channels stay, at least some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    pub name: String,
    /// How many of its channels stay.
    pub channels: usize,
    /// A clause about them: `'norm' (layer_norm) runs over them`.
    pub reason: String,
}

/// The coupled channels of a graph.
pub struct Coupling {
    /// For each node, the label of each axis of its value; slots are roots.
    labels: Vec<Vec<Label>>,
    groups: Vec<Group>,
    whole: Vec<Whole>,
    slots: usize,
}

impl Coupling {
    /// Finds the coupled channels of a graph.
    pub fn of(graph: &Graph) -> Self {
        let mut walk = Walk { graph, slots: Slots::new(graph.id(0)), labels: Vec::new() };
        for (index, node) in graph.nodes().iter().enumerate() {
            let labels = walk.labels_of(graph.id(index), node);
            walk.labels.push(labels);
        }
        if let Some(logits) = graph.output(Graph::LOGITS) {
            for axis in 0..walk.labels[logits.index()].len() {
                walk.pin(logits, logits, axis, "gives the logits");
            }
        }
        let Walk { slots, mut labels, .. } = walk;
        for label in labels.iter_mut().flatten().flatten() {
            *label = label.iter().map(|&slot| slots.root(slot)).collect();
        }
        let groups = groups(graph, &slots, &labels);
        let whole = whole(graph, &slots, &labels);
        Self { labels, groups, whole, slots: slots.len() }
    }

    /// What can be slimmed, in the order of the network.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The layers whose channels stay, with the reason; without those that give the logits.
    pub fn whole(&self) -> &[Whole] {
        &self.whole
    }

    /// The label of each axis of a node's value.
    pub(super) fn labels(&self, node: NodeId) -> &[Label] {
        &self.labels[node.index()]
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The label of each axis of each parameter of a node, in the order of [`super::super::params::node_params`].
    pub(super) fn param_labels(&self, graph: &Graph, id: NodeId) -> Vec<Vec<Label>> {
        let node = graph.node(id);
        let own = self.labels(id);
        let read = node.inputs.first().map(|input| self.labels(*input)).unwrap_or_default();
        match &node.op {
            Op::Conv2d(conv) => {
                let input = match Kind::of(conv, graph.node(node.inputs[0]).shape[0]) {
                    Kind::Plain => read[0].clone(),
                    Kind::Depthwise => None,
                    Kind::Grouped { reads, .. } => read[0].as_ref().map(|label| label[..reads].into()),
                };
                let weight = vec![own[0].clone(), input, None, None];
                if conv.bias { vec![weight, vec![own[0].clone()]] } else { vec![weight] }
            }
            Op::BatchNorm { .. } => vec![vec![own[0].clone()]; 4],
            Op::InstanceNorm { .. } => vec![vec![own[0].clone()]; 2],
            Op::Linear { bias, .. } => {
                let (own, read) = (own.last().cloned().flatten(), read.last().cloned().flatten());
                let weight = vec![own.clone(), read];
                if *bias { vec![weight, vec![own]] } else { vec![weight] }
            }
            Op::LayerNorm { axes, .. } => vec![own[own.len() - axes..].to_vec(); 2],
            Op::Input { .. }
            | Op::Constant { .. }
            | Op::Relu
            | Op::Clip { .. }
            | Op::MaxPool(_)
            | Op::AvgPool { .. }
            | Op::GlobalAvgPool
            | Op::Flatten
            | Op::Add
            | Op::Concat { .. }
            | Op::Slice { .. }
            | Op::ChannelShuffle { .. }
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Where
            | Op::Softmax { .. }
            | Op::Resize(_)
            | Op::QuantizeDequantize(_)
            | Op::Max { .. }
            | Op::Mean { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Pad { .. }
            | Op::MatMul => Vec::new(),
        }
    }
}

/// The three kinds of convolutions, which couple channels differently.
pub(super) enum Kind {
    /// Each output reads all inputs.
    Plain,
    /// Each output reads one input.
    Depthwise,
    /// Each output reads those of its group.
    Grouped { reads: usize, gives: usize },
}

impl Kind {
    pub(super) fn of(conv: &Conv2d, channels: usize) -> Self {
        let (reads, gives) = (channels / conv.groups, conv.out_channels / conv.groups);
        match (conv.groups, reads) {
            (1, _) => Kind::Plain,
            (_, 1) => Kind::Depthwise,
            _ => Kind::Grouped { reads, gives },
        }
    }
}

/// The walk through the graph.
struct Walk<'a> {
    graph: &'a Graph,
    slots: Slots,
    labels: Vec<Vec<Label>>,
}

impl Walk<'_> {
    /// All of an axis of `of` stays, because `node` needs it.
    fn pin(&mut self, node: NodeId, of: NodeId, axis: usize, why: &'static str) {
        let label = self.labels[of.index()][axis].clone();
        self.slots.pin(&label, Reason { node, why });
    }

    /// New slots for an axis; a single index stays.
    fn fresh(&mut self, count: usize) -> Label {
        (count > 1).then(|| self.slots.fresh(count))
    }

    fn labels_of(&mut self, id: NodeId, node: &Node) -> Vec<Label> {
        let shape = |input: NodeId| &self.graph.node(input).shape;
        let Some(&first) = node.inputs.first() else {
            let constant = matches!(node.op, Op::Constant { .. });
            return node.shape.iter().map(|&size| if constant { self.fresh(size) } else { None }).collect();
        };
        let from = shape(first);
        let read = self.labels[first.index()].clone();
        match &node.op {
            Op::Input { .. } | Op::Constant { .. } => vec![None; node.shape.len()],
            Op::Conv2d(conv) => {
                self.pin_from(id, first, 1);
                vec![self.convolved(conv, &read[0], from[0]), None, None]
            }
            Op::MaxPool(_) | Op::AvgPool { .. } | Op::GlobalAvgPool | Op::Resize(_) => {
                self.pin_from(id, first, 1);
                vec![read[0].clone(), None, None]
            }
            Op::InstanceNorm { .. } => {
                self.pin_from(id, first, 1);
                read
            }
            Op::BatchNorm { .. } | Op::Relu | Op::Clip { .. } | Op::Unary(_) | Op::QuantizeDequantize(_) => {
                read
            }
            Op::Linear { out_features, .. } => {
                let (_, outer) = read.split_last().expect("a linear layer reads an axis");
                [outer, &[self.fresh(*out_features)]].concat()
            }
            Op::Add | Op::Binary(_) | Op::Where => self.elementwise(id, node),
            Op::Concat { axis } => self.joined(id, node, *axis),
            Op::Slice { axis, start, end, step } => {
                let mut labels = read;
                if *step > 1 {
                    self.pin(id, first, *axis, "takes indices at a distance from it");
                }
                labels[*axis] = labels[*axis]
                    .as_ref()
                    .map(|label| label[*start..*end].iter().copied().step_by(*step).collect());
                labels
            }
            Op::ChannelShuffle { groups } => vec![self.shuffled(&read[0], *groups), None, None],
            Op::Softmax { axis } => {
                self.pin(id, first, *axis, "runs over it");
                read
            }
            Op::LayerNorm { axes, .. } => {
                self.pin_from(id, first, from.len() - axes);
                read
            }
            Op::Max { axes } | Op::Mean { axes } => {
                let mut labels = read;
                for &axis in axes {
                    self.pin(id, first, axis, "runs over it");
                    labels[axis] = None;
                }
                labels
            }
            Op::Flatten | Op::Reshape { .. } => self.reshaped(id, first, &read, from, &node.shape),
            Op::Transpose { order } => order.iter().map(|&axis| read[axis].clone()).collect(),
            Op::Pad { before, after, .. } => {
                let padded = |(axis, label): (usize, Label)| {
                    let label = label?;
                    let (before, after) = (self.slots.fresh(before[axis]), self.slots.fresh(after[axis]));
                    Some([&before, &*label, &after].concat().into())
                };
                read.into_iter().enumerate().map(padded).collect()
            }
            Op::MatMul => self.product(id, node),
        }
    }

    /// All axes of `of` from one on stay.
    fn pin_from(&mut self, node: NodeId, of: NodeId, axis: usize) {
        for axis in axis..self.labels[of.index()].len() {
            self.pin(node, of, axis, "runs over it");
        }
    }

    fn convolved(&mut self, conv: &Conv2d, read: &Label, channels: usize) -> Label {
        match Kind::of(conv, channels) {
            Kind::Plain => self.fresh(conv.out_channels),
            Kind::Depthwise => {
                let each = conv.out_channels / conv.groups;
                read.as_ref()
                    .map(|label| label.iter().flat_map(|&slot| std::iter::repeat_n(slot, each)).collect())
            }
            // The same places in each group.
            Kind::Grouped { reads, gives } => {
                for (index, &slot) in read.iter().flat_map(|label| label.iter()).enumerate().skip(reads) {
                    let first = read.as_ref().map_or(slot, |label| label[index % reads]);
                    self.slots.join(first, slot);
                }
                self.fresh(gives).map(|places| places.repeat(conv.groups).into())
            }
        }
    }

    /// Ties what is read index by index; an axis of length 1 is broadcast.
    fn elementwise(&mut self, id: NodeId, node: &Node) -> Vec<Label> {
        let tied = |axis: usize| {
            let mut label: Option<Label> = None;
            for input in &node.inputs {
                if self.graph.node(*input).shape[axis] != node.shape[axis] {
                    continue;
                }
                let own = &self.labels[input.index()][axis];
                label = Some(match &label {
                    Some(label) => self.slots.tie(label, own, id),
                    None => own.clone(),
                });
            }
            label.flatten()
        };
        (0..node.shape.len()).map(tied).collect()
    }

    /// The labels of a Concat.
    fn joined(&mut self, id: NodeId, node: &Node, along: usize) -> Vec<Label> {
        let mut labels = self.labels[node.inputs[0].index()].clone();
        for input in &node.inputs[1..] {
            for axis in (0..labels.len()).filter(|&axis| axis != along) {
                labels[axis] = self.slots.tie(&labels[axis], &self.labels[input.index()][axis], id);
            }
        }
        let mut all = Vec::with_capacity(node.shape[along]);
        for input in &node.inputs {
            match &self.labels[input.index()][along] {
                Some(label) => all.extend_from_slice(label),
                None => all.resize(all.len() + self.graph.node(*input).shape[along], Slots::STAYS),
            }
        }
        labels[along] = all.iter().any(|&slot| slot != Slots::STAYS).then(|| all.into());
        labels
    }

    /// A channel that goes takes those at the same place of the other groups with it, or the shuffle would mix others.
    fn shuffled(&mut self, read: &Label, groups: usize) -> Label {
        let label = read.as_ref()?;
        let each = label.len() / groups;
        for (index, &slot) in label.iter().enumerate().skip(each) {
            self.slots.join(label[index % each], slot);
        }
        Some((0..label.len()).map(|index| label[index % groups * each + index / groups]).collect())
    }

    /// The same elements in another shape: the indices of an axis may become those of another, or runs of them.
    fn reshaped(&mut self, id: NodeId, of: NodeId, read: &[Label], from: &Shape, to: &Shape) -> Vec<Label> {
        let mut labels = vec![None; to.len()];
        let labelled: Vec<usize> = (0..from.len()).filter(|&axis| read[axis].is_some()).collect();
        let longer = |shape: &Shape| (0..shape.len()).filter(|&axis| shape[axis] > 1).collect::<Vec<_>>();
        let (own, new) = (longer(from), longer(to));
        if own.iter().map(|&axis| from[axis]).eq(new.iter().map(|&axis| to[axis])) {
            own.iter().zip(&new).for_each(|(&own, &new)| labels[new] = read[own].clone());
            return labels;
        }
        if let [axis] = labelled[..]
            && let Some(label) = &read[axis]
        {
            let inner = elements(&from[axis + 1..]) as usize;
            let slot = |place: usize| label[place / inner % label.len()];
            let count = elements(from) as usize;
            for (axis, found) in labels.iter_mut().enumerate() {
                let (inner, size) = (elements(&to[axis + 1..]) as usize, to[axis]);
                let along: Rc<[u32]> = (0..size).map(|index| slot(index * inner)).collect();
                if size > 1 && (0..count).all(|place| slot(place) == along[place / inner % size]) {
                    *found = Some(along);
                    return labels;
                }
            }
        }
        for axis in labelled {
            self.pin(id, of, axis, "cuts it into parts");
        }
        labels
    }

    fn product(&mut self, id: NodeId, node: &Node) -> Vec<Label> {
        let [left, right] = [0, 1].map(|place| self.labels[node.inputs[place].index()].clone());
        let axes = node.shape.len();
        self.slots.tie(&left[axes - 1], &right[axes - 2], id);
        let outer = |axis: usize| {
            let whole = |place: usize| self.graph.node(node.inputs[place]).shape[axis] == node.shape[axis];
            match (whole(0), whole(1)) {
                (true, true) => self.slots.tie(&left[axis], &right[axis], id),
                (true, false) => left[axis].clone(),
                (false, _) => right[axis].clone(),
            }
        };
        let mut labels: Vec<Label> = (0..axes - 2).map(outer).collect();
        labels.extend([left[axes - 2].clone(), right[axes - 1].clone()]);
        labels
    }
}

/// The slots that may go, by the axes on which they lie.
fn groups(graph: &Graph, slots: &Slots, labels: &[Vec<Label>]) -> Vec<Group> {
    let mut axes: Vec<Vec<u32>> = vec![Vec::new(); slots.len()];
    let mut makers: Vec<Option<NodeId>> = vec![None; slots.len()];
    let mut number = 0;
    for (index, own) in labels.iter().enumerate() {
        for label in own.iter().flatten() {
            for &slot in label.iter() {
                let seen = &mut axes[slot as usize];
                if seen.last() != Some(&number) {
                    seen.push(number);
                }
                let maker = &mut makers[slot as usize];
                let layer = matches!(graph.nodes()[index].op, Op::Conv2d(_) | Op::Linear { .. });
                if maker.is_none_or(|maker| layer && !is_layer(graph, maker)) {
                    *maker = Some(graph.id(index));
                }
            }
            number += 1;
        }
    }
    let mut found: BTreeMap<&[u32], Vec<u32>> = BTreeMap::new();
    for (slot, axes) in axes.iter().enumerate() {
        if !axes.is_empty() && slots.reason(slot as u32).is_none() {
            found.entry(axes).or_default().push(slot as u32);
        }
    }
    let group = |roots: Vec<u32>| {
        let maker = makers[roots[0] as usize]?;
        let of_maker = labels[maker.index()].iter().flatten().find(|label| label.contains(&roots[0]))?;
        let channels = of_maker.iter().filter(|slot| **slot == roots[0]).count();
        Some(Group { name: graph.node(maker).name.clone(), units: roots.len(), channels, roots })
    };
    let mut groups: Vec<Group> = found.into_values().filter_map(group).collect();
    groups.sort_by_key(|group| group.roots[0]);
    groups
}

fn is_layer(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Conv2d(_) | Op::Linear { .. })
}

/// The layers that must keep channels.
fn whole(graph: &Graph, slots: &Slots, labels: &[Vec<Label>]) -> Vec<Whole> {
    let logits = graph.output(Graph::LOGITS);
    let mut whole = Vec::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        if !is_layer(graph, graph.id(index)) {
            continue;
        }
        let axis = if matches!(node.op, Op::Conv2d(_)) { 0 } else { node.shape.len() - 1 };
        let Some(label) = &labels[index][axis] else { continue };
        let reasons: Vec<Reason> = label.iter().filter_map(|&slot| slots.reason(slot)).collect();
        let Some(reason) = reasons.first().filter(|reason| Some(reason.node) != logits) else { continue };
        let by = graph.node(reason.node);
        whole.push(Whole {
            name: node.name.clone(),
            channels: reasons.len(),
            reason: format!("'{}' ({}) {}", by.name, by.op.kind(), reason.why),
        });
    }
    whole
}
