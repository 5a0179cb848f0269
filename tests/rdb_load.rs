//! Files that real servers have written, loaded at the start: the same data set at any number of shards. And what must not be loaded is
//! refused with its reason, what takes long lets itself be asked how far it is.
//!
//! Layouts that no server writes any more are made by hand in the unit tests of `persist::file::reader`.

mod support;

use shardis::base::crc64::crc64;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Client, Oracle, Server, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];
/// Far enough that nothing expires while a test runs, and not so far that it is anything special.
const LATER_MS: &str = "4000000000000";

/// A directory that goes away.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("shardis-load-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Dir(path)
    }

    fn with(name: &str, file: &str, bytes: &[u8]) -> Dir {
        let dir = Dir::new(name);
        dir.write(file, bytes);
        dir
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(file), bytes).expect("the directory can be written");
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

/// A shardis that loads what is in a directory; ready when it has.
fn load(shards: usize, dir: &Dir, options: &[&str]) -> Server {
    let mut all = vec!["--dir", dir.path(), "--enable-debug-command", "yes"];
    all.extend_from_slice(options);
    let server = Server::shardis(shards, &all);
    await_loaded(&server);
    server
}

fn await_loaded(server: &Server) {
    server.wait_until_loaded();
}

/// Everything that a server of that kind can hold, in every encoding.
fn fill(client: &mut Client, oracle: Oracle) {
    let mut random = fastrand::Rng::with_seed(5);
    let mut commands: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut add = |words: &[&[u8]]| commands.push(words.iter().map(|word| word.to_vec()).collect());
    for db in ["0", "9", "15"] {
        add(&[b"SELECT", db.as_bytes()]);
        for number in [0i64, -1, 127, 128, -32769, 70_000, i64::MAX] {
            let key = format!("int:{number}");
            add(&[b"SET", key.as_bytes(), number.to_string().as_bytes()]);
        }
        for length in [0, 1, 44, 45, 300, 20_000, 600_000] {
            let noise: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            add(&[b"SET", format!("noise:{length}").as_bytes(), &noise]);
            add(&[
                b"SET",
                format!("same:{length}").as_bytes(),
                &vec![b'x'; length],
                b"PXAT",
                LATER_MS.as_bytes(),
            ]);
        }
    }
    add(&[b"SELECT", b"0"]);
    for number in 0..3000u32 {
        let key = format!("key:{number}");
        add(&[b"SET", key.as_bytes(), format!("value:{number}").as_bytes()]);
        if number % 3 == 0 {
            add(&[
                b"PEXPIREAT",
                key.as_bytes(),
                format!("{}", 4_000_000_000_000u64 + u64::from(number)).as_bytes(),
            ]);
        }
    }
    for (name, count) in [("small", 5), ("large", 3000)] {
        for number in 0..count {
            let text = format!("element:{number}:{}", random.u32(..));
            let integer = (number * 7919 - 500).to_string();
            let item = if number % 2 == 0 {
                text.as_bytes()
            } else {
                integer.as_bytes()
            };
            add(&[b"RPUSH", format!("list:{name}").as_bytes(), item]);
            add(&[b"SADD", format!("set:{name}").as_bytes(), item]);
            add(&[b"SADD", format!("intset:{name}").as_bytes(), integer.as_bytes()]);
            add(&[b"HSET", format!("hash:{name}").as_bytes(), item, integer.as_bytes()]);
            let score = format!("{}", f64::from(number) * 0.25 - 3.0);
            add(&[b"ZADD", format!("zset:{name}").as_bytes(), score.as_bytes(), item]);
        }
    }
    let long = vec![b'l'; 20_000];
    add(&[b"RPUSH", b"list:long", b"a", &long, b"b"]);
    add(&[b"HSET", b"hash:long", b"f", &long]);
    add(&[
        b"ZADD",
        b"zset:ends",
        b"inf",
        b"most",
        b"-inf",
        b"least",
        b"0",
        b"nothing",
    ]);
    for number in 1..400u32 {
        let id = format!("{}-{number}", number / 3 + 1);
        let value = random.u32(..).to_string();
        add(&[
            b"XADD",
            b"stream",
            id.as_bytes(),
            b"field",
            value.as_bytes(),
            b"more",
            b"text",
        ]);
    }
    add(&[b"XGROUP", b"CREATE", b"stream", b"group", b"0"]);
    add(&[b"XGROUP", b"CREATE", b"stream", b"idle", b"$"]);
    for consumer in ["anna", "bert"] {
        add(&[
            b"XREADGROUP",
            b"GROUP",
            b"group",
            consumer.as_bytes(),
            b"COUNT",
            b"30",
            b"STREAMS",
            b"stream",
            b">",
        ]);
    }
    add(&[b"XACK", b"stream", b"group", b"2-5"]);
    add(&[b"XDEL", b"stream", b"1-1", b"9-25"]);
    add(&[b"XADD", b"stream:empty", b"7-1", b"a", b"b"]);
    add(&[b"XTRIM", b"stream:empty", b"MAXLEN", b"0"]);
    add(&[b"PFADD", b"hll", b"a", b"b", b"c"]);
    if oracle != Oracle::Redis62 {
        add(&[
            b"FUNCTION",
            b"LOAD",
            b"#!lua name=mine\nredis.register_function('hello', function() return 'world' end)",
        ]);
    }
    for (command, reply) in commands.iter().zip(client.call_all(&commands)) {
        assert!(
            !reply.is_error(),
            "{}: {}",
            String::from_utf8_lossy(&command[0]),
            reply.text()
        );
    }
}

