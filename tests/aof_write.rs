//! The append-only file as it is written, and what real servers and tools make of it.
//!
//! With one shard, and where all shards write one file (`aof-layout single`), the files are Redis's own: redis-check-aof accepts them, and a
//! redis-server that is started on a copy of them has the same data. So what each command logs is held against what it did: streams that are
//! generated from the literals' syntax go to our server, and the digests of both data sets are compared.

#[path = "differential/generator.rs"]
#[allow(dead_code, reason = "the differential test uses more of it")]
mod generator;
mod support;

use generator::Generator;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Oracle, Server, Value, eventually};

/// Shards, and the layout, under which the files are Redis's.
const PLAIN: [(usize, &str); 3] = [(1, "per-shard"), (2, "single"), (4, "single")];

/// All shapes of the files.
const SHAPES: [(usize, &str); 5] = [
    (1, "per-shard"),
    (2, "single"),
    (4, "single"),
    (2, "per-shard"),
    (4, "per-shard"),
];

/// Commands of a stream.
const STREAM_COUNT: usize = 4000;

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

fn start(shards: usize, layout: &str, options: &[&str]) -> Server {
    let mut all = vec!["--appendonly", "yes", "--aof-layout", layout, "--rdb-version", "10"];
    all.extend(DEBUG);
    all.extend(options);
    Server::shardis(shards, &all)
}

fn directory(server: &Server) -> PathBuf {
    server.dir.join("appendonlydir")
}

