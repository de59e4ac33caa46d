//! What a run says: a pure function of its folder, as data, as Markdown, and for a terminal.

mod blame;
mod collect;
mod format;
mod markdown;
mod model;
mod profile;
mod screen;

pub use blame::self_test_screen;
pub use collect::{bench_rows, collect, verify_row};
pub use format::{bytes, count, node_name, percent, plain_table};
pub use markdown::markdown;
pub use model::{BenchRow, Compression, EngineRow, Report, SplitAccuracy, StudentRow, VerifyRow};
pub use profile::profile_screen;
pub use screen::{bench_table, screen, verify_screen};
