//! Sets.
//!
//! ```text
//! 11   a string that is an intset
//! 20   a string that is a listpack of members
//!  2   members: length | for each: string
//! ```

use super::super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use super::{Distinct, Making, SET, SET_INTSET, SET_LISTPACK, WITH_PACKED_SETS, read_pack};
use crate::data::intset::Intset;
use crate::data::listpack::Item;
use crate::data::set::{Set, SetRef};

fn collect<'i>(members: impl ExactSizeIterator<Item = Item<'i>>, making: Making<'_>) -> Result<Set, Damage> {
    let mut set = Set::default();
    set.prepare(members.len(), making.limits, making.seed);
    let mut digits = itoa::Buffer::new();
    for member in members {
        if !set.add(member.as_bytes(&mut digits), making.limits, making.seed) {
            return Err(Damage::Twice);
        }
    }
    Ok(set)
}

pub(super) fn read_members(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Set, RdbError> {
    let mut set = Set::default();
    for _ in 0..reader.length()? {
        let start = reader.offset();
        if !set.add(&reader.string()?, making.limits, making.seed) {
            return Err(Damage::Twice.at(start));
        }
    }
    Ok(set)
}

pub(super) fn read_intset(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Set, RdbError> {
    let start = reader.offset();
    let bytes = reader.string()?;
    let ints = Intset::from_bytes(&bytes).map_err(|inner| Damage::Packed(inner).at(start))?;
    if ints.len() <= making.limits.set_max_intset_entries {
        return Ok(Set::Ints(ints));
    }
    collect(ints.items(), making).map_err(|damage| damage.at(start))
}

pub(super) fn read_listpack(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Set, RdbError> {
    let start = reader.offset();
    let pack = read_pack(reader)?;
    let mut longest = 0;
    let mut members = Distinct::default();
    for member in pack.iter() {
        longest = longest.max(member.len());
        if !members.takes(member, || pack.iter()) {
            return Err(Damage::Twice.at(start));
        }
    }
    if pack.len() <= making.limits.set_max_listpack_entries && longest <= making.limits.set_max_listpack_value {
        return Ok(Set::Packed(pack));
    }
    let members: Vec<Item<'_>> = pack.iter().collect();
    collect(members.into_iter(), making).map_err(|damage| damage.at(start))
}

pub(super) fn write(writer: &mut RdbWriter<'_>, set: SetRef<'_>, rdb_version: u16) {
    match set {
        SetRef::Ints(ints) => {
            writer.kind(SET_INTSET);
            writer.string(ints.as_bytes());
        }
        SetRef::Packed(pack) if rdb_version >= WITH_PACKED_SETS => {
            writer.kind(SET_LISTPACK);
            writer.string(pack.as_bytes());
        }
        SetRef::Packed(_) | SetRef::Table(_) => {
            begin(writer, set.len());
            set.for_each(|member| writer.string(member.as_bytes(&mut itoa::Buffer::new())));
        }
    }
}

/// The beginning of members one by one.
pub(super) fn begin(writer: &mut RdbWriter<'_>, len: usize) {
    writer.kind(SET);
    writer.length(len as u64);
}
