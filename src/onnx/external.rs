//! Weights in files beside a model: they are read into the model before anything else reads it, so that no
//! runtime follows a path that was not checked here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, TensorProto};

use super::tensor::{element_bytes, elements, is_external};
use crate::error::InputError;

/// Reads every external tensor of a model into the model. Files lie in `folder` or below it; at most `limit`
/// bytes are read. Returns the number of bytes read.
///
/// # Errors
/// [`InputError`] that names the tensor, for a path that leaves the folder, a missing or truncated file, or a length
/// that is not the tensor's.
pub fn bring_in(model: &mut ModelProto, folder: &Path, limit: u64) -> Result<u64, InputError> {
    let mut reader = Reader { folder, files: HashMap::new(), left: limit };
    for tensor in tensors(model).into_iter().filter(|tensor| is_external(tensor)) {
        let bytes = reader
            .read(tensor)
            .map_err(|problem| {
                InputError::new(format!("initializer '{}' lies in another file: {problem}", tensor.name))
                    .hint("keep the files with the weights beside the model under their own names, or save the model as one file")
            })?;
        tensor.raw_data = bytes;
        tensor.external_data.clear();
        tensor.data_location = None;
    }
    Ok(limit - reader.left)
}

/// Every tensor anywhere in a model, including those in the graphs of attributes.
fn tensors(model: &mut ModelProto) -> Vec<&mut TensorProto> {
    let mut found = Vec::new();
    let mut graphs: Vec<&mut GraphProto> = model.graph.iter_mut().collect();
    for training in &mut model.training_info {
        graphs.extend(training.initialization.iter_mut().chain(&mut training.algorithm));
    }
    let mut attributes: Vec<&mut AttributeProto> = model
        .functions
        .iter_mut()
        .flat_map(|function| &mut function.node)
        .flat_map(|node| &mut node.attribute)
        .collect();
    loop {
        while let Some(graph) = graphs.pop() {
            found.extend(&mut graph.initializer);
            for sparse in &mut graph.sparse_initializer {
                found.extend(sparse.values.iter_mut().chain(&mut sparse.indices));
            }
            attributes.extend(graph.node.iter_mut().flat_map(|node| &mut node.attribute));
        }
        let Some(attribute) = attributes.pop() else { return found };
        found.extend(attribute.t.iter_mut().chain(&mut attribute.tensors));
        for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
            found.extend(sparse.values.iter_mut().chain(&mut sparse.indices));
        }
        graphs.extend(attribute.g.iter_mut().chain(&mut attribute.graphs));
    }
}

struct Reader<'a> {
    folder: &'a Path,
    files: HashMap<String, File>,
    left: u64,
}

impl Reader<'_> {
    fn read(&mut self, tensor: &TensorProto) -> Result<Vec<u8>, String> {
        let entry = |key: &str| {
            tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
        };
        let number = |key: &str| match entry(key) {
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| format!("its {key} is '{text}'")),
            None => Ok(None),
        };
        let location = entry("location").ok_or("the file is not named")?;
        let width = element_bytes(tensor.data_type).ok_or("its type has no plain size")?;
        let size = elements(tensor)?.checked_mul(width).ok_or("it is too large")? as u64;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.unwrap_or(size));
        if length != size {
            return Err(format!("it takes {size} bytes, the entry says {length}"));
        }
        self.left = self.left.checked_sub(size).ok_or("all of them together are too large")?;
        if !self.files.contains_key(location) {
            self.files.insert(location.to_string(), open(self.folder, location)?);
        }
        let mut file = &self.files[location];
        let held = file.metadata().map_err(|error| error.to_string())?.len();
        if offset.checked_add(size).is_none_or(|end| end > held) {
            return Err(format!("'{location}' has {held} bytes, {size} from {offset} on are needed"));
        }
        let mut bytes = vec![0; size as usize];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|error| format!("'{location}': {error}"))?;
        Ok(bytes)
    }
}

