//! Finds networks that meet a target: one is as fast before it is trained as after, so its cost is known before.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::config::{Budget, Device, EngineName, Slim, SlimOf, Student, StudentModel};
use crate::error::InputError;
use crate::graph::{Model, cost, memory_bytes};
use crate::progress::{Progress, Task};
use crate::task::Score;
use crate::train::evaluate_model;

use super::candidates::{Candidate, Candidates, Original, STUDENTS};
use super::families::{Depth, Widths, depths};
use super::look::Subject;
use super::target::Target;
use super::workbench::Workbench;

/// The narrowest network that is tried.
const NARROWEST: f64 = 1.0 / 16.0;

/// Widths are tried in steps of this.
const STEP: f64 = 1.0 / 128.0;

/// How much narrower the second student is, as a share of the first one's width, where only one shape meets the target.
const NARROWER: f64 = 0.85;

/// Longest time of one measurement while widths are tried, and of the one that is reported.
const QUICK: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3);

/// By how much a latency stays below its limit, as a share, so that it is within it when it is measured again.
const HEADROOM: f64 = 0.04;

/// Images on which a part is scored before it is trained, and steps in which its statistics are estimated anew.
const SCORED: usize = 1024;
const STATISTICS_STEPS: usize = 20;

/// Finds networks that meet the target: parts of the classifier at several depths, with uniform widths and with widths
/// ranked over the whole network, each as wide as the target allows, and the largest models of some families of the zoo.
///
/// # Errors
/// [`InputError`] if no network meets it, with the closest, or if the original does.
pub fn find(
    subject: &Subject,
    target: Target,
    engines: &[EngineName],
    progress: &dyn Progress,
) -> Result<Candidates> {
    let bench = Workbench::new(subject)?;
    let original = original(subject, bench.whole.size_bytes());
    refuse_what_is_met(target, &original, &bench)?;
    let depths = match &subject.parts {
        Ok(network) => {
            let places = !matches!(target, Target::Params(_) | Target::Bytes(_));
            depths(network, &subject.dataset, places)?
        }
        Err(_) => Vec::new(),
    };
    if let (Some(depth), false) = (depths.first(), depths.iter().any(Depth::can_shrink)) {
        let reasons: Vec<&str> = depth.coupling().whole().iter().map(|whole| whole.reason.as_str()).collect();
        progress.warn(format!(
            "nothing of this network can be taken away, so that students of the zoo start anew and learn from it: {}",
            reasons.first().copied().unwrap_or("it has no channels to spare")
        ));
    }
    let families = depths.iter().filter(|depth| depth.can_shrink()).count() * Widths::ALL.len() + 1;
    let task = &progress.begin("measuring candidates", families as u64, "families");
    let search = Search { subject, bench: &bench, target, engines, original: &original, task };
    let (mut students, mut closest) = (Vec::<Candidate>::new(), None);
    let mut uniform = None;
    for depth in depths.iter().filter(|depth| depth.can_shrink()) {
        for widths in Widths::ALL {
            match search.widest(depth, widths)? {
                Widest::Found(width) => {
                    uniform = uniform.or((widths == Widths::Uniform).then_some((depth, width)));
                    let candidate = search.part(depth, widths, width)?;
                    let like = |other: &Candidate| other.model.graph() == candidate.model.graph();
                    if !students.iter().any(like) {
                        students.push(candidate);
                    }
                }
                Widest::Misses(found) => closest = Some(found.smaller(closest)),
            }
            task.advance(1);
        }
    }
    let room = if students.is_empty() { STUDENTS + 2 } else { STUDENTS };
    let (from_zoo, missed) = search.ready(room)?;
    students.extend(from_zoo);
    closest = missed.into_iter().chain(closest).reduce(|one, other| one.smaller(Some(other)));
    let Some(first) = students.first() else { return Err(unreachable(target, closest).into()) };
    let latency_ms = first.latency_ms.iter().map(|(engine, [_, whole])| (*engine, *whole)).collect();
    if let (1, Some((depth, width))) = (students.len(), uniform) {
        let width = (width * NARROWER / STEP).floor() * STEP;
        let mut narrow = search.part(depth, Widths::Uniform, width.max(NARROWEST))?;
        narrow.student.name += "-narrow";
        students.push(narrow);
    }
    let whole = depths.first().map_or(Vec::new(), |depth| depth.coupling().whole().to_vec());
    Ok(Candidates { original: Original { latency_ms, ..original }, students, whole })
}

