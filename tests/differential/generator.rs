//! Writes commands, from the syntax that their literals declare.
//!
//! Keys, values and numbers come from small pools, so that commands meet each other's work; edge values are among them.
//! What a word stands for is read from the argument's name where its kind is not enough (an offset is not a time).
//! Relative times are either far in the future and never the same twice (two servers do not run a command in the same
//! millisecond), or over at once.

use crate::support::Oracle;
use crate::support::rulings::rulings_on;
use fastrand::Rng;
use shardis::command::FAMILIES;
use shardis::engine::{Command, Run};
use shardis::spec::{Argument, ArgumentKind, Flags};

pub type Words = Vec<Vec<u8>>;

/// Commands that no stream contains, and why.
const EXCLUDED: &[(&str, &str)] = &[
    ("wait", "waits for time"),
    ("waitaof", "waits for time"),
    ("memory", "counts the bytes of our own structures"),
    ("time", "is another at every call"),
    ("quit", "ends the connection"),
    ("hello", "is said once, at the start of a session"),
    ("auth", "neither server has a password"),
    ("replicaof", "gives the server a master"),
    ("slaveof", "as REPLICAOF"),
    ("role", "names offsets of the replication, which differ"),
    (
        "flushall",
        "the harness's own, between sessions; FLUSHDB is in the streams",
    ),
    ("readonly", "redis-server is not in cluster mode"),
    ("readwrite", "redis-server is not in cluster mode"),
    ("asking", "redis-server is not in cluster mode"),
    ("ssubscribe", "has as many answers as arguments"),
    ("sunsubscribe", "as SSUBSCRIBE"),
];

/// Commands without keys that streams contain all the same; the others report the server's own state.
const INCLUDED: &[&str] = &["ping", "echo", "select", "reset"];

const KEYS: &[&[u8]] = &[
    b"k1",
    b"k2",
    b"k3",
    b"k4",
    b"k5",
    b"key:6",
    b"{t}1",
    b"{t}2",
    b"{t}3",
    b"",
    b"a\x00\xff\r\n",
    b"{}x",
];
/// What runs a script. (What follows the script and the number of its keys is a command, and its reply is compared as that one's.)
pub const SCRIPT_COMMAND: &[u8] = b"EVAL";
/// Scripts that answer what the command answers that is their arguments.
const SCRIPTS: &[&str] = &[
    "return redis.call(unpack(ARGV))",
    "return redis.pcall(unpack(ARGV))",
    "redis.call('HINCRBY', 'counted', 'calls', 1) return redis.pcall(unpack(ARGV))",
    "redis.call('EXISTS', 'k2', 'k3', 'key:6') return redis.call(unpack(ARGV))",
];

