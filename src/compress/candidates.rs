//! Which parts of a classifier are worth training: a slim network is as fast before it is trained as after, so its cost is
//! known before.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::config::{Device, EngineName, Slim, SlimOf, Student, StudentModel};
use crate::error::InputError;
use crate::graph::{Model, Whole, cost};
use crate::progress::Progress;
use crate::task::Score;
use crate::train::evaluate_model;

use super::families::{Depth, Widths, depths};
use super::look::Subject;
use super::target::{Cost, Target};
use super::workbench::Workbench;

/// The narrowest network that is tried.
const NARROWEST: f64 = 1.0 / 16.0;

/// Widths are tried in steps of this.
const STEP: f64 = 1.0 / 128.0;

/// How much narrower the second student is, as a share of the first one's width, where only one shape meets the target.
const NARROWER: f64 = 0.85;

/// How many students are trained.
const STUDENTS: usize = 2;

/// Longest time of one measurement while widths are tried, and of the one that is reported.
const QUICK: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3);

/// Images on which a part is scored before it is trained, and steps in which its statistics are estimated anew.
const SCORED: usize = 1024;
const STATISTICS_STEPS: usize = 20;

/// The original.
#[derive(Debug, Clone, Serialize)]
pub struct Original {
    pub params: u64,
    pub macs: u64,
    pub bytes: u64,
    /// Median milliseconds of one image.
    pub latency_ms: BTreeMap<&'static str, f64>,
}

/// A part of it.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    pub student: Student,
    /// Whether it will be trained.
    pub trained: bool,
    pub params: u64,
    pub macs: u64,
    pub bytes: u64,
    /// Median milliseconds of one image, and the same of the original measured in turns with it.
    pub latency_ms: BTreeMap<&'static str, [f64; 2]>,
    /// On validation images, right after channels and blocks are gone.
    pub before_training: Score,
    /// The same after a few steps of training, if there was time for them.
    pub after_trial: Option<Score>,
    #[serde(skip)]
    pub model: Model,
}

/// The original, and the parts of it that meet the target.
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
            let score = candidate.after_trial.as_ref().unwrap_or(&candidate.before_training);
            if score.is_at_chance(chance) { 0.0 } else { score.value() }
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

/// Finds the parts of the classifier that meet the target, at several depths, with uniform widths and with widths ranked
/// over the whole network, each as wide as the target allows.
///
/// # Errors
/// [`InputError`] if no part meets it, with the closest, or if nothing can be taken away.
pub fn find(
    subject: &Subject,
    target: Target,
    engines: &[EngineName],
    progress: &dyn Progress,
) -> Result<Candidates> {
    let depths =
        depths(&subject.network, &subject.dataset, !matches!(target.cost, Cost::Params | Cost::Bytes))?;
    let coupling = depths[0].coupling();
    if coupling.groups().is_empty() && depths.len() == 1 {
        let reasons: Vec<&str> = coupling.whole().iter().map(|whole| whole.reason.as_str()).take(3).collect();
        return Err(InputError::new(format!(
            "nothing of this network can be taken away: {}",
            reasons.join("; ")
        ))
        .hint("train a student of the zoo with it as the teacher: `teacher: {onnx: FILE}` in a pipeline")
        .into());
    }
    let bench = Workbench::new(subject)?;
    let whole = cost(subject.network.graph());
    let search = Search { subject, bench: &bench, target, engines, progress };
    let (mut students, mut closest) = (Vec::<Candidate>::new(), f64::INFINITY);
    for depth in &depths {
        for widths in Widths::ALL {
            match search.widest(depth, widths)? {
                Widest::Found(width) => {
                    let candidate = search.candidate(depth, widths, width)?;
                    let like = |other: &Candidate| other.model.graph() == candidate.model.graph();
                    if !students.iter().any(like) {
                        students.push(candidate);
                    }
                }
                Widest::Misses(share) => closest = closest.min(share),
            }
        }
    }
    let Some(first) = students.first() else {
        let problem = format!(
            "no part of this network meets the target: the smallest has {closest:.3} times the original's {}",
            target.cost
        );
        return Err(InputError::new(problem)
            .hint(format!("ask for {:.2}x or more, or train a student of the zoo", 1.1 * closest))
            .into());
    };
    let latency_ms = first.latency_ms.iter().map(|(engine, [_, whole])| (*engine, *whole)).collect();
    if students.len() < STUDENTS {
        let width = (search.widest(&depths[0], Widths::Uniform)?.width() * NARROWER / STEP).floor() * STEP;
        let mut narrow = search.candidate(&depths[0], Widths::Uniform, width.max(NARROWEST))?;
        narrow.student.name += "-narrow";
        students.push(narrow);
    }
    let original =
        Original { params: whole.params, macs: whole.macs, bytes: bench.whole.size_bytes(), latency_ms };
    Ok(Candidates { original, students, whole: coupling.whole().to_vec() })
}

/// The widest member of a family within the target.
enum Widest {
    Found(f64),
    /// There is none; the share of the original's cost that the narrowest has.
    Misses(f64),
}

impl Widest {
    fn width(&self) -> f64 {
        match self {
            Widest::Found(width) => *width,
            Widest::Misses(_) => NARROWEST,
        }
    }
}