fn original(subject: &Subject, bytes: u64) -> Original {
    let graph = subject.network.network().map(|model| model.graph());
    Original {
        params: subject.network.params(),
        macs: subject.network.macs(),
        bytes,
        memory_bytes: graph.map(memory_bytes),
        latency_ms: BTreeMap::new(),
    }
}

/// Refuses a target that the original meets, and a share of a cost that is not known.
fn refuse_what_is_met(target: Target, original: &Original, bench: &Workbench<'_>) -> Result<()> {
    let of = match target.engine() {
        Some(engine) => Some(bench.in_turns(&bench.whole, engine, QUICK)?[0]),
        None => original.cost(target),
    };
    let Some(allowed) = target.allowed(of) else {
        let problem = format!("how many {target} the original has is not known: it cannot be imported");
        return Err(InputError::new(problem)
            .hint("give a number, such as macs<=5M, or limit params, bytes or a latency")
            .into());
    };
    match of.filter(|of| allowed >= *of) {
        Some(of) => {
            let problem = format!("the original has {} already, within the target", target.told(of));
            Err(InputError::new(problem).hint("ask for less").into())
        }
        None => Ok(()),
    }
}

fn unreachable(target: Target, closest: Option<Measured>) -> InputError {
    let Some(Measured { cost, of }) = closest else {
        return InputError::new(
            "nothing of this network can be taken away, and no model of the zoo takes its images",
        )
        .hint("train a student of your own with it as the teacher: `teacher: {onnx: FILE}` in a pipeline");
    };
    let share = of.map_or(String::new(), |of| format!(", {:.3} times the original's", cost / of));
    let asked = match of {
        Some(of) => format!("ask for {:.2}x or more", 1.1 * cost / of),
        None => format!("ask for {} or more", target.told(1.1 * cost)),
    };
    InputError::new(format!("no network meets the target: the smallest has {}{share}", target.told(cost)))
        .hint(asked)
}

/// The widest member of a family within the target.
enum Widest {
    Found(f64),
    /// There is none; what the narrowest costs.
    Misses(Measured),
}

/// What the target limits, of a network and of the original, if that is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub cost: f64,
    pub of: Option<f64>,
}

impl Measured {
    fn smaller(self, other: Option<Self>) -> Self {
        other.filter(|other| other.cost < self.cost).unwrap_or(self)
    }
}

/// What candidates are made and measured with.
pub(super) struct Search<'a> {
    pub(super) subject: &'a Subject,
    bench: &'a Workbench<'a>,
    target: Target,
    engines: &'a [EngineName],
    pub(super) original: &'a Original,
    /// One step for each family.
    task: &'a Task<'a>,
}

