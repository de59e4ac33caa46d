//! One folder per class with images of any size, grey or colour, at any depth below it.
//!
//! The class folders are under `train/` (with a folder for validation and one for tests beside it, if there are any), or
//! directly under the root.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::{FolderSource, Labels};
use crate::error::InputError;

use super::files::{FORMATS, Found, entries, is_image_file, name_of};
use super::info::{DataInfo, Described, Opened};
use super::split::{cut, stratified};
use super::store::{Split, Store};

/// The test cut is the same for every seed of a pipeline, so that runs can be compared.
const TEST_SEED: u64 = 0;

/// The usual names of splits, in lower case: training, validation, tests.
const SPLITS: [&[&str]; 3] =
    [&["train", "training"], &["val", "valid", "validation", "dev"], &["test", "testing"]];

/// How many names a sentence lists.
const NAMED: usize = 5;

/// Files and labels of one split.
struct Tree {
    classes: Vec<String>,
    files: Vec<PathBuf>,
    labels: Vec<u32>,
}

/// All splits of a source, and what is odd about them, in sentences.
struct Trees {
    train: Tree,
    validation: Option<Tree>,
    test: Option<Tree>,
    notes: Vec<String>,
}

pub(super) fn describe(source: &FolderSource, labels: Labels, root: &Path) -> Result<Described> {
    let trees = trees(root, labels, source.test)?;
    Ok(Described { info: info(source, &trees), notes: trees.notes })
}

