//! Streams.
//!
//! ```text
//! blocks: length | for each: string of 16 bytes (ID of its master entry, big-endian), string (listpack)
//! entries: length | last ID: length, length
//! from 19 on: first ID | greatest deleted ID | entries ever added          (lengths)
//! groups: length | for each:
//!   string (name) | last delivered ID | from 19 on: entries read, all bits set if not known
//!   pending: length | for each: 16 bytes (ID) | delivered at, i64 ms | length (deliveries)
//!   consumers: length | for each:
//!     string (name) | seen at, i64 ms | from 21 on: active at, i64 ms, -1 for never
//!     pending: length | for each: 16 bytes (ID, one of the group's)
//! ```

use super::super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use super::{STREAM_LISTPACKS_2, STREAM_LISTPACKS_3, WITH_ACTIVE_TIMES};
use crate::base::clock::UnixMs;
use crate::data::listpack::Listpack;
use crate::data::stream::{Block, ConsumerHead, Group, GroupHead, Numbers, Pending, Stream, StreamId};
use hashbrown::HashMap;

/// What is said of a consumer that was never given an entry.
const NEVER: i64 = -1;
/// What is said of a group of which it is not known how much it has read.
const NOT_KNOWN: u64 = u64::MAX;

/// `layout` is 1, 2 or 3.
pub(super) fn read(reader: &mut RdbReader<'_>, layout: u8) -> Result<Stream, RdbError> {
    let start = reader.offset();
    let contradiction = |_| Damage::Stream.at(start);
    let mut stream = Stream::new();
    for _ in 0..reader.length()? {
        let block_start = reader.offset();
        let name = reader.string()?;
        let id = <[u8; 16]>::try_from(&name[..]).map_err(|_| Damage::Stream.at(block_start))?;
        let bytes = reader.string()?;
        let pack = Listpack::from_bytes(&bytes).map_err(|inner| Damage::Packed(inner).at(block_start))?;
        stream
            .entries
            .append_block(id_of(id), pack)
            .map_err(|_| Damage::Stream.at(block_start))?;
    }
    let entry_count = reader.length()?;
    if entry_count != stream.entries.len() {
        return Err(Damage::Stream.at(start));
    }
    let last_id = id(reader)?;
    let (mut max_deleted_id, mut added) = (StreamId::MIN, entry_count);
    if layout >= 2 {
        // The first ID is found by looking, which is surer.
        id(reader)?;
        max_deleted_id = id(reader)?;
        added = reader.length()?;
    }
    if added < entry_count {
        return Err(Damage::Stream.at(start));
    }
    stream
        .entries
        .restore(last_id, max_deleted_id, added)
        .map_err(contradiction)?;
    for _ in 0..reader.length()? {
        let group = read_group(reader, layout, &stream)?;
        if !stream.groups.add(group) {
            return Err(Damage::Twice.at(start));
        }
    }
    Ok(stream)
}

fn read_group(reader: &mut RdbReader<'_>, layout: u8, stream: &Stream) -> Result<Group, RdbError> {
    let start = reader.offset();
    let name = reader.string()?;
    let last_delivered_id = id(reader)?;
    let entries_read = match layout {
        1 => stream.entries.count_up_to(last_delivered_id),
        _ => Some(reader.length()?).filter(|count| *count != NOT_KNOWN),
    };
    let mut group = Group::new(&name, last_delivered_id, entries_read);
    let mut deliveries: HashMap<StreamId, (UnixMs, u64)> = HashMap::new();
    for _ in 0..reader.length()? {
        let id = id_of(reader.array()?);
        let delivered_at = time(reader)?;
        let count = reader.length()?;
        if deliveries.insert(id, (delivered_at, count)).is_some() {
            return Err(Damage::Twice.at(start));
        }
    }
    for _ in 0..reader.length()? {
        let name = reader.string()?;
        let seen_at = time(reader)?;
        let active_at = match layout {
            1 | 2 => Some(seen_at),
            _ => match i64::from_le_bytes(reader.array()?) {
                NEVER => None,
                ms => Some(UnixMs::from_signed(ms)),
            },
        };
        let (consumer, is_new) = group.add_consumer(&name, seen_at);
        if !is_new {
            return Err(Damage::Twice.at(start));
        }
        group.numbered_mut(consumer).active_at = active_at;
        for _ in 0..reader.length()? {
            let id = id_of(reader.array()?);
            // One that is no longer there was another consumer's too, or never the group's.
            let (delivered_at, count) = deliveries.remove(&id).ok_or(Damage::Stream.at(start))?;
            group.set_pending(id, consumer, delivered_at, count);
        }
    }
    if !deliveries.is_empty() {
        return Err(Damage::Stream.at(start));
    }
    Ok(group)
}

