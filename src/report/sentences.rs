//! Sentences that the screen and the Markdown report share.

use super::model::Report;

/// The chosen student's cost against that of the largest.
pub(super) fn compressed(report: &Report) -> String {
    let ratio = &report.compression;
    let most = report.students.iter().max_by_key(|student| student.macs);
    let most = most.filter(|student| student.name != report.largest);
    let most = most.map_or(String::new(), |student| format!(", though '{}' has the most MACs", student.name));
    format!(
        "Against '{}' (the most parameters{most}): {} parameters, {} MACs, a file {}",
        report.largest,
        times(ratio.params, ["fewer", "as many", "more"]),
        times(ratio.macs, ["fewer", "as many", "more"]),
        times(ratio.onnx_bytes, ["smaller", "as large", "larger"])
    )
}

/// A ratio as `8.9x fewer`, as `1.7x more` where it is below 1, or as `as many` where it is 1.0.
pub(super) fn times(ratio: f64, [above, alike, below]: [&str; 3]) -> String {
    match ratio {
        ratio if (0.952..1.05).contains(&ratio) => alike.to_string(),
        ratio if ratio >= 1.0 || ratio <= 0.0 => format!("{ratio:.1}x {above}"),
        ratio => format!("{:.1}x {below}", 1.0 / ratio),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_below_one_is_told_as_the_contrary() {
        let speed = |ratio| times(ratio, ["faster", "as fast", "slower"]);
        assert_eq!([speed(6.26), speed(1.0), speed(0.6)], ["6.3x faster", "as fast", "1.7x slower"]);
        assert_eq!([speed(1.06), speed(0.96), speed(0.94)], ["1.1x faster", "as fast", "1.1x slower"]);
    }
}
