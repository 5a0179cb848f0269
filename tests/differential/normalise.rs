//! What is not compared byte for byte, and why.

use crate::generator::SCRIPT_COMMAND;
use crate::support::{Oracle, Value};
use shardis::base::hash::HashSeed;
use shardis::data::Limits;
use shardis::persist::digest::{Digest, digest_value};
use shardis::persist::payload;
use shardis::persist::value::Making;

/// How the replies of a command are compared.
#[derive(Clone, Copy)]
enum Rule {
    /// The items of its outermost aggregate have no order.
    Sorted,
    /// Numbers may differ by this much, and those in an array.
    Within(i64),
    /// Errors are compared, and otherwise the kind of the reply.
    Kind,
    /// As `Kind`, and how many items there are.
    Length,
    /// The items have no order if they are ordered by what may be equal; a window of them may then have others.
    Weighed,
    /// A cursor and items in groups of this many, or one by one after NOVALUES; the groups have no order. They are the same ones where both servers answer
    /// the whole iteration at once; how far a part of one goes is the server's own.
    Scan(usize),
    /// Which strings lie in one piece with their header is counted in another way since, and Redis 8 makes room for expiries in a
    /// packed hash when they are asked for, not when there are any.
    Encoding,
    /// The same elements in another order, or with room for expiries; Valkey has a version of its own.
    Dump,
}

/// Everything else is compared as it is.
const RULES: &[(&str, Rule, &str)] = &[
    ("keys", Rule::Sorted, "a hash table has no order"),
    (
        "scan",
        Rule::Kind,
        "a cursor is the server's own; whole iterations are compared after each batch",
    ),
    ("smembers", Rule::Sorted, "a set has no order"),
    ("sinter", Rule::Sorted, "a set has no order"),
    ("sunion", Rule::Sorted, "a set has no order"),
    ("sdiff", Rule::Sorted, "a set has no order"),
    ("spop", Rule::Sorted, "it takes all, in no order"),
    ("sscan", Rule::Scan(1), "a cursor is the server's own"),
    ("srandmember", Rule::Length, "it is random"),
    ("sort", Rule::Weighed, "equal weights, and sets that stay as they are"),
    ("sort_ro", Rule::Weighed, "as SORT"),
    (
        "encoding",
        Rule::Encoding,
        "both keep keys and values together since 7.2",
    ),
    ("object|encoding", Rule::Encoding, "as above"),
    ("dump", Rule::Dump, "a hash table has no order"),
    ("randomkey", Rule::Kind, "it is random"),
    ("hgetall", Rule::Sorted, "as KEYS"),
    ("hkeys", Rule::Sorted, "as KEYS"),
    ("hvals", Rule::Sorted, "as KEYS"),
    ("hscan", Rule::Scan(2), "as SSCAN"),
    ("zscan", Rule::Scan(2), "as SSCAN"),
    ("hrandfield", Rule::Length, "it is random"),
    ("zrandmember", Rule::Kind, "as RANDOMKEY"),
    (
        "ttl",
        Rule::Within(60),
        "a relative time counts from when its command ran",
    ),
    ("pttl", Rule::Within(60_000), "as TTL"),
    ("httl", Rule::Within(60), "as TTL, for each field"),
    ("hpttl", Rule::Within(60_000), "as HTTL"),
    ("hexpiretime", Rule::Within(60), "as HTTL"),
    ("hpexpiretime", Rule::Within(60_000), "as HTTL"),
    (
        "xpending",
        Rule::Within(60_000),
        "how long an entry waits counts from when it was delivered",
    ),
    ("xinfo|consumers", Rule::Within(60_000), "as XPENDING"),
    (
        "xinfo|stream",
        Rule::Within(60_000),
        "as XPENDING, if all is shown; and the nodes of the tree are the server's own",
    ),
    ("expiretime", Rule::Within(60), "as TTL"),
    ("pexpiretime", Rule::Within(60_000), "as TTL"),
    ("object|idletime", Rule::Within(60), "seconds pass"),
    ("object|freq", Rule::Within(255), "the counter grows by chance"),
    (
        "object|refcount",
        Rule::Kind,
        "Redis shares small integers, shardis has nothing to share",
    ),
];

/// What SORT says of elements that are no numbers.
const NO_NUMBERS: &[u8] = b"ERR One or more scores can't be converted";

/// Bytes of version and checksum at the end of a serialised value.
const SEAL_BYTES: usize = 10;

fn rule(command: &[Vec<u8>]) -> Option<Rule> {
    let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
    let sub = command
        .get(1)
        .map_or_else(String::new, |word| String::from_utf8_lossy(word).to_ascii_lowercase());
    let is_named = |rule: &&(&str, Rule, &str)| rule.0 == name || rule.0 == format!("{name}|{sub}");
    RULES.iter().find(is_named).map(|&(_, rule, _)| rule)
}

