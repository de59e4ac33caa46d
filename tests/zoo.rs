//! The ready architectures: their published sizes, their files, and the errors for wrong ones.

use std::collections::BTreeSet;
use std::path::Path;

use cohort::config::{Family, ModelSpec, ResnetCifar, parse};
use cohort::error::{InputError, exit_code, exit_code_of, hint_of};
use cohort::graph::{Cost, Graph, cost};
use cohort::zoo::{build, find_model, ready};

const CIFAR: [usize; 3] = [3, 32, 32];

fn spec(name: &str) -> ModelSpec {
    find_model(name, Path::new("")).unwrap()
}

fn cost_of(name: &str, input: [usize; 3], classes: usize) -> Cost {
    cost(&build(&spec(name), input, classes).unwrap())
}

fn model(text: &str) -> Result<ModelSpec, InputError> {
    parse(text, "m.yaml")
}

fn build_error(text: &str, input: [usize; 3]) -> anyhow::Error {
    build(&model(text).unwrap(), input, 10).unwrap_err()
}

#[test]
fn parameter_counts_are_the_published_ones() {
    for (name, params) in [
        ("resnet20", 278_324),
        ("resnet32", 472_756),
        ("resnet56", 861_620),
        ("resnet110", 1_736_564),
        ("resnet8x4", 1_233_540),
        ("resnet32x4", 7_433_860),
        ("wrn_16_2", 703_284),
        ("wrn_40_1", 569_780),
        ("wrn_40_2", 2_255_156),
        ("vgg8", 3_965_028),
        ("vgg11", 9_277_284),
        ("vgg13", 9_462_180),
        ("vgg16", 14_774_436),
        ("vgg19", 20_086_692),
        ("mobilenet_v2", 812_836),
        ("shufflenet_v2", 1_355_528),
        ("resnet18", 11_220_132),
        ("resnet34", 21_328_292),
        ("resnet50", 23_705_252),
        ("alexnet", 2_495_396),
    ] {
        assert_eq!(cost_of(name, CIFAR, 100).params, params, "{name}");
    }
}

/// MACs as stated in papers on filter pruning for CIFAR-10. Those networks have shortcuts without parameters; ours need
/// up to 1 % more for 1×1 convolutions.
#[test]
fn macs_are_the_published_ones() {
    for (name, millions) in
        [("resnet20", 40.6), ("resnet32", 68.9), ("resnet56", 125.5), ("resnet110", 252.9)]
    {
        let macs = cost_of(name, CIFAR, 10).macs as f64 / 1e6;
        assert!((macs - millions).abs() < 0.01 * millions, "{name}: {macs} M, not {millions} M");
    }
}

#[test]
fn the_embedded_list_is_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let files: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let listed: Vec<String> = ready().iter().map(|(name, _)| format!("{name}.yaml")).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), files);
    assert!(ready().is_sorted(), "the list is sorted by name");
    for (name, text) in ready() {
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("# ") && first.contains("arXiv"), "{name} opens with: {first}");
        assert_eq!(std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap(), *text);
    }
}

#[test]
fn every_ready_model_builds_at_three_sizes() {
    for (name, _) in ready() {
        for (input, classes) in [(CIFAR, 100), ([1, 28, 28], 10), ([1, 8, 8], 10), ([3, 96, 64], 2)] {
            if *name == "alexnet" && input == [1, 8, 8] {
                assert!(build(&spec(name), input, classes).is_err());
                continue;
            }
            let graph =
                build(&spec(name), input, classes).unwrap_or_else(|e| panic!("{name} {input:?}: {e:#}"));
            assert_eq!(graph.classes(), classes, "{name}");
            let embedding = graph.node(graph.output(Graph::EMBEDDING).unwrap());
            let logits = graph.node(graph.output(Graph::LOGITS).unwrap());
            assert_eq!(embedding.shape.len(), 1, "{name}");
            assert_eq!(graph.input_shapes(logits), [&embedding.shape], "{name}");
        }
    }
}

#[test]
fn every_ready_model_round_trips() {
    for (name, text) in ready() {
        let written = parse::<ModelSpec>(text, name).unwrap();
        let mut yaml = Vec::new();
        let mut serializer = serde_yaml::Serializer::new(&mut yaml);
        serde_yaml::with::singleton_map_recursive::serialize(&written, &mut serializer).unwrap();
        let yaml = String::from_utf8(yaml).unwrap();
        assert_eq!(parse::<ModelSpec>(&yaml, name).unwrap(), written, "{yaml}");
        let json = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<ModelSpec>(&json).unwrap(), written, "{json}");
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let short = model("family: resnet_cifar\ndepth: 20\n").unwrap();
    let long = ResnetCifar { depth: 20, width: 16, stem: None };
    assert_eq!(short, ModelSpec::Family(Family::ResnetCifar(long)));
    assert_eq!(
        model("family: mobilenet_v2").unwrap(),
        model("family: mobilenet_v2\nwidth: 1.0\nexpansion: 6\nstem_stride: 2\nactivation: relu").unwrap()
    );
    assert_eq!(model("family: vgg\ndepth: 8").unwrap(), model("family: vgg\ndepth: 8\nwidth: 64").unwrap());
}