fn manifest(server: &Server) -> String {
    let path = directory(server).join("appendonly.aof.manifest");
    std::fs::read_to_string(path).expect("there is a manifest")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("it is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("it can be read").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A copy of the files, which goes away with the test.
struct Copy(PathBuf);

impl Copy {
    fn of(server: &Server) -> Copy {
        let dir = server.dir.with_extension("copy");
        let to = dir.join("appendonlydir");
        std::fs::create_dir_all(&to).expect("there is room");
        for name in names(&directory(server)) {
            std::fs::copy(directory(server).join(&name), to.join(&name)).expect("it can be copied");
        }
        Copy(dir)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Has redis-check-aof look at the files, where it is installed.
fn check(dir: &Path) {
    let path = dir.join("appendonlydir/appendonly.aof.manifest");
    match Command::new("redis-check-aof").arg(path).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && text.contains("are valid"), "{text}");
        }
        Err(_) => eprintln!("SKIPPED: there is no redis-check-aof"),
    }
}

/// Who is to read what was written.
#[derive(Clone, Copy)]
enum Reader {
    Real(Oracle),
    /// Our own server with so many shards.
    Own(usize),
}

const REAL: [Reader; 1] = [Reader::Real(Oracle::Redis70)];
const OWN: [Reader; 3] = [Reader::Own(1), Reader::Own(2), Reader::Own(4)];

/// Starts somebody else on a copy of the files, and compares what it has with what the server has.
#[track_caller]
fn compare(server: &Server, reader: Reader) {
    let mut client = server.client();
    let expected = client.line("DEBUG DIGEST").text();
    let copy = Copy::of(server);
    let dir = copy.0.to_string_lossy().into_owned();
    let mut options = vec!["--appendonly", "yes", "--dir", &dir];
    options.extend(DEBUG);
    let theirs = match reader {
        Reader::Real(oracle) => {
            check(&copy.0);
            oracle.start(&options)
        }
        Reader::Own(shards) => Some(Server::shardis(shards, &options)),
    };
    let Some(theirs) = theirs else { return };
    theirs.wait_until_loaded();
    let mut reader = theirs.client();
    let found = reader.line("DEBUG DIGEST").text();
    if found != expected {
        let (theirs, ours) = (contents(&mut reader), contents(&mut client));
        let keys: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        for at in keys.into_iter().filter(|at| theirs.get(*at) != ours.get(*at)) {
            let (db, key) = (at.0, at.1.escape_ascii());
            eprintln!("{key} in db {db}: {:?}, {:?}", theirs.get(at), ours.get(at));
        }
    }
    assert_eq!(
        found, expected,
        "{} reads what {} has written",
        theirs.name, server.name
    );
}

/// Has everybody read it who can.
#[track_caller]
fn compare_all(server: &Server, layout: &str, shards: usize) {
    let is_plain = PLAIN.contains(&(shards, layout));
    let real = REAL.iter().filter(|_| is_plain);
    real.chain(&OWN).for_each(|reader| compare(server, *reader));
}

/// What is there: the fingerprint of each value, and when it ends.
fn contents(client: &mut Client) -> BTreeMap<(usize, Vec<u8>), (Value, Value)> {
    let mut found = BTreeMap::new();
    for db in generator::DBS_TOUCHED {
        client.line(&format!("SELECT {db}"));
        for key in client.line("KEYS *").items() {
            let Value::Bulk(key) = key else {
                panic!("{key} is no key")
            };
            let digest = client.call(&[&b"DEBUG"[..], b"DIGEST-VALUE", &key]);
            let end = client.call(&[&b"PEXPIRETIME"[..], &key]);
            found.insert((db, key), (digest, end));
        }
    }
    found
}

/// Sends a generated stream, which may contain errors.
fn run_stream(server: &Server, seed: u64, count: usize) {
    let mut client = server.client();
    let mut generator = Generator::new(seed, payloads(&mut client), Oracle::Redis70);
    let commands: Vec<_> = (0..count).map(|_| generator.command()).collect();
    client.call_all(&commands);
}

/// Values as RESTORE takes them.
fn payloads(client: &mut Client) -> Vec<Vec<u8>> {
    let makers = [
        "SET {t}p a-value-of-some-length",
        "RPUSH {t}p one two 3",
        "SADD {t}p 1 2 3",
        "ZADD {t}p 1 a 2.5 b",
        "HSET {t}p f v g w",
        "XADD {t}p 5-1 f v",
    ];
    let payload = |maker: &&str| {
        client.line("DEL {t}p");
        client.line(maker);
        match client.line("DUMP {t}p") {
            Value::Bulk(bytes) => bytes,
            other => panic!("no payload of {maker}: {other}"),
        }
    };
    let payloads = makers.iter().map(payload).collect();
    client.line("DEL {t}p");
    payloads
}

#[test]
fn whoever_reads_has_what_every_command_has_logged() {
    for (number, (shards, layout)) in SHAPES.into_iter().enumerate() {
        let server = start(shards, layout, &[]);
        run_stream(&server, 100 + number as u64, STREAM_COUNT);
        // (Redis 7.0 makes fingerprints of scores with digits that no other one writes, and Valkey 9.1 reads no hexadecimal numbers, which
        // are logged as they were given.)
        if PLAIN.contains(&(shards, layout)) {
            compare(&server, Reader::Real(Oracle::Redis82));
        }
        OWN.iter().for_each(|reader| compare(&server, *reader));
    }
}

#[test]
fn an_empty_start_has_a_base_and_an_increment_at_once() {
    for (shards, layout) in PLAIN {
        let server = start(shards, layout, &[]);
        assert_eq!(
            manifest(&server),
            "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
        );
        compare(&server, REAL[0]);
    }
    let server = start(2, "per-shard", &[]);
    assert_eq!(
        manifest(&server),
        "file appendonly.aof.1.base.rdb seq 1 type b number 1\n\
         file appendonly.aof.1.incr.aof seq 1 type i shard 0 shards 2 life 1\n\
         file appendonly.aof.2.incr.aof seq 2 type i shard 1 shards 2 life 1\n"
    );
}

/// Writes as long as it is told to: counters, transactions over shards, lists. Answers how many commands were answered.
fn write_until(mut client: Client, number: usize, is_over: &AtomicBool) -> u64 {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let key = format!("k{}", count % 500);
        let commands: Vec<Vec<String>> = vec![
            vec!["INCR".into(), format!("counter:{number}")],
            vec!["SET".into(), key.clone(), format!("{number}:{count}")],
            vec!["MULTI".into()],
            vec!["INCR".into(), "both:1".into()],
            vec!["INCR".into(), "both:2".into()],
            vec!["EXEC".into()],
            vec!["RPUSH".into(), format!("list:{}", count % 7), key],
            vec!["LTRIM".into(), format!("list:{}", count % 7), "-50".into(), "-1".into()],
        ];
        client.call_all(&commands);
        count += 1;
    }
    count
}

/// Does something while others write.
fn under_load(server: &Server, work: impl FnOnce(&mut Client)) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (client, is_over) = (server.client(), &is_over);
            scope.spawn(move || write_until(client, number, is_over));
        }
        // Whoever writes ends also when the work fails.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(&is_over);
        work(&mut server.client());
    });
}

fn rewrites(server: &Server) -> (u64, bool) {
    let count = server.info_number("persistence", "aof_rewrites");
    let is_under_way = server.info("persistence", "aof_rewrite_in_progress") == "1"
        || server.info("persistence", "aof_rewrite_scheduled") == "1";
    (count, is_under_way)
}

