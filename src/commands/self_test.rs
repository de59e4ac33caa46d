//! `cohort verify --self-test`: tests whether the verifier finds faults planted in copies of a file.

use anyhow::Result;

use crate::bench::usable_threads;
use crate::config::EngineName;
use crate::error::{GateFailed, InputError};
use crate::report::self_test_screen;
use crate::ui::{out, out_json};
use crate::validate::{Request, image_input, specimen};
use crate::verify::{Specimen, self_test};

use super::Common;

/// Plants faults in copies of the file's network, or of its checkpoint, and prints how many were found.
///
/// # Errors
/// [`GateFailed`] if too few were found or if an untouched copy failed; [`InputError`] if the file cannot be
/// imported, or for more than one engine.
pub fn run(request: &Request, common: &Common) -> Result<()> {
    let engine = match request.engines.as_slice() {
        [] => common.engines(&[])?[0],
        [engine] if *engine != EngineName::Torch => *engine,
        _ => {
            return Err(InputError::new("a self-test runs its copies on a single engine")
                .hint("give one of ort-cpu, ort-cuda and tract")
                .into());
        }
    };
    let (file, model) = specimen(request)?;
    let name = file.path.display().to_string();
    let report = self_test(
        &Specimen {
            name: &name,
            model: &model,
            image: image_input(&file, None)?,
            engine,
            threads: usable_threads(),
            seed: request.seed,
        },
        &common.ui(),
    )?;
    if common.json {
        out_json(&report)?;
    } else {
        out(self_test_screen(&report))?;
    }
    match report.passed() {
        true => Ok(()),
        false => Err(GateFailed(format!(
            "the verifier found {} of {} faults and raised {} false alarms on copies of {name}",
            report.caught(),
            report.observable(),
            report.alarms.len()
        ))
        .into()),
    }
}
