//! Positions of the keys of a YAML text, for errors that are found after parsing.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

/// Line and column (from 1) of every value, by key path such as `stages[1].collaborate.epochs`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places(HashMap<String, (usize, usize)>);

/// A collection that is still open while events are read.
enum Open {
    Sequence { path: String, next: usize },
    Mapping { path: String, key: Option<String> },
}

impl Places {
    /// Reads the positions in a text. Anything after a syntax error has none; the strict parser reports that
    /// error.
    pub fn read(text: &str) -> Self {
        let mut places = HashMap::new();
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let at = (span.start.line(), span.start.col() + 1);
            match event {
                Event::Scalar(value, ..) => match open.last_mut() {
                    Some(Open::Mapping { path, key: key @ None }) => {
                        places.insert(join(path, &value), at);
                        *key = Some(value.into_owned());
                    }
                    _ => drop(enter(&mut open, &mut places, at)),
                },
                Event::Alias(_) => drop(enter(&mut open, &mut places, at)),
                Event::SequenceStart(..) => {
                    let path = enter(&mut open, &mut places, at);
                    open.push(Open::Sequence { path, next: 0 });
                }
                Event::MappingStart(..) => {
                    let path = enter(&mut open, &mut places, at);
                    open.push(Open::Mapping { path, key: None });
                }
                Event::SequenceEnd | Event::MappingEnd => drop(open.pop()),
                Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
            }
        }
        Self(places)
    }

    /// Line and column of a key, or of its nearest ancestor that is written.
    pub fn of(&self, path: &str) -> Option<(usize, usize)> {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some(*place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// Returns the path of the value that begins here and advances its parent.
fn enter(open: &mut [Open], places: &mut HashMap<String, (usize, usize)>, at: (usize, usize)) -> String {
    match open.last_mut() {
        None => String::new(),
        Some(Open::Sequence { path, next }) => {
            let own = format!("{path}[{next}]");
            *next += 1;
            places.insert(own.clone(), at);
            own
        }
        Some(Open::Mapping { path, key }) => join(path, &key.take().unwrap_or_default()),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_items_have_places() {
        let places = Places::read("a: 1\nlist:\n  - {x: 2, y: [3, 4]}\n  - b:\n      c: z\n");
        for (path, place) in [
            ("a", (1, 1)),
            ("list", (2, 1)),
            ("list[0]", (3, 5)),
            ("list[0].y", (3, 12)),
            ("list[0].y[1]", (3, 19)),
            ("list[1].b.c", (5, 7)),
            ("list[1].b.missing.deeper", (4, 5)),
        ] {
            assert_eq!(places.of(path), Some(place), "{path}");
        }
        assert_eq!(places.of("nothing"), None);
    }
}
