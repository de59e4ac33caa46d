//! How long a compression takes: epochs and steps from a time, and times in words.

use std::time::Duration;

use crate::error::InputError;

/// How long the students are trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// About 300,000 images, at least 5 epochs and at most 60.
    Usual,
    Epochs(usize),
    /// As many epochs as fit into this time, together with everything before and after.
    Within(Duration),
}

/// Seconds that the trial of all candidates may take, and its share of a time for everything.
const TRIAL_SECONDS: f64 = 300.0;
const TRIAL: f64 = 0.15;

impl Length {
    /// Seconds that the trial of all candidates may take.
    pub(super) fn of_trial(self) -> f64 {
        match self {
            Length::Within(budget) => TRIAL * budget.as_secs_f64(),
            Length::Usual | Length::Epochs(_) => TRIAL_SECONDS,
        }
    }
}

/// Epochs in which a part of a trained network recovers.
pub(super) fn usual_epochs(images: usize) -> usize {
    (300_000 / images.max(1)).clamp(5, 60)
}

/// The share of a budget that is left for what comes after the training, and the seconds that it takes at least for each
/// engine: every model is measured for five seconds and more, and compared.
const AFTERWARDS: f64 = 0.15;
const AFTERWARDS_SECONDS: f64 = 40.0;

/// More epochs than this bring nothing.
const MOST_EPOCHS: f64 = 200.0;

/// Epochs that fit into a budget of time, of which some is spent, if so many engines are measured afterwards.
pub(super) fn epochs_within(
    budget: Duration,
    spent: Duration,
    epoch: f64,
    engines: usize,
) -> Result<usize, InputError> {
    let least_afterwards = AFTERWARDS_SECONDS * engines as f64;
    let afterwards = (budget.as_secs_f64() * AFTERWARDS).max(least_afterwards);
    let left = budget.as_secs_f64() - afterwards - spent.as_secs_f64();
    let epochs = (left / epoch.max(1e-3)).floor().min(MOST_EPOCHS);
    if epochs < 1.0 {
        let before = spent.as_secs_f64() + epoch;
        let least = (before / (1.0 - AFTERWARDS)).max(before + least_afterwards);
        let problem = format!(
            "a time of {} is too short: {} are spent, one epoch takes about {}, and what follows {}",
            humantime::format_duration(budget),
            told(spent.as_secs_f64()),
            told(epoch),
            told(afterwards)
        );
        return Err(InputError::new(problem).hint(format!("give at least {}", told(least))));
    }
    Ok(epochs as usize)
}

/// A time in seconds as a person says it: `48s`, `13m 5s`.
pub fn told(seconds: f64) -> String {
    let rounded = if seconds < 10.0 { (seconds * 10.0).ceil() / 10.0 } else { seconds.ceil() };
    if rounded < 10.0 {
        return format!("{rounded:.1}s");
    }
    humantime::format_duration(Duration::from_secs(rounded as u64)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_becomes_epochs() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        // 17 of 20 minutes are for training, one of them is spent.
        assert_eq!(epochs_within(minutes(20), minutes(1), 60.0, 2).unwrap(), 16);
        assert_eq!(epochs_within(minutes(20), minutes(1), 0.0, 2).unwrap(), 200);
        // Of 5 minutes one is spent, and 80 seconds are needed afterwards.
        assert_eq!(epochs_within(minutes(5), minutes(1), 10.0, 2).unwrap(), 16);
        let short = epochs_within(minutes(2), minutes(1), 60.0, 1).unwrap_err().to_string();
        assert!(short.contains("too short") && short.contains("1m are spent"), "{short}");
    }
}
