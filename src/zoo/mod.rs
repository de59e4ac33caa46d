//! Ready architectures: functions that build graphs, one file a family.
