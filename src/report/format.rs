//! Formats numbers and tables for people.

use comfy_table::{CellAlignment, ContentArrangement, Table};

use crate::text::columns;
pub use crate::text::wrap;

/// `1,079,018`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three figures with a decimal prefix: `41.4 M`.
pub fn short(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1} k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.2} G", number as f64 / 1e9),
    }
}

/// Bytes with a binary prefix.
pub fn bytes(number: u64) -> String {
    match number {
        0..1_024 => format!("{number} B"),
        1_024..1_048_576 => format!("{:.0} KiB", number as f64 / 1_024.0),
        _ => format!("{:.1} MiB", number as f64 / 1_048_576.0),
    }
}

/// A share as a percentage with two decimals.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Three significant figures.
pub fn figures(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    match value.abs() {
        size if size < 1e-3 => format!("{value:.1e}"),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        size if size < 1e7 => format!("{value:.0}"),
        _ => format!("{value:.2e}"),
    }
}

/// Quotes a word for a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A value, or `n/a`.
pub fn or_na<T>(value: Option<T>, format: fn(T) -> String) -> String {
    value.map_or_else(|| "n/a".into(), format)
}

/// A table without lines: the first column is left-aligned, the others are right-aligned. Where the terminal is narrower than
/// the table, its rows are written below each other.
pub fn plain_table(header: &[&str], rows: &[Vec<String>]) -> String {
    let table = side_by_side(header, rows);
    let widest = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    if widest > columns() && columns() < 80 { stacked(header, rows) } else { table }
}

/// One line for each field of each row.
fn stacked(header: &[&str], rows: &[Vec<String>]) -> String {
    let widest = header.iter().skip(1).map(|name| name.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for row in rows {
        let mut fields = header.iter().zip(row);
        lines.extend(
            fields
                .next()
                .map(|(name, value)| format!("  {} {}", name.trim(), value.trim()).trim_end().to_string()),
        );
        for (name, value) in fields.filter(|(_, value)| !value.trim().is_empty()) {
            lines.push(format!("    {name:<widest$}  {}", value.trim()));
        }
    }
    lines.join("\n")
}

fn side_by_side(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.clone());
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if index == 0 { 2 } else { 1 }, 1));
        column.set_cell_alignment(if index == 0 { CellAlignment::Left } else { CellAlignment::Right });
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
    lines.join("\n")
}

/// Width of a node's name.
const NODE_COLUMNS: usize = 34;

/// The name of a node in a table; a long name is cut to its end, which says more.
pub fn node_name(name: &str) -> String {
    end_of(name, NODE_COLUMNS)
}

/// A text in at most this many columns; a long text is cut to its end.
pub fn end_of(text: &str, columns: usize) -> String {
    let length = text.chars().count();
    if length <= columns {
        return text.to_string();
    }
    let end: String = text.chars().skip(length + 2 - columns).collect();
    format!("..{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_can_stand_below_another() {
        let rows = [["> tiny", "99 %", "1"], ["  big", "", "20"]].map(|row| row.map(String::from).to_vec());
        let text = stacked(&["  student", "accuracy", "MACs"], &rows);
        let expected =
            "  student > tiny\n    accuracy  99 %\n    MACs      1\n  student big\n    MACs      20";
        assert_eq!(text, expected);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1_079_018), "1,079,018");
        assert_eq!(count(999), "999");
        assert_eq!(short(41_400_000), "41.4 M");
        assert_eq!(bytes(77_824), "76 KiB");
        assert_eq!(percent(0.97214), "97.21 %");
        assert_eq!(
            (figures(0.0), figures(0.000_012_3), figures(12.345)),
            ("0".into(), "1.2e-5".into(), "12.3".into())
        );
    }
}
