//! What is not compared byte for byte, and why.

use crate::support::Value;
use shardis::base::numbers::parse_f64;
use shardis::data::listpack::Listpack;
use shardis::persist::rdb::RdbReader;

/// How the replies of a command are compared.
#[derive(Clone, Copy)]
enum Rule {
    /// The items of its outermost aggregate have no order.
    Sorted,
    /// Numbers may differ by this much.
    Within(i64),
    /// Errors are compared, and otherwise the kind of the reply.
    Kind,
    /// As `Kind`, and how many items there are.
    Length,
    /// The items have no order if they are ordered by what may be equal; a window of them may then have others.
    Weighed,
    /// A cursor and items in groups of this many; the groups have no order. They are the same ones where both servers answer
    /// the whole iteration at once; how far a part of one goes is the server's own.
    Scan(usize),
    /// Redis 7.0 packs no list and no set of strings.
    Encoding,
    /// The same elements in another order.
    Dump,
    /// The lowest of all integers is refused.
    LowestRefused,
    /// What is wrong with the arguments may be answered where Redis 7.0 has answered that the key is missing or of another type.
    ArgumentsFirst,
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
    ("encoding", Rule::Encoding, "7.2 has packed lists and sets"),
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
    ("lpos", Rule::LowestRefused, "as a rank, which 7.0 cannot negate"),
    ("bitcount", Rule::ArgumentsFirst, "since 7.2 the key is looked for last"),
    ("bitpos", Rule::ArgumentsFirst, "as BITCOUNT"),
    (
        "ttl",
        Rule::Within(60),
        "a relative time counts from when its command ran",
    ),
    ("pttl", Rule::Within(60_000), "as TTL"),
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

/// Members and the bits of their scores, of a serialised packed sorted set.
fn packed_pairs(dump: &[u8]) -> Option<Vec<(Vec<u8>, u64)>> {
    let pack = Listpack::from_bytes(&RdbReader::new(&dump[1..]).string().ok()?).ok()?;
    let items: Vec<Vec<u8>> = pack.iter().map(|item| item.to_vec()).collect();
    items
        .chunks(2)
        .map(|pair| Some((pair[0].clone(), parse_f64(pair.get(1)?)?.to_bits())))
        .collect()
}

fn rule(command: &[Vec<u8>]) -> Option<Rule> {
    let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
    let sub = command
        .get(1)
        .map_or_else(String::new, |word| String::from_utf8_lossy(word).to_ascii_lowercase());
    let is_named = |rule: &&(&str, Rule, &str)| rule.0 == name || rule.0 == format!("{name}|{sub}");
    RULES.iter().find(is_named).map(|&(_, rule, _)| rule)
}

/// Whether the replies to `command` agree.
pub fn agree(command: &[Vec<u8>], ours: &Value, theirs: &Value) -> bool {
    if ours == theirs {
        return true;
    }
    match rule(command) {
        None => false,
        Some(Rule::Sorted) => ours.clone().sorted() == theirs.clone().sorted(),
        Some(Rule::Within(tolerance)) => match (ours, theirs) {
            // Below zero stand the answers that are no times.
            (Value::Integer(our), Value::Integer(their)) if *our >= 0 && *their >= 0 => {
                our.abs_diff(*their) <= tolerance as u64
            }
            _ => false,
        },
        Some(Rule::ArgumentsFirst) => {
            let names_arguments = matches!(ours, Value::Error(text) if text.starts_with(b"ERR "));
            names_arguments && (matches!(theirs, Value::Integer(0 | -1)) || theirs.is_error())
        }
        Some(Rule::LowestRefused) => {
            let has_lowest = command.iter().any(|word| word == i64::MIN.to_string().as_bytes());
            has_lowest && matches!(ours, Value::Error(text) if text.starts_with(b"ERR value is out of range"))
        }
        Some(Rule::Length) => match (ours, theirs) {
            (Value::Array(ours), Value::Array(theirs)) => ours.len() == theirs.len(),
            _ => !ours.is_error() && std::mem::discriminant(ours) == std::mem::discriminant(theirs),
        },
        Some(Rule::Weighed) => {
            let has = |word: &[u8]| command.iter().skip(2).any(|other| other.eq_ignore_ascii_case(word));
            match (ours, theirs) {
                (Value::Array(our), Value::Array(their)) if has(b"BY") || has(b"ALPHA") => {
                    our.len() == their.len() && (has(b"LIMIT") || ours.clone().sorted() == theirs.clone().sorted())
                }
                _ => false,
            }
        }
        Some(Rule::Encoding) => match (ours, theirs) {
            (Value::Bulk(ours), Value::Bulk(theirs)) => {
                ours == b"listpack" && [&b"quicklist"[..], b"hashtable"].contains(&&theirs[..])
            }
            _ => false,
        },
        Some(Rule::Dump) => match (ours, theirs) {
            (Value::Bulk(ours), Value::Bulk(theirs)) => match (ours.first(), theirs.first()) {
                // Sets and hashes as tables.
                (Some(2), Some(2)) | (Some(4), Some(4)) => ours.len() == theirs.len(),
                // Packed sorted sets hold scores as text, of which 7.0 writes 17 digits and 7.2 the shortest form.
                (Some(17), Some(17)) => {
                    let ours = packed_pairs(ours);
                    ours.is_some() && ours == packed_pairs(theirs)
                }
                _ => false,
            },
            _ => false,
        },
        Some(Rule::Scan(group)) => match (ours, theirs) {
            (Value::Array(our), Value::Array(their)) if our.len() == 2 && their.len() == 2 => {
                let ends = |side: &[Value]| side[0] == Value::Bulk(b"0".to_vec());
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
