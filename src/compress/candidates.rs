//! The original and the networks that meet a target, with what they cost and what they know; which of them will be trained.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::Student;
use crate::graph::{Model, Whole};
use crate::task::Score;

use super::target::Target;

/// How many students are trained.
pub(super) const STUDENTS: usize = 2;

/// The original.
#[derive(Debug, Clone, Serialize)]
pub struct Original {
    pub params: u64,
    /// `null` if the file cannot be imported.
    pub macs: Option<u64>,
    pub bytes: u64,
    /// Bytes that one image needs: weights and the activations that live at once; `null` if the file cannot be imported.
    pub memory_bytes: Option<u64>,
    /// Median milliseconds of one image.
    pub latency_ms: BTreeMap<&'static str, f64>,
}

impl Original {
    /// What a target limits, of the original; `None` for a latency, which is measured each time, and for what is not known.
    pub fn cost(&self, target: Target) -> Option<f64> {
        let number = match target {
            Target::Params(_) => Some(self.params),
            Target::Macs(_) => self.macs,
            Target::Bytes(_) => Some(self.bytes),
            Target::Latency(_) => None,
        };
        number.map(|number| number as f64)
    }
}

/// A network that meets the target.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    pub student: Student,
    /// Whether it will be trained.
    pub trained: bool,
    pub params: u64,
    pub macs: u64,
    pub bytes: u64,
    /// Bytes that one image needs: weights and the activations that live at once.
    pub memory_bytes: u64,
    /// Median milliseconds of one image, and the same of the original measured in turns with it.
    pub latency_ms: BTreeMap<&'static str, [f64; 2]>,
    /// On validation images, right after channels and blocks are gone; `null` for a new network.
    pub before_training: Option<Score>,
    /// The same after a few steps of training, if there was time for them.
    pub after_trial: Option<Score>,
    #[serde(skip)]
    pub model: Model,
}

/// The original, and the networks that meet the target.
#[derive(Debug, Clone, Serialize)]
pub struct Candidates {
    pub original: Original,
    /// Those that will be trained first.
    pub students: Vec<Candidate>,
    /// The layers that stay whole.
    #[serde(skip)]
    pub whole: Vec<Whole>,
}

impl Candidates {
    /// Decides which parts will be trained, and puts them first: those that know most after a trial, or before one if there was
    /// none; of those at chance level, the first.
    pub fn choose(&mut self, chance: f64) {
        let known = |candidate: &Candidate| {
            let score = candidate.after_trial.as_ref().or(candidate.before_training.as_ref());
            score.filter(|score| !score.is_at_chance(chance)).map_or(0.0, Score::value)
        };
        self.students.sort_by(|a, b| known(b).total_cmp(&known(a)));
        for (place, student) in self.students.iter_mut().enumerate() {
            student.trained = place < STUDENTS;
        }
    }

    /// The parts that will be trained.
    pub fn trained(&self) -> impl Iterator<Item = &Candidate> + Clone {
        self.students.iter().filter(|candidate| candidate.trained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StudentModel;
    use crate::graph::{Builder, Graph, Op};

    fn candidate(name: &str, before: f64, after: Option<f64>) -> Candidate {
        let (mut builder, image) = Builder::new(vec![1, 2, 2]).unwrap();
        let image = builder.add("flat", Op::Flatten, &[image]).unwrap();
        let logits = builder.add("logits", Op::Linear { out_features: 2, bias: true }, &[image]).unwrap();
        let score = |share: f64| Score::new(1_000.0 * share, 1.0, 1_000);
        Candidate {
            student: Student {
                name: name.into(),
                model: StudentModel::Named("resnet8".into()),
                lr_factor: 1.0,
                head: None,
            },
            trained: false,
            params: 10,
            macs: 8,
            bytes: 100,
            memory_bytes: 100,
            latency_ms: BTreeMap::new(),
            before_training: Some(score(before)),
            after_trial: after.map(score),
            model: Model::untrained(builder.finish(&[(Graph::LOGITS, logits)]), 1),
        }
    }

    fn chosen(students: Vec<Candidate>) -> Vec<String> {
        let latency_ms = BTreeMap::new();
        let original = Original { params: 100, macs: Some(80), bytes: 1_000, memory_bytes: None, latency_ms };
        let mut candidates = Candidates { original, students, whole: Vec::new() };
        candidates.choose(0.1);
        candidates.trained().map(|candidate| candidate.student.name.clone()).collect()
    }

    #[test]
    fn a_trial_decides_what_is_trained() {
        let three = [("a", 0.5, Some(0.6)), ("b", 0.1, Some(0.9)), ("c", 0.4, Some(0.7))]
            .map(|(n, b, a)| candidate(n, b, a));
        assert_eq!(chosen(three.to_vec()), ["b", "c"]);
        let untried =
            [("a", 0.5, None), ("b", 0.1, None), ("c", 0.6, None)].map(|(n, b, a)| candidate(n, b, a));
        assert_eq!(chosen(untried.to_vec()), ["c", "a"]);
        // At chance level a score says nothing.
        let chance = [("a", 0.10, None), ("b", 0.11, None)].map(|(n, b, a)| candidate(n, b, a));
        assert_eq!(chosen(chance.to_vec()), ["a", "b"]);
    }
}
