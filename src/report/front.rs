//! The original and the students as points: how good each is, what it costs, and which of them none other beats.

use std::collections::BTreeMap;

use crate::config::EngineName;

use super::model::{BenchRow, FrontRow, OriginalRow, SplitAccuracy, StudentRow};

/// The name of the teacher's file among the measured ones; no student can have it.
pub const ORIGINAL: &str = "the original";

/// Rows for the original and each student.
pub(super) fn front(original: &OriginalRow, students: &[StudentRow], bench: &[BenchRow]) -> Vec<FrontRow> {
    let cells = cells(bench);
    let row = |model: &str, accuracy: &SplitAccuracy, params: u64, macs: Option<u64>, onnx_bytes: u64| {
        let measured = cells.iter().filter_map(|cell| {
            let found = bench.iter().find(|row| row.model == model && same_cell(row, cell))?;
            Some((found.engine, found.p50_ms?))
        });
        FrontRow {
            model: model.to_string(),
            accuracy: accuracy.last(),
            params,
            macs,
            onnx_bytes,
            latency_ms: measured.collect(),
            on_front: false,
        }
    };
    let OriginalRow { accuracy, params, macs, onnx_bytes } = original;
    let mut rows = vec![row(ORIGINAL, accuracy, *params, *macs, *onnx_bytes)];
    rows.extend(students.iter().map(|student| {
        let StudentRow { name, accuracy, params, macs, onnx_bytes, .. } = student;
        row(name, accuracy, *params, Some(*macs), *onnx_bytes)
    }));
    let points = points(&rows);
    for (row, point) in rows.iter_mut().zip(&points) {
        row.on_front = !points.iter().any(|other| dominates(other, point));
    }
    rows
}

/// The cell of each engine whose latency is compared: of those in which the original was measured, the one with the first
/// mode, the smallest batch and the fewest threads.
pub(super) fn cells(bench: &[BenchRow]) -> Vec<&BenchRow> {
    let order = |row: &BenchRow| (row.mode, row.batch, row.threads);
    let mut first: BTreeMap<EngineName, &BenchRow> = BTreeMap::new();
    for row in bench.iter().filter(|row| row.model == ORIGINAL) {
        let found = first.entry(row.engine).or_insert(row);
        if order(row) < order(found) {
            *found = row;
        }
    }
    first.into_values().collect()
}

fn same_cell(one: &BenchRow, other: &BenchRow) -> bool {
    let cell = |row: &BenchRow| (row.engine, row.mode, row.batch, row.threads);
    cell(one) == cell(other)
}

/// What is compared of each row; less is better.
fn points(rows: &[FrontRow]) -> Vec<Vec<f64>> {
    let everywhere = |engine: &EngineName| rows.iter().all(|row| row.latency_ms.contains_key(engine));
    let macs_known = rows.iter().all(|row| row.macs.is_some());
    let point = |row: &FrontRow| {
        let mut point = vec![-row.accuracy, row.params as f64, row.onnx_bytes as f64];
        point.extend(row.macs.filter(|_| macs_known).map(|macs| macs as f64));
        point.extend(row.latency_ms.iter().filter(|(engine, _)| everywhere(engine)).map(|(_, ms)| *ms));
        point
    };
    rows.iter().map(point).collect()
}

fn dominates(one: &[f64], other: &[f64]) -> bool {
    one.iter().zip(other).all(|(one, other)| one <= other)
        && one.iter().zip(other).any(|(one, other)| one < other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;

    fn accuracy(validation: f64) -> SplitAccuracy {
        SplitAccuracy { validation, test: None }
    }

    fn student(name: &str, value: f64, cost: u64) -> StudentRow {
        StudentRow {
            alone: None,
            name: name.into(),
            accuracy: accuracy(value),
            params: cost,
            macs: cost,
            onnx_bytes: cost,
            chosen: false,
            against_original: None,
        }
    }

    fn measured(
        model: &str,
        engine: EngineName,
        (mode, batch, threads): (Mode, usize, usize),
        ms: f64,
    ) -> BenchRow {
        BenchRow {
            model: model.into(),
            engine,
            name: engine.key().into(),
            batch,
            threads,
            mode,
            samples: 1,
            p50_ms: Some(ms),
            p90_ms: None,
            p95_ms: None,
            p99_ms: None,
            images_per_second: 1e3 / ms,
            stable: true,
            speed_up: None,
        }
    }

    fn on_front(rows: &[FrontRow]) -> Vec<&str> {
        rows.iter().filter(|row| row.on_front).map(|row| row.model.as_str()).collect()
    }

    #[test]
    fn a_row_that_another_one_beats_is_not_on_the_front() {
        let original = OriginalRow { accuracy: accuracy(0.9), params: 100, macs: Some(100), onnx_bytes: 100 };
        let students = [student("good", 0.85, 50), student("worse", 0.8, 60), student("small", 0.7, 10)];
        let rows = front(&original, &students, &[]);
        assert_eq!(on_front(&rows), [ORIGINAL, "good", "small"]);
        // Equal rows do not beat each other.
        let twins = [student("one", 0.85, 50), student("two", 0.85, 50)];
        assert_eq!(on_front(&front(&original, &twins, &[])), [ORIGINAL, "one", "two"]);
        // A student that is better and smaller leaves no place for the original.
        assert_eq!(on_front(&front(&original, &[student("best", 0.95, 50)], &[])), ["best"]);
    }

    #[test]
    fn a_latency_counts_where_every_row_has_it() {
        let original = OriginalRow { accuracy: accuracy(0.9), params: 100, macs: Some(100), onnx_bytes: 100 };
        let students = [student("good", 0.85, 50), student("fast", 0.8, 60)];
        let one = (Mode::Device, 1, 1);
        let mut bench = vec![
            measured(ORIGINAL, EngineName::Tract, (Mode::Host, 1, 1), 9.0),
            measured(ORIGINAL, EngineName::Tract, (Mode::Device, 8, 1), 8.0),
            measured(ORIGINAL, EngineName::Tract, one, 4.0),
            measured("good", EngineName::Tract, one, 3.0),
            measured("fast", EngineName::Tract, (Mode::Device, 8, 1), 1.0),
        ];
        let rows = front(&original, &students, &bench);
        assert_eq!(on_front(&rows), [ORIGINAL, "good"]);
        assert_eq!(rows[0].latency_ms, BTreeMap::from([(EngineName::Tract, 4.0)]));
        assert!(rows[2].latency_ms.is_empty(), "another batch is another cell");
        bench.push(measured("fast", EngineName::Tract, one, 2.0));
        assert_eq!(on_front(&front(&original, &students, &bench)), [ORIGINAL, "good", "fast"]);
    }
}
