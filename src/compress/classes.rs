//! Which of a classifier's scores is which class of the data.

use anyhow::Result;

use crate::config::Prepare;
use crate::data::{Dataset, Split, places_of};
use crate::error::InputError;
use crate::plan::Classifier;
use crate::progress::Progress;
use crate::task::Score;

use super::conventions::decided;

/// Images of a class from which its score can be told.
const FEWEST: usize = 5;

/// An order found by looking at decisions is better than chance by itself; it must be so by this factor.
const CHANCES: f64 = 1.5;

/// The classifier's classes in the order of its scores, and which of them each class of the data is.
#[derive(Debug, Clone)]
pub(super) struct Classes {
    pub names: Vec<String>,
    /// Empty where the classifier's decisions become the labels.
    pub labels: Vec<u32>,
    /// Whether the order is known, rather than that of the data.
    pub known: bool,
}

/// Finds the classes by their names, or takes those of the data in their order.
///
/// # Errors
/// [`InputError`] if names and scores do not match.
pub(super) fn classes(
    names: &[String],
    dataset: &Dataset,
    scores: usize,
    own_labels: bool,
) -> Result<Classes> {
    let own = &dataset.info.classes;
    if !names.is_empty() && names.len() != scores {
        let problem =
            format!("there are {} names of classes, and the file gives {scores} scores", names.len());
        return Err(InputError::new(problem).hint("give one name for each score, in their order").into());
    }
    if !own_labels {
        let numbers = || (0..scores).map(|class| class.to_string()).collect();
        let names = if names.is_empty() { numbers() } else { names.to_vec() };
        return Ok(Classes { names, labels: Vec::new(), known: true });
    }
    if !names.is_empty() {
        return Ok(Classes { names: names.to_vec(), labels: places_of(own, names)?, known: true });
    }
    if own.len() != scores {
        let problem =
            format!("the file gives {scores} scores without names, and the data has {} classes", own.len());
        return Err(InputError::new(problem)
            .hint("list the names in the order of the scores, one a line: --labels FILE")
            .into());
    }
    Ok(Classes { names: own.clone(), labels: (0..scores as u32).collect(), known: false })
}

/// Another order of classes, if the classifier's decisions on labelled images show one: with some preparation, each class has a
/// score of its own that its images get most often. The preparation with the most right decisions counts.
///
/// # Errors
/// If an image cannot be read or libtorch fails.
pub(super) fn shown_order(
    classes: &Classes,
    ways: &[(String, Prepare)],
    classifier: &Classifier,
    tried: &Split,
) -> Result<Option<Classes>> {
    let mut best: Option<(usize, Vec<u32>)> = None;
    for (_, prepare) in ways {
        let decisions = decided(classifier, prepare, tried)?.decisions;
        if let Some(found) = order(&decisions, tried.labels(), classes.names.len())
            && best.as_ref().is_none_or(|best| found.0 > best.0)
        {
            best = Some(found);
        }
    }
    Ok(best.map(|(_, labels)| {
        let mut names = classes.names.clone();
        for (name, &place) in classes.names.iter().zip(&labels) {
            names[place as usize].clone_from(name);
        }
        Classes { names, labels, known: false }
    }))
}

/// For each label, the decision that its images get most often, if no two share one; and how many images get it. `None` as well
/// if that is not clearly more than one decision for all would get.
fn order(decisions: &[usize], labels: &[u32], classes: usize) -> Option<(usize, Vec<u32>)> {
    let mut counts = vec![vec![0usize; classes]; classes];
    for (&decision, &label) in decisions.iter().zip(labels) {
        *counts.get_mut(label as usize)?.get_mut(decision)? += 1;
    }
    let (mut right, mut places) = (0, Vec::new());
    for row in &counts {
        let (place, &most) = row.iter().enumerate().max_by_key(|(_, count)| **count)?;
        let all: usize = row.iter().sum();
        if all < FEWEST || places.contains(&(place as u32)) {
            return None;
        }
        right += most;
        places.push(place as u32);
    }
    let images = labels.len();
    let largest = counts.iter().map(|row| row.iter().sum::<usize>()).max().unwrap_or(0);
    let score = Score::new(right as f64, 0.0, images);
    let chance = (CHANCES * largest as f64 / images.max(1) as f64).min(0.75);
    if score.is_at_chance(chance) { None } else { Some((right, places)) }
}

/// Says in which order the classes are taken, where the file does not.
pub(super) fn warn_of(classes: &Classes, data: &[String], progress: &dyn Progress) {
    let in_order = classes.names == data;
    let how = if in_order { "the data's in their order" } else { "in the order that its decisions show" };
    progress.warn(format!(
        "the file does not name its classes; they are taken to be {how}: {}; --labels FILE gives another order",
        shortened(&classes.names)
    ));
}

fn shortened(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(6).map(String::as_str).collect();
    if names.len() > shown.len() { format!("{}, …", shown.join(", ")) } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_show_an_order() {
        let labels: Vec<u32> = (0..30).map(|image| image % 3).collect();
        let turned = |label: u32| [2, 0, 1][label as usize];
        let mut decisions: Vec<usize> = labels.iter().map(|&label| turned(label)).collect();
        decisions[0] = 1;
        assert_eq!(order(&decisions, &labels, 3), Some((29, vec![2, 0, 1])));
        // Two classes with the same decision, and a class with too few images, show nothing.
        assert_eq!(order(&vec![1; 30], &labels, 3), None);
        assert_eq!(order(&decisions[..6], &labels[..6], 3), None);
    }
}
