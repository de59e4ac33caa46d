//! Why a network cannot be built.

use crate::error::InputError;
use crate::graph::GraphError;

/// Why a family cannot build a network.
#[derive(Debug)]
pub(super) enum BuildError {
    /// The family does not accept a number of the model file.
    Number(InputError),
    /// The numbers do not fit the input.
    Graph(GraphError),
}

impl From<InputError> for BuildError {
    fn from(error: InputError) -> Self {
        BuildError::Number(error)
    }
}

impl From<GraphError> for BuildError {
    fn from(error: GraphError) -> Self {
        BuildError::Graph(error)
    }
}