fn digest(client: &mut Client) -> String {
    client.call(&["DEBUG", "DIGEST"]).text()
}

/// The keys of db 0 that are not the same in two servers.
fn differing(one: &mut Client, other: &mut Client) -> Vec<String> {
    let keys = one.call(&["KEYS", "*"]).items();
    let keys = keys.iter().map(support::Value::text);
    keys.filter(|key| {
        let asked = ["DEBUG", "DIGEST-VALUE", key];
        format!("{:?}", one.call(&asked)) != format!("{:?}", other.call(&asked))
    })
    .collect()
}

/// What a server says of these keys that no digest holds.
fn told(client: &mut Client) -> Vec<String> {
    let mut told = Vec::new();
    for line in [
        "TTL key:3",
        "TTL key:4",
        "OBJECT ENCODING int:127",
        "OBJECT ENCODING intset:small",
        "OBJECT ENCODING set:large",
        "OBJECT ENCODING zset:large",
        "OBJECT ENCODING hash:small",
        "XLEN stream",
        "XPENDING stream group",
        "XINFO GROUPS stream",
        "XRANGE stream:empty - +",
        "PFCOUNT hll",
        "DBSIZE",
    ] {
        // It goes down while it is asked for.
        let text = format!("{:?}", client.line(line));
        told.push(match line.starts_with("TTL") {
            true => text.len().to_string(),
            false => text,
        });
    }
    told
}

/// Redis 6.2 has no `enable-debug-command`, and needs none.
fn writer_options(oracle: Oracle, dir: &Dir) -> Vec<&str> {
    let mut options = vec!["--dir", dir.path()];
    if oracle != Oracle::Redis62 {
        options.extend(["--enable-debug-command", "yes"]);
    }
    options
}

fn loads_what_it_has_written(oracle: Oracle) {
    let dir = Dir::new(&format!("{oracle:?}"));
    let Some(writer) = oracle.start(&writer_options(oracle, &dir)) else {
        return;
    };
    let mut client = writer.client();
    fill(&mut client, oracle);
    // PFCOUNT writes down what it has found out.
    let answers = told(&mut client);
    let expected = digest(&mut client);
    assert_eq!(client.call(&["SAVE"]).text(), "OK");
    for shards in SHARD_COUNTS {
        let server = load(shards, &dir, &[]);
        let mut client = server.client();
        if digest(&mut client) != expected {
            let differing = differing(&mut writer.client(), &mut client);
            panic!("{} of {}: {differing:?}", server.name, oracle.name());
        }
        let ours = told(&mut client);
        // Redis 6.2 names its encodings otherwise.
        if oracle != Oracle::Redis62 {
            assert_eq!(ours, answers, "{}", server.name);
        }
        let loaded = server.info_number("persistence", "rdb_last_load_keys_loaded");
        assert_eq!(loaded, 3037 + 2 * 21, "{}", server.name);
        assert!(server.log().contains("Done loading RDB, keys loaded: "));
    }
}

