//! Formats the final screen of a run for a terminal of 80 columns.

use std::path::Path;

use super::bench::placed;
use super::blame::blame_screen;
use super::format::{bytes, figures, or_na, percent, plain_table, quoted, short, wrap};
use super::model::{BenchRow, OriginalRow, Report, VerifyRow};
use super::sentences::{compressed, times};
use crate::bench::Verdict;
use crate::config::Mode;
use crate::onnx::Severity;
use crate::task::Comparison;
use crate::verify::Distances;

/// Formats the report for a terminal; `written` is where it was written with all details, if it was.
pub fn screen(report: &Report, written: Option<&Path>) -> String {
    let mut parts = vec![heading(report), students(report)];
    if let Some(verify) = &report.verify {
        parts.push(verify_table(verify));
    }
    if !report.bench.is_empty() {
        parts.push(bench_tables(report));
    }
    parts.extend(report.original.as_ref().map(|original| gained(report, original)));
    parts.extend(report.budgets.iter().map(|Verdict { budget, cell, outcome, found }| {
        let measured = cell
            .as_ref()
            .map_or(String::new(), |cell| format!(" for '{}' in mode {}", cell.model, cell.mode.key()));
        wrap(&format!("Budget {budget} {}{measured}: {found}", outcome.key()), "")
    }));
    parts.push(summary(report, written));
    parts.join("\n\n")
}

/// What a part of somebody's file has gained and lost, in one sentence.
fn gained(report: &Report, original: &OriginalRow) -> String {
    let share = |part: u64, whole: u64| percent(part as f64 / whole.max(1) as f64);
    let macs =
        original.macs.map_or(String::new(), |macs| format!(", {} of its MACs", share(report.macs, macs)));
    let mut text = format!(
        "Against the original: {} of its parameters{macs}, {} of its bytes",
        share(report.params, original.params),
        share(report.onnx_bytes, original.onnx_bytes),
    );
    let chosen = report.students.iter().find(|student| student.chosen);
    if let Some(found) = chosen.and_then(|student| student.against_original) {
        let Comparison { images, agreement, paired } = found.last();
        let [difference, low, high] =
            [paired.difference, paired.interval[0], paired.interval[1]].map(|value| 100.0 * value);
        text += &format!(
            "; accuracy {difference:+.2} points (95 % interval {low:+.2} to {high:+.2}; of {images} images {} are right \
             only in the student and {} only in the original; {} of the decisions are the same)",
            paired.only_here,
            paired.only_there,
            percent(*agreement),
        );
    }
    for row in report.bench.iter().filter(|row| row.model == report.student && row.batch == 1) {
        if let Some(ratio) = &row.speed_up {
            text += &format!("; {} {:.2} times as fast", row.name, ratio.value);
        }
    }
    wrap(&text, "")
}

fn heading(report: &Report) -> String {
    wrap(
        &format!(
            "{}: '{}' chosen from {} students: {}",
            report.name,
            report.student,
            report.students.len(),
            report.reason
        ),
        "",
    )
}

fn students(report: &Report) -> String {
    let alone = report.students.iter().any(|student| student.alone.is_some());
    let rows: Vec<Vec<String>> = report
        .students
        .iter()
        .map(|student| {
            let mark = if student.chosen { "> " } else { "  " };
            let mut row = vec![format!("{mark}{}", student.name)];
            row.extend(alone.then(|| or_na(student.alone, percent)));
            row.extend([
                percent(student.accuracy.validation),
                or_na(student.accuracy.test, percent),
                super::format::count(student.params),
                short(student.macs),
                bytes(student.onnx_bytes),
            ]);
            row
        })
        .chain(report.original.iter().map(|original| {
            let mut row = vec!["  original".to_string()];
            row.extend(alone.then(String::new));
            row.extend([
                percent(original.accuracy.validation),
                or_na(original.accuracy.test, percent),
                super::format::count(original.params),
                or_na(original.macs, short),
                bytes(original.onnx_bytes),
            ]);
            row
        }))
        .collect();
    let mut head = vec!["  student"];
    head.extend(alone.then_some("alone"));
    head.extend(["validation", "test", "parameters", "MACs", "ONNX"]);
    let table = plain_table(&head, &rows);
    match alone {
        true => format!("{table}\n{}", wrap("alone: validation before the students trained together", "  ")),
        false => table,
    }
}

/// Parity by engine, with the verdict.
fn verify_table(verify: &VerifyRow) -> String {
    let rows: Vec<Vec<String>> = verify
        .engines
        .iter()
        .map(|engine| {
            vec![
                engine.name.clone(),
                or_na(engine.max_abs_error, figures),
                or_na(engine.tolerance_used, |used| match used {
                    used if used < 0.01 => "< 1 %".into(),
                    used if used < 10.0 => format!("{:.0} %", 100.0 * used),
                    used => format!("{used:.0} x"),
                }),
                or_na(engine.top1_agreement, |share| format!("{:.1} %", 100.0 * share)),
                or_na(engine.accuracy, percent),
                if engine.passed { "pass".into() } else { "FAIL".into() },
            ]
        })
        .collect();
    let table = plain_table(&["parity", "max error", "of limit", "top-1", "accuracy", ""], &rows);
    let closest = verify.closest.as_ref().map_or(String::new(), |name| format!("; closest: {name}"));
    let legend = wrap("of limit: the largest error as a share of what is allowed", "  ");
    let verdict = wrap(&format!("{}: against {}{closest}", verify.verdict, verify.truth), "  ");
    format!("{table}\n{legend}\n{verdict}")
}

