//! From YAML text to a checked structure, with the place of every error.

use serde::de::DeserializeOwned;

use crate::error::InputError;

/// Parses `text`, the content of `file`, strictly.
///
/// # Errors
/// [`InputError`] with file, line, column, what was found and what is allowed.
pub fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, InputError> {
    let document = serde_yaml::Deserializer::from_str(text);
    serde_yaml::with::singleton_map_recursive::deserialize(document)
        .map_err(|error| InputError::new(format!("{file}: {error}")))
}
