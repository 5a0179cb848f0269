//! A disk that is full for real: a small file system in memory, mounted where only the server sees it.
//!
//! The server has a mount namespace of its own (and where the test is not root, a user namespace to be allowed that); the test looks into it by
//! `/proc/<pid>/root`. Where neither is allowed the test says `SKIPPED`.

mod support;

use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use support::{Client, Oracle, Server, eventually};

/// Room for all that the test saves, and what takes most of it away.
const DISK_BYTES: usize = 16 << 20;
const BALLAST_BYTES: usize = DISK_BYTES - (1 << 20);

/// What a log finds left, and what is written to it at a time.
const LOG_ROOM_BYTES: usize = 256 << 10;
const LOGGED_BYTES: usize = 20_000;

const MISCONF: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may \
                       modify the data set are disabled, because this instance is configured to report errors during writes if RDB \
                       snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";

/// What a child process needs to mount a disk, made before there is one: between fork and exec nothing may be allocated.
struct Mount {
    point: CString,
    options: CString,
    is_root: bool,
    user_map: CString,
    group_map: CString,
}

static MOUNT: OnceLock<Mount> = OnceLock::new();

fn mount() -> &'static Mount {
    MOUNT.get_or_init(|| {
        let point = std::env::temp_dir().join(format!("shardis-full-{}", std::process::id()));
        let text = |text: String| CString::new(text).expect("there is no zero in it");
        // SAFETY: these calls cannot fail and touch no memory.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        Mount {
            point: text(point.to_string_lossy().into_owned()),
            options: text(format!("size={DISK_BYTES}")),
            is_root: user == 0,
            user_map: text(format!("0 {user} 1")),
            group_map: text(format!("0 {group} 1")),
        }
    })
}

fn point() -> PathBuf {
    PathBuf::from(mount().point.to_str().expect("a temporary directory has a plain name"))
}

