//! DEBUG: what tests and people who look for a fault ask of a server. Everything here may block a shard or the whole
//! node for as long as it takes.
//!
//! From outside DEBUG is one command without subcommands. Inside each subcommand has its own literal, because they run
//! in different ways: over keys, over the whole keyspace, over the session ([`Guarded`]). `enable-debug-command`
//! refuses all of them, before their arguments are looked at.

use super::{debug_reload, debug_values};
use crate::base::clock::Ms;
use crate::base::numbers::{parse_f64, parse_i64};
use crate::base::slot::key_slot;
use crate::client::ReplyResizing;
use crate::data::access::{AccessPolicy, idle_s};
use crate::data::string::StringForm;
use crate::engine::help::reply_help;
use crate::engine::{Command, Context, Guarded, NodeFuture, Op, Run, SessionOp};
use crate::persist::digest::{DatasetDigest, DbDigest, EMPTY, digest_value, hex};
use crate::persist::payload::{self, Form};
use crate::resp::{Reply, ReplyError, error};
use crate::spec::{Flags, Group, KeyFlags, KeySpec, command};
use crate::store::{Access, DbIndex, Expiry};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

const DEBUG_FLAGS: Flags = Flags::ADMIN
    .union(Flags::NOSCRIPT)
    .union(Flags::LOADING)
    .union(Flags::STALE);

pub(super) const DEBUG: Command = Command {
    summary: "Holds the commands for finding faults.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: DEBUG_FLAGS,
    ..command(
        "debug",
        Run::Guarded(&Guarded {
            subcommands: SUBCOMMANDS,
            guard: |settings, is_local| match settings.enable_debug_command.allows(is_local) {
                true => Ok(()),
                false => Err(error::DEBUG_NOT_ALLOWED),
            },
        }),
    )
};

/// One subcommand.
const fn sub(name: &'static str, summary: &'static str, arity: i16, run: Run) -> Command {
    Command {
        summary,
        group: Group::Server,
        arity,
        flags: DEBUG_FLAGS,
        ..command(name, run)
    }
}

