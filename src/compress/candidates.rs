//! Which parts of a classifier are worth training: a slim network is as fast before it is trained as after, so its cost is
//! known before.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use ndarray::ArrayD;
use serde::Serialize;

use crate::config::{EngineName, Slim, SlimOf, Student, StudentModel};
use crate::contract::{Contract, Precision};
use crate::engine::{Engine, EngineOptions, open};
use crate::error::InputError;
use crate::graph::{Coupling, Model, Whole, cost, fold_batch_norm};
use crate::onnx::{OnnxFile, emit};
use crate::plan::as_file_takes;
use crate::progress::Progress;

use super::look::Subject;
use super::target::{Cost, Target};

/// The narrowest network that is tried.
const NARROWEST: f64 = 1.0 / 16.0;

/// Widths are tried in steps of this.
const STEP: f64 = 1.0 / 128.0;

/// How much narrower the second student is, as a share of the first one's width.
const NARROWER: f64 = 0.85;

/// Runs before and of a measurement, and seconds after which it ends.
const WARM_UP: usize = 5;
const RUNS: usize = 60;
const MOST_SECONDS: f64 = 3.0;

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
    pub params: u64,
    pub macs: u64,
    pub bytes: u64,
    /// Median milliseconds of one image, and the same of the original measured in turns with it.
    pub latency_ms: BTreeMap<&'static str, [f64; 2]>,
}

/// The original, and the parts of it that meet the target.
#[derive(Debug, Clone, Serialize)]
pub struct Candidates {
    pub original: Original,
    /// The largest first.
    pub students: Vec<Candidate>,
    /// The layers that stay whole.
    #[serde(skip)]
    pub whole: Vec<Whole>,
}

/// Finds two parts of the classifier that meet the target: the widest one, and one that is a little narrower.
///
/// # Errors
/// [`InputError`] if no part meets it, with the closest, or if nothing can be taken away.
pub fn find(
    subject: &Subject,
    target: Target,
    engines: &[EngineName],
    progress: &dyn Progress,
) -> Result<Candidates> {
    let network = &subject.network;
    let coupling = Coupling::of(network.graph());
    if coupling.groups().is_empty() {
        let reasons: Vec<&str> = coupling.whole().iter().map(|whole| whole.reason.as_str()).take(3).collect();
        return Err(InputError::new(format!(
            "nothing of this network can be taken away: {}",
            reasons.join("; ")
        ))
        .hint("train a student of the zoo with it as the teacher: `teacher: {onnx: FILE}` in a pipeline")
        .into());
    }
    let bench = Workbench { subject, coupling: &coupling, engines };
    let whole = bench.file(network)?;
    let original = Original {
        params: cost(network.graph()).params,
        macs: cost(network.graph()).macs,
        bytes: whole.size_bytes(),
        latency_ms: BTreeMap::new(),
    };
    let width = bench.widest(&original, &whole, target, progress)?;
    let mut students = Vec::new();
    for (name, width) in [("wide", width), ("slim", (width * NARROWER / STEP).floor() * STEP)] {
        students.push(bench.candidate(name, width.max(NARROWEST), &whole)?);
    }
    let measured = students[0].latency_ms.iter().map(|(engine, [_, whole])| (*engine, *whole)).collect();
    Ok(Candidates {
        original: Original { latency_ms: measured, ..original },
        students,
        whole: coupling.whole().to_vec(),
    })
}

/// What candidates are made and measured with.
struct Workbench<'a> {
    subject: &'a Subject,
    coupling: &'a Coupling,
    engines: &'a [EngineName],
}

