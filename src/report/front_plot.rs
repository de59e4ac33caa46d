//! Plots the original and the students: accuracy against cost.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::bench_plots::{Area, Drawn, tick, ticks};
use super::front::cells;
use super::model::{BenchRow, FrontRow};

/// Width and height in pixels.
const SIZE: (u32, u32) = (900, 420);

/// Draws the rows of a front as SVG: accuracy against the latency in the first engine in which every row was measured, or against
/// parameters. Rows on the front are filled.
///
/// # Errors
/// If it cannot be drawn, which would be a bug in the program.
pub fn front_svg(front: &[FrontRow], bench: &[BenchRow]) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&root, front, bench).map_err(|error| anyhow!("the plot cannot be drawn: {error}"))?;
    }
    Ok(text)
}

/// The name of the cost on the plot's axis, and each row's.
fn costs(front: &[FrontRow], bench: &[BenchRow]) -> (String, Vec<f64>) {
    for cell in cells(bench) {
        let latency = front.iter().map(|row| row.latency_ms.get(&cell.engine).copied());
        if let Some(latency) = latency.collect() {
            return (format!("{}, ms, batch {}", cell.name, cell.batch), latency);
        }
    }
    ("parameters".into(), front.iter().map(|row| row.params as f64).collect())
}

fn draw(area: &Area<'_>, front: &[FrontRow], bench: &[BenchRow]) -> Drawn {
    area.fill(&WHITE)?;
    let (cost, costs) = costs(front, bench);
    let percents: Vec<f64> = front.iter().map(|row| 100.0 * row.accuracy).collect();
    let [(left, right), (low, high)] = [&costs, &percents].map(|values| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        (least, values.iter().copied().fold(least, f64::max))
    });
    // The names to the right of the points need room.
    let (left, right, margin) = ((left * 0.85).max(1e-6), right * 1.6, 0.15 * (high - low).max(1.0));
    let mut chart = ChartBuilder::on(area)
        .caption("accuracy and cost; filled: on the Pareto front", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (left..right).log_scale().with_key_points(ticks(left, right)),
            low - margin..high + margin,
        )?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc(cost)
        .y_desc("accuracy, %")
        .x_label_formatter(&tick)
        .y_label_formatter(&|percent| format!("{percent:.1}"))
        .draw()?;
    let blue = RGBColor(0, 102, 178);
    for (row, point) in front.iter().zip(costs.into_iter().zip(percents)) {
        let style = if row.on_front { blue.filled() } else { blue.stroke_width(2) };
        chart.draw_series([Circle::new(point, 6, style)])?;
        let font = ("sans-serif", 14).into_font().color(&BLACK);
        chart.draw_series([EmptyElement::at(point) + Text::new(row.model.clone(), (10, -7), font)])?;
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn without_latency_the_cost_is_parameters() {
        let row = |model: &str, params: u64, on_front: bool| FrontRow {
            model: model.into(),
            accuracy: 0.9,
            params,
            macs: Some(1),
            onnx_bytes: 1,
            latency_ms: BTreeMap::new(),
            on_front,
        };
        let picture = front_svg(&[row("whole", 20_000, false), row("half", 10_000, true)], &[]).unwrap();
        for part in ["parameters", "whole", "half", "10000", "20000"] {
            assert!(picture.contains(part), "{part}: {picture}");
        }
        assert_eq!(picture.matches("<circle").count(), 2);
    }
}
