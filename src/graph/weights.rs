//! Named float32 arrays, which checkpoints, ONNX initializers and libtorch variables share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::build::Graph;
use super::params::params;

/// Parameters and buffers by name, sorted by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights(BTreeMap<String, ArrayD<f32>>);

/// Why a weights file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("cannot read weights {path}: {problem}")]
    Read { path: String, problem: String },
    #[error("weights do not fit the model: {0}")]
    Mismatch(String),
}

impl Weights {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn insert(&mut self, name: impl Into<String>, array: ArrayD<f32>) {
        self.0.insert(name.into(), array);
    }

    pub fn remove(&mut self, name: &str) -> Option<ArrayD<f32>> {
        self.0.remove(name)
    }

    pub fn get(&self, name: &str) -> Option<&ArrayD<f32>> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &ArrayD<f32>)> {
        self.0.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// Checks that exactly the graph's parameters are present, each with its shape and with finite values.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] names the first parameter that is missing, unknown, of another shape, or
    /// not finite.
    pub fn fit(&self, graph: &Graph) -> Result<(), WeightsError> {
        let specs = params(graph);
        for spec in &specs {
            let array = self
                .0
                .get(&spec.name)
                .ok_or_else(|| WeightsError::Mismatch(format!("'{}' is missing", spec.name)))?;
            if array.shape() != spec.shape {
                let (found, wanted) = (array.shape(), &spec.shape);
                return Err(WeightsError::Mismatch(format!("'{}' is {found:?}, not {wanted:?}", spec.name)));
            }
            if !array.iter().all(|value| value.is_finite()) {
                return Err(WeightsError::Mismatch(format!("'{}' holds NaN or infinity", spec.name)));
            }
        }
        let names: HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        match self.0.keys().find(|name| !names.contains(name.as_str())) {
            Some(name) => Err(WeightsError::Mismatch(format!("'{name}' is not a parameter of the model"))),
            None => Ok(()),
        }
    }

    /// The weights as the bytes of a safetensors file, with `metadata` in its header.
    pub fn to_safetensors(&self, metadata: Option<HashMap<String, String>>) -> Vec<u8> {
        let buffers: Vec<(&str, &[usize], Vec<u8>)> = self
            .iter()
            .map(|(name, array)| {
                let bytes = array.iter().flat_map(|value| value.to_le_bytes()).collect();
                (name, array.shape(), bytes)
            })
            .collect();
        let views = buffers.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
            (*name, view.expect("four bytes an element"))
        });
        safetensors::serialize(views, metadata).expect("float32 views serialise")
    }

    /// Reads a safetensors file of float32 tensors.
    ///
    /// # Errors
    /// [`WeightsError::Read`] if the file is missing, truncated, or holds another type.
    pub fn load(path: &Path) -> Result<Self, WeightsError> {
        let fail = |problem: String| WeightsError::Read { path: path.display().to_string(), problem };
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        Self::from_safetensors(&bytes).map_err(fail)
    }

    /// Reads the bytes of a safetensors file of float32 tensors.
    ///
    /// # Errors
    /// A sentence that says what is wrong with them.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let mut weights = Self::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(format!("'{name}' is {:?}, not F32", view.dtype()));
            }
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            let array = ArrayD::from_shape_vec(IxDyn(view.shape()), values.collect());
            weights.insert(name, array.map_err(|error| error.to_string())?);
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safetensors_round_trip_and_truncation() {
        let mut weights = Weights::new();
        weights
            .insert("a.weight", ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![1.0, -2.5, 0.0, 3e-9]).unwrap());
        weights.insert("b", ArrayD::from_elem(IxDyn(&[3]), 0.5));
        let bytes = weights.to_safetensors(None);
        assert_eq!(Weights::from_safetensors(&bytes), Ok(weights));
        for cut in [0, 4, 12, bytes.len() - 1] {
            assert!(Weights::from_safetensors(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
