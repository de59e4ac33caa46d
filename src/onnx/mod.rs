//! ONNX files: the only place that names protobuf.
