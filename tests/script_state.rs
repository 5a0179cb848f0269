//! The interpreter of scripts against a real server: the same programs, the same replies, byte for byte.
//!
//! A program goes to redis-server by EVAL, and to a [`State`] of our own, whose host sends the commands that the program calls to the same
//! server. So every kind of reply that commands have comes into scripts on both sides. Programs come from `script_state/*.txt`, divided by lines
//! of dashes, and from generators with a fixed seed.
//!
//! What no server can be asked (holes that end Redis, bounds that Redis has not) stands in the second half.

mod support;

use std::path::Path;

use shardis::resp::{Proto, Reply, ReplyBuf, ReplyError};
use shardis::script::{Ending, Host, Limits, LogLevel, Refusal, Replication, Script, State, hex_digest};
use support::{Client, Oracle};

/// Sends what a script calls to a server.
struct Forward {
    client: Client,
    proto: Proto,
    errors_counted: usize,
}

impl Forward {
    fn new(port: u16) -> Forward {
        Forward {
            client: Client::connect(port).expect("the oracle listens"),
            proto: Proto::Resp2,
            errors_counted: 0,
        }
    }

    fn raw(&mut self, args: &[&[u8]]) -> Vec<u8> {
        self.client
            .send(&support::client::encode(args))
            .expect("the oracle reads");
        self.client.try_raw_reply().expect("the oracle answers").1
    }
}

impl Host for Forward {
    fn call(&mut self, args: &[&[u8]], protocol: Proto, reply: &mut ReplyBuf) -> Result<(), Refusal> {
        if protocol != self.proto {
            let version: &[u8] = if protocol == Proto::Resp3 { b"3" } else { b"2" };
            self.raw(&[b"HELLO", version]);
            self.proto = protocol;
        }
        let raw = self.raw(args);
        let refused = |text: &str| Err(Refusal::Error(ReplyError::owned(text)));
        if raw.starts_with(b"-ERR unknown command") {
            return refused("ERR Unknown Redis command called from script");
        }
        if raw.starts_with(b"-ERR wrong number of arguments") {
            return refused("ERR Wrong number of args calling Redis command from script");
        }
        reply.push(&raw);
        Ok(())
    }

    fn random_seed(&mut self) -> u64 {
        7
    }

    fn set_replication(&mut self, _: Replication) {}

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        let raw = self.raw(&[b"COMMAND", b"INFO", args[0]]);
        (raw.starts_with(b"*1\r\n*") && !raw.starts_with(b"*1\r\n*-1")).then_some(true)
    }

    fn log(&mut self, _: LogLevel, _: &[u8]) {}

    fn count_error(&mut self, _: &[u8]) {
        self.errors_counted += 1;
    }

    fn interrupted(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What a state of our own answers to a program, as a client of this protocol gets it.
fn run(
    state: &mut State,
    program: &[u8],
    keys: &[&[u8]],
    args: &[&[u8]],
    host: &mut dyn Host,
    proto: Proto,
) -> Vec<u8> {
    let sha = hex_digest(program);
    let script = Script {
        sha: &sha,
        body: program,
    };
    let mut out = ReplyBuf::new();
    let mut reply = Reply::new(&mut out, proto);
    let outcome = state.eval(script, keys, args, host, &mut reply);
    match outcome {
        Ok(()) => {}
        Err(Ending::Error { error, .. }) => reply.error(&error),
        Err(Ending::Unwind) => panic!("nobody has asked for it"),
    }
    out.to_contiguous().into_owned()
}

fn state() -> State {
    State::new(Limits {
        memory_bytes_max: 64 << 20,
    })
}

/// Two ways to the same answers.
struct Pair {
    _server: support::Server,
    oracle: [Client; 2],
    host: Forward,
    state: State,
    faults: Vec<String>,
    compared: usize,
}

impl Pair {
    fn start() -> Option<Pair> {
        let server = Oracle::Redis82.start(&["--save", "", "--enable-debug-command", "yes"])?;
        let port = server.port;
        let mut oracle = [2, 3].map(|_| Client::connect(port).expect("the oracle listens"));
        oracle[1].line("HELLO 3");
        Some(Pair {
            _server: server,
            oracle,
            host: Forward::new(port),
            state: state(),
            faults: Vec::new(),
            compared: 0,
        })
    }

    fn compare(&mut self, program: &[u8], keys: &[&[u8]], args: &[&[u8]]) {
        for (index, proto) in [Proto::Resp2, Proto::Resp3].into_iter().enumerate() {
            let count = keys.len().to_string();
            let mut words: Vec<&[u8]> = vec![b"EVAL", program, count.as_bytes()];
            words.extend_from_slice(keys);
            words.extend_from_slice(args);
            self.host.raw(&[b"FLUSHALL"]);
            self.oracle[index]
                .send(&support::client::encode(&words))
                .expect("the oracle reads");
            let answer = self.oracle[index].try_raw_reply();
            let expected = match answer {
                Ok((_, raw)) => raw,
                Err(error) => panic!("{}: the oracle fell: {error}", program.escape_ascii()),
            };
            self.host.raw(&[b"FLUSHALL"]);
            let got = run(&mut self.state, program, keys, args, &mut self.host, proto);
            self.compared += 1;
            if got != expected {
                self.faults.push(format!(
                    "{proto:?}: {}\n  theirs: {}\n  ours:   {}",
                    program.escape_ascii(),
                    shown(&expected),
                    shown(&got)
                ));
            }
        }
    }

    fn end(self, at_least: usize) {
        let count = self.faults.len();
        let first: Vec<String> = self.faults.into_iter().take(40).collect();
        assert!(first.is_empty(), "{count} of {}:\n{}", self.compared, first.join("\n"));
        assert!(self.compared >= at_least, "only {}", self.compared);
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], bytes.len()),
        None => text,
    }
}

/// The programs of a file.
fn programs(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/script_state")
        .join(name);
    let text = std::fs::read_to_string(path).expect("the programs are there");
    let programs = text
        .split("\n----\n")
        .map(|program| program.trim_end_matches('\n').to_owned());
    programs.filter(|program| !program.is_empty()).collect()
}

fn compare_file(name: &'static str) {
    let compare = move || {
        let Some(mut pair) = Pair::start() else { return };
        let programs = programs(name);
        for program in &programs {
            pair.compare(program.as_bytes(), &[b"k1", b"k2"], &[b"a1", b"17"]);
        }
        pair.end(programs.len());
    };
    // The test's own client reads nested replies by calling itself.
    let thread = std::thread::Builder::new().stack_size(64 << 20).name(name.to_owned());
    let outcome = thread.spawn(compare).expect("a thread more").join();
    assert!(outcome.is_ok(), "see above");
}

#[test]
fn the_language() {
    compare_file("language.txt");
}

#[test]
fn the_sandbox() {
    compare_file("sandbox.txt");
}

#[test]
fn the_table_redis() {
    compare_file("redis.txt");
}

#[test]
fn the_conversions() {
    compare_file("conversions.txt");
}

#[test]
fn cjson() {
    compare_file("cjson.txt");
}

#[test]
fn cmsgpack() {
    compare_file("cmsgpack.txt");
}

#[test]
fn structs_and_bits() {
    compare_file("struct_bit.txt");
}
