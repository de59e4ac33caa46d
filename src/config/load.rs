//! Loading of a pipeline file: text, overrides, environment variables, and the position of every key.

use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use crate::error::InputError;

use super::parse::{from_value, parse};
use super::places::Places;
use super::schema::Pipeline;
use super::words::plain;

const QUICKSTART: &str = include_str!("../../pipelines/quickstart.yaml");

/// A pipeline as written, with the position of each key for error messages.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedPipeline {
    pub pipeline: Pipeline,
    /// Folder against which relative paths are resolved.
    pub base: PathBuf,
    /// The file's name as the user gave it.
    pub file: String,
    places: Places,
    /// Key path and text of each `--set`.
    overrides: Vec<(String, String)>,
}

impl LoadedPipeline {
    /// Position of a key: `file:line:column: key.path`, or the override that set it.
    pub fn place(&self, path: &str) -> String {
        if let Some((_, text)) = self.overrides.iter().rev().find(|(set, _)| path.starts_with(set.as_str())) {
            return format!("--set {text}");
        }
        match self.places.of(path) {
            Some((line, column)) => format!("{}:{line}:{column}: {path}", self.file),
            None => format!("{}: {path}", self.file),
        }
    }
}

/// Reads a pipeline file and applies overrides, each `key.path=value`. In a path, `stages.select` is the
/// stage of that name and `cohort.tiny` is the student of that name.
///
/// # Errors
/// [`InputError`] if the file is missing, or if the file or an override is not a valid pipeline.
pub fn load_pipeline(path: &Path, overrides: &[String]) -> Result<LoadedPipeline, InputError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        InputError::new(format!("cannot read the pipeline file {}: {error}", path.display()))
            .hint("give the path of a YAML file, or none for the quick start")
    })?;
    let base = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read(&text, &path.display().to_string(), base, overrides)
}

/// The text of a pipeline file, with every default filled in.
///
/// # Errors
/// If it cannot be serialised, which would be a fault of the program.
pub fn pipeline_yaml(pipeline: &Pipeline) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut serializer = serde_yaml::Serializer::new(&mut bytes);
    serde_yaml::with::singleton_map_recursive::serialize(pipeline, &mut serializer)?;
    Ok(String::from_utf8(bytes)?)
}

/// The pipeline that comes with the program.
///
/// # Errors
/// [`InputError`] if an override is not valid.
pub fn quickstart(overrides: &[String]) -> Result<LoadedPipeline, InputError> {
    read(QUICKSTART, "quick start", Path::new("."), overrides)
}

fn read(text: &str, file: &str, base: &Path, overrides: &[String]) -> Result<LoadedPipeline, InputError> {
    let mut pipeline: Pipeline = parse(text, file)?;
    let mut applied = Vec::new();
    if !overrides.is_empty() {
        let mut value: Value = parse(text, file)?;
        for text in overrides {
            let path = set(&mut value, text)?;
            pipeline = from_value(value.clone(), &format!("--set {text}"))?;
            applied.push((path, text.clone()));
        }
    }
    let places = Places::read(text);
    let mut loaded = LoadedPipeline {
        pipeline,
        base: base.to_path_buf(),
        file: file.to_string(),
        places,
        overrides: applied,
    };
    expand_root(&mut loaded)?;
    expand_teacher(&mut loaded)?;
    Ok(loaded)
}

