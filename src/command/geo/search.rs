//! Searching an area: GEOSEARCH and GEOSEARCHSTORE, and the older GEORADIUS and GEORADIUSBYMEMBER, which are the same search
//! with its first options in fixed places.
//!
//! What is wrong with a call is found in Redis's order, which the errors make visible: first the key is looked for and its
//! type compared, then arguments are read from left to right (a member that is the middle is looked for as it is read),
//! then combinations are judged; a key that is missing ends the search only after all that. So the middle is unknown while
//! the rest is read, if the key is missing.
//!
//! What is found comes in the order of the cells that are looked through, and of scores within each, unless it is sorted
//! by distance; members of equal distance keep that order. `COUNT` without `ANY` sorts by itself: it means the nearest.

use super::{READ, UNIT, WRITE, position, reply_distance, reply_position, unit_m};
use crate::base::numbers::parse_f64;
use crate::data::geo::{Area, Position, Shape};
use crate::data::sorted_set::{AddOptions, ScoreBound, ScoreRange, SortedSet};
use crate::engine::arguments::Options;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Begin, Categories, Find, Flags, Group, KeyFlags, KeySpec, arg, command};

const OVERWRITE: KeyFlags = KeyFlags::OW.union(KeyFlags::UPDATE);
const COMPLEXITY: &str =
    "O(N+log(M)), N being the number of members in the cells around the area, M the number of all members.";
const UNITS_IN_CAPITALS: (&str, &str) = ("7.0.0", "Units may be written in capitals.");

const ORDER: Argument = arg(
    "order",
    ArgumentKind::OneOf(&[Argument::word("asc", "ASC"), Argument::word("desc", "DESC")]),
)
.optional();

const WITHCOORD: Argument = Argument::word("withcoord", "WITHCOORD").optional();
const WITHDIST: Argument = Argument::word("withdist", "WITHDIST").optional();
const WITHHASH: Argument = Argument::word("withhash", "WITHHASH").optional();

const COUNT: Argument = arg(
    "count-block",
    ArgumentKind::Block(&[
        arg("count", ArgumentKind::Integer).token("COUNT"),
        Argument::word("any", "ANY").optional(),
    ]),
)
.optional();

const COUNT_OF_OLD: Argument = arg(
    "count-block",
    ArgumentKind::Block(&[
        arg("count", ArgumentKind::Integer).token("COUNT"),
        Argument::word("any", "ANY").optional().since("6.2.0"),
    ]),
)
.optional();

const STORE: Argument = arg(
    "store",
    ArgumentKind::OneOf(&[
        Argument::key("storekey", 1).shown_as("key").token("STORE"),
        Argument::key("storedistkey", 2).shown_as("key").token("STOREDIST"),
    ]),
)
.optional();

const LONGITUDE: Argument = arg("longitude", ArgumentKind::Double);
const LATITUDE: Argument = arg("latitude", ArgumentKind::Double);
const RADIUS: Argument = arg("radius", ArgumentKind::Double);
const MEMBER: Argument = arg("member", ArgumentKind::String);

/// The key behind a keyword.
const fn stored_behind(keyword: &'static str, from: i32) -> KeySpec {
    KeySpec {
        flags: OVERWRITE,
        begin: Begin::Keyword { keyword, from },
        find: Find::Range {
            last: 0,
            step: 1,
            limit: 0,
        },
        notes: "",
    }
}

pub(super) const GEORADIUS: Command = Command {
    summary: "Finds the members of a geospatial index within a radius around a position; may store what it finds.",
    since: "3.2.0",
    group: Group::Geo,
    complexity: COMPLEXITY,
    arity: -6,
    flags: WRITE,
    categories: Categories::GEO,
    keys: &[
        KeySpec::one(1, READ),
        stored_behind("STORE", 6),
        stored_behind("STOREDIST", 6),
    ],
    arguments: &[
        Argument::key("key", 0),
        LONGITUDE,
        LATITUDE,
        RADIUS,
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT_OF_OLD,
        ORDER,
        STORE,
    ],
    history: &[("6.2.0", "The option `ANY` of `COUNT` was added."), UNITS_IN_CAPITALS],
    deprecated: Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument")),
    ..command("georadius", Run::Keys(georadius))
};