impl Workbench<'_> {
    /// A part of the network. Which channels stay does not change what it costs.
    fn slim(&self, width: f64) -> Result<Model> {
        let kept = self.coupling.first(&self.coupling.uniform(width));
        Ok(self.coupling.keep(&self.subject.network, &kept)?)
    }

    /// A network as a file with the original's interface.
    fn file(&self, network: &Model) -> Result<OnnxFile> {
        let contract = Contract {
            preparation: None,
            classes: Vec::new(),
            precision: Precision::default(),
            ..self.subject.classifier.contract.clone()
        };
        let model = as_file_takes(fold_batch_norm(network)?, &contract)?;
        let bytes = emit(&model, &contract, None).map_err(|error| {
            InputError::new(format!("a smaller file cannot have the interface of this one: {error:#}"))
                .hint("export it with its scores as the only output")
        })?;
        OnnxFile::from_bytes(bytes, Path::new("candidate.onnx"))
    }

    /// The widest network within the target.
    fn widest(
        &self,
        original: &Original,
        whole: &OnnxFile,
        target: Target,
        progress: &dyn Progress,
    ) -> Result<f64> {
        let measured = |width: f64| -> Result<(f64, f64)> {
            let slim = self.slim(width)?;
            Ok(match target.cost {
                Cost::Params => (cost(slim.graph()).params as f64, original.params as f64),
                Cost::Macs => (cost(slim.graph()).macs as f64, original.macs as f64),
                Cost::Bytes => (self.file(&slim)?.size_bytes() as f64, original.bytes as f64),
                Cost::Latency(engine) => {
                    let [slim, whole] = self.in_turns(&self.file(&slim)?, whole, engine)?;
                    progress.note(format!(
                        "width {width:.2}: {slim:.3} ms in {}, the original {whole:.3} ms",
                        engine.key()
                    ));
                    (slim, whole)
                }
            })
        };
        let (least, of) = measured(NARROWEST)?;
        if target.allowed(of) >= of {
            let problem = format!("the original has {of:.0} {} already, within the target", target.cost);
            return Err(InputError::new(problem).hint("ask for less").into());
        }
        if least > target.allowed(of) {
            let problem = format!(
                "no part of this network meets the target: the narrowest has {:.3} times the original's {}",
                least / of,
                target.cost
            );
            return Err(InputError::new(problem)
                .hint(format!("ask for {:.2}x or more, or train a student of the zoo", 1.1 * least / of))
                .into());
        }
        let (mut meets, mut fails) = (NARROWEST, 1.0);
        while fails - meets > STEP {
            let middle = ((meets + fails) / 2.0 / STEP).round() * STEP;
            if middle <= meets || middle >= fails {
                break;
            }
            let (value, of) = measured(middle)?;
            if value <= target.allowed(of) { meets = middle } else { fails = middle }
        }
        // A median moves by a few percent from one measurement to the next.
        Ok(if let Cost::Latency(_) = target.cost { (meets - STEP).max(NARROWEST) } else { meets })
    }

    fn candidate(&self, name: &str, width: f64, whole: &OnnxFile) -> Result<Candidate> {
        let slim = self.slim(width)?;
        let file = self.file(&slim)?;
        let mut latency_ms = BTreeMap::new();
        for &engine in self.engines {
            latency_ms.insert(engine.key(), self.in_turns(&file, whole, engine)?);
        }
        let part = Slim {
            of: SlimOf::Teacher,
            width,
            units: BTreeMap::new(),
            without: Vec::new(),
            batch_norm: true,
        };
        Ok(Candidate {
            student: Student { name: name.into(), model: StudentModel::Slim(part), lr_factor: 1.0 },
            params: cost(slim.graph()).params,
            macs: cost(slim.graph()).macs,
            bytes: file.size_bytes(),
            latency_ms,
        })
    }

    /// The median milliseconds of one image in both files, measured in turns.
    fn in_turns(&self, slim: &OnnxFile, whole: &OnnxFile, engine: EngineName) -> Result<[f64; 2]> {
        let options = EngineOptions::default();
        let opened = [slim, whole].map(|file| open(file, engine, &options));
        let [slim, whole] = opened;
        let mut engines: [Box<dyn Engine>; 2] = [slim?, whole?];
        let sample =
            self.subject.classifier.contract.sample_shape().context("the size of images is fixed")?;
        let batch = self.subject.classifier.contract.batch().unwrap_or(1);
        let image = ArrayD::<f32>::from_elem([&[batch], &sample[..]].concat(), 0.25);
        let mut times = [Vec::new(), Vec::new()];
        let started = Instant::now();
        for run in 0..WARM_UP + RUNS {
            for (engine, times) in engines.iter_mut().zip(&mut times) {
                let start = Instant::now();
                engine.run(image.view())?;
                if run >= WARM_UP {
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
            if run >= WARM_UP + 5 && started.elapsed().as_secs_f64() > MOST_SECONDS {
                break;
            }
        }
        Ok(times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        }))
    }
}
