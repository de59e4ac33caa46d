//! Images and labels: decode, split, augment, hand over in batches.
//!
//! Knows files and pixels; knows no network and no runtime. Everything random here comes from
//! (seed, epoch, sample), so any batch of any epoch can be made again.

mod augment;
mod batches;
mod cifar;
mod decode;
mod digits;
mod folder;
mod idx;
mod load;
mod source;
mod split;
mod store;

pub use batches::{Batch, TrainingOrder, batches_per_epoch, ordered_batches, training_batches};
pub use decode::decode_image;
pub use load::{Dataset, Normalization, load};
pub use source::{DataInfo, describe};
pub use store::Split;
