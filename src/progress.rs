//! Progress events of long-running work, for any listener.
//!
//! Training, verification and measurement report here and print nothing; a terminal (`ui`), a test or another
//! program listens. The module owns the events and the calls that emit them. It knows only two simple
//! listeners: [`Silent`] and [`Collected`].

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use crate::epoch::EpochRecord;
use crate::stage::StageKind;

/// A progress event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A line of information.
    Note(String),
    /// A line that the user must see even if progress is not shown.
    Warning(String),
    /// A stage of a run begins or ends.
    Stage {
        /// The stage that begins or ends.
        stage: StageKind,
        /// Its state from now on.
        state: StageState,
    },
    /// A training stage has finished an epoch.
    Epoch {
        /// Name of the stage.
        stage: String,
        /// Number of epochs that the stage has.
        epochs: usize,
        /// Results of the epoch.
        record: EpochRecord,
        /// Training throughput of the epoch.
        images_per_second: f64,
    },
    /// Work begins. Until its [`Event::End`], events about steps belong to it.
    Begin {
        /// Name of the work.
        label: String,
        /// Number of steps.
        total: u64,
        /// Unit of the steps, in the plural.
        unit: String,
    },
    /// An earlier run did the first steps; they do not count towards the rate.
    Resume {
        /// Number of those steps.
        steps: u64,
    },
    /// More steps are done.
    Advance {
        /// Number of those steps; 0 only shows that work goes on.
        steps: u64,
    },
    /// The work that began last has ended, successfully or not.
    End,
}

/// The state of a stage in a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StageState {
    /// It is running.
    Running,
    /// It has run, and its files are written.
    Done {
        /// Wall-clock time.
        seconds: f64,
    },
    /// Its files are written, but their results do not pass the stage's gate.
    GateFailed {
        /// Wall-clock time.
        seconds: f64,
    },
    /// An earlier run did it.
    Reused,
    /// Its files were copied from another run folder.
    Copied,
}

/// A listener. Events come in the order in which things happen; a slow listener delays the work.
pub trait Progress: Sync {
    /// Receives an event.
    fn hear(&self, event: Event);
}

impl dyn Progress + '_ {
    /// Reports a line of information.
    pub fn note(&self, text: impl Into<String>) {
        self.hear(Event::Note(text.into()));
    }

    /// Reports a warning; its text names the remedy.
    pub fn warn(&self, text: impl Into<String>) {
        self.hear(Event::Warning(text.into()));
    }

    /// Reports the state of a stage.
    pub fn stage(&self, stage: StageKind, state: StageState) {
        self.hear(Event::Stage { stage, state });
    }

    /// Begins work of `total` steps, counted in `unit` (plural). It ends when the task is dropped; a task
    /// that begins inside another must end before it.
    pub fn begin(&self, label: &str, total: u64, unit: &str) -> Task<'_> {
        self.hear(Event::Begin { label: label.into(), total, unit: unit.into() });
        Task { progress: self, done: Cell::new(0) }
    }
}

/// Work in progress.
pub struct Task<'a> {
    progress: &'a dyn Progress,
    done: Cell<u64>,
}

impl Task<'_> {
    /// Adds finished steps.
    pub fn advance(&self, steps: u64) {
        self.done.set(self.done.get() + steps);
        self.progress.hear(Event::Advance { steps });
    }

    /// Sets the number of finished steps; a smaller number than before changes nothing.
    pub fn set(&self, steps: u64) {
        self.advance(steps.saturating_sub(self.done.get()));
    }

    /// Counts steps that an earlier run did.
    pub fn resume(&self, steps: u64) {
        self.done.set(self.done.get() + steps);
        self.progress.hear(Event::Resume { steps });
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.progress.hear(Event::End);
    }
}

/// Ignores every event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Silent;

impl Progress for Silent {
    fn hear(&self, _: Event) {}
}

/// Keeps every event.
#[derive(Debug, Default)]
pub struct Collected(Mutex<Vec<Event>>);

impl Collected {
    /// The events since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Progress for Collected {
    fn hear(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_counts_its_steps_and_ends_when_dropped() {
        let heard = Collected::default();
        let progress: &dyn Progress = &heard;
        {
            let task = progress.begin("bench", 9, "cells");
            task.resume(2);
            task.set(5);
            task.set(5);
            task.set(1);
            task.advance(1);
            progress.warn("slow");
        }
        let advance = |steps| Event::Advance { steps };
        let begin = Event::Begin { label: "bench".into(), total: 9, unit: "cells".into() };
        let expected = [
            begin,
            Event::Resume { steps: 2 },
            advance(3),
            advance(0),
            advance(0),
            advance(1),
            Event::Warning("slow".into()),
            Event::End,
        ];
        assert_eq!(heard.take(), expected);
        assert_eq!(heard.take(), []);
    }
}