fn id(reader: &mut RdbReader<'_>) -> Result<StreamId, RdbError> {
    Ok(StreamId::new(reader.length()?, reader.length()?))
}

fn id_of(bytes: [u8; 16]) -> StreamId {
    let both = u128::from_be_bytes(bytes);
    StreamId::new((both >> 64) as u64, both as u64)
}

fn time(reader: &mut RdbReader<'_>) -> Result<UnixMs, RdbError> {
    Ok(UnixMs::from_signed(i64::from_le_bytes(reader.array()?)))
}

pub(super) fn write(writer: &mut RdbWriter<'_>, stream: &Stream, rdb_version: u16) {
    begin(writer, stream.entries.block_count(), rdb_version);
    for block in stream.entries.blocks() {
        write_block(writer, block);
    }
    write_numbers(writer, &stream.entries.numbers(), stream.groups.len());
    for group in stream.groups.iter() {
        write_whole_group(writer, group, rdb_version);
    }
}

/// The beginning of a stream's blocks.
pub(super) fn begin(writer: &mut RdbWriter<'_>, block_count: usize, rdb_version: u16) {
    writer.kind(if rdb_version >= WITH_ACTIVE_TIMES {
        STREAM_LISTPACKS_3
    } else {
        STREAM_LISTPACKS_2
    });
    writer.length(block_count as u64);
}

pub(super) fn write_block(writer: &mut RdbWriter<'_>, block: &Block) {
    writer.string(&bytes_of(block.id()));
    writer.string(block.listpack().as_bytes());
}

/// What stands behind the blocks: the groups follow.
pub(super) fn write_numbers(writer: &mut RdbWriter<'_>, numbers: &Numbers, group_count: usize) {
    writer.length(numbers.len);
    for id in [numbers.last_id, numbers.first_id, numbers.max_deleted_id] {
        write_id(writer, id);
    }
    writer.length(numbers.added);
    writer.length(group_count as u64);
}

fn write_whole_group(writer: &mut RdbWriter<'_>, group: &Group, rdb_version: u16) {
    write_group(writer, &group.head());
    for pending in group.pending_from(StreamId::MIN) {
        write_pending(writer, pending);
    }
    write_consumer_count(writer, group.consumer_count());
    for consumer in group.consumers() {
        write_consumer(writer, &consumer.head(), rdb_version);
        for id in consumer.pending_from(StreamId::MIN) {
            write_ids(writer, &[id]);
        }
    }
}

/// The beginning of a group: its pending entries follow, then its consumers, each with its IDs.
pub(super) fn write_group(writer: &mut RdbWriter<'_>, group: &GroupHead<'_>) {
    writer.string(group.name);
    write_id(writer, group.last_delivered_id);
    writer.length(group.entries_read.unwrap_or(NOT_KNOWN));
    writer.length(group.pending_count as u64);
}

pub(super) fn write_pending(writer: &mut RdbWriter<'_>, pending: &Pending) {
    writer.raw(&bytes_of(pending.id));
    writer.raw(&pending.delivered_at.signed().to_le_bytes());
    writer.length(pending.delivery_count);
}

pub(super) fn write_consumer_count(writer: &mut RdbWriter<'_>, count: usize) {
    writer.length(count as u64);
}

pub(super) fn write_consumer(writer: &mut RdbWriter<'_>, consumer: &ConsumerHead<'_>, rdb_version: u16) {
    writer.string(consumer.name);
    writer.raw(&consumer.seen_at.signed().to_le_bytes());
    if rdb_version >= WITH_ACTIVE_TIMES {
        let active_at = consumer.active_at.map_or(NEVER, UnixMs::signed);
        writer.raw(&active_at.to_le_bytes());
    }
    writer.length(consumer.pending_count as u64);
}

pub(super) fn write_ids(writer: &mut RdbWriter<'_>, ids: &[StreamId]) {
    ids.iter().for_each(|id| writer.raw(&bytes_of(*id)));
}

fn write_id(writer: &mut RdbWriter<'_>, id: StreamId) {
    writer.length(id.ms);
    writer.length(id.seq);
}

fn bytes_of(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}