/// Sorted sets whose elements all have the score 0: only of those does Redis promise what a range by member finds. Nothing
/// gives them another score.
const LEX_KEYS: &[&[u8]] = &[b"{t}lex", b"lex:1", b"lex:2"];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "5",
    "10",
    "-10",
    "42",
    "100",
    "9999",
    "10000",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775806",
    "9223372036854775808",
    "007",
    "+1",
    " 1",
    "1 ",
    "",
    "1.0",
    "abc",
    "-0",
];
const DOUBLES: &[&str] = &[
    "0",
    "1",
    "-1",
    "0.1",
    "3.0e3",
    "1e400",
    "-inf",
    "+inf",
    "nan",
    "1.7e308",
    "5e-324",
    "0x1p3",
    "abc",
    "",
    " 1",
    "3.14159265358979",
    "1e17",
    "123456789012345678",
];
const OFFSETS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "7",
    "8",
    "30",
    "100",
    "-1",
    "-2",
    "-3",
    "-100",
    "536870912",
    "9223372036854775807",
    "-9223372036854775808",
    "x",
];
const DBS: &[&str] = &["0", "0", "1", "1", "2", "3", "15", "16", "-1", "x"];
const UNIX_S: &[&str] = &["99999999999", "88888888888", "1", "0", "-1", "9223372036854775807", "x"];
const UNIX_MS: &[&str] = &[
    "99999999999123",
    "88888888888456",
    "1",
    "0",
    "-1",
    "9223372036854775807",
    "x",
];
const PATTERNS: &[&[u8]] = &[b"*", b"k*", b"k?", b"k[1-3]", b"{t}*", b"*\\*", b"k[^1]", b"", b"k1"];
/// Numbers of bits: none so large that a string of megabytes comes of it.
const BITS: &[&str] = &[
    "0",
    "1",
    "2",
    "7",
    "8",
    "9",
    "15",
    "63",
    "64",
    "100",
    "1000",
    "20000",
    "-1",
    "4294967296",
    "01",
    "x",
];
const FIELDS: &[&str] = &[
    "u8", "i8", "u1", "i1", "u4", "i5", "u16", "i16", "u63", "i64", "u64", "i65", "u0", "x",
];
const MEMBERS: &[&[u8]] = &[
    b"a", b"b", b"c", b"d", b"e", b"f", b"Palermo", b"Catania", b"", b"m\xff",
];
/// Elements of lists and members of sets: few, so that they meet, and some of them what SORT's patterns make keys of.
const ELEMENTS: &[&[u8]] = &[
    b"1",
    b"2",
    b"3",
    b"4",
    b"-7",
    b"100000",
    b"9223372036854775807",
    b"007",
    b"1.5",
    b"a",
    b"b",
    b"c",
    b"",
    b"hello",
    b"a\xff",
    b"a\x00b\r\n",
    b"a member that is longer than sixty-four bytes, so that no set of it is packed",
];
const SORT_PATTERNS: &[&[u8]] = &[
    b"k*", b"k*", b"{t}*", b"key:*", b"*", b"#", b"nosort", b"k*->1", b"*->a", b"k*->",
];
/// Scores, of which some have no short sums and products.
const SCORES: &[&str] = &[
    "0", "1", "1", "2", "3", "5", "10", "-1", "-7", "1.5", "0.1", "3.3", "1e17", "1e3", "0x10", "inf", "-inf", "+inf",
    "nan", "x", "",
];
const WEIGHTS: &[&str] = &["1", "1", "2", "0", "-1", "inf", "1", "0.7", "3", "x"];
const SCORE_BOUNDS: &[&str] = &[
    "-inf", "+inf", "0", "(0", "1", "(1", "2", "5", "(5", "-1", "1.5", "(1.5", "inf", "(inf", "", "(", "x", "nan", " 1",
];
const MEMBER_BOUNDS: &[&[u8]] = &[
    b"-", b"+", b"[a", b"(a", b"[c", b"(c", b"[e", b"[", b"(", b"[Pal", b"[m\xff", b"a", b"",
];
const IDS: &[&str] = &[
    "0",
    "0-0",
    "1",
    "1-1",
    "5-1",
    "7-1",
    "7-2",
    "7-3",
    "7-5",
    "8",
    "9-9",
    "$",
    "-",
    "x",
    "7-*",
    "18446744073709551615-5",
];
const ID_BOUNDS: &[&str] = &["-", "+", "-", "+", "0", "1-1", "(1-1", "7-2", "(7-3", "8", "$", "x"];
const GROUPS: &[&str] = &["g", "g", "h", ""];
const CONSUMERS: &[&str] = &["c", "c", "d"];
const THRESHOLDS: &[&str] = &["0", "1", "2", "5", "100", "7-2", "7-3", "-1", "x"];
const TYPES: &[&str] = &["string", "list", "set", "zset", "hash", "stream", "none"];

/// The databases that streams touch.
pub const DBS_TOUCHED: std::ops::Range<usize> = 0..16;

