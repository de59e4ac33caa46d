//! The task that networks are trained for: how well one does on a split, and which decision its answer comes to.
//!
//! There is one task, classification: an answer is a logit per class, its decision is the class of the largest, and a
//! split is scored by the share of right decisions, the accuracy. What selects, trains, verifies and warns asks here and
//! does not know that word; another task would give other answers to the same questions. Knows no file, no network and
//! no tensor library.

mod decision;
mod paired;
mod score;

pub use decision::{Agreement, agreement, decision, margin, ranked};
pub use paired::{Comparison, Paired, paired};
pub use score::{SCORE, Score};
