//! Plots a measurement: the distribution of each cell's samples, and throughput by batch size.

use std::error::Error;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::bench::{BenchReport, CellId, CellResult};
use crate::config::{EngineName, Mode, Quantile};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Result of drawing.
pub(super) type Drawn = Result<(), Box<dyn Error>>;

/// Sizes in pixels: the picture's width, the height of one cell, the margins, and the height of the sweep.
const WIDTH: u32 = 900;
const ROW: u32 = 56;
const FRAME: u32 = 90;
const SWEEP: u32 = 380;

/// Maximum number of labels on an axis, unless it has one for each batch size.
const MOST_TICKS: usize = 12;

/// Number of bins of a distribution; they have equal width on a logarithmic axis.
const BINS: usize = 160;

/// Draws the plots as SVG.
///
/// # Errors
/// If they cannot be drawn, which would be a bug in the program.
pub fn bench_svg(report: &BenchReport) -> Result<String> {
    let mut text = String::new();
    let rows = report.cells.len() as u32;
    let sweep = if report.sweeps.is_empty() { 0 } else { SWEEP };
    let height = FRAME + ROW * rows + sweep;
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        draw(&root, report, height - sweep).map_err(|error| anyhow!("the plot cannot be drawn: {error}"))?;
    }
    Ok(text)
}

fn draw(root: &Area<'_>, report: &BenchReport, split: u32) -> Drawn {
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(split);
    // Modes are not comparable, so they are not drawn as neighbours.
    let by_mode = Mode::ALL.map(|mode| report.cells.iter().filter(move |cell| cell.cell.mode == mode));
    let cells: Vec<&CellResult> = by_mode.into_iter().flatten().collect();
    if !cells.is_empty() {
        distributions(&above, &cells)?;
    }
    if !report.sweeps.is_empty() {
        sweeps(&below, report)?;
    }
    root.present()?;
    Ok(())
}

/// One colour per engine; every row and line also has its name, so colour is not needed to tell them apart.
fn colour(engine: EngineName) -> RGBColor {
    match engine {
        EngineName::Torch => RGBColor(204, 102, 0),
        EngineName::OrtCpu => RGBColor(0, 102, 178),
        EngineName::OrtCuda => RGBColor(60, 140, 60),
        EngineName::Tract => RGBColor(140, 60, 150),
    }
}

fn label(id: &CellId) -> String {
    let CellId { model, engine, batch, threads, mode } = id;
    format!("{model}, {}, batch {batch}, {threads} thr, {}", engine.key(), mode.key())
}

fn distributions(area: &Area<'_>, cells: &[&CellResult]) -> Drawn {
    let low = cells.iter().map(|cell| cell.min_ms).fold(f64::INFINITY, f64::min).max(1e-6) / 1.05;
    let high = cells.iter().map(|cell| cell.max_ms).fold(low * 2.0, f64::max) * 1.05;
    let rows = cells.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption("latency, ms: samples, p50, p95, p99", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(32)
        .build_cartesian_2d((low..high).log_scale().with_key_points(ticks(low, high)), 0.0..rows)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .max_light_lines(0)
        .x_label_formatter(&tick)
        .draw()?;
    for (index, cell) in cells.iter().enumerate() {
        let base = rows - 1.0 - index as f64 + 0.08;
        let colour = colour(cell.cell.engine);
        chart.draw_series([Polygon::new(silhouette(cell, low, high, base), colour.mix(0.5).filled())])?;
        for quantile in [Quantile::P50, Quantile::P95, Quantile::P99] {
            if let Some(found) = cell.percentile(quantile) {
                let line = vec![(found.value, base), (found.value, base + 0.55)];
                chart.draw_series([PathElement::new(line, colour.stroke_width(2))])?;
            }
        }
        let text = label(&cell.cell);
        let text = if cell.stability.stable { text } else { format!("{text} (unstable)") };
        let style = ("sans-serif", 13).into_font().color(&BLACK);
        chart.draw_series([Text::new(text, (low, base + 0.86), style)])?;
    }
    Ok(())
}

/// Round numbers between two bounds, for a logarithmic axis: the series that gives the most labels without too
/// many.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (low.log10().floor() as i32)..=(high.log10().floor() as i32);
    let within = |tenths: &[u32]| -> Vec<f64> {
        let all = decades.clone().flat_map(|decade| {
            tenths.iter().map(move |&tenths| f64::from(tenths) * 10f64.powi(decade) / 10.0)
        });
        all.filter(|tick| (low..=high).contains(tick)).collect()
    };
    let (digits, tenths): (Vec<u32>, Vec<u32>) = ((10..100).step_by(10).collect(), (10..100).collect());
    let kinds = [&[10][..], &[10, 20, 50], &digits, &tenths].map(within);
    let most = kinds.into_iter().filter(|ticks| ticks.len() <= MOST_TICKS).max_by_key(Vec::len);
    most.filter(|ticks| ticks.len() > 1).unwrap_or_else(|| vec![low, high])
}

