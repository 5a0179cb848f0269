//! A replica of a master that breaks off anywhere: in the handshake, at any byte of the data set and of the stream.
//!
//! The master is this test's. What it says is drawn from a seed; what it has is a number that its stream counts up, in units of work over several
//! shards too. Whatever was cut, the replica's numbers are in the end what they should be: nothing was lost, and nothing came twice.

mod support;

use shardis::base::random::Random;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::client::encode;
use support::{Server, Value, eventually};

/// Where the stream begins.
const BEGIN: u64 = 1000;

const UNITS: usize = 300;

/// So many links end before one may last.
const CUTS: usize = 7;

const REPLID: &str = "0123456789abcdef0123456789abcdef01234567";
const LATER_REPLID: &str = "fedcba9876543210fedcba9876543210fedcba98";

struct Master {
    random: Random,
    payload: Vec<u8>,
    stream: Vec<u8>,
    /// The first who got it: from then on he has a place in it.
    has_given: bool,
    cuts: usize,
}

/// What a connection ends with.
type Cut = std::io::Result<()>;

impl Master {
    fn new(seed: u64) -> Master {
        let mut payload = b"REDIS0009\xfe\x00".to_vec();
        for number in 0..500 {
            let (key, value) = (format!("key:{number}"), format!("value:{number}"));
            payload.push(0);
            for text in [key, value] {
                payload.push(text.len() as u8);
                payload.extend_from_slice(text.as_bytes());
            }
        }
        payload.push(0xff);
        // Unchecked.
        payload.extend_from_slice(&[0; 8]);
        let mut stream = encode(&["SELECT", "0"]);
        for unit in 0..UNITS {
            stream.extend(encode(&["INCR", "single"]));
            stream.extend(encode(&["PING"]));
            stream.extend(encode(&["MULTI"]));
            for key in ["many:1", "many:2", "many:3"] {
                stream.extend(encode(&["INCR", key]));
            }
            stream.extend(encode(&["EXEC"]));
            stream.extend(encode(&["SELECT", if unit % 2 == 0 { "3" } else { "0" }]));
            stream.extend(encode(&["APPEND", "text", "x"]));
        }
        Master {
            random: Random::with_seed(seed),
            payload,
            stream,
            has_given: false,
            cuts: 0,
        }
    }

    fn end(&self) -> u64 {
        BEGIN + self.stream.len() as u64
    }

