//! Files of other exporters with bytes changed, removed and inserted: import gives an error or a graph and never panics.
//! What `make fuzz` found is kept in `fixtures/hostile`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cohort::error::InputError;
use cohort::graph::cost;
use cohort::onnx::{Import, OnnxFile, contract_with_embedding, emit, import};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const MUTATIONS: usize = 12_000;

/// A few changes in random places.
fn mutated(bytes: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.next_u32() % 2 {
        let place = random.next_u32() as usize % bytes.len();
        match random.next_u32() % 12 {
            0..=3 => bytes[place] = random.next_u32() as u8,
            4..=7 => bytes[place] ^= 1 << (random.next_u32() % 8),
            8 => bytes[place] = 0xff,
            9 => bytes.truncate(place.max(1)),
            10 => drop(bytes.drain(place..(place + 1 + random.next_u32() as usize % 8).min(bytes.len()))),
            _ => {
                let piece = bytes[place..(place + 16).min(bytes.len())].to_vec();
                let to = random.next_u32() as usize % bytes.len();
                bytes.splice(to..to, piece);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

#[test]
fn changed_bytes_do_no_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (mut read, mut imported, mut slowest) = (0, 0, Duration::ZERO);
    for path in &paths {
        let bytes = std::fs::read(path).unwrap();
        for _ in 0..MUTATIONS / paths.len() {
            let start = Instant::now();
            match OnnxFile::from_bytes(mutated(&bytes, &mut random), path) {
                Err(error) => assert!(error.is::<InputError>(), "{error:#}"),
                Ok(file) => {
                    read += 1;
                    match import(&file) {
                        Err(error) => assert!(error.is::<InputError>(), "{error:#}"),
                        Ok(import) => {
                            imported += 1;
                            import.model.weights().fit(import.model.graph()).unwrap();
                            cost(import.model.graph());
                        }
                    }
                }
            }
            slowest = slowest.max(start.elapsed());
        }
    }
    assert!(
        read > imported && imported > MUTATIONS / 20,
        "{read} read, {imported} imported: too few to mean anything"
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?} for one file");
}

#[test]
fn what_did_harm_once_does_none() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hostile");
    let paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in &paths {
        let start = Instant::now();
        match OnnxFile::load(path).and_then(|file| import(&file)) {
            Err(error) => assert!(error.is::<InputError>(), "{error:#}"),
            Ok(import) => comes_back(&import, path),
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{}: {:?}", path.display(), start.elapsed());
    }
    assert!(!paths.is_empty());
}

/// Emission and import give the same graph.
fn comes_back(first: &Import, path: &Path) {
    let bytes = emit(&first.model, &contract_with_embedding(first.model.graph()), None).unwrap();
    let second = OnnxFile::from_bytes(bytes, path).and_then(|file| import(&file)).unwrap();
    let same = first.model.graph() == second.model.graph() && first.model.weights() == second.model.weights();
    assert!(same, "{} is another after emission", path.display());
}