#[test]
fn a_rewrite_loses_nothing_of_what_is_written_meanwhile() {
    for (shards, layout) in SHAPES {
        let server = start(shards, layout, &[]);
        under_load(&server, |client| {
            for number in 1..=4 {
                assert_eq!(
                    client.line("BGREWRITEAOF").text(),
                    "Background append only file rewriting started"
                );
                eventually("it ends", || rewrites(&server) == (number, false));
                assert_eq!(server.info("persistence", "aof_last_bgrewrite_status"), "ok");
            }
        });
        if PLAIN.contains(&(shards, layout)) {
            assert_eq!(
                manifest(&server),
                "file appendonly.aof.5.base.rdb seq 5 type b\nfile appendonly.aof.5.incr.aof seq 5 type i\n"
            );
        }
        let increments = if layout == "single" { 1 } else { shards };
        let left = names(&directory(&server));
        assert_eq!(left.len(), increments + 2, "nothing else is left: {left:?}");
        compare_all(&server, layout, shards);
    }
}

#[test]
fn it_is_turned_on_and_off_while_others_write() {
    for (shards, layout) in SHAPES {
        let server = start(shards, layout, &["--appendonly", "no"]);
        assert_eq!(server.info("persistence", "aof_enabled"), "0");
        under_load(&server, |client| {
            for _ in 0..3 {
                assert_eq!(client.line("CONFIG SET appendonly yes").text(), "OK");
                assert_eq!(server.info("persistence", "aof_enabled"), "1");
                eventually("it has a base", || {
                    let dir = directory(&server);
                    !rewrites(&server).1 && !names(&dir).iter().any(|name| name.starts_with("temp-"))
                });
                assert_eq!(client.line("CONFIG SET appendonly no").text(), "OK");
                assert_eq!(server.info("persistence", "aof_enabled"), "0");
            }
            assert_eq!(client.line("MULTI").text(), "OK");
            client.line("SET within value");
            client.line("CONFIG SET appendonly yes");
            client.line("INCR both:1");
            client.line("INCR both:2");
            assert_eq!(client.line("EXEC").items().len(), 4);
            eventually("it has a base", || !rewrites(&server).1);
        });
        compare_all(&server, layout, shards);
    }
}

#[test]
fn it_is_rewritten_when_it_has_grown() {
    let options = [
        "--auto-aof-rewrite-min-size",
        "64kb",
        "--auto-aof-rewrite-percentage",
        "100",
    ];
    for (shards, layout) in [(1, "per-shard"), (2, "per-shard"), (2, "single")] {
        let server = start(shards, layout, &options);
        let mut client = server.client();
        let value = "x".repeat(100);
        for number in 0..2000 {
            client.call(&["SET", &format!("key:{}", number % 10), &value]);
        }
        eventually("it is rewritten", || rewrites(&server).0 > 0 && !rewrites(&server).1);
        assert!(server.info_number("persistence", "aof_base_size") < 200_000);
        assert!(server.log().contains("Starting automatic rewriting of AOF on"));
    }
}

#[test]
fn a_rewrite_and_a_snapshot_stand_in_each_others_way_as_in_redis() {
    let server = start(2, "per-shard", &[]);
    let mut client = server.client();
    for number in 0..200 {
        client.call(&["SET", &format!("key:{number}"), "value"]);
    }
    assert_eq!(client.line("CONFIG SET rdb-key-save-delay 10000000").text(), "OK");
    assert_eq!(
        client.line("BGREWRITEAOF").text(),
        "Background append only file rewriting started"
    );
    assert_eq!(
        client.line("BGREWRITEAOF").text(),
        "ERR Background append only file rewriting already in progress"
    );
    assert_eq!(
        client.line("BGSAVE").text(),
        "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible."
    );
    assert_eq!(client.line("BGSAVE SCHEDULE").text(), "Background saving scheduled");
    eventually("it has had its cut", || {
        names(&server.dir).iter().any(|name| name.starts_with("temp-"))
    });
    assert_eq!(client.line("FLUSHALL").text(), "OK");
    assert_eq!(server.info("persistence", "aof_rewrite_in_progress"), "1", "it goes on");
    assert_eq!(client.line("CONFIG SET rdb-key-save-delay 0").text(), "OK");
    eventually("both are over", || {
        rewrites(&server) == (1, false) && server.info("persistence", "rdb_saves") == "1"
    });
    for number in 0..200 {
        client.call(&["SET", &format!("key:{number}"), "value"]);
    }
    assert_eq!(client.line("CONFIG SET rdb-key-save-delay 10000000").text(), "OK");
    assert_eq!(client.line("BGSAVE").text(), "Background saving started");
    assert_eq!(
        client.line("BGREWRITEAOF").text(),
        "Background append only file rewriting scheduled"
    );
    assert_eq!(client.line("CONFIG SET rdb-key-save-delay 0").text(), "OK");
    eventually("both are over", || rewrites(&server) == (2, false));
    assert_eq!(client.line("MULTI").text(), "OK");
    client.line("BGREWRITEAOF");
    assert_eq!(
        client.line("EXEC").items()[0].text(),
        "Background append only file rewriting scheduled"
    );
    eventually("it comes", || rewrites(&server) == (3, false));
}