/// Formats a verification for a terminal: parity, decisions, and the distances between engines.
pub fn verify_screen(verify: &VerifyRow) -> String {
    let decisions: Vec<Vec<String>> = verify
        .engines
        .iter()
        .map(|engine| {
            let share = engine.certified as f64 / engine.samples.max(1) as f64;
            vec![
                engine.name.clone(),
                engine.samples.to_string(),
                engine.flips.to_string(),
                format!("{:.1} %", 100.0 * share),
            ]
        })
        .collect();
    let decisions = plain_table(&["decisions", "samples", "flips", "certified"], &decisions);
    let decisions = format!(
        "{decisions}\n{}",
        wrap(
            "flips: another class than the reference's, ties within the tolerance apart; certified: the error is below half the \
             distance to the next class, so that it cannot change the decision",
            "  ",
        )
    );
    let mut parts = vec![verify_table(verify), decisions, distances(&verify.distances)];
    parts.extend(verify.engines.iter().filter_map(|engine| placed(&engine.name, &engine.placement)));
    parts.extend(verify.blame.iter().map(blame_screen));
    parts.extend(verify.sizes.iter().map(|size| {
        let sample = size.sample.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let used = 100.0 * size.tolerance_used;
        let outcome = if size.passed { "pass" } else { "FAIL" };
        format!("at {sample} too: {} engines, at most {used:.0} % of their limits: {outcome}", size.engines)
    }));
    parts.extend(verify.findings.iter().map(|finding| {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        wrap(&format!("{severity}: {}; {}", finding.problem, finding.remedy), "")
    }));
    parts.join("\n\n")
}

/// The distances between all pairs, below the diagonal; columns are numbered like the rows.
fn distances(distances: &Distances) -> String {
    let count = distances.names.len();
    let header: Vec<String> = (1..count).map(|column| column.to_string()).collect();
    let mut head = vec!["relative distance"];
    head.extend(header.iter().map(String::as_str));
    let rows: Vec<Vec<String>> = (1..=count)
        .map(|row| {
            let mut cells = vec![format!("{row} {}", distances.names[row - 1])];
            let before = distances.relative_l2[row - 1].iter().take(row - 1);
            cells.extend(before.map(|distance| or_na(*distance, |value| format!("{value:.0e}"))));
            cells.resize(count, String::new());
            cells
        })
        .collect();
    plain_table(&head, &rows)
}

/// Latency by cell, one table per mode.
fn bench_tables(report: &Report) -> String {
    let of = |mode: Mode| -> Vec<&BenchRow> { report.bench.iter().filter(|row| row.mode == mode).collect() };
    let modes = Mode::ALL.into_iter().map(|mode| (mode, of(mode))).filter(|(_, rows)| !rows.is_empty());
    let baseline = if report.original.is_some() { "original" } else { report.largest.as_str() };
    modes.map(|(mode, rows)| bench_table(mode, &rows, baseline)).collect::<Vec<_>>().join("\n\n")
}

fn bench_table(mode: Mode, rows: &[&BenchRow], baseline: &str) -> String {
    let unstable = rows.iter().any(|row| !row.stable);
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                format!("{} {}", row.model, row.name),
                row.batch.to_string(),
                row.threads.to_string(),
                format!("{}{}", if row.stable { "" } else { "~" }, or_na(row.p50_ms, figures)),
                or_na(row.p95_ms, figures),
                figures(row.images_per_second),
                row.speed_up.map_or(String::new(), |ratio| format!("{:.1}x", ratio.value)),
            ]
        })
        .collect();
    let title = format!("{}, ms", mode.key());
    let head = [&title, "batch", "threads", "p50", "p95", "images/s", &format!("vs {baseline}")];
    let table = plain_table(&head, &rows);
    match unstable {
        true => format!(
            "{table}\n{}",
            wrap("~ the latency drifted by more than 5 % during this measurement", "  ")
        ),
        false => table,
    }
}

fn summary(report: &Report, written: Option<&Path>) -> String {
    let mut lines = Vec::new();
    if report.student != report.largest && report.original.is_none() {
        let rows = report.bench.iter().filter(|row| row.batch == 1 && row.mode == Mode::Device);
        let speed = rows.filter_map(|row| {
            let ratio = row.speed_up?.value;
            Some(format!("{} on {}", times(ratio, ["faster", "as fast", "slower"]), row.name))
        });
        let speed: Vec<String> = speed.collect();
        let speed =
            if speed.is_empty() { String::new() } else { format!("; at batch 1 {}", speed.join(", ")) };
        lines.push(wrap(&format!("{}{speed}.", compressed(report)), ""));
    }
    lines.extend(report.warnings.iter().map(|warning| wrap(&format!("Warning: {warning}."), "")));
    lines.extend(report.notes.iter().map(|note| wrap(&format!("Note: {note}."), "")));
    let record = match written {
        Some(file) => format!("Report:  {}", file.display()),
        None => format!("Run:     {}", report.run_dir),
    };
    lines.push(match &report.onnx {
        Some(onnx) => {
            let image = report.sample.as_deref().unwrap_or("IMAGE");
            format!(
                "\nStudent: {onnx}\n{record}\nNext:    cohort predict {} {}\n         cohort bench {}",
                quoted(onnx),
                quoted(image),
                quoted(onnx)
            )
        }
        None => format!("\nNothing was exported: the pipeline has no `export` stage.\n{record}"),
    });
    lines.join("\n")
}
