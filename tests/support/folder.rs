//! A folder with an exported model and images, and the real binary called in it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cohort::contract::{ChannelOrder, Fit, PixelRange, Resize};
use cohort::graph::Model;
use cohort::onnx::{Metadata, emit, plain_contract};
use cohort::zoo;
use serde_json::Value;

pub struct Folder(pub tempfile::TempDir);

impl Folder {
    /// A folder with an exported model of random weights and some images.
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.model("m.onnx", [3, 8, 8], 1);
        std::fs::create_dir(folder.path("images")).unwrap();
        for (name, value) in [("a.png", 10), ("b.JPG", 200)] {
            let image = image::RgbImage::from_pixel(11, 9, image::Rgb([value, 50, 90]));
            image.save(folder.path(&format!("images/{name}"))).unwrap();
        }
        folder
    }

    /// Writes a model of random weights.
    pub fn model(&self, name: &str, input: [usize; 3], seed: u64) {
        let spec = zoo::find_model("resnet8", Path::new(".")).unwrap();
        let graph = zoo::build(&spec, input, 3).unwrap();
        let metadata = Metadata {
            classes: ["ant", "bee", "wasp"].map(String::from).to_vec(),
            input,
            channel_order: ChannelOrder::decoded(input[0]),
            resize: Resize::default(),
            fit: Fit::default(),
            range: PixelRange::default(),
            mean: vec![0.5; input[0]],
            std: vec![0.25; input[0]],
            normalizes: None,
            score: None,
            student: "tiny".into(),
            run: "test".into(),
        };
        let bytes =
            emit(&Model::untrained(graph.clone(), seed), &plain_contract(&graph), Some(&metadata)).unwrap();
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort"));
        command.current_dir(self.0.path()).args(args).arg("--json").output().unwrap()
    }

    /// Exit code and what was said of a command that fails.
    pub fn fails(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.output(args);
        assert!(!output.status.success(), "{args:?} passed");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}\n{}", String::from_utf8_lossy(&output.stdout)))
    }
}
