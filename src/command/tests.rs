//! What holds for all commands: the invariants of their literals, and that every write is told.

use super::FAMILIES;
use crate::command::bench::Bench;
use crate::config::Permission;
use crate::engine::{Registered, Registry, Run};
use crate::spec::{Argument, ArgumentKind, Begin, Find, Flags, Group, KeyFlags};
use fastrand::Rng;
use std::sync::Arc;

#[test]
fn literals_keep_the_invariants() {
    let registry = Registry::new(FAMILIES, &[]).expect("no renames");
    let mut names = std::collections::HashSet::new();
    for entry in registry.all() {
        let command = entry.command;
        assert!(
            names.insert(entry.full_name.clone()),
            "{} stands twice",
            entry.full_name
        );
        assert_eq!(command.name, command.name.to_ascii_lowercase());
        assert_ne!(command.arity, 0, "{}", entry.full_name);
        assert!(!command.summary.is_empty(), "{} has no summary", entry.full_name);
        assert!(
            !(command.flags.contains(Flags::WRITE) && command.flags.contains(Flags::READONLY)),
            "{} is both",
            entry.full_name
        );
        for spec in command.keys {
            // PFCOUNT writes what it has found into the value, which is no other value for that. A script's commands write.
            let is_no_writer = command.name == "pfcount" || matches!(command.run, Run::Script(_));
            if spec.writes() && !spec.flags.contains(KeyFlags::INCOMPLETE) && !is_no_writer {
                assert!(command.flags.contains(Flags::WRITE), "{} writes a key", entry.full_name);
            }
            if let (Begin::Index(first), Find::Range { last: 0.., .. }) = (spec.begin, spec.find) {
                assert!(command.accepts((command.arity.unsigned_abs() as usize).max(first + 1)));
            }
        }
        assert!(
            command.subcommands.is_empty() || command.subcommands.iter().any(|s| s.name == "help"),
            "{} has no HELP",
            command.name
        );
    }
}

#[test]
fn names_are_found_in_any_case_and_renamed() {
    let registry = Registry::new(FAMILIES, &[]).expect("no renames");
    assert_eq!(registry.by_name(b"gEt").map(|c| c.full_name.as_str()), Some("get"));
    assert!(registry.by_name(b"get\0").is_none());
    assert_eq!(
        registry.by_full_name(b"OBJECT|Encoding").map(|c| c.full_name.as_str()),
        Some("object|encoding")
    );
    let renames = [
        ("GET".to_owned(), "fetch".to_owned()),
        ("set".to_owned(), String::new()),
    ];
    let registry = Registry::new(FAMILIES, &renames).expect("both exist");
    assert!(registry.by_name(b"get").is_none() && registry.by_name(b"set").is_none());
    assert_eq!(registry.by_name(b"FETCH").map(|c| c.full_name.as_str()), Some("get"));
    assert!(Registry::new(FAMILIES, &[("nosuch".to_owned(), "x".to_owned())]).is_err());
    assert!(Registry::new(FAMILIES, &[("get".to_owned(), "set".to_owned())]).is_err());
}

/// Commands that may change data without an event, as in Redis.
const UNTOLD: &[&str] = &[
    "flushall",
    "flushdb",
    "swapdb",
    "xack",
    // What moves within pending lists.
    "xautoclaim",
    "xclaim",
    "xreadgroup",
    // Changes how a value is kept, not what it says.
    "pfdebug",
];

/// Two keys for each type, and one that is missing. The elements are those that [`Writer`] draws from.
const PREPARED: &[&str] = &[
    "flushall",
    "set s1 12 px 500000",
    "set s2 hello",
    "rpush l1 a b c a 1",
    "pexpire l1 500000",
    "rpush l2 2 1",
    "hset h1 a 1 b 2 c 3",
    "hexpire h1 500000 fields 1 c",
    "hset h2 b 5",
    "sadd t1 a b c",
    "sadd t2 b d",
    "zadd z1 1 a 2 b 3 c",
    "zadd z2 1 b 5 d",
    "xadd x1 1-1 a 1",
    "xadd x1 2-1 b 2",
    "xadd x1 3-1 c 3",
    "xgroup create x1 a 0",
    "xgroup createconsumer x1 a b",
    "xreadgroup group a a count 2 streams x1 >",
    "xadd x2 1-1 a 1",
    "pfadd p1 a b",
    "pfadd p2 c",
    "geoadd g1 13.3 38.1 a 15.0 37.5 b",
    "geoadd g2 13.3 38.1 c",
];
const KEYS: &[&str] = &[
    "s1", "s2", "l1", "l2", "h1", "h2", "t1", "t2", "z1", "z2", "x1", "x2", "p1", "p2", "g1", "g2", "missing",
];

