//! The time ONNX Runtime spends in each node, read from its own profile.
//!
//! The profile is a list of events, written to a temporary folder; its times are whole microseconds, rounded down.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ndarray::ArrayViewD;
use serde::Deserialize;

use crate::onnx::OnnxFile;

use super::super::timed::{TimedNode, TimedRuns, warmup};
use super::super::{Engine, EngineOptions};
use super::session::OrtEngine;

/// Suffix that ONNX Runtime appends to a node's name.
const KERNEL: &str = "_kernel_time";

/// Suffix that it appends to the name of the output of a convolution in the channel-blocked layout.
const BLOCKED: &str = "_nchwc";

/// One event of a profile. Only two of its many kinds matter: a node's kernel has run, and a whole run has ended.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    /// Microseconds.
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments {
    op_name: Option<String>,
    provider: Option<String>,
    /// One map per input, from element type to shape.
    input_type_shape: Vec<HashMap<String, Vec<u64>>>,
    output_type_shape: Vec<HashMap<String, Vec<u64>>>,
}

/// Runs a batch in a new CPU session with every node timed. There is no counterpart for CUDA, where ONNX Runtime times
/// only the kernel launches.
///
/// # Errors
/// `InputError` if ONNX Runtime refuses the file; another error if a run fails or the profile cannot be read.
pub fn time_nodes(
    file: &OnnxFile,
    options: &EngineOptions,
    images: ArrayViewD<'_, f32>,
    runs: usize,
) -> Result<TimedRuns> {
    let folder = tempfile::tempdir().context("a folder for the profile")?;
    let mut session = OrtEngine::timed(file, options, &folder.path().join("profile"))?;
    session.bind(images)?;
    for _ in 0..warmup(runs) + runs {
        session.run_bound()?;
    }
    let path = session.end_times()?;
    let timed = read(&path, runs, |tensor| {
        let dims = file.convolution_behind(tensor)?.iter().map(|&dim| u64::try_from(dim).ok());
        dims.collect()
    })?;
    ensure!(
        timed.run_us.len() == runs,
        "ONNX Runtime's profile holds only {} of {runs} runs; it stops at a million events, so ask for fewer runs",
        timed.run_us.len()
    );
    Ok(timed)
}

/// Reads the last `runs` runs of a profile. `weight` returns the shape of the weight that a tensor of the file is
/// computed with.
fn read(path: &Path, runs: usize, weight: impl Fn(&str) -> Option<Vec<u64>>) -> Result<TimedRuns> {
    let open = File::open(path).with_context(|| format!("ONNX Runtime's profile {}", path.display()))?;
    let events: Vec<Event> =
        serde_json::from_reader(BufReader::new(open)).context("ONNX Runtime's profile cannot be read")?;
    timed(events, runs, weight)
}

fn timed(events: Vec<Event>, runs: usize, weight: impl Fn(&str) -> Option<Vec<u64>>) -> Result<TimedRuns> {
    let whole = |event: &Event| event.cat == "Session" && event.name == "model_run";
    let skipped = events.iter().filter(|event| whole(event)).count().saturating_sub(runs);
    let (mut timed, mut run) = (TimedRuns::default(), 0);
    let mut places: HashMap<String, usize> = HashMap::new();
    for event in events {
        if whole(&event) {
            if run >= skipped {
                timed.run_us.push(event.dur as f64);
            }
            run += 1;
        } else if let Some(name) = event.name.strip_suffix(KERNEL).filter(|_| event.cat == "Node")
            && (skipped..skipped + runs).contains(&run)
        {
            let place = match places.get(name) {
                Some(&place) => place,
                None => {
                    timed.nodes.push(described(name, &event.args, &weight)?);
                    places.insert(name.to_string(), timed.nodes.len() - 1);
                    timed.nodes.len() - 1
                }
            };
            let us = &mut timed.nodes[place].us;
            us.resize(run - skipped + 1, 0.0);
            us[run - skipped] += event.dur as f64;
        }
    }
    timed.nodes.iter_mut().for_each(|node| node.us.resize(timed.run_us.len(), 0.0));
    Ok(timed)
}

fn described(
    name: &str,
    arguments: &Arguments,
    weight: impl Fn(&str) -> Option<Vec<u64>>,
) -> Result<TimedNode> {
    let op = arguments
        .op_name
        .clone()
        .with_context(|| format!("the profile names no operator for node '{name}'"))?;
    let tensor = name.strip_suffix(BLOCKED).unwrap_or(name);
    let output = shapes(&arguments.output_type_shape).into_iter().next().unwrap_or_default();
    let macs = macs(&op, &shapes(&arguments.input_type_shape), &output, weight(tensor));
    Ok(TimedNode {
        name: tensor.to_string(),
        op,
        provider: arguments.provider.clone(),
        macs,
        output: output.iter().map(|&dim| usize::try_from(dim)).collect::<Result<_, _>>()?,
        us: Vec::new(),
    })
}

