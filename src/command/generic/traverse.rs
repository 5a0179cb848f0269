//! KEYS, RANDOMKEY and SCAN: the keyspace as a whole.
//!
//! # SCAN's cursor
//!
//! ```text
//!   52        38 37                      0
//!  +------------+-------------------------+
//!  |    slot    |  position in its table  |
//!  +------------+-------------------------+
//! ```
//!
//! 52 bits, because some clients keep it in a double. 0 begins and ends: slot 0 from its beginning is where one begins, and
//! nowhere else. What a position is, and why an entry that stays is never missed while its table grows and shrinks, is the
//! store's affair (`store::scan`); a slot that is on loan, or has moved to another shard, is waited for or found there, as for any
//! command, since the cursor's slot is what the call runs over.
//!
//! A call begins at the cursor's slot and goes on over the following ones, wherever they are, until it has visited COUNT
//! keys: a data set that is smaller comes whole in one call. Slots without keys cost nothing against COUNT, and next to
//! nothing otherwise: those of which nobody has said that they may have keys are passed over without being held
//! (`store::Occupancy`).
//!
//! # Slots of other shards
//!
//! The call is a unit of work over the cursor's slot, and runs where that is at home. Before it visits anything it looks
//! whether it will have to leave the slots that are here ([`Scan::borrow_ahead`]), and then it lacks, in one go, as many of those
//! that may have keys as are wanted at most; so it runs again with a loan of at most COUNT slots, and nothing has been
//! visited in vain. In a large keyspace that happens once at the end of each shard's range. What the
//! loan brings may turn out to be empty, if keys have gone since: then the next loan is twice as large, and what was found
//! empty is forgotten.
//!
//! A pattern that fixes the hash tag (`{user:7}:*`, or no wildcard at all) can only match keys of one slot: then that slot is all
//! that SCAN and KEYS look at.

use crate::base::glob;
use crate::base::slot::{SLOT_COUNT, key_slot};
use crate::engine::arguments::{Options, numbers};
use crate::engine::{Command, Keyspace, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::shard::SlotSet;
use crate::spec::{ArgumentKind, Categories, Flags, Group, arg, command};
use crate::store::{EntryRef, Occupancy, POSITION_BITS};

pub(super) const KEYS: Command = Command {
    summary: "Lists all keys whose names match a pattern.",
    since: "1.0.0",
    group: Group::Generic,
    complexity: "O(N) for the N keys of the db, names and pattern being of limited length.",
    arity: 2,
    flags: Flags::READONLY,
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    tips: &["request_policy:all_shards", "nondeterministic_output_order"],
    arguments: &[arg("pattern", ArgumentKind::Pattern)],
    ..command("keys", Run::Slots(keys_slots, keys))
};

fn keys_slots(args: Args) -> Result<SlotSet, ReplyError> {
    let pattern = args.at(1);
    Ok(one_slot(slot_of_pattern(pattern).unwrap_or_else(|| key_slot(pattern))))
}

fn keys(op: &mut Op) -> Result<(), ReplyError> {
    let pattern = op.args.at(1);
    let (db, now) = (op.keys.db, op.keys.moment.now);
    let mark = op.reply.deferred();
    let mut count = 0;
    let mut list = |entry: EntryRef<'_>| {
        if pattern == b"*" || glob::matches(pattern, entry.key()) {
            op.reply.bulk(entry.key());
            count += 1;
        }
    };
    if let Some(only) = slot_of_pattern(pattern) {
        op.keys.numbered(only)?.for_each(db, now, &mut list);
    } else if op.keys.view.has_everything() {
        let slots = op.keys.view.all_slots().into_iter().flatten();
        slots.for_each(|(_, slot)| slot.for_each(db, now, &mut list));
    } else {
        return Err(op.keys.need_everything());
    }
    op.reply.end_array(mark, count);
    Ok(())
}

pub(super) const RANDOMKEY: Command = Command {
    summary: "Names a key of the db, each with the same chance.",
    since: "1.0.0",
    group: Group::Generic,
    complexity: "O(1)",
    arity: 1,
    flags: Flags::READONLY,
    categories: Categories::KEYSPACE,
    tips: &[
        "request_policy:all_shards",
        "response_policy:special",
        "nondeterministic_output",
    ],
    ..command("randomkey", Run::Everything(randomkey))
};

