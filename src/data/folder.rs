//! One folder per class with PNG and JPEG files of any size, grey or colour.
//!
//! The class folders are under `train/` (with `val/` and `test/` beside it, if there are any), or directly
//! under the root.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::{FolderSource, Labels};
use crate::error::InputError;

use super::decode::is_image_file;
use super::info::{DataInfo, Opened, readable};
use super::split::stratified;
use super::store::{Split, Store};

/// Folders in folders that are searched for images without labels.
const DEEPEST: usize = 32;

/// The test cut is the same for every seed of a pipeline, so that runs can be compared.
const TEST_SEED: u64 = 0;

/// Files and labels of one split.
struct Tree {
    classes: Vec<String>,
    files: Vec<PathBuf>,
    labels: Vec<u32>,
}

/// All splits of a source.
struct Trees {
    train: Tree,
    validation: Option<Tree>,
    test: Option<Tree>,
}

pub(super) fn describe(source: &FolderSource, labels: Labels, root: &Path) -> Result<DataInfo> {
    let trees = trees(root, labels)?;
    Ok(info(source, &trees))
}

pub(super) fn read(source: &FolderSource, labels: Labels, root: &Path) -> Result<Opened> {
    let trees = trees(root, labels)?;
    let info = info(source, &trees);
    let open = |tree: Tree| Split::whole(Store::files(info.shape, source.fit, tree.files), tree.labels);
    let train = open(trees.train);
    let validation = trees.validation.map(open);
    let (train, test) = match trees.test {
        Some(test) => (train, Some(open(test))),
        None if source.test > 0.0 => {
            let (rest, test) = stratified(&train, source.test, TEST_SEED);
            (rest, Some(test))
        }
        None => (train, None),
    };
    Ok(Opened { info, train, validation, test })
}

fn info(source: &FolderSource, trees: &Trees) -> DataInfo {
    let [height, width] = source.size;
    let whole = trees.train.files.len();
    let cut = match &trees.test {
        Some(_) => 0,
        None => super::split::held_out(&trees.train.labels, source.test),
    };
    DataInfo {
        shape: [source.channels, height, width],
        classes: trees.train.classes.clone(),
        train_images: whole - cut,
        validation_images: trees.validation.as_ref().map(|tree| tree.files.len()),
        test_images: trees.test.as_ref().map(|tree| tree.files.len()).or((cut > 0).then_some(cut)),
    }
}

fn trees(root: &Path, labels: Labels) -> Result<Trees> {
    let part = |names: &[&str]| names.iter().map(|name| root.join(name)).find(|path| path.is_dir());
    let Some(train) = part(&["train"]) else {
        return Ok(Trees { train: tree(root, labels)?, validation: None, test: None });
    };
    let train = tree(&train, labels)?;
    let same_classes = |path: PathBuf| -> Result<Tree> {
        let other = tree(&path, labels)?;
        if other.classes == train.classes {
            return Ok(other);
        }
        let odd = other.classes.iter().find(|class| !train.classes.contains(class));
        let problem = match odd {
            Some(class) => format!("{}: class '{class}' is not under train/", path.display()),
            None => {
                let missing = train.classes.iter().find(|class| !other.classes.contains(class));
                format!("{}: class '{}' is missing", path.display(), missing.map_or("?", String::as_str))
            }
        };
        Err(InputError::new(problem).hint("every split needs the same class folders").into())
    };
    let validation = part(&["val", "validation"]).map(same_classes).transpose()?;
    let test = part(&["test"]).map(same_classes).transpose()?;
    Ok(Trees { train, validation, test })
}

