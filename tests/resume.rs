//! What a run survives: being killed at the worst moments, a damaged checkpoint, a full disk.
#![cfg(feature = "train")]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use support::{RESULTS, Workspace, first_difference, results, succeeded, text};

const EPOCHS: usize = 24;
const KILLS: usize = 20;
const KILLS_IN_A_CHECKPOINT: usize = 5;
const KILLS_BEFORE_THE_MANIFEST: usize = 3;
const KILLS_IN_PRETRAINING: usize = 2;

/// When a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A checkpoint is being written: its temporary file is there.
    Checkpoint,
    /// A stage's files are all written, and the manifest does not list them yet.
    Manifest,
    /// After a time.
    Milliseconds(u64),
}

/// Whether a folder holds a file that is being written.
fn being_written(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".writing-"))
}

fn status(run: &Path, stage: &str) -> Option<String> {
    let manifest: Value = serde_json::from_str(&fs::read_to_string(run.join("manifest.json")).ok()?).ok()?;
    let entries = manifest["stages"].as_array()?;
    let entry = entries.iter().find(|entry| entry["name"] == stage)?;
    Some(entry["status"].as_str()?.to_string())
}

/// Waits for the moment and kills the process. Returns whether the moment was met, judged by the folder afterwards.
fn kill(child: &mut Child, run: &Path, at: At) -> bool {
    let folders = ["01-pretrain", "02-collaborate"].map(|stage| run.join(stage));
    let unfinished = |index: usize| {
        let stage = ["pretrain", "collaborate"][index];
        folders[index].join("result.json").exists() && status(run, stage).as_deref() == Some("running")
    };
    let before = [unfinished(0), unfinished(1)];
    let now = |folder: &Path| being_written(&folder.join("checkpoint"));
    let started = Instant::now();
    let deadline = Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() && started.elapsed() < deadline {
        let met = match at {
            At::Checkpoint => folders.iter().any(|folder| now(folder)),
            At::Manifest => (0..2).any(|index| !before[index] && unfinished(index)),
            At::Milliseconds(wait) => started.elapsed() >= Duration::from_millis(wait),
        };
        if met {
            break;
        }
    }
    let alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    alive
        && match at {
            At::Checkpoint => folders.iter().any(|folder| now(folder)),
            At::Manifest => unfinished(0) || unfinished(1),
            At::Milliseconds(_) => true,
        }
}

/// Kills one run repeatedly, while checkpoints are written, between a stage's files and the manifest, in both stages and
/// between them, and compares its result with an uninterrupted run.
#[test]
fn killed_runs_end_with_the_same_bytes() {
    let workspace = Workspace::new(EPOCHS);
    succeeded(&workspace.run("calm", &[]));
    let run = workspace.path("killed");
    let (mut checkpoint, mut manifest, mut pretraining, mut kills) = (0, 0, 0, 0);
    for attempt in 0..120u64 {
        let done = status(&run, "collaborate").as_deref() == Some("done");
        let enough = kills >= KILLS
            && checkpoint >= KILLS_IN_A_CHECKPOINT
            && manifest >= KILLS_BEFORE_THE_MANIFEST
            && pretraining >= KILLS_IN_PRETRAINING;
        if enough || done {
            if enough {
                break;
            }
            // The run ended before all kills: go on with another one.
            compare(&workspace, "killed");
            fs::remove_dir_all(&run).unwrap();
        }
        let in_pretraining = status(&run, "pretrain").as_deref() != Some("done");
        let at = match attempt % 4 {
            0 => At::Milliseconds(250 + 90 * (attempt % 7)),
            1 | 3 => At::Checkpoint,
            _ if manifest < KILLS_BEFORE_THE_MANIFEST => At::Manifest,
            _ => At::Milliseconds(400),
        };
        let mut child = workspace.spawn("killed");
        if kill(&mut child, &run, at) {
            kills += 1;
            pretraining += usize::from(in_pretraining);
            match at {
                At::Checkpoint => checkpoint += 1,
                At::Manifest => manifest += 1,
                At::Milliseconds(_) => {}
            }
        }
    }
    let counts = format!(
        "{kills} kills, {checkpoint} in a checkpoint, {manifest} before the manifest, {pretraining} in pre-training"
    );
    assert!(kills >= KILLS && checkpoint >= KILLS_IN_A_CHECKPOINT, "{counts}");
    assert!(manifest >= KILLS_BEFORE_THE_MANIFEST && pretraining >= KILLS_IN_PRETRAINING, "{counts}");
    compare(&workspace, "killed");
    let left = |folder: &str| being_written(&workspace.path(folder));
    assert!(!left("killed") && !left("killed/02-collaborate"), "half-written files are cleared away");
}