/// What writes streams.
pub struct Generator {
    rng: Rng,
    commands: Vec<(&'static Command, Option<&'static Command>, u32)>,
    weight_sum: u32,
    /// Commands that wait for keys: within a transaction they do not.
    blocking: Vec<&'static Command>,
    /// Serialised values for RESTORE.
    payloads: Vec<Vec<u8>>,
    oracle: Oracle,
}

impl Generator {
    pub fn new(seed: u64, payloads: Vec<Vec<u8>>, oracle: Oracle) -> Generator {
        let mut commands = Vec::new();
        let mut blocking = Vec::new();
        for command in FAMILIES.iter().flat_map(|family| family.iter()) {
            if EXCLUDED.iter().any(|(name, _)| *name == command.name) || is_unknown_to(oracle, command.since) {
                continue;
            }
            if command.flags.contains(Flags::BLOCKING) {
                blocking.push(command);
            }
            if command.subcommands.is_empty() {
                if let Some(weight) = weight(command, INCLUDED.contains(&command.name)) {
                    commands.push((command, None, weight));
                }
            } else if command.name != "cluster" {
                // redis-server is not in cluster mode: CLUSTER's subcommands are errors there.
                for sub in command.subcommands {
                    if let Some(weight) = weight(sub, false) {
                        commands.push((sub, Some(command), weight));
                    }
                }
            }
        }
        let weight_sum = commands.iter().map(|&(_, _, weight)| weight).sum();
        Generator {
            rng: Rng::with_seed(seed),
            commands,
            weight_sum,
            blocking,
            payloads,
            oracle,
        }
    }

    /// How many commands it chooses from.
    pub fn command_count(&self) -> usize {
        self.commands.len()
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.rng.usize(0..bound)
    }

    fn pick<T: Copy>(&mut self, pool: &[T]) -> T {
        pool[self.rng.usize(0..pool.len())]
    }

    /// The next command: none that the oracle answers in a way that does not count.
    pub fn command(&mut self) -> Words {
        loop {
            let (command, words) = self.any_command();
            if rulings_on(&words).all(|(_, ruling)| !ruling.against.contains(&self.oracle)) {
                return match may_be_called(command) && self.oracle == Oracle::Redis82 && self.chance(8) {
                    true => self.called_by_a_script(words),
                    false => words,
                };
            }
        }
    }

    /// The same command, called by a script that declares no keys.
    fn called_by_a_script(&mut self, words: Words) -> Words {
        let script = self.pick(SCRIPTS);
        let mut call = vec![SCRIPT_COMMAND.to_vec(), script.as_bytes().to_vec(), b"0".to_vec()];
        call.extend(words);
        call
    }

    fn any_command(&mut self) -> (&'static Command, Words) {
        let mut dice = self.rng.u32(0..self.weight_sum);
        let mut chosen = self.commands[0];
        for &candidate in &self.commands {
            if dice < candidate.2 {
                chosen = candidate;
                break;
            }
            dice -= candidate.2;
        }
        let (command, parent, _) = chosen;
        (command, self.call(command, parent))
    }

    /// The next command of a transaction.
    pub fn queued(&mut self) -> Words {
        if !self.chance(15) {
            return self.command();
        }
        let command = self.pick(&self.blocking.clone());
        let mut words = self.call(command, None);
        // It may be that there is no transaction any more: then nobody waits for long.
        let last = words.len() - 1;
        for at in [1, last].into_iter().filter(|at| (1..=last).contains(at)) {
            let text = String::from_utf8_lossy(&words[at]).trim().to_ascii_lowercase();
            let is_number = text.parse::<f64>().is_ok_and(|seconds| seconds > -1.0) || text.starts_with("0x");
            let is_timeout = !command.name.starts_with("xread") && (at == last) != command.name.ends_with("mpop");
            if is_number && is_timeout {
                words[at] = b"0.001".to_vec();
            }
        }
        words
    }

