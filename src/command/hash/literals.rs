//! The literals of the hash family. Facts (arity, flags, key specs, syntax) are those of Redis 7.2, for fields that expire of 7.4, and of 8.0
//! for HGETDEL, HGETEX and HSETEX, as its documentation has them; the sentences are ours.

use super::{at_once, expiry, read, write};
use crate::engine::{Command, Op, Run};
use crate::resp::ReplyError;
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

pub(super) const COMMANDS: &[Command] = &[
    HDEL,
    HEXISTS,
    HEXPIRE,
    HEXPIREAT,
    HEXPIRETIME,
    HGET,
    HGETALL,
    HGETDEL,
    HGETEX,
    HINCRBY,
    HINCRBYFLOAT,
    HKEYS,
    HLEN,
    HMGET,
    HMSET,
    HPERSIST,
    HPEXPIRE,
    HPEXPIREAT,
    HPEXPIRETIME,
    HPTTL,
    HRANDFIELD,
    HSCAN,
    HSET,
    HSETEX,
    HSETNX,
    HSTRLEN,
    HTTL,
    HVALS,
];

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const UPDATE: KeyFlags = KeyFlags::RW.union(KeyFlags::UPDATE);
const COUNT: KeyFlags = UPDATE.union(KeyFlags::ACCESS);
const FAST_READ: Flags = Flags::READONLY.union(Flags::FAST);
const FAST_WRITE: Flags = Flags::WRITE.union(Flags::FAST);
const GROWING: Flags = FAST_WRITE.union(Flags::DENYOOM);

const KEY: Argument = Argument::key("key", 0);
const FIELD: Argument = arg("field", ArgumentKind::String);
const VALUE: Argument = arg("value", ArgumentKind::String);
const KEY_ONLY: &[Argument] = &[KEY];
const KEY_AND_FIELD: &[Argument] = &[KEY, FIELD];
const PAIRS: &[Argument] = &[KEY, arg("data", ArgumentKind::Block(&[FIELD, VALUE])).multiple()];
const NUMFIELDS: Argument = arg("numfields", ArgumentKind::Integer);
const FIELDS: Argument = arg("fields", ArgumentKind::Block(&[NUMFIELDS, FIELD.multiple()])).token("FIELDS");
const KEY_AND_FIELDS: &[Argument] = &[KEY, FIELDS];

const CONDITION: Argument = arg(
    "condition",
    ArgumentKind::OneOf(&[
        Argument::word("nx", "NX"),
        Argument::word("xx", "XX"),
        Argument::word("gt", "GT"),
        Argument::word("lt", "LT"),
    ]),
)
.optional();

const SECONDS: Argument = arg("seconds", ArgumentKind::Integer);
const MILLISECONDS: Argument = arg("milliseconds", ArgumentKind::Integer);
const UNIX_SECONDS: Argument = arg("unix-time-seconds", ArgumentKind::UnixTime);
const UNIX_MILLISECONDS: Argument = arg("unix-time-milliseconds", ArgumentKind::UnixTime);

const EACH_FIELD: &str = "O(N), N being the number of fields that are named.";
const WHOLE: &str = "O(N), N being the number of fields of the hash.";

/// What all commands of the family have in common.
const fn hash(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(1)",
        categories: Categories::HASH,
        ..command(name, Run::Keys(run))
    }
}

const HDEL: Command = Command {
    summary: "Deletes fields of a hash, and the key with the last of them.",
    complexity: EACH_FIELD,
    arity: -3,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::DELETE))],
    arguments: &[KEY, FIELD.multiple()],
    history: &[("2.4.0", "Takes several fields.")],
    ..hash("hdel", write::hdel)
};

const HEXISTS: Command = Command {
    summary: "Says whether a hash has a field.",
    arity: 3,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: KEY_AND_FIELD,
    ..hash("hexists", read::hexists)
};

const HGET: Command = Command {
    summary: "Answers the value of a field of a hash.",
    arity: 3,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, READ)],
    arguments: KEY_AND_FIELD,
    ..hash("hget", read::hget)
};

const HGETALL: Command = Command {
    summary: "Answers all fields of a hash with their values.",
    complexity: WHOLE,
    arity: 2,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output_order"],
    keys: &[KeySpec::one(1, READ)],
    arguments: KEY_ONLY,
    ..hash("hgetall", read::hgetall)
};

const HINCRBY: Command = Command {
    summary: "Adds a number to the integer in a field of a hash; a missing field is 0.",
    arity: 4,
    flags: GROWING,
    keys: &[KeySpec::one(1, COUNT)],
    arguments: &[KEY, FIELD, arg("increment", ArgumentKind::Integer)],
    ..hash("hincrby", write::hincrby)
};