/// Whether the replies to `command` agree.
pub fn agree(oracle: Oracle, command: &[Vec<u8>], ours: &Value, theirs: &Value) -> bool {
    if ours == theirs {
        return true;
    }
    let command = match command {
        [name, _, _, called @ ..] if name == SCRIPT_COMMAND && !called.is_empty() => called,
        _ => command,
    };
    match rule(command) {
        None => false,
        Some(Rule::Sorted) => ours.clone().sorted() == theirs.clone().sorted(),
        Some(Rule::Within(tolerance)) => is_near(ours, theirs, tolerance as u64),
        Some(Rule::Length) => match (ours, theirs) {
            (Value::Array(ours), Value::Array(theirs)) => ours.len() == theirs.len(),
            _ => !ours.is_error() && std::mem::discriminant(ours) == std::mem::discriminant(theirs),
        },
        Some(Rule::Weighed) => {
            let has = |word: &[u8]| command.iter().skip(2).any(|other| other.eq_ignore_ascii_case(word));
            let is_refused = |reply: &Value| matches!(reply, Value::Error(text) if text.starts_with(NO_NUMBERS));
            match (ours, theirs) {
                // Numbers are read in another way since 7.2.
                _ if is_refused(ours) != is_refused(theirs) => true,
                (Value::Array(our), Value::Array(their)) if has(b"BY") || has(b"ALPHA") => {
                    our.len() == their.len() && (has(b"LIMIT") || ours.clone().sorted() == theirs.clone().sorted())
                }
                _ => false,
            }
        }
        Some(Rule::Encoding) => match (ours, theirs) {
            (Value::Bulk(ours), Value::Bulk(theirs)) => {
                let are_both = |names: [&[u8]; 2]| names.contains(&&ours[..]) && names.contains(&&theirs[..]);
                are_both([b"embstr", b"raw"]) || are_both([b"listpack", b"listpackex"])
            }
            _ => false,
        },
        Some(Rule::Dump) => match (ours, theirs) {
            (Value::Bulk(ours), Value::Bulk(theirs)) => {
                let is_table = |kind: Option<&u8>| matches!(kind, Some(2 | 4 | 24));
                // A stream's groups have times in them; what is in the groups is asked for by the commands.
                if let (Some(16 | 25), Some(25)) | (Some(21), Some(21)) = (ours.first(), theirs.first()) {
                    return digest(ours).is_some_and(|digest_of_ours| digest(theirs) == Some(digest_of_ours));
                }
                let is_same_kind = ours.first() == theirs.first() && ours.len() == theirs.len();
                is_same_kind && (is_table(ours.first()) || oracle == Oracle::Valkey91 && body(ours) == body(theirs))
            }
            _ => false,
        },
        Some(Rule::Scan(group)) => match (ours, theirs) {
            (Value::Array(our), Value::Array(their)) if our.len() == 2 && their.len() == 2 => {
                let ends = |side: &[Value]| side[0] == Value::Bulk(b"0".to_vec());
                let is_alone = |word: &Vec<u8>| word.eq_ignore_ascii_case(b"NOVALUES");
                let group = if command.iter().any(is_alone) { 1 } else { group };
                let groups = |side: &[Value]| {
                    let items = side[1].items();
                    let groups = items.chunks(group).map(|group| Value::Array(group.to_vec()));
                    Value::Array(groups.collect()).sorted()
                };
                !(ends(our) && ends(their)) || groups(our) == groups(their)
            }
            _ => false,
        },
        Some(Rule::Kind) => !ours.is_error() && std::mem::discriminant(ours) == std::mem::discriminant(theirs),
    }
}

/// Whether these are the same but for times that differ by no more than this.
fn is_near(ours: &Value, theirs: &Value, tolerance: u64) -> bool {
    match (ours, theirs) {
        // Below zero stand the answers that are no times.
        (Value::Integer(our), Value::Integer(their)) if *our >= 0 && *their >= 0 => our.abs_diff(*their) <= tolerance,
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            let mut pairs = ours.iter().zip(theirs);
            pairs.all(|(our, their)| is_near(our, their, tolerance))
        }
        (Value::Map(ours), Value::Map(theirs)) if ours.len() == theirs.len() => {
            let mut pairs = ours.iter().zip(theirs);
            pairs.all(|(our, their)| our.0 == their.0 && is_near(&our.1, &their.1, tolerance))
        }
        _ => ours == theirs,
    }
}

/// The fingerprint of a serialised value: its fields, their values, and which of them expire.
fn digest(dump: &[u8]) -> Option<Digest> {
    let making = Making {
        limits: &Limits::default(),
        seed: HashSeed([1, 2]),
    };
    let value = payload::restore(dump, making).ok()?;
    Some(digest_value(value.into_entry(b"key", None, 0).as_ref()))
}

/// A serialised value without its seal.
fn body(dump: &[u8]) -> &[u8] {
    &dump[..dump.len() - SEAL_BYTES]
}
