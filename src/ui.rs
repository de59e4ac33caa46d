//! The only place that prints while work goes on: progress bars on a terminal, plain lines
//! elsewhere, nothing when quiet. Everything here goes to stderr; results go to stdout elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Seconds between two plain lines of one bar, off a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ui {
    Terminal,
    Plain,
    Quiet,
}

impl Ui {
    /// Bars if stderr is a terminal, lines otherwise.
    pub fn detect(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Ui::Quiet,
            (false, true) => Ui::Terminal,
            (false, false) => Ui::Plain,
        }
    }

    /// One line of progress.
    pub fn line(self, text: impl AsRef<str>) {
        if self != Ui::Quiet {
            anstream::eprintln!("{}", text.as_ref());
        }
    }

    /// A warning: always shown.
    pub fn warn(self, text: impl AsRef<str>) {
        anstream::eprintln!("warning: {}", text.as_ref());
    }

    /// A bar of `total` steps, counted in `unit` (plural).
    pub fn bar(self, label: &str, total: u64, unit: &str) -> Bar {
        let target = match self {
            Ui::Terminal => ProgressDrawTarget::stderr_with_hz(10),
            Ui::Plain | Ui::Quiet => ProgressDrawTarget::hidden(),
        };
        let template =
            format!("{{prefix:<12}} {{bar:20}} {{pos}}/{{len}} {unit} {{per_sec}} left {{eta}} {{wide_msg}}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_style(style)
            .with_prefix(label.to_string());
        Bar {
            ui: self,
            bar,
            unit: unit.to_string(),
            started: Instant::now(),
            printed: Instant::now(),
            skipped: 0,
        }
    }
}

/// A running bar; gone when dropped.
pub struct Bar {
    ui: Ui,
    bar: ProgressBar,
    unit: String,
    started: Instant,
    printed: Instant,
    skipped: u64,
}

impl Bar {
    /// Adds finished steps.
    pub fn inc(&mut self, steps: u64) {
        self.bar.inc(steps);
        if self.ui == Ui::Plain && self.printed.elapsed() >= PLAIN_INTERVAL {
            self.printed = Instant::now();
            self.print_plain();
        }
    }

    /// Says how many steps are finished.
    pub fn set(&mut self, steps: u64) {
        self.inc(steps.saturating_sub(self.bar.position()));
    }

    /// Counts steps that an earlier run did; they do not enter the rate.
    pub fn skip(&mut self, steps: u64) {
        self.skipped = steps;
        self.bar.inc(steps);
        self.bar.reset_eta();
    }

    /// Text behind the bar, such as the current loss.
    pub fn message(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// A line above the bar.
    pub fn line(&self, text: impl AsRef<str>) {
        match self.ui {
            Ui::Terminal => self.bar.suspend(|| anstream::eprintln!("{}", text.as_ref())),
            Ui::Plain => anstream::eprintln!("{}", text.as_ref()),
            Ui::Quiet => {}
        }
    }

    fn print_plain(&self) {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let rate = (done - self.skipped) as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        let left = (total.saturating_sub(done)) as f64 / rate.max(1e-9);
        let (label, unit, message) = (self.bar.prefix(), &self.unit, self.bar.message());
        anstream::eprintln!("{label}: {done}/{total} {unit}, {rate:.1} a second, {left:.0} s left {message}");
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Prints results to stdout. A reader that closed the pipe is not an error.
///
/// # Errors
/// If stdout cannot be written for another reason, such as a full disk.
pub fn out(text: impl AsRef<str>) -> anyhow::Result<()> {
    use std::io::Write;
    let written = writeln!(anstream::stdout().lock(), "{}", text.as_ref());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints one JSON document to stdout.
///
/// # Errors
/// As [`out`].
pub fn out_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    out(serde_json::to_string_pretty(document)?)
}
