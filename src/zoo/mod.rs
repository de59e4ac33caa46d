//! Ready architectures: functions that build graphs, one file per family.
//!
//! The families have the form used by the CIFAR distillation benchmarks, down to the number of parameters.
//! Knows graphs and model files; knows no data set and no runtime.

mod alexnet;
mod blocks;
mod build;
mod error;
mod layers;
mod limits;
mod mobilenet_v2;
mod ready;
mod resnet;
mod resnet_cifar;
mod shufflenet_v2;
mod squeezenet;
mod vgg;
mod wrn;

pub use build::build;
pub use ready::{find_model, is_model_path, ready};
