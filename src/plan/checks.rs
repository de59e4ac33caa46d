//! Checks a pipeline's own numbers and names, without models and data.

use std::collections::HashSet;

use crate::config::names_a_file;
use crate::config::{
    Augment, Bench, Collaborate, Device, EngineName, Export, Labels, Limit, LossTerms, Mode, Optimizer,
    OutOfRange, Pipeline, Recipe, Schedule, Select, Source, Stage, Start, StudentModel, TermKind,
    TrainingPrecision, Verify,
};
use crate::data::DataInfo;
use crate::epoch::Term;
use crate::stage::StageKind;

use super::problems::Problems;

/// The version of the pipeline format that this program reads.
const VERSION: u32 = 1;

/// Name of the chosen student's file, which no student may have.
const RESERVED: &str = "student";

/// Every check that needs only the pipeline.
pub(super) fn check(pipeline: &Pipeline, problems: &mut Problems<'_>) {
    if pipeline.version != VERSION {
        let problem = format!("found {}, this program reads {VERSION}", pipeline.version);
        problems.add("version", problem, format!("write `version: {VERSION}`"));
    }
    name("name", &pipeline.name, problems);
    cohort(pipeline, problems);
    if pipeline.precision != TrainingPrecision::Float32 && pipeline.device == Device::Cpu {
        let remedy = "write `device: cuda`, or leave precision out";
        let problem = format!("{} is for a GPU, and the device is cpu", pipeline.precision.key());
        problems.add("precision", problem, remedy);
    }
    data(pipeline, problems);
    order(&pipeline.stages, problems);
    for (index, stage) in pipeline.stages.iter().enumerate() {
        let mut numbers = Numbers { path: format!("stages[{index}].{}", stage.name()), problems };
        match stage {
            Stage::Slim(settings) => {
                numbers.count("images", settings.images, 10_000_000);
                numbers.count("batch", settings.batch, 65_536);
            }
            Stage::Pretrain(settings) => numbers.recipe(&settings.recipe()),
            Stage::Collaborate(settings) => {
                numbers.recipe(&settings.recipe());
                collaborate(pipeline, settings, &mut numbers);
            }
            Stage::Select(settings) => select(settings, &mut numbers),
            Stage::Export(settings) => export(pipeline, settings, &mut numbers),
            Stage::Report(_) => {}
            Stage::Verify(settings) => verify(settings, &mut numbers),
            Stage::Bench(settings) => bench(settings, &mut numbers),
        }
    }
}

/// Checks that need the number of images.
pub(super) fn check_sizes(pipeline: &Pipeline, data: &DataInfo, problems: &mut Problems<'_>) {
    let images = pipeline.data.images.map_or(data.train_images, |images| images.min(data.train_images));
    let held = match data.validation_images {
        Some(_) => 0,
        None => (images as f64 * pipeline.data.validation).round() as usize,
    };
    let left = images.saturating_sub(held);
    for (index, stage) in pipeline.stages.iter().enumerate() {
        let batch = match stage {
            Stage::Pretrain(settings) => settings.batch,
            Stage::Collaborate(settings) => settings.batch,
            Stage::Slim(_)
            | Stage::Select(_)
            | Stage::Export(_)
            | Stage::Verify(_)
            | Stage::Bench(_)
            | Stage::Report(_) => {
                continue;
            }
        };
        if batch > left {
            let path = format!("stages[{index}].{}.batch", stage.name());
            let problem = format!("a batch of {batch} is more than the {left} images to learn from");
            problems.add(&path, problem, "take a smaller batch");
        }
    }
}

fn name(path: &str, name: &str, problems: &mut Problems<'_>) {
    if !names_a_file(name) {
        let problem = format!("'{name}' cannot name a file");
        problems.add(path, problem, "use letters, digits, '-', '_' and '.', no '.' at the start");
    }
}

fn cohort(pipeline: &Pipeline, problems: &mut Problems<'_>) {
    if pipeline.cohort.is_empty() {
        problems.add("cohort", "there is no student", "add `- {name: tiny, model: resnet8}`");
    }
    let mut seen = HashSet::new();
    for (index, student) in pipeline.cohort.iter().enumerate() {
        let new = matches!(student.model, StudentModel::Named(_));
        if !new && pipeline.stage(StageKind::Slim).is_none() {
            let problem = "the weights of a trained network are taken out of it by the stage `slim`";
            problems.add(&format!("cohort[{index}].model"), problem, "add `- slim: {}` as the first stage");
        }
        if let StudentModel::Slim(slim) = &student.model
            && !(slim.width > 0.0 && slim.width <= 1.0)
        {
            let problem = format!("found {}", slim.width);
            problems.add(
                &format!("cohort[{index}].model.slim.width"),
                problem,
                "write a share above 0, at most 1",
            );
        }
        let path = format!("cohort[{index}].name");
        name(&path, &student.name, problems);
        if !(student.lr_factor > 0.0 && student.lr_factor.is_finite()) {
            let problem = format!("found {}", student.lr_factor);
            problems.add(&format!("cohort[{index}].lr_factor"), problem, "write a number above 0");
        }
        if student.name == RESERVED {
            problems.add(&path, "'student' is the chosen one's file", "choose another name");
        }
        if !seen.insert(student.name.to_lowercase()) {
            problems.add(&path, format!("the name '{}' is used twice", student.name), "choose another name");
        }
    }
}

