//! Append-only files loaded at the start: those of real servers, and those of several shards, at any number of shards.
//!
//! What becomes of files that are torn or damaged anywhere is told by the unit tests of `durability::aof`, on a simulated disk; here are the
//! ways of it that a process shows: what it says, with what it ends, and what lies on the disk then.

mod support;

use shardis::persist::aof::chunk::{self, Head, Place};
use shardis::persist::aof::manifest::Manifest;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::client::encode;
use support::{Client, Oracle, Server, Value, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];

/// A directory that goes away.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("shardis-aof-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("appendonlydir")).expect("a directory for temporary files");
        Dir(path)
    }

    fn aof(&self, name: &str) -> PathBuf {
        self.0.join("appendonlydir").join(format!("appendonly.aof.{name}"))
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.aof(name), bytes).expect("the directory can be written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.aof(name)).expect("it is there")
    }

    /// A copy of it.
    fn copy(&self, name: &str) -> Dir {
        let copy = Dir::new(name);
        copy_files(&self.0, &copy.0);
        copy
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a temporary directory has a plain name")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory for temporary files");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_files(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("it can be copied")),
        }
    }
}

/// A shardis that has loaded the append-only file of a directory.
fn load(shards: usize, dir: &Dir, options: &[&str]) -> Server {
    let mut all = vec![
        "--dir",
        dir.path(),
        "--enable-debug-command",
        "yes",
        "--appendonly",
        "yes",
    ];
    all.extend_from_slice(options);
    let server = Server::shardis(shards, &all);
    server.wait_until_loaded();
    server
}

fn digest(server: &Server) -> String {
    server.client().call(&["DEBUG", "DIGEST"]).text()
}

/// What a server says that ends with an error because of its files.
fn refusal(dir: &Dir, options: &[&str]) -> String {
    let port = support::server::free_port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_shardis"))
        .args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--shards",
            "2",
            "--appendonly",
            "yes",
            "--dir",
            dir.path(),
        ])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

/// What leaves traces in a log: all types, several dbs, transactions, what touches keys on several shards, and all keys.
fn lines(random: &mut fastrand::Rng, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for number in 0..count {
        let mut key = || format!("key:{}", random.u32(..60));
        let (first, second, third) = (key(), key(), key());
        let line = match random.u32(..26) {
            0 => format!("SET s:{first} value:{number}"),
            1 => format!("SET s:{first} {number} EX 100000"),
            2 => format!("APPEND s:{first} more"),
            3 => format!("RPUSH l:{first} a {number} c"),
            4 => format!("LPOP l:{first}"),
            5 => format!("SADD m:{first} {number} b c"),
            6 => format!("SPOP m:{first}"),
            7 => format!("HSET h:{first} field:{} {number}", number % 7),
            8 => format!("HINCRBYFLOAT h:{first} float 0.3"),
            9 => format!("ZADD z:{first} {} {number}", number % 11),
            10 => format!("ZINCRBY z:{first} 1.5 member"),
            11 => format!("XADD x:{first} * field {number}"),
            12 => format!("MSET s:{first} 1 s:{second} 2 s:{third} 3"),
            13 => format!("DEL s:{first} l:{second} m:{third}"),
            14 => format!("RENAME s:{first} s:{second}"),
            15 => format!("SUNIONSTORE m:{first} m:{second} m:{third}"),
            16 => format!("LMOVE l:{first} l:{second} LEFT RIGHT"),
            17 => format!("COPY z:{first} z:{second} REPLACE"),
            18 => format!("PEXPIREAT s:{first} {}", 4_000_000_000_000u64 + number as u64),
            19 => format!("EXPIRE h:{first} -1"),
            20 => format!("SELECT {}", number % 3),
            21 => format!("MULTI|SET s:{first} m|INCR c:{second}|LPUSH l:{third} m|EXEC"),
            22 => format!("MULTI|SELECT 4|SET s:{first} m|SELECT 5|RPUSH l:{second} m|SELECT 0|EXEC"),
            23 => format!("SORT l:{first} ALPHA STORE l:{second}"),
            24 if number % 5 == 0 => "SWAPDB 0 1".to_owned(),
            25 if number % 9 == 0 => "FLUSHDB".to_owned(),
            _ => format!("INCRBYFLOAT f:{first} 0.1"),
        };
        lines.extend(line.split('|').map(str::to_owned));
    }
    lines
}

