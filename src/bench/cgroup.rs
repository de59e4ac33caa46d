//! What this process's control groups allow of the CPUs: the quota of a container, and how often it ran out.
//!
//! Both versions are read, as `cgroups(7)` describes them. A group is held to the quotas of all groups above it.

use std::path::{Path, PathBuf};

/// CPU time that a process may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quota {
    /// Cores' worth of CPU time; `None` without a quota.
    pub cores: Option<f64>,
    /// Number of times a quota was used up, since the groups were made.
    pub throttled: Option<u64>,
}

/// The quota of this process.
pub(super) fn quota() -> Quota {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let groups = groups(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    let mut quota = Quota { cores: None, throttled: None };
    for Group { mount, path, unified } in groups {
        for folder in path.ancestors().map(|path| mount.join(path)) {
            let cores = if unified { cores_unified(&folder) } else { cores_before(&folder) };
            quota.cores = [quota.cores, cores].into_iter().flatten().reduce(f64::min);
            let stat = std::fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
            let throttled = throttled(&stat);
            quota.throttled = quota.throttled.max(throttled);
        }
    }
    quota
}

/// The place of a control group that may have a quota.
#[derive(Debug, PartialEq)]
struct Group {
    /// Where its hierarchy is mounted.
    mount: PathBuf,
    /// Its path below.
    path: PathBuf,
    /// Whether the hierarchy is the unified one, version 2.
    unified: bool,
}

/// The groups of `/proc/PID/cgroup` that rule CPU time, in the hierarchies of `/proc/PID/mountinfo`.
fn groups(groups: &str, mounts: &str) -> Vec<Group> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let unified = controllers.is_empty();
        if !unified && !controllers.split(',').any(|controller| controller == "cpu") {
            continue;
        }
        for mount in mounts.lines() {
            let Some((place, kind)) = mount.split_once(" - ") else { continue };
            let mut kind = kind.split(' ');
            let (kind, options) = (kind.next().unwrap_or_default(), kind.next_back().unwrap_or_default());
            let right = match unified {
                true => kind == "cgroup2",
                false => kind == "cgroup" && options.split(',').any(|option| option == "cpu"),
            };
            // The fourth field is the folder of the hierarchy that is mounted, which a container may have for its root.
            let mut fields = place.split(' ').skip(3);
            let (Some(root), Some(mount)) = (fields.next(), fields.next()) else { continue };
            if right {
                let path = Path::new(path);
                let below = path.strip_prefix(root).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
                found.push(Group { mount: mount.into(), path: below.into(), unified });
                break;
            }
        }
    }
    found
}

/// Version 2: `50000 100000` for half a core, `max 100000` without a quota.
fn cores_unified(folder: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(folder.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    cores(quota, period)
}

/// Version 1: microseconds in two files; -1 without a quota.
fn cores_before(folder: &Path) -> Option<f64> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    cores(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
}

fn cores(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn throttled(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_in_both_versions() {
        let group =
            |mount: &str, path: &str, unified| Group { mount: mount.into(), path: path.into(), unified };
        let unified = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            groups("0::/user.slice/run-1.scope\n", unified),
            [group("/sys/fs/cgroup", "user.slice/run-1.scope", true)]
        );
        // In a container without a namespace of its own, what is mounted is the group itself.
        let before = "40 31 0:29 /docker/ab /sys/fs/cgroup/cpu,cpuacct ro shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      41 31 0:30 /docker/ab /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n";
        assert_eq!(
            groups("5:cpuset:/docker/ab\n4:cpu,cpuacct:/docker/ab/job\n", before),
            [group("/sys/fs/cgroup/cpu,cpuacct", "job", false)]
        );
        assert_eq!(groups("", ""), []);
        assert_eq!(groups("4:cpu", "nonsense - cgroup"), []);
    }

    #[test]
    fn quotas_are_shares_of_cores() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!((cores_unified(folder.path()), cores_before(folder.path())), (None, None));
        write("cpu.max", "150000 100000\n");
        write("cpu.cfs_quota_us", "50000\n");
        write("cpu.cfs_period_us", "100000\n");
        assert_eq!((cores_unified(folder.path()), cores_before(folder.path())), (Some(1.5), Some(0.5)));
        write("cpu.max", "max 100000\n");
        write("cpu.cfs_quota_us", "-1\n");
        assert_eq!((cores_unified(folder.path()), cores_before(folder.path())), (None, None));
        assert_eq!(throttled("usage_usec 5\nnr_throttled 7\n"), Some(7));
    }
}
