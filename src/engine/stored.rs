//! Replying with what is stored: an element of a list, a member of a set, a field or a value of a hash.
//!
//! Packed values keep integers as integers, and whoever replies with one writes its digits: here, and nowhere else.

use crate::data::listpack::Item;
use crate::resp::Reply;

/// Replies with an item.
#[inline]
pub fn reply_item(reply: &mut Reply<'_>, item: Item<'_>) {
    match item {
        Item::Bytes(bytes) => reply.bulk(bytes),
        Item::Int(number) => reply.bulk_integer(number),
    }
}

/// Replies with an item, or with nil if there is none.
#[inline]
pub fn reply_item_or_null(reply: &mut Reply<'_>, item: Option<Item<'_>>) {
    match item {
        Some(item) => reply_item(reply, item),
        None => reply.null(),
    }
}
