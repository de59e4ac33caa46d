//! Which decision an answer comes to, and whether two answers come to the same.

/// The class that an answer decides for: the first of the largest values; `None` where there are no values.
pub fn decision<T: PartialOrd>(values: impl IntoIterator<Item = T>) -> Option<usize> {
    let best = values.into_iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(class, _)| class)
}

/// Classes from the largest value down; equal values keep their order.
pub fn ranked(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// The largest value less the second largest: how far a decision is from another one. Infinite where there is one value.
pub fn margin(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for value in values {
        if value > first {
            (first, second) = (value, first);
        } else if value > second {
            second = value;
        }
    }
    first - second
}

/// How the decision of an answer compares with that of the true answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// What the truth decides.
    pub decision: usize,
    /// What the truth would decide next.
    pub runner_up: usize,
    /// What was decided instead, or the same.
    pub found: usize,
    /// The true value of the decision less that of the runner-up.
    pub margin: f64,
    /// Whether the true decision is among the five largest values found.
    pub in_top5: bool,
    /// Whether the largest error is under half the margin, so that the decision cannot have changed.
    pub certified: bool,
}

/// Compares two answers with as many values, of which there is at least one.
pub fn agreement(truth: &[f64], found: &[f64]) -> Agreement {
    let (ranked_truth, ranked_found) = (ranked(truth), ranked(found));
    let decision = ranked_truth[0];
    let runner_up = *ranked_truth.get(1).unwrap_or(&decision);
    let margin = truth[decision] - truth[runner_up];
    let error = truth.iter().zip(found).map(|(truth, found)| (truth - found).abs()).fold(0.0, f64::max);
    Agreement {
        decision,
        runner_up,
        found: ranked_found[0],
        margin,
        in_top5: ranked_found.iter().take(5).any(|&class| class == decision),
        certified: error < margin / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_decides() {
        assert_eq!(decision([1.0, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(decision::<f64>([]), None);
        assert_eq!(ranked(&[1.0, 3.0, 3.0, 2.0]), [1, 2, 3, 0]);
        assert_eq!(margin([1.0, 3.0, 2.5]), 0.5);
        assert_eq!(margin([3.0, 3.0, 2.5]), 0.0);
    }

    #[test]
    fn an_agreement_knows_what_cannot_have_changed() {
        let truth = [1.0, 0.5, 0.0];
        let near = agreement(&truth, &[0.8, 0.7, 0.0]);
        assert_eq!((near.decision, near.runner_up, near.found, near.margin), (0, 1, 0, 0.5));
        assert!(near.certified, "an error of 0.2 is under half of 0.5");
        let far = agreement(&truth, &[0.6, 0.7, 0.0]);
        assert!(!far.certified && far.found == 1 && far.in_top5);
        assert_eq!(agreement(&[2.0], &[1.0]).found, 0);
    }
}
