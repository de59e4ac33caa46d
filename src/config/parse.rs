//! Parses YAML text into a checked structure; errors have their place and the nearest valid key.

use serde::de::DeserializeOwned;

use crate::error::InputError;

/// Parses `text`, the content of `file`, strictly.
///
/// # Errors
/// [`InputError`] with file, line, column, key path, what was found and what is allowed.
pub fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, InputError> {
    let document = serde_yaml::Deserializer::from_str(text);
    serde_yaml::with::singleton_map_recursive::deserialize(document).map_err(|error| explain(&error, file))
}

/// Deserialises a value that was parsed and then changed; `origin` names what changed it.
pub(super) fn from_value<T: DeserializeOwned>(
    value: serde_yaml::Value,
    origin: &str,
) -> Result<T, InputError> {
    serde_yaml::with::singleton_map_recursive::deserialize(value).map_err(|error| explain(&error, origin))
}

fn explain(error: &serde_yaml::Error, file: &str) -> InputError {
    let text = error.to_string();
    let mut message = text.as_str();
    let mut place = file.to_string();
    if let Some(location) = error.location() {
        place = format!("{file}:{}:{}", location.line(), location.column());
        if let Some(end) = message.rfind(" at line ") {
            message = &message[..end];
        }
    }
    let explained = InputError::new(format!("{place}: {message}"));
    match nearest(message) {
        Some(name) => explained.hint(format!("did you mean `{name}`?")),
        None => explained,
    }
}

/// The allowed name that is most similar to the one found, from serde's sentence ``unknown field `epoch`,
/// expected one of `epochs`, `batch` ``.
fn nearest(message: &str) -> Option<&str> {
    let (_, after) =
        message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?;
    let (found, allowed) = after.split_once('`')?;
    let names = allowed.split('`').skip(1).step_by(2);
    let scored = names.map(|name| (strsim::jaro_winkler(found, name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score > 0.7).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Pipeline, Stage};

    #[test]
    fn errors_say_where_and_what_else() {
        let text = "- pretrain: {epochs: 3}\n- collaborate:\n    epoch: 20\n";
        let error = parse::<Vec<Stage>>(text, "p.yaml").unwrap_err();
        assert!(error.message.starts_with("p.yaml:3:5: "), "{}", error.message);
        assert!(error.message.contains("unknown field `epoch`"), "{}", error.message);
        assert_eq!(error.hint.as_deref(), Some("did you mean `epochs`?"));
        let error = parse::<Pipeline>("version: 1\nname: x\ndata: 5\n", "p.yaml").unwrap_err();
        assert!(error.message.starts_with("p.yaml:3:7: data"), "{}", error.message);
    }
}
