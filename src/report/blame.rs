//! Formats where failures begin, and how well the verifier finds that, for a terminal of 80 columns.

use crate::verify::{Blame, FaultKind, FaultReport, NodeError, Outcome, SelfTestReport};

use super::format::{node_name, plain_table, wrap};

/// Formats where a failure begins: the blamed node among its neighbours.
pub fn blame_screen(blame: &Blame) -> String {
    let row = |node: &NodeError| {
        let mark = if blame.node.as_ref() == Some(node) { "> " } else { "  " };
        vec![
            format!("{mark}{}", node_name(&node.node)),
            node.operation.clone(),
            format!("{:.0e}", node.isolated),
            format!("{:.0e}", node.cumulative),
        ]
    };
    let rows: Vec<Vec<String>> = blame.around.iter().map(row).collect();
    let told = wrap(&blame.told(), "");
    if rows.is_empty() {
        return told;
    }
    let samples = blame.samples.len();
    let table = plain_table(&["  node", "operation", "isolated", "cumulative"], &rows);
    format!(
        "{told}\n{table}\n{}",
        wrap(&format!("relative errors, {samples} samples of '{}'", blame.set), "  ")
    )
}

/// Formats a self-test: the result for every kind of fault.
pub fn self_test_screen(report: &SelfTestReport) -> String {
    let rows = FaultKind::ALL.iter().filter_map(|&kind| {
        let faults: Vec<&FaultReport> = report.faults.iter().filter(|fault| fault.kind == kind).collect();
        let count = |counts: &dyn Fn(&FaultReport) -> bool| {
            faults.iter().filter(|fault| counts(fault)).count().to_string()
        };
        let row = vec![
            kind.name().to_string(),
            faults.len().to_string(),
            count(&|fault| fault.outcome != Outcome::NotObservable),
            count(&|fault| fault.outcome == Outcome::Caught),
            count(&|fault| fault.blamed_rightly),
        ];
        (!faults.is_empty()).then_some(row)
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let table = plain_table(&["fault", "planted", "observable", "caught", "blamed rightly"], &rows);
    let mut parts = vec![table];
    let told = |fault: &FaultReport| {
        let layer = &fault.layer;
        let kind = fault.kind.name();
        match fault.outcome {
            Outcome::NotObservable => Some(format!(
                "not observable: {kind} in '{layer}' moves the output by {:.2} of the tolerance",
                fault.moved
            )),
            Outcome::Missed => Some(format!(
                "missed: {kind} in '{layer}', which moves the output by {:.1} times the tolerance",
                fault.moved
            )),
            Outcome::Caught if fault.blamed_rightly => None,
            Outcome::Caught => {
                let blamed = fault.blamed.as_deref().unwrap_or("no node");
                Some(format!("blamed wrongly: {kind} in '{layer}', but {blamed} was blamed"))
            }
        }
    };
    parts.extend(report.faults.iter().filter_map(told).map(|line| wrap(&line, "  ")));
    if !report.not_applicable.is_empty() {
        let names: Vec<&str> = report.not_applicable.iter().map(|kind| kind.name()).collect();
        parts.push(wrap(&format!("not applicable to this model: {}", names.join(", ")), "  "));
    }
    parts.extend(report.alarms.iter().map(|alarm| format!("  false alarm: {alarm}")));
    parts.push(wrap(
        &format!(
            "{} of {} observable faults caught, {} blamed on the right node; {} false alarms on {} untouched copies \
             ({})",
            report.caught(),
            report.observable(),
            report.blamed_rightly(),
            report.alarms.len(),
            report.copies,
            report.engine
        ),
        "",
    ));
    parts.join("\n")
}