const HINCRBYFLOAT: Command = Command {
    summary: "Adds a number with decimals to the one in a field of a hash; a missing field is 0.",
    since: "2.6.0",
    arity: 4,
    flags: GROWING,
    keys: &[KeySpec::one(1, COUNT)],
    arguments: &[KEY, FIELD, arg("increment", ArgumentKind::Double)],
    ..hash("hincrbyfloat", write::hincrbyfloat)
};

const HKEYS: Command = Command {
    summary: "Answers the names of all fields of a hash.",
    complexity: WHOLE,
    arity: 2,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output_order"],
    keys: &[KeySpec::one(1, READ)],
    arguments: KEY_ONLY,
    ..hash("hkeys", read::hkeys)
};

const HLEN: Command = Command {
    summary: "Answers how many fields a hash has.",
    arity: 2,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: KEY_ONLY,
    ..hash("hlen", read::hlen)
};

const HMGET: Command = Command {
    summary: "Answers the values of several fields of a hash, nil for those that are missing.",
    complexity: EACH_FIELD,
    arity: -3,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[KEY, FIELD.multiple()],
    ..hash("hmget", read::hmget)
};

const HMSET: Command = Command {
    summary: "Sets several fields of a hash; the key is created if it is missing.",
    complexity: EACH_FIELD,
    arity: -4,
    flags: GROWING,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: PAIRS,
    deprecated: Some(("4.0.0", "`HSET` with multiple field-value pairs")),
    ..hash("hmset", write::hmset)
};

const HRANDFIELD: Command = Command {
    summary: "Answers fields of a hash that chance has chosen.",
    since: "6.2.0",
    complexity: "O(N), N being the number of fields that are answered; a packed hash is walked through.",
    arity: -2,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        KEY,
        arg(
            "options",
            ArgumentKind::Block(&[
                arg("count", ArgumentKind::Integer),
                Argument::word("withvalues", "WITHVALUES").optional(),
            ]),
        )
        .optional(),
    ],
    ..hash("hrandfield", read::hrandfield)
};

const HSCAN: Command = Command {
    summary: "Lists the fields of a hash piece by piece.",
    since: "2.8.0",
    complexity: "O(1) for a call, O(N) for all the calls that walk through N fields.",
    arity: -3,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        KEY,
        arg("cursor", ArgumentKind::Integer),
        arg("pattern", ArgumentKind::Pattern).token("MATCH").optional(),
        arg("count", ArgumentKind::Integer).token("COUNT").optional(),
        Argument::word("novalues", "NOVALUES").optional().since("7.4.0"),
    ],
    history: &[("7.4.0", "The option `NOVALUES`.")],
    ..hash("hscan", read::hscan)
};

const HSET: Command = Command {
    summary: "Sets fields of a hash; the key is created if it is missing.",
    complexity: EACH_FIELD,
    arity: -4,
    flags: GROWING,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: PAIRS,
    history: &[("4.0.0", "Takes several fields with their values.")],
    ..hash("hset", write::hset)
};

const HSETNX: Command = Command {
    summary: "Sets a field of a hash if the field is missing.",
    arity: 4,
    flags: GROWING,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::INSERT))],
    arguments: &[KEY, FIELD, VALUE],
    ..hash("hsetnx", write::hsetnx)
};

const HSTRLEN: Command = Command {
    summary: "Answers the length of the value of a field of a hash, in bytes.",
    since: "3.2.0",
    arity: 3,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: KEY_AND_FIELD,
    ..hash("hstrlen", read::hstrlen)
};

const HVALS: Command = Command {
    summary: "Answers the values of all fields of a hash.",
    complexity: WHOLE,
    arity: 2,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output_order"],
    keys: &[KeySpec::one(1, READ)],
    arguments: KEY_ONLY,
    ..hash("hvals", read::hvals)
};

const UPDATED_KEY: &[KeySpec] = &[KeySpec::one(1, UPDATE)];
const READ_KEY: &[KeySpec] = &[KeySpec::one(1, READ)];

/// What the commands that make fields expire have in common.
const fn expiring(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "7.4.0",
        complexity: EACH_FIELD,
        arity: -6,
        flags: FAST_WRITE,
        keys: UPDATED_KEY,
        ..hash(name, run)
    }
}

const HEXPIRE: Command = Command {
    summary: "Sets after how many seconds fields of a hash expire.",
    arguments: &[KEY, SECONDS, CONDITION, FIELDS],
    ..expiring("hexpire", expiry::hexpire)
};

