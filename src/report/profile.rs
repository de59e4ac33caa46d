//! Formats the profile of a run for a terminal of 80 columns.

use crate::bench::{NodeTime, Profile};

use super::format::{end_of, figures, or_na, plain_table, short, wrap};

/// Number of nodes that get their own row.
const ROWS: usize = 10;

/// Widths of a node's name and of its operation.
const NAME_COLUMNS: usize = 26;
const OP_COLUMNS: usize = 16;

/// Formats the most expensive nodes of a profile, and one row for all others.
pub fn profile_screen(profile: &Profile) -> String {
    let share = |us: f64| format!("{:.1} %", 100.0 * us / profile.total_us.max(f64::MIN_POSITIVE));
    let (shown, rest) = profile.nodes.split_at(profile.nodes.len().min(ROWS));
    let mut rows: Vec<Vec<String>> = shown
        .iter()
        .map(|node| {
            vec![
                end_of(&node.name, NAME_COLUMNS),
                end_of(&node.op, OP_COLUMNS),
                figures(node.us),
                share(node.us),
                node.macs.map_or(String::new(), short),
                node.gflops.map_or(String::new(), figures),
            ]
        })
        .collect();
    let rest_us: f64 = rest.iter().map(|node| node.us).sum();
    let macs = |nodes: &[NodeTime]| nodes.iter().filter_map(|node| node.macs).sum::<u64>();
    let gflops = |nodes: &[NodeTime], us: f64| (us > 0.0).then(|| 2e-3 * macs(nodes) as f64 / us);
    let plural = if rest.len() == 1 { "node" } else { "nodes" };
    rows.push(vec![
        format!("{} more {plural}", rest.len()),
        String::new(),
        figures(rest_us),
        share(rest_us),
        short(macs(rest)),
        or_na(gflops(rest, rest_us), figures),
    ]);
    rows.push(vec![
        "outside nodes".into(),
        String::new(),
        figures(profile.outside_us()),
        share(profile.outside_us()),
    ]);
    let table = plain_table(&["node", "operation", "us", "of run", "MACs", "GFLOP/s"], &rows);
    let threads =
        if profile.threads == 1 { "one thread".into() } else { format!("{} threads", profile.threads) };
    let whole = wrap(
        &format!(
            "{}, batch {}, {threads}: {} ms per run, {} MACs, {} GFLOP/s (mean of the faster half of {} runs)",
            profile.engine,
            profile.batch,
            figures(profile.total_us * 1e-3),
            short(macs(&profile.nodes)),
            or_na(gflops(&profile.nodes, profile.total_us), figures),
            profile.runs
        ),
        "",
    );
    format!("{whole}\n{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_nodes_and_the_rest_fit_the_screen() {
        let node = |index: usize| NodeTime {
            name: format!("a/rather/long/name/of/a/node/{index}"),
            op: "DepthwiseConvolution".into(),
            provider: None,
            us: 123_456.0,
            share: 0.05,
            macs: Some(1_234_000_000),
            gflops: Some(123.4),
            output: vec![8, 64, 112, 112],
        };
        let profile = Profile {
            engine: "ONNX Runtime CPU, not optimised".into(),
            batch: 8,
            threads: 2,
            runs: 50,
            total_us: 12.0 * 123_456.0 + 1_000.0,
            nodes: (0..12).map(node).collect(),
        };
        let screen = profile_screen(&profile);
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        assert_eq!(screen.lines().filter(|line| line.contains("..")).count(), 10);
        assert!(screen.contains("2 more nodes") && screen.contains("246912"), "{screen}");
        assert!(screen.lines().last().unwrap().contains("outside nodes"), "{screen}");
    }
}
