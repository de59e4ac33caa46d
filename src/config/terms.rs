//! Methods as weights of the loss terms.

use serde::{Deserialize, Serialize};

use super::stages::{LossWeights, Method};

/// The weight of every loss term. With peers j ≠ k:
///
/// `L_k = alpha·CE + beta·mean_j[beta0·distance + beta1·angle + beta2·KL(p_j‖p_k)] + gamma·self`
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossTerms {
    pub alpha: f64,
    pub beta: f64,
    pub gamma: f64,
    pub beta0: f64,
    pub beta1: f64,
    pub beta2: f64,
    /// Of the self-distillation.
    pub temperature: f64,
}

impl LossTerms {
    /// Whether a student learns from its peers.
    pub fn mutual(&self) -> bool {
        self.beta > 0.0 && (self.beta0 > 0.0 || self.beta1 > 0.0 || self.beta2 > 0.0)
    }
}

impl Method {
    /// The method's own weights with those that were written put over them.
    pub fn terms(self, written: &LossWeights) -> LossTerms {
        let own = match self {
            Method::Plain => [1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            Method::Dml => [1.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            Method::TfKdSelf => [1.0, 0.0, 0.5, 0.0, 0.0, 0.0],
            Method::RkdOnline => [1.0, 1.0, 0.0, 1.0, 2.0, 0.0],
            Method::CtslMkt => [1.0, 1.0, 0.2, 1.0, 2.0, 1.0],
        };
        let [alpha, beta, gamma, beta0, beta1, beta2] = own;
        LossTerms {
            alpha: written.alpha.unwrap_or(alpha),
            beta: written.beta.unwrap_or(beta),
            gamma: written.gamma.unwrap_or(gamma),
            beta0: written.beta0.unwrap_or(beta0),
            beta1: written.beta1.unwrap_or(beta1),
            beta2: written.beta2.unwrap_or(beta2),
            temperature: written.temperature.unwrap_or(4.0),
        }
    }
}
