//! What is answered while a data set is read: as real servers answer, which are made to read slowly, too.

mod support;

use shardis::base::crc64::crc64;
use std::path::PathBuf;
use support::{Client, Oracle, Server};

/// With a millisecond or two for each, much longer than anybody asks.
const KEYS: u32 = 30_000;

const LINES: &str = "PING|PING text|ECHO text|GET key:1|SET key:1 v|DEL key:1|EXISTS key:1|TYPE key:1|TTL key:1|INCR n|MGET key:1 key:2|\
    SCAN 0|KEYS *|RANDOMKEY|DBSIZE|SORT list|SWAPDB 0 1|FLUSHALL|FLUSHDB|SAVE|BGSAVE|LASTSAVE|WAIT 0 0|OBJECT ENCODING key:1|\
    MEMORY USAGE key:1|MEMORY DOCTOR|INFO server|INFO persistence|TIME|ROLE|COMMAND COUNT|COMMAND INFO get|CONFIG GET maxmemory|\
    CONFIG SET maxmemory 0|CONFIG SET dir /|CONFIG RESETSTAT|SLOWLOG LEN|LATENCY LATEST|CLIENT ID|CLIENT GETNAME|CLIENT SETNAME me|\
    CLIENT LIST|CLIENT NO-EVICT on|HELLO|AUTH nothing|MODULE LIST|LOLWUT|SELECT 1|SELECT 0|WATCH key:1|UNWATCH|MULTI|\
    GET key:1|EXEC|MULTI|CLIENT ID|EXEC|MULTI|DISCARD|READONLY|ASKING|DUMP key:1|NOTHING|GET|SUBSTR key:1 0 1|SHUTDOWN ABORT|RESET";

/// A file with many keys.
fn file() -> Vec<u8> {
    let mut bytes = b"REDIS0009\xfe\x00".to_vec();
    for number in 0..KEYS {
        let key = format!("key:{number}");
        bytes.extend_from_slice(&[0, key.len() as u8]);
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(b"\x05value");
    }
    bytes.push(0xff);
    let crc = crc64(0, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What kind of answer each line has: the word of an error, or none.
fn answers(server: &Server) -> Vec<(&'static str, String)> {
    let mut client: Client = server.client();
    let kind = |line: &str, client: &mut Client| {
        let answer = client.line(line);
        let text = answer.text();
        match answer.is_error() {
            true if text.starts_with("LOADING") => text,
            true => text.split(' ').next().unwrap_or_default().to_owned(),
            false => "no error".to_owned(),
        }
    };
    let answers = LINES.split('|').map(|line| (line, kind(line, &mut client))).collect();
    let still = server.info_number("persistence", "loading");
    assert_eq!(still, 1, "{} reads on until all is asked", server.name);
    answers
}

#[test]
fn whatever_is_asked_while_it_loads_is_answered_as_by_a_real_server() {
    let dir = Dir(std::env::temp_dir().join(format!("shardis-loading-{}", std::process::id())));
    std::fs::create_dir_all(&dir.0).expect("a directory for temporary files");
    std::fs::write(dir.0.join("dump.rdb"), file()).expect("the directory can be written");
    let path = dir.0.to_string_lossy().into_owned();
    let options = ["--dir", &path, "--key-load-delay", "2000"];
    // They look at their clients after so many bytes.
    let slow = [&options[..], &["--loading-process-events-interval-bytes", "1024"]].concat();
    for oracle in [Oracle::Redis70, Oracle::Redis82] {
        let Some(real) = oracle.start(&slow) else { continue };
        let expected = answers(&real);
        drop(real);
        for shards in [1, 3] {
            let server = Server::shardis(shards, &options);
            let ours = answers(&server);
            let differing: Vec<_> = ours.iter().zip(&expected).filter(|(one, other)| one != other).collect();
            assert!(
                differing.is_empty(),
                "{} and {}: {differing:?}",
                server.name,
                oracle.name()
            );
        }
    }
}
