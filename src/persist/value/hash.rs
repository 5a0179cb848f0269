//! Hashes.
//!
//! ```text
//! 16   a string that is a listpack of fields and values
//!  4   fields: length | for each: string (field), string (value)
//! 25   earliest expiry, i64 ms | a string that is a listpack of fields, values and expiries, by expiry; 0: none, at the end
//! 24   earliest expiry, i64 ms | fields: length | for each: length (expiry - earliest + 1; 0: none), string, string
//! 23   release candidates of 7.4: as 25, without the earliest
//! 22   the same: as 24, without the earliest, and each length is the expiry itself
//! 22   Valkey: fields: length | for each: string, string, expiry (i64 ms; -1: none)
//! 13   a string that is a ziplist of fields and values
//!  9   a string that is a zipmap
//! ```

use super::super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use super::{
    Distinct, HASH, HASH_LISTPACK, HASH_LISTPACK_EX, HASH_METADATA, Making, WITH_FIELD_EXPIRIES, pairs, read_old_pack,
    read_pack,
};
use crate::base::clock::UnixMs;
use crate::data::hash::{FieldExpiry, Hash, HashRef};
use crate::data::listpack::{Item, Listpack};
use crate::data::ziplist::Zipmap;

/// When nothing has expired yet: what is read is kept, whatever its expiry, and who looks for it finds out.
const BEGINNING: UnixMs = UnixMs(0);

/// What Valkey writes for a field without expiry.
const NO_EXPIRY_OF_VALKEY: i64 = -1;

fn add(hash: &mut Hash, field: &[u8], value: &[u8], expiry: Option<UnixMs>, making: Making<'_>) -> Result<(), Damage> {
    let (limits, seed) = (making.limits, making.seed);
    if !hash.set(field, value, FieldExpiry::Clear, BEGINNING, limits, seed) {
        return Err(Damage::Twice);
    }
    if expiry.is_some() {
        hash.set_expiry(field, expiry, BEGINNING, seed);
    }
    Ok(())
}

