//! A network without some of its channels.

use ndarray::{ArrayD, Axis};

use super::super::build::{Graph, NodeId};
use super::super::model::{Model, ModelError};
use super::super::op::Op;
use super::super::params::node_params;
use super::super::weights::Weights;
use super::couple::{Coupling, Kind};
use super::slots::Label;

impl Coupling {
    /// The network without the units that are not kept: `kept` says for each group which of its units stay. Wherever a
    /// dropped channel was read, the slim network computes what the original does if zeros are read there.
    ///
    /// # Errors
    /// [`ModelError`] if the weights are not those of the graph.
    ///
    /// # Panics
    /// If `kept` does not have a flag for each unit of each group, or keeps none of a group.
    pub fn keep(&self, model: &Model, kept: &[Vec<bool>]) -> Result<Model, ModelError> {
        let cut = Cut { coupling: self, graph: model.graph(), stays: self.stays(kept) };
        let graph = model.graph().rewritten(&mut |builder, id, inputs| {
            builder.add(&model.graph().node(id).name, cut.op(id), inputs)
        })?;
        Ok(Model::new(graph, cut.weights(model.weights()))?)
    }

    /// Which indices of an axis of a node's value stay; `None` if all do, whatever is kept.
    ///
    /// # Panics
    /// As [`Coupling::keep`].
    pub fn kept_indices(&self, node: NodeId, axis: usize, kept: &[Vec<bool>]) -> Option<Vec<bool>> {
        let stays = self.stays(kept);
        let label = self.labels(node)[axis].as_ref()?;
        Some(label.iter().map(|&slot| stays[slot as usize]).collect())
    }

    /// Whether each slot stays.
    fn stays(&self, kept: &[Vec<bool>]) -> Vec<bool> {
        assert_eq!(kept.len(), self.groups().len(), "flags for each group");
        let mut stays = vec![true; self.slots()];
        for (group, kept) in self.groups().iter().zip(kept) {
            let name = &group.name;
            assert!(kept.len() == group.units && kept.contains(&true), "flags for the units of {name}");
            group.roots.iter().zip(kept).for_each(|(&root, &kept)| stays[root as usize] = kept);
        }
        stays
    }
}

struct Cut<'a> {
    coupling: &'a Coupling,
    graph: &'a Graph,
    /// Whether each slot stays.
    stays: Vec<bool>,
}

impl Cut<'_> {
    fn stay(&self, slots: &[u32]) -> usize {
        slots.iter().filter(|&&slot| self.stays[slot as usize]).count()
    }

    /// What remains of the axes.
    fn cut(&self, array: &ArrayD<f32>, labels: &[Label]) -> ArrayD<f32> {
        let mut array = array.clone();
        for (axis, label) in labels.iter().enumerate() {
            let Some(label) = label else { continue };
            if self.stay(label) < label.len() {
                let indices: Vec<usize> =
                    (0..label.len()).filter(|&index| self.stays[label[index] as usize]).collect();
                array = array.select(Axis(axis), &indices);
            }
        }
        array
    }

    fn weights(&self, weights: &Weights) -> Weights {
        let mut cut = Weights::new();
        for (index, node) in self.graph.nodes().iter().enumerate() {
            let labels = self.coupling.param_labels(self.graph, self.graph.id(index));
            for (spec, labels) in node_params(self.graph, node).into_iter().zip(labels) {
                if let Some(array) = weights.get(&spec.name) {
                    cut.insert(spec.name, self.cut(array, &labels));
                }
            }
        }
        cut
    }

    /// The operation of a node without the channels that go.
    fn op(&self, id: NodeId) -> Op {
        let node = self.graph.node(id);
        let own = self.coupling.labels(id);
        let read = node.inputs.first().map(|input| self.coupling.labels(*input)).unwrap_or_default();
        let along = |label: &Label, size: usize| label.as_ref().map_or(size, |label| self.stay(label));
        let mut op = node.op.clone();
        match &mut op {
            Op::Conv2d(conv) => {
                let channels = self.graph.node(node.inputs[0]).shape[0];
                if let Kind::Depthwise = Kind::of(conv, channels) {
                    conv.groups = along(&read[0], channels);
                }
                conv.out_channels = along(&own[0], conv.out_channels);
            }
            Op::Linear { out_features, .. } => {
                *out_features = own.last().map_or(*out_features, |label| along(label, *out_features));
            }
            Op::Constant { values } => *values = self.cut(values, own),
            Op::Slice { axis, start, end, step: _ } => {
                if let Some(label) = &read[*axis] {
                    (*start, *end) = (self.stay(&label[..*start]), self.stay(&label[..*end]));
                }
            }
            Op::Pad { before, after, .. } => {
                for (axis, label) in own.iter().enumerate() {
                    if let Some(label) = label {
                        let end = label.len() - after[axis];
                        after[axis] = self.stay(&label[end..]);
                        before[axis] = self.stay(&label[..before[axis]]);
                    }
                }
            }
            Op::Reshape { shape } => {
                shape.iter_mut().zip(own).for_each(|(size, label)| *size = along(label, *size));
            }
            Op::QuantizeDequantize(quantize) => {
                if let Some(label) = quantize.axis.and_then(|axis| own[axis].as_ref()) {
                    let stays = |index: &usize| self.stays[label[*index] as usize];
                    let places: Vec<usize> = (0..label.len()).filter(stays).collect();
                    quantize.scales = places.iter().map(|&place| quantize.scales[place]).collect();
                    quantize.zeros = places.iter().map(|&place| quantize.zeros[place]).collect();
                }
            }
            Op::Input { .. }
            | Op::BatchNorm { .. }
            | Op::Relu
            | Op::Clip { .. }
            | Op::MaxPool(_)
            | Op::AvgPool { .. }
            | Op::GlobalAvgPool
            | Op::Flatten
            | Op::Add
            | Op::Concat { .. }
            | Op::ChannelShuffle { .. }
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Where
            | Op::Softmax { .. }
            | Op::LayerNorm { .. }
            | Op::InstanceNorm { .. }
            | Op::Resize(_)
            | Op::Max { .. }
            | Op::Mean { .. }
            | Op::Transpose { .. }
            | Op::MatMul => {}
        }
        op
    }
}
