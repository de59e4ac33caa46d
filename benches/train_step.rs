//! One step of training by all terms of CTSL-MKT: two ResNets, self-distillation from frozen copies,
//! mutual responses, distances and angles. The work of the usual eager PyTorch script, so that both can
//! be timed side by side. All steps use the same images.
//!
//! `cargo bench --bench train_step -- --batch 128 --size 32 --depth 20 --steps 20 --device cpu`

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use cohort::config::{
    Device, Family, LossWeights, Method, ModelSpec, Optimizer, ResnetCifar, Sgd, TrainingPrecision, Updates,
};
use cohort::graph::{Model, fold_batch_norm};
use cohort::torch::{self, Network};
use cohort::train::{
    Answerer, Iteration, Learner, OptimizerState, Targets, Teaching, prepare_precision, step,
};
use cohort::zoo;
use tch::{Kind, Tensor};

const CLASSES: usize = 100;
const LEARNING_RATE: f64 = 0.05;
/// Untimed steps before the timed ones.
const WARM_UP: usize = 3;

#[derive(Parser)]
struct Args {
    /// cpu or cuda
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(long, default_value_t = 20)]
    steps: usize,
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Pixels along a side
    #[arg(long, default_value_t = 32)]
    size: usize,
    #[arg(long, default_value_t = 3)]
    channels: usize,
    #[arg(long, default_value_t = 20)]
    depth: usize,
    /// float32, tf32 (on a GPU) or bfloat16
    #[arg(long, default_value = "float32")]
    precision: String,
    /// Cross-entropy only
    #[arg(long)]
    plain: bool,
    /// Passed by cargo to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    // SAFETY: this is the first thing the program does, so there is no other thread.
    unsafe { torch::prepare_process() };
    let args = Args::parse();
    let device = torch::resolve_device(match args.device.as_str() {
        "cpu" => Device::Cpu,
        _ => Device::Cuda(0),
    })?;
    torch::set_threads(torch::threads());
    let spec =
        ModelSpec::Family(Family::ResnetCifar(ResnetCifar { depth: args.depth, width: 16, stem: None }));
    let graph = zoo::build(&spec, [args.channels, args.size, args.size], CLASSES)?;
    let precision = match args.precision.as_str() {
        "float32" => TrainingPrecision::Float32,
        "tf32" => TrainingPrecision::Tf32,
        "bfloat16" => TrainingPrecision::Bfloat16,
        other => bail!("--precision {other} is none of float32, tf32, bfloat16"),
    };
    let kind = prepare_precision(precision, device)?;
    let network = |model: &Model| anyhow::Ok(Network::new(model, device, Kind::Float)?.computing_in(kind));
    let optimizer = Optimizer::Sgd(Sgd { lr: LEARNING_RATE, ..Sgd::default() });
    let mut students = Vec::new();
    for seed in 0..2 {
        let model = Model::untrained(graph.clone(), seed);
        let network_of_student = network(&model)?;
        students.push(Learner {
            name: format!("student {seed}"),
            optimizer: OptimizerState::new(&network_of_student, &optimizer)?,
            network: network_of_student,
            frozen: Some(Answerer::Network(network(&fold_batch_norm(&model)?)?)),
            lr_factor: 1.0,
        });
    }
    let all = LossWeights { beta: Some(1.0), beta2: Some(1.0), gamma: Some(1.0), ..LossWeights::default() };
    let terms = match args.plain {
        true => Method::Plain.terms(&LossWeights::default()),
        false => Method::CtslMktPaper.terms(&all),
    };
    let teaching = Teaching { terms: &terms, updates: Updates::Simultaneous, teacher: None };
    tch::manual_seed(0);
    let side = args.size as i64;
    let images = Tensor::randn([args.batch as i64, args.channels as i64, side, side], (Kind::Float, device));
    let targets = Targets::plain(Tensor::randint(CLASSES as i64, [args.batch as i64], (Kind::Int64, device)));

    let mut times = Vec::with_capacity(args.steps);
    for index in 0..WARM_UP + args.steps {
        let iteration = Iteration { step: index + 1, lr: LEARNING_RATE };
        let start = Instant::now();
        let _terms = step(&mut students, &teaching, &images, &targets, iteration)?;
        if let tch::Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
        if index >= WARM_UP {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).context("--steps must be 1 or more")?;
    println!(
        "{} libtorch {} threads {} batch {} size {} depth {} plain {} {}: median step {:.1} ms, {:.1} images/s",
        args.device,
        torch::facts().version,
        torch::threads(),
        args.batch,
        args.size,
        args.depth,
        args.plain,
        args.precision,
        median * 1e3,
        args.batch as f64 / median
    );
    Ok(())
}
