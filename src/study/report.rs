//! A study's results: by cell and student, and compared with the baseline.

use serde::{Deserialize, Serialize};

use crate::config::StudySpec;
use crate::report::plain_table;

use super::compare::{PAIRS_FOR_INTERVAL, Paired, mean_and_deviation, paired};

/// The result of one run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunScores {
    pub cell: String,
    pub seed: u64,
    /// Name, validation score, and test score if there is a test split.
    pub students: Vec<(String, f64, Option<f64>)>,
}

/// The results of a study. Scores are shares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyReport {
    pub name: String,
    pub baseline: String,
    pub cells: Vec<CellReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    pub name: String,
    pub seeds: Vec<u64>,
    /// The cell that this one is compared with.
    pub baseline: Option<String>,
    pub students: Vec<StudentReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentReport {
    pub name: String,
    /// One value per seed.
    pub validation: Vec<f64>,
    /// One value per seed; empty without a test split.
    pub test: Vec<f64>,
    /// Comparison with the same student of the cell's baseline, over the seeds that both have: on the test split, or
    /// on the validation split if there is none.
    pub against_baseline: Option<Paired>,
}

/// Combines the runs of a study.
pub(super) fn summarise(spec: &StudySpec, runs: &[RunScores]) -> StudyReport {
    let cells = spec.cells.iter().map(|cell| {
        let mine: Vec<&RunScores> = runs.iter().filter(|run| run.cell == cell.name).collect();
        let names = mine.first().map(|run| run.students.iter().map(|(name, ..)| name.clone()).collect());
        let names: Vec<String> = names.unwrap_or_default();
        CellReport {
            name: cell.name.clone(),
            seeds: mine.iter().map(|run| run.seed).collect(),
            students: names
                .into_iter()
                .map(|name| student(spec.baseline_of(cell), name, &mine, runs))
                .collect(),
            baseline: spec.baseline_of(cell).map(String::from),
        }
    });
    StudyReport { name: spec.name.clone(), baseline: spec.baseline.clone(), cells: cells.collect() }
}

fn student(baseline: Option<&str>, name: String, mine: &[&RunScores], runs: &[RunScores]) -> StudentReport {
    let found = |run: &RunScores| run.students.iter().find(|(other, ..)| *other == name).cloned();
    let deciding = |run: &RunScores| found(run).map(|(_, validation, test)| test.unwrap_or(validation));
    let mut pairs = Vec::new();
    for run in mine {
        let other = runs.iter().find(|other| Some(other.cell.as_str()) == baseline && other.seed == run.seed);
        if let (Some(one), Some(other)) = (deciding(run), other.and_then(deciding)) {
            pairs.push((one, other));
        }
    }
    StudentReport {
        validation: mine.iter().filter_map(|run| found(run).map(|(_, validation, _)| validation)).collect(),
        test: mine.iter().filter_map(|run| found(run).and_then(|(.., test)| test)).collect(),
        against_baseline: paired(&pairs),
        name,
    }
}

const HEAD: [&str; 7] = ["cell", "student", "n", "validation %", "test %", "against baseline", "p"];

/// Formats the study as a Markdown page.
pub fn markdown(report: &StudyReport) -> String {
    let mut text = format!("# {}\n\n| {} |\n", report.name, HEAD.join(" | "));
    text += "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n";
    for row in rows(report) {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text += &format!(
        "\nMean ± standard deviation over n seeds. Differences are in points, paired by seed with '{}'{}, with the 95 % \
         interval of Student's t from three pairs and the p-value of the paired t-test from five.\n\n## Did \
         distillation help?\n\n",
        report.baseline,
        if others(report) { " or with the cell that is named" } else { "" },
    );
    for line in verdicts(report) {
        text += &format!("- {line}\n");
    }
    text
}

/// Formats the study for a terminal of 80 columns; p-values are beside the verdicts.
pub fn screen(report: &StudyReport) -> String {
    let shown = HEAD.len() - 1;
    let mut rows = rows(report);
    rows.iter_mut().for_each(|row| row.truncate(shown));
    let verdicts: Vec<String> = verdicts(report).iter().map(|line| format!("  {line}")).collect();
    format!("{}\n\ndid distillation help?\n{}", plain_table(&HEAD[..shown], &rows), verdicts.join("\n"))
}

fn rows(report: &StudyReport) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for cell in &report.cells {
        for student in &cell.students {
            let against = student.against_baseline.as_ref();
            let whom = named(report, cell).map_or(String::new(), |baseline| format!(" ({baseline})"));
            rows.push(vec![
                cell.name.clone(),
                student.name.clone(),
                cell.seeds.len().to_string(),
                spread(&student.validation),
                spread(&student.test),
                against.map_or("–".into(), |paired| difference(paired) + &whom),
                against.and_then(|paired| paired.p).map_or("–".into(), p_value),
            ]);
        }
    }
    rows
}

