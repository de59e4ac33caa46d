//! The terminal: the only listener that prints, and the place where results are printed. It shows bars if
//! stderr is a terminal, plain lines elsewhere, and only warnings when quiet. Progress and errors go to
//! stderr, results to stdout.
//!
//! Only `commands` and `main` use it.
#![expect(clippy::disallowed_macros, reason = "this module is where the program prints")]

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::epoch::{EpochRecord, StudentRecord};
use crate::error::{exit_code_of, hint_of};
use crate::progress::{Event, Progress, StageState};
use crate::text::{columns, wrap};

/// Time between two plain lines of one bar, if stderr is not a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Columns below which a bar is left out.
const BAR_COLUMNS: usize = 72;

/// Amount and form of what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Terminal,
    Plain,
    Quiet,
}

/// Shows progress on stderr.
pub struct Ui {
    style: Style,
    /// The bars of the work in progress; the last one is shown.
    bars: Mutex<Vec<Bar>>,
}

impl Ui {
    /// Shows bars if stderr is a terminal, and lines otherwise.
    pub fn detect(quiet: bool) -> Self {
        let style = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Style::Quiet,
            (false, true) => Style::Terminal,
            (false, false) => Style::Plain,
        };
        Self { style, bars: Mutex::default() }
    }

    fn bars(&self) -> MutexGuard<'_, Vec<Bar>> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line, above the bar if there is one; on a terminal it is broken at spaces.
    fn print(&self, text: &str) {
        let text = &if self.style == Style::Terminal { wrapped(text) } else { text.to_string() };
        match self.bars().last() {
            Some(bar) => bar.bar.suspend(|| anstream::eprintln!("{text}")),
            None => anstream::eprintln!("{text}"),
        }
    }

    fn line(&self, text: &str) {
        match self.style {
            Style::Terminal | Style::Plain => self.print(text),
            Style::Quiet => {}
        }
    }
}

impl Progress for Ui {
    fn hear(&self, event: Event) {
        match event {
            Event::Note(text) => self.line(&text),
            Event::Warning(text) => self.print(&format!("warning: {text}")),
            Event::Stage { stage, state } => match state {
                StageState::Reused => self.line(&format!("{}: done before, reused", stage.name())),
                StageState::Copied => self.line(&format!("{}: done by a sibling run, copied", stage.name())),
                StageState::Running | StageState::Done { .. } | StageState::GateFailed { .. } => {}
            },
            Event::Epoch { stage, epochs, record, images_per_second } => {
                self.line(&epoch_line(&stage, epochs, &record, images_per_second));
            }
            Event::Begin { label, total, unit } => {
                let bar = Bar::new(self.style, &label, total, unit);
                self.bars().push(bar);
            }
            Event::Resume { steps } => self.bars().last_mut().into_iter().for_each(|bar| bar.resume(steps)),
            Event::Advance { steps } => self.bars().last_mut().into_iter().for_each(|bar| bar.advance(steps)),
            Event::End => drop(self.bars().pop()),
        }
    }
}

/// `pretrain 1/30: validation small 85.20 %, large 90.10 %; 7250 images/s`
fn epoch_line(stage: &str, epochs: usize, record: &EpochRecord, images_per_second: f64) -> String {
    let score = |student: &StudentRecord| match &student.validation {
        Some(score) => format!("{} {score}", student.name),
        None => format!("{} {:.2} %", student.name, 100.0 * student.train_score),
    };
    let validated = record.students.iter().any(|student| student.validation.is_some());
    let split = if validated { "validation" } else { "training" };
    let scores = record.students.iter().map(score).collect::<Vec<_>>().join(", ");
    format!("{stage} {}/{epochs}: {split} {scores}; {images_per_second:.0} images/s", record.epoch)
}

/// A running bar; it disappears when dropped.
struct Bar {
    style: Style,
    bar: ProgressBar,
    unit: String,
    started: Instant,
    printed: Instant,
    resumed: u64,
}

impl Bar {
    fn new(style: Style, label: &str, total: u64, unit: String) -> Self {
        let target = match style {
            Style::Terminal => ProgressDrawTarget::stderr_with_hz(10),
            Style::Plain | Style::Quiet => ProgressDrawTarget::hidden(),
        };
        let template = match columns() < BAR_COLUMNS {
            true => format!("{{prefix}} {{pos}}/{{len}} {unit} left {{eta}}"),
            false => {
                format!(
                    "{{prefix:<12}} {{bar:20}} {{pos}}/{{len}} {unit} {{per_sec}} left {{eta}} {{wide_msg}}"
                )
            }
        };
        let look = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_style(look)
            .with_prefix(label.to_string());
        Self { style, bar, unit, started: Instant::now(), printed: Instant::now(), resumed: 0 }
    }