/// Hashes with fields that expire, in the two dialects. (What fingerprints make of them is each server's own affair.)
#[test]
fn fields_that_expire_are_loaded() {
    for oracle in [Oracle::Redis82, Oracle::Valkey91] {
        let dir = Dir::new(&format!("fields-{oracle:?}"));
        let Some(writer) = oracle.start(&writer_options(oracle, &dir)) else {
            return;
        };
        let mut client = writer.client();
        for (key, count) in [("small", 9), ("large", 900)] {
            for number in 0..count {
                client.line(&format!("HSET {key} field:{number} value:{number}"));
            }
            for number in (0..count).step_by(3) {
                let at = 4_000_000_000_000u64 + number;
                client.line(&format!("HPEXPIREAT {key} {at} FIELDS 1 field:{number}"));
            }
        }
        assert_eq!(client.line("SAVE").text(), "OK");
        drop(writer);
        for shards in SHARD_COUNTS {
            let server = load(shards, &dir, &[]);
            let mut client = server.client();
            for (key, count) in [("small", 9), ("large", 900)] {
                assert_eq!(client.line(&format!("HLEN {key}")).integer(), count as i64);
                for number in 0..count {
                    let value = client.line(&format!("HGET {key} field:{number}")).text();
                    assert_eq!(value, format!("value:{number}"));
                    let at = client.line(&format!("HPEXPIRETIME {key} FIELDS 1 field:{number}"));
                    let expected = if number % 3 == 0 {
                        4_000_000_000_000 + number as i64
                    } else {
                        -1
                    };
                    assert_eq!(at.items()[0].integer(), expected, "{key} {number} of {}", oracle.name());
                }
            }
        }
    }
}

#[test]
fn files_of_redis_6_2_load() {
    loads_what_it_has_written(Oracle::Redis62);
}

#[test]
fn files_of_redis_7_0_load() {
    loads_what_it_has_written(Oracle::Redis70);
}

#[test]
fn files_of_redis_8_2_load() {
    loads_what_it_has_written(Oracle::Redis82);
}

#[test]
fn files_of_valkey_9_1_load() {
    loads_what_it_has_written(Oracle::Valkey91);
}

/// What is loaded and saved again is what it was, whoever reads it, libraries included; and a file of parts loads at any other number of shards.
#[test]
fn what_was_loaded_is_written_back() {
    let dir = Dir::new("back");
    let Some(writer) = Oracle::Redis70.start(&["--dir", dir.path(), "--enable-debug-command", "yes"]) else {
        return;
    };
    let mut client = writer.client();
    fill(&mut client, Oracle::Redis70);
    let expected = digest(&mut client);
    client.call(&["SAVE"]);
    drop(writer);
    for (shards, then) in [(3, 1), (1, 4), (4, 2), (2, 2)] {
        {
            let server = load(shards, &dir, &["--rdb-version", "10"]);
            assert_eq!(server.client().call(&["SAVE"]).text(), "OK");
        }
        let server = load(then, &dir, &[]);
        assert_eq!(
            digest(&mut server.client()),
            expected,
            "written by {shards}, read by {then}"
        );
    }
    let reader = Oracle::Redis70
        .start(&["--dir", dir.path(), "--enable-debug-command", "yes"])
        .expect("it was there");
    let mut client = reader.client();
    eventually("it is loaded", || digest(&mut client) == expected);
    let libraries = client.call(&["FUNCTION", "LIST"]).items();
    let names: Vec<String> = libraries.iter().map(|library| library.items()[1].text()).collect();
    assert_eq!(names, ["mine"]);
}

