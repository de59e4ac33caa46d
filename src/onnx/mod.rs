//! ONNX files: the only place that names protobuf.
//!
//! Emission reads the graph's node list; reading a foreign file checks its structure before any runtime sees it;
//! import makes a node list from such a file. Knows no runtime.

mod attributes;
mod cut;
mod emit;
mod engine_casts;
mod expose;
mod external;
mod findings;
mod half;
mod idioms;
mod import;
mod inputs;
mod interface;
mod metadata;
mod names;
mod outputs;
mod proto;
mod read;
mod summary;
mod tensor;

pub use attributes::OPSET;
pub use emit::{IR_VERSION, emit};
pub use findings::{Finding, Severity, findings};
pub use import::{Import, import};
pub use inputs::dims_text;
pub use interface::{contract_with_embedding, plain_contract};
pub use metadata::{Metadata, Scored, ScoredSplit};
pub use outputs::LeftOut;
pub use read::OnnxFile;
pub use summary::{LayerRow, Summary, Totals, graph_rows};
pub use tensor::float16;