#[test]
fn the_process_does_not_end_before_there_is_a_base() {
    let mut server = start(2, "per-shard", &["--appendonly", "no"]);
    let mut client = server.client();
    for number in 0..200 {
        client.call(&["SET", &format!("key:{number}"), "value"]);
    }
    assert_eq!(client.line("CONFIG SET rdb-key-save-delay 10000000").text(), "OK");
    assert_eq!(client.line("CONFIG SET appendonly yes").text(), "OK");
    eventually("it is written", || rewrites(&server).1);
    assert_eq!(
        client.line("SHUTDOWN NOSAVE").text(),
        "ERR Errors trying to SHUTDOWN. Check logs."
    );
    assert!(server.log().contains("Writing initial AOF, can't exit."));
    assert_eq!(client.line("CONFIG SET rdb-key-save-delay 0").text(), "OK");
    eventually("it has a base", || rewrites(&server) == (1, false));
    assert!(client.try_call(&["SHUTDOWN", "NOSAVE"]).is_err(), "it ends");
    assert!(server.ending().success());
    assert!(server.log().contains("Calling fsync() on the AOF file."));
}

#[test]
fn times_are_written_where_that_is_asked_for() {
    let server = start(1, "per-shard", &["--aof-timestamp-enabled", "yes"]);
    let mut client = server.client();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1500) {
        client.line("INCR counter");
        std::thread::sleep(Duration::from_millis(100));
    }
    let bytes = std::fs::read(directory(&server).join("appendonly.aof.1.incr.aof")).expect("it is there");
    let text = String::from_utf8_lossy(&bytes);
    let stamps = text.lines().filter(|line| line.starts_with("#TS:")).count();
    assert!((2..=4).contains(&stamps) && text.starts_with("#TS:"), "{text}");
    compare(&server, REAL[0]);
}

/// Of several shards each chunk says when it was written, where that is asked for; the log is cut at a second for all of them at once.
#[test]
fn the_log_of_several_shards_is_cut_at_a_second() {
    let mut server = start(2, "per-shard", &["--aof-timestamp-enabled", "yes"]);
    let mut client = server.client();
    let now = || {
        let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        elapsed.expect("it is later than 1970").as_secs()
    };
    let put = |client: &mut Client, what: &str| {
        for number in 0..20 {
            client.line(&format!("SET {what}:{number} value"));
        }
    };
    put(&mut client, "early");
    let second = now();
    eventually("a second is over", || now() > second + 1);
    put(&mut client, "late");
    for name in ["appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof"] {
        let bytes = std::fs::read(directory(&server).join(name)).expect("it is there");
        let text = String::from_utf8_lossy(&bytes);
        let stamps = text.lines().filter(|line| line.starts_with("#TS:")).count();
        assert!(stamps >= 2, "{name}: {text}");
    }
    assert!(client.try_call(&["SHUTDOWN", "NOSAVE"]).is_err(), "it ends");
    assert!(server.ending().success());
    let copy = Copy::of(&server);
    let check = Command::new(env!("CARGO_BIN_EXE_shardis"))
        .args(["--check-aof", "--truncate-to-timestamp", &second.to_string()])
        .arg(copy.0.join("appendonlydir/appendonly.aof.manifest"))
        .output()
        .expect("it can be started");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let dir = copy.0.to_string_lossy().into_owned();
    for shards in [1, 2] {
        let later = Server::shardis(shards, &["--appendonly", "yes", "--dir", &dir]);
        later.wait_until_loaded();
        let mut reader = later.client();
        assert_eq!(reader.line("DBSIZE").text(), "20");
        assert_eq!(reader.line("GET early:19").text(), "value");
        let log = later.log();
        assert!(
            log.contains("DB loaded from base file appendonly.aof.1.base.rdb: ")
                && log.contains("DB loaded from incr file appendonly.aof.1.incr.aof: ")
                && log.contains("DB loaded from incr file appendonly.aof.2.incr.aof: "),
            "{log}"
        );
    }
}

