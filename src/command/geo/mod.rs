//! The geo family: positions as members of a sorted set. What places members and tells where they are is here; what
//! searches an area is in [`search`].
//!
//! There is no type of its own: a position is a score ([`crate::data::geo`]), and every command of sorted sets works on
//! the key as well. So a score may be any number, and a command here makes some position of it.
//!
//! | command | its effect |
//! |---|---|
//! | GEOADD | `ZADD key [NX\|XX] [CH] score member ...`: no replica has to compute a position |
//! | GEOSEARCHSTORE, GEORADIUS and GEORADIUSBYMEMBER with `STORE` | the command itself |

mod search;
#[cfg(test)]
mod tests;

use crate::base::long_double::LongDouble;
use crate::base::numbers::parse_f64;
use crate::data::geo::Position;
use crate::data::sorted_set::{AddOptions, AddOutcome};
use crate::engine::arguments::Options;
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Reply, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

pub const COMMANDS: &[Command] = &[
    GEOADD,
    GEODIST,
    GEOHASH,
    GEOPOS,
    search::GEORADIUS,
    search::GEORADIUS_RO,
    search::GEORADIUSBYMEMBER,
    search::GEORADIUSBYMEMBER_RO,
    search::GEOSEARCH,
    search::GEOSEARCHSTORE,
];

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const WRITE: Flags = Flags::WRITE.union(Flags::DENYOOM);

const UNIT: Argument = arg(
    "unit",
    ArgumentKind::OneOf(&[
        Argument::word("m", "M"),
        Argument::word("km", "KM"),
        Argument::word("ft", "FT"),
        Argument::word("mi", "MI"),
    ]),
);

const GEOADD: Command = Command {
    summary: "Adds members with their positions to a geospatial index, or moves them; the key is created if it is missing.",
    since: "3.2.0",
    group: Group::Geo,
    complexity: "O(log(N)) for each member, N being the number of members there are.",
    arity: -5,
    flags: WRITE,
    categories: Categories::GEO,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::UPDATE))],
    arguments: &[
        Argument::key("key", 0),
        arg(
            "condition",
            ArgumentKind::OneOf(&[Argument::word("nx", "NX"), Argument::word("xx", "XX")]),
        )
        .optional()
        .since("6.2.0"),
        Argument::word("change", "CH").optional().since("6.2.0"),
        arg(
            "data",
            ArgumentKind::Block(&[
                arg("longitude", ArgumentKind::Double),
                arg("latitude", ArgumentKind::Double),
                arg("member", ArgumentKind::String),
            ]),
        )
        .multiple(),
    ],
    history: &[("6.2.0", "The options `CH`, `NX` and `XX` were added.")],
    ..command("geoadd", Run::Keys(geoadd))
};

fn geoadd(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let mut options = AddOptions::default();
    let mut counts_changes = false;
    let mut words = Options::behind(args, 2);
    loop {
        if words.flag(b"NX") {
            options.only_new = true;
        } else if words.flag(b"XX") {
            options.only_existing = true;
        } else if words.flag(b"CH") {
            counts_changes = true;
        } else {
            break;
        }
    }
    let first = words.index();
    let count = args.len() - first;
    if !count.is_multiple_of(3) || (options.only_new && options.only_existing) {
        return Err(error::SYNTAX);
    }
    let mut scores = Vec::with_capacity(count / 3);
    for index in (first..args.len()).step_by(3) {
        scores.push(position(args.at(index), args.at(index + 1))?.to_score());
    }
    let key = args.at(1);
    let (seed, limits) = (op.env.seed, &op.env.limits);
    let members = || args.slice_from(first + 2).iter().step_by(3);
    let (added, updated) = op.keys.edit_or_create_sorted_set(key, |set| {
        let (mut added, mut updated) = (0, 0);
        for (member, score) in members().zip(&scores) {
            match set.add(seed, member, *score, options, limits) {
                AddOutcome::Added(_) => added += 1,
                AddOutcome::Updated(_) => updated += 1,
                AddOutcome::Same(_) | AddOutcome::Refused | AddOutcome::NotANumber => {}
            }
        }
        Edited::when(added + updated > 0, (added, updated))
    })?;
    if added + updated > 0 {
        op.wrote_times(key, Event::sorted_set("zadd"), added + updated);
        if op.is_logged() {
            let texts: Vec<String> = scores.iter().map(|score| format!("{score:.0}")).collect();
            let mut words: Vec<&[u8]> = vec![b"ZADD", key];
            words.extend(args.range(2, first).iter());
            for (score, member) in texts.iter().zip(members()) {
                words.extend([score.as_bytes(), member]);
            }
            op.instead(&words);
        }
    }
    let changed = if counts_changes { added + updated } else { added };
    op.reply.integer(changed as i64);
    Ok(())
}

