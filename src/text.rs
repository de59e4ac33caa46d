//! Lines for a terminal: how many columns it has, and text broken at spaces. Knows nothing of what is said.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Columns of a line, if the terminal has as many.
const WIDEST: usize = 80;

/// Columns below which a terminal is not taken at its word.
const NARROWEST: usize = 20;

static COLUMNS: AtomicUsize = AtomicUsize::new(WIDEST);

/// Formats everything for a terminal of that many columns, but never for more than 80.
pub fn fit(columns: usize) {
    COLUMNS.store(columns.clamp(NARROWEST, WIDEST), Ordering::Relaxed);
}

/// Columns of a line.
pub fn columns() -> usize {
    COLUMNS.load(Ordering::Relaxed)
}

/// Breaks a text at its spaces into lines that fit the terminal, each with this indent.
pub fn wrap(text: &str, indent: &str) -> String {
    wrapped(text, indent, columns())
}

/// The words between spaces; a percent sign stays with its number.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    for (place, _) in text.match_indices(' ') {
        let behind = &text[place + 1..];
        if place >= start && !behind.starts_with('%') {
            words.push(&text[start..place]);
            start = place + 1;
        }
    }
    words.push(&text[start..]);
    words
}

fn wrapped(text: &str, indent: &str, columns: usize) -> String {
    let mut lines = Vec::new();
    let mut line = indent.to_string();
    for word in words(text) {
        let started = line.len() > indent.len();
        if started && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::replace(&mut line, format!("{indent}{word}")));
            continue;
        }
        if started {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrapped("one two three", "  ", 9), "  one two\n  three");
        assert_eq!(wrapped("one two three", "", 7), "one two\nthree");
        assert_eq!(wrapped("is 99.5 %, good", "", 8), "is\n99.5 %,\ngood");
        assert_eq!(wrapped("a  b", "", 9), "a  b");
        // A longer word than the line stays whole.
        assert_eq!(wrapped("a incomprehensible b", "", 5), "a\nincomprehensible\nb");
    }
}
