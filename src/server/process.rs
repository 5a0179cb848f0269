//! The process among others: in the background, in its directory, with a pid file, known to its supervisor.
//!
//! No launcher stays in front: the pid that was spawned is the server. Only `daemonize` leaves it, and it does so by
//! starting the program again in a session of its own, before any thread exists, rather than by fork.

use crate::config::{OomScoreAdj, Settings, Supervised};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, raise};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set in the environment of a server that has left its terminal already.
const DAEMON_MARK: &str = "SHARDIS_IS_DAEMON";

/// Descriptors that the server needs besides its clients: listeners, logs, files, as Redis reserves them.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Descriptors of each shard: rings, event counters, timers (measured: 10).
const DESCRIPTORS_EACH_SHARD: u64 = 16;

/// The pid file of a daemon that names none, as in Redis.
const PIDFILE_DEFAULT: &str = "/var/run/redis.pid";

/// Whether this process should start itself again in the background and end.
pub fn should_detach(settings: &Settings) -> bool {
    settings.daemonize && settings.supervised == Supervised::No && std::env::var_os(DAEMON_MARK).is_none()
}

/// Starts the same server in the background.
pub fn detach(arguments: &[OsString]) -> io::Result<()> {
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .env(DAEMON_MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(())
}

/// In the background: leaves the session of the terminal.
pub fn leave_terminal() {
    if std::env::var_os(DAEMON_MARK).is_some() {
        // Fails only for the leader of a group, which then is in no terminal's way.
        let _ = nix::unistd::setsid();
    }
}

/// Changes into `dir`. The error is the line to log.
pub fn enter_directory(settings: &Settings) -> Result<(), String> {
    let dir = settings.dir.as_path();
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    go_to(dir)
}

/// Makes a directory the one of all files.
pub fn go_to(dir: &std::path::Path) -> Result<(), String> {
    std::env::set_current_dir(dir).map_err(|error| format!("Can't chdir to '{}': {error}", dir.display()))
}

/// The pid file, if there is to be one.
pub struct PidFile(Option<std::path::PathBuf>);

impl PidFile {
    /// Writes it.
    pub fn write(settings: &Settings) -> PidFile {
        let path = match settings.pidfile.as_path() {
            path if !path.as_os_str().is_empty() => path.to_path_buf(),
            _ if settings.daemonize => PIDFILE_DEFAULT.into(),
            _ => return PidFile(None),
        };
        match fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => PidFile(Some(path)),
            Err(error) => {
                tracing::warn!("Failed to write PID file {}: {error}", path.display());
                PidFile(None)
            }
        }
    }

    /// Removes it.
    pub fn remove(&self) {
        if let Some(path) = &self.0 {
            tracing::info!("Removing the pid file.");
            // Somebody else may have been quicker.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes room for `maxclients` connections. Returns how many there is room for, and says in the log when that is fewer.
pub fn raise_descriptor_limit(maxclients: u64, shards: usize) -> u64 {
    let reserved = RESERVED_DESCRIPTORS + DESCRIPTORS_EACH_SHARD * shards as u64;
    let wanted = maxclients.saturating_add(reserved);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return maxclients;
    };
    if soft >= wanted {
        return maxclients;
    }
    // The hard limit may be raised too, by a privileged process.
    for limit in [wanted, hard] {
        let limit = limit.min(wanted);
        if limit > soft && setrlimit(Resource::RLIMIT_NOFILE, limit, hard.max(limit)).is_ok() {
            break;
        }
    }
    let now = getrlimit(Resource::RLIMIT_NOFILE).map_or(soft, |(soft, _)| soft);
    if now >= wanted {
        return maxclients;
    }
    let possible = now.saturating_sub(reserved).max(1);
    tracing::warn!(
        "You requested maxclients of {maxclients} requiring at least {wanted} max file descriptors. Server can't set \
         maximum open files to {wanted} because of OS error. Current maximum open files is {now}. maxclients has been \
         reduced to {possible} to compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
    );
    possible
}

/// Tells the supervisor that the server is ready.
pub fn tell_supervisor(settings: &Settings) {
    let socket = std::env::var_os("NOTIFY_SOCKET");
    let is_upstart = std::env::var_os("UPSTART_JOB").is_some();
    match settings.supervised {
        Supervised::Systemd => notify_systemd(socket),
        Supervised::Upstart if is_upstart => stop_for_upstart(),
        Supervised::Auto if is_upstart => stop_for_upstart(),
        Supervised::Auto if socket.is_some() => notify_systemd(socket),
        _ => {}
    }
}

fn stop_for_upstart() {
    tracing::info!("supervised by upstart, will stop to signal readiness");
    // It is upstart that lets the process go on.
    let _ = raise(Signal::SIGSTOP);
}

fn notify_systemd(socket: Option<OsString>) {
    let Some(path) = socket else {
        tracing::warn!("systemd supervision requested or auto-detected, but NOTIFY_SOCKET is not set");
        return;
    };
    let sent = UnixDatagram::unbound()
        .and_then(|datagram| send_to(&datagram, &path, b"STATUS=Ready to accept connections\nREADY=1\n"));
    if let Err(error) = sent {
        tracing::warn!("systemd could not be told that the server is ready: {error}");
    }
}

/// Sends to a path, or to an abstract name when it begins with `@`.
fn send_to(datagram: &UnixDatagram, path: &OsString, message: &[u8]) -> io::Result<usize> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    match path.as_bytes() {
        [b'@', name @ ..] => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            datagram.send_to_addr(message, &address)
        }
        _ => datagram.send_to(message, path),
    }
}

