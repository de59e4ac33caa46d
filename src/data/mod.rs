//! Images and labels: decoding, splits, augmentation and batches.
//!
//! Knows files and pixels, and how a contract wants them prepared; knows no network and no runtime. All
//! randomness here derives from (seed, epoch, sample), so any batch of any epoch can be reproduced.

mod adapt;
mod augment;
mod batches;
mod cifar;
mod decode;
mod digits;
mod files;
mod fit;
mod folder;
mod idx;
mod info;
mod jpeg;
mod load;
mod mix;
mod prepared;
mod source;
mod split;
mod store;

pub use adapt::{Adaptation, places_of};
pub use augment::{Change, changed};
pub use batches::{
    Batch, Recipe, TrainingBatch, TrainingOrder, batches_per_epoch, ordered_batches, recipes,
    training_batches,
};
pub use decode::{decode_from, decode_image};
pub use files::{FORMATS, Found};
pub use info::{DataInfo, Described};
pub use load::{Dataset, load, unreadable};
pub use mix::{Mix, Way};
pub use prepared::{prepared_batches, prepared_bytes, prepared_image};
pub use source::describe;
pub use store::Split;