/// A tick's number, rounded to remove errors in its last bits.
pub(super) fn tick(value: &f64) -> String {
    ((value * 1e6).round() / 1e6).to_string()
}

/// The outline of a cell's histogram, at most 0.55 high.
fn silhouette(cell: &CellResult, low: f64, high: f64, base: f64) -> Vec<(f64, f64)> {
    let width = (high / low).ln() / BINS as f64;
    let mut counts = [0usize; BINS];
    for sample in cell.samples_ms() {
        let bin = ((sample / low).ln() / width) as usize;
        counts[bin.min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let edge = |bin: usize| low * (width * bin as f64).exp();
    let mut outline = vec![(low, base)];
    for (bin, &count) in counts.iter().enumerate() {
        let top = base + 0.55 * count as f64 / most;
        outline.extend([(edge(bin), top), (edge(bin + 1), top)]);
    }
    outline.push((high, base));
    outline
}

fn sweeps(area: &Area<'_>, report: &BenchReport) -> Drawn {
    let points = || report.sweeps.iter().flat_map(|sweep| &sweep.points);
    let batches = points().map(|point| point.0 as f64);
    let (first, last) = batches
        .fold((f64::INFINITY, 1.0), |(low, high): (f64, f64), batch| (low.min(batch), high.max(batch)));
    let least = points().map(|point| point.1).fold(f64::INFINITY, f64::min).max(1e-3);
    let most = points().map(|point| point.1).fold(least, f64::max);
    let (low, high) = (least * 0.8, most * 1.25);
    let mut sizes: Vec<f64> = points().map(|point| point.0 as f64).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    // The x axis leaves room for the names to the right of the lines.
    let mut chart = ChartBuilder::on(area)
        .caption("throughput by batch size; ring: knee", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (first * 0.9..last * 5.0).log_scale().with_key_points(sizes),
            (low..high).log_scale().with_key_points(ticks(low, high)),
        )?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("batch")
        .y_desc("per second")
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .draw()?;
    for (index, sweep) in report.sweeps.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let line: Vec<(f64, f64)> = sweep.points.iter().map(|&(batch, rate)| (batch as f64, rate)).collect();
        let CellId { model, engine, threads, mode, .. } = &sweep.knee;
        let name = format!("{model}, {}, {threads} thr, {}", engine.key(), mode.key());
        chart
            .draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(2)));
        let knee = line.into_iter().filter(|point| point.0 as usize == sweep.knee.batch);
        chart.draw_series(knee.map(|point| Circle::new(point, 7, colour.stroke_width(2))))?;
    }
    chart.configure_series_labels().border_style(BLACK.mix(0.3)).background_style(WHITE.mix(0.8)).draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_has_round_numbers() {
        let labels = |low, high| ticks(low, high).iter().map(tick).collect::<Vec<_>>().join(" ");
        assert_eq!(labels(0.02, 35.0), "0.02 0.05 0.1 0.2 0.5 1 2 5 10 20");
        assert_eq!(labels(0.001, 100_000.0), "0.001 0.01 0.1 1 10 100 1000 10000 100000");
        assert_eq!(labels(0.21, 0.43), "0.3 0.4");
        assert_eq!(labels(1900.0, 5100.0), "2000 3000 4000 5000");
        assert_eq!(labels(0.211, 0.243), "0.22 0.23 0.24");
        assert_eq!(labels(1.02, 1.04), "1.02 1.04");
    }
}
