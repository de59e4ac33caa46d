//! A graph and the weights that fit it.

use super::build::{Graph, GraphError};
use super::init::initial_weights;
use super::weights::{Weights, WeightsError};

/// A network with its weights, checked when it is made: every parameter of the graph is present, with its shape
/// and finite values, and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    graph: Graph,
    weights: Weights,
}

/// Why a model cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Model {
    /// Joins a graph and its weights.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] if a parameter is missing, unknown, of another shape, or not finite.
    pub fn new(graph: Graph, weights: Weights) -> Result<Self, WeightsError> {
        weights.fit(&graph)?;
        Ok(Self { graph, weights })
    }

    /// A network before any training, with initial weights from a seed.
    pub fn untrained(graph: Graph, seed: u64) -> Self {
        let weights = initial_weights(&graph, seed);
        Self { graph, weights }
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The two parts, to make another model of them.
    pub fn into_parts(self) -> (Graph, Weights) {
        (self.graph, self.weights)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use super::*;
    use crate::graph::{Builder, Conv2d, Op};

    #[test]
    fn only_weights_that_fit_make_a_model() {
        let (mut builder, image) = Builder::new(vec![1, 4, 4]).unwrap();
        let conv = builder.add("conv", Op::Conv2d(Conv2d::square(2, 3, 1)), &[image]).unwrap();
        let graph = builder.finish(&[(Graph::LOGITS, conv)]);
        let (_, weights) = Model::untrained(graph.clone(), 1).into_parts();
        assert!(Model::new(graph.clone(), weights.clone()).is_ok());
        let refused = |change: &dyn Fn(&mut Weights)| {
            let mut weights = weights.clone();
            change(&mut weights);
            Model::new(graph.clone(), weights).unwrap_err().to_string()
        };
        let missing = refused(&|weights| drop(weights.remove("conv.weight")));
        assert_eq!(missing, "weights do not fit the model: 'conv.weight' is missing");
        let nan =
            refused(&|weights| weights.insert("conv.weight", ArrayD::from_elem(vec![2, 1, 3, 3], f32::NAN)));
        assert_eq!(nan, "weights do not fit the model: 'conv.weight' holds NaN or infinity");
        let unknown = refused(&|weights| weights.insert("other", ArrayD::zeros(vec![1])));
        assert_eq!(unknown, "weights do not fit the model: 'other' is not a parameter of the model");
    }
}
