//! Formats a measurement as tables for a terminal of 80 columns.

use crate::bench::{
    BenchReport, CellId, CellResult, Comparison, Fresh, ModelProfile, Offline, Outcome, Ratio, Served,
    SpeedUp, Start, Sweep, Trial, Verdict, median,
};
use crate::config::Mode;
use crate::engine::Placement;

use super::format::{bytes, figures, or_na, plain_table, wrap};
use super::profile::profile_screen;

/// Width of the model column.
const MODEL_COLUMNS: usize = 14;

/// Formats the whole measurement.
pub fn bench_screen(report: &BenchReport) -> String {
    let mut parts = Vec::new();
    for mode in Mode::ALL {
        let cells: Vec<&CellResult> = report.cells.iter().filter(|cell| cell.cell.mode == mode).collect();
        if !cells.is_empty() {
            parts.push(latency(mode, &cells));
        }
    }
    if !report.speed_ups.is_empty() {
        parts.push(speed_ups(&report.speed_ups));
    }
    if !report.sweeps.is_empty() {
        parts.push(sweeps(&report.sweeps));
    }
    if !report.offline.is_empty() {
        parts.push(offline(&report.offline));
    }
    if !report.server.is_empty() {
        parts.push(server(&report.server));
    }
    let profile = |found: &ModelProfile| format!("{}\n{}", found.model, profile_screen(&found.profile));
    parts.extend(report.profiles.iter().map(profile));
    parts.extend(fresh(report));
    parts.extend(placements(&report.cells));
    if let Some(comparison) = &report.comparison {
        parts.push(compared(comparison));
    }
    if !report.budgets.is_empty() {
        parts.push(budgets(&report.budgets));
    }
    parts.push(notes(report));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

/// The end of a long name, which says more than its start.
fn short(name: &str) -> String {
    let length = name.chars().count();
    if length <= MODEL_COLUMNS {
        return name.to_string();
    }
    let end: String = name.chars().skip(length - MODEL_COLUMNS + 2).collect();
    format!("..{end}")
}

/// The first columns of every table: model, engine, batch, threads.
fn cell_columns(cell: &CellId) -> Vec<String> {
    vec![short(&cell.model), cell.engine.key().into(), cell.batch.to_string(), cell.threads.to_string()]
}

fn table(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let head = [&[title, "engine", "batch", "thr"], columns].concat();
    plain_table(&head, &rows)
}

fn interval(low: f64, high: f64) -> String {
    format!("{}..{}", figures(low), figures(high))
}

fn latency(mode: Mode, cells: &[&CellResult]) -> String {
    let rows = cells.iter().map(|cell| {
        let value = |percentile: Option<crate::bench::Percentile>| {
            or_na(percentile.map(|found| found.value), figures)
        };
        let bounds = cell.p50.and_then(|p50| Some(interval(p50.low?, p50.high?)));
        let mark = if cell.stability.stable && cell.warm { "" } else { "~" };
        let mut row = cell_columns(&cell.cell);
        row.extend([
            format!("{mark}{}", value(cell.p50)),
            bounds.unwrap_or_else(|| "n/a".into()),
            value(cell.p95),
            value(cell.p99),
            figures(cell.images_per_second),
        ]);
        row
    });
    let columns = ["p50", "95 %", "p95", "p99", "per s"];
    let table = table(&format!("{}, ms", mode.key()), &columns, rows.collect());
    format!("{table}\n{}", wrap(&format!("timed: {}", mode.region()), "  "))
}

/// A cell as budgets name it, for tables with many columns: model, engine and mode, batch and threads.
fn short_columns(cell: &CellId) -> [String; 3] {
    let CellId { model, engine, batch, threads, mode } = cell;
    [short(model), format!("{}/{}", engine.key(), mode.key()), format!("{batch}x{threads}")]
}

fn ratio(ratio: &Ratio) -> [String; 2] {
    [format!("{:.2}", ratio.value), format!("{:.2}..{:.2}", ratio.low, ratio.high)]
}

fn speed_ups(speed_ups: &[SpeedUp]) -> String {
    let rows = speed_ups.iter().map(|speed_up| {
        let [value, interval] = ratio(&speed_up.ratio);
        let value = if speed_up.distinguishable { value } else { format!("({value})") };
        [&short_columns(&speed_up.cell)[..], &[value, interval]].concat()
    });
    let over = speed_ups.first().map_or("", |speed_up| &speed_up.over);
    let columns = [&format!("over {}", short(over)), "engine/mode", "batch", "times faster", "95 %"];
    let table = plain_table(&columns, &rows.collect::<Vec<_>>());
    match speed_ups.iter().all(|speed_up| speed_up.distinguishable) {
        true => table,
        false => format!("{table}\n  in brackets: not distinguishable"),
    }
}

fn sweeps(sweeps: &[Sweep]) -> String {
    let lines = sweeps.iter().map(|sweep| {
        let [model, engine, _] = short_columns(&sweep.knee);
        let CellId { threads, batch, .. } = &sweep.knee;
        let points = points(&sweep.points);
        let text =
            format!("{model} {engine}, threads {threads}: knee at batch {batch}; per s by batch {points}");
        wrap(&text, "  ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn points(points: &[(usize, f64)]) -> String {
    let texts = points.iter().map(|(batch, rate)| format!("{batch}: {}", figures(*rate)));
    texts.collect::<Vec<_>>().join(", ")
}

fn offline(results: &[Offline]) -> String {
    let rows = results.iter().map(|result| {
        let mut row = cell_columns(&result.cell);
        let bounds = result.interval.map_or("n/a".into(), |[low, high]| interval(low, high));
        row.extend([figures(result.images_per_second), bounds]);
        row
    });
    let table = table("offline-like", &["per s", "95 %"], rows.collect());
    format!("{table}\n  at the batch size with the highest throughput, copies included")
}

fn server(results: &[Served]) -> String {
    let row = |served: &Served, what: &str, trial: &Trial| {
        let mut row = cell_columns(&served.cell);
        let p99 = trial.p99.map(|p99| (p99.value, p99.high));
        row.extend([
            format!("{what}{}", figures(trial.rate)),
            format!("{:.0} %", 100.0 * trial.utilisation),
            or_na(trial.p50.map(|p50| p50.value), figures),
            or_na(p99.map(|(value, _)| value), figures),
            or_na(p99.and_then(|(_, high)| high), figures),
        ]);
        row
    };
    let mut rows = Vec::new();
    for served in results {
        rows.extend(served.rates.iter().map(|trial| row(served, "", trial)));
        rows.extend(served.search.iter().map(|search| match &search.highest {
            Some(trial) => row(served, "max ", trial),
            None => [cell_columns(&served.cell), vec!["none holds".into()]].concat(),
        }));
    }
    let table = table("server-like", &["per s", "busy", "p50", "p99", "p99 <"], rows);
    let mut text = "ms from arrival to answer, including the wait in the queue".to_string();
    if let Some(target) =
        results.iter().find_map(|served| served.search.as_ref()).map(|found| found.p99_target_ms)
    {
        text += &format!("; max: the highest rate with p99 below {} ms at 95 % confidence", figures(target));
    }
    format!("{table}\n{}", wrap(&text, "  "))
}

fn fresh(report: &BenchReport) -> Vec<String> {
    let mut parts = Vec::new();
    let middle = |fresh: &Fresh, of: &dyn Fn(&Start) -> f64| {
        figures(median(&fresh.starts.iter().map(of).collect::<Vec<_>>()))
    };
    if report.settings.cold_starts > 0 && !report.fresh.is_empty() {
        let rows = report.fresh.iter().map(|fresh| {
            let mut row = cell_columns(&fresh.cell);
            row.extend([
                middle(fresh, &|start| start.library_ms.unwrap_or_default()),
                middle(fresh, &|start| start.read_ms),
                middle(fresh, &|start| start.session_ms),
                middle(fresh, &|start| start.first_run_ms),
                middle(fresh, &|start| start.process_ms),
                fresh.starts.len().to_string(),
            ]);
            row
        });
        let columns = ["library", "read", "session", "first", "process", "n"];
        let table = table("cold start, ms", &columns, rows.collect());
        let text =
            "medians of fresh processes, files in the page cache; process: with the program's start and exit";
        parts.push(format!("{table}\n{}", wrap(text, "  ")));
    }
    if report.settings.memory && !report.fresh.is_empty() {
        let device =
            report.fresh.iter().any(|fresh| fresh.starts.iter().any(|start| start.device_bytes.is_some()));
        let rows = report.fresh.iter().filter_map(|fresh| {
            let start = fresh.starts.first()?;
            let mut row = cell_columns(&fresh.cell);
            let [before, session, run] = start.rss_bytes;
            row.push(bytes(before));
            row.extend(
                [session, run, start.peak_rss_bytes]
                    .map(|more| format!("+{}", bytes(more.saturating_sub(before)))),
            );
            if device {
                row.push(
                    start
                        .device_bytes
                        .map_or("n/a".into(), |[before, _, after]| bytes(after.saturating_sub(before))),
                );
            }
            Some(row)
        });
        let mut columns = vec!["program", "session", "run", "peak"];
        columns.extend(device.then_some("GPU"));
        parts.push(table("memory", &columns, rows.collect()));
    }
    parts
}

/// Execution providers of the nodes, for models whose nodes run on several providers or on CUDA.
fn placements(cells: &[CellResult]) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    for cell in cells {
        let line = placed(&short(&cell.cell.model), &cell.placement);
        lines.extend(line.filter(|line| !lines.contains(line)));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Execution providers of a model's nodes, if there are several or one of them is CUDA.
pub(super) fn placed(who: &str, placement: &Placement) -> Option<String> {
    let on_cuda = placement.keys().any(|provider| provider.contains("CUDA"));
    let providers = placement.iter().map(|(provider, ops)| {
        let ops: Vec<String> = ops.iter().map(|(op, count)| format!("{count} {op}")).collect();
        format!("{provider}: {}", ops.join(", "))
    });
    let providers: Vec<String> = providers.collect();
    let tells = placement.len() > 1 || on_cuda;
    tells.then(|| wrap(&format!("{who} runs on {}", providers.join("; ")), "  "))
}

fn compared(comparison: &Comparison) -> String {
    let rows = comparison.cells.iter().map(|compared| {
        let mut row = short_columns(&compared.cell).to_vec();
        row.extend(compared.p50.as_ref().map_or_else(|| ["n/a".into(), "n/a".into()], ratio));
        row.push(or_na(compared.p99, |ratio| format!("{ratio:.2}")));
        row.push(compared.outcome.key().into());
        row
    });
    let columns = ["new / old", "engine/mode", "batch", "p50", "95 %", "p99", ""];
    let mut text = plain_table(&columns, &rows.collect::<Vec<_>>());
    let allowed = 100.0 * comparison.allowed;
    text += &format!(
        "\n{}",
        wrap(&format!("against {}, at most {allowed:.0} % slower", comparison.against), "  ")
    );
    for compared in &comparison.cells {
        if let Some(reason) = &compared.reason {
            text += &format!("\n{}", wrap(&format!("{}: {reason}", compared.cell), "  "));
        }
    }
    for (cells, whose) in [
        (&comparison.only_old, "only in the old measurement"),
        (&comparison.only_new, "only in the new measurement"),
    ] {
        for cell in cells {
            text += &format!("\n{}", wrap(&format!("{whose}: {cell}"), "  "));
        }
    }
    for difference in &comparison.differences {
        text += &format!("\n{}", wrap(difference, "  "));
    }
    text
}

fn budgets(verdicts: &[Verdict]) -> String {
    let rows = verdicts.iter().map(|verdict| {
        let model = verdict
            .cell
            .as_ref()
            .map_or("-".into(), |cell| format!("{} {}", short(&cell.model), cell.mode.key()));
        vec![verdict.budget.to_string(), model, verdict.outcome.key().into(), verdict.found.clone()]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let longest = rows.iter().map(|row| row[3].chars().count()).max().unwrap_or(0);
    if longest <= 34 {
        return plain_table(&["budget", "measured", "", "found"], &rows);
    }
    let lines =
        rows.iter().map(|row| wrap(&format!("budget {} {}: {}, {}", row[0], row[1], row[2], row[3]), ""));
    lines.collect::<Vec<_>>().join("\n")
}

fn notes(report: &BenchReport) -> String {
    let mut notes = Vec::new();
    let unstable = report.cells.iter().filter(|cell| !cell.stability.stable).count();
    if unstable > 0 {
        notes.push(format!(
            "{unstable} of {} rows drifted by more than 5 % between thirds of their samples (~)",
            report.cells.len()
        ));
    }
    let cold = report.cells.iter().filter(|cell| !cell.warm).count();
    if cold > 0 {
        notes.push(format!("{cold} rows did not settle within the maximum warm-up time (~)"));
    }
    notes.extend(report.warnings.iter().cloned());
    notes.iter().map(|note| wrap(&format!("Note: {note}."), "")).collect::<Vec<_>>().join("\n")
}

/// The failures, for a gate; `None` if everything held.
pub fn bench_failures(report: &BenchReport) -> Option<String> {
    let mut failures = Vec::new();
    let of = |outcome: Outcome| match outcome {
        Outcome::Holds => None,
        Outcome::Fails => Some("is exceeded by"),
        Outcome::Undecided => Some("is undecided for"),
    };
    for verdict in &report.budgets {
        if let Some(how) = of(verdict.outcome) {
            let what = verdict.cell.as_ref().map_or("any model".into(), |cell| {
                format!("'{}' in mode {}", short(&cell.model), cell.mode.key())
            });
            failures.push(format!("budget {} {how} {what} ({})", verdict.budget, verdict.found));
        }
    }
    for compared in report.comparison.iter().flat_map(|comparison| &comparison.cells) {
        match compared.outcome {
            Outcome::Holds => {}
            Outcome::Fails => failures.push(format!("{} is slower", compared.cell)),
            Outcome::Undecided => {
                failures.push(format!(
                    "{} is undecided: {}",
                    compared.cell,
                    compared.reason.as_deref().unwrap_or("")
                ));
            }
        }
    }
    if report.settings.strict {
        let unstable = report.cells.iter().filter(|cell| !cell.stability.stable || !cell.warm);
        failures.extend(unstable.map(|cell| format!("{} is unstable", cell.cell)));
    }
    (!failures.is_empty()).then(|| failures.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Compared;
    use crate::config::EngineName;

    fn cell() -> CellId {
        let (engine, mode) = (EngineName::OrtCuda, Mode::EndToEnd);
        CellId { model: "a_model_with_a_rather_long_name".into(), engine, batch: 256, threads: 16, mode }
    }

    #[test]
    fn tables_fit_the_screen() {
        let ratio = Ratio { value: 10.123, low: 9.876, high: 12.345 };
        let up = |distinguishable| SpeedUp { cell: cell(), over: cell().model, ratio, distinguishable };
        let compared = Compared {
            cell: cell(),
            p50: Some(Ratio { value: 1.123, low: 0.987, high: 1.234 }),
            p99: Some(1.234),
            outcome: Outcome::Undecided,
            reason: Some("the interval spans the limit".into()),
        };
        let comparison = Comparison {
            against: "a/rather/long/path/to/an/old/measurement/of/some/models/of/last/year.json".into(),
            allowed: 0.05,
            cells: vec![compared],
            only_old: vec![cell()],
            only_new: vec![cell()],
            differences: vec!["CPU was one with a long name, is another with a name that is as long".into()],
        };
        let points = (0..9).map(|power| (1 << power, 123_456.0)).collect();
        let sweep = Sweep { knee: cell(), points };
        let offline = Offline {
            cell: cell(),
            images_per_second: 123_456.0,
            interval: Some([123_456.0, 123_457.0]),
            samples: 1,
            seconds: 1.0,
            sweep: Vec::new(),
        };
        for text in [
            super::speed_ups(&[up(true), up(false)]),
            super::compared(&comparison),
            super::sweeps(&[sweep]),
            super::offline(&[offline]),
        ] {
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
        assert!(super::speed_ups(&[up(false)]).contains("(10.12)"));
    }
}