pub(super) fn read(source: &FolderSource, labels: Labels, root: &Path) -> Result<Opened> {
    let trees = trees(root, labels, source.test)?;
    let info = info(source, &trees);
    let open = |tree: Tree| {
        Split::whole(Store::files(info.shape, source.fit, source.truncated, tree.files), tree.labels)
    };
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
    Ok(Opened { info, train, validation, test, notes: trees.notes })
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

/// Reads all splits; `test` is the share that will be held out for tests where there is no such split.
fn trees(root: &Path, labels: Labels, test: f64) -> Result<Trees> {
    let mut notes = Vec::new();
    let [train, validation, split_test] = split_folders(root, &mut notes)?;
    let Some(train) = train else {
        let train = tree(root, labels, None, &mut notes)?;
        few_images(&train, test, true, &mut notes);
        return Ok(Trees { train, validation: None, test: None, notes });
    };
    let train = tree(&train, labels, None, &mut notes)?;
    // Nothing is held out for a split that there is.
    let test = if split_test.is_some() { 0.0 } else { test };
    few_images(&train, test, validation.is_none(), &mut notes);
    let mut other = |folder: Option<PathBuf>| {
        folder.map(|folder| tree(&folder, labels, Some(&train.classes), &mut notes)).transpose()
    };
    let (validation, test) = (other(validation)?, other(split_test)?);
    Ok(Trees { train, validation, test, notes })
}

/// The folders of the splits, if there is one for training; and what lies beside them.
fn split_folders(root: &Path, notes: &mut Vec<String>) -> Result<[Option<PathBuf>; 3]> {
    let mut found: [Option<PathBuf>; 3] = [None, None, None];
    let mut others = Vec::new();
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        entries(root)?.into_iter().partition(|path| path.is_dir());
    for path in folders {
        let name = name_of(&path).to_lowercase();
        let Some(place) = SPLITS.iter().position(|names| names.contains(&name.as_str())) else {
            others.push(name_of(&path));
            continue;
        };
        if let Some(first) = &found[place] {
            let problem = format!(
                "{}: the folders '{}' and '{}' are the same split",
                root.display(),
                name_of(first),
                name_of(&path)
            );
            return Err(InputError::new(problem).hint("keep one of them").into());
        }
        found[place] = Some(path);
    }
    if found[0].is_some() {
        let mut others = Found::default();
        beside(root, files, &mut others, ["the folders of the splits", "split"], notes);
        notes.extend(others.left_out(root));
    }
    match &found[0] {
        Some(train) if !others.is_empty() => notes.push(format!(
            "{}: beside '{}', these folders are not read: {}; splits are called train, val and test",
            root.display(),
            name_of(train),
            listed(&others)
        )),
        Some(_) => {}
        None => {
            let called: Vec<String> = found.iter().flatten().map(|path| name_of(path)).collect();
            if !called.is_empty() {
                notes.push(format!(
                    "{}: without a folder 'train' beside it, {} is taken for a class",
                    root.display(),
                    listed(&called)
                ));
            }
            return Ok([None, None, None]);
        }
    }
    Ok(found)
}

/// Notes the images among the files beside folders, and counts the others. An image there has none of what a folder gives.
fn beside(
    root: &Path,
    files: Vec<PathBuf>,
    others: &mut Found,
    [folders, gives]: [&str; 2],
    notes: &mut Vec<String>,
) {
    let (images, rest): (Vec<PathBuf>, Vec<PathBuf>) =
        files.into_iter().partition(|path| is_image_file(path));
    let lie = match images.len() {
        0 => None,
        1 => Some("an image lies".to_string()),
        count => Some(format!("{count} images lie")),
    };
    notes.extend(lie.map(|lie| {
        format!("{}: {lie} beside {folders}, without a {gives}, and will not be used", root.display())
    }));
    rest.into_iter().for_each(|path| others.file(path));
}

/// The images of one split, sorted by name: those of its class folders at any depth, or all at any depth if they have no
/// labels. `known` are the classes of the training split.
fn tree(root: &Path, labels: Labels, known: Option<&[String]>, notes: &mut Vec<String>) -> Result<Tree> {
    if labels == Labels::Teacher {
        let found = Found::below(root)?;
        if found.images.is_empty() {
            let problem = format!("{}: no {FORMATS} file in this folder or below", root.display());
            return Err(InputError::new(problem).hint("give a folder of images").into());
        }
        notes.extend(found.left_out(root));
        let labels = vec![0; found.images.len()];
        return Ok(Tree { classes: Vec::new(), files: found.images, labels });
    }
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        entries(root)?.into_iter().partition(|path| path.is_dir());
    let own: Vec<String> = folders.iter().map(|folder| name_of(folder)).collect();
    let classes = known.map_or_else(|| own.clone(), <[String]>::to_vec);
    check_classes(root, &own, &classes, notes)?;
    let mut all = Found::default();
    beside(root, files, &mut all, ["the class folders", "class"], notes);
    let mut tree = Tree { classes, files: Vec::new(), labels: Vec::new() };
    for folder in folders {
        let found = Found::below(&folder)?;
        if found.images.is_empty() {
            let problem = format!("{}: no {FORMATS} file in this class", folder.display());
            return Err(InputError::new(problem).hint("remove the folder or add images").into());
        }
        let label = tree.classes.iter().position(|class| *class == name_of(&folder)).unwrap_or(0);
        tree.labels.extend(std::iter::repeat_n(label as u32, found.images.len()));
        tree.files.extend(found.images.iter().cloned());
        all.extend(found);
    }
    notes.extend(all.left_out(root));
    Ok(tree)
}

/// Refuses a split without classes or with others than the training split, and notes which it lacks.
fn check_classes(
    root: &Path,
    own: &[String],
    classes: &[String],
    notes: &mut Vec<String>,
) -> Result<(), InputError> {
    if classes.len() < 2 || own.is_empty() {
        let problem =
            format!("{}: found {} class folders, a classifier needs at least two", root.display(), own.len());
        return Err(InputError::new(problem).hint("put each class's images into a folder of its name"));
    }
    if let Some(odd) = own.iter().find(|class| !classes.contains(class)) {
        let problem = format!("{}: class '{odd}' is not among the training images", root.display());
        return Err(InputError::new(problem).hint("remove the folder, or add training images of that class"));
    }
    let lacking: Vec<String> = classes.iter().filter(|class| !own.contains(class)).cloned().collect();
    if !lacking.is_empty() {
        notes.push(format!("{}: no images of the classes {}", root.display(), listed(&lacking)));
    }
    Ok(())
}

/// Notes classes of which a single image is left for training once the tests are held out, and so none for validation, if
/// that is held out too.
fn few_images(train: &Tree, test: f64, validation: bool, notes: &mut Vec<String>) {
    let mut counts = vec![0usize; train.classes.len()];
    for &label in &train.labels {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    let single = train.classes.iter().zip(counts).filter(|(_, count)| count - cut(*count, test) == 1);
    let single: Vec<String> = single.map(|(class, _)| class.clone()).collect();
    if !single.is_empty() {
        let none = if validation { ", and none for validation," } else { "" };
        notes.push(format!("a single image is left for training{none} in the classes {}", listed(&single)));
    }
}

/// Names in a sentence.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMED) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(root: &Path, path: &str, value: u8) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(5, 4, image::Rgb([value; 3])).save(path).unwrap();
    }

    fn source(test: f64) -> FolderSource {
        FolderSource { test, ..FolderSource::new(".".into(), [4, 4]) }
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
        assert_eq!((described.info.train_images, described.info.test_images), (16, Some(4)));
        assert_eq!(described.notes, opened.notes);
        assert!(
            opened.notes[0].ends_with("1 file is no image and is left out: 1 .txt"),
            "{:?}",
            opened.notes
        );
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
        assert!(error.to_string().contains("class 'wasp' is not among the training images"), "{error}");
        std::fs::remove_dir_all(folder.path().join("val/wasp")).unwrap();
        let described = describe(&source(0.0), Labels::Own, folder.path()).unwrap();
        let said = described.notes.join("\n");
        assert!(
            said.contains("no images of the classes 'bee'")
                && said.contains("a single image is left for training in"),
            "{said}"
        );
        // Of two images one is held out for tests, and the other stays for training.
        let folder = tempfile::tempdir().unwrap();
        for path in ["ant/a.png", "ant/b.png", "bee/a.png", "bee/b.png", "bee/c.png"] {
            save(folder.path(), path, 1);
        }
        let notes = |test| describe(&source(test), Labels::Own, folder.path()).unwrap().notes;
        assert!(notes(0.3)[0].contains("and none for validation, in the classes 'ant'"), "{:?}", notes(0.3));
        assert_eq!(notes(0.0), Vec::<String>::new());
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), "train/ant/a.png", 1);
        save(folder.path(), "train/bee/a.png", 1);
        save(folder.path(), "val/ant/a.png", 1);
        save(folder.path(), "train/wasp/a.png", 1);
        save(folder.path(), "val/wasp/b.png", 1);
        let read = read(&source(0.0), Labels::Own, folder.path()).unwrap();
        assert_eq!(read.validation.unwrap().labels(), [0, 2]);
    }

    #[test]
    fn splits_have_several_names() {
        for (validation, test) in
            [("val", "test"), ("valid", "Testing"), ("Dev", "TEST"), ("validation", "test")]
        {
            let folder = tempfile::tempdir().unwrap();
            for (split, count) in [("Train", 4), (validation, 3), (test, 2)] {
                for index in 0..count {
                    save(folder.path(), &format!("{split}/ant/{index}.png"), 1);
                    save(folder.path(), &format!("{split}/bee/deeper/{index}.bmp"), 1);
                }
            }
            save(folder.path(), "extra/ant/1.png", 1);
            let Described { info, notes } = describe(&source(0.0), Labels::Own, folder.path()).unwrap();
            let images = (info.train_images, info.validation_images, info.test_images);
            assert_eq!(images, (8, Some(6), Some(4)));
            assert!(notes.len() == 1 && notes[0].contains("not read: 'extra'"), "{notes:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        for path in ["test/a.png", "fresh/a.png", "test/b.png", "fresh/b.png"] {
            save(folder.path(), path, 1);
        }
        let Described { info, notes } = describe(&source(0.0), Labels::Own, folder.path()).unwrap();
        assert_eq!(info.classes, ["fresh", "test"]);
        assert!(notes[0].contains("'test' is taken for a class"), "{notes:?}");
        for path in ["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"] {
            save(folder.path(), path, 1);
        }
        let error = describe(&source(0.0), Labels::Own, folder.path()).unwrap_err();
        assert!(error.to_string().contains("'val' and 'valid' are the same split"), "{error}");
    }

    #[test]
    fn files_beside_folders_are_told() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["train/ant/a.png", "train/ant/b.png", "train/bee/a.png", "train/bee/b.png"] {
            save(folder.path(), path, 1);
        }
        let notes = || describe(&source(0.0), Labels::Own, folder.path()).unwrap().notes.join("\n");
        assert_eq!(notes(), "");
        save(folder.path(), "train/loose.png", 1);
        std::fs::write(folder.path().join("train/classes.txt"), "ant").unwrap();
        let told = notes();
        assert!(told.contains("train: an image lies beside the class folders, without a class"), "{told}");
        assert!(told.contains("train: 1 file is no image and is left out: 1 .txt"), "{told}");
        save(folder.path(), "1.png", 1);
        save(folder.path(), "2.png", 1);
        std::fs::write(folder.path().join("README.md"), "ants").unwrap();
        let told = notes();
        assert!(told.contains("2 images lie beside the folders of the splits, without a split"), "{told}");
        assert!(told.contains("1 file is no image and is left out: 1 .md"), "{told}");
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
        assert!(error.to_string().contains("no PNG, JPEG"), "{error}");
    }
}