    fn advance(&mut self, steps: u64) {
        self.bar.inc(steps);
        if self.style == Style::Plain && self.printed.elapsed() >= PLAIN_INTERVAL {
            self.printed = Instant::now();
            self.print_plain();
        }
    }

    fn resume(&mut self, steps: u64) {
        self.resumed = steps;
        self.bar.inc(steps);
        self.bar.reset_eta();
    }

    fn print_plain(&self) {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let rate = (done - self.resumed) as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        let left = (total.saturating_sub(done)) as f64 / rate.max(1e-9);
        let (label, unit, message) = (self.bar.prefix(), &self.unit, self.bar.message());
        anstream::eprintln!(
            "{label}: {done}/{total} {unit}, {rate:.1} per second, {left:.0} s left {message}"
        );
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Fits everything to the terminal, if there is one.
pub fn fit_to_terminal() {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    if let Some((width, _)) = size.or_else(|| terminal_size::terminal_size_of(std::io::stderr())) {
        crate::text::fit(usize::from(width.0));
    }
}

/// Breaks each line of a text at its spaces.
fn wrapped(text: &str) -> String {
    text.lines().map(|line| wrap(line, "")).collect::<Vec<_>>().join("\n")
}

/// Whether a result was printed.
static PRINTED: AtomicBool = AtomicBool::new(false);

#[derive(serde::Serialize)]
struct Failure {
    error: FailureText,
}

#[derive(serde::Serialize)]
struct FailureText {
    message: String,
    hint: Option<String>,
    exit_code: u8,
}

/// Prints the error that stopped the program, with its remedy; with `json` also as a JSON document in the place of a result.
pub fn print_error(error: &anyhow::Error, json: bool) {
    let (message, hint) = (format!("{error:#}"), hint_of(error));
    let told = format!("error: {message}");
    let told = if std::io::stderr().is_terminal() { wrapped(&told) } else { told };
    anstream::eprintln!("{told}");
    if let Some(hint) = &hint {
        let hint = format!("hint: {hint}");
        let hint = if std::io::stderr().is_terminal() { wrap(&hint, "  ") } else { format!("  {hint}") };
        anstream::eprintln!("\n{hint}");
    }
    if json && !PRINTED.load(Ordering::Relaxed) {
        let hint = hint.map(|hint| hint.to_string());
        let failure = Failure { error: FailureText { message, hint, exit_code: exit_code_of(error) } };
        // The error was told; one of the output adds nothing.
        let _ = out_json(&failure);
    }
}

/// Prints that the error is a bug in the program.
pub fn print_fault() {
    anstream::eprintln!("error: this is a bug in cohort");
    anstream::eprintln!("\n  hint: run it again with COHORT_LOG=debug and report its output");
}

/// Prints results to stdout. A reader that closed the pipe is not an error.
///
/// # Errors
/// If stdout cannot be written for another reason, such as a full disk.
pub fn out(text: impl AsRef<str>) -> anyhow::Result<()> {
    use std::io::Write;
    PRINTED.store(true, Ordering::Relaxed);
    let written = writeln!(anstream::stdout().lock(), "{}", text.as_ref());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints one JSON document to stdout.
///
/// # Errors
/// The errors of [`out`].
pub fn out_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    out(serde_json::to_string_pretty(document)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Score;

    #[test]
    fn an_epoch_shows_the_split_it_was_scored_on() {
        let student = |name: &str, validation: Option<f64>| {
            let validation = validation.map(|share| Score::new(8.0 * share, 1.0, 8));
            StudentRecord::new(name, |_| None, 1.0, 0.5, validation)
        };
        let record = |validation| {
            let students = vec![student("small", validation), student("large", validation)];
            EpochRecord { epoch: 3, lr: 0.1, students }
        };
        assert_eq!(
            epoch_line("pretrain", 30, &record(Some(0.8125)), 7250.4),
            "pretrain 3/30: validation small 81.25 %, large 81.25 %; 7250 images/s"
        );
        assert_eq!(
            epoch_line("pretrain", 30, &record(None), 7250.4),
            "pretrain 3/30: training small 50.00 %, large 50.00 %; 7250 images/s"
        );
    }
}