/// Sets one key and returns its path in the document.
fn set(document: &mut Value, text: &str) -> Result<String, InputError> {
    let fail = |problem: &str| {
        InputError::new(format!("--set {text}: {problem}"))
            .hint("write key.path=value, such as --set stages.collaborate.epochs=5 or --set cohort.tiny.model=resnet14")
    };
    let (path, value) = text.split_once('=').ok_or_else(|| fail("there is no '='"))?;
    let value: Value = serde_yaml::from_str(value).map_err(|error| fail(&plain(&error.to_string())))?;
    let mut node = document;
    let mut place = String::new();
    if let (true, Some((list, key))) = (value.is_null(), path.rsplit_once('.')) {
        let list = list.split('.').try_fold(&mut *node, |node, key| node.get_mut(key));
        if let Some(Value::Sequence(items)) = list {
            let index = find(items, key)
                .ok_or_else(|| fail(&format!("'{key}' does not exist and cannot be removed")))?;
            items.remove(index);
            return Ok(path.to_string());
        }
    }
    for key in path.split('.') {
        if key.is_empty() {
            return Err(fail("a key is empty"));
        }
        node = match node {
            Value::Sequence(items) => {
                let index = find(items, key).ok_or_else(|| fail(&format!("'{key}' is not in {place}")))?;
                place += &format!("[{index}]");
                let item = &mut items[index];
                match item.get(key) {
                    Some(_) => {
                        place += &format!(".{key}");
                        item.get_mut(key).ok_or_else(|| fail("the key does not exist"))?
                    }
                    None => item,
                }
            }
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Mapping(_)
            | Value::Tagged(_)) => {
                if other.is_null() {
                    *other = Value::Mapping(Mapping::new());
                }
                let map = other.as_mapping_mut().ok_or_else(|| fail(&format!("{place} holds no keys")))?;
                place += if place.is_empty() { "" } else { "." };
                place += key;
                map.entry(Value::from(key)).or_insert(Value::Null)
            }
        };
    }
    *node = value;
    Ok(place)
}

/// An item by number, by its one key, or by its `name`.
fn find(items: &[Value], key: &str) -> Option<usize> {
    match key.parse::<usize>() {
        Ok(index) => (index < items.len()).then_some(index),
        Err(_) => items.iter().position(|item| {
            item.get(key).is_some() || item.get("name").and_then(Value::as_str) == Some(key)
        }),
    }
}

/// Expands environment variables in the source's root.
fn expand_root(loaded: &mut LoadedPipeline) -> Result<(), InputError> {
    let kind = loaded.pipeline.data.source.name();
    let Some(root) = loaded.pipeline.data.source.root_mut() else { return Ok(()) };
    let written = root.display().to_string();
    match expand(&written, |name| std::env::var(name).ok()) {
        Ok(text) => {
            *root = PathBuf::from(text);
            Ok(())
        }
        Err(problem) => {
            let place = loaded.place(&format!("data.source.{kind}.root"));
            Err(InputError::new(format!("{place}: {problem} in '{written}'"))
                .hint("set the variable, or write the folder itself"))
        }
    }
}

/// Expands environment variables in the teacher's paths.
fn expand_teacher(loaded: &mut LoadedPipeline) -> Result<(), InputError> {
    let places = ["teacher.weights", "teacher.onnx"].map(|path| loaded.place(path));
    let Some(teacher) = &mut loaded.pipeline.teacher else { return Ok(()) };
    for (path, place) in [&mut teacher.weights, &mut teacher.onnx].into_iter().zip(places) {
        let Some(path) = path else { continue };
        let written = path.display().to_string();
        let expanded = expand(&written, |name| std::env::var(name).ok()).map_err(|problem| {
            InputError::new(format!("{place}: {problem} in '{written}'"))
                .hint("set the variable, or write the path itself")
        })?;
        *path = PathBuf::from(expanded);
    }
    Ok(())
}

