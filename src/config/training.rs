//! How students are trained: the settings of the two stages that train, with their defaults, and the recipe that both
//! come to.
//!
//! A setting that is added here reaches the training loop in the recipe, which everything in between passes whole.

use serde::{Deserialize, Serialize};

use super::terms::{LossTerms, LossWeights, Method};

/// Everything a pipeline decides about a training: what is minimised, how, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    pub keep: Keep,
    /// Epochs from one validation to the next; the last epoch is always validated.
    pub validate_every: usize,
    pub updates: Updates,
    /// Epochs during which every term but the cross-entropy rises to its weight.
    pub ramp_epochs: usize,
    pub terms: LossTerms,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
}

impl Default for Recipe {
    /// The recipe of a collaboration whose settings are all left out.
    fn default() -> Self {
        Collaborate::default().recipe()
    }
}

/// Each student learns alone; its weights then start the collaboration and teach it as a frozen copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pretrain {
    pub epochs: usize,
    /// Images per step.
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

impl Pretrain {
    /// Cross-entropy only.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            epochs: self.epochs,
            batch: self.batch,
            keep: self.keep,
            validate_every: self.validate_every,
            updates: Updates::Simultaneous,
            ramp_epochs: 0,
            terms: Method::Plain.terms(&LossWeights::default()),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
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
    /// Images per step.
    pub batch: usize,
    pub keep: Keep,
    /// Epochs from one validation to the next; the last epoch is always validated.
    pub validate_every: usize,
    pub updates: Updates,
    /// Epochs during which every term but the cross-entropy rises to its weight; the method decides if it is not written.
    pub ramp_epochs: Option<usize>,
    /// Numbers of the loss that differ from the method's own.
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
            ramp_epochs: None,
            loss: LossWeights::default(),
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
        }
    }
}

impl Collaborate {
    /// The numbers of the loss: those of the method, except where others are written.
    pub fn terms(&self) -> LossTerms {
        self.method.terms(&self.loss)
    }

    /// Epochs during which every term but the cross-entropy rises to its weight.
    pub fn ramp(&self) -> usize {
        self.ramp_epochs.unwrap_or_else(|| self.method.ramp(self.epochs))
    }

    /// Fills in everything that was left to the method.
    pub fn resolve(&mut self) {
        self.ramp_epochs = Some(self.ramp());
        self.loss = self.terms().written();
    }

    pub fn recipe(&self) -> Recipe {
        Recipe {
            epochs: self.epochs,
            batch: self.batch,
            keep: self.keep,
            validate_every: self.validate_every,
            updates: self.updates,
            ramp_epochs: self.ramp(),
            terms: self.terms(),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
        }
    }
}

/// Which weights of a student are kept: those of the best validated epoch (ties go to the later one), or those of
/// the last epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    #[default]
    Best,
    Last,
}

/// The weights from which a collaboration starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The pre-trained weights, with the schedule restarted.
    Pretrained,
    /// New initial weights; the pre-trained copies only teach. The better choice on validation, see
    /// `pipelines/studies/fashion-methods.yaml`.
    #[default]
    Fresh,
}

/// When the students' optimiser steps are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Updates {
    /// All at once, each compared with its peers as they were before the step.
    #[default]
    Simultaneous,
    /// One student after another, each compared with its peers as their own updates have left them (Zhang et al. 2018).
    Alternate,
}

/// How gradients change the weights.
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

/// Stochastic gradient descent in PyTorch's form: weight decay is added to the gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate at the schedule's peak.
    pub lr: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    /// Whether weight decay applies to normalisations and biases too.
    pub decay_norms: bool,
    /// Largest norm of a student's gradient over all its parameters; longer gradients are scaled down to it.
    pub clip: Option<f64>,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { lr: 0.05, momentum: 0.9, nesterov: false, weight_decay: 5e-4, decay_norms: true, clip: None }
    }
}

/// Adam with decoupled weight decay (Loshchilov & Hutter 2019), in PyTorch's form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Learning rate at the schedule's peak.
    pub lr: f64,
    /// Decay rates of the moving averages of the gradient and of its square.
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
    /// Whether weight decay applies to normalisations and biases too.
    pub decay_norms: bool,
    /// Largest norm of a student's gradient, as in [`Sgd::clip`].
    pub clip: Option<f64>,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, decay_norms: true, clip: None }
    }
}

/// The learning rate over the steps, as a factor on the optimiser's `lr`.
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

/// Falls to 0 along half a cosine, step by step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// Epochs at the start in which the learning rate rises linearly to its peak.
    pub warmup_epochs: usize,
}

/// Rises linearly, then falls to 0 along half a cosine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// Share of all steps in which the learning rate rises.
    pub warmup: f64,
}

impl Default for OneCycle {
    fn default() -> Self {
        Self { warmup: 0.3 }
    }
}

/// Multiplied by `factor` at the start of each of the given epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiStep {
    pub milestones: Vec<usize>,
    #[serde(default = "default_factor")]
    pub factor: f64,
    /// Epochs at the start in which the learning rate rises linearly to its peak.
    #[serde(default)]
    pub warmup_epochs: usize,
}

fn default_factor() -> f64 {
    0.1
}