/// Opens a file in a folder or below it. Links are followed as long as they stay inside.
fn open(folder: &Path, location: &str) -> Result<File, String> {
    let inside = Path::new(location);
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !inside.components().all(plain) {
        return Err(format!("'{location}' is not a path inside the model's folder"));
    }
    let cannot = |error: std::io::Error| format!("'{location}': {error}");
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = folder.canonicalize().map_err(cannot)?;
    let path = folder.join(inside).canonicalize().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            return format!("there is no '{location}' in {}", folder.display());
        }
        cannot(error)
    })?;
    if !path.starts_with(&folder) {
        return Err(format!("'{location}' leads out of the model's folder"));
    }
    if !path.metadata().map_err(cannot)?.is_file() {
        return Err(format!("'{location}' is not a file"));
    }
    File::open(&path).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::StringStringEntryProto;
    use tract_onnx::pb::tensor_proto::DataType;

    fn model(entries: &[(&str, &str)]) -> ModelProto {
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: (*key).into(),
            value: (*value).into(),
        };
        let tensor = TensorProto {
            name: "w".into(),
            dims: vec![2],
            data_type: DataType::Float as i32,
            data_location: Some(1),
            external_data: entries.iter().map(entry).collect(),
            ..TensorProto::default()
        };
        let attribute = AttributeProto { t: Some(tensor.clone()), ..AttributeProto::default() };
        let node = tract_onnx::pb::NodeProto { attribute: vec![attribute], ..Default::default() };
        let graph = GraphProto { initializer: vec![tensor], node: vec![node], ..GraphProto::default() };
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn data_beside_the_model_is_brought_in() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let bytes: Vec<u8> = [9f32, 1.5, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(folder.path().join("sub/w.bin"), bytes).unwrap();
        let mut model = model(&[("location", "sub/w.bin"), ("offset", "4"), ("length", "8")]);
        assert_eq!(bring_in(&mut model, folder.path(), 16), Ok(16));
        let graph = model.graph.unwrap();
        for tensor in [&graph.initializer[0], graph.node[0].attribute[0].t.as_ref().unwrap()] {
            assert_eq!(super::super::tensor::floats(tensor), Ok(vec![1.5, -2.0]));
        }
    }

    #[test]
    fn no_path_leaves_the_folder_and_no_length_lies() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("model");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outer.path().join("secret"), [0; 64]).unwrap();
        std::fs::write(folder.join("w.bin"), [0; 8]).unwrap();
        std::os::unix::fs::symlink(outer.path().join("secret"), folder.join("link")).unwrap();
        let absolute = outer.path().join("secret").display().to_string();
        for (entries, problem) in [
            (vec![("location", "../secret")], "not a path inside"),
            (vec![("location", "sub/../../secret")], "not a path inside"),
            (vec![("location", absolute.as_str())], "not a path inside"),
            (vec![("location", "")], "not a path inside"),
            (vec![("location", "link")], "leads out"),
            (vec![("location", ".")], "is not a file"),
            (vec![("location", "absent")], "there is no 'absent' in"),
            (vec![], "not named"),
            (vec![("location", "w.bin"), ("offset", "1")], "8 bytes, 8 from 1"),
            (vec![("location", "w.bin"), ("offset", "18446744073709551615")], "are needed"),
            (vec![("location", "w.bin"), ("offset", "-1")], "offset is '-1'"),
            (vec![("location", "w.bin"), ("length", "4")], "takes 8 bytes"),
        ] {
            let error = bring_in(&mut model(&entries), &folder, 1 << 20).unwrap_err().message;
            assert!(error.contains(problem) && error.contains("'w'"), "{error} should say {problem}");
        }
        let small = bring_in(&mut model(&[("location", "w.bin")]), &folder, 12).unwrap_err().message;
        assert!(small.contains("too large"), "{small}");
    }
}
