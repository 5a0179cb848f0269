//! Processes that are killed at any moment while they load and while they save, in either layout: the next one finds a whole snapshot, of the
//! last save that was reported or of a later one, takes the directory and leaves nothing of the dead one in it.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::Server;

const ROUNDS: usize = 8;
const KEYS: usize = 2000;

/// A directory that goes away.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(shards: usize, dir: &Path, options: &[&str]) -> Server {
    let dir = dir.to_string_lossy().into_owned();
    let mut all = vec!["--dir", &dir, "--enable-debug-command", "yes"];
    all.extend_from_slice(options);
    Server::shardis(shards, &all)
}

fn kill_now(server: &mut Server) {
    kill(Pid::from_raw(server.pid() as i32), Signal::SIGKILL).expect("it is ours");
    assert!(!server.ending().success());
}

fn await_loaded(server: &Server) {
    server.wait_until_loaded();
}

fn digest(server: &Server) -> String {
    server.client().line("DEBUG DIGEST").text()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("it is there");
    let names = entries.map(|entry| {
        entry
            .expect("it can be read")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// All that is in a directory.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| {
        let bytes = std::fs::read(dir.join(&name)).expect("it is there");
        (name, bytes)
    };
    names(dir).into_iter().map(read).collect()
}

/// Nothing is there but one file, or one set of files.
fn is_one_snapshot(names: &[String]) -> bool {
    let count = names.len();
    let set = (0..count).map(|index| format!("dump.{index}-of-{count}.rdb"));
    names == ["dump.rdb"] || set.eq(names.iter().cloned())
}

/// Changes keys of all kinds, so that each round has another state.
fn change(server: &Server, round: usize) {
    let mut client = server.client();
    let mut commands = Vec::new();
    for number in 0..200 {
        let line = match number % 5 {
            0 => format!("SET key:{number} round-{round}"),
            1 => format!("RPUSH list:{} {round}-{number}", number % 7),
            2 => format!("SADD set:{} {round}-{number}", number % 7),
            3 => format!("HSET hash:{} {round}-{number} v", number % 7),
            _ => format!("ZADD zset:{} {number} {round}-{number}", number % 7),
        };
        commands.push(line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    }
    for reply in client.call_all(&commands) {
        assert!(!reply.is_error(), "{reply:?}");
    }
}

#[test]
fn whoever_follows_one_that_was_killed_has_all_that_was_saved() {
    let mut random = fastrand::Rng::with_seed(20261128);
    let path = std::env::temp_dir().join(format!("shardis-kills-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory for temporary files");
    let dir = Dir(path);
    let first = start(2, &dir.0, &[]);
    assert_eq!(
        first.client().line(&format!("DEBUG POPULATE {KEYS} key 50")).text(),
        "OK"
    );
    assert_eq!(first.client().line("SAVE").text(), "OK");
    let mut saved = digest(&first);
    drop(first);
    for shards in [1, 2, 4] {
        for round in 0..ROUNDS {
            // While it loads, which takes some seconds if it is let.
            let before = content(&dir.0);
            let mut server = start(shards, &dir.0, &["--key-load-delay", "1000"]);
            std::thread::sleep(Duration::from_millis(random.u64(0..150)));
            kill_now(&mut server);
            assert!(content(&dir.0) == before, "who loads writes nothing");

            // While it saves.
            let mut layout = || ["--rdb-layout", ["merged", "per-shard"][random.usize(..2)]];
            let (own, that_of_next) = (layout(), layout());
            let mut server = start(shards, &dir.0, &own);
            await_loaded(&server);
            assert_eq!(digest(&server), saved, "{shards} shards, round {round}");
            change(&server, round + 100 * shards);
            let changed = digest(&server);
            let mut client = server.client();
            let delay_us = [0, 20, 100][random.usize(..3)];
            client.line(&format!("CONFIG SET rdb-key-save-delay {delay_us}"));
            assert_eq!(client.line("BGSAVE").text(), "Background saving started");
            std::thread::sleep(Duration::from_micros(random.u64(0..60_000)));
            let is_saved = server.info_number("persistence", "rdb_saves") > 0;
            kill_now(&mut server);

            let next = start([1, 2, 4][random.usize(..3)], &dir.0, &that_of_next);
            await_loaded(&next);
            let names = names(&dir.0);
            assert!(is_one_snapshot(&names), "the next start tidies up: {names:?}");
            let found = digest(&next);
            assert!(
                found == changed || found == saved && !is_saved,
                "{shards} shards, round {round}: it was reported as saved: {is_saved}"
            );
            assert_eq!(
                next.client().line("SAVE").text(),
                "OK",
                "the directory is the new one's"
            );
            saved = found;
        }
    }
}
