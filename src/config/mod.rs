//! A pipeline and a model file as they are written: strict structures, every default in one place,
//! errors that say file, line, column and key path.
//!
//! This folder knows what may be written, not what it means: names are resolved, shapes inferred
//! and budgets weighed in `plan`.

mod bench;
mod layers;
mod load;
mod model;
mod parse;
mod places;
mod schema;
mod stages;
mod study;
mod terms;

pub use bench::{Bench, Budget, ConvSearch, CudaSettings, EngineName, Mode, OutOfRange, Quantile, Scenario};
pub use layers::{ConvSpec, Features, LayerSpec, LinearSpec, PoolSpec, ResidualSpec, ShuffleSpec};
pub use load::{LoadedPipeline, load_pipeline, quickstart};
pub use model::{
    Activation, Alexnet, Family, MobilenetV2, ModelSpec, Resnet, ResnetCifar, ShufflenetV2, Squeezenet, Vgg,
    Wrn,
};
pub use parse::parse;
pub use schema::{
    Augment, Cifar10Source, Cifar100Labels, Cifar100Source, CropSpec, CutoutSpec, Data, Device, Digits,
    FlipSpec, FolderSource, IdxSource, MixSpec, Pipeline, Precision, RotateSpec, Source, Student,
    TeacherSpec, names_a_file,
};
pub use stages::{
    AdamW, Budgets, Collaborate, Constant, Cosine, Export, Keep, Limit, LossWeights, Method, MultiStep,
    OneCycle, Optimizer, Pretrain, Report, Schedule, Select, SelectBy, Sgd, Stage, Start, Updates, Verify,
};
pub use study::{CellSpec, LoadedStudy, StudySpec, load_study};
pub use terms::LossTerms;
