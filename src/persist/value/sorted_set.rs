//! Sorted sets.
//!
//! ```text
//! 17   a string that is a listpack of members and scores
//!  5   elements: length | for each, from the greatest: string (member), f64 (score)
//!  3   elements: length | for each: string (member), score as text behind its length; 253 nan, 254 inf, 255 -inf
//! 12   a string that is a ziplist of members and scores
//! ```

use super::super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use super::{Making, ZSET_2, ZSET_LISTPACK, pairs, read_old_pack, read_pack};
use crate::base::numbers::parse_f64;
use crate::data::listpack::Item;
use crate::data::sorted_set::{AddOptions, AddOutcome, SortedSet, SortedSetRef};

/// Lengths of a score's text that are none.
const NOT_A_NUMBER: u8 = 253;
const INFINITE: u8 = 254;
const MINUS_INFINITE: u8 = 255;

/// How a score is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Score {
    Text,
    Binary,
}

fn add(set: &mut SortedSet, member: &[u8], score: f64, making: Making<'_>) -> Result<(), Damage> {
    if score.is_nan() {
        return Err(Damage::Score);
    }
    match set.add(making.seed, member, score, AddOptions::default(), making.limits) {
        AddOutcome::Added(_) => Ok(()),
        _ => Err(Damage::Twice),
    }
}

pub(super) fn read_elements(
    reader: &mut RdbReader<'_>,
    making: Making<'_>,
    form: Score,
) -> Result<SortedSet, RdbError> {
    let mut set = SortedSet::new();
    for _ in 0..reader.length()? {
        let start = reader.offset();
        let member = reader.string()?;
        let score = match form {
            Score::Binary => f64::from_le_bytes(reader.array()?),
            Score::Text => match reader.byte()? {
                NOT_A_NUMBER => f64::NAN,
                INFINITE => f64::INFINITY,
                MINUS_INFINITE => f64::NEG_INFINITY,
                length => {
                    let text = reader.take(u64::from(length))?;
                    parse_f64(text).ok_or(Damage::Score.at(start))?
                }
            },
        };
        add(&mut set, &member, score, making).map_err(|damage| damage.at(start))?;
    }
    Ok(set)
}

pub(super) fn read_listpack(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<SortedSet, RdbError> {
    let start = reader.offset();
    let pack = read_pack(reader)?;
    let packed = SortedSet::from_listpack(pack).ok_or(Damage::Element.at(start))?;
    let mut digits = itoa::Buffer::new();
    let is_small = packed.len() <= making.limits.zset_max_listpack_entries
        && packed
            .as_ref()
            .iter()
            .all(|element| element.member.len() <= making.limits.zset_max_listpack_value);
    if is_small {
        return Ok(packed);
    }
    let mut set = SortedSet::new();
    for element in packed.as_ref().iter() {
        let member = element.member.as_bytes(&mut digits);
        add(&mut set, member, element.score, making).map_err(|damage| damage.at(start))?;
    }
    Ok(set)
}

pub(super) fn read_ziplist(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<SortedSet, RdbError> {
    let start = reader.offset();
    let pack = read_old_pack(reader)?;
    let mut set = SortedSet::new();
    let mut digits = itoa::Buffer::new();
    for (member, score) in pairs(&pack) {
        let score = score.ok_or(Damage::HalfPair.at(start))?;
        let score = match score {
            Item::Int(integer) => integer as f64,
            Item::Bytes(text) => parse_f64(text).ok_or(Damage::Score.at(start))?,
        };
        let member = member.as_bytes(&mut digits);
        add(&mut set, member, score, making).map_err(|damage| damage.at(start))?;
    }
    Ok(set)
}

pub(super) fn write(writer: &mut RdbWriter<'_>, set: SortedSetRef<'_>) {
    if let SortedSetRef::Packed(pack) = set {
        writer.kind(ZSET_LISTPACK);
        writer.string(pack.as_bytes());
        return;
    }
    begin(writer, set.len());
    let mut digits = itoa::Buffer::new();
    // From the end, so that who reads it into an ordered list always adds at its head.
    for element in set.iter().rev() {
        write_element(writer, element.member.as_bytes(&mut digits), element.score);
    }
}

/// The beginning of elements one by one.
pub(super) fn begin(writer: &mut RdbWriter<'_>, len: usize) {
    writer.kind(ZSET_2);
    writer.length(len as u64);
}

pub(super) fn write_element(writer: &mut RdbWriter<'_>, member: &[u8], score: f64) {
    writer.string(member);
    writer.raw(&score.to_le_bytes());
}