/// Whether a cell is compared with another one than the study's baseline.
fn others(report: &StudyReport) -> bool {
    report.cells.iter().any(|cell| named(report, cell).is_some())
}

/// The cell's baseline, if it is another one than the study's.
fn named<'a>(report: &StudyReport, cell: &'a CellReport) -> Option<&'a str> {
    cell.baseline.as_deref().filter(|baseline| *baseline != report.baseline)
}

fn spread(shares: &[f64]) -> String {
    if shares.is_empty() {
        return "–".into();
    }
    let per_cent: Vec<f64> = shares.iter().map(|share| 100.0 * share).collect();
    match mean_and_deviation(&per_cent) {
        (mean, Some(deviation)) => format!("{mean:.2} ± {deviation:.2}"),
        (mean, None) => format!("{mean:.2}"),
    }
}

fn difference(paired: &Paired) -> String {
    let points = format!("{:+.2}", 100.0 * paired.difference);
    match paired.interval {
        Some([low, high]) => format!("{points} [{:+.2}, {:+.2}]", 100.0 * low, 100.0 * high),
        None => points,
    }
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "<0.001".into() } else { format!("{p:.3}") }
}

/// One sentence per cell and student that has a counterpart in the baseline.
fn verdicts(report: &StudyReport) -> Vec<String> {
    let mut lines = Vec::new();
    for cell in &report.cells {
        for student in &cell.students {
            let Some(paired) = &student.against_baseline else { continue };
            let verdict = match paired.interval {
                Some([low, _]) if low > 0.0 => "yes",
                Some([_, high]) if high < 0.0 => "no, it hurt",
                Some(_) => "not distinguishable",
                None if paired.pairs < PAIRS_FOR_INTERVAL => "too few seeds to say",
                None => "the same difference in every seed",
            };
            let whom = named(report, cell).map_or(String::new(), |baseline| format!(" against {baseline}"));
            let p = paired.p.map_or(String::new(), |p| format!(", p {}", p_value(p)));
            lines.push(format!(
                "{}, {}: {verdict} ({}{whom}{p})",
                cell.name,
                student.name,
                difference(paired)
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn runs_are_paired_by_seed() {
        let spec: StudySpec = parse(
            "{version: 1, name: s, pipeline: p, seeds: [1, 2, 3], baseline: a, cells: [{name: a}, {name: b}]}",
            "s.yaml",
        )
        .unwrap();
        let run = |cell: &str, seed, test| RunScores {
            cell: cell.into(),
            seed,
            students: vec![("tiny".into(), 0.5, Some(test))],
        };
        let runs = [
            run("a", 1, 0.80),
            run("a", 2, 0.70),
            run("a", 3, 0.90),
            run("b", 3, 0.92),
            run("b", 1, 0.83),
            run("b", 2, 0.71),
        ];
        let report = summarise(&spec, &runs);
        let paired = report.cells[1].students[0].against_baseline.unwrap();
        assert!((paired.difference - 0.02).abs() < 1e-12);
        assert_eq!(report.cells[0].students[0].against_baseline, None);
        let text = markdown(&report);
        assert!(
            text.contains("| b | tiny | 3 | 50.00 ± 0.00 | 82.00 ± 10.54 | +2.00 [-0.48, +4.48] | – |"),
            "{text}"
        );
        assert!(text.contains("b, tiny: not distinguishable"), "{text}");
    }

    #[test]
    fn a_cell_may_have_a_baseline_of_its_own() {
        let spec: StudySpec = parse(
            "{version: 1, name: s, pipeline: p, seeds: [1], baseline: a, cells: [{name: a}, {name: b}, {name: c}, \
             {name: d, baseline: c}]}",
            "s.yaml",
        )
        .unwrap();
        let run = |cell: &str, test| RunScores {
            cell: cell.into(),
            seed: 1,
            students: vec![("tiny".into(), 0.5, Some(test))],
        };
        let report = summarise(&spec, &[run("a", 0.5), run("b", 0.6), run("c", 0.7), run("d", 0.9)]);
        let differences: Vec<_> = report
            .cells
            .iter()
            .map(|cell| cell.students[0].against_baseline.map(|paired| paired.difference))
            .collect();
        let [None, Some(b), None, Some(d)] = differences[..] else { panic!("{differences:?}") };
        assert!((b - 0.1).abs() < 1e-12 && (d - 0.2).abs() < 1e-12, "{differences:?}");
        let text = markdown(&report);
        assert!(text.contains("| d | tiny | 1 | 50.00 | 90.00 | +20.00 (c) |"), "{text}");
        assert!(text.contains("paired by seed with 'a' or with the cell that is named"), "{text}");
        assert!(text.contains("d, tiny: too few seeds to say (+20.00 against c)"), "{text}");
    }
}
