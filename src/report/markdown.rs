//! The report as Markdown.

use std::fmt::Write;

use crate::config::Mode;
use crate::folder::{AgainstOriginal, RunFolder};
use crate::task::Comparison;

use super::format::{bytes, count, figures, or_na, percent};
use super::front::cells;
use super::model::{BenchRow, Report};
use super::sentences::compressed;

/// The report as a Markdown document.
pub fn markdown(report: &Report) -> String {
    let mut text = format!(
        "# {}\n\n**{}** was chosen from {} students: {}.\n",
        report.name,
        report.student,
        report.students.len(),
        report.reason
    );
    if let Some(onnx) = &report.onnx {
        let _ = write!(text, "\nFile: `{onnx}`\n");
    }
    text += "\n## Students\n\n";
    text += &table(
        &["student", "alone", "validation", "test", "parameters", "MACs", "ONNX"],
        report.students.iter().map(|student| {
            vec![
                if student.chosen { format!("**{}**", student.name) } else { student.name.clone() },
                or_na(student.alone, percent),
                percent(student.accuracy.validation),
                or_na(student.accuracy.test, percent),
                count(student.params),
                count(student.macs),
                bytes(student.onnx_bytes),
            ]
        }),
    );
    if report.student != report.largest {
        let _ = write!(text, "\n{}.\n", compressed(report));
    }
    original(&mut text, report);
    verify(&mut text, report);
    bench(&mut text, report);
    if let Some(environment) = &report.environment {
        let versions: Vec<String> =
            environment.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let _ = write!(
            text,
            "\n## Measured on\n\n{}, {}, {}; trained on {}; {}.\n",
            environment.cpu_model,
            environment.cpus(),
            environment.system,
            report.device,
            versions.join(", ")
        );
    }
    if report.students.iter().any(|student| student.alone.is_some()) {
        text += "\n`alone` is the validation accuracy after a student's own training, before the students trained together.\n";
    }
    if !report.warnings.is_empty() {
        text += "\n## Warnings\n\n";
        for warning in &report.warnings {
            let _ = writeln!(text, "- {warning}.");
        }
    }
    text += "\n## Notes\n\n";
    for note in &report.notes {
        let _ = writeln!(text, "- {note}.");
    }
    text
}

/// What each student decides otherwise than the original, and what all of them cost.
fn original(text: &mut String, report: &Report) {
    let Some(original) = &report.original else { return };
    *text += "\n## Against the original\n\n";
    let share = |part: u64, whole: u64| percent(part as f64 / whole.max(1) as f64);
    let macs =
        original.macs.map_or(String::new(), |macs| format!(", {} of its MACs", share(report.macs, macs)));
    let _ = writeln!(
        text,
        "{} has {} of the original's parameters{macs} and {} of its bytes.",
        report.student,
        share(report.params, original.params),
        share(report.onnx_bytes, original.onnx_bytes),
    );
    compared(text, report);
    front(text, report);
}

fn compared(text: &mut String, report: &Report) {
    let mut rows = Vec::new();
    for student in &report.students {
        let Some(AgainstOriginal { validation, test }) = &student.against_original else { continue };
        for (split, found) in [("validation", Some(validation)), ("test", test.as_ref())] {
            let Some(Comparison { images, agreement, paired }) = found else { continue };
            let [low, high] = paired.interval.map(|value| 100.0 * value);
            rows.push(vec![
                student.name.clone(),
                split.to_string(),
                images.to_string(),
                format!("{:+.2}", 100.0 * paired.difference),
                format!("{low:+.2} to {high:+.2}"),
                paired.only_here.to_string(),
                paired.only_there.to_string(),
                percent(*agreement),
            ]);
        }
    }
    if rows.is_empty() {
        return;
    }
    *text += "\nAccuracy less the original's in points, with the 95 % interval of a paired comparison on the same images, and the \
              number of images that only one of the two decides rightly.\n\n";
    let header = [
        "student",
        "split",
        "images",
        "points",
        "95 % interval",
        "only the student",
        "only the original",
        "same decisions",
    ];
    *text += &table(&header, rows.into_iter());
}