fn run(client: &mut Client, lines: &[String]) {
    for line in lines {
        client.line(line);
    }
}

/// Every kind of file that the real servers write, with a rewrite in the middle: the same data set at any number of shards.
#[test]
fn the_files_of_real_servers_are_loaded() {
    let options: [&[&str]; 3] = [
        &["--aof-use-rdb-preamble", "yes"],
        &["--aof-use-rdb-preamble", "no"],
        &["--aof-use-rdb-preamble", "no", "--aof-timestamp-enabled", "yes"],
    ];
    for oracle in [Oracle::Redis62, Oracle::Redis70, Oracle::Redis82, Oracle::Valkey91] {
        for (index, given) in options.iter().enumerate() {
            let is_old = oracle == Oracle::Redis62;
            if is_old && index == 2 {
                continue;
            }
            let mut all = vec!["--appendonly", "yes", "--appendfsync", "always"];
            if !is_old {
                all.extend(["--enable-debug-command", "yes"]);
            }
            all.extend_from_slice(given);
            let Some(server) = oracle.start(&all) else { continue };
            let (mut client, mut random) = (server.client(), fastrand::Rng::with_seed(index as u64));
            run(&mut client, &lines(&mut random, 600));
            client.line("BGREWRITEAOF");
            run(&mut client, &lines(&mut random, 300));
            eventually("it is rewritten", || {
                server.info_number("persistence", "aof_rewrite_in_progress") == 0
            });
            run(&mut client, &lines(&mut random, 300));
            let (expected, name) = (digest(&server), format!("real-{oracle:?}-{index}"));
            let written = Dir::new(&name);
            copy_files(&server.dir, &written.0);
            drop(server);
            if is_old {
                std::fs::remove_dir_all(written.0.join("appendonlydir")).expect("it is there");
            }
            for shards in SHARD_COUNTS {
                let dir = written.copy(&format!("{name}-{shards}"));
                if is_old {
                    std::fs::remove_dir_all(dir.0.join("appendonlydir")).expect("it is there");
                }
                let loaded = load(shards, &dir, &[]);
                assert_eq!(
                    digest(&loaded),
                    expected,
                    "{} {given:?}, {}",
                    oracle.name(),
                    loaded.name
                );
                assert!(
                    loaded.log().contains("DB loaded from append only file"),
                    "{}",
                    loaded.log()
                );
                assert_eq!(loaded.info_number("persistence", "rdb_changes_since_last_save"), 0);
            }
        }
    }
}

