//! How many processors this process may use.
//!
//! Three limits, of which the least counts: the affinity mask (taskset, cpusets), and the bandwidth quota of the control
//! group, version 2 (`cpu.max`) or 1 (`cpu.cfs_quota_us` / `cpu.cfs_period_us`), which containers set. A quota of 1.5
//! processors gives two shards: the second thread may use what the first one leaves.
//! (Linux: Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.)
//!
//! A group's own limit and those of all groups around it apply. Inside a container the path in /proc/self/cgroup may name
//! a directory that the container does not see; what it does see at the mount point is its own group then. So every
//! level is tried, from the path up to the mount point, and those that are missing are passed over.

use std::fs;
use std::path::Path;

/// The processors this thread may run on, ascending.
pub fn allowed_cpus() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let this_thread = nix::unistd::Pid::from_raw(0);
    match sched_getaffinity(this_thread) {
        Ok(set) => (0..CpuSet::count())
            .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
            .collect(),
        // A host with more processors than the mask holds.
        Err(_) => (0..std::thread::available_parallelism().map_or(1, |count| count.get())).collect(),
    }
}

/// The default of `--shards`: one for each processor that this process may use, and at least one.
pub fn shard_count_default() -> usize {
    let allowed = allowed_cpus().len();
    let quota = quota(Path::new("/")).unwrap_or(f64::INFINITY);
    count(allowed, quota)
}

fn count(allowed: usize, quota: f64) -> usize {
    allowed.min(quota.ceil() as usize).max(1)
}

/// The least quota in processors, of this process's group and all around it; `None` without one.
fn quota(root: &Path) -> Option<f64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let mut least: Option<f64> = None;
    for group in groups.lines() {
        // hierarchy-ID:controller-list:path
        let mut fields = group.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|name| name == "cpu") {
            continue;
        }
        for mount in mounts.lines().filter_map(|line| mount_point(line, is_v2)) {
            let mount = root.join(mount.trim_start_matches('/'));
            let levels = Path::new(path.trim_start_matches('/')).ancestors();
            for level in levels {
                let directory = mount.join(level);
                let found = if is_v2 {
                    quota_v2(&directory)
                } else {
                    quota_v1(&directory)
                };
                if let Some(found) = found {
                    least = Some(least.map_or(found, |least| least.min(found)));
                }
            }
        }
    }
    least
}

/// The mount point in a line of mountinfo (proc_pid_mountinfo(5)), if it is a control group's file system with the cpu
/// controller.
fn mount_point(line: &str, is_v2: bool) -> Option<&str> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let (kind, _source, options) = (after.next()?, after.next()?, after.next()?);
    let is_wanted = match is_v2 {
        true => kind == "cgroup2",
        false => kind == "cgroup" && options.split(',').any(|option| option == "cpu"),
    };
    is_wanted.then(|| before.split(' ').nth(4)).flatten()
}

/// `cpu.max`: "max 100000" or "150000 100000", quota and period in µs.
fn quota_v2(directory: &Path) -> Option<f64> {
    let text = fs::read_to_string(directory.join("cpu.max")).ok()?;
    let mut fields = text.split_whitespace();
    ratio(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)
}

/// Two files, the quota being -1 without a limit.
fn quota_v1(directory: &Path) -> Option<f64> {
    let number = |name: &str| -> Option<i64> { fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok() };
    ratio(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
}

fn ratio(quota_us: i64, period_us: i64) -> Option<f64> {
    (quota_us > 0 && period_us > 0).then(|| quota_us as f64 / period_us as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A root directory with the given files.
    fn root(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("cpus-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const V2_MOUNT: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

    #[test]
    fn version_2_takes_the_least_of_all_levels() {
        let root = root(
            "v2",
            &[
                ("proc/self/cgroup", "0::/system.slice/shardis.service\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/system.slice/shardis.service/cpu.max", "max 100000\n"),
            ],
        );
        assert_eq!(quota(&root), Some(1.5));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_container_sees_its_group_at_the_mount_point() {
        let root = root(
            "container",
            &[
                ("proc/self/cgroup", "0::/docker/0123abcd\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/cpu.max", "200000 100000\n"),
            ],
        );
        assert_eq!(quota(&root), Some(2.0));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn version_1_reads_two_files() {
        let root = root(
            "v1",
            &[
                ("proc/self/cgroup", "5:cpuset:/\n4:cpu,cpuacct:/box\n"),
                (
                    "proc/self/mountinfo",
                    "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                     35 31 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n",
                ),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n"),
            ],
        );
        assert_eq!(quota(&root), Some(0.5));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn without_control_groups_there_is_no_quota() {
        assert_eq!(quota(Path::new("/nonexistent")), None);
    }

    #[test]
    fn part_of_a_processor_counts_as_one() {
        assert_eq!(count(8, 1.5), 2);
        assert_eq!(count(8, 0.1), 1);
        assert_eq!(count(4, f64::INFINITY), 4);
        assert_eq!(count(0, f64::INFINITY), 1);
    }

    #[test]
    fn this_host_has_processors() {
        assert!(!allowed_cpus().is_empty());
        assert!((1..=allowed_cpus().len()).contains(&shard_count_default()));
    }
}
