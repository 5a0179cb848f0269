//! DEBUG, the part that looks into values and tables: LISTPACK, QUICKLIST-PACKED-THRESHOLD, HTSTATS, HTSTATS-KEY, DICT-RESIZING,
//! and what OBJECT says of a list.
//!
//! A table of this server is a tree of pages (`data::dict`) that grows and shrinks a page at a time. So HTSTATS tells of pages where
//! Redis tells of buckets and chains, and there is no resizing that DICT-RESIZING could keep from happening.

use crate::base::numbers::parse_i64;
use crate::config::parse_memory;
use crate::data::list::ListRef;
use crate::data::{Encoding, Limits, ObjectRef};
use crate::engine::{Context, NodeFuture, Op, SessionOp};
use crate::resp::{ReplyError, error};
use crate::store::{DbIndex, TableStats};

/// What DEBUG OBJECT says of a list beyond what it says of every value.
pub(super) fn describe_list(list: ListRef<'_>, limits: &Limits) -> String {
    let bytes: usize = list.nodes().map(|node| node.bytes().len()).sum();
    let nodes = list.node_count();
    format!(
        " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{bytes}",
        list.len() as f64 / nodes.max(1) as f64,
        limits.list_max_listpack_size,
        u8::from(limits.list_compress_depth != 0),
    )
}

pub(super) fn listpack(op: &mut Op) -> Result<(), ReplyError> {
    let entry = op.keys.peek(op.args.at(2))?.ok_or(error::NO_SUCH_KEY)?;
    let pack = match entry.object() {
        Some(object) => object.listpack(),
        None => None,
    };
    let pack = pack.ok_or(error::NO_LISTPACK)?;
    println!("listpack of {} bytes, {} elements", pack.bytes(), pack.len());
    for (index, (place, item)) in pack.iter_places().enumerate() {
        let text = item.to_vec();
        println!(
            "  {index} at {}: {} bytes, {}",
            place.offset(),
            text.len(),
            text.escape_ascii()
        );
    }
    op.reply.simple("Listpack structure printed on stdout");
    Ok(())
}

pub(super) fn packed_threshold(context: &mut Context) -> NodeFuture<'_> {
    /// Larger listpacks there are not.
    const BYTES_END: u64 = 1 << 32;
    Box::pin(async move {
        let bytes = parse_memory(context.args().at(2)).ok_or(error::NO_MEMORY_VALUE)?;
        let threshold = match bytes {
            0 => Limits::default().list_packed_threshold,
            1..BYTES_END => bytes as usize,
            _ => {
                return Err(error::MEMORY_VALUE_OUT_OF_RANGE);
            }
        };
        context
            .ask_all(move |local| local.env.limits.list_packed_threshold = threshold)
            .await;
        context.reply().ok();
        Ok(())
    })
}

pub(super) fn dict_resizing(op: &mut SessionOp) -> Result<(), ReplyError> {
    parse_i64(op.args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
    op.reply.ok();
    Ok(())
}

pub(super) fn htstats(op: &mut Op) -> Result<(), ReplyError> {
    let db = parse_i64(op.args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
    let db = u32::try_from(db)
        .ok()
        .filter(|db| *db < op.env.settings.databases)
        .ok_or(error::NO_SUCH_DATABASE)?;
    let Some(slots) = op.keys.view.all_slots() else {
        return Err(op.keys.need_everything());
    };
    let mut stats = TableStats::default();
    let mut tables = 0;
    for (_, slot) in slots {
        let of_slot = slot.table_stats(DbIndex(db));
        tables += usize::from(of_slot.elements > 0);
        stats.add(of_slot);
    }
    let text = format!(
        "[Dictionary HT]\nHash table stats ({tables} tables, one for each hash slot with keys):\n number of elements: {}\n \
         pages: {}\n largest page: {}\n bytes: {}\n keys with an expiry: {}\n",
        stats.elements, stats.pages, stats.page_elements_max, stats.bytes, stats.volatile
    );
    op.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

pub(super) fn htstats_key(op: &mut Op) -> Result<(), ReplyError> {
    let entry = op.keys.peek(op.args.at(2))?.ok_or(error::NO_SUCH_KEY)?;
    let object = entry.object().ok_or(error::NO_HASH_TABLE)?;
    if !matches!(object.encoding(), Encoding::Hashtable | Encoding::Skiplist) {
        return Err(error::NO_HASH_TABLE);
    }
    let text = format!(
        "Hash table stats:\n number of elements: {}\n bytes of the value: {}\n",
        object.len(),
        object.allocated_bytes()
    );
    op.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// The list, if it is one that is kept in nodes.
pub(super) fn as_quicklist(object: Option<ObjectRef<'_>>) -> Option<ListRef<'_>> {
    match object {
        Some(ObjectRef::List(list)) if list.encoding() == Encoding::Quicklist => Some(list),
        _ => None,
    }
}