/// What candidates are made and measured with.
struct Search<'a> {
    subject: &'a Subject,
    bench: &'a Workbench<'a>,
    target: Target,
    engines: &'a [EngineName],
    progress: &'a dyn Progress,
}

impl Search<'_> {
    /// The target's cost of a member of a family, and of the original.
    fn measured(&self, depth: &Depth, widths: Widths, width: f64) -> Result<[f64; 2]> {
        let slim = depth.shape(&depth.counts(widths, width))?;
        let [slim_cost, whole_cost] = [&slim, &self.subject.network].map(|model| cost(model.graph()));
        Ok(match self.target.cost {
            Cost::Params => [slim_cost.params as f64, whole_cost.params as f64],
            Cost::Macs => [slim_cost.macs as f64, whole_cost.macs as f64],
            Cost::Bytes => {
                let slim = self.bench.file(&slim)?.size_bytes();
                [slim as f64, self.bench.whole.size_bytes() as f64]
            }
            Cost::Latency(engine) => {
                let [slim, whole] = self.bench.in_turns(&self.bench.file(&slim)?, engine, QUICK)?;
                self.progress.note(format!(
                    "{} at width {width:.2}: {slim:.3} ms in {}, the original {whole:.3} ms",
                    name(depth, widths),
                    engine.key()
                ));
                [slim, whole]
            }
        })
    }

    fn widest(&self, depth: &Depth, widths: Widths) -> Result<Widest> {
        let [least, of] = self.measured(depth, widths, NARROWEST)?;
        if self.target.allowed(of) >= of {
            let problem = format!("the original has {of:.0} {} already, within the target", self.target.cost);
            return Err(InputError::new(problem).hint("ask for less").into());
        }
        if least > self.target.allowed(of) {
            return Ok(Widest::Misses(least / of));
        }
        let (mut meets, mut fails) = (NARROWEST, 1.0);
        if !depth.without.is_empty() {
            let [value, of] = self.measured(depth, widths, 1.0)?;
            if value <= self.target.allowed(of) {
                return Ok(Widest::Found(1.0));
            }
        }
        while fails - meets > STEP {
            let middle = ((meets + fails) / 2.0 / STEP).round() * STEP;
            if middle <= meets || middle >= fails {
                break;
            }
            let [value, of] = self.measured(depth, widths, middle)?;
            if value <= self.target.allowed(of) { meets = middle } else { fails = middle }
        }
        // A median moves by a few percent from one measurement to the next.
        let latency = matches!(self.target.cost, Cost::Latency(_));
        Ok(Widest::Found(if latency { (meets - STEP).max(NARROWEST) } else { meets }))
    }

    fn candidate(&self, depth: &Depth, widths: Widths, width: f64) -> Result<Candidate> {
        let counts = depth.counts(widths, width);
        let model = depth.measured.part(&counts, STATISTICS_STEPS)?;
        let file = self.bench.file(&model)?;
        let mut latency_ms = BTreeMap::new();
        for &engine in self.engines {
            latency_ms.insert(engine.key(), self.bench.in_turns(&file, engine, LONG)?);
        }
        let dataset = &self.subject.dataset;
        let scored = dataset.validation.spread(SCORED);
        let before_training = evaluate_model(&model, Device::Auto, &scored, &dataset.normalization)?;
        let cost = cost(model.graph());
        Ok(Candidate {
            student: Student {
                name: name(depth, widths),
                model: StudentModel::Slim(part(depth, widths, width, &counts)),
                lr_factor: 1.0,
            },
            trained: false,
            params: cost.params,
            macs: cost.macs,
            bytes: file.size_bytes(),
            latency_ms,
            before_training,
            after_trial: None,
            model,
        })
    }
}

/// The name of a family: `uniform`, `global`, and `global-minus-2` without two blocks.
fn name(depth: &Depth, widths: Widths) -> String {
    match depth.without.len() {
        0 => widths.name().to_string(),
        blocks => format!("{}-minus-{blocks}", widths.name()),
    }
}

/// A part as a pipeline writes it.
fn part(depth: &Depth, widths: Widths, width: f64, counts: &[usize]) -> Slim {
    let groups = depth.coupling().groups();
    let (width, units) = match widths {
        Widths::Uniform => (width, BTreeMap::new()),
        Widths::Global => {
            let less = groups.iter().zip(counts).filter(|(group, count)| **count < group.units);
            (1.0, less.map(|(group, &count)| (group.name.clone(), count)).collect())
        }
    };
    let without = depth.without.iter().map(|block| block.name.clone()).collect();
    Slim { of: SlimOf::Teacher, width, units, without, batch_norm: true }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            },
            trained: false,
            params: 10,
            macs: 8,
            bytes: 100,
            latency_ms: BTreeMap::new(),
            before_training: score(before),
            after_trial: after.map(score),
            model: Model::untrained(builder.finish(&[(Graph::LOGITS, logits)]), 1),
        }
    }

    fn chosen(students: Vec<Candidate>) -> Vec<String> {
        let latency_ms = BTreeMap::new();
        let original = Original { params: 100, macs: 80, bytes: 1_000, latency_ms };
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
