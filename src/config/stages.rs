//! The stages of a pipeline and every number they take, with its default.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::contract::Precision;
use crate::stage::StageKind;

use super::bench::{Bench, EngineName};

/// One stage, written as a map of one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::large_enum_variant, reason = "a pipeline has a handful of stages")]
pub enum Stage {
    Pretrain(Pretrain),
    Collaborate(Collaborate),
    Select(Select),
    Export(Export),
    Verify(Verify),
    Bench(Bench),
    Report(Report),
}

impl Stage {
    pub fn kind(&self) -> StageKind {
        match self {
            Stage::Pretrain(_) => StageKind::Pretrain,
            Stage::Collaborate(_) => StageKind::Collaborate,
            Stage::Select(_) => StageKind::Select,
            Stage::Export(_) => StageKind::Export,
            Stage::Verify(_) => StageKind::Verify,
            Stage::Bench(_) => StageKind::Bench,
            Stage::Report(_) => StageKind::Report,
        }
    }

    /// The stage's key in the file.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }
}

/// Each student learns alone; its weights then start the collaboration and teach it as a frozen copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pretrain {
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    pub keep: Keep,
    /// Epochs from one validation to the next; the last epoch is always validated.
    pub validate_every: usize,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
}

impl Default for Pretrain {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch: 64,
            keep: Keep::Best,
            validate_every: 1,
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
        }
    }
}

/// The students learn together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Collaborate {
    pub method: Method,
    pub start: Start,
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    pub keep: Keep,
    /// Epochs from one validation to the next; the last epoch is always validated.
    pub validate_every: usize,
    pub updates: Updates,
    /// Epochs in which every term but the cross-entropy rises to its weight.
    pub ramp_epochs: usize,
    /// Weights that differ from the method's own.
    pub loss: LossWeights,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
}

impl Default for Collaborate {
    fn default() -> Self {
        Self {
            method: Method::CtslMkt,
            start: Start::default(),
            epochs: 20,
            batch: 64,
            keep: Keep::Best,
            validate_every: 1,
            updates: Updates::default(),
            ramp_epochs: 0,
            loss: LossWeights::default(),
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
        }
    }
}

/// Which weights of a student are kept: of the validated epoch that is best (ties to the later one), or of the
/// last epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    #[default]
    Best,
    Last,
}

/// Where the collaboration starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// From the pre-trained weights, with the schedule restarted.
    Pretrained,
    /// From new initial weights; the pre-trained copies only teach. The better one on validation, see
    /// `pipelines/studies/fashion-methods.yaml`.
    #[default]
    Fresh,
}

/// A named set of loss weights; the loop is the same for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Cross-entropy alone.
    Plain,
    /// Cross-entropy against smoothed labels (Szegedy et al. 2016).
    LabelSmoothing,
    /// Distillation from the frozen teacher (Hinton et al. 2015).
    Kd,
    /// Deep mutual learning (Zhang et al. 2018), mean over peers.
    Dml,
    /// Teacher-free self-distillation (Yuan et al. 2020).
    TfKdSelf,
    /// Teacher-free regularisation (Yuan et al. 2020): a smoothed label is the teacher.
    TfKdReg,
    /// Relational distillation (Park et al. 2019) from the frozen teacher.
    Rkd,
    RkdDistance,
    RkdAngle,
    /// Relational distillation between peers.
    RkdOnline,
    RkdOnlineDistance,
    RkdOnlineAngle,
    /// All three kinds of knowledge (arXiv 2101.08471).
    #[default]
    CtslMkt,
    /// The same without one of its parts.
    CtslMktNoSelf,
    CtslMktNoResponse,
    CtslMktNoRelation,
    CtslMktNoDistance,
    CtslMktNoAngle,
}

/// When students follow their gradients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Updates {
    /// All at once, each compared with its peers as they were before the step.
    #[default]
    Simultaneous,
    /// One after another, each compared with what those before it have become (Zhang et al. 2018).
    Alternate,
}

/// Weights of the loss terms, as in the method's formula; what is not written is the method's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossWeights {
    /// Cross-entropy.
    pub alpha: Option<f64>,
    /// All mutual terms.
    pub beta: Option<f64>,
    /// Self-distillation from the frozen copy.
    pub gamma: Option<f64>,
    /// Distance relations, within the mutual terms.
    pub beta0: Option<f64>,
    /// Angle relations, within the mutual terms.
    pub beta1: Option<f64>,
    /// Peers' responses, within the mutual terms.
    pub beta2: Option<f64>,
    /// Temperature of the self-distillation.
    pub temperature: Option<f64>,
    /// Share of a label's weight that is spread over all classes, in the cross-entropy.
    pub label_smoothing: Option<f64>,
    /// The frozen teacher's responses.
    pub teacher: Option<f64>,
    /// Distance relations of the teacher.
    pub teacher_distance: Option<f64>,
    /// Angle relations of the teacher.
    pub teacher_angle: Option<f64>,
    /// Temperature of the teacher's responses.
    pub teacher_temperature: Option<f64>,
    /// A smoothed label as the teacher: 0.99 for the right class.
    pub smooth_teacher: Option<f64>,
    /// Its temperature.
    pub smooth_temperature: Option<f64>,
}