fn data(pipeline: &Pipeline, problems: &mut Problems<'_>) {
    let mut numbers = Numbers { path: "data".into(), problems };
    let validation = pipeline.data.validation;
    numbers.require(
        "validation",
        validation > 0.0 && validation < 1.0,
        "a share between 0 and 1",
        validation,
    );
    if let Some(images) = pipeline.data.images {
        numbers.count("images", images, u32::MAX as usize);
    }
    let file = pipeline.teacher.as_ref().is_some_and(|teacher| teacher.onnx.is_some());
    if pipeline.data.labels == Labels::Teacher && !file {
        let remedy = "add `teacher: {onnx: FILE}` to the pipeline, or leave `labels` out";
        numbers.problems.add(
            "data.labels",
            "there is no teacher's file whose decisions are the labels",
            remedy,
        );
    }
    if let Source::Folder(folder) = &pipeline.data.source {
        numbers.path = "data.source.folder".into();
        let sides = folder.size.iter().all(|side| (1..=4_096).contains(side));
        numbers.require("size", sides, "height and width from 1 to 4096", format!("{:?}", folder.size));
        numbers.require("channels", [1, 3].contains(&folder.channels), "1 or 3", folder.channels);
        numbers.require("test", (0.0..1.0).contains(&folder.test), "a share from 0 to below 1", folder.test);
    }
    for (index, augment) in pipeline.data.augment.iter().enumerate() {
        numbers.path = format!("data.augment[{index}]");
        match augment {
            Augment::Crop(crop) => {
                numbers.require(
                    "crop.padding",
                    (1..=1_024).contains(&crop.padding),
                    "1 to 1024 pixels",
                    crop.padding,
                );
            }
            Augment::Flip(flip) => {
                let share = (0.0..=1.0).contains(&flip.probability);
                numbers.require("flip.probability", share, "a share from 0 to 1", flip.probability);
            }
            Augment::Rotate(rotate) => {
                let angle = rotate.degrees > 0.0 && rotate.degrees <= 180.0;
                numbers.require("rotate.degrees", angle, "above 0, at most 180", rotate.degrees);
            }
            Augment::Cutout(cutout) => numbers.count("cutout.size", cutout.size, 1_024),
            Augment::Mixup(mix) | Augment::Cutmix(mix) => {
                let key = format!("{}.alpha", augment.name());
                numbers.require(&key, (0.05..=4.0).contains(&mix.alpha), "from 0.05 to 4", mix.alpha);
                let list = &pipeline.data.augment;
                let twice = list[..index].iter().any(|other| other.name() == augment.name());
                numbers.require(augment.name(), !twice, "each kind of mixing once", "a second one");
                let last = list[index..].iter().all(Augment::mixes);
                numbers.require(
                    augment.name(),
                    last,
                    "mixing after all that is done to one image",
                    "it before",
                );
            }
        }
    }
}

/// Checks that stages stand in the order in which each finds what it reads.
fn order(stages: &[Stage], problems: &mut Problems<'_>) {
    for (index, pair) in stages.windows(2).enumerate() {
        let (path, before, after) = (format!("stages[{}]", index + 1), pair[0].name(), pair[1].name());
        if pair[0].kind() == pair[1].kind() {
            problems.add(&path, format!("the stage '{after}' is there twice"), "remove one of them");
        } else if pair[0].kind() > pair[1].kind() {
            let problem = format!("'{after}' stands after '{before}'");
            problems.add(
                &path,
                problem,
                format!("the order is {}", StageKind::ALL.map(StageKind::name).join(", ")),
            );
        }
    }
    let has = |kind: StageKind| stages.iter().any(|stage| stage.kind() == kind);
    if !StageKind::TRAINING.into_iter().any(has) {
        problems.add("stages", "nothing is trained", "add `- collaborate: {}`");
    }
    for stage in StageKind::ALL.into_iter().filter(|stage| has(*stage)) {
        for needed in stage.declaration().needs.iter().filter(|needed| !has(**needed)) {
            let (stage, needed) = (stage.name(), needed.name());
            let problem = format!("'{stage}' needs the stage '{needed}'");
            problems.add("stages", problem, format!("add `- {needed}: {{}}`"));
        }
    }
}