/// The images of one split, sorted by name: those of its class folders, or all at any depth if they have no labels.
fn tree(root: &Path, labels: Labels) -> Result<Tree> {
    if labels == Labels::Teacher {
        let mut files = Vec::new();
        images_below(root, &mut files, DEEPEST)?;
        if files.is_empty() {
            let problem = format!("{}: no PNG or JPEG file in this folder or below", root.display());
            return Err(InputError::new(problem).hint("give a folder of images").into());
        }
        let labels = vec![0; files.len()];
        return Ok(Tree { classes: Vec::new(), files, labels });
    }
    let classes: Vec<PathBuf> = sorted(root)?.into_iter().filter(|path| path.is_dir()).collect();
    if classes.len() < 2 {
        let problem = format!(
            "{}: found {} class folders, a classifier needs at least two",
            root.display(),
            classes.len()
        );
        return Err(InputError::new(problem)
            .hint("put each class's images into a folder of its name")
            .into());
    }
    let mut tree = Tree { classes: Vec::new(), files: Vec::new(), labels: Vec::new() };
    for (label, class) in classes.iter().enumerate() {
        let files: Vec<PathBuf> = sorted(class)?.into_iter().filter(|path| is_image_file(path)).collect();
        if files.is_empty() {
            let problem = format!("{}: no PNG or JPEG file in this class", class.display());
            return Err(InputError::new(problem).hint("remove the folder or add images").into());
        }
        tree.labels.extend(std::iter::repeat_n(label as u32, files.len()));
        tree.files.extend(files);
        tree.classes.push(name_of(class));
    }
    Ok(tree)
}

/// Adds the image files of a folder and of those in it.
fn images_below(folder: &Path, files: &mut Vec<PathBuf>, levels: usize) -> Result<()> {
    let Some(below) = levels.checked_sub(1) else {
        let problem = format!("{}: folders lie more than {DEEPEST} deep", folder.display());
        return Err(InputError::new(problem).hint("is there a link to a folder above?").into());
    };
    for path in sorted(folder)? {
        if path.is_dir() {
            images_below(&path, files, below)?;
        } else if is_image_file(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// The entries of a folder, sorted, without hidden ones.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in readable(std::fs::read_dir(folder), folder)? {
        let path = readable(entry, folder)?.path();
        if !name_of(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Fit;

    fn save(root: &Path, path: &str, value: u8) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(5, 4, image::Rgb([value; 3])).save(path).unwrap();
    }

    fn source(test: f64) -> FolderSource {
        FolderSource { root: ".".into(), size: [4, 4], fit: Fit::default(), channels: 3, test }
    }

    #[test]
    fn one_tree_is_cut_by_class() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..10 {
            save(folder.path(), &format!("ant/{index}.png"), 1);
            save(folder.path(), &format!("bee/{index}.jpg"), 200);
        }
        std::fs::write(folder.path().join("ant/notes.txt"), "not an image").unwrap();
        let opened = read(&source(0.2), Labels::Own, folder.path()).unwrap();
        let test = opened.test.unwrap();
        assert_eq!((opened.train.len(), test.len()), (16, 4));
        assert_eq!(test.labels().iter().filter(|&&label| label == 0).count(), 2);
        let described = describe(&source(0.2), Labels::Own, folder.path()).unwrap();
        assert_eq!((described.train_images, described.test_images), (16, Some(4)));
        assert_eq!(opened.train.image(0).unwrap()[0], 1);
        assert!(read(&source(0.0), Labels::Own, folder.path()).unwrap().test.is_none());
    }

    #[test]
    fn splits_must_have_the_same_classes() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["train/ant/a.png", "train/bee/a.png", "val/ant/a.png", "val/wasp/a.png"] {
            save(folder.path(), path, 1);
        }
        let error = describe(&source(0.0), Labels::Own, folder.path()).unwrap_err();
        assert!(error.to_string().contains("class 'wasp' is not under train/"), "{error}");
        std::fs::remove_dir_all(folder.path().join("val/wasp")).unwrap();
        let error = describe(&source(0.0), Labels::Own, folder.path()).unwrap_err();
        assert!(error.to_string().contains("found 1 class folders"), "{error}");
    }

    #[test]
    fn images_without_labels_are_taken_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a.png", "2024/b.jpg", "2024/may/c.png", "2024/may/d.png"] {
            save(folder.path(), path, 1);
        }
        std::fs::write(folder.path().join("2024/notes.txt"), "not an image").unwrap();
        let opened = read(&source(0.25), Labels::Teacher, folder.path()).unwrap();
        assert_eq!((opened.train.len(), opened.test.unwrap().len()), (3, 1));
        assert!(opened.info.classes.is_empty());
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let error = read(&source(0.0), Labels::Teacher, &folder.path().join("empty")).unwrap_err();
        assert!(error.to_string().contains("no PNG or JPEG file"), "{error}");
    }
}