/// How weights follow gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    Sgd(Sgd),
    AdamW(AdamW),
}

impl Optimizer {
    /// Learning rate at the schedule's peak.
    pub fn lr(&self) -> f64 {
        match self {
            Optimizer::Sgd(sgd) => sgd.lr,
            Optimizer::AdamW(adam) => adam.lr,
        }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::Sgd(Sgd::default())
    }
}

/// Stochastic gradient descent, PyTorch's form: decay is added to the gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate at the schedule's peak.
    pub lr: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    /// Whether normalisations and biases decay too.
    pub decay_norms: bool,
    /// Longest gradient of a student, over all its parameters; longer ones are shortened to it.
    pub clip: Option<f64>,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { lr: 0.05, momentum: 0.9, nesterov: false, weight_decay: 5e-4, decay_norms: true, clip: None }
    }
}

/// Adam with decoupled weight decay (Loshchilov & Hutter 2019), PyTorch's form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Learning rate at the schedule's peak.
    pub lr: f64,
    /// Of the gradient's mean and of its square's.
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
    /// Whether normalisations and biases decay too.
    pub decay_norms: bool,
    /// As [`Sgd::clip`].
    pub clip: Option<f64>,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, decay_norms: true, clip: None }
    }
}

/// How the learning rate goes, a factor on the optimiser's `lr`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    Constant(Constant),
    Cosine(Cosine),
    OneCycle(OneCycle),
    MultiStep(MultiStep),
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::OneCycle(OneCycle::default())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Constant {}

/// Down to 0 along half a cosine, step by step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// Epochs of a line up to the peak, first.
    pub warmup_epochs: usize,
}

/// Up along a line, then down to 0 along half a cosine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// Share of all steps on the way up.
    pub warmup: f64,
}

impl Default for OneCycle {
    fn default() -> Self {
        Self { warmup: 0.3 }
    }
}

/// Times `factor` at the start of each of these epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiStep {
    pub milestones: Vec<usize>,
    #[serde(default = "default_factor")]
    pub factor: f64,
    /// Epochs of a line up to the peak, first.
    #[serde(default)]
    pub warmup_epochs: usize,
}

fn default_factor() -> f64 {
    0.1
}

/// Chooses one student on the validation split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    pub by: SelectBy,
    pub budgets: Budgets,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelectBy {
    #[default]
    Accuracy,
}

/// What the chosen student may cost at most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    pub max_params: Option<Limit>,
    pub max_macs: Option<Limit>,
    pub max_onnx_bytes: Option<Limit>,
}

/// A number (`250000`) or a share of the largest peer's (`25%`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum Limit {
    Absolute(u64),
    /// Per cent of the peer with the most parameters.
    Percent(f64),
}

impl Limit {
    /// The most that is allowed, where the peer with the most parameters has `largest`.
    pub fn allowed(self, largest: u64) -> f64 {
        match self {
            Limit::Absolute(number) => number as f64,
            Limit::Percent(percent) => largest as f64 * percent / 100.0,
        }
    }
}

/// Written by hand, as serde's `try_from` would lose the place of the error.
impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitVisitor;
        impl Visitor<'_> for LimitVisitor {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or a percentage such as 25%")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Limit, E> {
                Ok(Limit::Absolute(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Limit, E> {
                let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
                let percent = percent.filter(|percent| *percent > 0.0 && percent.is_finite());
                let limit = percent.map(Limit::Percent).or_else(|| text.parse().ok().map(Limit::Absolute));
                limit.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(LimitVisitor)
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Absolute(number) => number.to_string(),
            Limit::Percent(percent) => format!("{percent}%"),
        }
    }
}

/// Writes every student as ONNX.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    pub fold_batch_norm: bool,
    /// The file takes pixels from 0 to 1 and normalises them by itself.
    pub fold_normalization: bool,
    /// The file's input and outputs are float32 in any case.
    pub precision: Precision,
    /// Adds the pooled features as a second output.
    pub embedding: bool,
}

impl Default for Export {
    fn default() -> Self {
        Self {
            fold_batch_norm: true,
            fold_normalization: false,
            precision: Precision::Float32,
            embedding: false,
        }
    }
}

/// Proves that the exported file computes what the checkpoint does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    pub engines: Vec<EngineName>,
    /// Validation images compared.
    pub images: usize,
}

impl Default for Verify {
    fn default() -> Self {
        Self { engines: vec![EngineName::Torch, EngineName::OrtCpu, EngineName::Tract], images: 256 }
    }
}

/// Writes `report.md` and `report.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Report {}