/// Checks the numbers of one stage.
struct Numbers<'a, 'b> {
    path: String,
    problems: &'a mut Problems<'b>,
}

impl Numbers<'_, '_> {
    fn require(&mut self, key: &str, holds: bool, expected: &str, found: impl std::fmt::Display) {
        if !holds {
            let path = format!("{}.{key}", self.path);
            self.problems.add(&path, format!("found {found}"), format!("expected {expected}"));
        }
    }

    fn count(&mut self, key: &str, value: usize, most: usize) {
        self.require(key, (1..=most).contains(&value), &format!("a whole number from 1 to {most}"), value);
    }

    fn not_negative(&mut self, key: &str, value: f64) {
        self.require(key, value >= 0.0 && value.is_finite(), "a number from 0", value);
    }

    fn engines(&mut self, engines: &[EngineName]) {
        self.require("engines", !engines.is_empty(), "at least one engine", "an empty list");
        let distinct: HashSet<_> = engines.iter().collect();
        self.require(
            "engines",
            distinct.len() == engines.len(),
            "each engine once",
            engines.iter().map(|engine| engine.key()).collect::<Vec<_>>().join(", "),
        );
        let torch = engines.contains(&EngineName::Torch) && !cfg!(feature = "train");
        self.require("engines", !torch, "no `torch`: this program was built without libtorch", "torch");
    }

    fn recipe(&mut self, recipe: &Recipe) {
        let epochs = recipe.epochs;
        self.count("epochs", epochs, 100_000);
        self.count("batch", recipe.batch, 65_536);
        self.count("validate_every", recipe.validate_every, 100_000);
        self.require("ramp_epochs", recipe.ramp_epochs <= 100_000, "at most 100000", recipe.ramp_epochs);
        self.terms(&recipe.terms);
        self.optimizer(&recipe.optimizer);
        match &recipe.schedule {
            Schedule::Constant(_) => {}
            Schedule::Cosine(cosine) => {
                let inside = cosine.warmup_epochs < epochs;
                self.require(
                    "schedule.cosine.warmup_epochs",
                    inside,
                    "less than epochs",
                    cosine.warmup_epochs,
                );
            }
            Schedule::OneCycle(cycle) => {
                let share = (0.0..=1.0).contains(&cycle.warmup);
                self.require("schedule.one-cycle.warmup", share, "a share from 0 to 1", cycle.warmup);
            }
            Schedule::MultiStep(steps) => {
                let rising = steps.milestones.windows(2).all(|pair| pair[0] < pair[1]);
                let inside = steps.milestones.iter().all(|&epoch| epoch > 0 && epoch < epochs);
                let (expected, found) = ("rising epochs within the stage", format!("{:?}", steps.milestones));
                self.require("schedule.multi-step.milestones", rising && inside, expected, found);
                let factor = steps.factor > 0.0 && steps.factor < 1.0;
                self.require("schedule.multi-step.factor", factor, "between 0 and 1", steps.factor);
                let warm = steps.warmup_epochs < epochs;
                self.require(
                    "schedule.multi-step.warmup_epochs",
                    warm,
                    "less than epochs",
                    steps.warmup_epochs,
                );
            }
        }
    }
}

impl Numbers<'_, '_> {
    fn terms(&mut self, terms: &LossTerms) {
        for (key, kind, number) in terms.fields() {
            let key = format!("loss.{key}");
            match kind {
                TermKind::LabelWeight | TermKind::Weight | TermKind::MutualWeight => {
                    self.not_negative(&key, number)
                }
                TermKind::Temperature => {
                    let positive = number > 0.0 && number.is_finite();
                    self.require(&key, positive, "a number above 0", number);
                }
                TermKind::Share => {
                    let share = (0.0..1.0).contains(&number);
                    self.require(&key, share, "a share from 0 to below 1", number);
                }
            }
        }
        self.require("loss", terms.any(Term::ALL), "at least one weight above 0", "all weights 0");
    }