/// What a file says happened, though the time of some keys was over long ago when it is read.
#[test]
fn nothing_is_over_while_a_file_is_read() {
    let mut bytes = Vec::new();
    for line in [
        "SET a 1 PXAT 1000",
        "INCR a",
        "PERSIST a",
        "SET b 1",
        "PEXPIREAT b 1000",
        "RENAME b c",
        "PERSIST c",
        "RPUSH l x",
        "PEXPIREAT l 1000",
        "RPUSH l y",
        "SET gone 1 PXAT 1000",
        "SET later 1 EX 100000",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        bytes.extend(encode(&words));
    }
    for shards in SHARD_COUNTS {
        let dir = Dir::new(&format!("over-{shards}"));
        dir.write("manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
        dir.write("1.incr.aof", &bytes);
        let server = load(shards, &dir, &[]);
        let mut client = server.client();
        assert_eq!(client.line("GET a").text(), "2");
        assert_eq!(client.line("GET c").text(), "1");
        assert_eq!(client.line("EXISTS gone l b").text(), "0");
        let seconds: i64 = client.line("TTL later").text().parse().expect("a number");
        assert!((1..=100_000).contains(&seconds), "{seconds}");
        let idle: i64 = client.line("OBJECT IDLETIME a").text().parse().expect("a number");
        assert!(idle < 1000, "{idle}");
    }
}

/// Commands, sorted into the increments of some shards by chance, with all that a chunk says.
struct Writer {
    parts: Vec<Vec<u8>>,
    dbs: Vec<Option<u32>>,
    life: u64,
    next: u64,
}

impl Writer {
    fn new(shards: usize, life: u64) -> Writer {
        Writer {
            parts: vec![Vec::new(); shards],
            dbs: vec![None; shards],
            life,
            next: life,
        }
    }

    fn write(&mut self, shard: usize, db: u32, commands: &[Vec<&str>]) {
        let mut bytes = Vec::new();
        if self.dbs[shard].replace(db) != Some(db) {
            bytes.extend(encode(&["SELECT", &db.to_string()]));
        }
        for command in commands {
            bytes.extend(encode(command));
        }
        let place = Place {
            shard: shard as u16,
            shards: self.parts.len() as u16,
            life: self.life,
        };
        let head = Head {
            number: self.next,
            turn: self.next * 2,
            offsets: self.next..self.next + 1,
            is_broad: false,
        };
        chunk::encode(place, &head, &[&bytes], &mut self.parts[shard]);
        self.next += 1;
    }

    fn save(&self, dir: &Dir, manifest: &mut Manifest) {
        let entries = manifest.begin_generation(Some((self.parts.len() as u16, self.life)));
        for (entry, bytes) in entries.iter().zip(&self.parts) {
            std::fs::write(entry.path(&dir.0.join("appendonlydir")), bytes).expect("the directory can be written");
        }
        std::fs::write(dir.aof("manifest"), manifest.encode()).expect("the directory can be written");
    }
}

/// Runs what a writer writes at a server, too.
fn write_all(writer: &mut Writer, client: &mut Client, random: &mut fastrand::Rng, count: usize) {
    let (mut db, mut open): (u32, Option<Vec<String>>) = (0, None);
    for line in lines(random, count) {
        // What is not the same the second time is no effect.
        if ["SPOP", "XADD", "EXPIRE ", "SET s:x EX"]
            .iter()
            .any(|word| line.starts_with(word))
            || line.contains(" EX ")
        {
            continue;
        }
        client.line(&line);
        if let Some(number) = line.strip_prefix("SELECT ").filter(|_| open.is_none()) {
            db = number.parse().expect("a db");
            continue;
        }
        let is_end = line == "EXEC";
        if line == "MULTI" || open.is_some() {
            open.get_or_insert_default().push(line);
            if !is_end {
                continue;
            }
        } else {
            open = Some(vec![line]);
        }
        let unit = open.take().expect("there is one");
        let commands: Vec<Vec<&str>> = unit.iter().map(|line| line.split(' ').collect()).collect();
        let shard = random.usize(..writer.parts.len());
        writer.write(shard, db, &commands);
        if unit.iter().any(|line| line.starts_with("SELECT")) {
            writer.dbs[shard] = None;
            (db, _) = (0, client.line("SELECT 0"));
        }
    }
}

/// The increments of three shards, of two lives, read by any number of shards; the second one is torn in all its parts.
#[test]
fn the_increments_of_several_shards_are_one_history() {
    let reference = Server::shardis(1, &["--enable-debug-command", "yes"]);
    let (mut client, mut random) = (reference.client(), fastrand::Rng::with_seed(3));
    let written = Dir::new("shards");
    let mut manifest = Manifest::new(b"appendonly.aof");
    let mut first = Writer::new(3, 1);
    write_all(&mut first, &mut client, &mut random, 1500);
    first.save(&written, &mut manifest);
    manifest.close_life(first.next - 1);
    client.line("SELECT 0");
    let mut second = Writer::new(2, first.next + 10);
    write_all(&mut second, &mut client, &mut random, 500);
    let (expected, kept) = (digest(&reference), second.next - 1);
    let lens: Vec<usize> = second.parts.iter().map(Vec::len).collect();
    // The number that follows is missing: what is behind it was seen by nobody.
    second.next += 1;
    second.write(0, 0, &[vec!["SET", "dropped", "1"]]);
    second.write(1, 0, &[vec!["SET", "dropped", "2"]]);
    let torn = second.parts[1].len() - 3;
    second.parts[1].truncate(torn);
    second.save(&written, &mut manifest);
    for shards in SHARD_COUNTS {
        let dir = written.copy(&format!("shards-{shards}"));
        let server = load(shards, &dir, &[]);
        assert_eq!(digest(&server), expected, "{}", server.name);
        let log = server.log();
        for said in [
            "!!! Truncating the AOF",
            "1 whole chunks, from log number",
            "the chunk is cut off: 3 bytes are missing",
            &format!("The log ends with number {kept}"),
        ] {
            assert!(log.contains(said), "{said}: {log}");
        }
        drop(server);
        let found = Manifest::parse(b"appendonly.aof", &dir.read("manifest")).expect("it is one");
        // (Behind it is what the server itself has begun.)
        let mut closed = found.increments.iter().filter_map(|entry| entry.part?.until);
        assert_eq!(closed.next_back(), Some(kept));
        assert_eq!(dir.read("4.incr.aof").len(), lens[0]);
        assert_eq!(dir.read("5.incr.aof").len(), lens[1]);
        // Once more, now that it is closed; without a word.
        let again = load(shards, &dir, &["--aof-load-truncated", "no"]);
        assert_eq!(digest(&again), expected);
        assert!(!again.log().contains("Truncating"));
        drop(again);
        // What is closed is whole, or somebody has changed it.
        let mut bytes = dir.read("4.incr.aof");
        bytes.truncate(lens[0] - 1);
        dir.write("4.incr.aof", &bytes);
        let text = refusal(&dir, &[]);
        assert!(text.contains("is missing, of the numbers up to"), "{text}");
        assert!(text.contains("Bad file format reading the append only file"), "{text}");
    }
    let text = refusal(&written, &["--aof-load-truncated", "no"]);
    assert!(
        text.contains("Unexpected end of file reading the append only file"),
        "{text}"
    );
    let found = Manifest::parse(b"appendonly.aof", &written.read("manifest")).expect("it is one");
    assert_eq!(found, manifest, "a start that fails changes nothing");
}

#[test]
fn what_cannot_be_read_is_named_with_its_place_and_the_way_out() {
    let set = encode(&["SET", "k", "v"]);
    let case = |name: &str, manifest: &str, files: &[(&str, &[u8])], said: &[&str]| {
        let dir = Dir::new(&format!("bad-{name}"));
        dir.write("manifest", manifest.as_bytes());
        for (file, bytes) in files {
            dir.write(file, bytes);
        }
        let text = refusal(&dir, &["--aof-load-truncated", "yes"]);
        for said in said {
            assert!(text.contains(said), "{name}: {said}: {text}");
        }
        let (last, expected) = (
            text.lines().last().unwrap_or_default(),
            said.last().expect("there is one"),
        );
        assert!(last.contains(expected), "{name}: {last}");
    };
    let one = "file appendonly.aof.1.incr.aof seq 1 type i\n";
    let two = "file appendonly.aof.1.incr.aof seq 1 type i\nfile appendonly.aof.2.incr.aof seq 2 type i\n";
    case(
        "manifest",
        "file a seq 1 type b\nfile b seq 2 type b\n",
        &[],
        &[
            "*** FATAL AOF MANIFEST FILE ERROR ***",
            "at line 2",
            ">>> 'file b seq 2 type b'",
            "Found duplicate base file information",
        ],
    );
    case("missing", two, &[("1.incr.aof", &set)], &["2.incr.aof", "put it back"]);
    let bad = "Bad file format reading the append only file";
    let torn = &set[..set.len() - 1];
    case(
        "torn",
        two,
        &[("1.incr.aof", torn), ("2.incr.aof", &set)],
        &["1.incr.aof", "offset 0", bad],
    );
    let garbage = [&set[..], b"garbage"].concat();
    case(
        "garbage",
        one,
        &[("1.incr.aof", &garbage)],
        &["offset 27", "got: 'g'", bad],
    );
    let unknown = [&set[..], &encode(&["NOSUCH", "k"])].concat();
    let name = "Unknown command 'NOSUCH' reading the append only file";
    case("unknown", one, &[("1.incr.aof", &unknown)], &["offset 27", name]);
    let short = encode(&["SET", "k"]);
    case(
        "arity",
        one,
        &[("1.incr.aof", &short)],
        &["wrong number of arguments for 'set'", bad],
    );
    let db = encode(&["SELECT", "16"]);
    case(
        "db",
        one,
        &[("1.incr.aof", &db)],
        &["more than 16 databases", "as many `databases`"],
    );
    let nested = [encode(&["MULTI"]), encode(&["MULTI"])].concat();
    case("nested", one, &[("1.incr.aof", &nested)], &["Unexpected MULTI", bad]);
    let based = "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
    case(
        "base",
        based,
        &[("1.base.rdb", b"REDIS0011\xfe\x00\x00"), ("1.incr.aof", &set)],
        &[
            "Error reading the RDB base file",
            "1.base.rdb: at offset",
            "shardis --check-aof says",
            "Fatal error loading the DB",
        ],
    );
    let admin = encode(&["CONFIG", "SET", "maxmemory", "1"]);
    case(
        "admin",
        one,
        &[("1.incr.aof", &admin)],
        &["no command that a file can hold", bad],
    );
}

/// Redis's rules for the last plain file: cut behind the last whole command, before a transaction that has no end.
#[test]
fn the_last_plain_file_may_be_torn() {
    let set = encode(&["SET", "k", "v"]);
    let open = [
        encode(&["MULTI"]),
        encode(&["INCR", "n"]),
        encode(&["RENAME", "k", "l"]),
    ]
    .concat();
    for (name, tail) in [("command", &encode(&["SET", "l", "w"])[..12]), ("multi", &open[..])] {
        let dir = Dir::new(&format!("torn-{name}"));
        dir.write("manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
        dir.write("1.incr.aof", &[&set[..], tail].concat());
        let text = refusal(&dir, &["--aof-load-truncated", "no"]);
        assert!(
            text.contains("Unexpected end of file reading the append only file"),
            "{text}"
        );
        let server = load(2, &dir, &[]);
        let log = server.log();
        assert!(log.contains("!!! Truncating the AOF"), "{log}");
        assert_eq!(log.contains("Revert incomplete MULTI/EXEC"), name == "multi", "{log}");
        assert_eq!(server.client().line("DBSIZE").text(), "1");
        drop(server);
        assert_eq!(dir.read("1.incr.aof"), set);
    }
}

#[test]
fn a_snapshot_beside_no_file_is_not_loaded_and_that_is_said() {
    let dir = Dir::new("snapshot");
    let server = Server::shardis(2, &["--dir", dir.path()]);
    server.client().line("SET k v");
    server.client().line("SAVE");
    drop(server);
    let server = load(2, &dir, &[]);
    assert_eq!(server.client().line("DBSIZE").text(), "0");
    let log = server.log();
    assert!(
        log.contains("dump.rdb is not loaded") && log.contains("CONFIG SET appendonly yes"),
        "{log}"
    );
}

/// DEBUG LOADAOF: what is on the disk, in the place of what is in memory, also where nothing writes the file.
#[test]
fn a_file_is_loaded_again_when_that_is_asked_for() {
    let dir = Dir::new("again");
    let options = ["--dir", dir.path(), "--enable-debug-command", "yes"];
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &options);
        let mut client = server.client();
        client.line("SET kept 1");
        let answer = client.line("DEBUG LOADAOF").text();
        assert_eq!(answer, "ERR Error trying to load the AOF files, check server logs.");
        assert_eq!(client.line("DBSIZE").text(), "1", "there was nothing to take its place");
        dir.write("manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
        let lines = [encode(&["MSET", "a", "1", "b", "2", "c", "3"]), encode(&["INCR", "a"])].concat();
        dir.write("1.incr.aof", &[&lines[..], b"*2\r\n$4\r\nIN"].concat());
        for _ in 0..2 {
            assert_eq!(client.line("DEBUG LOADAOF").text(), "OK");
            assert_eq!(client.line("DBSIZE").text(), "3");
            assert_eq!(client.line("GET a").text(), "2");
            let unsaved = || server.info_number("persistence", "rdb_changes_since_last_save");
            assert_eq!(unsaved(), 0, "what was read is no change");
            client.line("DEL a");
            assert_eq!(unsaved(), 1);
        }
        assert!(
            dir.read("1.incr.aof").len() > lines.len(),
            "nothing is cut off while somebody may write"
        );
        dir.write("1.incr.aof", b"*2\r\nx");
        let answer = client.line("DEBUG LOADAOF").text();
        assert_eq!(answer, "ERR Error trying to load the AOF files, check server logs.");
        assert_eq!(client.line("PING").text(), "PONG", "it serves on");
        std::fs::remove_file(dir.aof("manifest")).expect("it is there");
    }
}

/// What a check says, and with what it ends.
fn check(program: &Path, arguments: &[&str], answer: &str) -> (Option<i32>, String) {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be started");
    // It may not ask.
    let _ = child.stdin.take().expect("it is piped").write_all(answer.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// Whole or not, and mended or not: as redis-check-aof ends, so ends the check; and what it has mended is whole to both.
#[test]
fn the_check_ends_as_that_of_redis_does() {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_shardis"));
    let theirs = Oracle::Redis70.program().map(|_| PathBuf::from("redis-check-aof"));
    let set = encode(&["SET", "k", "v"]);
    let stamped = [b"#TS:100\r\n", &set[..], b"#TS:200\r\n", &set].concat();
    let files: [(&str, Vec<u8>); 4] = [
        ("whole", set.clone()),
        ("torn", [&set[..], &set[..9]].concat()),
        ("garbage", [&set[..], b"garbage"].concat()),
        ("stamped", stamped),
    ];
    for (name, bytes) in files {
        let fresh = |suffix: &str| {
            let dir = Dir::new(&format!("check-{name}-{suffix}"));
            dir.write("manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
            dir.write("1.incr.aof", &bytes);
            dir
        };
        let truncating = ["--truncate-to-timestamp", "150"];
        for (options, answer) in [
            (&[][..], ""),
            (&["--fix"], "n\n"),
            (&["--fix"], "y\n"),
            (&truncating, ""),
        ] {
            if name != "stamped" && options == truncating {
                continue;
            }
            let ours = fresh("ours");
            let manifest = ours.aof("manifest");
            let file = manifest.to_str().expect("a plain name");
            let mut all = vec!["--check-aof"];
            all.extend_from_slice(options);
            all.push(file);
            let (code, text) = check(&own, &all, answer);
            let expected = match (name, answer) {
                ("torn" | "garbage", "" | "n\n") => Some(1),
                _ => Some(0),
            };
            assert_eq!(code, expected, "{name} {options:?}: {text}");
            if let Some(program) = &theirs {
                let other = fresh("theirs");
                let manifest = other.aof("manifest");
                let mut all = options.to_vec();
                all.push(manifest.to_str().expect("a plain name"));
                let (their_code, their_text) = check(program, &all, answer);
                assert_eq!(code, their_code, "{name} {options:?}: {text}{their_text}");
                assert_eq!(ours.read("1.incr.aof"), other.read("1.incr.aof"), "{name} {options:?}");
                let (valid, text) = check(program, &[file], "");
                assert_eq!(valid == Some(0), code == Some(0), "{name} {options:?}: {text}");
            }
        }
    }
    assert_eq!(check(&own, &["--check-aof"], "").0, Some(1));
    assert_eq!(check(&own, &["--check-aof", "/nowhere/at.all"], "").0, Some(1));
}

/// Bases with keys, annotated increments and manifests with keys of ours are nothing that a real tool stumbles over; and what a server is
/// using is not mended under its feet.
#[test]
fn what_was_kept_is_whole_to_other_tools() {
    let dir = Dir::new("tools");
    let mut manifest = Manifest::new(b"appendonly.aof");
    let mut writer = Writer::new(2, 1);
    for number in 0..20 {
        writer.write(number % 2, 0, &[vec!["INCR", "n"], vec!["SET", "k", "v"]]);
    }
    writer.next += 1;
    writer.write(1, 0, &[vec!["SET", "dropped", "1"]]);
    writer.save(&dir, &mut manifest);
    let file = dir.aof("manifest");
    let file = file.to_str().expect("a plain name");
    let own = PathBuf::from(env!("CARGO_BIN_EXE_shardis"));
    let (code, text) = check(&own, &["--check-aof", file], "");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("2.incr.aof: 1 whole chunks, from log number 22 to 22"),
        "{text}"
    );
    let server = load(2, &dir, &[]);
    assert_eq!(server.client().line("GET n").text(), "20");
    let (code, text) = check(&own, &["--check-aof", "--fix", file], "y\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is in use by the process"), "{text}");
    drop(server);
    let (code, text) = check(&own, &["--check-aof", "--fix", file], "y\n");
    assert_eq!(code, Some(0), "{text}");
    if Oracle::Redis70.program().is_some() {
        let (code, text) = check(Path::new("redis-check-aof"), &[file], "");
        assert_eq!(code, Some(0), "{text}");
    }
    for oracle in [Oracle::Redis70, Oracle::Redis82, Oracle::Valkey91] {
        let copy = dir.copy(&format!("tools-{oracle:?}"));
        let options = ["--dir", copy.path(), "--appendonly", "yes"];
        let Some(server) = oracle.start(&options) else { continue };
        server.wait_until_loaded();
        assert_eq!(server.client().line("GET n").text(), "20", "{}", oracle.name());
    }
}

/// While the file is written as well: it goes on behind what was read again, and nothing of that is logged twice.
#[test]
fn a_file_that_is_being_written_is_loaded_again() {
    for shards in SHARD_COUNTS {
        let dir = Dir::new(&format!("writing-{shards}"));
        let server = load(shards, &dir, &[]);
        let (mut client, mut random) = (server.client(), fastrand::Rng::with_seed(9));
        run(&mut client, &lines(&mut random, 300));
        let before = digest(&server);
        assert_eq!(client.line("DEBUG LOADAOF").text(), "OK");
        assert_eq!(digest(&server), before, "{}", server.name);
        client.line("SELECT 0");
        client.line("BGREWRITEAOF");
        run(&mut client, &lines(&mut random, 300));
        eventually("it is rewritten", || {
            server.info_number("persistence", "aof_rewrite_in_progress") == 0
        });
        let before = digest(&server);
        assert_eq!(client.line("DEBUG LOADAOF").text(), "OK");
        assert_eq!(digest(&server), before, "{}", server.name);
        client.line("SELECT 0");
        client.line("MSET last 1 of 2 all 3");
        let before = digest(&server);
        drop(server);
        for shards in SHARD_COUNTS {
            let server = load(shards, &dir.copy(&format!("written-{shards}")), &[]);
            assert_eq!(digest(&server), before, "{}", server.name);
        }
    }
}

/// Libraries of functions, which nothing here runs yet, are kept, and go on into what is saved.
#[test]
fn libraries_of_functions_are_kept() {
    let Some(server) = Oracle::Redis70.start(&["--appendonly", "yes", "--appendfsync", "always"]) else {
        return;
    };
    let mut client = server.client();
    let code = |name: &str| format!("#!lua name={name}\nredis.register_function('f_{name}', function() return 1 end)");
    for name in ["base", "kept", "gone", "dumped"] {
        assert!(!client.call(&["FUNCTION", "LOAD", &code(name)]).is_error());
        if name == "base" {
            client.line("BGREWRITEAOF");
            eventually("it is rewritten", || {
                server.info_number("persistence", "aof_rewrite_in_progress") == 0
            });
        }
    }
    client.line("FUNCTION DELETE gone");
    let Value::Bulk(dump) = client.line("FUNCTION DUMP") else {
        panic!("a dump is a string");
    };
    client.line("FUNCTION FLUSH");
    client.call(&[b"FUNCTION", &b"RESTORE"[..], &dump]);
    client.line("MULTI");
    client.call(&["FUNCTION", "LOAD", "REPLACE", &code("kept")]);
    client.line("SET k v");
    client.line("EXEC");
    let dir = Dir::new("functions");
    copy_files(&server.dir, &dir.0);
    drop(server);
    let loaded = load(2, &dir, &[]);
    assert_eq!(loaded.client().line("SAVE").text(), "OK");
    let saved = std::fs::read(dir.0.join("dump.rdb")).expect("it is there");
    let count = |name: &str| {
        let text = format!("#!lua name={name}\n");
        saved
            .windows(text.len())
            .filter(|window| *window == text.as_bytes())
            .count()
    };
    assert_eq!(["base", "kept", "gone", "dumped"].map(count), [1, 1, 0, 1]);
}