#[test]
fn unknown_keys_and_values_are_refused_with_what_is_allowed() {
    for (text, found, allowed) in [
        ("family: resnet_cifar\ndepht: 20\n", "depht", "depth"),
        ("family: resnet_cifar\ndepth: 20\nwidht: 32\n", "widht", "width"),
        ("family: resnet_cifer\ndepth: 20\n", "resnet_cifer", "resnet_cifar"),
        ("famly: vgg\n", "famly", "family"),
        ("family: vgg\ndepth: 8\nfamily: wrn\n", "family", "depth"),
        ("family: wrn\ndepth: 16\nlayers: []\n", "layers", "widen"),
        ("layers: [relu]\nwidth: 3\n", "width", "layers"),
        ("layers: [relv]\n", "relv", "relu"),
        ("layers: [conv: {out: 3, kernl: 3}]\n", "kernl", "kernel"),
        ("layers: [linear: {out: klasses}]\n", "klasses", "classes"),
        ("layers: [residual: {body: [{max_pool: {kernle: 2}}]}]\n", "kernle", "kernel"),
        ("depth: 20\nfamily: resnet_cifar\n", "", "family"),
        ("{}", "", "family"),
        ("family: resnet_cifar\n", "", "depth"),
    ] {
        let error = model(text).unwrap_err();
        let all = format!("{error} {}", error.hint.clone().unwrap_or_default());
        assert!(all.contains(found) && all.contains(allowed), "{text}: {all}");
    }
}

#[test]
fn errors_below_the_family_keep_their_line() {
    let typo = model("# a comment\nfamily: resnet_cifar\ndepth: 20\nwidht: 32\n").unwrap_err();
    assert!(typo.message.contains(":4:") || typo.message.contains("line 4"), "{typo}");
    let text = model("family: resnet_cifar\ndepth: 20\nwidth: wide\n").unwrap_err();
    assert!(text.message.contains(":3:") || text.message.contains("line 3"), "{text}");
}

#[test]
fn numbers_outside_a_family_name_the_nearest_allowed() {
    for (text, found, remedy) in [
        ("family: resnet_cifar\ndepth: 21", "6n + 2", "20 or 26"),
        ("family: wrn\ndepth: 20", "6n + 4", "16 or 22"),
        ("family: vgg\ndepth: 12", "12", "11, 13"),
        ("family: shufflenet_v2\nwidth: 0.75", "0.75", "0.5, 1"),
        ("family: mobilenet_v2\nwidth: 0.01", "0.01", "0.0625"),
        ("family: mobilenet_v2\nwidth: .nan", "NaN", ""),
        ("family: resnet_cifar\ndepth: 8\nwidth: 99999999999", "99999999999", ""),
        ("layers: [global_avg_pool, flatten, linear: {out: 10}]", "last layer", "out: classes"),
        ("layers: []", "last layer", "out: classes"),
        ("layers: [conv: {out: 4, padding: 18446744073709551615}, linear: {out: classes}]", "padding", ""),
    ] {
        let error = build_error(text, CIFAR);
        assert_eq!(exit_code_of(&error), exit_code::INPUT, "{text}: {error:#}");
        assert!(format!("{error:#}").contains(found), "{text}: {error:#}");
        assert!(hint_of(&error).unwrap_or_default().contains(remedy), "{text}: {:?}", hint_of(&error));
    }
}

#[test]
fn misfits_name_node_and_remedy() {
    let small = build_error("family: vgg\ndepth: 8", [1, 4, 4]);
    assert!(format!("{small:#}").contains("'stage3.pool'"), "{small:#}");
    assert!(format!("{small:#}").contains("1x4x4"), "{small:#}");
    assert!(hint_of(&small).unwrap().contains("8x8"), "{:?}", hint_of(&small));
    let unflattened = build_error("layers: [conv: {out: 4}, linear: {out: classes}]", CIFAR);
    assert!(format!("{unflattened:#}").contains("flatten"), "{unflattened:#}");
    assert_eq!(exit_code_of(&unflattened), exit_code::INPUT);
    let no_pixels = build_error("family: resnet_cifar\ndepth: 8", [3, 0, 32]);
    assert_eq!(exit_code_of(&no_pixels), exit_code::INPUT);
    assert!(build(&spec("resnet8"), CIFAR, 0).is_err());
}

#[test]
fn references_are_names_or_paths() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.yaml"), "family: vgg\ndepth: 8\n").unwrap();
    std::fs::write(folder.path().join("bad.yml"), "family: vgg\ndeep: 8\n").unwrap();
    assert_eq!(find_model("mine.yaml", folder.path()).unwrap(), spec("vgg8"));

    let bad = find_model("bad.yml", folder.path()).unwrap_err();
    assert!(format!("{bad:#}").contains("bad.yml") && format!("{bad:#}").contains("deep"), "{bad:#}");
    for (reference, nearest) in [
        ("resnet21", "resnet20"),
        ("mobilenetv2", "mobilenet_v2"),
        ("models/resnet20.yaml", "resnet20"),
        ("wrn16_2", "wrn_16_2"),
    ] {
        let error = find_model(reference, folder.path()).unwrap_err();
        assert_eq!(exit_code_of(&error), exit_code::INPUT);
        assert!(hint_of(&error).unwrap().contains(nearest), "{reference}: {:?}", hint_of(&error));
    }
}