/// `disable-thp`: the kernel gives this process no huge pages by itself, which cost memory and make latency uneven.
pub fn disable_huge_pages(settings: &Settings) {
    if settings.disable_thp
        && let Err(error) = nix::sys::prctl::set_thp_disable(true)
    {
        tracing::warn!("Transparent huge pages could not be turned off for this process: {error}");
    }
}

/// Whether there is a process of that number.
pub fn is_alive(pid: u32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}

/// `jemalloc-bg-thread`: whether jemalloc gives unused pages back in a thread of its own. Without it that happens only as
/// memory is allocated and freed, so an idle server keeps what it does not need.
pub fn set_allocator_thread(settings: &Settings) {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(settings.jemalloc_bg_thread) {
        tracing::warn!("The allocator's background thread could not be set: {error}");
    }
}

/// `oom-score-adj`: how likely the kernel ends this process when memory is short.
pub struct OomScore {
    /// The score that the process was started with: what `relative` adds to, and `no` goes back to.
    at_start: Option<i32>,
    was_set: AtomicBool,
}

impl OomScore {
    /// Remembers the score of the start.
    pub fn read() -> OomScore {
        let text = fs::read_to_string(OOM_SCORE_FILE);
        OomScore {
            at_start: text.ok().and_then(|text| text.trim().parse().ok()),
            was_set: AtomicBool::new(false),
        }
    }

    /// Gives the process the score that the settings ask for: that of a master. The error is Redis's.
    pub fn apply(&self, settings: &Settings) -> Result<(), String> {
        let at_start = self.at_start.unwrap_or(0);
        let [of_master, ..] = settings.oom_score_adj_values;
        let score = match settings.oom_score_adj {
            OomScoreAdj::No if !self.was_set.load(Ordering::Relaxed) => return Ok(()),
            OomScoreAdj::No => at_start,
            OomScoreAdj::Relative => at_start.saturating_add(of_master),
            OomScoreAdj::Absolute => of_master,
        };
        // proc_pid_oom_score_adj(5)
        let score = score.clamp(-1000, 1000);
        match fs::write(OOM_SCORE_FILE, score.to_string()) {
            Ok(()) => {
                self.was_set.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                tracing::warn!("Unable to write oom_score_adj: {error}");
                Err("Failed to apply new oom_score_adj configuration, check server logs.".to_owned())
            }
        }
    }
}

const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// Those of `allowed` that `server_cpulist` names; all of them if it names none, or is not a list.
pub fn chosen_cpus(settings: &Settings, allowed: Vec<usize>) -> Vec<usize> {
    let list = settings.server_cpulist.to_string_lossy();
    if list.is_empty() {
        return allowed;
    }
    let Some(named) = parse_cpus(&list) else {
        tracing::warn!("server_cpulist '{list}' is no list of CPUs, and is passed over.");
        return allowed;
    };
    let chosen: Vec<usize> = allowed.iter().copied().filter(|cpu| named.contains(cpu)).collect();
    if chosen.is_empty() {
        tracing::warn!("server_cpulist '{list}' names no CPU that this process may use, and is passed over.");
        return allowed;
    }
    chosen
}

/// Reads a list as taskset reads it: `0,2,3`, `0,2-3`, `0-6:2` (every second one).
fn parse_cpus(list: &str) -> Option<Vec<usize>> {
    const CPUS_MAX: usize = 4096;
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let step: usize = step.trim().parse().ok().filter(|&step| step > 0)?;
        if last < first || last >= CPUS_MAX {
            return None;
        }
        cpus.extend((first..=last).step_by(step));
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_as_taskset_reads_them() {
        assert_eq!(parse_cpus("0,2,3"), Some(vec![0, 2, 3]));
        assert_eq!(parse_cpus("8,0-6:2"), Some(vec![8, 0, 2, 4, 6]));
        for text in ["", "a", "3-1", "0-3:0", "0,", "0-99999999999"] {
            assert_eq!(parse_cpus(text), None, "{text}");
        }
    }
}