/// Writes calls from the syntax that literals declare, over the prepared keys.
struct Writer<'a> {
    random: Rng,
    found: &'a Registered,
    payload: &'a [u8],
    words: Vec<Vec<u8>>,
}

impl Writer<'_> {
    fn call(&mut self) -> &[Vec<u8>] {
        self.words = self
            .found
            .full_name
            .split('|')
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self.arguments(self.found.command.arguments);
        &self.words
    }

    fn pick(&mut self, words: &[&str]) -> String {
        words[self.random.usize(..words.len())].to_owned()
    }

    fn arguments(&mut self, arguments: &'static [Argument]) {
        let mut counted = None;
        for argument in arguments {
            // Nothing must wait here.
            let is_left_out = argument.is_optional && self.random.u32(..5) < 3;
            if is_left_out || argument.token == Some("BLOCK") {
                continue;
            }
            let times = match counted.take() {
                Some(count) => count,
                None if argument.is_multiple => self.random.usize(1..=2),
                None => 1,
            };
            for time in 0..times {
                if let Some(token) = argument.token.filter(|_| time == 0 || argument.is_token_repeated) {
                    self.words.push(token.into());
                }
                if matches!(argument.name, "numkeys" | "numfields") {
                    let count = self.random.usize(1..=2);
                    counted = Some(count);
                    self.words.push(count.to_string().into());
                } else {
                    self.value(argument);
                }
            }
        }
    }

    fn value(&mut self, argument: &'static Argument) {
        match argument.kind {
            ArgumentKind::PureToken => {}
            ArgumentKind::Block(parts) => self.arguments(parts),
            ArgumentKind::OneOf(choices) => {
                let choice = self.random.usize(..choices.len());
                self.arguments(&choices[choice..=choice]);
            }
            _ if argument.name == "serialized-value" => self.words.push(self.payload.to_vec()),
            kind => {
                let word = self.word(kind, argument.name);
                self.words.push(word.into());
            }
        }
    }

    fn word(&mut self, kind: ArgumentKind, name: &str) -> String {
        let is_stream = self.found.command.group == Group::Stream;
        match (kind, name) {
            (ArgumentKind::Key(_), _) => self.key(),
            (ArgumentKind::UnixTime, name) if name.contains("milliseconds") => "1800000000000".to_owned(),
            (ArgumentKind::UnixTime, _) => "1800000000".to_owned(),
            (ArgumentKind::Integer, "seconds" | "milliseconds" | "ttl") => "100000".to_owned(),
            (ArgumentKind::Integer, "value") => self.pick(&["0", "1"]),
            (ArgumentKind::Integer, "index1") => "0".to_owned(),
            (ArgumentKind::Integer, "db" | "destination-db" | "index2") => "1".to_owned(),
            (_, "start" | "end" | "stop" | "min" | "max") if !is_stream => {
                self.pick(&["0", "1", "-1", "-", "+", "-inf", "+inf"])
            }
            (_, "id" | "last-id" | "lastid" | "start" | "end" | "max-deleted-id") => {
                self.pick(&["0", "1-1", "2-1", "9-1", "*", ">", "$"])
            }
            (_, "min-idle-time") => "0".to_owned(),
            (_, "encoding") => self.pick(&["u8", "i4"]),
            (_, "longitude" | "latitude") => self.pick(&["13.5", "38.2"]),
            (_, "radius" | "width" | "height") => "5000".to_owned(),
            (_, "subcommand") => "todense".to_owned(),
            (ArgumentKind::Pattern, _) => "*".to_owned(),
            (ArgumentKind::Integer | ArgumentKind::Double, _) => self.pick(&["0", "1", "2", "5", "-1"]),
            _ => self.pick(&["a", "b", "c", "d", "1", "2"]),
        }
    }

    /// Mostly one of the type that the command is for.
    fn key(&mut self) -> String {
        let kind = match self.found.command.group {
            Group::String | Group::Bitmap => "s",
            Group::List => "l",
            Group::Hash => "h",
            Group::Set => "t",
            Group::SortedSet => "z",
            Group::Stream => "x",
            Group::HyperLogLog => "p",
            Group::Geo => "g",
            _ => return self.pick(KEYS),
        };
        match self.random.u32(..10) {
            0 => self.pick(KEYS),
            1 | 2 => "missing".to_owned(),
            dice => format!("{kind}{}", 1 + dice % 2),
        }
    }
}

