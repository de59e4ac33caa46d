//! Collects everything that is wrong with a pipeline.

use crate::config::LoadedPipeline;
use crate::error::InputError;

/// Problems found so far, each with its place in the file.
pub struct Problems<'a> {
    loaded: &'a LoadedPipeline,
    found: Vec<InputError>,
}

impl<'a> Problems<'a> {
    pub fn new(loaded: &'a LoadedPipeline) -> Self {
        Self { loaded, found: Vec::new() }
    }

    /// Records that the value at a key path is wrong.
    pub fn add(&mut self, path: &str, problem: impl std::fmt::Display, remedy: impl Into<String>) {
        let message = format!("{}: {problem}", self.loaded.place(path));
        self.found.push(InputError::new(message).hint(remedy));
    }

    /// Records an error of a part that knows no pipeline file.
    pub fn add_error(&mut self, path: &str, error: &anyhow::Error) {
        let message = format!("{}: {error:#}", self.loaded.place(path));
        let hint = crate::error::hint_of(error).map(String::from);
        self.found.push(InputError { message, hint });
    }

    /// Returns all problems as one error, in the order in which they were found.
    ///
    /// # Errors
    /// [`InputError`] if there is any.
    pub fn into_result(mut self) -> Result<(), InputError> {
        match self.found.len() {
            0 => Ok(()),
            1 => Err(self.found.remove(0)),
            count => {
                let lines = self.found.iter().map(|problem| match &problem.hint {
                    Some(hint) => format!("\n  {}\n    hint: {hint}", problem.message),
                    None => format!("\n  {}", problem.message),
                });
                Err(InputError::new(
                    format!("{count} problems in {}", self.loaded.file) + &lines.collect::<String>(),
                ))
            }
        }
    }
}