    fn call(&mut self, command: &'static Command, parent: Option<&'static Command>) -> Words {
        let mut words = Words::new();
        words.extend(parent.map(|parent| self.cased(parent.name)));
        words.push(self.cased(command.name));
        self.arguments(command.arguments, command.name, &mut words);
        if command.name == "xadd" {
            // An ID made of the time differs between two servers.
            for word in words.iter_mut().skip(2).filter(|word| **word == b"*") {
                *word = b"7-*".to_vec();
            }
        }
        // Wrong numbers of arguments, and words where they do not belong.
        match self.rng.u32(0..100) {
            0..2 if words.len() > 1 => {
                words.pop();
            }
            2 => {
                let extra = self.value();
                words.push(extra);
            }
            3 if words.len() > 1 => {
                let at = self.rng.usize(1..words.len());
                words[at] = self.value();
            }
            _ => {}
        }
        if matches!(command.name, "xread" | "xreadgroup") {
            // Redis 8 has other words for an unbalanced XREAD (`support/rulings.rs`).
            let is_balanced = command.name == "xread" && self.oracle == Oracle::Redis82;
            self.balance_streams(&mut words, is_balanced);
        }
        if takes_a_time(command.name) {
            // A small number that has become a time would let the key expire on one server before the other. What stands for it is
            // far in the future in seconds and in milliseconds, from now on and since 1970: SET stores a key that is over already,
            // and DBSIZE counts it until active expiry comes by.
            let candidates = if command.name == "restore" { 1 } else { usize::MAX };
            for word in words.iter_mut().skip(2).take(candidates) {
                if word.len() < 8
                    && word.iter().all(u8::is_ascii_digit)
                    && let Some(number @ 1..) = std::str::from_utf8(word).ok().and_then(|text| text.parse::<u64>().ok())
                {
                    *word = (99_999_000_000_000 + number * 1000).to_string().into_bytes();
                }
            }
        }
        if command.name == "spop" && words.len() > 1 {
            // What chance takes would be another member on each server: all are taken, or none.
            words.truncate(3);
            let is_random = words.get(2).is_none_or(|count| {
                count.len() < 3 && count[..].iter().all(u8::is_ascii_digit) && !count.is_empty() && *count != b"0"
            });
            if is_random {
                words.truncate(2);
                words.push(b"100".to_vec());
            }
        }
        self.confine_lex(command.name, &mut words);
        let has = |word: &str| {
            words
                .iter()
                .skip(2)
                .any(|other| other.eq_ignore_ascii_case(word.as_bytes()))
        };
        if command.name == "sort" && has("STORE") && (has("BY") || self.oracle == Oracle::Valkey91) {
            // What is a number to one may be none to the other (`support/rulings.rs`), and equal weights leave elements in their
            // order, which a set does not have: then nothing is stored.
            let store = |word: &Vec<u8>| word.eq_ignore_ascii_case(b"STORE");
            let at = 2 + words.iter().skip(2).position(store).expect("it is there");
            words.drain(at..(at + 2).min(words.len()));
        }
        if takes_elements(command.name) {
            // What is a number to SORT in 7.2 alone, or in the others alone (`support/rulings.rs`).
            words
                .iter_mut()
                .filter(|word| [&b" 1"[..], b"5e-324"].contains(&&word[..]))
                .for_each(|word| *word = b"2".to_vec());
        }
        words
    }