/// Replaces `${NAME}` and `${NAME:-otherwise}` in a path. A relative path that starts with a variable's value starts at the
/// current folder, where the variable was set, and not at the pipeline file.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, after) = after.split_once('}').ok_or("'${' without '}'")?;
        let (name, otherwise) = match inside.split_once(":-") {
            Some((name, otherwise)) => (name, Some(otherwise.to_string())),
            None => (inside, None),
        };
        expanded += before;
        let set = variable(name).filter(|value| !value.is_empty()).map(|value| match expanded.is_empty() {
            true => std::path::absolute(&value).map_or(value, |path| path.display().to_string()),
            false => value,
        });
        let value = set.or(otherwise);
        expanded += &value.ok_or_else(|| format!("the environment has no variable {name}"))?;
        rest = after;
    }
    Ok(expanded + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Limit, Stage};

    /// A pipeline as it is meant, with every number of the loss.
    fn meant(text: &str) -> String {
        let mut pipeline: Pipeline = parse(text, "it").unwrap();
        for stage in &mut pipeline.stages {
            if let Stage::Collaborate(settings) = stage {
                settings.resolve();
            }
        }
        pipeline_yaml(&pipeline).unwrap()
    }

    /// `pipelines/folder.yaml` shows every key, and in brackets the default of each value that is another one.
    #[test]
    fn folder_yaml_tells_the_defaults() {
        let text = include_str!("../../pipelines/folder.yaml");
        let mut by_default = String::new();
        let (mut below, mut replaced) = (usize::MAX, 0);
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            if indent > below {
                continue;
            }
            below = usize::MAX;
            by_default += &match line.split_once("# (").map(|(code, said)| (code.split_once(':'), said)) {
                Some((Some((key, _)), said)) => {
                    (below, replaced) = (indent, replaced + 1);
                    format!("{key}: {}\n", said.split_once(')').unwrap().0)
                }
                _ => format!("{line}\n"),
            };
        }
        let bare = meant(
            "{version: 1, name: folder, data: {source: {folder: {root: '${IMAGES:-images}', size: [64, 64]}}}, \
             cohort: [{name: big, model: resnet20}, {name: tiny, model: resnet8}], stages: [{collaborate: {}}, \
             {select: {}}, {export: {}}, {verify: {}}, {bench: {}}, {report: {}}]}",
        );
        assert_eq!(meant(&by_default), bare);
        assert!(meant(text) != bare && replaced >= 7, "{replaced}");
        for line in bare.lines() {
            let Some((key, _)) = line.trim_start_matches([' ', '-']).split_once(':') else { continue };
            assert!(text.contains(&format!("{key}:")), "{key} is not shown");
        }
    }

    #[test]
    fn overrides_find_stages_and_students_by_name() {
        let set =
            |list: &[&str]| quickstart(&list.iter().map(|text| (*text).to_string()).collect::<Vec<_>>());
        let loaded = set(&["seed=99", "stages.select.budgets.max_params=123", "cohort.0.name=huge"]).unwrap();
        assert_eq!(loaded.pipeline.seed, 99);
        assert_eq!(loaded.pipeline.cohort[0].name, "huge");
        let select = loaded.pipeline.stages.iter().find_map(|stage| {
            let Stage::Select(select) = stage else { return None };
            Some(select.budgets.max_params)
        });
        assert_eq!(select, Some(Some(Limit::Absolute(123))));
        assert_eq!(loaded.place("seed"), "--set seed=99");
        let names =
            |loaded: &LoadedPipeline| loaded.pipeline.stages.iter().map(Stage::name).collect::<Vec<_>>();
        let fewer = set(&["stages.verify=null", "stages.bench=null"]).unwrap();
        assert_eq!(names(&fewer), ["collaborate", "select", "export", "report"]);
        for (text, problem) in [
            ("stages.nothing=null", "'nothing' does not exist and cannot be removed"),
            ("seed", "there is no '='"),
            ("stages.nothing.x=1", "'nothing' is not in stages"),
            ("sead=1", "unknown key `sead`"),
            ("seed.x=1", "seed holds no keys"),
        ] {
            let error = set(&[text]).unwrap_err();
            assert!(error.message.contains(problem), "{}", error.message);
            assert!(error.message.starts_with(&format!("--set {text}: ")), "{}", error.message);
        }
    }

    #[test]
    fn variables_are_expanded() {
        let variable = |name: &str| (name == "A").then(|| "/x".to_string());
        assert_eq!(expand("${A}/b", variable).unwrap(), "/x/b");
        assert_eq!(expand("${B:-y}/${A}", variable).unwrap(), "y//x");
        let here = std::env::current_dir().unwrap().join("photos/b").display().to_string();
        assert_eq!(expand("${C}/b", |_| Some("photos".into())).unwrap(), here);
        assert_eq!(expand("a/${C}", |_| Some("photos".into())).unwrap(), "a/photos");
        assert_eq!(expand("plain", variable).unwrap(), "plain");
        assert!(expand("${B}", variable).unwrap_err().contains("no variable B"));
        assert!(expand("${A", variable).is_err());
    }
}