fn randomkey(op: &mut Op) -> Result<(), ReplyError> {
    let (db, moment) = (op.keys.db, op.keys.moment);
    let Some(slots) = op.keys.view.all_slots() else {
        return Err(op.keys.need_everything());
    };
    let mut counts: Vec<(u16, usize)> = slots
        .map(|(number, slot)| (number, slot.len(db)))
        .filter(|(_, count)| *count > 0)
        .collect();
    loop {
        let total: usize = counts.iter().map(|(_, count)| count).sum();
        if total == 0 {
            op.reply.null();
            return Ok(());
        }
        let mut drawn = op.env.random.below(total);
        let chosen = counts.iter_mut().find(|(_, count)| {
            let is_here = drawn < *count;
            drawn = drawn.saturating_sub(*count);
            is_here
        });
        let (number, count) = chosen.expect("what was drawn is below the sum of the counts");
        if let Some(entry) = op.keys.numbered(*number)?.random_key(db, &mut op.env.random, moment) {
            op.reply.bulk(entry.key());
            return Ok(());
        }
        // Whatever there is in that slot is over, gone or kept: it is not drawn again.
        *count = 0;
    }
}

pub(super) const SCAN: Command = Command {
    summary: "Lists the keys of the db piece by piece.",
    since: "2.8.0",
    group: Group::Generic,
    complexity: "O(1) for a call, O(N) for all the calls that walk through N keys.",
    arity: -2,
    flags: Flags::READONLY,
    categories: Categories::KEYSPACE,
    tips: &[
        "nondeterministic_output",
        "request_policy:special",
        "response_policy:special",
    ],
    arguments: &[
        arg("cursor", ArgumentKind::Integer),
        arg("pattern", ArgumentKind::Pattern).token("MATCH").optional(),
        arg("count", ArgumentKind::Integer).token("COUNT").optional(),
        arg("type", ArgumentKind::String)
            .token("TYPE")
            .optional()
            .since("6.0.0"),
    ],
    history: &[("6.0.0", "The option `TYPE`.")],
    ..command("scan", Run::Slots(scan_slots, scan))
};

fn scan_slots(args: Args) -> Result<SlotSet, ReplyError> {
    let scan = Scan::parse(args)?;
    Ok(one_slot(scan.start.map_or(0, |start| start.slot)))
}

fn scan(op: &mut Op) -> Result<(), ReplyError> {
    let scan = Scan::parse(op.args)?;
    let (db, moment) = (op.keys.db, op.keys.moment);
    let occupancy = &op.env.occupancy;
    if let Some(start) = scan.start {
        scan.borrow_ahead(&mut op.keys, occupancy, start, scan.count)?;
    }
    let mut found: Vec<Box<[u8]>> = Vec::new();
    let mut left = scan.count;
    let mut next = scan.start;
    while left > 0 {
        next = next.and_then(|from| scan.next_occupied(&op.keys, occupancy, from));
        let Some(cursor) = next else { break };
        let after = match op.keys.view.peek(cursor.slot) {
            None => {
                // There were fewer keys before it than it seemed.
                scan.borrow_ahead(&mut op.keys, occupancy, cursor, left)?;
                unreachable!("the slot of the cursor is lacking at least");
            }
            Some(slot) if slot.len(db) == 0 => {
                // A transaction may be rolled back, and have keys there again; and that a key is gone is not said before it is written.
                if !op.caller.is_nested && !op.env.has_unwritten() {
                    occupancy.settle(slot);
                }
                None
            }
            Some(_) => {
                let slot = op.keys.numbered(cursor.slot)?;
                slot.scan(db, cursor.position, left, moment, |entry| {
                    left = left.saturating_sub(1);
                    if scan.wants(entry) {
                        found.push(entry.key().into());
                    }
                })
            }
        };
        next = match after {
            Some(position) => Some(Cursor { position, ..cursor }),
            None if scan.only.is_some() => None,
            None => cursor.next_slot(),
        };
    }
    let next = next.and_then(|from| scan.next_occupied(&op.keys, occupancy, from));
    op.reply.array(2);
    op.reply
        .bulk(itoa::Buffer::new().format(next.map_or(0, Cursor::number)).as_bytes());
    op.reply.array(found.len());
    for key in &found {
        op.reply.bulk(key);
    }
    Ok(())
}

/// Keys that a call visits without COUNT.
const COUNT_DEFAULT: usize = 10;

/// Where a walk stands: the next slot, and the position in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    slot: u16,
    position: u64,
}

impl Cursor {
    /// Reads a cursor. `None` is one beyond the last slot: some number that never was a cursor of ours.
    fn parse(text: &[u8]) -> Result<Option<Cursor>, ReplyError> {
        let number = numbers::cursor(text)?;
        let slot = number >> POSITION_BITS;
        let position = number & ((1 << POSITION_BITS) - 1);
        Ok(u16::try_from(slot)
            .ok()
            .filter(|slot| usize::from(*slot) < SLOT_COUNT)
            .map(|slot| Cursor { slot, position }))
    }

    fn number(self) -> u64 {
        u64::from(self.slot) << POSITION_BITS | self.position
    }

    /// The beginning of the next slot, if there is one.
    fn next_slot(self) -> Option<Cursor> {
        (usize::from(self.slot) + 1 < SLOT_COUNT).then_some(Cursor {
            slot: self.slot + 1,
            position: 0,
        })
    }
}