    /// Keeps ranges by member on sorted sets of one score, and everything else that makes scores off them.
    fn confine_lex(&mut self, command: &str, words: &mut Words) {
        let is_by_lex = command.contains("lex") || words.iter().skip(4).any(|word| word.eq_ignore_ascii_case(b"bylex"));
        let key_at = match command {
            _ if command.starts_with('z') && is_by_lex => 1 + usize::from(command == "zrangestore"),
            "zadd" if self.chance(25) => {
                // ... key, options, and then scores and members in turn.
                let is_option = |word: &&Vec<u8>| {
                    [&b"nx"[..], b"xx", b"gt", b"lt", b"ch"]
                        .iter()
                        .any(|option| word.eq_ignore_ascii_case(option))
                };
                let scores_at = 2 + words.iter().skip(2).take_while(is_option).count();
                if words.iter().any(|word| word.eq_ignore_ascii_case(b"incr")) {
                    return;
                }
                for word in words.iter_mut().skip(scores_at).step_by(2) {
                    *word = b"0".to_vec();
                }
                1
            }
            "zrem" | "zpopmin" | "zpopmax" | "zremrangebyrank" | "zrange" | "zrank" | "zrevrange" | "zscan"
            | "sort" | "dump" | "zcard"
                if self.chance(15) =>
            {
                1
            }
            _ => return,
        };
        if key_at < words.len() {
            words[key_at] = self.pick(LEX_KEYS).to_vec();
        }
    }

    fn cased(&mut self, word: &str) -> Vec<u8> {
        match self.rng.u32(0..4) {
            0 => word.to_ascii_lowercase().into_bytes(),
            1 => word
                .chars()
                .map(|c| if self.rng.bool() { c.to_ascii_uppercase() } else { c })
                .collect::<String>()
                .into_bytes(),
            _ => word.to_ascii_uppercase().into_bytes(),
        }
    }

    fn arguments(&mut self, arguments: &'static [Argument], command: &str, words: &mut Words) {
        let mut at = 0;
        let mut numkeys_at = None;
        while at < arguments.len() {
            // Options that stand side by side may come in any order.
            let run = arguments[at..]
                .iter()
                .take_while(|argument| argument.is_optional)
                .count();
            if run > 1 {
                let mut order: Vec<usize> = (at..at + run).collect();
                self.rng.shuffle(&mut order);
                for index in order {
                    self.argument(&arguments[index], command, words);
                }
                at += run;
                continue;
            }
            let before = words.len();
            self.argument(&arguments[at], command, words);
            if arguments[at].name == "numkeys" {
                numkeys_at = Some(before);
            } else if let (Some(place), true) = (numkeys_at, matches!(arguments[at].kind, ArgumentKind::Key(_))) {
                if !self.chance(5) {
                    words[place] = (words.len() - before).to_string().into_bytes();
                }
                numkeys_at = None;
            }
            at += 1;
        }
    }

    fn argument(&mut self, argument: &'static Argument, command: &str, words: &mut Words) {
        if is_unknown_to(self.oracle, argument.since) || argument.is_optional && !self.chance(30) {
            return;
        }
        let repeats = if argument.is_multiple { 1 + self.below(4) } else { 1 };
        for index in 0..repeats {
            if let Some(token) = argument.token
                && (index == 0 || argument.is_token_repeated)
            {
                let token = self.cased(token);
                words.push(token);
            }
            match argument.kind {
                ArgumentKind::PureToken => {}
                ArgumentKind::OneOf(choices) => {
                    let choice = self.below(choices.len());
                    let required = Argument {
                        is_optional: false,
                        ..choices[choice]
                    };
                    self.required(required, command, words);
                }
                ArgumentKind::Block(parts) => self.arguments(parts, command, words),
                kind => {
                    let word = self.word(argument, kind, command);
                    words.push(word);
                }
            }
        }
    }

    /// One of a choice: it is there, whatever it says of itself.
    fn required(&mut self, argument: Argument, command: &str, words: &mut Words) {
        if let Some(token) = argument.token {
            let token = self.cased(token);
            words.push(token);
        }
        match argument.kind {
            ArgumentKind::PureToken => {}
            ArgumentKind::Block(parts) => self.arguments(parts, command, words),
            ArgumentKind::OneOf(choices) => {
                let choice = self.below(choices.len());
                self.required(choices[choice], command, words);
            }
            kind => {
                let word = self.word(&argument, kind, command);
                words.push(word);
            }
        }
    }