fn georadius(op: &mut Op) -> Result<(), ReplyError> {
    search(op, Caller::Radius { may_store: true })
}

pub(super) const GEORADIUS_RO: Command = Command {
    summary: "Finds the members of a geospatial index within a radius around a position.",
    since: "3.2.10",
    group: Group::Geo,
    complexity: COMPLEXITY,
    arity: -6,
    flags: Flags::READONLY,
    categories: Categories::GEO,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        LONGITUDE,
        LATITUDE,
        RADIUS,
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT_OF_OLD,
        ORDER,
    ],
    history: &[("6.2.0", "The option `ANY` of `COUNT` was added.")],
    deprecated: Some(("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")),
    ..command("georadius_ro", Run::Keys(georadius_ro))
};

fn georadius_ro(op: &mut Op) -> Result<(), ReplyError> {
    search(op, Caller::Radius { may_store: false })
}

pub(super) const GEORADIUSBYMEMBER: Command = Command {
    summary: "Finds the members of a geospatial index within a radius around one of them; may store what it finds.",
    since: "3.2.0",
    group: Group::Geo,
    complexity: COMPLEXITY,
    arity: -5,
    flags: WRITE,
    categories: Categories::GEO,
    keys: &[
        KeySpec::one(1, READ),
        stored_behind("STORE", 5),
        stored_behind("STOREDIST", 5),
    ],
    arguments: &[
        Argument::key("key", 0),
        MEMBER,
        RADIUS,
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT,
        ORDER,
        STORE,
    ],
    history: &[("6.2.0", "The option `ANY` of `COUNT` was added."), UNITS_IN_CAPITALS],
    deprecated: Some((
        "6.2.0",
        "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
    )),
    ..command("georadiusbymember", Run::Keys(georadiusbymember))
};

fn georadiusbymember(op: &mut Op) -> Result<(), ReplyError> {
    search(op, Caller::RadiusByMember { may_store: true })
}

pub(super) const GEORADIUSBYMEMBER_RO: Command = Command {
    summary: "Finds the members of a geospatial index within a radius around one of them.",
    since: "3.2.10",
    group: Group::Geo,
    complexity: COMPLEXITY,
    arity: -5,
    flags: Flags::READONLY,
    categories: Categories::GEO,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        MEMBER,
        RADIUS,
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT,
        ORDER,
    ],
    deprecated: Some(("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments")),
    ..command("georadiusbymember_ro", Run::Keys(georadiusbymember_ro))
};

fn georadiusbymember_ro(op: &mut Op) -> Result<(), ReplyError> {
    search(op, Caller::RadiusByMember { may_store: false })
}

const FROM: Argument = arg(
    "from",
    ArgumentKind::OneOf(&[
        MEMBER.token("FROMMEMBER"),
        arg("fromlonlat", ArgumentKind::Block(&[LONGITUDE, LATITUDE])).token("FROMLONLAT"),
    ]),
);

const BY: Argument = arg(
    "by",
    ArgumentKind::OneOf(&[
        arg("circle", ArgumentKind::Block(&[RADIUS.token("BYRADIUS"), UNIT])),
        arg(
            "box",
            ArgumentKind::Block(&[
                arg("width", ArgumentKind::Double).token("BYBOX"),
                arg("height", ArgumentKind::Double),
                UNIT,
            ]),
        ),
    ]),
);

pub(super) const GEOSEARCH: Command = Command {
    summary: "Finds the members of a geospatial index in a circle or a box.",
    since: "6.2.0",
    group: Group::Geo,
    complexity: COMPLEXITY,
    arity: -7,
    flags: Flags::READONLY,
    categories: Categories::GEO,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        FROM,
        BY,
        ORDER,
        COUNT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
    ],
    history: &[UNITS_IN_CAPITALS],
    ..command("geosearch", Run::Keys(geosearch))
};