/// A call of SCAN, understood.
struct Scan<'a> {
    /// Where to begin; `None`: there is nothing to visit.
    start: Option<Cursor>,
    /// The only slot whose keys can match.
    only: Option<u16>,
    pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
    count: usize,
}

impl<'a> Scan<'a> {
    fn parse(args: Args<'a>) -> Result<Scan<'a>, ReplyError> {
        let mut scan = Scan {
            start: Cursor::parse(args.at(1))?,
            only: None,
            pattern: None,
            type_name: None,
            count: COUNT_DEFAULT,
        };
        let mut options = Options::behind(args, 2);
        while !options.is_empty() {
            if options.flag(b"COUNT") {
                let count = options.integer()?;
                scan.count = usize::try_from(count)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or(error::SYNTAX)?;
            } else if options.flag(b"MATCH") {
                scan.pattern = Some(options.word()?);
            } else if options.flag(b"TYPE") {
                scan.type_name = Some(options.word()?);
            } else {
                return Err(error::SYNTAX);
            }
        }
        scan.only = scan.pattern.and_then(slot_of_pattern);
        if let (Some(only), Some(start)) = (scan.only, scan.start) {
            scan.start = match start.slot.cmp(&only) {
                std::cmp::Ordering::Less => Some(Cursor {
                    slot: only,
                    position: 0,
                }),
                std::cmp::Ordering::Equal => Some(start),
                std::cmp::Ordering::Greater => None,
            };
        }
        // What matches everything need not be tried on each key. (`*` does not match the empty key, in Redis neither; but
        // Redis leaves the pattern out as well.)
        scan.pattern = scan.pattern.filter(|pattern| *pattern != b"*");
        Ok(scan)
    }

    fn wants(&self, entry: EntryRef<'_>) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, entry.key()))
            && self
                .type_name
                .is_none_or(|name| name.eq_ignore_ascii_case(entry.type_of().name().as_bytes()))
    }
}

impl Scan<'_> {
    /// The first slot from `cursor` on that may have keys which this call wants, and the position in it.
    fn next_occupied(&self, keys: &Keyspace, occupancy: &Occupancy, cursor: Cursor) -> Option<Cursor> {
        let slot = occupancy
            .next_occupied(keys.db, cursor.slot)
            .filter(|slot| self.only.is_none_or(|only| only == *slot))?;
        Some(if slot == cursor.slot {
            cursor
        } else {
            Cursor { slot, position: 0 }
        })
    }

    /// Asks for the slots that are lacking to visit `wanted` keys from `cursor` on, if any are.
    fn borrow_ahead(
        &self,
        keys: &mut Keyspace,
        occupancy: &Occupancy,
        cursor: Cursor,
        wanted: usize,
    ) -> Result<(), ReplyError> {
        let mut lacking = SlotSet::new();
        let (mut expected_count, mut empty_count) = (0, 0);
        let mut next = Some(cursor);
        while let Some(cursor) = next.and_then(|from| self.next_occupied(keys, occupancy, from)) {
            match keys.view.peek(cursor.slot) {
                Some(slot) => {
                    let count = slot.len(keys.db);
                    // Positions are in the order of hashes, so what lies before one is its share of the keys.
                    let passed = (count as u128 * u128::from(cursor.position)) >> POSITION_BITS;
                    expected_count += count - passed as usize;
                    let is_borrowed = keys.view.owner(cursor.slot) != keys.view.shard();
                    empty_count += usize::from(count == 0 && is_borrowed);
                }
                None => {
                    lacking.insert(cursor.slot);
                }
            }
            let is_enough = expected_count + lacking.len() >= wanted;
            // As many again as have been borrowed in vain.
            if is_enough && (lacking.is_empty() || lacking.len() >= empty_count) {
                break;
            }
            next = cursor.next_slot();
        }
        if lacking.is_empty() {
            return Ok(());
        }
        Err(keys.need_slots(&lacking))
    }
}

fn one_slot(slot: u16) -> SlotSet {
    std::iter::once(slot).collect()
}

