//! Parses YAML text into a checked structure; errors have their place and the nearest valid key.

use serde::de::DeserializeOwned;

use crate::error::InputError;

use super::words::plain;

/// Maximum bytes of a file: a hundred times what anybody writes by hand.
const MAX_BYTES: usize = 1 << 20;

/// Maximum levels of maps and lists in each other. The parser takes time that grows with the square of the levels.
const MAX_DEPTH: usize = 64;

/// Parses `text`, the content of `file`, strictly.
///
/// # Errors
/// [`InputError`] with file, line, column, key path, what was found and what is allowed.
pub fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, InputError> {
    if text.len() > MAX_BYTES {
        let problem = format!("{file}: {} bytes; a file may have {MAX_BYTES}", text.len());
        return Err(InputError::new(problem).hint("is it a YAML file that a person wrote?"));
    }
    if let Some(line) = too_deep(text) {
        let problem = format!("{file}:{line}: more than {MAX_DEPTH} maps and lists in each other");
        return Err(InputError::new(problem).hint("is it a YAML file that a person wrote?"));
    }
    let document = serde_yaml::Deserializer::from_str(text);
    serde_yaml::with::singleton_map_recursive::deserialize(document).map_err(|error| explain(&error, file))
}

/// The first line in which maps and lists are nested too deep, by indentation, dashes and brackets.
fn too_deep(text: &str) -> Option<usize> {
    let (mut indents, mut brackets) = (Vec::<usize>::new(), 0usize);
    for (number, line) in (1..).zip(text.lines()) {
        let mut content = line.trim_start_matches(' ');
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let mut column = line.len() - content.len();
        indents.retain(|indent| *indent < column);
        indents.push(column);
        while let Some(rest) = content.strip_prefix("- ").or_else(|| content.strip_prefix("? ")) {
            let inner = rest.trim_start_matches(' ');
            column += content.len() - inner.len();
            indents.push(column);
            content = inner;
            if indents.len() > MAX_DEPTH {
                return Some(number);
            }
        }
        let (mut quote, mut before) = (None, ' ');
        for c in content.chars() {
            match (quote, c) {
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if open == c => quote = None,
                (Some(_), _) => {}
                (None, '#') if before == ' ' => break,
                (None, '{' | '[') => brackets += 1,
                (None, '}' | ']') => brackets = brackets.saturating_sub(1),
                (None, _) => {}
            }
            if indents.len() + brackets > MAX_DEPTH {
                return Some(number);
            }
            before = c;
        }
    }
    None
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
    let explained = InputError::new(format!("{place}: {}", plain(message)));
    match nearest(message) {
        Some(name) => explained.hint(format!("did you mean `{name}`?")),
        None => explained,
    }
}

/// The allowed name that was probably meant, from serde's sentence ``unknown field `epoch`, expected one of `epochs`,
/// `batch` ``: the one with the same words, such as `latency` for `max_latency`, or else the one that differs by a typo.
fn nearest(message: &str) -> Option<&str> {
    let (_, after) =
        message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?;
    let (found, allowed) = after.split_once('`')?;
    let names: Vec<&str> = allowed.split('`').skip(1).step_by(2).collect();
    let all_in = |part: &str, whole: &str| {
        let whole: Vec<&str> = whole.split(['_', '-']).collect();
        part.split(['_', '-']).all(|word| whole.contains(&word))
    };
    let mut same = names.iter().filter(|name| all_in(name, found) || all_in(found, name));
    if let (Some(name), None) = (same.next(), same.next()) {
        return Some(name);
    }
    let scored = names.into_iter().map(|name| (strsim::normalized_damerau_levenshtein(found, name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= 0.6).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Pipeline, Stage};

    #[test]
    fn what_nobody_writes_is_refused_at_once() {
        let deep = 100_000;
        let block: String = (0..1_000).map(|level| " ".repeat(level) + "a:\n").collect();
        for text in ["{a: ".repeat(deep), "[".repeat(deep), "- ".repeat(deep), "a: [".repeat(deep), block] {
            let error = parse::<serde_yaml::Value>(&text, "p.yaml").unwrap_err();
            assert!(error.message.contains("in each other"), "{}", error.message);
        }
        let long = "# words\n".repeat(1 << 18);
        assert!(parse::<serde_yaml::Value>(&long, "p.yaml").unwrap_err().message.contains("may have"));
        // Brackets in quotes and comments do not nest.
        let text = format!("a: '{}' # {}\nb: \"{}\"\n", "[".repeat(100), "{".repeat(100), "{".repeat(100));
        assert!(parse::<serde_yaml::Value>(&text, "p.yaml").is_ok());
    }

    #[test]
    fn what_is_suggested_was_meant() {
        let of = |found: &str, allowed: &str| {
            let allowed: Vec<String> = allowed.split(' ').map(|name| format!("`{name}`")).collect();
            let message = format!("unknown field `{found}`, expected one of {}", allowed.join(", "));
            nearest(&message).map(str::to_string)
        };
        let budgets = "max_params max_macs max_onnx_bytes latency";
        assert_eq!(of("max_latency", budgets).as_deref(), Some("latency"));
        assert_eq!(of("params", budgets).as_deref(), Some("max_params"));
        assert_eq!(of("max_parms", budgets).as_deref(), Some("max_params"));
        assert_eq!(of("max_accuracy", budgets), None);
        assert_eq!(of("accuracy", budgets), None);
        assert_eq!(of("max", budgets), None);
    }

    #[test]
    fn errors_say_where_and_what_else() {
        let text = "- pretrain: {epochs: 3}\n- collaborate:\n    epoch: 20\n";
        let error = parse::<Vec<Stage>>(text, "p.yaml").unwrap_err();
        assert!(error.message.starts_with("p.yaml:3:5: "), "{}", error.message);
        assert!(error.message.contains("unknown key `epoch`"), "{}", error.message);
        assert_eq!(error.hint.as_deref(), Some("did you mean `epochs`?"));
        let error = parse::<Pipeline>("version: 1\nname: x\ndata: 5\n", "p.yaml").unwrap_err();
        assert!(error.message.starts_with("p.yaml:3:7: data"), "{}", error.message);
    }
}
