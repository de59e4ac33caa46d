//! Quantisation of a tensor to 8 bits, as the ONNX operators QuantizeLinear and DequantizeLinear define it.

/// Scales and zero points, for a whole tensor or for each index of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantize {
    /// One scale, or one for each index of `axis`.
    pub scales: Vec<f32>,
    /// As many zero points as scales.
    pub zeros: Vec<i32>,
    pub axis: Option<usize>,
    /// The integers of the type: 0 to 255, or -128 to 127.
    pub least: i32,
    pub most: i32,
}

impl Quantize {
    /// Checks the scales and zero points against a shape.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn check(&self, shape: &[usize]) -> Result<(), String> {
        let count = match self.axis {
            Some(axis) => *shape.get(axis).ok_or_else(|| format!("{shape:?} has no axis {axis}"))?,
            None => 1,
        };
        if self.scales.len() != count || self.zeros.len() != count {
            let (scales, zeros) = (self.scales.len(), self.zeros.len());
            return Err(format!("{scales} scales and {zeros} zero points for {count} of {shape:?}"));
        }
        if let Some(scale) = self.scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
            return Err(format!("a scale of {scale}"));
        }
        if let Some(zero) = self.zeros.iter().find(|zero| !(self.least..=self.most).contains(*zero)) {
            return Err(format!("a zero point of {zero}, outside {}..{}", self.least, self.most));
        }
        Ok(())
    }
}
