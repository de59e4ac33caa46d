//! A pipeline and a model file as they are written: strict structures, every default in one place, errors with
//! file, line, column and key path.
//!
//! This folder knows what may be written, not what it means: `plan` resolves names, infers shapes and checks
//! budgets.

mod bench;
mod budget;
mod here;
mod layers;
mod limit;
mod load;
mod measured;
mod model;
mod networks;
mod parse;
mod places;
mod schema;
mod stages;
mod study;
mod terms;
mod training;
mod words;

pub use bench::{Bench, ConvSearch, CudaSettings, OutOfRange, Scenario};
pub use budget::{Budget, LatencyLimit};
pub use here::from_here;
pub use layers::{ConvSpec, Features, LayerSpec, LinearSpec, PoolSpec, ResidualSpec, ShuffleSpec};
pub use limit::Limit;
pub use load::{LoadedPipeline, load_pipeline, pipeline_yaml, quickstart};
pub use measured::{EngineName, Mode, Quantile};
pub use model::{
    Activation, Alexnet, Family, MobilenetV2, ModelSpec, Resnet, ResnetCifar, ShufflenetV2, Squeezenet, Vgg,
    Wrn,
};
pub use networks::{HeadOf, Prepare, Slim, SlimOf, Student, StudentModel, TeacherSpec};
pub use parse::parse;
pub use schema::{
    Augment, Cifar10Source, Cifar100Labels, Cifar100Source, CropSpec, CutoutSpec, Data, Device, Digits,
    FlipSpec, FolderSource, IdxSource, Labels, MixSpec, Pipeline, RotateSpec, Source, TrainingPrecision,
    Truncated, names_a_file,
};
pub use stages::{Budgets, Export, Importance, Report, Select, SelectBy, Slimming, Stage, Verify};
pub use study::{CellSpec, LoadedStudy, StudySpec, load_study};
pub use terms::{LossTerms, LossWeights, Method, TermKind};
pub use training::{
    AdamW, Collaborate, Constant, Cosine, Keep, MultiStep, OneCycle, Optimizer, Pretrain, Recipe, Schedule,
    Sgd, Start, Updates,
};
