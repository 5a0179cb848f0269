//! Lists.
//!
//! ```text
//! 18   nodes: length | for each: kind (1 one element, 2 listpack), string
//! 14   nodes: length | for each: a string that is a ziplist
//! 10   a string that is a ziplist
//!  1   elements: length | for each: string
//! ```

use super::super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use super::{LIST_QUICKLIST_2, Making, read_old_pack};
use crate::data::list::{End, List, ListRef, NewNode, NodeView};
use crate::data::listpack::Listpack;

/// A node: one element, a listpack.
const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

pub(super) fn read_elements(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<List, RdbError> {
    let mut list = List::new();
    for _ in 0..reader.length()? {
        list.push(End::Back, &reader.string()?, making.limits);
    }
    Ok(list)
}

pub(super) fn read_nodes(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<List, RdbError> {
    let mut texts = Vec::new();
    for _ in 0..reader.length()? {
        let start = reader.offset();
        let kind = reader.length()?;
        let text = reader.string()?;
        texts.push(match kind {
            NODE_PLAIN => (None, text),
            NODE_PACKED => {
                let pack = Listpack::from_bytes(&text).map_err(|inner| Damage::Packed(inner).at(start))?;
                (Some(pack), Default::default())
            }
            other => return Err(Damage::Node(other).at(start)),
        });
    }
    let nodes = texts.iter_mut().map(|(pack, text)| match pack.take() {
        Some(pack) => NewNode::Packed(pack),
        None => NewNode::Plain(text),
    });
    Ok(List::from_nodes(nodes, making.limits))
}

pub(super) fn read_ziplist_nodes(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<List, RdbError> {
    let mut nodes = Vec::new();
    for _ in 0..reader.length()? {
        nodes.push(NewNode::Packed(read_old_pack(reader)?));
    }
    Ok(List::from_nodes(nodes, making.limits))
}

pub(super) fn read_ziplist(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<List, RdbError> {
    let pack = read_old_pack(reader)?;
    let mut list = List::new();
    for item in pack.iter() {
        list.push(End::Back, item.as_bytes(&mut itoa::Buffer::new()), making.limits);
    }
    Ok(list)
}

pub(super) fn write(writer: &mut RdbWriter<'_>, list: ListRef<'_>) {
    begin(writer, list.node_count());
    for node in list.nodes() {
        write_node(writer, &node);
    }
}

/// The beginning of a list's nodes.
pub(super) fn begin(writer: &mut RdbWriter<'_>, node_count: usize) {
    writer.kind(LIST_QUICKLIST_2);
    writer.length(node_count as u64);
}

pub(super) fn write_node(writer: &mut RdbWriter<'_>, node: &NodeView<'_>) {
    writer.length(if node.is_plain() { NODE_PLAIN } else { NODE_PACKED });
    writer.string(node.bytes());
}
