//! Compares the layers in ARCHITECTURE.md with the names in the source files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Parts of the table in its order, each with the parts that it may use. Every part may use those of the last rows.
struct Layers {
    order: Vec<String>,
    uses: BTreeMap<String, Option<BTreeSet<String>>>,
    common: BTreeSet<String>,
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(String::from).collect()
}

fn layers() -> Layers {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = text.split("| part | owns | uses |").nth(1).expect("ARCHITECTURE.md has the table of parts");
    let mut layers = Layers { order: Vec::new(), uses: BTreeMap::new(), common: BTreeSet::new() };
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let parts = quoted(cells[1]);
        if parts.len() > 1 {
            layers.common.extend(parts.iter().cloned());
        }
        for part in parts {
            let uses = (cells[3] != "all below").then(|| quoted(cells[3]).into_iter().collect());
            layers.uses.insert(part.clone(), uses);
            layers.order.push(part);
        }
    }
    assert!(layers.order.len() > 20, "the table has {} parts", layers.order.len());
    layers
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The part to which a file belongs; `None` for the roots, which name all parts.
fn part_of(path: &Path) -> Option<String> {
    let relative = path.strip_prefix(root().join("src")).unwrap();
    let part = relative.components().next().unwrap().as_os_str().to_string_lossy();
    let part = part.trim_end_matches(".rs").to_string();
    (!["lib", "main", "launch"].contains(&part.as_str())).then_some(part)
}

/// The parts that a file names outside its tests and comments.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let mut parts = BTreeSet::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            parts.insert(name);
        }
    }
    parts.remove("");
    parts
}

#[test]
fn each_part_uses_what_the_table_says_and_nothing_above() {
    let layers = layers();
    let place = |part: &str| layers.order.iter().position(|other| other == part);
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut problems = Vec::new();
    for path in &files {
        let Some(part) = part_of(path) else { continue };
        let Some(allowed) = layers.uses.get(&part) else {
            problems.push(format!("'{part}' is not in the table of ARCHITECTURE.md"));
            continue;
        };
        for other in named(&std::fs::read_to_string(path).unwrap()) {
            if other == part {
                continue;
            }
            let below = place(&other) > place(&part);
            let common = layers.common.contains(&other) && !layers.common.contains(&part);
            let listed = allowed.as_ref().is_none_or(|allowed| allowed.contains(&other));
            let among_common = layers.common.contains(&other) && below;
            if !(common || among_common || (below && listed)) {
                problems.push(format!("{} uses '{other}'", path.display()));
            }
            used.entry(part.clone()).or_default().insert(other);
        }
    }
    for (part, allowed) in &layers.uses {
        for other in allowed.iter().flatten() {
            if !used.get(part).is_some_and(|used| used.contains(other)) {
                problems.push(format!("the table says that '{part}' uses '{other}', and it does not"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Shows that the test above can fail.
#[test]
fn names_in_code_are_found_and_names_in_comments_and_tests_are_not() {
    let text = "use crate::graph::Op;\n// crate::torch\nfn f(x: crate::zoo::X) {}\n#[cfg(test)]\nmod tests { use crate::run::execute; }";
    assert_eq!(named(text).into_iter().collect::<Vec<_>>(), ["graph", "zoo"]);
}

/// Words in backquotes that are names of source files or scripts.
fn named_files(text: &str) -> Vec<String> {
    let named = |word: &&str| {
        let ending = word.rsplit_once('.').map(|(_, ending)| ending);
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        plain && matches!(ending, Some("rs" | "cpp" | "py" | "sh" | "toml"))
    };
    text.split('`').skip(1).step_by(2).filter(named).map(String::from).collect()
}

#[test]
fn files_that_the_documentation_names_exist() {
    let mut pages: Vec<PathBuf> =
        ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"].map(|name| root().join(name)).into();
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let mut files = Vec::new();
    ["src", "tests"].iter().for_each(|folder| sources(&root().join(folder), &mut files));
    let (mut named, mut missing) = (0, Vec::new());
    for page in &pages {
        for name in named_files(&std::fs::read_to_string(page).unwrap()) {
            named += 1;
            let known = ["", "src"].iter().any(|folder| root().join(folder).join(&name).exists());
            if !known && !files.iter().any(|file| file.ends_with(&name)) {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(named > 60, "the documentation names {named} files");
    assert!(missing.is_empty(), "{missing:#?}");
}
