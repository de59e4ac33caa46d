//! The events that a listener receives while a pipeline runs through the library.
#![cfg(feature = "train")]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use cohort::config::quickstart;
use cohort::folder::{RunFolder, read_metrics};
use cohort::plan::plan;
use cohort::progress::{Collected, Event, StageState};
use cohort::run::{Options, execute};
use cohort::stage::StageKind;

fn heard(out: &Path, overrides: &[String]) -> Vec<Event> {
    let plan = plan(&quickstart(overrides).unwrap()).unwrap();
    let (progress, stop) = (Collected::default(), AtomicBool::new(false));
    let options = Options {
        out: out.to_path_buf(),
        progress: &progress,
        stop: &stop,
        resume: String::new(),
        siblings: Vec::new(),
    };
    let lock = RunFolder::new(out).lock().unwrap();
    execute(&plan, &options, lock).unwrap();
    progress.take()
}

fn states(events: &[Event]) -> Vec<(StageKind, StageState)> {
    let states = events.iter().filter_map(|event| match event {
        Event::Stage { stage, state } => Some((*stage, *state)),
        Event::Note(_)
        | Event::Warning(_)
        | Event::Epoch { .. }
        | Event::Begin { .. }
        | Event::Resume { .. }
        | Event::Advance { .. }
        | Event::End => None,
    });
    states.collect()
}

/// Counts the steps of every task and checks that no task begins before the last one has ended.
fn steps(events: &[Event]) -> Vec<(String, u64, u64)> {
    let (mut tasks, mut open): (Vec<(String, u64, u64)>, _) = (Vec::new(), false);
    for event in events {
        match event {
            Event::Begin { label, total, .. } => {
                assert!(!open);
                tasks.push((label.clone(), 0, *total));
                open = true;
            }
            Event::Advance { steps } | Event::Resume { steps } => {
                assert!(open);
                tasks.last_mut().unwrap().1 += steps;
            }
            Event::End => {
                assert!(open);
                open = false;
            }
            Event::Note(_) | Event::Warning(_) | Event::Stage { .. } | Event::Epoch { .. } => {}
        }
    }
    assert!(!open);
    tasks
}

#[test]
fn stages_epochs_and_steps_are_told_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let set = [
        "device=cpu",
        "stages.collaborate.epochs=2",
        "stages.select.budgets={max_params: 100%}",
        "stages.verify.engines=[torch, tract]",
        "stages.bench={engines: [tract], batch: [1], min_samples: 20, min_seconds: 0.05, max_seconds: 1}",
    ];
    let set = set.map(String::from);
    let events = heard(&out, &set);

    // This pipeline has every stage but the first two, `slim` and `pretrain`.
    let told = states(&events);
    let ended = told.iter().skip(1).step_by(2).map(|(stage, _)| *stage);
    assert_eq!(ended.collect::<Vec<_>>(), StageKind::ALL[2..]);
    for pair in told.chunks(2) {
        assert_eq!(pair[0], (pair[1].0, StageState::Running));
        assert!(matches!(pair[1].1, StageState::Done { seconds } if seconds > 0.0), "{pair:?}");
    }

    let mut records = Vec::new();
    for event in &events {
        if let Event::Epoch { stage, epochs, record, images_per_second } = event {
            assert!(*images_per_second > 0.0);
            records.push((stage.as_str(), *epochs, record.clone()));
        }
    }
    let run = RunFolder::new(&out);
    let mut written = Vec::new();
    let stage = StageKind::Collaborate;
    let lines = read_metrics(&run.metrics(stage)).unwrap();
    written.extend(lines.into_iter().map(|record| (stage.name(), 2, record)));
    assert_eq!(records, written);

    for (label, done, total) in steps(&events).iter().filter(|(label, ..)| label != "bench") {
        assert_eq!(done, total, "{label}");
    }

    let again = states(&heard(&out, &set));
    let reused = |&(_, state): &(StageKind, StageState)| state == StageState::Reused;
    assert!(again.len() == StageKind::ALL[2..].len() && again.iter().all(reused), "{again:?}");
}