/// The only slot whose keys can match a pattern, if the pattern fixes it: when nothing up to the end of its hash tag is a
/// wildcard, or when nothing at all is.
fn slot_of_pattern(pattern: &[u8]) -> Option<u16> {
    if glob::is_literal(pattern) {
        return Some(key_slot(pattern));
    }
    let open = memchr::memchr(b'{', pattern)?;
    let length = memchr::memchr(b'}', &pattern[open + 1..]).filter(|length| *length > 0)?;
    let fixed = &pattern[..open + 1 + length + 1];
    glob::is_literal(fixed).then(|| key_slot(fixed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::data::access::Moment;
    use crate::data::string::StringForm;
    use crate::resp::OwnedArgs;
    use crate::store::{DbIndex, Expiry, HashSeed, Slot};

    #[test]
    fn cursors_fit_a_double_and_come_back() {
        let last = Cursor {
            slot: 16383,
            position: (1 << POSITION_BITS) - 1,
        };
        assert!(last.number() < 1 << 53);
        for cursor in [last, Cursor { slot: 0, position: 1 }, Cursor { slot: 7, position: 0 }] {
            assert_eq!(Cursor::parse(cursor.number().to_string().as_bytes()), Ok(Some(cursor)));
        }
        assert_eq!(Cursor::parse(b"18446744073709551615"), Ok(None));
        assert_eq!(Cursor::parse(b" -1"), Ok(None));
        assert_eq!(last.next_slot(), None);
        for text in [
            &b"x"[..],
            b"-",
            b"+",
            b"--1",
            b"-1",
            b"",
            b" ",
            b"\0",
            b"0 ",
            b"0x10",
            b"18446744073709551616",
        ] {
            assert_eq!(Cursor::parse(text), Err(error::INVALID_CURSOR));
        }
        let start = Ok(Some(Cursor { slot: 0, position: 0 }));
        for text in [&b"0"[..], b"00", b"\t\x0b 0", b"-0", b"+0", b"0\0x"] {
            assert_eq!(Cursor::parse(text), start, "{}", text.escape_ascii());
        }
        assert_eq!(Cursor::parse(b"-18446744073709551615"), Cursor::parse(b"+01"));
    }

    #[test]
    fn patterns_that_fix_the_slot() {
        let tagged = Some(key_slot(b"tag"));
        assert_eq!(slot_of_pattern(b"{tag}*"), tagged);
        assert_eq!(slot_of_pattern(b"a{tag}?"), tagged);
        assert_eq!(slot_of_pattern(b"plain"), Some(key_slot(b"plain")));
        for pattern in [
            &b"*{tag}"[..],
            b"{t*}",
            b"{}*",
            b"{tag*",
            b"a\\{tag}*",
            b"[{tag}]*",
            b"*",
        ] {
            assert_eq!(slot_of_pattern(pattern), None, "{}", pattern.escape_ascii());
        }
    }

    #[test]
    fn options_are_read_in_any_order() {
        let parse = |words: &[&str]| {
            let args = OwnedArgs::from_slices(words);
            Scan::parse(args.as_args()).map(|scan| (scan.start, scan.count))
        };
        let slot = key_slot(b"t");
        let start = Cursor { slot, position: 0 };
        assert_eq!(
            parse(&["scan", "0", "COUNT", "3", "match", "{t}*"]),
            Ok((Some(start), 3))
        );
        let beyond = Cursor {
            slot: slot + 1,
            position: 0,
        }
        .number()
        .to_string();
        assert_eq!(parse(&["scan", &beyond, "match", "{t}*"]), Ok((None, 10)));
        assert_eq!(parse(&["scan", "0", "count", "0"]), Err(error::SYNTAX));
        assert_eq!(parse(&["scan", "0", "count", "x"]), Err(error::NOT_AN_INTEGER));
        assert_eq!(parse(&["scan", "0", "count"]), Err(error::SYNTAX));
        assert_eq!(parse(&["scan", "0", "novalues", "x"]), Err(error::SYNTAX));
    }

    /// The promise over one slot's table, through cursors as a client sees them.
    #[test]
    fn keys_that_stay_are_met_while_others_come_and_go() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let moment = Moment::lru(UnixMs(1));
            let mut slot = Slot::new(3, HashSeed([seed, 7]));
            let db = DbIndex(0);
            let set = |slot: &mut Slot, key: &[u8]| {
                slot.set_string(db, key, b"v", StringForm::Detect, Expiry::Clear, moment);
            };
            for number in 0..500 {
                set(&mut slot, format!("stays:{number}").as_bytes());
            }
            let mut met = std::collections::HashSet::new();
            let mut cursor = Cursor { slot: 3, position: 0 };
            loop {
                for _ in 0..random.usize(..40) {
                    let key = format!("guest:{}", random.usize(..5000));
                    if random.bool() {
                        set(&mut slot, key.as_bytes());
                    } else {
                        slot.remove(db, key.as_bytes(), moment);
                    }
                }
                let text = cursor.number().to_string();
                cursor = Cursor::parse(text.as_bytes()).expect("a number").expect("a slot");
                let visit = |entry: EntryRef<'_>| {
                    met.insert(entry.key().to_vec());
                };
                match slot.scan(db, cursor.position, random.usize(1..30), moment, visit) {
                    Some(position) => cursor.position = position,
                    None => break,
                }
            }
            for number in 0..500 {
                assert!(
                    met.contains(format!("stays:{number}").as_bytes()),
                    "seed {seed}, key {number}"
                );
            }
        }
    }
}