/// All that is stored, whatever its encodings; with what the digest does not see: when keys expire, and the groups of streams.
fn stored(bench: &mut Bench) -> Vec<Vec<u8>> {
    let mut all = vec![bench.run_words(&[b"debug", b"digest"])];
    all.extend(
        KEYS.iter()
            .map(|key| bench.run_words(&[b"pexpiretime", key.as_bytes()])),
    );
    all.extend(["x1", "x2"].map(|key| bench.run_words(&[b"dump", key.as_bytes()])));
    all
}

fn allow_debug(bench: &Bench) {
    let mut first = bench.shards[0].borrow_mut();
    let mut settings = (*first.env.settings).clone();
    settings.enable_debug_command = Permission::Yes;
    first.env.settings = Arc::new(settings);
}

fn prepare(bench: &mut Bench) -> Vec<Vec<u8>> {
    for line in PREPARED {
        assert!(!bench.run(line).starts_with('-'), "{line}");
    }
    stored(bench)
}

#[test]
fn every_write_is_told() {
    let mut bench = Bench::new(1);
    allow_debug(&bench);
    let registry = Registry::new(FAMILIES, &[]).expect("no renames");
    let prepared = prepare(&mut bench);
    let payload = bench.run_words(&[b"dump", b"l2"]);
    let head = payload.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let payload = &payload[head..payload.len() - 2];
    let mut unreached = Vec::new();
    let writes = registry.all().iter().filter(|found| {
        let is_over_keys = !matches!(found.command.run, Run::Container | Run::Guarded(_));
        // (What FUNCTION writes is no key.)
        found.command.flags.contains(Flags::WRITE) && is_over_keys && found.command.group != Group::Scripting
    });
    for found in writes {
        let mut writer = Writer {
            random: Rng::with_seed(found.full_name.len() as u64),
            found,
            payload,
            words: Vec::new(),
        };
        let mut changed_count = 0;
        for _ in 0..400 {
            let call = writer.call();
            let words: Vec<&[u8]> = call.iter().map(|word| &word[..]).collect();
            bench.events();
            // Within a transaction nobody waits.
            let waits = found.command.flags.contains(Flags::BLOCKING);
            if waits {
                bench.run("multi");
            }
            let is_refused = bench.run_words(&words).starts_with(b"-");
            if waits {
                bench.run("exec");
            }
            if is_refused {
                continue;
            }
            let events: Vec<String> = bench.events();
            if stored(&mut bench) == prepared {
                continue;
            }
            changed_count += 1;
            let is_told = events.iter().any(|event| !event.starts_with("keymiss "));
            assert!(
                is_told || UNTOLD.contains(&&*found.full_name),
                "no event of {}",
                String::from_utf8_lossy(&words.join(&b' '))
            );
            assert_eq!(
                prepare(&mut bench),
                prepared,
                "the same again after {}",
                found.full_name
            );
            if changed_count == 3 {
                break;
            }
        }
        if changed_count == 0 {
            unreached.push(found.full_name.as_str());
        }
    }
    assert_eq!(unreached, [""; 0], "each changes something now and then");
}
