//! The sentences of serde about a YAML file, in words for people who write YAML.

/// What serde calls a thing, and what its readers do.
const EXPECTED: [(&str, &str); 12] = [
    ("a boolean", "true or false"),
    ("a sequence", "a list in brackets"),
    ("a map", "a map of keys"),
    ("a string", "a text"),
    ("any YAML value", "a smaller number"),
    ("newtype variant", "a name with its keys, such as `name: {}`"),
    ("unit variant", "a name alone"),
    ("fewer elements in sequence", "fewer entries"),
    ("fewer elements in array", "fewer entries"),
    ("f64", "a number"),
    ("f32", "a number"),
    ("unit", "nothing"),
];

const FOUND: [(&str, &str); 7] = [
    ("sequence", "a list"),
    ("map", "a map of keys"),
    ("unit variant", "a name alone"),
    ("newtype variant", "a name with keys"),
    ("unit value", "nothing"),
    ("null", "nothing"),
    ("Option value", "nothing"),
];

/// Kinds of values that serde names before it quotes one.
const KINDS: [&str; 6] = ["string ", "integer ", "floating point ", "boolean ", "character ", "byte array "];

/// One of serde's messages, with its path before it, without names of Rust's types.
pub(super) fn plain(message: &str) -> String {
    let message = message
        .replace("unknown field `", "unknown key `")
        .replace("unknown variant `", "unknown name `")
        .replace("missing field `", "missing key `")
        .replace("duplicate field `", "duplicate key `");
    for start in ["invalid type: ", "invalid value: ", "invalid length "] {
        let Some((before, rest)) = message.split_once(start) else { continue };
        let Some((found, expected)) = rest.rsplit_once(", expected ") else { continue };
        let found = match start {
            "invalid length " => format!("{found} entries"),
            _ => value(found),
        };
        return format!("{before}found {found}, expected {}", kind(expected));
    }
    message
}

fn value(found: &str) -> String {
    if let Some((_, plain)) = FOUND.iter().find(|(word, _)| *word == found) {
        return (*plain).to_string();
    }
    let quoted = KINDS.iter().find_map(|kind| found.strip_prefix(kind)).unwrap_or(found);
    // A number too large for 64 bits has its type behind it.
    quoted.split(" as ").next().unwrap_or(quoted).to_string()
}

fn kind(expected: &str) -> String {
    let whole = |name: &str, sign: char| {
        name.strip_prefix(sign).is_some_and(|bits| bits == "size" || bits.parse::<u32>().is_ok())
    };
    if let Some((_, plain)) = EXPECTED.iter().find(|(word, _)| *word == expected) {
        return (*plain).to_string();
    }
    match expected {
        name if whole(name, 'u') => "a whole number from 0".into(),
        name if whole(name, 'i') => "a whole number".into(),
        name if name.starts_with("struct ") => "a map of keys".into(),
        name if name.starts_with("enum ") => "a name".into(),
        name => match name.strip_prefix("an array of length ") {
            Some(length) => format!("a list of {length}"),
            None => name.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_rust_become_words() {
        for (said, expected) in [
            (
                "a.b: invalid type: string \"many\", expected usize",
                "a.b: found \"many\", expected a whole number from 0",
            ),
            ("invalid value: integer `-1`, expected u64", "found `-1`, expected a whole number from 0"),
            ("invalid type: floating point `1.5`, expected i32", "found `1.5`, expected a whole number"),
            ("invalid type: sequence, expected f64", "found a list, expected a number"),
            ("invalid type: integer `3`, expected struct Budgets", "found `3`, expected a map of keys"),
            ("invalid type: integer `3`, expected enum Keep", "found `3`, expected a name"),
            ("invalid length 3, expected an array of length 2", "found 3 entries, expected a list of 2"),
            (
                "invalid type: integer `9` as u128, expected any YAML value",
                "found `9`, expected a smaller number",
            ),
            ("x: unknown field `a`, expected `b`", "x: unknown key `a`, expected `b`"),
            (
                "invalid type: string \"a, expected b\", expected auto or cpu",
                "found \"a, expected b\", expected auto or cpu",
            ),
            ("anything else", "anything else"),
        ] {
            assert_eq!(plain(said), expected);
        }
    }
}