/// How keys were used is loaded, if that is what the policy goes by.
#[test]
fn marks_of_use_are_loaded() {
    for (policy, field) in [("allkeys-lru", "IDLETIME"), ("allkeys-lfu", "FREQ")] {
        let dir = Dir::new(field);
        let options = ["--dir", dir.path(), "--maxmemory-policy", policy, "--maxmemory", "1gb"];
        let Some(writer) = Oracle::Redis70.start(&options) else {
            return;
        };
        let mut client = writer.client();
        client.call(&["SET", "key", "value"]);
        let payload = match client.call(&["DUMP", "key"]) {
            support::Value::Bulk(payload) => payload,
            other => panic!("{other:?}"),
        };
        let mark = if field == "FREQ" { "77" } else { "5000" };
        let word = if field == "FREQ" { "FREQ" } else { "IDLETIME" };
        let words: [&[u8]; 6] = [b"RESTORE", b"marked", b"0", &payload, word.as_bytes(), mark.as_bytes()];
        assert_eq!(client.call(&words).text(), "OK");
        client.call(&["SAVE"]);
        drop(writer);
        for (loaded_by, is_kept) in [
            ("allkeys-lru", policy == "allkeys-lru"),
            ("allkeys-lfu", policy == "allkeys-lfu"),
        ] {
            let server = load(2, &dir, &["--maxmemory-policy", loaded_by]);
            let asked = if loaded_by == "allkeys-lfu" { "FREQ" } else { "IDLETIME" };
            let answer = server.client().call(&["OBJECT", asked, "marked"]).integer();
            let expected: i64 = mark.parse().expect("a number");
            let is_near = (expected..expected + 60).contains(&answer);
            assert_eq!(is_near, is_kept, "{policy} loaded by {loaded_by}: {answer}");
        }
    }
}

/// A file made of these bytes, with a checksum that fits.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut out = [body, b"\xff"].concat();
    let crc = crc64(0, &out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// What a server says that does not start.
fn refusal(dir: &Dir, options: &[&str]) -> String {
    let path = std::env::var_os("SHARDIS_SERVER").unwrap_or_else(|| env!("CARGO_BIN_EXE_shardis").into());
    let port = support::server::free_port().to_string();
    let mut child = Command::new(path)
        .args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--dir",
            dir.path(),
            "--save",
            "",
            "--shards",
            "2",
        ])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let deadline = Instant::now() + support::PATIENCE;
    while child.try_wait().expect("the child is ours").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it starts with what it should refuse");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("it has ended");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn what_cannot_be_loaded_ends_the_start() {
    let key = b"REDIS0009\xfe\x00\x00\x03key\x05value".as_slice();
    let whole = sealed(key);
    let mut altered = whole.clone();
    altered[20] ^= 1;
    let cases: [(&str, Vec<u8>, &[&str]); 10] = [
        (
            "cut",
            whole[..22].to_vec(),
            &["dump.rdb: at offset ", "bytes expected", "redis-check-rdb"],
        ),
        ("checksum", altered, &["at offset ", "Wrong RDB checksum expected: ("]),
        (
            "signature",
            b"SOMETHING ELSE".to_vec(),
            &["Wrong signature trying to load DB from file"],
        ),
        ("version", sealed(b"REDIS0099"), &["Can't handle RDB format version 99"]),
        ("valkey", sealed(b"VALKEY081"), &["Can't handle RDB format version 81"]),
        (
            "db",
            sealed(b"REDIS0009\xfe\x10\x00\x03key\x05value"),
            &["FATAL: Data file was created with a Redis server configured to handle more than 16 databases. Exiting"],
        ),
        (
            "twice",
            sealed(&[key, b"\x00\x03key\x05again"].concat()),
            &["RDB has duplicated key 'key' in DB 0"],
        ),
        (
            "module",
            sealed(&[key, b"\x07\x04json\x81\x41\x42\x43\x44\x45\x46\x47\x48\x00"].concat()),
            &[
                "in the key 'json'",
                "The RDB file contains module data I can't load: no matching module type '",
            ],
        ),
        (
            "value",
            sealed(&[key, b"\x10\x04hash\x02xx"].concat()),
            &["in the key 'hash'", "a packed value is damaged"],
        ),
        // A reader that does not know it must not look for its end.
        (
            "type",
            sealed(&[key, b"\x63\x04what\x01v"].concat()),
            &["at offset 28, in the key 'what'", "the number 99"],
        ),
    ];
    for (name, bytes, texts) in cases {
        let dir = Dir::with(name, "dump.rdb", &bytes);
        let said = refusal(&dir, &[]);
        for text in texts
            .iter()
            .chain(&["Fatal error loading the DB, check server logs. Exiting."])
        {
            assert!(said.contains(text), "{name}: {said}");
        }
        assert!(
            !said.contains("panicked") && !said.contains("Ready to accept"),
            "{name}: {said}"
        );
        assert_eq!(std::fs::read(dir.0.join("dump.rdb")).expect("it is left alone"), bytes);
    }
    // More databases, and no checksum.
    let dir = Dir::with("more", "dump.rdb", &sealed(b"REDIS0009\xfe\x10\x00\x03key\x05value"));
    let server = load(2, &dir, &["--databases", "17"]);
    let mut client = server.client();
    client.line("SELECT 16");
    assert_eq!(client.line("GET key").text(), "value");
    let mut altered = whole;
    altered[19] ^= 1;
    let dir = Dir::with("unchecked", "dump.rdb", &altered);
    let server = load(2, &dir, &["--rdbchecksum", "no"]);
    assert_eq!(server.client().line("DBSIZE").integer(), 1);
}