const SUBCOMMANDS: &[Command] = &[
    sub(
        "aof-flush-sleep",
        "Has every write to the append-only file wait before it.",
        3,
        Run::Session(aof_flush_sleep),
    ),
    sub("assert", "Crashes as a failed assertion does.", 2, Run::Session(crash)),
    sub(
        "dict-resizing",
        "Accepts a switch that tables of this server have no use for.",
        3,
        Run::Session(debug_values::dict_resizing),
    ),
    sub(
        "digest",
        "Answers the fingerprint of the data set.",
        2,
        Run::Everything(digest),
    ),
    Command {
        keys: &[KeySpec::range(2, -1, 1, KeyFlags::RO)],
        ..sub(
            "digest-value",
            "Answers the fingerprints of the values of keys.",
            -2,
            Run::Keys(digest_values),
        )
    },
    sub("error", "Answers the given error.", 3, Run::Session(answer_error)),
    sub("help", "Explains the subcommands.", 2, Run::Session(help)),
    sub(
        "htstats",
        "Describes the tables of a db.",
        -3,
        Run::Everything(debug_values::htstats),
    ),
    Command {
        keys: &[KeySpec::one(2, KeyFlags::RO)],
        ..sub(
            "htstats-key",
            "Describes the table of a value.",
            -3,
            Run::Keys(debug_values::htstats_key),
        )
    },
    Command {
        keys: &[KeySpec::one(2, KeyFlags::RO)],
        ..sub(
            "listpack",
            "Prints the listpack of a value.",
            3,
            Run::Keys(debug_values::listpack),
        )
    },
    sub("log", "Writes a line into the log.", 3, Run::Session(log)),
    Command {
        keys: &[KeySpec::one(2, KeyFlags::RO)],
        ..sub(
            "object",
            "Describes how the value of a key is kept.",
            3,
            Run::Keys(object),
        )
    },
    sub(
        "pause-cron",
        "Stops the periodic work, or lets it go on.",
        3,
        Run::Node(pause_cron),
    ),
    sub("panic", "Crashes as a panic does.", 2, Run::Session(crash)),
    sub("populate", "Makes string keys.", -3, Run::Everything(populate)),
    sub("protocol", "Answers a value of a type.", 3, Run::Session(protocol)),
    sub(
        "quicklist-packed-threshold",
        "Sets from which size on an element of a list gets a node of its own.",
        3,
        Run::Node(debug_values::packed_threshold),
    ),
    Command {
        flags: DEBUG_FLAGS.union(Flags::NO_MULTI),
        ..sub(
            "loadaof",
            "Loads the append only file in the place of what there is.",
            2,
            Run::Node(debug_reload::load_aof),
        )
    },
    Command {
        flags: DEBUG_FLAGS.union(Flags::NO_MULTI),
        ..sub(
            "reload",
            "Saves all keys and loads them again.",
            -2,
            Run::Node(debug_reload::reload),
        )
    },
    sub(
        "replybuffer",
        "Sets how reply buffers are sized.",
        4,
        Run::Node(replybuffer),
    ),
    sub("segfault", "Crashes by a signal.", 2, Run::Session(segfault)),
    sub(
        "set-active-expire",
        "Turns active expiry off or on.",
        3,
        Run::Node(set_active_expire),
    ),
    sub(
        "set-skip-checksum-validation",
        "Turns the comparing of checksums off or on.",
        3,
        Run::Node(debug_reload::set_skip_checksum_validation),
    ),
    sub("sleep", "Blocks the shard of the connection.", 3, Run::Session(sleep)),
    sub(
        "stringmatch-len",
        "Matches a long text with a pattern.",
        4,
        Run::Session(stringmatch_len),
    ),
];

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(
        &mut op.reply,
        "DEBUG",
        &[
            (
                "AOF-FLUSH-SLEEP <microsec>",
                &["Have every write to the append-only file wait for <microsec> before it."],
            ),
            ("ASSERT", &["Crash as a failed assertion does."]),
            (
                "DICT-RESIZING <0|1>",
                &["Accepted; tables of this server grow by a page and are never resized as a whole."],
            ),
            (
                "DIGEST",
                &["Answer a fingerprint of the data set, in hexadecimal digits."],
            ),
            (
                "DIGEST-VALUE <key> [<key> ...]",
                &["Answer fingerprints of the values of the given keys."],
            ),
            ("ERROR <string>", &["Answer an error with <string> as its text."]),
            (
                "HTSTATS <dbid>",
                &["Describe the tables in which the keys of a db are kept."],
            ),
            (
                "HTSTATS-KEY <key>",
                &["Describe the table of the value of <key>, if it has one."],
            ),
            (
                "LISTPACK <key>",
                &["Print the listpack of the value of <key> to the standard output."],
            ),
            (
                "LOADAOF",
                &["Remove all keys, and load what is in the append only file."],
            ),
            ("LOG <message>", &["Write <message> into the server log."]),
            ("OBJECT <key>", &["Show how the value of <key> is kept."]),
            ("PANIC", &["Crash as a panic does."]),
            ("PAUSE-CRON <0|1>", &["With 1, the periodic work of all shards stops."]),
            (
                "POPULATE <count> [<prefix>] [<size>]",
                &[
                    "Make <count> string keys named key:<num>, or <prefix>:<num>. Keys that exist",
                    "are left alone. They are not sent to replicas.",
                ],
            ),
            (
                "PROTOCOL <type>",
                &[
                    "Answer a value of that type: string, integer, double, bignum, null, array,",
                    "set, map, attrib, push, verbatim, true, false.",
                ],
            ),
            (
                "QUICKLIST-PACKED-THRESHOLD <size>",
                &["Give list elements of at least <size> bytes nodes of their own; 0 for the default."],
            ),
            (
                "RELOAD [option ...]",
                &[
                    "Save all keys, remove them, and load them again. Options:",
                    "* MERGE: A key of the file overwrites one that is there.",
                    "* NOFLUSH: The keys are not removed before the file is loaded.",
                    "* NOSAVE: They are not saved before.",
                ],
            ),
            (
                "REPLYBUFFER PEAK-RESET-TIME <NEVER|RESET|time>",
                &["Set how long (in milliseconds) the most that a reply buffer held counts as needed."],
            ),
            (
                "REPLYBUFFER RESIZING <0|1>",
                &["With 0, reply buffers that are larger than needed are kept."],
            ),
            ("SEGFAULT", &["Crash by a signal."]),
            (
                "SET-ACTIVE-EXPIRE <0|1>",
                &["With 0, expired keys are deleted only when they are looked at."],
            ),
            (
                "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
                &["With 1, checksums of files and of RESTORE's payloads are not compared."],
            ),
            (
                "SLEEP <seconds>",
                &[
                    "Block the shard of this connection for <seconds>, which may have decimals.",
                    "Other shards go on.",
                ],
            ),
            (
                "STRINGMATCH-LEN <len> <pattern>",
                &["Match a text of <len> letters 'a' with <pattern>; answer 1 if it matches."],
            ),
        ],
    );
    Ok(())
}

/// What C makes of a number with something behind it: the number, or 0.
pub(super) fn leading_f64(text: &[u8]) -> f64 {
    let numeric = text.iter().take_while(|byte| b"+-.eE0123456789".contains(byte)).count();
    (0..=numeric)
        .rev()
        .find_map(|end| parse_f64(&text[..end]))
        .unwrap_or(0.0)
}

