//! Methods as weights of the loss terms.

use serde::{Deserialize, Serialize};

use super::stages::{LossWeights, Method};

/// The weight of every loss term. With peers j ≠ k, a frozen copy of the student itself, and a frozen
/// teacher T:
///
/// `L_k = alpha·CE + beta·mean_j[beta0·distance + beta1·angle + beta2·KL(p_j‖p_k)] + gamma·self
///      + teacher·response(T) + teacher_distance·distance(T) + teacher_angle·angle(T) + smooth_teacher·smooth`
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
    /// Share of a label's weight that is spread over all classes.
    pub label_smoothing: f64,
    pub teacher: f64,
    pub teacher_distance: f64,
    pub teacher_angle: f64,
    pub teacher_temperature: f64,
    pub smooth_teacher: f64,
    pub smooth_temperature: f64,
}

/// Every weight and temperature of a method that has only cross-entropy.
const PLAIN: LossTerms = LossTerms {
    alpha: 1.0,
    beta: 0.0,
    gamma: 0.0,
    beta0: 0.0,
    beta1: 0.0,
    beta2: 0.0,
    temperature: 4.0,
    label_smoothing: 0.0,
    teacher: 0.0,
    teacher_distance: 0.0,
    teacher_angle: 0.0,
    teacher_temperature: 4.0,
    smooth_teacher: 0.0,
    smooth_temperature: 20.0,
};

/// How much relations between peers weigh: chosen on a validation split, see
/// `pipelines/studies/fashion-weights.yaml`.
const RELATIONS: f64 = 10.0;

/// Distances to angles as 1 to 2 (Park et al. 2019), responses with a weight of 1 in all as in deep mutual
/// learning.
const CTSL_MKT: LossTerms =
    LossTerms { beta: RELATIONS, gamma: 1.0, beta0: 1.0, beta1: 2.0, beta2: 1.0 / RELATIONS, ..PLAIN };

impl LossTerms {
    /// The weights at a share of the ramp: all but the cross-entropy times `exp(-5·(1 - share)²)` (Laine &
    /// Aila 2017).
    pub fn ramped(mut self, share: f64) -> Self {
        if share < 1.0 {
            let factor = (-5.0 * (1.0 - share.max(0.0)).powi(2)).exp();
            for weight in [
                &mut self.beta,
                &mut self.gamma,
                &mut self.teacher,
                &mut self.teacher_distance,
                &mut self.teacher_angle,
                &mut self.smooth_teacher,
            ] {
                *weight *= factor;
            }
        }
        self
    }

    /// Whether a student learns from its peers.
    pub fn mutual(&self) -> bool {
        self.beta > 0.0 && (self.beta0 > 0.0 || self.beta1 > 0.0 || self.beta2 > 0.0)
    }

    /// Whether peers' relations are compared.
    pub fn relational(&self) -> bool {
        self.beta > 0.0 && (self.beta0 > 0.0 || self.beta1 > 0.0)
    }

    /// Whether a frozen teacher is needed.
    pub fn taught(&self) -> bool {
        self.teacher > 0.0 || self.teacher_distance > 0.0 || self.teacher_angle > 0.0
    }
}

impl Method {
    /// The method's own weights with those that were written put over them.
    pub fn terms(self, written: &LossWeights) -> LossTerms {
        let mut terms = self.own_terms();
        for (weight, written) in [
            (&mut terms.alpha, written.alpha),
            (&mut terms.beta, written.beta),
            (&mut terms.gamma, written.gamma),
            (&mut terms.beta0, written.beta0),
            (&mut terms.beta1, written.beta1),
            (&mut terms.beta2, written.beta2),
            (&mut terms.temperature, written.temperature),
            (&mut terms.label_smoothing, written.label_smoothing),
            (&mut terms.teacher, written.teacher),
            (&mut terms.teacher_distance, written.teacher_distance),
            (&mut terms.teacher_angle, written.teacher_angle),
            (&mut terms.teacher_temperature, written.teacher_temperature),
            (&mut terms.smooth_teacher, written.smooth_teacher),
            (&mut terms.smooth_temperature, written.smooth_temperature),
        ] {
            *weight = written.unwrap_or(*weight);
        }
        terms
    }

    fn own_terms(self) -> LossTerms {
        match self {
            Method::Plain => PLAIN,
            Method::LabelSmoothing => LossTerms { label_smoothing: 0.1, ..PLAIN },
            Method::Kd => LossTerms { alpha: 0.1, teacher: 0.9, ..PLAIN },
            Method::Dml => LossTerms { beta: 1.0, beta2: 1.0, ..PLAIN },
            Method::TfKdSelf => LossTerms { gamma: 1.0, ..PLAIN },
            Method::TfKdReg => LossTerms { alpha: 0.9, smooth_teacher: 0.1, ..PLAIN },
            Method::Rkd => LossTerms { teacher_distance: 25.0, teacher_angle: 50.0, ..PLAIN },
            Method::RkdDistance => LossTerms { teacher_distance: 25.0, ..PLAIN },
            Method::RkdAngle => LossTerms { teacher_angle: 50.0, ..PLAIN },
            Method::RkdOnline => LossTerms { beta: RELATIONS, beta0: 1.0, beta1: 2.0, ..PLAIN },
            Method::RkdOnlineDistance => LossTerms { beta: RELATIONS, beta0: 1.0, ..PLAIN },
            Method::RkdOnlineAngle => LossTerms { beta: RELATIONS, beta1: 2.0, ..PLAIN },
            Method::CtslMkt => CTSL_MKT,
            Method::CtslMktNoSelf => LossTerms { gamma: 0.0, ..CTSL_MKT },
            Method::CtslMktNoResponse => LossTerms { beta2: 0.0, ..CTSL_MKT },
            Method::CtslMktNoRelation => LossTerms { beta0: 0.0, beta1: 0.0, ..CTSL_MKT },
            Method::CtslMktNoDistance => LossTerms { beta0: 0.0, ..CTSL_MKT },
            Method::CtslMktNoAngle => LossTerms { beta1: 0.0, ..CTSL_MKT },
        }
    }
}
