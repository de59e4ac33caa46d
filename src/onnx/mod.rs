//! ONNX files: the only place that names protobuf.
//!
//! Emission reads the graph's node list; reading a foreign file checks its structure before any
//! runtime sees it; import makes a node list of such a file. Knows no runtime.

mod cut;
mod emit;
mod ends;
mod expose;
mod external;
mod findings;
mod half;
mod idioms;
mod import;
mod info;
mod metadata;
mod proto;
mod read;
mod summary;
mod tensor;

pub use emit::{EmitOptions, IR_VERSION, OPSET, emit};
pub use findings::{Finding, Severity, findings};
pub use import::{Ending, Import, import};
pub use info::{Dim, Element, TensorInfo};
pub use metadata::{Metadata, Scored, ScoredSplit};
pub use read::OnnxFile;
pub use summary::{LayerRow, Summary, Totals, graph_rows};
pub use tensor::float16;