fn aof_flush_sleep(op: &mut SessionOp) -> Result<(), ReplyError> {
    let sleep_us = parse_i64(&op.args[2]).unwrap_or(0).max(0).unsigned_abs();
    op.node.aof.writers.flush_sleep_us.store(sleep_us, Ordering::Relaxed);
    op.reply.ok();
    Ok(())
}

fn sleep(op: &mut SessionOp) -> Result<(), ReplyError> {
    let seconds = leading_f64(&op.args[2]);
    std::thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO));
    op.reply.ok();
    Ok(())
}

fn log(op: &mut SessionOp) -> Result<(), ReplyError> {
    tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(&op.args[2]));
    op.reply.ok();
    Ok(())
}

fn answer_error(op: &mut SessionOp) -> Result<(), ReplyError> {
    Err(ReplyError::owned(&op.args[2]))
}

fn crash(op: &mut SessionOp) -> Result<(), ReplyError> {
    panic!(
        "called by DEBUG {}",
        String::from_utf8_lossy(&op.args[1]).to_uppercase()
    );
}

fn segfault(_: &mut SessionOp) -> Result<(), ReplyError> {
    /// In the first page, which the kernel maps for nobody.
    const NOWHERE: usize = 0x8;
    // SAFETY: none: to fault is what was asked for. The write is volatile, so it happens, and nothing comes after it.
    unsafe { std::ptr::without_provenance_mut::<u64>(NOWHERE).write_volatile(0) };
    unreachable!("the kernel ends whoever writes to the first page")
}

fn replybuffer(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let args = context.args();
        let (word, value) = (args.at(2), args.at(3));
        let default = ReplyResizing::DEFAULT;
        let (peak_for, is_on) = if word.eq_ignore_ascii_case(b"RESIZING") {
            (None, Some(leading_f64(value) as i64 != 0))
        } else if !word.eq_ignore_ascii_case(b"PEAK-RESET-TIME") {
            return Err(error::unknown_subcommand_or_arity("debug", args.at(1)));
        } else if value.eq_ignore_ascii_case(b"NEVER") {
            (Some(None), None)
        } else if value.eq_ignore_ascii_case(b"RESET") {
            (Some(default.peak_for), None)
        } else {
            let time_ms = parse_i64(value).ok_or(error::NOT_AN_INTEGER)?;
            (Some(u64::try_from(time_ms).ok().map(Ms)), None)
        };
        context
            .ask_all(move |local| local.env.set_reply_resizing(is_on, peak_for))
            .await;
        context.reply().ok();
        Ok(())
    })
}

fn pause_cron(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let is_paused = leading_f64(context.args().at(2)) as i64 != 0;
        context.ask_all(move |local| local.env.is_cron_paused = is_paused).await;
        context.reply().ok();
        Ok(())
    })
}

fn stringmatch_len(op: &mut SessionOp) -> Result<(), ReplyError> {
    let length = parse_i64(&op.args[2])
        .and_then(|length| usize::try_from(length).ok())
        .filter(|&length| length as u64 <= op.env.settings.proto_max_bulk_len)
        .ok_or(error::NOT_POSITIVE)?;
    let matches = crate::base::glob::matches(&op.args[3], &vec![b'a'; length]);
    op.reply.integer(i64::from(matches));
    Ok(())
}

fn set_active_expire(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let is_on = leading_f64(context.args().at(2)) as i64 != 0;
        context.ask_all(move |local| local.env.expires_actively = is_on).await;
        context.reply().ok();
        Ok(())
    })
}

fn object(op: &mut Op) -> Result<(), ReplyError> {
    let moment = op.keys.moment;
    let key = op.args.at(2);
    let form = Form::of(&op.env.settings);
    let limits = op.env.limits;
    let mut text = Vec::new();
    {
        op.keys.access = Access::Peek;
        let entry = op.keys.peek(key)?.ok_or(error::NO_SUCH_KEY)?;
        let clock = entry.access_clock();
        // The type byte in front, and version and checksum behind, are not part of the value.
        let serialized = payload::dump(entry, form).len().saturating_sub(SEAL_BYTES);
        let more = debug_values::as_quicklist(entry.object()).map(|list| debug_values::describe_list(list, &limits));
        let idle = match moment.policy {
            AccessPolicy::Lfu { .. } | AccessPolicy::Fixed(_) => 0,
            AccessPolicy::Lru => idle_s(clock, moment.now),
        };
        text.extend_from_slice(
            format!(
                "Value at:{:p} refcount:1 encoding:{} serializedlength:{serialized} lru:{} lru_seconds_idle:{idle}{}",
                entry.key().as_ptr(),
                entry.encoding().name(),
                clock & 0xff_ffff,
                more.unwrap_or_default(),
            )
            .as_bytes(),
        );
    }
    op.reply.simple(&String::from_utf8_lossy(&text));
    Ok(())
}

