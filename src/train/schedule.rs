//! The learning rate as a pure function of the step.

use crate::config::Schedule;

/// A step's number and learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iteration {
    /// Number of the step, from 1.
    pub step: usize,
    pub lr: f64,
}

/// Learning rate of step `step` (from 0) of `epochs * steps_per_epoch`, for an optimiser whose peak learning rate
/// is `peak`.
pub fn learning_rate(
    schedule: &Schedule,
    peak: f64,
    step: usize,
    steps_per_epoch: usize,
    epochs: usize,
) -> f64 {
    let total = (epochs * steps_per_epoch).max(1);
    let half_cosine = |done: f64| 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
    let rise = |warmup_epochs: usize| {
        let up = warmup_epochs * steps_per_epoch;
        (step < up).then(|| (step + 1) as f64 / up as f64)
    };
    let factor = match schedule {
        Schedule::Constant(_) => 1.0,
        Schedule::Cosine(cosine) => rise(cosine.warmup_epochs).unwrap_or_else(|| {
            let up = cosine.warmup_epochs * steps_per_epoch;
            half_cosine((step - up) as f64 / total.saturating_sub(up).max(1) as f64)
        }),
        Schedule::OneCycle(cycle) => {
            let up = cycle.warmup * total as f64;
            let step = step as f64 + 1.0;
            if step <= up { step / up } else { half_cosine((step - up) / (total as f64 - up).max(1.0)) }
        }
        Schedule::MultiStep(steps) => {
            let epoch = step / steps_per_epoch.max(1);
            rise(steps.warmup_epochs).unwrap_or(1.0)
                * steps
                    .factor
                    .powi(steps.milestones.iter().filter(|&&milestone| milestone <= epoch).count() as i32)
        }
    };
    peak * factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Constant, Cosine, MultiStep, OneCycle};

    #[test]
    fn schedules_pass_through_their_known_points() {
        let multi = Schedule::MultiStep(MultiStep { milestones: vec![2, 3], factor: 0.1, warmup_epochs: 0 });
        let cycle = Schedule::OneCycle(OneCycle { warmup: 0.5 });
        for (schedule, step, expected) in [
            (Schedule::Constant(Constant {}), 39, 0.2),
            (Schedule::Cosine(Cosine::default()), 0, 0.2),
            (Schedule::Cosine(Cosine::default()), 20, 0.1),
            (Schedule::Cosine(Cosine { warmup_epochs: 2 }), 9, 0.1),
            (Schedule::Cosine(Cosine { warmup_epochs: 2 }), 20, 0.2),
            (Schedule::Cosine(Cosine { warmup_epochs: 2 }), 30, 0.1),
            (multi.clone(), 19, 0.2),
            (multi.clone(), 20, 0.02),
            (multi, 39, 0.002),
            (cycle.clone(), 19, 0.2),
            (cycle.clone(), 9, 0.1),
            (cycle, 39, 0.0),
        ] {
            let found = learning_rate(&schedule, 0.2, step, 10, 4);
            assert!((found - expected).abs() < 1e-9, "{schedule:?} at {step}: {found}, not {expected}");
        }
    }
}