fn geosearch(op: &mut Op) -> Result<(), ReplyError> {
    search(op, Caller::Search)
}

pub(super) const GEOSEARCHSTORE: Command = Command {
    summary: "Finds the members of a geospatial index in a circle or a box, and stores them.",
    since: "6.2.0",
    group: Group::Geo,
    complexity: COMPLEXITY,
    arity: -8,
    flags: WRITE,
    categories: Categories::GEO,
    keys: &[KeySpec::one(1, OVERWRITE), KeySpec::one(2, READ)],
    arguments: &[
        Argument::key("destination", 0),
        Argument::key("source", 1),
        FROM,
        BY,
        ORDER,
        COUNT,
        Argument::word("storedist", "STOREDIST").optional(),
    ],
    history: &[UNITS_IN_CAPITALS],
    ..command("geosearchstore", Run::Keys(geosearchstore))
};

fn geosearchstore(op: &mut Op) -> Result<(), ReplyError> {
    search(op, Caller::SearchStore)
}

/// Which command searches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Radius { may_store: bool },
    RadiusByMember { may_store: bool },
    Search,
    SearchStore,
}

impl Caller {
    fn is_search(self) -> bool {
        matches!(self, Caller::Search | Caller::SearchStore)
    }

    fn may_name_a_store(self) -> bool {
        matches!(
            self,
            Caller::Radius { may_store: true } | Caller::RadiusByMember { may_store: true }
        )
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Nearest,
    Farthest,
}

/// What GEOSEARCH was told to begin at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Member,
    Position,
}

/// A call with its arguments read.
struct Call<'a> {
    /// Where the search begins; unknown where that is a member of a key that is missing.
    center: Option<Position>,
    origin: Option<Origin>,
    shape: Option<(Shape, f64)>,
    sort: Option<Sort>,
    /// 0: all.
    count: usize,
    is_any: bool,
    with_distance: bool,
    with_hash: bool,
    with_position: bool,
    store: Option<&'a [u8]>,
    stores_distances: bool,
}

