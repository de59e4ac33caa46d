//! `cohort bench` as scripts call it. No time is asserted here: only what is measured, recorded and gated.

#[path = "support/folder.rs"]
mod folder;

use std::path::Path;

use serde_json::Value;

use folder::Folder;

/// The shortest measurement with a 95th percentile and several turns, which intervals need.
const SHORT: [&str; 6] = ["--min-samples", "70", "--min-seconds", "1.2", "--max-seconds", "5"];

const SHORTEST: [&str; 6] = ["--min-samples", "1", "--min-seconds", "0.01", "--max-seconds", "1"];

const SERIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bench/series.onnx");

fn bench<'a>(args: &[&'a str], limits: &[&'a str]) -> Vec<&'a str> {
    [&["bench"], args, limits].concat()
}

fn list<'a>(report: &'a Value, key: &str) -> &'a Vec<Value> {
    report[key].as_array().unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
fn every_sample_is_kept_and_gives_the_figures() {
    let folder = Folder::new();
    let out = ["--out", "b.json,b.csv", "--out", "b.svg"];
    let report = folder.json(&bench(&[&["m.onnx", "--batch", "1,3"], &out[..]].concat(), &SHORT));
    let cells = list(&report, "cells");
    assert_eq!(cells.len(), 4);
    for cell in cells {
        let samples = list(cell, "samples_ns");
        assert!(samples.len() >= 70 && samples.len() as f64 == number(&cell["samples"]));
        let turns: f64 = list(cell, "turns").iter().map(number).sum();
        assert_eq!(turns, samples.len() as f64);
        let mut sorted: Vec<u64> = samples.iter().map(|sample| sample.as_u64().unwrap()).collect();
        sorted.sort_unstable();
        let p50 = sorted[(sorted.len() as f64 * 0.5).ceil() as usize - 1] as f64 * 1e-6;
        assert!((number(&cell["p50"]["value"]) - p50).abs() < 1e-9);
        assert!(number(&cell["p50"]["low"]) <= p50 && p50 <= number(&cell["p50"]["high"]));
        assert!(cell["p99.9"].is_null() || samples.len() >= 2_995);
        let provider = cell["placement"].get("CPUExecutionProvider");
        assert_eq!(provider.is_some(), cell["cell"]["engine"] == "ort-cpu", "{}", cell["placement"]);
    }
    let model = &report["models"][0];
    assert_eq!((&model["name"], model["blake3"].as_str().unwrap().len()), (&Value::from("m"), 64));
    assert!(report["conditions"]["after"]["load_average"].is_number());
    let written: Value = serde_json::from_slice(&std::fs::read(folder.path("b.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    let mut table = csv::Reader::from_path(folder.path("b.csv")).unwrap();
    let column = table.headers().unwrap().iter().position(|name| name == "p50_ms").unwrap();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    for (row, cell) in rows.iter().zip(cells) {
        assert_eq!(row[column].parse::<f64>().unwrap(), number(&cell["p50"]["value"]));
    }
    let picture = std::fs::read_to_string(folder.path("b.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(picture.contains("m, tract, batch 3, 1 thr, device"));
}

#[test]
fn modes_and_batches_are_measured_side_by_side() {
    let folder = Folder::new();
    folder.model("n.onnx", [3, 8, 8], 2);
    let report = folder.json(&bench(
        &[
            "m.onnx",
            "n.onnx",
            "--engine",
            "ort-cpu",
            "--batch",
            "1,2,4",
            "--image",
            "images",
            "--mode",
            "device,host,end-to-end",
        ],
        &SHORT,
    ));
    assert_eq!(list(&report, "cells").len(), 2 * 3 * 3);
    assert_eq!(list(&report, "sweeps").len(), 2 * 3);
    let ups = list(&report, "speed_ups");
    assert_eq!(ups.len(), 3 * 3);
    for up in ups {
        assert_eq!((&up["over"], &up["cell"]["model"]), (&Value::from("m"), &Value::from("n")));
        let (low, value, high) = (&up["ratio"]["low"], &up["ratio"]["value"], &up["ratio"]["high"]);
        assert!(number(low) <= number(value) && number(value) <= number(high));
    }
}

#[test]
fn servers_and_offline_throughput_are_measured() {
    let folder = Folder::new();
    let scenarios = ["--scenario", "offline,server", "--rate", "1000,2000", "--p99-target", "1000"];
    let report = folder.json(&bench(
        &[&["m.onnx", "--engine", "ort-cpu", "--batch", "1,3"], &scenarios[..]].concat(),
        &SHORTEST,
    ));
    assert!(list(&report, "cells").is_empty());
    let offline = list(&report, "offline");
    assert_eq!((offline.len(), list(&offline[0], "sweep").len()), (1, 2));
    assert!(number(&offline[0]["images_per_second"]) > 0.0);
    let served = list(&report, "server");
    assert_eq!(served.len(), 2);
    for served in served {
        assert_eq!(list(served, "rates").len(), 2);
        for trial in list(served, "rates") {
            assert!(number(&trial["p50"]["value"]) <= number(&trial["p99"]["value"]), "{trial}");
            assert!(number(&trial["utilisation"]) <= 1.0);
        }
        let search = &served["search"];
        let tried = |trial: &Value| number(&trial["rate"]);
        let held = list(search, "trials").iter().filter(|trial| trial["held"] == true).map(tried);
        let most = held.fold(0.0, f64::max);
        assert!(search["highest"].is_null() || tried(&search["highest"]) <= most);
    }
}

#[test]
fn any_input_shape_is_measured() {
    let folder = Folder::new();
    let named = format!("{SERIES} has free axes");
    let (code, text) = folder.fails(&bench(&[SERIES], &SHORTEST));
    assert!(code == Some(2) && text.contains("--shape"), "{named}: {text}");
    let (code, text) = folder.fails(&bench(&[SERIES, "--shape", "5x7"], &SHORTEST));
    assert!(code == Some(2) && text.contains("whose samples are ?x6"), "{text}");
    let report = folder.json(&bench(&[SERIES, "--shape", "5x6", "--batch", "2", "--profile"], &SHORTEST));
    assert_eq!(report["models"][0]["sample"], serde_json::json!([5, 6]));
    assert_eq!(list(&report, "profiles").len(), 2);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    for name in ["nhwc_uint8.onnx", "half.onnx"] {
        let path = fixtures.join(name).display().to_string();
        let report = folder.json(&bench(&[&path, "--batch", "1"], &SHORTEST));
        assert_eq!(list(&report, "cells").len(), 2, "{name}");
    }
}

#[test]
fn fresh_processes_say_what_a_start_costs() {
    let folder = Folder::new();
    let more = ["m.onnx", "--batch", "2", "--cold-start", "--memory", "--scenario", "offline"];
    let report = folder.json(&bench(&more, &SHORTEST));
    let fresh = list(&report, "fresh");
    assert_eq!(fresh.len(), 2);
    for fresh in fresh {
        assert_eq!(list(fresh, "starts").len(), 5);
        for start in list(fresh, "starts") {
            assert_eq!(start["library_ms"].is_null(), fresh["cell"]["engine"] == "tract");
            let parts = ["read_ms", "session_ms", "first_run_ms"].map(|part| number(&start[part]));
            assert!(parts.iter().all(|&part| part > 0.0), "{start}");
            assert!(number(&start["process_ms"]) > parts.iter().sum());
            let resident: Vec<f64> = list(start, "rss_bytes").iter().map(number).collect();
            assert!(resident[0] > 1e6 && number(&start["peak_rss_bytes"]) >= resident[0], "{start}");
        }
    }
}

#[test]
fn what_does_not_hold_is_an_error_after_everything_is_kept() {
    let folder = Folder::new();
    let budgets = ["--budget", "tract:p50<1us@1", "--budget", "ort-cpu:p50<1s@8"];
    let (code, text) = folder
        .fails(&bench(&[&["m.onnx", "--batch", "1", "--out", "b.json"], &budgets[..]].concat(), &SHORT));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("budget tract:p50<0.001ms@1 is"), "{text}");
    assert!(text.contains("budget ort-cpu:p50<1000ms@8 is undecided for any model (nothing"), "{text}");
    let kept: Value = serde_json::from_slice(&std::fs::read(folder.path("b.json")).unwrap()).unwrap();
    assert_eq!(list(&kept, "budgets").len(), 2);

    let one = ["m.onnx", "--engine", "tract", "--batch", "1"];
    let (code, text) =
        folder.fails(&bench(&[&one[..], &["--compare", "b.json", "--allow=-1"]].concat(), &SHORT));
    assert!(code == Some(2) && text.contains("--allow"), "{text}");
    // The machine decides which one is slower; this test checks only that they are compared.
    let output = folder.output(&bench(&[&one[..], &["--compare", "b.json"]].concat(), &SHORT));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let compared = list(&report["comparison"], "cells");
    assert_eq!((compared.len(), list(&report["comparison"], "only_old").len()), (1, 1));
    assert!(number(&compared[0]["p50"]["low"]) <= number(&compared[0]["p50"]["high"]));
    assert_eq!(output.status.code() == Some(0), compared[0]["outcome"] == "holds", "{}", compared[0]);
    let (code, text) = folder.fails(&bench(&["m.onnx", "--batch", "5", "--compare", "b.json"], &SHORTEST));
    assert!(code == Some(2) && text.contains("measured nothing with the same model"), "{text}");
}

#[test]
fn wrong_options_are_refused_before_anything_is_measured() {
    let folder = Folder::new();
    std::fs::write(folder.path("cut.json"), "{\"schema\": 2, \"cells\": [").unwrap();
    std::fs::write(folder.path("older.json"), "{\"schema\": 1}").unwrap();
    std::fs::write(folder.path("broken.png"), "no image").unwrap();
    let one = "keras.onnx";
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    std::fs::copy(fixtures.join("norm_gelu.torchscript.onnx"), folder.path(one)).unwrap();
    for (args, said) in [
        (vec!["m.onnx", "--out", "b.txt"], "use the extension .json, .csv or .svg"),
        (vec!["m.onnx", "--out", "/proc/none/b.json"], "cannot write"),
        (vec!["m.onnx", "--compare", "none.json"], "--compare none.json"),
        (vec!["m.onnx", "--compare", "cut.json"], "EOF"),
        (vec!["m.onnx", "--compare", "older.json"], "its schema is not 2"),
        (vec!["m.onnx", "--mode", "end-to-end"], "--image"),
        (vec!["m.onnx", "--mode", "end-to-end", "--image", "broken.png"], "broken.png"),
        (vec!["m.onnx", "--mode", "fast"], "expected device, host, end-to-end"),
        (vec!["m.onnx", "--scenario", "server"], "rates or p99_target_ms"),
        (vec!["m.onnx", "--scenario", "server", "--rate", "0"], "--rate"),
        (vec!["m.onnx", "--cold-start=2"], "from 5 to 1000"),
        (vec!["m.onnx", "--budget", "tract:p95<2@1"], "a number above 0 with us, ms, s, x or %"),
        (vec!["m.onnx", "--shape", "3x0x8"], "sizes such as 3x224x224"),
    ] {
        let (code, text) = folder.fails(&bench(&args, &SHORTEST));
        assert_eq!(code, Some(2), "{args:?}: {text}");
        assert!(text.contains(said), "{args:?}: {text}");
    }
}