impl Search<'_> {
    /// What the target limits, of a network and of the original. Which weights it has does not change that.
    pub(super) fn measured(&self, network: &Model) -> Result<Measured> {
        let cost = match self.target {
            Target::Params(_) => cost(network.graph()).params as f64,
            Target::Macs(_) => cost(network.graph()).macs as f64,
            Target::Bytes(_) => self.bench.file(network)?.size_bytes() as f64,
            Target::Latency(Budget { engine, .. }) => {
                let [cost, whole] = self.bench.in_turns(&self.bench.file(network)?, engine, QUICK)?;
                self.task.advance(0);
                return Ok(Measured { cost, of: Some(whole) });
            }
        };
        Ok(Measured { cost, of: self.original.cost(self.target) })
    }

    /// Whether the target is met.
    pub(super) fn met(&self, found: Measured) -> bool {
        self.target.allowed(found.of).is_some_and(|allowed| found.cost <= allowed)
    }

    fn widest(&self, depth: &Depth, widths: Widths) -> Result<Widest> {
        let measured = |width: f64| self.measured(&depth.shape(&depth.counts(widths, width))?);
        let least = measured(NARROWEST)?;
        if !self.met(least) {
            return Ok(Widest::Misses(least));
        }
        if !depth.without.is_empty() && self.met(measured(1.0)?) {
            return Ok(Widest::Found(1.0));
        }
        let width = widest_that(|width| Ok(self.met(measured(width)?)))?;
        let Some(engine) = self.target.engine() else { return Ok(Widest::Found(width)) };
        // A median moves by a few percent from one measurement to the next.
        let holds = |width: f64| {
            let file = self.bench.file(&depth.shape(&depth.counts(widths, width))?)?;
            let [cost, whole] = self.bench.in_turns(&file, engine, LONG)?;
            Ok(self.met(Measured { cost: cost * (1.0 + HEADROOM), of: Some(whole) }))
        };
        Ok(Widest::Found(narrowed_until(width, holds)?))
    }

    /// A part of the original, with the weights of that part.
    fn part(&self, depth: &Depth, widths: Widths, width: f64) -> Result<Candidate> {
        let counts = depth.counts(widths, width);
        let model = depth.measured.part(&counts, STATISTICS_STEPS)?;
        let source = StudentModel::Slim(part(depth, widths, width, &counts));
        let dataset = &self.subject.dataset;
        let scored = dataset.validation.spread(SCORED);
        let score = evaluate_model(&model, Device::Auto, &scored, &dataset.normalization)?;
        self.candidate(name(depth, widths), source, model, Some(score))
    }

    /// A network that meets the target, measured in all engines.
    pub(super) fn candidate(
        &self,
        name: String,
        source: StudentModel,
        model: Model,
        before_training: Option<Score>,
    ) -> Result<Candidate> {
        let file = self.bench.file(&model)?;
        let mut latency_ms = BTreeMap::new();
        for &engine in self.engines {
            latency_ms.insert(engine.key(), self.bench.in_turns(&file, engine, LONG)?);
        }
        let cost = cost(model.graph());
        Ok(Candidate {
            student: Student { name, model: source, lr_factor: 1.0, head: None },
            trained: false,
            params: cost.params,
            macs: cost.macs,
            bytes: file.size_bytes(),
            memory_bytes: memory_bytes(model.graph()),
            latency_ms,
            before_training,
            after_trial: None,
            model,
        })
    }
}

/// The widest width that meets, between the narrowest, which does, and 1, which does not.
fn widest_that(mut meets: impl FnMut(f64) -> Result<bool>) -> Result<f64> {
    let (mut widest, mut fails) = (NARROWEST, 1.0);
    while fails - widest > STEP {
        let middle = ((widest + fails) / 2.0 / STEP).round() * STEP;
        if middle <= widest || middle >= fails {
            break;
        }
        if meets(middle)? { widest = middle } else { fails = middle }
    }
    Ok(widest)
}

/// The first width from this one down, in two steps at a time, that holds; the narrowest if none does.
fn narrowed_until(mut width: f64, mut holds: impl FnMut(f64) -> Result<bool>) -> Result<f64> {
    while width > NARROWEST && !holds(width)? {
        width = (width - 2.0 * STEP).max(NARROWEST);
    }
    Ok(width)
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
    Slim { of: SlimOf::Teacher, width, units, without, batch_norm: true, fresh: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_is_found_to_a_step() {
        for limit in [NARROWEST, 0.1, 0.37, 0.5, 0.993] {
            let mut tried = 0;
            let found = widest_that(|width| {
                tried += 1;
                Ok(width <= limit)
            });
            let found = found.unwrap();
            assert!(found <= limit && limit < found + STEP, "{limit}: {found}");
            assert!(tried <= 7, "{tried} measurements for {limit}");
        }
    }

    #[test]
    fn a_width_is_narrowed_until_it_holds() {
        let from = |limit: f64| narrowed_until(0.5, |width| Ok(width <= limit)).unwrap();
        assert_eq!(from(0.5), 0.5);
        assert_eq!(from(0.49), 0.5 - 2.0 * STEP);
        assert_eq!(from(0.0), NARROWEST);
        assert!(narrowed_until(0.5, |_| anyhow::bail!("no engine")).is_err());
    }
}
