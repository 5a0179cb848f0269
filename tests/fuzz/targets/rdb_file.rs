//! Whole RDB files, of any version and dialect. Whatever the bytes are, they are read or refused; what is read in one piece is read the same
//! bit by bit; every value that can be made ends where it was said to; and memory is never taken for what was only announced.
//!
//! The seeds are files of all the servers whose files are read, each with something of every type.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::base::hash::HashSeed;
use shardis::data::Limits;
use shardis::persist::file::reader::{Head, Item, Next, Page, Place, Reader};
use shardis::persist::rdb::RdbReader;
use shardis::persist::value::{Making, Value};
use std::io::Read;

/// Bytes of a page that nothing has asked for.
const PAGE_BYTES: usize = 128 * 1024;

/// Gives a few bytes at a time, and does not say how many there are.
struct Dripping<'a>(&'a [u8]);

impl Read for Dripping<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = out.len().min(5).min(self.0.len());
        let (now, later) = self.0.split_at(count);
        out[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

fn make(page: &Page, place: Place, version: u16) {
    let mut reader = RdbReader::at(&page.bytes, place.start);
    let head = Head::read(&mut reader).expect("it was read before");
    let limits = Limits::default();
    let making = Making {
        limits: &limits,
        seed: HashSeed([1, 2]),
    };
    if let Ok(value) = Value::read_kind(head.kind, &mut reader, making, version) {
        assert_eq!(reader.offset(), place.end);
        drop(value.into_entry(&head.key, head.expiry, 0));
    }
}

/// Reads to the end or to an error; how many items there were, and whether it was the end.
fn read(mut reader: Reader<impl Read>, len: usize) -> (usize, bool) {
    let (mut items, mut places) = (0, Vec::new());
    loop {
        let next = reader.look();
        assert!(reader.page().len() <= 2 * len + 2 * PAGE_BYTES);
        let is_page_end = matches!(next, Ok(Next::PageEnd | Next::Item(Item::End)));
        let is_end = matches!(next, Ok(Next::Item(Item::End)));
        match next {
            Ok(Next::Item(Item::Entry(place))) => places.push(place),
            Ok(_) => {}
            Err(_) => return (items, false),
        }
        items += usize::from(!is_page_end);
        if is_page_end {
            let version = reader.version();
            let page = reader.turn_page();
            for place in places.drain(..) {
                make(&page, place, version);
            }
        }
        if is_end {
            return (items, true);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    // Its checksum would keep the fuzzer out.
    let whole = Reader::new(data, Some(data.len() as u64), false).map(|reader| read(reader, data.len()));
    let dripping = Reader::new(Dripping(data), None, false).map(|reader| read(reader, data.len()));
    match (whole, dripping) {
        (Ok(whole), Ok(dripping)) => assert_eq!(whole, dripping),
        (Err(_), Err(_)) => {}
        _ => panic!("read in one way and refused in the other"),
    }
    let _ = Reader::new(data, Some(data.len() as u64), true).map(|reader| read(reader, data.len()));
});