/// A position from what a client has sent.
fn position(longitude: &[u8], latitude: &[u8]) -> Result<Position, ReplyError> {
    let longitude = parse_f64(longitude).ok_or(error::NOT_A_FLOAT)?;
    let latitude = parse_f64(latitude).ok_or(error::NOT_A_FLOAT)?;
    Position::new(longitude, latitude).ok_or_else(|| error::invalid_coordinates(longitude, latitude))
}

/// How many metres a unit has.
fn unit_m(name: &[u8]) -> Result<f64, ReplyError> {
    let units: [(&[u8], f64); 4] = [(b"m", 1.0), (b"km", 1000.0), (b"ft", 0.3048), (b"mi", 1609.34)];
    units
        .into_iter()
        .find(|(unit, _)| name.eq_ignore_ascii_case(unit))
        .map(|(_, metres)| metres)
        .ok_or(error::GEO_UNIT_INVALID)
}

/// Replies with a distance: four decimals, a string in every protocol.
fn reply_distance(reply: &mut Reply<'_>, distance: f64) {
    reply.bulk_string(&format!("{distance:.4}"));
}

/// Replies with a position: longitude and latitude with all their decimals.
fn reply_position(reply: &mut Reply<'_>, position: Position) {
    reply.array(2);
    for degrees in [position.longitude, position.latitude] {
        let text = LongDouble::from_f64(degrees).to_human();
        if reply.is_resp3() {
            reply.raw(&[b",", &text[..], b"\r\n"].concat());
        } else {
            reply.bulk(&text);
        }
    }
}

const GEODIST: Command = Command {
    summary: "Answers how far two members of a geospatial index are from each other.",
    since: "3.2.0",
    group: Group::Geo,
    complexity: "O(1)",
    arity: -4,
    flags: Flags::READONLY,
    categories: Categories::GEO,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        arg("member1", ArgumentKind::String),
        arg("member2", ArgumentKind::String),
        UNIT.optional(),
    ],
    ..command("geodist", Run::Keys(geodist))
};

fn geodist(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let unit_m = match args.len() {
        4 => 1.0,
        5 => unit_m(args.at(4))?,
        _ => return Err(error::SYNTAX),
    };
    let set = op.keys.read_sorted_set(args.at(1))?;
    let seed = op.env.seed;
    let find = |member| Some(Position::from_score(set?.score(seed, member)?));
    match (find(args.at(2)), find(args.at(3))) {
        (Some(one), Some(other)) => reply_distance(&mut op.reply, one.distance_m(other) / unit_m),
        _ => op.reply.null(),
    }
    Ok(())
}

const MEMBERS: &[Argument] = &[
    Argument::key("key", 0),
    arg("member", ArgumentKind::String).optional().multiple(),
];

const GEOHASH: Command = Command {
    summary: "Answers the geohash texts of members of a geospatial index.",
    since: "3.2.0",
    group: Group::Geo,
    complexity: "O(1) for each member.",
    arity: -2,
    flags: Flags::READONLY,
    categories: Categories::GEO,
    keys: &[KeySpec::one(1, READ)],
    arguments: MEMBERS,
    ..command("geohash", Run::Keys(geohash))
};

fn geohash(op: &mut Op) -> Result<(), ReplyError> {
    each_position(op, |reply, position| match position {
        Some(position) => reply.bulk(&position.geohash()),
        None => reply.null(),
    })
}

const GEOPOS: Command = Command {
    summary: "Answers the longitudes and latitudes of members of a geospatial index.",
    since: "3.2.0",
    group: Group::Geo,
    complexity: "O(1) for each member.",
    arity: -2,
    flags: Flags::READONLY,
    categories: Categories::GEO,
    keys: &[KeySpec::one(1, READ)],
    arguments: MEMBERS,
    ..command("geopos", Run::Keys(geopos))
};

fn geopos(op: &mut Op) -> Result<(), ReplyError> {
    each_position(op, |reply, position| match position {
        Some(position) => reply_position(reply, position),
        None => reply.null_array(),
    })
}

/// Replies with something for each member that is named.
fn each_position(op: &mut Op, write: impl Fn(&mut Reply<'_>, Option<Position>)) -> Result<(), ReplyError> {
    let members = op.args.slice_from(2);
    let set = op.keys.read_sorted_set(op.args.at(1))?;
    op.reply.array(members.len());
    for member in members.iter() {
        let score = set.and_then(|set| set.score(op.env.seed, member));
        write(&mut op.reply, score.map(Position::from_score));
    }
    Ok(())
}