#[test]
fn expired_and_empty_keys_are_left_out_and_counted() {
    let mut body = b"REDIS0009\xfe\x00".to_vec();
    // Seconds and milliseconds that are over.
    body.extend_from_slice(b"\xfd\x10\x00\x00\x00\x00\x03old\x01v");
    body.extend_from_slice(b"\xfc\x10\x00\x00\x00\x00\x00\x00\x00\x00\x05older\x01v");
    // A list, a set, a hash and a sorted set without elements.
    for (kind, key) in [(1, b"e1"), (2, b"e2"), (4, b"e3"), (5, b"e4")] {
        body.push(kind);
        body.push(2);
        body.extend_from_slice(key);
        body.push(0);
    }
    body.extend_from_slice(b"\x00\x04left\x01v");
    let dir = Dir::with("left-out", "dump.rdb", &sealed(&body));
    let server = load(2, &dir, &[]);
    assert_eq!(server.client().line("DBSIZE").integer(), 1);
    assert_eq!(server.info_number("persistence", "rdb_last_load_keys_loaded"), 1);
    assert_eq!(server.info_number("persistence", "rdb_last_load_keys_expired"), 2);
    let log = server.log();
    assert!(log.contains("rdbLoadObject skipping empty key: e3"), "{log}");
    assert!(
        log.contains("Done loading RDB, keys loaded: 1, keys expired: 2, empty keys skipped: 4."),
        "{log}"
    );
}

/// A file with so many keys, `key:<n>`.
fn many(count: u32) -> Vec<u8> {
    let mut body = b"REDIS0009\xfe\x00".to_vec();
    for number in 0..count {
        let key = format!("key:{number}");
        body.extend_from_slice(&[0, key.len() as u8]);
        body.extend_from_slice(key.as_bytes());
        body.push(40);
        body.extend_from_slice(&[b'v'; 40]);
    }
    sealed(&body)
}

#[test]
fn while_it_loads_a_server_says_so() {
    let dir = Dir::with("progress", "dump.rdb", &many(40_000));
    let options = [
        "--dir",
        dir.path(),
        "--key-load-delay",
        "150",
        "--enable-protected-configs",
        "yes",
        "--enable-debug-command",
        "yes",
        "--save",
        "1 1",
    ];
    let server = start_loading(2, &options);
    let mut client = server.client();
    const LOADING: &str = "LOADING Redis is loading the dataset in memory";
    for line in [
        "GET key:1",
        "SET a b",
        "DBSIZE",
        "FLUSHALL",
        "SAVE",
        "BGSAVE",
        "DEBUG RELOAD",
        "DEBUG RELOAD NOSAVE",
    ] {
        let answer = client.line(line);
        assert!(
            answer.is_error() && answer.text().ends_with(LOADING),
            "{line}: {}",
            answer.text()
        );
    }
    assert!(client.line("CONFIG SET dir /").is_error());
    assert_eq!(client.line("MULTI").text(), "OK");
    assert!(client.line("GET key:1").is_error());
    assert!(client.line("EXEC").text().starts_with("EXECABORT"));
    let seen: Vec<u64> = ["loading_start_time", "loading_total_bytes", "loading_loaded_bytes"]
        .map(|field| server.info_number("persistence", field))
        .into();
    assert!(
        seen[0] > 1_700_000_000 && seen[1] == std::fs::metadata(dir.0.join("dump.rdb")).expect("it is there").len()
    );
    eventually("it gets on", || {
        server.info_number("persistence", "loading_loaded_bytes") > seen[2]
    });
    let info = client.line("INFO persistence").text();
    for field in [
        "async_loading:0",
        "loading_rdb_used_mem:",
        "loading_loaded_perc:",
        "loading_eta_seconds:",
    ] {
        assert!(info.contains(field), "{info}");
    }
    assert_eq!(client.line("CONFIG SET key-load-delay 0").text(), "OK");
    await_loaded(&server);
    assert_eq!(client.line("DBSIZE").integer(), 40_000);
    assert!(!client.line("INFO persistence").text().contains("loading_eta_seconds"));
    let bytes = std::fs::read(dir.0.join("dump.rdb")).expect("it is there");
    assert!(bytes == many(40_000), "nobody has saved what was half read");
    assert_eq!(
        client.line("DEBUG RELOAD").text(),
        "OK",
        "it is taken when all is there"
    );
    assert_eq!(client.line("DBSIZE").integer(), 40_000);
}