    fn word(&mut self, argument: &Argument, kind: ArgumentKind, command: &str) -> Vec<u8> {
        let is_milliseconds = argument.name.contains("milliseconds") || command.starts_with('p');
        if let Some(word) = self.stream_word(argument.name, command) {
            return word;
        }
        if let Some(word) = self.bit_or_position(argument.name, command) {
            return word;
        }
        if command.starts_with('z')
            && let Some(word) = self.sorted_set_word(argument.name, command)
        {
            return word;
        }
        match (kind, argument.name) {
            (ArgumentKind::Key(_), _) => self.key(),
            (ArgumentKind::Pattern, "by-pattern" | "get-pattern") => self.pick(SORT_PATTERNS).to_vec(),
            (ArgumentKind::Integer, "rank") => self.pick(&["1", "-1", "2", "-2", "0", "x"]).as_bytes().to_vec(),
            (ArgumentKind::Integer, "num-matches" | "limit") => {
                self.pick(&["0", "1", "2", "10", "-1", "x"]).as_bytes().to_vec()
            }
            // None that is beyond a double: redis-server would refuse every later SORT, by an errno that nothing resets.
            (ArgumentKind::String, "element" | "member" | "pivot") => self.pick(ELEMENTS).to_vec(),
            (ArgumentKind::Pattern, _) => self.pick(PATTERNS).to_vec(),
            (ArgumentKind::UnixTime, _) if is_milliseconds => self.pick(UNIX_MS).as_bytes().to_vec(),
            (ArgumentKind::UnixTime, _) => self.pick(UNIX_S).as_bytes().to_vec(),
            // RESTORE's idle time: the clock of accesses has 24 bits of seconds, and wraps where it may.
            (ArgumentKind::Integer, "seconds") if command == "restore" => {
                self.pick(&["0", "1", "5000", "-1", "x"]).as_bytes().to_vec()
            }
            (ArgumentKind::Integer, "seconds" | "milliseconds" | "ttl") => {
                self.relative_time(is_milliseconds || argument.name == "ttl")
            }
            (ArgumentKind::Integer, "offset" | "start" | "end" | "stop" | "index" | "len" | "min-match-len") => {
                self.pick(OFFSETS).as_bytes().to_vec()
            }
            (ArgumentKind::Integer, name) if name.contains("db") || name.starts_with("index") => {
                self.pick(DBS).as_bytes().to_vec()
            }
            // Others than 0 lead elsewhere on every server.
            (ArgumentKind::Integer, "cursor") => self
                .pick(&["0", "0", "0", "00", "+0", " 0", "", "-1", "x"])
                .as_bytes()
                .to_vec(),
            (ArgumentKind::Integer, "count") => self
                .pick(&["1", "2", "5", "10", "100", "0", "-1", "x"])
                .as_bytes()
                .to_vec(),
            (ArgumentKind::Integer, _) => self.pick(NUMBERS).as_bytes().to_vec(),
            (ArgumentKind::Double, _) => self.pick(DOUBLES).as_bytes().to_vec(),
            (_, "serialized-value") => self.payload(),
            // Fields meet each other too, and some are too long for a listpack.
            (_, "field") if !self.chance(10) => self.pick(MEMBERS).to_vec(),
            (_, "type") => self.pick(TYPES).as_bytes().to_vec(),
            (_, "index" | "index1" | "index2") => self.pick(DBS).as_bytes().to_vec(),
            _ => self.value(),
        }
    }

    /// What stands for IDs of streams, groups and consumers.
    fn stream_word(&mut self, name: &str, command: &str) -> Option<Vec<u8>> {
        let pool = match name {
            "group" => GROUPS,
            "consumer" => CONSUMERS,
            "id" | "lastid" | "last-id" | "max-deleted-id" => IDS,
            "start" | "end" if command.starts_with('x') => ID_BOUNDS,
            "threshold" => THRESHOLDS,
            // Servers are never equally late: nobody is idle for as long as the longer one.
            "min-idle-time" => &["0", "0", "0", "99999999", "-1", "x"],
            _ => return None,
        };
        Some(self.pick(pool).as_bytes().to_vec())
    }