/// Shape of each tensor, regardless of its element type.
fn shapes(typed: &[HashMap<String, Vec<u64>>]) -> Vec<Vec<u64>> {
    typed.iter().filter_map(|shape| shape.values().next().cloned()).collect()
}

/// Multiply-accumulates per run: the number of outputs times the number of terms summed for each.
///
/// In the channel-blocked layout, both the weight and the output of a convolution are padded to whole blocks; `weight`
/// is the unpadded shape from the file.
fn macs(op: &str, inputs: &[Vec<u64>], output: &[u64], weight: Option<Vec<u64>>) -> Option<u64> {
    let product = |dims: &[u64]| dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    match op {
        "Conv" | "FusedConv" | "NhwcFusedConv" => {
            let seen = inputs.get(1)?;
            let fits = |weight: &Vec<u64>| weight.len() == seen.len() && weight.get(2..) == seen.get(2..);
            let weight = weight.as_ref().filter(|weight| fits(weight)).unwrap_or(seen);
            let (&channels, window) = weight.split_first()?;
            let (batch, pixels) = (*output.first()?, output.get(2..)?);
            product(window)?.checked_mul(channels)?.checked_mul(batch)?.checked_mul(product(pixels)?)
        }
        "Gemm" | "FusedGemm" => {
            let depth = product(inputs.first()?)?.checked_div(*output.first()?)?;
            product(output)?.checked_mul(depth)
        }
        "MatMul" | "FusedMatMul" => product(output)?.checked_mul(*inputs.first()?.last()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, runs: usize) -> Result<TimedRuns> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.json");
        std::fs::write(&path, text).unwrap();
        read(&path, runs, |tensor| (tensor == "conv").then(|| vec![24, 3, 3, 3]))
    }

    fn node(name: &str, dur: u64, op: &str, inputs: &str, output: &str) -> String {
        format!(
            r#"{{"cat":"Node","dur":{dur},"name":"{name}","args":{{"op_name":"{op}","provider":"CPUExecutionProvider",
            "input_type_shape":{inputs},"output_type_shape":[{{"float":{output}}}]}}}}"#
        )
    }

    const RUN: &str = r#"{"cat":"Session","dur":50,"name":"model_run","args":{}}"#;

    #[test]
    fn warm_up_is_left_out_and_blocks_of_channels_do_not_count() {
        let conv = |dur| {
            let inputs = r#"[{"float":[2,3,8,8]},{"float":[32,3,3,3]}]"#;
            node("conv_nchwc_kernel_time", dur, "Conv", inputs, "[2,32,8,8]")
        };
        let relu = node("relu_kernel_time", 4, "Relu", "[]", "[2,24,8,8]");
        let fence = r#"{"cat":"Node","dur":9,"name":"conv_fence_before","args":{"op_name":"Conv"}}"#;
        let events = [&conv(90), RUN, &conv(30), fence, &relu, RUN, &conv(40), RUN].join(",");
        let timed = read_text(&format!("[{events}]"), 2).unwrap();
        assert_eq!(timed.run_us, [50.0, 50.0]);
        assert_eq!(timed.nodes.len(), 2);
        assert_eq!((timed.nodes[0].name.as_str(), &timed.nodes[0].us), ("conv", &vec![30.0, 40.0]));
        assert_eq!(timed.nodes[0].macs, Some(2 * 24 * 64 * 27));
        assert_eq!((&timed.nodes[1].us, timed.nodes[1].macs), (&vec![4.0, 0.0], None));
    }

    #[test]
    fn macs_of_products_and_of_what_is_odd() {
        let macs = |op, inputs: &[Vec<u64>], output: &[u64]| macs(op, inputs, output, None);
        assert_eq!(macs("Gemm", &[vec![8, 64], vec![10, 64]], &[8, 10]), Some(8 * 10 * 64));
        assert_eq!(macs("MatMul", &[vec![2, 5, 7], vec![7, 3]], &[2, 5, 3]), Some(2 * 5 * 3 * 7));
        assert_eq!(macs("Conv", &[vec![1, 3, 8, 8]], &[1, 4, 8, 8]), None);
        assert_eq!(macs("Conv", &[vec![1], vec![4]], &[]), None);
        assert_eq!(macs("Gemm", &[vec![4, 4]], &[0, 10]), None);
        assert_eq!(macs("MatMul", &[vec![u64::MAX]], &[u64::MAX]), None);
    }

    #[test]
    fn hostile_profiles_are_errors() {
        let negative = node("a_kernel_time", 1, "Conv", r#"[{"float":[-1,3]}]"#, "[1]");
        let nameless = r#"{"cat":"Node","dur":1,"name":"a_kernel_time","args":{}}"#.to_string();
        let backwards = RUN.replace("50", "-50");
        for text in [
            "",
            "{}",
            "[1]",
            "[{",
            &format!("[{negative},{RUN}]"),
            &format!("[{nameless},{RUN}]"),
            &backwards,
        ] {
            assert!(read_text(text, 1).is_err(), "{text}");
        }
        assert_eq!(read_text("[{}]", 1).unwrap(), TimedRuns::default());
    }
}
