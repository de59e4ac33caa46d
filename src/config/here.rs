//! Paths on the command line start at the current folder, those in a file at that file's folder.

use std::path::Path;

use serde_yaml::Value;

/// Keys whose values are paths.
const PATHS: [&str; 3] = ["root", "weights", "onnx"];

/// Overrides `KEY=VALUE` from a command line, with paths that do not depend on the pipeline's folder.
pub fn from_here(overrides: &[String], here: &Path) -> Vec<String> {
    let of = |text: &String| absolute(text, here).unwrap_or_else(|| text.clone());
    overrides.iter().map(of).collect()
}

/// The override with absolute paths; `None` if there is nothing to change.
fn absolute(text: &str, here: &Path) -> Option<String> {
    let (key, written) = text.split_once('=')?;
    let mut value: Value = serde_yaml::from_str(written).ok()?;
    let changed = change(key.rsplit('.').next()?, &mut value, here);
    // JSON is YAML on one line.
    changed.then(|| serde_json::to_string(&value).ok().map(|value| format!("{key}={value}")))?
}

/// Makes the paths in the value of a key absolute, and says whether there was one.
fn change(key: &str, value: &mut Value, here: &Path) -> bool {
    match value {
        Value::String(text) => {
            let names_a_file = PATHS.contains(&key) || (key == "model" && text.ends_with(".yaml"));
            if !names_a_file || text.starts_with("${") || Path::new(text).is_absolute() {
                return false;
            }
            *text = here.join(&*text).display().to_string();
            true
        }
        Value::Mapping(map) => {
            let entries = map.iter_mut().map(|(key, value)| change(key.as_str().unwrap_or(""), value, here));
            entries.fold(false, |any, changed| any | changed)
        }
        Value::Sequence(items) => items.iter_mut().fold(false, |any, item| any | change(key, item, here)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Tagged(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_paths_change() {
        let given = [
            "data.source.folder.root=photos",
            "teacher={model: resnet8, weights: runs/a}",
            "cohort.tiny.model=mine.yaml",
            "data.source={folder: {root: ./x, size: [8, 8]}}",
            "data.source.folder.root=/photos",
            "data.source.folder.root=${IMAGES}",
            "cohort.tiny.model=resnet8",
            "seed=3",
            "nonsense",
        ];
        let expected = [
            "data.source.folder.root=\"/here/photos\"",
            "teacher={\"model\":\"resnet8\",\"weights\":\"/here/runs/a\"}",
            "cohort.tiny.model=\"/here/mine.yaml\"",
            "data.source={\"folder\":{\"root\":\"/here/./x\",\"size\":[8,8]}}",
        ];
        let found = from_here(&given.map(String::from), Path::new("/here"));
        assert_eq!(found[..4], expected);
        assert_eq!(found[4..], given[4..]);
    }
}