    /// As many IDs as streams, mostly if not always, and nobody who waits.
    fn balance_streams(&mut self, words: &mut Words, is_balanced: bool) {
        let at = |words: &Words, name: &str| words.iter().position(|word| word.eq_ignore_ascii_case(name.as_bytes()));
        if let Some(block) = at(words, "BLOCK") {
            words.drain(block..(block + 2).min(words.len()));
        }
        if let Some(streams) = at(words, "STREAMS") {
            words.truncate(streams + 1);
            let count = 1 + self.below(3);
            for _ in 0..count {
                let key = self.key();
                words.push(key);
            }
            let lacking = usize::from(!is_balanced && self.chance(3));
            for _ in 0..count - lacking {
                let id = if self.chance(40) { ">" } else { self.pick(IDS) };
                words.push(id.as_bytes().to_vec());
            }
        }
    }

    /// What stands for elements of sorted sets and ranges of them.
    fn sorted_set_word(&mut self, name: &str, command: &str) -> Option<Vec<u8>> {
        Some(match name {
            "score" | "increment" => self.pick(SCORES).as_bytes().to_vec(),
            "weight" => self.pick(WEIGHTS).as_bytes().to_vec(),
            "member" if self.chance(90) => self.pick(MEMBERS).to_vec(),
            // ZRANGE takes any of the three, and ZRANGESTORE.
            "start" | "stop" | "min" | "max" if matches!(command, "zrange" | "zrangestore") => {
                match self.rng.u32(0..10) {
                    0..2 => self.pick(SCORE_BOUNDS).as_bytes().to_vec(),
                    2..4 => self.pick(MEMBER_BOUNDS).to_vec(),
                    _ => self.pick(OFFSETS).as_bytes().to_vec(),
                }
            }
            "min" | "max" if command.contains("lex") => self.pick(MEMBER_BOUNDS).to_vec(),
            "min" | "max" => self.pick(SCORE_BOUNDS).as_bytes().to_vec(),
            "limit" => self.pick(&["0", "1", "2", "-1", "x"]).as_bytes().to_vec(),
            _ => return None,
        })
    }

    /// What stands for bits, registers and positions.
    fn bit_or_position(&mut self, name: &str, command: &str) -> Option<Vec<u8>> {
        let is_bit = command.contains("bit");
        let text = match name {
            "offset" if command.starts_with("bitfield") && self.chance(30) => {
                format!("#{}", self.pick(&["0", "1", "2", "10", "-1", "x"]))
            }
            "offset" if is_bit => self.pick(BITS).to_owned(),
            "encoding" if is_bit => self.pick(FIELDS).to_owned(),
            "value" if command == "setbit" => self.pick(&["0", "1", "0", "1", "0", "1", "2", "x"]).to_owned(),
            "bit" if is_bit => self.pick(&["0", "1", "0", "1", "0", "1", "2", "x"]).to_owned(),
            // GETREG answers more than the sockets' buffers hold.
            "subcommand" if command == "pfdebug" => self
                .pick(&["DECODE", "encoding", "ENCODING", "TODENSE", "x"])
                .to_owned(),
            // Mostly near each other, and never twice the same: members of equal distance have no order.
            "longitude" | "latitude" => match self.rng.u32(0..20) {
                0 => self.pick(DOUBLES).to_owned(),
                1..5 => format!("{:.6}", self.rng.f64() * 400.0 - 200.0),
                _ => format!("{:.6}", 13.0 + self.rng.f64() * 4.0),
            },
            "radius" | "width" | "height" if command.starts_with("geo") => match self.rng.u32(0..20) {
                0 => self.pick(DOUBLES).to_owned(),
                1 => "0".to_owned(),
                dice => format!("{:.3}", self.rng.f64() * 10f64.powi(dice as i32 / 3 - 1)),
            },
            "member" | "member1" | "member2" if command.starts_with("geo") => return Some(self.pick(MEMBERS).to_vec()),
            _ => return None,
        };
        Some(text.into_bytes())
    }