impl<'a> Call<'a> {
    /// Reads the arguments of a call; `source` is the key that is searched, and whether it exists.
    fn read(op: &mut Op<'a, '_>, caller: Caller, source: (&[u8], bool)) -> Result<Call<'a>, ReplyError> {
        let args = op.args;
        let mut call = Call {
            center: None,
            origin: None,
            shape: None,
            sort: None,
            count: 0,
            is_any: false,
            with_distance: false,
            with_hash: false,
            with_position: false,
            store: (caller == Caller::SearchStore).then(|| args.at(1)),
            stores_distances: false,
        };
        let first = match caller {
            Caller::Radius { .. } => {
                call.center = Some(position(args.at(2), args.at(3))?);
                call.shape = Some(circle(args.at(4), args.at(5))?);
                6
            }
            Caller::RadiusByMember { .. } => {
                // What is searched around a member that cannot be there is not looked at.
                if source.1 {
                    call.center = Some(center_of(op, source.0, args.at(2))?);
                    call.shape = Some(circle(args.at(3), args.at(4))?);
                }
                5
            }
            Caller::Search => 2,
            Caller::SearchStore => 3,
        };
        let mut options = Options::behind(args, first);
        while !options.is_empty() {
            call.take(op, caller, source, &mut options)?;
        }
        call.judge(op, caller)?;
        Ok(call)
    }

    /// Reads the next option.
    fn take(
        &mut self,
        op: &mut Op<'a, '_>,
        caller: Caller,
        source: (&[u8], bool),
        options: &mut Options<'a>,
    ) -> Result<(), ReplyError> {
        if options.flag(b"WITHDIST") {
            self.with_distance = true;
        } else if options.flag(b"WITHHASH") {
            self.with_hash = true;
        } else if options.flag(b"WITHCOORD") {
            self.with_position = true;
        } else if options.flag(b"ANY") {
            self.is_any = true;
        } else if options.flag(b"ASC") {
            self.sort = Some(Sort::Nearest);
        } else if options.flag(b"DESC") {
            self.sort = Some(Sort::Farthest);
        } else if options.flag(b"COUNT") {
            let count = options.integer()?;
            self.count = usize::try_from(count)
                .ok()
                .filter(|count| *count > 0)
                .ok_or(error::GEO_COUNT_NOT_POSITIVE)?;
        } else if caller.may_name_a_store() && options.flag(b"STORE") {
            self.store = Some(options.word()?);
            self.stores_distances = false;
        } else if caller.may_name_a_store() && options.flag(b"STOREDIST") {
            self.store = Some(options.word()?);
            self.stores_distances = true;
        } else if caller == Caller::SearchStore && options.flag(b"STOREDIST") {
            self.stores_distances = true;
        } else if !caller.is_search() {
            return Err(error::SYNTAX);
        } else if self.origin != Some(Origin::Position) && options.flag(b"FROMMEMBER") {
            let member = options.word()?;
            if source.1 {
                self.center = Some(center_of(op, source.0, member)?);
            }
            self.origin = Some(Origin::Member);
        } else if self.origin != Some(Origin::Member) && options.flag(b"FROMLONLAT") {
            self.center = Some(position(options.word()?, options.word()?)?);
            self.origin = Some(Origin::Position);
        } else if !matches!(self.shape, Some((Shape::Box { .. }, _))) && options.flag(b"BYRADIUS") {
            self.shape = Some(circle(options.word()?, options.word()?)?);
        } else if !matches!(self.shape, Some((Shape::Circle { .. }, _))) && options.flag(b"BYBOX") {
            self.shape = Some(rectangle(options.word()?, options.word()?, options.word()?)?);
        } else {
            return Err(error::SYNTAX);
        }
        Ok(())
    }

    /// Refuses options that do not go together.
    fn judge(&self, op: &Op, caller: Caller) -> Result<(), ReplyError> {
        if self.store.is_some() && self.replies_with_more() {
            return Err(if caller.is_search() {
                error::GEOSEARCHSTORE_WITH
            } else {
                error::GEORADIUS_STORE_WITH
            });
        }
        if caller.is_search() && self.origin.is_none() {
            return Err(error::geosearch_without_origin(op.args.at(0)));
        }
        if caller.is_search() && self.shape.is_none() {
            return Err(error::geosearch_without_shape(op.args.at(0)));
        }
        if self.is_any && self.count == 0 {
            return Err(error::GEO_ANY_WITHOUT_COUNT);
        }
        Ok(())
    }

    /// Whether the reply has anything but the members.
    fn replies_with_more(&self) -> bool {
        self.with_distance || self.with_hash || self.with_position
    }

    /// What is searched, if the key exists.
    fn area(&self) -> Option<Area> {
        let (shape, unit_m) = self.shape?;
        Some(Area {
            center: self.center?,
            shape,
            unit_m,
        })
    }
}

/// The position of a member that is the middle of a search.
fn center_of(op: &mut Op, source: &[u8], member: &[u8]) -> Result<Position, ReplyError> {
    let set = op.keys.peek_sorted_set(source)?;
    let score = set.and_then(|set| set.score(op.env.seed, member));
    score.map(Position::from_score).ok_or(error::GEO_MEMBER_MISSING)
}

/// `200 km`
fn circle(radius: &[u8], unit: &[u8]) -> Result<(Shape, f64), ReplyError> {
    let radius = parse_f64(radius).ok_or(error::GEO_RADIUS_INVALID)?;
    if radius < 0.0 {
        return Err(error::GEO_RADIUS_NEGATIVE);
    }
    Ok((Shape::Circle { radius }, unit_m(unit)?))
}

/// `400 200 km`
fn rectangle(width: &[u8], height: &[u8], unit: &[u8]) -> Result<(Shape, f64), ReplyError> {
    let width = parse_f64(width).ok_or(error::GEO_WIDTH_INVALID)?;
    let height = parse_f64(height).ok_or(error::GEO_HEIGHT_INVALID)?;
    if width < 0.0 || height < 0.0 {
        return Err(error::GEO_BOX_NEGATIVE);
    }
    Ok((Shape::Box { width, height }, unit_m(unit)?))
}

