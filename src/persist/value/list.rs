//! Lists.
//!
//! ```text
//! 18   nodes: length | for each: kind (1 one element, 2 listpack), string
//! 14   nodes: length | for each: a string that is a ziplist
//! 10   a string that is a ziplist
//!  1   elements: length | for each: string
//! ```

use super::super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use super::{LIST_QUICKLIST_2, Making, old};
use crate::data::list::{List, ListRef};
use crate::data::listpack::Listpack;

/// A node: one element, a listpack.
const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

pub(super) fn read_elements(reader: &mut RdbReader<'_>, _: Making<'_>) -> Result<List, RdbError> {
    let mut list = List::new();
    for _ in 0..reader.length()? {
        list.push_back(&reader.string()?);
    }
    Ok(list)
}

pub(super) fn read_nodes(reader: &mut RdbReader<'_>, _: Making<'_>) -> Result<List, RdbError> {
    let mut list = List::new();
    for _ in 0..reader.length()? {
        let start = reader.offset();
        match reader.length()? {
            NODE_PLAIN => list.push_back(&reader.string()?),
            NODE_PACKED => {
                let bytes = reader.string()?;
                let pack = Listpack::from_bytes(&bytes).map_err(|inner| Damage::Packed(inner).at(start))?;
                let mut digits = itoa::Buffer::new();
                pack.iter().for_each(|item| list.push_back(item.as_bytes(&mut digits)));
            }
            other => return Err(Damage::Node(other).at(start)),
        }
    }
    Ok(list)
}

pub(super) fn read_ziplist_nodes(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<List, RdbError> {
    let mut list = List::new();
    for _ in 0..reader.length()? {
        append_ziplist(reader, &mut list, making)?;
    }
    Ok(list)
}

pub(super) fn read_ziplist(reader: &mut RdbReader<'_>, making: Making<'_>) -> Result<List, RdbError> {
    let mut list = List::new();
    append_ziplist(reader, &mut list, making)?;
    Ok(list)
}

fn append_ziplist(reader: &mut RdbReader<'_>, list: &mut List, _: Making<'_>) -> Result<(), RdbError> {
    let start = reader.offset();
    let bytes = reader.string()?;
    let appended = old::ziplist(&bytes, |element| {
        list.push_back(element.as_bytes(&mut itoa::Buffer::new()));
        Ok(())
    });
    appended.map_err(|damage| damage.at(start))
}

pub(super) fn write(writer: &mut RdbWriter<'_>, list: ListRef<'_>) {
    writer.byte(LIST_QUICKLIST_2);
    match list {
        ListRef::Packed(pack) => {
            writer.length(1);
            writer.length(NODE_PACKED);
            writer.string(pack.as_bytes());
        }
    }
}
