//! A data set as a trained classifier wants it: its classes, its preparation.

use serde::Serialize;

use crate::contract::Normalization;
use crate::error::InputError;

use super::load::Dataset;

/// How a data set is made to fit a trained classifier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Adaptation {
    /// The classifier's classes in the order of its scores.
    pub classes: Vec<String>,
    /// The classifier's class for each class of the data; none where the classifier's decisions become the labels.
    pub labels: Vec<u32>,
    /// On the scale from 0 to 1, for channels as they are decoded.
    pub normalization: Normalization,
}

/// The place of each class of the data among a classifier's classes, by name; upper and lower case are alike.
///
/// # Errors
/// [`InputError`] naming the first class that is not there, or is there twice.
pub fn places_of(data: &[String], classes: &[String]) -> Result<Vec<u32>, InputError> {
    let place = |name: &String| {
        let same = |class: &&String| class.trim().to_lowercase() == name.trim().to_lowercase();
        let exact = classes.iter().position(|class| class == name);
        let found: Vec<usize> = (0..classes.len()).filter(|&place| same(&&classes[place])).collect();
        match (exact, &found[..]) {
            (Some(place), _) => Ok(place as u32),
            (None, [only]) => Ok(*only as u32),
            (None, []) => {
                let mut near: Vec<&String> = classes.iter().collect();
                near.sort_by(|a, b| strsim::jaro_winkler(b, name).total_cmp(&strsim::jaro_winkler(a, name)));
                let near: Vec<&str> = near.iter().take(3).map(|name| name.as_str()).collect();
                let problem = format!(
                    "the data's class '{name}' is not one of the classifier's {} classes",
                    classes.len()
                );
                Err(InputError::new(problem).hint(format!("the nearest are {}; give the folder one of its names, or list the classes in the order of the scores", near.join(", "))))
            }
            (None, _) => Err(InputError::new(format!("the classifier has several classes '{name}'"))
                .hint("write the folder's name as the classifier does, with the same case")),
        }
    };
    data.iter().map(place).collect()
}

impl Dataset {
    /// The same images, with the classes and the normalisation of a classifier.
    pub fn adapted(mut self, adaptation: &Adaptation) -> Self {
        for split in
            [Some(&mut self.train), Some(&mut self.validation), self.test.as_mut()].into_iter().flatten()
        {
            let own = |&label: &u32| adaptation.labels.get(label as usize).copied().unwrap_or(0);
            split.labels = split.labels.iter().map(own).collect();
        }
        self.info.classes.clone_from(&adaptation.classes);
        self.normalization = adaptation.normalization.clone();
        self
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Data, Digits, Labels, Source};

    #[test]
    fn classes_are_found_by_name() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>();
        let classes = names(&["Bee", "ant", "Ant", "cow"]);
        assert_eq!(places_of(&names(&["bee", "Ant"]), &classes).unwrap(), [0, 2]);
        let missing = places_of(&names(&["cat"]), &classes).unwrap_err().to_string();
        assert!(missing.contains("'cat'"), "{missing}");
        assert!(places_of(&names(&["ANT"]), &classes).is_err(), "two classes differ only in case");
    }

    #[test]
    fn labels_are_those_of_the_classifier() {
        let data = Data {
            source: Source::Digits(Digits {}),
            labels: Labels::Own,
            validation: 0.2,
            images: None,
            augment: Vec::new(),
            workers: 1,
        };
        let plain = super::super::load(&data, Path::new("."), 1).unwrap();
        let adaptation = Adaptation {
            classes: (0..12).map(|class| class.to_string()).collect(),
            labels: (0..10).map(|label| 11 - label).collect(),
            normalization: Normalization::none(1),
        };
        let adapted = plain.clone().adapted(&adaptation);
        assert_eq!(adapted.info.classes.len(), 12);
        assert_eq!(adapted.normalization, Normalization::none(1));
        for (before, after) in plain.train.labels.iter().zip(adapted.train.labels.iter()) {
            assert_eq!(11 - before, *after);
        }
    }
}