    fn draw(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    /// Serves one link after the other.
    fn serve(mut self, listener: &TcpListener, is_over: &AtomicBool) {
        loop {
            let (connection, _) = listener.accept().expect("someone connects");
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            let lasts = self.cuts >= CUTS;
            self.cuts += 1;
            // Whatever ends it: the replica comes again.
            let _ = self.lead(connection, lasts, is_over);
        }
    }

    fn lead(&mut self, mut connection: TcpStream, lasts: bool, is_over: &AtomicBool) -> Cut {
        connection.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut asked = Asked::default();
        loop {
            let Some(words) = asked.next(&mut connection, is_over)? else {
                return Ok(());
            };
            let kind = if lasts { 99 } else { self.draw(12) };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match (words[0], kind) {
                // It goes without a word.
                (_, 0) => return Ok(()),
                ("PING", _) => connection.write_all(b"+PONG\r\n")?,
                ("AUTH", _) => {
                    assert_eq!(words, ["AUTH", "copier", "secret"]);
                    connection.write_all(b"+OK\r\n")?;
                }
                ("REPLCONF", 1) => connection.write_all(b"-ERR what is that\r\n")?,
                ("REPLCONF", _) => connection.write_all(b"+OK\r\n")?,
                ("PSYNC", 1) => connection.write_all(b"-LOADING later\r\n")?,
                ("PSYNC", 2) => connection.write_all(b"-NOMASTERLINK later\r\n")?,
                ("PSYNC", 3) => connection.write_all(b"+FULLRESYNC nonsense\r\n")?,
                ("PSYNC", _) => return self.sync(connection, &words, kind, lasts, asked, is_over),
                other => panic!("a replica says {other:?}"),
            }
        }
    }

    fn sync(
        &mut self,
        mut connection: TcpStream,
        words: &[&str],
        kind: usize,
        lasts: bool,
        mut asked: Asked,
        is_over: &AtomicBool,
    ) -> Cut {
        connection.write_all(b"\n\n")?;
        let from = match words[1] {
            "?" => {
                connection.write_all(format!("+FULLRESYNC {REPLID} {BEGIN}\r\n\n\n").as_bytes())?;
                let cut = if kind < 8 {
                    self.draw(self.payload.len() + 60)
                } else {
                    usize::MAX
                };
                self.give(&mut connection, cut, kind == 8)?;
                // As a master does that has not said how long the data set is: what follows comes when that is confirmed.
                if asked.next(&mut connection, is_over)?.is_none() {
                    return Ok(());
                }
                self.has_given = true;
                0
            }
            replid => {
                assert!(self.has_given && [REPLID, LATER_REPLID].contains(&replid), "{words:?}");
                let next: u64 = words[2].parse().expect("an offset");
                assert!(next > BEGIN && next <= self.end() + 1, "{words:?}");
                let reply = if kind < 8 {
                    format!("+CONTINUE {LATER_REPLID}\r\n")
                } else {
                    "+CONTINUE\r\n".to_owned()
                };
                connection.write_all(reply.as_bytes())?;
                (next - 1 - BEGIN) as usize
            }
        };
        let rest = self.stream[from..].to_vec();
        let length = if lasts { rest.len() } else { self.draw(rest.len() + 1) };
        let mut sent = 0;
        while sent < length {
            let count = (1 + self.draw(700)).min(length - sent);
            connection.write_all(&rest[sent..sent + count])?;
            sent += count;
        }
        if !lasts {
            return Ok(());
        }
        connection.write_all(&encode(&["REPLCONF", "GETACK", "*"]))?;
        let end = self.end().to_string();
        // Until all of it is confirmed; then it goes on saying so.
        while let Some(words) = asked.next(&mut connection, is_over)? {
            assert_eq!(words[..2], ["REPLCONF", "ACK"]);
            let confirmed: u64 = words[2].parse().expect("an offset");
            assert!(confirmed <= self.end() + 37, "{words:?} of {end}");
        }
        Ok(())
    }

    /// Sends the data set, up to a cut; or one that cannot be read.
    fn give(&mut self, connection: &mut TcpStream, cut: usize, is_broken: bool) -> Cut {
        let mut bytes = self.payload.clone();
        if is_broken {
            let at = 9 + self.draw(bytes.len() - 30);
            // No type has this number.
            bytes[at..at + 20].fill(0xe0);
        }
        let mark = "m".repeat(40);
        let framed = match self.draw(2) {
            0 => [format!("$EOF:{mark}\r\n").as_bytes(), &bytes, mark.as_bytes()].concat(),
            _ => [format!("${}\r\n", bytes.len()).as_bytes(), &bytes].concat(),
        };
        let whole = cut >= framed.len();
        connection.write_all(&framed[..cut.min(framed.len())])?;
        match whole {
            true => Ok(()),
            false => Err(std::io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// What the replica says.
#[derive(Default)]
struct Asked {
    buffer: Vec<u8>,
}

impl Asked {
    /// The next command; nothing, if it is over or the connection is.
    fn next(&mut self, connection: &mut TcpStream, is_over: &AtomicBool) -> std::io::Result<Option<Vec<String>>> {
        loop {
            // Signs of life.
            while self.buffer.first() == Some(&b'\n') {
                self.buffer.remove(0);
            }
            if let Some((Value::Array(words), used)) = support::value::parse(&self.buffer) {
                self.buffer.drain(..used);
                return Ok(Some(words.iter().map(Value::text).collect()));
            }
            if is_over.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let mut room = [0; 4096];
            match connection.read(&mut room) {
                Ok(0) => return Ok(None),
                Ok(count) => self.buffer.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Ends the master, also if the test fails.
struct Ends<'a> {
    is_over: &'a AtomicBool,
    address: SocketAddr,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It may wait for a connection.
        drop(TcpStream::connect(self.address));
    }
}

fn check(seed: u64, shards: usize) {
    let master = Master::new(seed);
    let end = master.end();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &is_over;
        let listener = &listener;
        let led = scope.spawn(move || master.serve(listener, over));
        let _ends = Ends {
            is_over: &is_over,
            address,
        };
        let port = address.port().to_string();
        let replica = Server::shardis(
            shards,
            &[
                "--masterauth",
                "secret",
                "--masteruser",
                "copier",
                "--replicaof",
                "localhost",
                &port,
            ],
        );
        let mut client = replica.client();
        let units = UNITS.to_string();
        eventually(
            &format!("seed {seed}, {shards} shards: all has come\n{}", replica.log()),
            || replica.info_number("replication", "slave_repl_offset") >= end || led.is_finished(),
        );
        assert!(!led.is_finished(), "seed {seed}: the master has failed");
        let numbers = ["single", "many:1", "many:2", "many:3", "key:499"].map(|key| {
            let values = ["0", "3"].map(|db| {
                client.call(&["SELECT", db]);
                client.call(&["GET", key]).text().parse::<u64>().unwrap_or(0)
            });
            values[0] + values[1]
        });
        let [single, others @ .., _] = numbers;
        assert_eq!(single.to_string(), units, "seed {seed}\n{}", replica.log());
        assert_eq!(others, [single; 3], "seed {seed}");
        client.line("SELECT 3");
        let texts = client.line("STRLEN text").integer();
        client.line("SELECT 0");
        assert_eq!(
            texts + client.line("STRLEN text").integer(),
            UNITS as i64,
            "seed {seed}"
        );
        assert_eq!(client.line("GET key:499").text(), "value:499");
        // But for the numbers.
        assert!(client.line("DBSIZE").integer() >= 500);
    });
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    std::thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || check(seed, [1, 2, 4][seed as usize % 3]));
        }
    });
}