/// Gives the process that calls it a disk of its own. To be called between fork and exec.
fn take_small_disk() -> io::Result<()> {
    let mount = MOUNT.get().ok_or(io::ErrorKind::NotFound)?;
    let done = |answer: i32| match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    let write = |path: &CStr, text: &CStr| {
        let bytes = text.to_bytes();
        // SAFETY: the pointers are to memory that is there for ever, and the calls are async-signal-safe.
        unsafe {
            let file = libc::open(path.as_ptr(), libc::O_WRONLY);
            let written = libc::write(file, bytes.as_ptr().cast(), bytes.len());
            libc::close(file);
            done(if written == bytes.len() as isize { 0 } else { -1 })
        }
    };
    let users = if mount.is_root { 0 } else { libc::CLONE_NEWUSER };
    let nothing: *const libc::c_char = std::ptr::null();
    // SAFETY: system calls with pointers to memory that is there for ever, or none.
    unsafe {
        done(libc::unshare(users | libc::CLONE_NEWNS))?;
        if !mount.is_root {
            write(c"/proc/self/setgroups", c"deny")?;
            write(c"/proc/self/uid_map", &mount.user_map)?;
            write(c"/proc/self/gid_map", &mount.group_map)?;
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        done(libc::mount(nothing, c"/".as_ptr(), nothing, private, nothing.cast()))?;
        done(libc::mount(
            c"tmpfs".as_ptr(),
            mount.point.as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            mount.options.as_ptr().cast(),
        ))
    }
}

/// The place of the disk, which one test at a time has: whoever removes it takes it away from all processes.
struct Disk {
    _turn: MutexGuard<'static, ()>,
}

impl Disk {
    /// None: none can be mounted.
    fn take() -> Option<Disk> {
        static TURN: Mutex<()> = Mutex::new(());
        // A test that has failed has left nothing half done.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        mount();
        std::fs::create_dir_all(point()).expect("a directory for temporary files");
        can_mount().then_some(Disk { _turn: turn })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing is in it where the test is.
        let _ = std::fs::remove_dir(point());
    }
}

/// Whether processes may mount a disk here; where they may not, that is said.
fn can_mount() -> bool {
    let mut command = Command::new("true");
    // SAFETY: what runs there allocates nothing where it may not.
    unsafe {
        command.pre_exec(take_small_disk);
    }
    let outcome = command.status();
    if let Err(error) = &outcome {
        let line = format!("SKIPPED: no disk can be mounted for a test of a full one ({error})\n");
        io::stderr()
            .write_all(line.as_bytes())
            .expect("standard error takes a line");
    }
    outcome.is_ok()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("it is there");
    let name = |entry: io::Result<std::fs::DirEntry>| entry.expect("it can be read").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn what_a_full_disk_cannot_take_is_said_and_nothing_is_lost() {
    let Some(_disk) = Disk::take() else { return };
    let dir = point().to_string_lossy().into_owned();
    for shards in [1, 2, 4] {
        let options = [
            "--dir",
            &dir,
            "--save",
            "3600 1000000",
            "--rdbcompression",
            "no",
            "--enable-debug-command",
            "yes",
        ];
        let mut server = Server::shardis_after(shards, &options, take_small_disk);
        let seen = PathBuf::from(format!("/proc/{}/root{dir}", server.pid()));
        let mut client = server.client();
        for number in 0..100 {
            client.line(&format!("SET first:{number} value"));
        }
        assert_eq!(client.line("SAVE").text(), "OK");
        let saved = std::fs::read(seen.join("dump.rdb")).expect("there is a dump");
        std::fs::write(seen.join("ballast"), vec![0; BALLAST_BYTES]).expect("there is room for it");
        assert_eq!(client.line("DEBUG POPULATE 3000 key 1000").text(), "OK");
        let is_as_before = || {
            eventually("what it has begun is gone", || names(&seen) == ["ballast", "dump.rdb"]);
            let now = std::fs::read(seen.join("dump.rdb")).expect("there is a dump");
            assert!(now == saved, "{shards} shards: the old file has changed");
        };

        assert_eq!(client.line("SAVE").text(), "ERR");
        is_as_before();
        assert!(server.log().contains("No space left on device"), "{}", server.log());
        assert_eq!(server.info("persistence", "rdb_last_bgsave_status"), "err");
        assert_eq!(client.line("CONFIG SET stop-writes-on-bgsave-error no").text(), "OK");
        eventually("it is obeyed", || client.line("SET late value").text() == "OK");
        assert_eq!(client.line("BGSAVE").text(), "Background saving started");
        eventually("that has failed", || {
            server.info("persistence", "rdb_bgsave_in_progress") == "0"
        });
        assert_eq!(server.info("persistence", "rdb_last_bgsave_status"), "err");
        is_as_before();
        assert_eq!(client.line("CONFIG SET stop-writes-on-bgsave-error yes").text(), "OK");
        eventually("writes are refused", || client.line("SET late other").text() == MISCONF);
        assert_eq!(client.line("PING").text(), MISCONF);
        assert_eq!(client.line("GET late").text(), "value", "reads go on");
        assert_eq!(
            client.line("SHUTDOWN").text(),
            "ERR Errors trying to SHUTDOWN. Check logs."
        );
        is_as_before();

        std::fs::remove_file(seen.join("ballast")).expect("it is there");
        assert_eq!(client.line("BGSAVE").text(), "Background saving started");
        eventually("there is room again", || {
            server.info("persistence", "rdb_last_bgsave_status") == "ok"
        });
        eventually("writes are taken", || client.line("SET late other").text() == "OK");
        assert_eq!(names(&seen), ["dump.rdb"]);
        assert_eq!(client.line("DEBUG RELOAD NOSAVE").text(), "OK");
        assert_eq!(client.line("DBSIZE").integer(), 3101, "what was saved is whole");
        assert_eq!(client.line("GET late").text(), "value");
        assert!(client.try_call(&["SHUTDOWN"]).is_err(), "it ends");
        assert!(server.ending().success());
    }
}

const LOG_FULL: &str = "MISCONF Errors writing to the AOF file: No space left on device";

/// A copy of the append-only file as it is now, which goes away with the test.
struct Copied(PathBuf);

impl Copied {
    fn of(seen: &Path, port: u16) -> Copied {
        let dir = std::env::temp_dir().join(format!("shardis-full-copy-{}-{port}", std::process::id()));
        let (from, to) = (seen.join("appendonlydir"), dir.join("appendonlydir"));
        std::fs::create_dir_all(&to).expect("there is room");
        for name in names(&from) {
            std::fs::copy(from.join(&name), to.join(&name)).expect("it can be copied");
        }
        Copied(dir)
    }

    /// Has a real server read it; None: there is none.
    fn digest(&self) -> Option<String> {
        let dir = self.0.to_string_lossy().into_owned();
        let options = ["--appendonly", "yes", "--dir", &dir, "--enable-debug-command", "yes"];
        let theirs = Oracle::Redis70.start(&options)?;
        theirs.wait_until_loaded();
        let digest = theirs.client().line("DEBUG DIGEST").text();
        assert!(!theirs.log().contains("Truncating the AOF"), "{}", theirs.log());
        Some(digest)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes until it is refused; how often it was not.
fn write_until_refused(client: &mut Client, from: usize) -> usize {
    let value = "v".repeat(LOGGED_BYTES);
    let mut number = from;
    eventually("the disk is full", || {
        let answer = client.call(&["SET", &format!("log:{}", number % 20), &value]).text();
        number += usize::from(answer == "OK");
        answer == LOG_FULL
    });
    number
}

#[test]
fn a_log_that_a_full_disk_does_not_take_stops_writers_until_it_does() {
    let Some(_disk) = Disk::take() else { return };
    let dir = point().to_string_lossy().into_owned();
    for (shards, layout) in [(1, "per-shard"), (2, "single"), (2, "per-shard")] {
        let options = [
            "--dir",
            &dir,
            "--appendonly",
            "yes",
            "--aof-layout",
            layout,
            "--rdb-version",
            "10",
            "--enable-debug-command",
            "yes",
        ];
        let mut server = Server::shardis_after(shards, &options, take_small_disk);
        let seen = PathBuf::from(format!("/proc/{}/root{dir}", server.pid()));
        let mut client = server.client();
        let is_plain = layout == "single" || shards == 1;
        for round in 0..2 {
            let used: u64 = names(&seen.join("appendonlydir"))
                .iter()
                .map(|name| std::fs::metadata(seen.join("appendonlydir").join(name)).map_or(0, |about| about.len()))
                .sum();
            let ballast = DISK_BYTES - LOG_ROOM_BYTES - used as usize;
            std::fs::write(seen.join("ballast"), vec![0; ballast]).expect("there is room for it");
            client.line("SET short value PX 50");
            let written = write_until_refused(&mut client, round);
            assert!(written > 5, "{written} writes found room");
            assert_eq!(client.line("PING").text(), LOG_FULL);
            assert_eq!(client.line("GET nosuch").text(), "(nil)", "reads go on");
            assert_eq!(server.info("persistence", "aof_last_write_status"), "err");
            assert!(server.info_number("persistence", "aof_buffer_length") > 0);
            assert!(
                server
                    .log()
                    .contains("Error writing to the AOF file: No space left on device")
            );
            let expired = server.info_number("stats", "expired_keys");
            if is_plain {
                // What could not be written whole was taken back.
                Copied::of(&seen, server.port).digest();
            }
            std::fs::remove_file(seen.join("ballast")).expect("it is there");
            eventually("writes are taken", || client.line("SET late value").text() == "OK");
            assert_eq!(server.info("persistence", "aof_last_write_status"), "ok");
            assert_eq!(server.info_number("persistence", "aof_buffer_length"), 0);
            assert!(server.log().contains("AOF write error looks solved"));
            eventually("what is over goes again", || {
                server.info_number("stats", "expired_keys") >= expired.max(1)
            });
            let expected = client.line("DEBUG DIGEST").text();
            if is_plain && let Some(found) = Copied::of(&seen, server.port).digest() {
                assert_eq!(found, expected, "{shards} shards, {layout}");
            }
        }
        assert!(client.try_call(&["SHUTDOWN", "NOSAVE"]).is_err(), "it ends");
        assert!(server.ending().success());
    }
}

#[test]
fn a_log_that_must_be_on_the_disk_and_is_not_ends_the_process() {
    let Some(_disk) = Disk::take() else { return };
    let dir = point().to_string_lossy().into_owned();
    for shards in [1, 2] {
        let options = ["--dir", &dir, "--appendonly", "yes", "--appendfsync", "always"];
        let mut server = Server::shardis_after(shards, &options, take_small_disk);
        let seen = PathBuf::from(format!("/proc/{}/root{dir}", server.pid()));
        let mut client = server.client();
        std::fs::write(seen.join("ballast"), vec![0; DISK_BYTES - LOG_ROOM_BYTES]).expect("there is room for it");
        let value = "v".repeat(LOGGED_BYTES);
        eventually("it ends", || match client.try_call(&["SET", "log", &value]) {
            Ok(answer) => {
                assert_eq!(answer.text(), "OK");
                false
            }
            Err(_) => true,
        });
        assert_eq!(server.ending().code(), Some(1));
        let log = server.log();
        assert!(
            log.contains("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..."),
            "{log}"
        );
    }
}