#[track_caller]
fn compare(workspace: &Workspace, run: &str) {
    succeeded(&workspace.run(run, &[]));
    let (killed, calm) = (results(&workspace.path(run)), results(&workspace.path("calm")));
    for ((file, killed), calm) in RESULTS.iter().zip(&killed).zip(&calm) {
        assert!(killed == calm, "{file} differs:\n{}", first_difference(killed, calm));
    }
}

/// Starts a run, kills it as soon as the students' checkpoint has that file, and gives the checkpoint's folder.
#[track_caller]
fn killed_at(workspace: &Workspace, run: &str, file: &str) -> PathBuf {
    let mut child = workspace.spawn(run);
    let checkpoint = workspace.path(run).join("02-collaborate/checkpoint");
    let started = Instant::now();
    while !checkpoint.join(file).exists() {
        assert!(started.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    checkpoint
}

#[test]
fn a_truncated_checkpoint_costs_an_epoch_and_no_more() {
    let workspace = Workspace::new(12);
    succeeded(&workspace.run("calm", &[]));
    let state = killed_at(&workspace, "cut", "previous.safetensors").join("state.safetensors");
    let bytes = fs::read(&state).unwrap();
    // The previous checkpoint may be the same file under another name.
    fs::remove_file(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    compare(&workspace, "cut");
}

#[test]
fn another_number_of_threads_is_warned_of() {
    let workspace = Workspace::new(12);
    killed_at(&workspace, "out", "state.safetensors");
    let output = workspace.command("out", &[]).env("OMP_NUM_THREADS", "1").output().unwrap();
    succeeded(&output);
    let said = text(&output.stderr);
    let threads = std::thread::available_parallelism().unwrap().get();
    if threads > 1 {
        assert!(said.contains("this run began elsewhere (threads"), "{said}");
    }
    // Where nothing is left to be resumed, there is nothing to warn of.
    let output = workspace.run("out", &[]);
    succeeded(&output);
    let said = text(&output.stderr);
    assert!(!said.contains("began elsewhere"), "{said}");
}

/// In a file system of a few hundred kilobytes, a run stops with a clear error, and resumes when there is space.
#[test]
#[cfg_attr(not(cohort_namespaces), ignore = "needs user namespaces and tmpfs")]
fn a_full_disk_and_a_read_only_one_lose_nothing() {
    let workspace = Workspace::new(3);
    succeeded(&workspace.run("calm", &[]));
    let binary = env!("CARGO_BIN_EXE_cohort");
    let script = format!(
        "set -u; mkdir small; mount -t tmpfs -o size=300k none small || exit 90
         {binary} run p.yaml --quiet --out small/run 2>full.txt; echo full $?
         mount -o remount,size=20m small; mount -o remount,ro small
         {binary} run p.yaml --quiet --out small/run 2>read-only.txt; echo read-only $?
         mount -o remount,rw small
         {binary} run p.yaml --quiet --json --out small/run >report.json 2>whole.txt; echo whole $?
         cp -r small/run copy; mount -o remount,ro small
         {binary} run p.yaml --json --out small/run >shown.json 2>shown.txt; echo shown $?
         {binary} run p.yaml --quiet --set seed=9 --out small/run 2>other.txt; echo other $?"
    );
    let mut unshare = std::process::Command::new("unshare");
    let output = unshare
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(workspace.path("."))
        .output()
        .unwrap();
    let said = |file: &str| fs::read_to_string(workspace.path(file)).unwrap();
    let codes = text(&output.stdout);
    assert!(
        codes.contains("full 2") && codes.contains("read-only 2") && codes.contains("whole 0"),
        "{codes}"
    );
    assert!(said("full.txt").contains("free some space"), "{}", said("full.txt"));
    assert!(said("read-only.txt").contains("Read-only file system"), "{}", said("read-only.txt"));
    assert!(codes.contains("shown 0") && codes.contains("other 2"), "{codes}");
    assert!(said("shown.txt").contains("this is its report"), "{}", said("shown.txt"));
    let shown =
        [said("report.json"), said("shown.json")].map(|text| serde_json::from_str::<Value>(&text).unwrap());
    assert_eq!(shown[0], shown[1]);
    compare(&workspace, "copy");
}

const INTERRUPTS: usize = 50;

/// Sends a signal with the system's own program, because a test of signals should not depend on how we send them.
fn signal(child: &Child, name: &str) {
    // It may have ended in the meantime.
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .stderr(Stdio::null())
        .status();
}

/// The epoch at which a run says that it goes on.
fn resumed_at(stderr: &str) -> Option<usize> {
    let behind = stderr.split("collaborate: going on at epoch ").nth(1)?;
    behind.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// One or two signals at random distances, as `timeout` and people send them, and now and then a third one much later. The
/// process ends by itself each time, its checkpoint is never behind the one before, and the result is that of a calm run.
#[test]
fn repeated_signals_lose_nothing() {
    let workspace = Workspace::new(EPOCHS);
    succeeded(&workspace.run("calm", &[]));
    let run = workspace.path("interrupted");
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut interrupted, mut ended, mut in_training, mut epoch) = (0, 0, 0, None);
    while interrupted < INTERRUPTS {
        assert!(ended < 60, "{interrupted} interrupts only");
        let mut child = workspace.spawn("interrupted");
        std::thread::sleep(Duration::from_millis(150 + random.next_u64() % 750));
        let alive = child.try_wait().unwrap().is_none();
        signal(&child, ["TERM", "INT", "HUP"][interrupted % 3]);
        if interrupted % 10 == 9 {
            // Held back until a repeat is no longer the same request.
            signal(&child, "STOP");
            std::thread::sleep(Duration::from_millis(2_100));
            signal(&child, "TERM");
            signal(&child, "CONT");
        }
        std::thread::sleep(Duration::from_micros(random.next_u64() % 30_000));
        signal(&child, ["TERM", "INT"][interrupted % 2]);
        let output = child.wait_with_output().unwrap();
        let stderr = text(&output.stderr);
        // `None` is death by a signal: by ours while the program is still being loaded, or by a fault in memory.
        let code = output.status.code();
        if stderr.is_empty()
            && matches!(output.status.signal(), Some(libc::SIGTERM | libc::SIGINT | libc::SIGHUP))
        {
            continue;
        }
        if code == Some(0) {
            compare(&workspace, "interrupted");
            fs::remove_dir_all(&run).unwrap();
            (ended, epoch) = (ended + 1, None);
            continue;
        }
        assert!(alive && code == Some(130), "{:?} after {interrupted} interrupts:\n{stderr}", output.status);
        interrupted += 1;
        let resumed = resumed_at(&stderr);
        assert!(resumed >= epoch || resumed.is_none(), "from epoch {epoch:?} back to {resumed:?}");
        in_training += usize::from(status(&run, "collaborate").as_deref() == Some("running"));
        epoch = resumed.max(epoch);
    }
    assert!(in_training >= INTERRUPTS / 5, "{in_training} interrupts in a training");
    succeeded(&workspace.run("interrupted", &[]));
    compare(&workspace, "interrupted");
}
