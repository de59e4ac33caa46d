//! Writes a measurement to files: JSON with everything, CSV with one row per cell, SVG with plots.

use std::path::Path;

use anyhow::{Context, Result};

use crate::bench::{BenchReport, CellResult, Percentile};
use crate::config::Quantile;
use crate::error::InputError;
use crate::files::{create_folder, write_atomic};

use super::bench_plots::bench_svg;

/// Writes a measurement in the format of the file's extension. Without a measurement, only checks that it can be
/// written, so that this is known before anything is measured.
///
/// # Errors
/// [`InputError`] if the extension is unknown or the file cannot be written.
pub fn write_bench(path: &Path, report: Option<&BenchReport>) -> Result<()> {
    let format = match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("json") => |report: &BenchReport| Ok(serde_json::to_vec(report)?),
        Some("csv") => bench_csv,
        Some("svg") => |report: &BenchReport| Ok(bench_svg(report)?.into_bytes()),
        _ => {
            let problem = format!("--out {}: the file extension does not name a format", path.display());
            return Err(InputError::new(problem).hint("use the extension .json, .csv or .svg").into());
        }
    };
    match report {
        Some(report) => write_atomic(path, &format(report)?),
        None => {
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            create_folder(folder)?;
            tempfile::tempfile_in(folder).map(|_| ()).map_err(|error| {
                InputError::new(format!("--out {}: {error}", path.display()))
                    .hint("choose a writable folder")
                    .into()
            })
        }
    }
}

/// One row per cell: the fields that identify it, then its figures, with times in milliseconds.
fn bench_csv(report: &BenchReport) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut header: Vec<String> =
        ["model", "engine", "batch", "threads", "mode", "samples"].map(String::from).to_vec();
    for quantile in Quantile::ALL {
        let key = quantile.key();
        header.extend([format!("{key}_ms"), format!("{key}_low_ms"), format!("{key}_high_ms")]);
    }
    let rest = ["mean_ms", "min_ms", "max_ms", "images_per_second", "outliers", "stable", "warm", "load_ms"];
    header.extend(rest.map(String::from));
    header.push("first_run_ms".into());
    writer.write_record(&header)?;
    for cell in &report.cells {
        writer.write_record(row(cell))?;
    }
    writer.into_inner().context("the table is in memory")
}

fn row(cell: &CellResult) -> Vec<String> {
    let id = &cell.cell;
    let mut row = vec![
        id.model.clone(),
        id.engine.key().into(),
        id.batch.to_string(),
        id.threads.to_string(),
        id.mode.key().into(),
        cell.samples.to_string(),
    ];
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for quantile in Quantile::ALL {
        let found: Option<Percentile> = cell.percentile(quantile);
        row.push(number(found.map(|found| found.value)));
        row.push(number(found.and_then(|found| found.low)));
        row.push(number(found.and_then(|found| found.high)));
    }
    row.extend(
        [cell.mean_ms, cell.min_ms, cell.max_ms, cell.images_per_second].map(|value| value.to_string()),
    );
    row.extend([cell.outliers.to_string(), cell.stability.stable.to_string(), cell.warm.to_string()]);
    row.extend([cell.load_ms, cell.first_run_ms].map(|value| value.to_string()));
    row
}