/// A value of each type that is large enough to be written in slices, and what streams know besides their entries.
fn make_large_values(client: &mut Client, count: usize) {
    let mut commands: Vec<Vec<String>> = Vec::new();
    let mut add = |line: String| commands.push(line.split(' ').map(str::to_owned).collect());
    for number in 0..count {
        add(format!("HSET hash field:{number} value:{number}"));
        add(format!("SADD set member:{number}"));
        add(format!("ZADD sorted {number}.5 member:{number}"));
        add(format!("RPUSH list element:{number}"));
        add(format!("XADD stream {}-1 field {number}", number + 1));
    }
    for group in ["first", "second"] {
        add(format!("XGROUP CREATE stream {group} 0"));
        add(format!("XREADGROUP GROUP {group} somebody COUNT 70 STREAMS stream >"));
        add(format!("XGROUP CREATECONSUMER stream {group} nobody"));
    }
    // (Not one that is pending: XCLAIM, by which pending entries are written, drops those that are gone, as in Redis.)
    add("XDEL stream 100-1".to_owned());
    add("XGROUP CREATE empty group $ MKSTREAM".to_owned());
    add("SELECT 3".to_owned());
    add("SET elsewhere value PX 100000000".to_owned());
    add("SELECT 0".to_owned());
    client.call_all(&commands);
}

#[test]
fn a_base_may_be_commands() {
    const COUNT: usize = 2500;
    const SHOWN: [&str; 4] = [
        "XINFO GROUPS stream",
        "XPENDING stream first",
        "XINFO GROUPS empty",
        "XPENDING stream second - + 100 somebody",
    ];
    for (shards, layout) in [(1, "per-shard"), (2, "single"), (4, "per-shard")] {
        let server = start(shards, layout, &["--aof-use-rdb-preamble", "no"]);
        let mut client = server.client();
        run_stream(&server, 500, 1500);
        make_large_values(&mut client, COUNT);
        assert_eq!(
            client.line("BGREWRITEAOF").text(),
            "Background append only file rewriting started"
        );
        // What changes meanwhile is in the increments only.
        for number in (0..COUNT).step_by(3) {
            client.line(&format!("HDEL hash field:{number}"));
            client.line(&format!("ZADD sorted 1 member:{number}"));
            client.line("LPOP list");
        }
        eventually("it ends", || rewrites(&server) == (1, false));
        assert_eq!(server.info("persistence", "aof_last_bgrewrite_status"), "ok");
        assert!(manifest(&server).starts_with("file appendonly.aof.2.base.aof seq 2 type b"));
        let base = std::fs::read(directory(&server).join("appendonly.aof.2.base.aof")).expect("it is there");
        assert!(base.starts_with(b"*2\r\n$6\r\nSELECT\r\n"));
        if PLAIN.contains(&(shards, layout)) {
            compare(&server, Reader::Real(Oracle::Redis82));
        }
        OWN.iter().for_each(|reader| compare(&server, *reader));
        let copy = Copy::of(&server);
        let dir = copy.0.to_string_lossy().into_owned();
        let again = Server::shardis(2, &["--appendonly", "yes", "--dir", &dir]);
        let mut other = again.client();
        eventually("it is loaded", || !other.line("DBSIZE").text().contains("LOADING"));
        for line in SHOWN {
            let (ours, theirs) = (client.line(line), other.line(line));
            // How long an entry has been pending is another at every call.
            let times = |value: &Value| format!("{value:?}").split("Integer").count();
            match line.ends_with("somebody") {
                true => assert_eq!(times(&ours), times(&theirs), "{line}"),
                false => assert_eq!(ours, theirs, "{line}"),
            }
        }
    }
}

#[test]
fn policies_change_while_the_server_runs() {
    let server = start(2, "per-shard", &["--appendfsync", "no"]);
    let mut client = server.client();
    for policy in ["everysec", "always", "no", "always", "everysec"] {
        assert_eq!(client.line(&format!("CONFIG SET appendfsync {policy}")).text(), "OK");
        // Under `always` these are answered when they are on the disk, also what was written before.
        for number in 0..50 {
            assert_eq!(client.line(&format!("SET key:{number} {policy}")).text(), "OK");
        }
        assert_eq!(server.info("persistence", "aof_last_write_status"), "ok");
    }
    assert_eq!(client.line("DEBUG AOF-FLUSH-SLEEP 200000").text(), "OK");
    let began = Instant::now();
    assert_eq!(client.line("SET slow value").text(), "OK");
    assert!(began.elapsed() >= Duration::from_millis(200), "a write waits");
    assert_eq!(client.line("DEBUG AOF-FLUSH-SLEEP 0").text(), "OK");
    OWN.iter().for_each(|reader| compare(&server, *reader));
}