fn front(text: &mut String, report: &Report) {
    let cells = cells(&report.bench);
    let latency: Vec<String> = cells.iter().map(|cell| format!("{}, ms", cell.name)).collect();
    let header = ["", "accuracy", "parameters", "MACs", "ONNX"].into_iter();
    let header: Vec<&str> = header.chain(latency.iter().map(String::as_str)).chain(["front"]).collect();
    *text += "\nA row is on the Pareto front if no other row is at least as good in every column that all \
              rows fill, and better in one.";
    if let Some(BenchRow { mode, batch, threads, .. }) = cells.first() {
        let _ = write!(
            text,
            " Latency is the median in the mode `{}` with {threads} {} and a batch of {batch}.",
            mode.key(),
            if *threads == 1 { "thread" } else { "threads" },
        );
    }
    *text += "\n\n";
    let rows = report.front.iter().map(|row| {
        let mut found = vec![
            if row.model == report.student { format!("**{}**", row.model) } else { row.model.clone() },
            percent(row.accuracy),
            count(row.params),
            or_na(row.macs, count),
            bytes(row.onnx_bytes),
        ];
        found.extend(cells.iter().map(|cell| or_na(row.latency_ms.get(&cell.engine).copied(), figures)));
        found.push(if row.on_front { "yes".into() } else { "no".into() });
        found
    });
    *text += &table(&header, rows);
    let plot = RunFolder::new("").front_plot();
    let _ = write!(text, "\n![Accuracy and cost]({})\n", plot.display());
}

fn verify(text: &mut String, report: &Report) {
    let Some(verify) = &report.verify else { return };
    let _ = write!(text, "\n## Parity\n\nVerdict: {}, against the {}.\n\n", verify.verdict, verify.truth);
    *text += &table(
        &["engine", "max error", "of tolerance", "same top-1", "flips", "certified", "accuracy", "verdict"],
        verify.engines.iter().map(|engine| {
            vec![
                engine.name.clone(),
                or_na(engine.max_abs_error, figures),
                or_na(engine.tolerance_used, percent),
                or_na(engine.top1_agreement, percent),
                engine.flips.to_string(),
                percent(engine.certified as f64 / engine.samples.max(1) as f64),
                or_na(engine.accuracy, percent),
                if engine.passed { "pass".into() } else { "fail".into() },
            ]
        }),
    );
    for finding in &verify.findings {
        let _ = writeln!(text, "- {}; {}.", finding.problem, finding.remedy);
    }
    for engine in &verify.engines {
        for problem in &engine.problems {
            let _ = writeln!(text, "- {}: {problem}", engine.name);
        }
    }
}

fn bench(text: &mut String, report: &Report) {
    if report.bench.is_empty() {
        return;
    }
    *text += "\n## Latency\n\n";
    for mode in Mode::ALL {
        latency(text, report, mode);
    }
    let plots = RunFolder::new("").bench_plots();
    let _ = writeln!(text, "![Latency distributions]({})\n", plots.display());
    for verdict in &report.budgets {
        let _ = writeln!(text, "- budget `{}` {}: {}.", verdict.budget, verdict.outcome.key(), verdict.found);
    }
}

fn latency(text: &mut String, report: &Report, mode: Mode) {
    let rows: Vec<_> = report.bench.iter().filter(|row| row.mode == mode).collect();
    if rows.is_empty() {
        return;
    }
    let _ = write!(text, "Milliseconds per run, `{}`: {}.\n\n", mode.key(), mode.region());
    *text += &table(
        &[
            "model", "engine", "batch", "threads", "p50", "p90", "p95", "p99", "images/s", "samples",
            "speed-up",
        ],
        rows.iter().map(|row| {
            vec![
                row.model.clone(),
                row.name.clone(),
                row.batch.to_string(),
                row.threads.to_string(),
                format!("{}{}", if row.stable { "" } else { "~" }, or_na(row.p50_ms, figures)),
                or_na(row.p90_ms, figures),
                or_na(row.p95_ms, figures),
                or_na(row.p99_ms, figures),
                figures(row.images_per_second),
                row.samples.to_string(),
                row.speed_up.map_or("n/a".into(), |ratio| {
                    format!("{:.2} ({:.2} to {:.2})", ratio.value, ratio.low, ratio.high)
                }),
            ]
        }),
    );
    *text += "\n";
}

/// A table; the first column is left-aligned, the others are right-aligned.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n| --- |{}\n", header.join(" | "), " ---: |".repeat(header.len() - 1));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}
