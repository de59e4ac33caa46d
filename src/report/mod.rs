//! Reports the results of a run, as a pure function of its folder: as data, as Markdown, and for a terminal.

mod bench;
mod bench_files;
mod bench_plots;
mod blame;
mod collect;
mod format;
mod front;
mod front_plot;
mod markdown;
mod model;
mod profile;
mod screen;
mod sentences;

pub use bench::{bench_failures, bench_screen};
pub use bench_files::write_bench;
pub use blame::self_test_screen;
pub use collect::{collect, verify_row};
pub use format::{bytes, count, node_name, or_na, percent, plain_table, quoted, short, wrap};
pub use front::ORIGINAL;
pub use front_plot::front_svg;
pub use markdown::markdown;
pub use model::{
    BenchRow, Compression, EngineRow, FrontRow, OriginalRow, Report, SplitAccuracy, StudentRow, VerifyRow,
};
pub use profile::profile_screen;
pub use screen::{screen, verify_screen};
