//! The precision of a file's weights and computation.

use serde::{Deserialize, Serialize};

use crate::error::InputError;

/// Number format of a file's weights and of its computation. Its input and outputs have types of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    Float32,
    Float16,
    Int8,
}

impl Precision {
    /// Whether files of this precision can be written.
    ///
    /// # Errors
    /// [`InputError`] for int8, which needs calibration data that nothing collects yet. This is the only
    /// place that refuses it.
    pub fn check_writable(self) -> Result<(), InputError> {
        match self {
            Precision::Float32 | Precision::Float16 => Ok(()),
            Precision::Int8 => Err(InputError::new("files of precision int8 cannot be written yet")
                .hint("write `precision: float32` or `precision: float16`")),
        }
    }
}