/// A server that is still loading.
fn start_loading(shards: usize, options: &[&str]) -> Server {
    let server = Server::shardis(shards, options);
    assert_eq!(server.info_number("persistence", "loading"), 1);
    server
}

/// It ends at once, and leaves the file as it is.
#[test]
fn a_server_that_loads_can_be_ended() {
    let bytes = many(40_000);
    for shards in [1, 3] {
        let dir = Dir::with(&format!("ended{shards}"), "dump.rdb", &bytes);
        let mut server = start_loading(
            shards,
            &["--dir", dir.path(), "--key-load-delay", "1000", "--save", "1 1"],
        );
        let pid = nix::unistd::Pid::from_raw(server.pid() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is ours");
        assert!(server.ending().success());
        let log = server.log();
        assert!(
            log.contains("Received shutdown signal during loading, exiting now."),
            "{log}"
        );
        assert!(!log.contains("Ready to accept"), "{log}");
        assert_eq!(std::fs::read(dir.0.join("dump.rdb")).expect("it is there"), bytes);
        assert_eq!(
            std::fs::read_dir(&dir.0).expect("it is there").count(),
            1,
            "and nothing beside it"
        );
    }
}

/// Files that are complete only together, and what is said when they are not.
#[test]
fn sets_of_files_are_loaded_together() {
    let dir = Dir::new("set");
    let one = |key: &str, at: u8, member: &str| {
        let mut body = b"REDIS0011\xfa\x05ctime\xc0".to_vec();
        body.extend_from_slice(&[at, 0xfa, 16]);
        body.extend_from_slice(b"shardis-snapshot");
        body.push(member.len() as u8);
        body.extend_from_slice(member.as_bytes());
        body.extend_from_slice(&[0xfe, 3, 0, key.len() as u8]);
        body.extend_from_slice(key.as_bytes());
        body.extend_from_slice(b"\x01v");
        sealed(&body)
    };
    let member = |index: usize| format!("00000000deadbeef {index} 3");
    for index in 0..3 {
        dir.write(
            &format!("dump.{index}-of-3.rdb"),
            &one(&format!("part{index}"), 20, &member(index)),
        );
    }
    dir.write("dump.rdb", &one("old", 10, "0000000000000001 0 1"));
    dir.write("dump.0-of-2.rdb", &one("stray", 15, "0000000000000002 0 2"));
    for shards in SHARD_COUNTS {
        let server = load(shards, &dir, &[]);
        let mut client = server.client();
        client.line("SELECT 3");
        assert_eq!(
            client.line("EXISTS part0 part1 part2 old stray").integer(),
            3,
            "{}",
            server.log()
        );
    }
    let third = one("part1", 20, &member(1));
    let of_other = one("part1", 20, "00000000deadbee0 1 3");
    for (content, texts) in [
        (&b"REDIS0011"[..], &["dump.1-of-3.rdb: at offset 9"][..]),
        (&of_other, &["dump.1-of-3.rdb is of another snapshot"]),
        (
            &[],
            &[
                "dump.1-of-3.rdb is missing",
                "The files of a snapshot are complete only together",
                "to start with dump.rdb, take dump.0-of-3.rdb, dump.2-of-3.rdb out of ",
            ],
        ),
    ] {
        dir.write("dump.1-of-3.rdb", content);
        if content.is_empty() {
            std::fs::remove_file(dir.0.join("dump.1-of-3.rdb")).expect("it is there");
        }
        let said = refusal(&dir, &[]);
        assert!(texts.iter().all(|text| said.contains(text)), "{said}");
    }
    // A save was cut off when it had renamed the first two, and the third bears the name of before still.
    dir.write("dump.1-of-3.rdb", &of_other);
    dir.write("temp-1.00000000deadbeef.1.rdb", &third);
    dir.write("temp-1.00000000deadbee1.1.rdb", &third);
    let server = load(2, &dir, &[]);
    let mut client = server.client();
    client.line("SELECT 3");
    assert_eq!(client.line("EXISTS part0 part1 part2").integer(), 3, "{}", server.log());
    assert_eq!(
        std::fs::read(dir.0.join("dump.1-of-3.rdb")).expect("it is there"),
        third
    );
    assert!(!dir.0.join("temp-1.00000000deadbeef.1.rdb").exists());
}

#[test]
fn a_directory_is_for_one_server() {
    let dir = Dir::new("owned");
    let other = Dir::with("other", "dump.rdb", &many(3));
    let server = load(1, &dir, &["--enable-protected-configs", "yes"]);
    let said = refusal(&dir, &[]);
    assert!(
        said.contains(&format!("is in use by the process {}:", server.pid())),
        "{said}"
    );
    let mut client = server.client();
    assert_eq!(client.call(&["CONFIG", "SET", "dir", other.path()]).text(), "OK");
    let said = refusal(&other, &[]);
    assert!(
        said.contains(&format!("is in use by the process {}:", server.pid())),
        "{said}"
    );
    // The first one is free, and the second one cannot be taken away.
    let second = load(1, &dir, &["--enable-protected-configs", "yes"]);
    let answer = second.client().call(&["CONFIG", "SET", "dir", other.path()]).text();
    assert!(answer.contains("is in use by the process"), "{answer}");
    assert_eq!(second.client().line("CONFIG GET dir").items()[1].text(), dir.path());
    assert_eq!(
        client.call(&["CONFIG", "SET", "dir", other.path()]).text(),
        "OK",
        "the same again"
    );
    drop(server);
    assert_eq!(
        second.client().call(&["CONFIG", "SET", "dir", other.path()]).text(),
        "OK"
    );
    assert!(Path::new(other.path()).join("dump.rdb").exists());
}

/// The options in all the ways in which they make a difference, at any number of shards, while clients work.
#[test]
fn debug_reload_puts_the_file_in_the_place_of_memory() {
    for shards in SHARD_COUNTS {
        let dir = Dir::new(&format!("reload{shards}"));
        let server = load(shards, &dir, &[]);
        let mut client = server.client();
        fill_some(&mut client, 5000);
        let before = digest(&mut client);
        for layout in ["per-shard", "merged"] {
            client.line(&format!("CONFIG SET rdb-layout {layout}"));
            assert_eq!(client.line("DEBUG RELOAD").text(), "OK", "{layout}");
            assert_eq!(digest(&mut client), before, "{layout}");
        }
        // Of what was not saved nothing is left.
        client.line("SET other 1");
        client.line("SET key:1 changed");
        assert_eq!(client.line("DEBUG RELOAD NOSAVE").text(), "OK");
        assert_eq!(digest(&mut client), before);
        // What is in both. (Which of them is found first is nobody's promise; with `large` gone, it is one of the keys.)
        client.line("SET other 1");
        client.line("SET key:1 changed");
        client.line("DEL large");
        let answer = client.line("DEBUG RELOAD NOSAVE NOFLUSH");
        assert_eq!(
            answer.text(),
            "ERR Error trying to load the RDB dump, check server logs."
        );
        assert!(
            server.log().contains("RDB has duplicated key 'key:"),
            "{}",
            server.log()
        );
        assert_eq!(client.line("DEBUG RELOAD NOSAVE NOFLUSH MERGE").text(), "OK");
        assert_eq!(client.line("GET key:1").text(), "value:1");
        assert_eq!(client.line("GET other").text(), "1");
        client.line("DEL other");
        assert_eq!(digest(&mut client), before);
        assert!(client.line("DEBUG RELOAD SOFTLY").is_error());
        client.line("MULTI");
        let queued = client.line("DEBUG RELOAD");
        assert!(queued.is_error(), "{}", queued.text());
        client.line("DISCARD");
        // A file that is damaged only in its checksum.
        let file = dir.0.join("dump.rdb");
        let mut bytes = std::fs::read(&file).expect("it was saved");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&file, &bytes).expect("the directory can be written");
        assert!(client.line("DEBUG RELOAD NOSAVE").is_error());
        assert_eq!(client.line("DEBUG SET-SKIP-CHECKSUM-VALIDATION 1").text(), "OK");
        assert_eq!(client.line("DEBUG RELOAD NOSAVE").text(), "OK");
        assert_eq!(digest(&mut client), before);
        client.line("DEBUG SET-SKIP-CHECKSUM-VALIDATION 0");
        // Nothing to load.
        std::fs::remove_file(&file).expect("it is there");
        assert!(client.line("DEBUG RELOAD NOSAVE").is_error());
        assert_eq!(client.line("DBSIZE").integer(), 0);
    }
}