const HPEXPIRE: Command = Command {
    summary: "Sets after how many milliseconds fields of a hash expire.",
    arguments: &[KEY, MILLISECONDS, CONDITION, FIELDS],
    ..expiring("hpexpire", expiry::hpexpire)
};

const HEXPIREAT: Command = Command {
    summary: "Sets at which Unix time, in seconds, fields of a hash expire.",
    arguments: &[KEY, UNIX_SECONDS, CONDITION, FIELDS],
    ..expiring("hexpireat", expiry::hexpireat)
};

const HPEXPIREAT: Command = Command {
    summary: "Sets at which Unix time, in milliseconds, fields of a hash expire.",
    arguments: &[KEY, UNIX_MILLISECONDS, CONDITION, FIELDS],
    ..expiring("hpexpireat", expiry::hpexpireat)
};

const HPERSIST: Command = Command {
    summary: "Takes the expiry from fields of a hash.",
    since: "7.4.0",
    complexity: EACH_FIELD,
    arity: -5,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: KEY_AND_FIELDS,
    ..hash("hpersist", expiry::hpersist)
};

/// What the commands that tell when fields expire have in common.
const fn telling(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "7.4.0",
        complexity: EACH_FIELD,
        arity: -5,
        flags: FAST_READ,
        keys: READ_KEY,
        arguments: KEY_AND_FIELDS,
        ..hash(name, run)
    }
}

const HTTL: Command = Command {
    summary: "Answers in how many seconds fields of a hash expire.",
    tips: &["nondeterministic_output"],
    ..telling("httl", expiry::httl)
};

const HPTTL: Command = Command {
    summary: "Answers in how many milliseconds fields of a hash expire.",
    tips: &["nondeterministic_output"],
    ..telling("hpttl", expiry::hpttl)
};

const HEXPIRETIME: Command = Command {
    summary: "Answers at which Unix time, in seconds, fields of a hash expire.",
    ..telling("hexpiretime", expiry::hexpiretime)
};

const HPEXPIRETIME: Command = Command {
    summary: "Answers at which Unix time, in milliseconds, fields of a hash expire.",
    ..telling("hpexpiretime", expiry::hpexpiretime)
};

const HGETDEL: Command = Command {
    summary: "Answers the values of fields of a hash and deletes the fields.",
    since: "8.0.0",
    complexity: EACH_FIELD,
    arity: -5,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(
        1,
        KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE),
    )],
    arguments: KEY_AND_FIELDS,
    ..hash("hgetdel", at_once::hgetdel)
};

const HGETEX: Command = Command {
    summary: "Answers the values of fields of a hash, and sets or removes the fields' expiry.",
    since: "8.0.0",
    complexity: EACH_FIELD,
    arity: -5,
    flags: FAST_WRITE,
    keys: &[KeySpec {
        notes: "RW and UPDATE because it changes the TTL",
        ..KeySpec::one(1, COUNT)
    }],
    arguments: &[
        KEY,
        arg(
            "expiration",
            ArgumentKind::OneOf(&[
                SECONDS.token("EX"),
                MILLISECONDS.token("PX"),
                UNIX_SECONDS.token("EXAT"),
                UNIX_MILLISECONDS.token("PXAT"),
                Argument::word("persist", "PERSIST"),
            ]),
        )
        .optional(),
        FIELDS,
    ],
    ..hash("hgetex", at_once::hgetex)
};

const HSETEX: Command = Command {
    summary: "Sets fields of a hash, and the fields' expiry; the key is created if it is missing.",
    since: "8.0.0",
    complexity: EACH_FIELD,
    arity: -6,
    flags: GROWING,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: &[
        KEY,
        arg(
            "condition",
            ArgumentKind::OneOf(&[Argument::word("fnx", "FNX"), Argument::word("fxx", "FXX")]),
        )
        .optional(),
        arg(
            "expiration",
            ArgumentKind::OneOf(&[
                SECONDS.token("EX"),
                MILLISECONDS.token("PX"),
                UNIX_SECONDS.token("EXAT"),
                UNIX_MILLISECONDS.token("PXAT"),
                Argument::word("keepttl", "KEEPTTL"),
            ]),
        )
        .optional(),
        arg(
            "fields",
            ArgumentKind::Block(&[NUMFIELDS, arg("data", ArgumentKind::Block(&[FIELD, VALUE])).multiple()]),
        )
        .token("FIELDS"),
    ],
    ..hash("hsetex", at_once::hsetex)
};
