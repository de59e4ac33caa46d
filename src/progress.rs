//! What happens while work goes on, told to whoever listens.
//!
//! Training, verification and measurement report here and print nothing; a terminal (`ui`), a test or another program
//! listens. Owns the events and the calls that make them. Knows no listener but two plain ones: [`Silent`] and
//! [`Collected`].

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use crate::epoch::EpochRecord;
use crate::stage::StageKind;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A line for whoever watches.
    Note(String),
    /// What the user must hear of even if they do not watch.
    Warning(String),
    /// A stage of a run begins or ends.
    Stage { stage: StageKind, state: StageState },
    /// A training stage of `epochs` epochs has ended one; `record` says which.
    Epoch { stage: String, epochs: usize, record: EpochRecord, images_per_second: f64 },
    /// Work of `total` steps begins, counted in `unit` (plural). Until its [`Event::End`] the events on steps are of it.
    Begin { label: String, total: u64, unit: String },
    /// An earlier run did the first `steps`; they do not enter the rate.
    Resume { steps: u64 },
    /// More `steps` are done; 0 says that work goes on.
    Advance { steps: u64 },
    /// The work that began last has ended, in success or not.
    End,
}

/// How far a stage of a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StageState {
    Running,
    Done {
        seconds: f64,
    },
    /// Its files are written, but what they say is not good enough to go on.
    GateFailed {
        seconds: f64,
    },
    /// An earlier run did it.
    Reused,
    /// Another run folder had it.
    Copied,
}

/// A listener. Events come in the order in which things happen; one that is slow holds up the work.
pub trait Progress: Sync {
    fn hear(&self, event: Event);
}

impl dyn Progress + '_ {
    /// Tells of something in a line.
    pub fn note(&self, text: impl Into<String>) {
        self.hear(Event::Note(text.into()));
    }

    /// Warns, with the remedy.
    pub fn warn(&self, text: impl Into<String>) {
        self.hear(Event::Warning(text.into()));
    }

    /// Says how far a stage is.
    pub fn stage(&self, stage: StageKind, state: StageState) {
        self.hear(Event::Stage { stage, state });
    }

    /// Begins work of `total` steps, counted in `unit` (plural). It ends when the task is dropped; one that begins
    /// before that must end before it.
    pub fn begin(&self, label: &str, total: u64, unit: &str) -> Task<'_> {
        self.hear(Event::Begin { label: label.into(), total, unit: unit.into() });
        Task { progress: self, done: Cell::new(0) }
    }
}

/// Work that goes on.
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

    /// Says how many steps are finished; fewer than before are none.
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

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Silent;

impl Progress for Silent {
    fn hear(&self, _: Event) {}
}

/// Keeps every event.
#[derive(Debug, Default)]
pub struct Collected(Mutex<Vec<Event>>);

impl Collected {
    /// What was heard since the last call.
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