    pub fn key(&mut self) -> Vec<u8> {
        // The first ones more often: commands must meet.
        let bound = if self.chance(60) { 4 } else { KEYS.len() };
        KEYS[self.below(bound)].to_vec()
    }

    fn relative_time(&mut self, is_milliseconds: bool) -> Vec<u8> {
        let unit = if is_milliseconds { 1000 } else { 1 };
        match self.rng.u32(0..20) {
            0 => b"0".to_vec(),
            1 => b"-1".to_vec(),
            2 => b"9223372036854775807".to_vec(),
            3 => b"x".to_vec(),
            // Apart by more than the servers' clocks can be.
            _ => ((100_000 + self.rng.i64(0..1_000_000) * 1000) * unit)
                .to_string()
                .into_bytes(),
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        let index = self.below(self.payloads.len());
        let mut payload = self.payloads[index].clone();
        if self.chance(10) && !payload.is_empty() {
            let at = self.below(payload.len());
            payload[at] ^= 1 << self.below(8);
        }
        payload
    }

    pub fn value(&mut self) -> Vec<u8> {
        match self.rng.u32(0..10) {
            0..3 => self.pick(NUMBERS).as_bytes().to_vec(),
            3 => self.pick(DOUBLES).as_bytes().to_vec(),
            4 => vec![b'a' + self.rng.u8(0..3); self.rng.usize(1..130)],
            5 => (0..self.rng.usize(1..60)).map(|_| self.rng.u8(..)).collect(),
            6 => self
                .pick(&[&b"NX"[..], b"XX", b"GET", b"EX", b"*", b"\x00", b"\r\n"])
                .to_vec(),
            _ => self
                .pick(&[&b"hello"[..], b"world", b"a", b"b", b"ohmytext", b"mynewtext"])
                .to_vec(),
        }
    }
}

/// Whether that version of Redis has what the oracle does not have, or has in its own way: Valkey branched off behind 7.2.
fn is_unknown_to(oracle: Oracle, since: &str) -> bool {
    let mut numbers = since.split('.').map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    oracle == Oracle::Valkey91 && version > (7, 2)
}

/// Whether arguments become elements that SORT may sort and store.
fn takes_elements(command: &str) -> bool {
    matches!(
        command,
        "lpush" | "rpush" | "lpushx" | "rpushx" | "linsert" | "lset" | "sadd"
    )
}

/// Whether an argument may say when a key expires.
fn takes_a_time(command: &str) -> bool {
    command.contains("expire") || matches!(command, "set" | "setex" | "psetex" | "getex" | "restore")
}

/// Whether scripts may call that, and are answered as everybody is.
fn may_be_called(command: &Command) -> bool {
    matches!(command.run, Run::Keys(_) | Run::Reaching(..) | Run::Everything(_))
}

/// How often a command comes, or nothing if it does not.
fn weight(command: &Command, is_included: bool) -> Option<u32> {
    if command.name == "help" || (command.flags.contains(Flags::BLOCKING) && !command.name.starts_with("xread")) {
        // Who waits costs time, and is in transactions instead (XREAD waits only if told to); the help texts are our own.
        return None;
    }
    match command.run {
        Run::Keys(_) | Run::Reaching(..) => Some(10),
        Run::Slots(..) | Run::Everything(_) => Some(if command.flags.contains(Flags::WRITE) { 1 } else { 2 }),
        // Blocks of MULTI and EXEC are the stream's own; here they come where they do not belong.
        Run::Transaction(_) => Some(2),
        Run::Session(_) | Run::Node(_) => is_included.then_some(2),
        // A script calls what it is made of.
        Run::Script(_) | Run::Container | Run::Guarded(_) => None,
    }
}