/// Of a DUMP payload: type byte, version, checksum.
const SEAL_BYTES: usize = 1 + 2 + 8;

fn populate(op: &mut Op) -> Result<(), ReplyError> {
    if op.args.len() > 5 {
        return Err(error::unknown_subcommand_or_arity("debug", op.args.at(1)));
    }
    let positive = |word: &[u8]| parse_i64(word).filter(|&number| number >= 0).ok_or(error::NOT_POSITIVE);
    let count = positive(&op.args[2])?;
    let prefix = op.args.get(3).unwrap_or(b"key").to_vec();
    let size = match op.args.get(4) {
        Some(word) => positive(word)? as u64,
        None => 0,
    };
    if size > op.env.settings.proto_max_bulk_len {
        return Err(error::NOT_POSITIVE);
    }
    if !op.keys.view.has_everything() {
        return Err(op.keys.need_everything());
    }
    let (db, moment) = (op.keys.db, op.keys.moment);
    for number in 0..count {
        let mut key = prefix.clone();
        key.extend_from_slice(format!(":{number}").as_bytes());
        let slot = op
            .keys
            .view
            .slot(key_slot(&key))
            .expect("the unit of work has everything");
        if slot.get(db, &key, moment, Access::Peek).is_some() {
            continue;
        }
        let mut value = format!("value:{number}").into_bytes();
        if size > 0 {
            value.resize(size as usize, 0);
        }
        slot.set_string(db, &key, &value, StringForm::Detect, Expiry::Clear, moment);
    }
    op.reply.ok();
    Ok(())
}

fn digest(op: &mut Op) -> Result<(), ReplyError> {
    let now = op.keys.moment.now;
    let Some(slots) = op.keys.view.all_slots() else {
        return Err(op.keys.need_everything());
    };
    let mut dbs: BTreeMap<DbIndex, DbDigest> = BTreeMap::new();
    for (_, slot) in slots {
        for db in slot.dbs() {
            let digest = dbs.entry(db).or_default();
            slot.for_each(db, now, |entry| digest.mix_key(entry));
        }
    }
    let mut whole = DatasetDigest::default();
    for (db, digest) in &dbs {
        whole.mix_db(db.0, digest);
    }
    op.reply.simple(&hex(&whole.finish()));
    Ok(())
}

fn digest_values(op: &mut Op) -> Result<(), ReplyError> {
    let keys = op.args.slice_from(2);
    let mut digests = Vec::with_capacity(keys.len());
    for key in keys.iter() {
        digests.push(op.keys.peek(key)?.map_or(EMPTY, digest_value));
    }
    op.reply.array(digests.len());
    for digest in &digests {
        op.reply.simple(&hex(digest));
    }
    Ok(())
}

fn protocol(op: &mut SessionOp) -> Result<(), ReplyError> {
    let name = op.args[2].to_ascii_lowercase();
    let reply = &mut op.reply;
    match name.as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => {
            #[allow(clippy::approx_constant, reason = "the very number that Redis answers")]
            reply.double(3.141);
        }
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            count_to_three(reply);
        }
        b"set" => {
            reply.set(3);
            count_to_three(reply);
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            // RESP2 has no attributes: they are left out.
            if reply.is_resp3() {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if !reply.is_resp3() {
                return Err(error::RESP3_ONLY);
            }
            // A push waits for the reply of the command that it comes from.
            reply.bulk(b"Some real reply following the push reply");
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        _ => {
            return Err(error::NO_SUCH_PROTOCOL_TYPE);
        }
    }
    Ok(())
}

fn count_to_three(reply: &mut Reply<'_>) {
    for number in 0..3 {
        reply.integer(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::FAMILIES;
    use crate::engine::Registry;

    #[test]
    fn debug_looks_like_one_command() {
        let registry = Registry::new(FAMILIES, &[]).expect("no renames");
        let debug = registry.by_name(b"debug").expect("it is a command");
        assert_eq!(registry.children(debug).count(), 0);
        assert!(registry.by_full_name(b"debug|sleep").is_none());
        let args = crate::resp::OwnedArgs::from_slices(&["DEBUG", "Sleep", "0"]);
        let found = registry
            .resolve(args.as_args())
            .unwrap_or_else(|refused| panic!("it can be called: {refused}"));
        assert!(found.is_inner && registry.counted_as(found) == debug.id);
    }

    #[test]
    fn seconds_are_read_as_c_reads_them() {
        assert_eq!(leading_f64(b"0.25"), 0.25);
        assert_eq!(leading_f64(b"1.5x"), 1.5);
        assert_eq!(leading_f64(b"abc"), 0.0);
    }
}