    fn optimizer(&mut self, optimizer: &Optimizer) {
        let (name, decay, clip) = match optimizer {
            Optimizer::Sgd(sgd) => {
                let momentum = (0.0..1.0).contains(&sgd.momentum);
                self.require("optimizer.sgd.momentum", momentum, "from 0 to below 1", sgd.momentum);
                let nesterov = !sgd.nesterov || sgd.momentum > 0.0;
                self.require("optimizer.sgd.nesterov", nesterov, "a momentum above 0 with it", "momentum 0");
                ("sgd", sgd.weight_decay, sgd.clip)
            }
            Optimizer::AdamW(adam) => {
                let betas = adam.betas.iter().all(|beta| (0.0..1.0).contains(beta));
                self.require(
                    "optimizer.adamw.betas",
                    betas,
                    "from 0 to below 1",
                    format!("{:?}", adam.betas),
                );
                let eps = adam.eps > 0.0 && adam.eps.is_finite();
                self.require("optimizer.adamw.eps", eps, "a number above 0", adam.eps);
                ("adamw", adam.weight_decay, adam.clip)
            }
        };
        let lr = optimizer.lr();
        self.require(&format!("optimizer.{name}.lr"), lr > 0.0 && lr.is_finite(), "a number above 0", lr);
        self.not_negative(&format!("optimizer.{name}.weight_decay"), decay);
        let clip = clip.unwrap_or(1.0);
        let length = clip > 0.0 && clip.is_finite();
        self.require(&format!("optimizer.{name}.clip"), length, "a length above 0", clip);
    }
}

/// Checks what a method needs of the rest of the pipeline.
fn collaborate(pipeline: &Pipeline, settings: &Collaborate, numbers: &mut Numbers<'_, '_>) {
    let terms = settings.terms();
    let path = format!("{}.method", numbers.path);
    if terms.mutual() && pipeline.cohort.len() < 2 {
        let remedy = "add a student, or take a method without peers: plain, kd, tf-kd-self";
        numbers.problems.add(&path, "peers teach each other here, and there is one student", remedy);
    }
    let pretrained = pipeline.stage(StageKind::Pretrain).is_some();
    if terms.taught() && pipeline.teacher.is_none() {
        let remedy =
            "add `teacher: {model: …, weights: …}` to the pipeline, or set the teacher's weights to 0";
        numbers.problems.add(&path, "this method needs a frozen teacher", remedy);
    }
    if terms.gamma > 0.0 && !pretrained {
        let problem = "self-distillation needs a pre-trained copy of each student";
        numbers.problems.add(&path, problem, "add the stage `pretrain`, or set loss.gamma to 0");
    }
}

/// A sentence on a pre-training that the collaboration does not use, if there is one.
pub(super) fn unused_pretraining(pipeline: &Pipeline) -> Option<String> {
    let uses = |settings: &Collaborate| settings.start == Start::Pretrained || settings.terms().gamma > 0.0;
    let used =
        pipeline.stages.iter().any(|stage| matches!(stage, Stage::Collaborate(settings) if uses(settings)));
    let idle =
        pipeline.stage(StageKind::Pretrain).is_some() && pipeline.stage(StageKind::Collaborate).is_some();
    (idle && !used).then(|| {
        "stages.pretrain: nothing uses its weights but the column `alone` of the report, because the collaboration starts \
         fresh and has no frozen copies; `start: pretrained` or `method: ctsl-mkt-paper` would use them"
            .to_owned()
    })
}

fn select(settings: &Select, numbers: &mut Numbers<'_, '_>) {
    let budgets = &settings.budgets;
    for (key, limit) in [
        ("budgets.max_params", budgets.max_params),
        ("budgets.max_macs", budgets.max_macs),
        ("budgets.max_onnx_bytes", budgets.max_onnx_bytes),
    ] {
        let positive = !matches!(limit, Some(Limit::Absolute(0)));
        numbers.require(key, positive, "a number above 0", 0);
    }
    for budget in &budgets.latency {
        let holds = budget.mode != Some(Mode::EndToEnd);
        numbers.require("budgets.latency", holds, "the mode device or host before the choice", budget);
        let torch = budget.engine != EngineName::Torch;
        numbers.require("budgets.latency", torch, "an engine that runs files", budget.engine.key());
    }
}

fn export(pipeline: &Pipeline, settings: &Export, numbers: &mut Numbers<'_, '_>) {
    let file = pipeline.teacher.as_ref().is_some_and(|teacher| teacher.onnx.is_some());
    if file && settings.fold_normalization {
        let path = format!("{}.fold_normalization", numbers.path);
        let problem =
            "students take the same images as the teacher's file, and would normalise them themselves";
        numbers.problems.add(&path, problem, "leave it out");
    }
    if let Err(error) = settings.precision.check_writable() {
        let path = format!("{}.precision", numbers.path);
        numbers.problems.add_error(&path, &error.into());
    }
}

fn verify(settings: &Verify, numbers: &mut Numbers<'_, '_>) {
    numbers.engines(&settings.engines);
    numbers.count("images", settings.images, 1_000_000);
}

fn bench(settings: &Bench, numbers: &mut Numbers<'_, '_>) {
    numbers.engines(&settings.engines);
    for OutOfRange { key, found, expected } in settings.out_of_range() {
        numbers.require(key, false, expected, found);
    }
}