fn fill_some(client: &mut Client, count: u32) {
    for number in 0..count {
        let key = format!("key:{number}");
        client.call(&["SET", &key, &format!("value:{number}")]);
    }
    for number in 0..3000 {
        client.call(&["SADD", "large", &format!("member:{number}")]);
    }
    client.call(&["PEXPIREAT", "key:7", LATER_MS]);
}

/// A client that counts in two keys at once never sees one without the other, whatever is reloaded meanwhile.
#[test]
fn nobody_sees_a_data_set_that_is_half_there() {
    let dir = Dir::new("half");
    let server = load(4, &dir, &[]);
    let port = server.port;
    fill_some(&mut server.client(), 500);
    server.client().line("MSET a 0 b 0");
    let counter = std::thread::spawn(move || {
        let mut client = Client::connect(port).expect("the server runs");
        let (mut counted, mut refused) = (0, 0);
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            client.line("MULTI");
            client.line("INCR a");
            client.line("INCR b");
            let answer = client.line("EXEC");
            if answer.is_error() {
                refused += 1;
                client.line("DISCARD");
                continue;
            }
            let numbers: Vec<i64> = answer.items().iter().map(support::Value::integer).collect();
            assert_eq!(numbers[0], numbers[1]);
            assert!(numbers[0] > counted, "{} after {counted}", numbers[0]);
            counted = numbers[0];
        }
        (counted, refused)
    });
    let mut client = server.client();
    let mut reloads = 0;
    while !counter.is_finished() {
        let answer = client.line("DEBUG RELOAD");
        assert_eq!(answer.text(), "OK", "{}", server.log());
        reloads += 1;
    }
    let (counted, refused) = counter.join().expect("numbers only grow");
    assert!(
        counted > 0 && reloads > 1,
        "{counted} counted, {refused} refused, {reloads} reloads"
    );
}

/// What takes long to make is made elsewhere: a client is answered as if nothing was loaded.
#[test]
fn a_large_value_keeps_nobody_waiting() {
    const MEMBERS: u32 = 1_000_000;
    let mut body = b"REDIS0009\xfe\x00\x02\x03set\x80".to_vec();
    body.extend_from_slice(&MEMBERS.to_be_bytes());
    for member in 0..MEMBERS {
        body.push(8);
        body.extend_from_slice(&(u64::from(member) * 0x9e37_79b9).to_le_bytes());
    }
    let dir = Dir::with("large", "dump.rdb", &sealed(&body));
    let server = start_loading(1, &["--dir", dir.path()]);
    let mut client = server.client();
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while client.line("PING").is_error() {
        let asked = Instant::now();
        client.line("PING");
        longest = longest.max(asked.elapsed());
    }
    let loading = began.elapsed();
    // One core that others want, too, is given in slices.
    assert!(
        longest < loading / 4 || longest < Duration::from_millis(50),
        "{longest:?} of {loading:?}"
    );
    assert_eq!(client.line("SCARD set").integer(), i64::from(MEMBERS));
}
