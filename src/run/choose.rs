//! Chooses one student: the best on validation among those within the budgets.

use std::path::Path;

use anyhow::Result;

use crate::config::Budgets;
use crate::error::GateFailed;
use crate::folder::{Candidate, Choice};
use crate::task::SCORE;

/// Chooses the candidate with the best score on validation; of equal ones, the one with fewer parameters.
///
/// # Errors
/// [`GateFailed`] if no student is within the budgets.
pub fn choose(mut candidates: Vec<Candidate>, budgets: &Budgets) -> Result<Choice> {
    let largest = candidates.iter().max_by_key(|candidate| candidate.params);
    let Some(largest) = largest.cloned() else { anyhow::bail!("there is no student to choose from") };
    for candidate in &mut candidates {
        // Budgets of latency were judged when they were measured.
        candidate.exceeds.extend(exceeded(candidate, &largest, budgets));
    }
    let allowed: Vec<&Candidate> =
        candidates.iter().filter(|candidate| candidate.exceeds.is_empty()).collect();
    let best = allowed
        .iter()
        .copied()
        .max_by(|a, b| a.validation.compare(&b.validation).then(b.params.cmp(&a.params)));
    let Some(best) = best else {
        let all: Vec<String> = candidates
            .iter()
            .map(|candidate| format!("'{}': {}", candidate.name, candidate.exceeds.join(", ")))
            .collect();
        return Err(GateFailed(format!("no student is within the budgets ({})", all.join("; "))).into());
    };
    let within_noise: Vec<String> = allowed
        .iter()
        .filter(|other| other.name != best.name && !best.validation.differs_from(&other.validation))
        .map(|other| other.name.clone())
        .collect();
    let excluded = candidates.len() - allowed.len();
    let mut reason = format!("best validation {SCORE}, {}", best.validation);
    if excluded > 0 {
        reason +=
            &format!(", among the {} of {} students within the budgets", allowed.len(), candidates.len());
    }
    if !within_noise.is_empty() {
        reason += &format!("; not distinguishable from {} on this split", within_noise.join(", "));
    }
    Ok(Choice { student: best.name.clone(), largest: largest.name, reason, within_noise, candidates })
}

/// Whether the exported file of the chosen student is larger than the budget allows, whatever was expected when it was chosen.
pub fn too_large(choice: &Choice, budgets: &Budgets, file: &Path) -> Option<GateFailed> {
    let bytes = std::fs::metadata(file).ok()?.len();
    let of = choice.candidates.iter().find(|candidate| candidate.name == choice.largest)?.onnx_bytes;
    let allowed = budgets.max_onnx_bytes?.allowed(of);
    (bytes as f64 > allowed).then(|| {
        GateFailed(format!(
            "{} has {bytes} bytes, budgets.max_onnx_bytes allows {allowed:.0}",
            file.display()
        ))
    })
}

fn exceeded(candidate: &Candidate, largest: &Candidate, budgets: &Budgets) -> Vec<String> {
    let limits = [
        ("parameters", budgets.max_params, candidate.params, largest.params),
        ("MACs", budgets.max_macs, candidate.macs, largest.macs),
        ("ONNX bytes", budgets.max_onnx_bytes, candidate.onnx_bytes, largest.onnx_bytes),
    ];
    let mut exceeds = Vec::new();
    for (what, limit, value, of) in limits {
        let Some(limit) = limit else { continue };
        let allowed = limit.allowed(of);
        if value as f64 > allowed {
            exceeds.push(format!("{value} {what}, allowed {allowed:.0}"));
        }
    }
    exceeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limit;
    use crate::task::Score;

    fn candidate(name: &str, share: f64, params: u64) -> Candidate {
        let validation = Score::new(1_000.0 * share, 0.1, 1_000);
        Candidate {
            name: name.into(),
            validation,
            params,
            macs: params,
            onnx_bytes: 4 * params,
            exceeds: Vec::new(),
        }
    }

    #[test]
    fn the_best_within_budget_is_chosen() {
        let peers =
            || vec![candidate("big", 0.95, 1_000), candidate("mid", 0.90, 300), candidate("tiny", 0.80, 100)];
        let budgets = |percent| Budgets { max_params: Some(Limit::Percent(percent)), ..Budgets::default() };
        assert_eq!(choose(peers(), &Budgets::default()).unwrap().student, "big");
        assert_eq!(choose(peers(), &budgets(30.0)).unwrap().student, "mid");
        let tiny = choose(peers(), &budgets(29.0)).unwrap();
        assert_eq!((tiny.student.as_str(), tiny.largest.as_str()), ("tiny", "big"));
        assert!(tiny.reason.contains("1 of 3"), "{}", tiny.reason);
        let error = choose(peers(), &budgets(5.0)).unwrap_err();
        assert!(
            error.is::<GateFailed>() && error.to_string().contains("100 parameters, allowed 50"),
            "{error}"
        );
    }

    #[test]
    fn the_written_file_is_held_against_the_budget() {
        let budgets = |limit| Budgets { max_onnx_bytes: Some(limit), ..Budgets::default() };
        let choice = choose(vec![candidate("big", 0.9, 1_000)], &budgets(Limit::Absolute(4_000))).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = |bytes: usize, limit| {
            std::fs::write(file.path(), vec![0; bytes]).unwrap();
            too_large(&choice, &budgets(limit), file.path()).map(|gate| gate.to_string())
        };
        assert_eq!(said(4_000, Limit::Absolute(4_000)), None);
        assert_eq!(said(2_000, Limit::Percent(50.0)), None);
        assert!(said(4_001, Limit::Absolute(4_000)).unwrap().contains("has 4001 bytes"));
        assert!(said(2_001, Limit::Percent(50.0)).unwrap().contains("allows 2000"));
        assert!(too_large(&choice, &Budgets::default(), file.path()).is_none());
        assert!(too_large(&choice, &budgets(Limit::Absolute(1)), Path::new("not there")).is_none());
    }

    #[test]
    fn ties_go_to_the_smaller_and_noise_is_named() {
        let choice = choose(
            vec![candidate("a", 0.9, 500), candidate("b", 0.9, 400), candidate("c", 0.895, 50)],
            &Budgets::default(),
        );
        let choice = choice.unwrap();
        assert_eq!(choice.student, "b");
        assert_eq!(choice.within_noise, ["a", "c"]);
    }
}