pub(super) fn read_fields(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Hash, RdbError> {
    let mut hash = Hash::new();
    for _ in 0..reader.length()? {
        let start = reader.offset();
        let (field, value) = (reader.string()?, reader.string()?);
        add(&mut hash, &field, &value, None, making).map_err(|damage| damage.at(start))?;
    }
    Ok(hash)
}

/// Takes over fields and values; with more or longer ones than a packed hash may have it becomes a table.
fn of_pack(pack: Listpack, making: Making<'_>) -> Result<Hash, Damage> {
    if !pack.len().is_multiple_of(2) {
        return Err(Damage::HalfPair);
    }
    let limits = making.limits;
    let mut longest = 0;
    let mut fields = Distinct::default();
    for (field, value) in pairs(&pack) {
        longest = longest.max(field.len()).max(value.map_or(0, |value| value.len()));
        if !fields.takes(field, || pairs(&pack).map(|(field, _)| field)) {
            return Err(Damage::Twice);
        }
    }
    if pack.len() / 2 <= limits.hash_max_listpack_entries && longest <= limits.hash_max_listpack_value {
        return Ok(Hash::Packed(pack));
    }
    let mut hash = Hash::new();
    let mut digits = [itoa::Buffer::new(); 2];
    let [of_field, of_value] = &mut digits;
    for (field, value) in pairs(&pack) {
        let value = value.ok_or(Damage::HalfPair)?;
        add(
            &mut hash,
            field.as_bytes(of_field),
            value.as_bytes(of_value),
            None,
            making,
        )?;
    }
    Ok(hash)
}

pub(super) fn read_listpack(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Hash, RdbError> {
    let start = reader.offset();
    of_pack(read_pack(reader)?, making).map_err(|damage| damage.at(start))
}

pub(super) fn read_ziplist(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Hash, RdbError> {
    let start = reader.offset();
    of_pack(read_old_pack(reader)?, making).map_err(|damage| damage.at(start))
}

pub(super) fn read_zipmap(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Hash, RdbError> {
    let start = reader.offset();
    let bytes = reader.string()?;
    let pack = Zipmap::new(&bytes).and_then(Zipmap::to_listpack);
    let pack = pack.map_err(|inner| Damage::Packed(inner).at(start))?;
    of_pack(pack, making).map_err(|damage| damage.at(start))
}

pub(super) fn read_expiring(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Hash, RdbError> {
    let earliest = u64::from_le_bytes(reader.array()?);
    read_after(reader, making, earliest)
}

/// The expiries of release candidates count from the first millisecond of all, which is as good as none.
pub(super) fn read_expiring_pre_ga(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Hash, RdbError> {
    read_after(reader, making, 1)
}

/// Fields whose expiries are told by how long they are after `earliest`, and one more.
fn read_after(reader: &mut RdbReader<'_>, making: Making<'_>, earliest: u64) -> Result<Hash, RdbError> {
    let mut hash = Hash::new();
    for _ in 0..reader.length()? {
        let start = reader.offset();
        let expiry = match reader.length()? {
            0 => None,
            after => Some(UnixMs(
                earliest.checked_add(after - 1).ok_or(Damage::Element.at(start))?,
            )),
        };
        let (field, value) = (reader.string()?, reader.string()?);
        add(&mut hash, &field, &value, expiry, making).map_err(|damage| damage.at(start))?;
    }
    Ok(hash)
}

pub(super) fn read_of_valkey(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Hash, RdbError> {
    let mut hash = Hash::new();
    for _ in 0..reader.length()? {
        let start = reader.offset();
        let (field, value) = (reader.string()?, reader.string()?);
        let expiry = match i64::from_le_bytes(reader.array()?) {
            NO_EXPIRY_OF_VALKEY => None,
            ms => Some(UnixMs(u64::try_from(ms).map_err(|_| Damage::Element.at(start))?)),
        };
        add(&mut hash, &field, &value, expiry, making).map_err(|damage| damage.at(start))?;
    }
    Ok(hash)
}

pub(super) fn read_expiring_listpack(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Hash, RdbError> {
    // The expiries themselves say which is the earliest.
    reader.take(8)?;
    read_expiring_listpack_pre_ga(reader, making)
}

pub(super) fn read_expiring_listpack_pre_ga(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<Hash, RdbError> {
    let start = reader.offset();
    let pack = read_pack(reader)?;
    let mut hash = Hash::new();
    let mut digits = [itoa::Buffer::new(); 2];
    let [of_field, of_value] = &mut digits;
    let mut items = pack.iter();
    while let Some(field) = items.next() {
        let (Some(value), Some(expiry)) = (items.next(), items.next()) else {
            return Err(Damage::HalfPair.at(start));
        };
        let expiry = expiry
            .to_i64()
            .and_then(|ms| u64::try_from(ms).ok())
            .ok_or(Damage::Element.at(start))?;
        let expiry = Some(UnixMs(expiry)).filter(|at| *at != BEGINNING);
        let (field, value) = (field.as_bytes(of_field), value.as_bytes(of_value));
        add(&mut hash, field, value, expiry, making).map_err(|damage| damage.at(start))?;
    }
    Ok(hash)
}

/// Answers the version whose form it took.
pub(super) fn write(writer: &mut RdbWriter<'_>, hash: HashRef<'_>, rdb_version: u16) -> u16 {
    let mut earliest: Option<UnixMs> = None;
    // The next expiry may be that of a field which has gone since.
    if hash.next_expiry().is_some() {
        hash.for_each_with_expiry(|_, _, expiry| earliest = earliest.into_iter().chain(expiry).min());
    }
    match (hash, earliest) {
        (HashRef::Packed(pack), _) => {
            writer.kind(HASH_LISTPACK);
            writer.string(pack.as_bytes());
        }
        (HashRef::PackedTtl(_), None) => {
            let mut pack = Listpack::new();
            hash.for_each_with_expiry(|field, value, _| {
                pack.push_item(field);
                pack.push_item(value);
            });
            writer.kind(HASH_LISTPACK);
            writer.string(pack.as_bytes());
        }
        (HashRef::PackedTtl(_), Some(earliest)) => {
            writer.kind(HASH_LISTPACK_EX);
            writer.raw(&earliest.0.to_le_bytes());
            writer.string(by_expiry(hash).as_bytes());
        }
        (HashRef::Table(_), earliest) => {
            begin(writer, hash.len(), earliest, rdb_version);
            hash.for_each_with_expiry(|field, value, expiry| {
                let (mut field_digits, mut value_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
                let (field, value) = (field.as_bytes(&mut field_digits), value.as_bytes(&mut value_digits));
                write_field(writer, field, value, expiry, earliest);
            });
        }
    }
    version_for(earliest, rdb_version)
}

fn version_for(earliest: Option<UnixMs>, rdb_version: u16) -> u16 {
    match earliest {
        Some(_) => rdb_version.max(WITH_FIELD_EXPIRIES),
        None => rdb_version,
    }
}

/// The beginning of a table. Answers the version whose form it takes.
pub(super) fn begin(writer: &mut RdbWriter<'_>, len: usize, earliest: Option<UnixMs>, rdb_version: u16) -> u16 {
    match earliest {
        None => writer.kind(HASH),
        Some(earliest) => {
            writer.kind(HASH_METADATA);
            writer.raw(&earliest.0.to_le_bytes());
        }
    }
    writer.length(len as u64);
    version_for(earliest, rdb_version)
}

/// A field of a table; `earliest` is what the table began with.
pub(super) fn write_field(
    writer: &mut RdbWriter<'_>,
    field: &[u8],
    value: &[u8],
    expiry: Option<UnixMs>,
    earliest: Option<UnixMs>,
) {
    if let Some(earliest) = earliest {
        writer.length(expiry.map_or(0, |at| at.0.saturating_sub(earliest.0) + 1));
    }
    writer.string(field);
    writer.string(value);
}

/// Fields, values and expiries in the order in which they expire, as Redis keeps them.
fn by_expiry(hash: HashRef<'_>) -> Listpack {
    let mut fields: Vec<(Item<'_>, Item<'_>, Option<UnixMs>)> = Vec::with_capacity(hash.len());
    hash.for_each_with_expiry(|field, value, expiry| fields.push((field, value, expiry)));
    fields.sort_by_key(|(_, _, expiry)| expiry.map_or(u64::MAX, |at| at.0));
    let mut pack = Listpack::new();
    for (field, value, expiry) in fields {
        pack.push_item(field);
        pack.push_item(value);
        pack.push_int(expiry.map_or(0, |at| at.signed()));
    }
    pack
}