/// A member that was found.
struct Found {
    member: Box<[u8]>,
    score: f64,
    /// In the unit of the search.
    distance: f64,
    position: Position,
}

fn search(op: &mut Op, caller: Caller) -> Result<(), ReplyError> {
    let source = op.args.at(if caller == Caller::SearchStore { 2 } else { 1 });
    let exists = op.keys.read_sorted_set(source)?.is_some();
    let call = Call::read(op, caller, (source, exists))?;
    let mut found = match call.area() {
        Some(area) if exists => look(op, source, &area, if call.is_any { call.count } else { usize::MAX })?,
        _ => Vec::new(),
    };
    // The nearest are meant, unless any will do.
    let is_limited = call.count > 0 && !call.is_any;
    match call.sort.or(is_limited.then_some(Sort::Nearest)) {
        Some(Sort::Nearest) => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
        Some(Sort::Farthest) => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
        None => {}
    }
    if call.count > 0 {
        found.truncate(call.count);
    }
    match call.store {
        Some(destination) => store(op, caller, destination, &found, call.stores_distances),
        None => {
            reply_found(op, &found, &call);
            Ok(())
        }
    }
}

/// Looks through the cells of an area, until so many members were found.
fn look(op: &mut Op, source: &[u8], area: &Area, count_max: usize) -> Result<Vec<Found>, ReplyError> {
    let mut found = Vec::new();
    let Some(set) = op.keys.peek_sorted_set(source)? else {
        return Ok(found);
    };
    let mut digits = itoa::Buffer::new();
    for cell in area.score_ranges() {
        let range = ScoreRange {
            min: ScoreBound {
                score: cell.min,
                is_exclusive: false,
            },
            max: ScoreBound {
                score: cell.end,
                is_exclusive: true,
            },
        };
        for element in set.range(set.ranks_by_score(&range)) {
            if found.len() >= count_max {
                return Ok(found);
            }
            let position = Position::from_score(element.score);
            if let Some(distance_m) = area.distance_m(position) {
                found.push(Found {
                    member: element.member.as_bytes(&mut digits).into(),
                    score: element.score,
                    distance: distance_m / area.unit_m,
                    position,
                });
            }
        }
    }
    Ok(found)
}

fn reply_found(op: &mut Op, found: &[Found], call: &Call) {
    let more = [call.with_distance, call.with_hash, call.with_position];
    let more = more.into_iter().filter(|is_wanted| *is_wanted).count();
    op.reply.array(found.len());
    for one in found {
        if more > 0 {
            op.reply.array(1 + more);
        }
        op.reply.bulk(&one.member);
        if call.with_distance {
            reply_distance(&mut op.reply, one.distance);
        }
        if call.with_hash {
            op.reply.integer(one.score as i64);
        }
        if call.with_position {
            reply_position(&mut op.reply, one.position);
        }
    }
}

/// Stores what was found over whatever is under the key; nothing deletes the key.
fn store(
    op: &mut Op,
    caller: Caller,
    destination: &[u8],
    found: &[Found],
    stores_distances: bool,
) -> Result<(), ReplyError> {
    let score = |one: &Found| if stores_distances { one.distance } else { one.score };
    let mut set = SortedSet::new();
    for one in found {
        set.add(
            op.env.seed,
            &one.member,
            score(one),
            AddOptions::default(),
            &op.env.limits,
        );
    }
    if op.keys.replace(destination, set)? {
        let event = match caller {
            _ if found.is_empty() => Event::generic("del"),
            Caller::SearchStore => Event::sorted_set("geosearchstore"),
            _ => Event::sorted_set("georadiusstore"),
        };
        op.wrote_times(destination, event, found.len().max(1) as u64);
    }
    op.reply.integer(found.len() as i64);
    Ok(())
}
