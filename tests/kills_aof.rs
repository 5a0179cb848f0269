//! Processes that are killed at any moment under transactions over several shards, with every policy of the append-only file: whoever
//! follows has whole transactions, with each all that it had seen, and everything that a client was told.
//!
//! Each client has a few keys, which lie anywhere. Its transactions give all of them the next number, and note in another key what they
//! have read of a neighbour's before. So after each start
//!
//! * all keys of a client have one number: transactions are whole;
//! * it is not below the last one that the client was told of, whatever the policy: what a process has written the kernel keeps;
//! * it is not above the last one that it sent;
//! * what it has noted of its neighbour is not above the number that the neighbour has: no effect without its cause.
//!
//! The next process has another number of shards, and what dies does so in the middle of serving, of a rewrite, a snapshot, a shutdown, or
//! of loading. `SHARDIS_KILLS` says how many are killed; the long run kills a thousand.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::value::Value;
use support::{Client, Server};

const KILLS: usize = 108;
const CLIENTS: usize = 4;
const KEYS_OF_A_CLIENT: usize = 4;
const POLICIES: [&str; 3] = ["always", "everysec", "no"];
const SHARDS: [usize; 3] = [1, 2, 4];

/// A directory that goes away.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ends the clients' loops, also when a check fails.
struct OverWhenDropped<'a>(&'a AtomicBool);

impl Drop for OverWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a client has sent, and what it was told.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    sent: u64,
    told: u64,
}

fn key(client: usize, number: usize) -> String {
    format!("client:{client}:{number}")
}

fn note(client: usize) -> String {
    format!("noted:{client}")
}

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

fn start(shards: usize, dir: &Path, options: &[&str]) -> Server {
    let dir = dir.to_string_lossy().into_owned();
    let mut all = vec!["--dir", &dir, "--appendonly", "yes", "--enable-debug-command", "yes"];
    all.extend_from_slice(options);
    Server::shardis(shards, &all)
}

fn await_loaded(server: &Server) {
    server.wait_until_loaded();
}

fn kill_now(server: &mut Server) {
    kill(Pid::from_raw(server.pid() as i32), Signal::SIGKILL).expect("it is ours");
    server.ending();
}

/// Transactions of one client, one after the other, until the server has gone or it is over.
fn transact(client: &mut Client, own: usize, progress: &mut Progress, is_over: &AtomicBool) -> std::io::Result<()> {
    let neighbour = (own + 1) % CLIENTS;
    while !is_over.load(Ordering::Relaxed) {
        let seen = client.try_call(&["GET", &key(neighbour, own % KEYS_OF_A_CLIENT)])?;
        let seen = if seen == Value::Nil {
            "0".to_owned()
        } else {
            seen.text()
        };
        progress.sent += 1;
        let number = progress.sent.to_string();
        let mut requests = vec![words(&["MULTI"])];
        requests.extend((0..KEYS_OF_A_CLIENT).map(|place| words(&["SET", &key(own, place), &number])));
        requests.push(words(&["SET", &note(own), &seen]));
        requests.push(words(&["EXEC"]));
        let bytes: Vec<u8> = requests
            .iter()
            .flat_map(|request| support::client::encode(request))
            .collect();
        client.send(&bytes)?;
        for _ in 1..requests.len() {
            client.try_reply()?;
        }
        match client.try_reply()? {
            Value::Array(replies) => {
                assert_eq!(replies.len(), KEYS_OF_A_CLIENT + 1);
                progress.told = progress.sent;
            }
            // It is shutting down.
            refused => assert!(refused.is_error(), "{refused:?}"),
        }
    }
    Ok(())
}

fn number(value: &Value) -> u64 {
    match value {
        Value::Nil => 0,
        value => value.text().parse().expect("a number was stored"),
    }
}

/// Holds what is there against what the clients know; they go on from there.
fn check(server: &Server, progress: &mut [Progress], what: &str) {
    let mut client = server.client();
    let mut found = Vec::new();
    for (own, progress) in progress.iter().enumerate() {
        let numbers: Vec<u64> = (0..KEYS_OF_A_CLIENT)
            .map(|place| number(&client.call(&["GET", &key(own, place)])))
            .collect();
        assert!(
            numbers.iter().all(|number| *number == numbers[0]),
            "{what}: client {own} has half a transaction: {numbers:?}"
        );
        assert!(
            (progress.told..=progress.sent).contains(&numbers[0]),
            "{what}: client {own} has {}, and {progress:?}",
            numbers[0]
        );
        found.push(numbers[0]);
    }
    for own in 0..CLIENTS {
        let noted = number(&client.call(&["GET", &note(own)]));
        let neighbour = found[(own + 1) % CLIENTS];
        assert!(
            noted <= neighbour,
            "{what}: client {own} has seen {noted} of its neighbour, who has {neighbour}"
        );
    }
    for (progress, found) in progress.iter_mut().zip(found) {
        *progress = Progress {
            sent: found,
            told: found,
        };
    }
}

#[test]
fn whoever_follows_one_that_was_killed_has_what_was_promised() {
    let kills = std::env::var("SHARDIS_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let mut random = fastrand::Rng::with_seed(20261129);
    let path = std::env::temp_dir().join(format!("shardis-kills-aof-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory for temporary files");
    let dir = Dir(path);
    let mut progress = [Progress::default(); CLIENTS];
    for round in 0..kills {
        let policy = POLICIES[round % POLICIES.len()];
        let shards = SHARDS[round / POLICIES.len() % SHARDS.len()];
        let layout = ["per-shard", "per-shard", "single"][random.usize(..3)];
        let options = ["--appendfsync", policy, "--aof-layout", layout, "--save", ""];
        let moment = random.usize(..6);
        let what = format!("round {round}, {shards} shards, {policy}, {layout}, moment {moment}");
        if moment == 0 {
            // One that is killed while it begins.
            let mut server = start(shards, &dir.0, &options);
            thread::sleep(Duration::from_micros(random.u64(..30_000)));
            kill_now(&mut server);
        }
        let mut server = start(shards, &dir.0, &options);
        await_loaded(&server);
        check(&server, &mut progress, &what);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let _ends = OverWhenDropped(&is_over);
            for (own, progress) in progress.iter_mut().enumerate() {
                let (mut client, is_over) = (server.client(), &is_over);
                // (An error is the death of the server.)
                scope.spawn(move || transact(&mut client, own, progress, is_over));
            }
            let mut client = server.client();
            thread::sleep(Duration::from_millis(random.u64(..100)));
            match moment {
                1 | 2 => {
                    assert!(!client.line("BGREWRITEAOF").is_error(), "{what}");
                    thread::sleep(Duration::from_micros(random.u64(..40_000)));
                }
                3 => {
                    assert!(!client.line("BGSAVE").is_error(), "{what}");
                    thread::sleep(Duration::from_micros(random.u64(..20_000)));
                }
                4 => {
                    kill(Pid::from_raw(server.pid() as i32), Signal::SIGTERM).expect("it is ours");
                    thread::sleep(Duration::from_micros(random.u64(..20_000)));
                }
                _ => {}
            }
            kill_now(&mut server);
        });
    }
    let last = start(2, &dir.0, &[]);
    await_loaded(&last);
    check(&last, &mut progress, "at last");
}
