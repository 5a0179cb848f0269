//! Readers of the packed formats that Redis wrote before listpacks: ziplists (RDB files and DUMP payloads up to 6.2) and zipmaps
//! (hashes up to 2.4). Nothing writes them any more: what is read becomes a listpack or elements at once.
//!
//! ```text
//! ziplist    total u32 | offset of the last entry u32 | count u16 | entries | 0xFF           little endian
//! entry      bytes of the previous entry: u8, or 0xFE and u32 LE
//!            00LLLLLL <bytes>      01LLLLLL LLLLLLLL <bytes>      10000000 <u32 BE> <bytes>
//!            11000000 i16   11010000 i32   11100000 i64   11110000 i24   11111110 i8      LE
//!            1111vvvv, v from 1 to 13: the integer v - 1
//!
//! zipmap     count u8 | pairs | 0xFF
//! pair       length, field, length, u8 unused, value, that many unused bytes
//! length     u8 below 254, or 254 and u32 LE
//! ```
//!
//! A count of 65535 (254 and more in a zipmap) means "count yourself". Both readers are iterators that check as they go: an
//! element that comes out is sound, damage comes out as an error that says what and where, and ends the iteration.
//! (Formats: Redis's documentation of its RDB files; Sripathi Krishnan's "Redis RDB File Format".)

use super::damaged::{Damaged, Fault};
use super::listpack::{Item, Listpack};

const END: u8 = 0xff;

const ZIPLIST_HEADER_BYTES: usize = 10;
const ZIPLIST_COUNT_UNKNOWN: u16 = 0xffff;
const LONG_PREVIOUS: u8 = 0xfe;

const ZIPMAP_COUNT_UNKNOWN: u8 = 254;
const ZIPMAP_LONG_LENGTH: u8 = 254;

/// The elements of a ziplist, checked as they are read.
#[derive(Clone, Debug)]
pub struct Ziplist<'a> {
    bytes: &'a [u8],
    at: usize,
    previous_bytes: usize,
    count: usize,
    is_over: bool,
}

impl<'a> Ziplist<'a> {
    /// Checks the header and the end.
    pub fn new(bytes: &'a [u8]) -> Result<Ziplist<'a>, Damaged> {
        if bytes.len() <= ZIPLIST_HEADER_BYTES {
            return Err(Damaged::at(0, Fault::TooShort(bytes.len())));
        }
        let announced = u64::from(u32::from_le_bytes(fixed(bytes, 0)));
        if announced != bytes.len() as u64 {
            return Err(Damaged::at(
                0,
                Fault::Total {
                    announced,
                    found: bytes.len(),
                },
            ));
        }
        check_end(bytes)?;
        Ok(Ziplist {
            bytes,
            at: ZIPLIST_HEADER_BYTES,
            previous_bytes: 0,
            count: 0,
            is_over: false,
        })
    }

    /// The same elements in a listpack.
    pub fn to_listpack(self) -> Result<Listpack, Damaged> {
        collect(self)
    }

    fn step(&mut self) -> Result<Option<Item<'a>>, Damaged> {
        let (bytes, start, end) = (self.bytes, self.at, self.bytes.len() - 1);
        if start == end {
            return self.check_header().map(|()| None);
        }
        let mut reader = Reader {
            bytes,
            start,
            at: start,
            end,
        };
        let previous = match reader.byte()? {
            END => return Err(Damaged::at(start, Fault::EarlyEnd)),
            LONG_PREVIOUS => u32::from_le_bytes(reader.array()?) as usize,
            short => usize::from(short),
        };
        if previous != self.previous_bytes {
            return Err(Damaged::at(start, Fault::BackwardLength(self.previous_bytes)));
        }
        let encoding_at = reader.at;
        let item = match reader.byte()? {
            first @ 0..0x40 => Item::Bytes(reader.take(usize::from(first))?),
            first @ 0x40..0x80 => {
                let len = u16::from_be_bytes([first & 0x3f, reader.byte()?]);
                Item::Bytes(reader.take(usize::from(len))?)
            }
            0x80 => {
                let len = u32::from_be_bytes(reader.array()?);
                Item::Bytes(reader.take(len as usize)?)
            }
            0xc0 => Item::Int(i64::from(i16::from_le_bytes(reader.array()?))),
            0xd0 => Item::Int(i64::from(i32::from_le_bytes(reader.array()?))),
            0xe0 => Item::Int(i64::from_le_bytes(reader.array()?)),
            0xf0 => {
                let [low, middle, high] = reader.array()?;
                Item::Int(i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8))
            }
            0xfe => Item::Int(i64::from(i8::from_le_bytes(reader.array()?))),
            first @ 0xf1..=0xfd => Item::Int(i64::from(first - 0xf1)),
            other => return Err(Damaged::at(encoding_at, Fault::Encoding(other))),
        };
        self.previous_bytes = reader.at - start;
        self.at = reader.at;
        self.count += 1;
        Ok(Some(item))
    }

    /// At the end: what the header says of the whole.
    fn check_header(&self) -> Result<(), Damaged> {
        let announced = u16::from_le_bytes(fixed(self.bytes, 8));
        if announced != ZIPLIST_COUNT_UNKNOWN && usize::from(announced) != self.count {
            return Err(Damaged::at(
                8,
                Fault::Count {
                    announced: announced.into(),
                    found: self.count,
                },
            ));
        }
        let announced = u32::from_le_bytes(fixed(self.bytes, 4));
        let found = self.at - self.previous_bytes;
        if announced as usize != found {
            return Err(Damaged::at(
                4,
                Fault::Tail {
                    announced: announced.into(),
                    found,
                },
            ));
        }
        Ok(())
    }
}

impl<'a> Iterator for Ziplist<'a> {
    type Item = Result<Item<'a>, Damaged>;

    fn next(&mut self) -> Option<Result<Item<'a>, Damaged>> {
        if self.is_over {
            return None;
        }
        let step = self.step();
        self.is_over = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

/// The fields and values of a zipmap in turn, checked as they are read.
#[derive(Clone, Debug)]
pub struct Zipmap<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Fields and values.
    count: usize,
    is_over: bool,
}

impl<'a> Zipmap<'a> {
    /// Checks the end.
    pub fn new(bytes: &'a [u8]) -> Result<Zipmap<'a>, Damaged> {
        if bytes.len() < 2 {
            return Err(Damaged::at(0, Fault::TooShort(bytes.len())));
        }
        check_end(bytes)?;
        Ok(Zipmap {
            bytes,
            at: 1,
            count: 0,
            is_over: false,
        })
    }

    /// The same fields and values in a listpack, in turn.
    pub fn to_listpack(self) -> Result<Listpack, Damaged> {
        collect(self)
    }

    fn step(&mut self) -> Result<Option<Item<'a>>, Damaged> {
        let (bytes, start, end) = (self.bytes, self.at, self.bytes.len() - 1);
        let is_value = self.count % 2 == 1;
        if start == end {
            return if is_value {
                Err(Damaged::at(start, Fault::NoValue))
            } else {
                self.check_header().map(|()| None)
            };
        }
        let mut reader = Reader {
            bytes,
            start,
            at: start,
            end,
        };
        let len = match reader.byte()? {
            END => return Err(Damaged::at(start, Fault::EarlyEnd)),
            ZIPMAP_LONG_LENGTH => u32::from_le_bytes(reader.array()?) as usize,
            short => usize::from(short),
        };
        let unused = if is_value { usize::from(reader.byte()?) } else { 0 };
        let text = reader.take(len)?;
        reader.take(unused)?;
        self.at = reader.at;
        self.count += 1;
        Ok(Some(Item::Bytes(text)))
    }

    /// At the end: what the header says of the whole.
    fn check_header(&self) -> Result<(), Damaged> {
        let (announced, found) = (self.bytes[0], self.count / 2);
        if announced < ZIPMAP_COUNT_UNKNOWN && usize::from(announced) != found {
            return Err(Damaged::at(
                0,
                Fault::Count {
                    announced: announced.into(),
                    found,
                },
            ));
        }
        Ok(())
    }
}

impl<'a> Iterator for Zipmap<'a> {
    type Item = Result<Item<'a>, Damaged>;

    fn next(&mut self) -> Option<Result<Item<'a>, Damaged>> {
        if self.is_over {
            return None;
        }
        let step = self.step();
        self.is_over = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

/// Reads one element: from `start` on, and not beyond the end mark.
struct Reader<'a> {
    bytes: &'a [u8],
    start: usize,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        if count > self.end - self.at {
            let wanted = (self.at - self.start) as u64 + count as u64;
            let left = self.end - self.start;
            return Err(Damaged::at(self.start, Fault::CutShort { wanted, left }));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let taken = self.take(N)?;
        Ok(fixed(taken, 0))
    }
}

/// Puts all elements into a listpack; the first damage ends it.
fn collect<'a>(items: impl Iterator<Item = Result<Item<'a>, Damaged>>) -> Result<Listpack, Damaged> {
    let mut listpack = Listpack::new();
    for item in items {
        listpack.push_item(item?);
    }
    Ok(listpack)
}

fn check_end(bytes: &[u8]) -> Result<(), Damaged> {
    match bytes.split_last() {
        Some((&END, _)) => Ok(()),
        _ => Err(Damaged::at(bytes.len().saturating_sub(1), Fault::NoEnd)),
    }
}

/// `N` bytes at an offset that has been checked.
fn fixed<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the length has been checked")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Builds a ziplist from encoded elements without their lengths of the previous entry.
    fn ziplist(elements: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; ZIPLIST_HEADER_BYTES];
        let mut previous = 0;
        let mut tail = ZIPLIST_HEADER_BYTES;
        for element in elements {
            tail = bytes.len();
            if previous < usize::from(LONG_PREVIOUS) {
                bytes.push(previous as u8);
            } else {
                bytes.push(LONG_PREVIOUS);
                bytes.extend_from_slice(&(previous as u32).to_le_bytes());
            }
            bytes.extend_from_slice(element);
            previous = bytes.len() - tail;
        }
        bytes.push(END);
        let total = bytes.len() as u32;
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        bytes[4..8].copy_from_slice(&(tail as u32).to_le_bytes());
        bytes[8..10].copy_from_slice(&(elements.len() as u16).to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Damaged> {
        Ziplist::new(bytes)?
            .map(|item| item.map(|item| item.to_vec()))
            .collect()
    }

    fn read_map(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Damaged> {
        Zipmap::new(bytes)?.map(|item| item.map(|item| item.to_vec())).collect()
    }

    #[test]
    fn all_encodings_of_a_ziplist_are_read() {
        let medium = [&[0x41, 0x2c][..], &[b'm'; 300]].concat();
        let long = [&[0x80, 0, 0, 0x40, 0][..], &[b'l'; 16384]].concat();
        let elements: [&[u8]; 16] = [
            b"\x02hi",
            b"\x00",
            &medium,
            &long,
            &[0xc0, 0x00, 0x80],
            &[0xd0, 0xff, 0xff, 0xff, 0x7f],
            &[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80],
            &[0xf0, 0, 0, 0x80],
            &[0xf0, 0xff, 0xff, 0x7f],
            &[0xfe, 0x80],
            &[0xfe, 0x7f],
            &[0xf1],
            &[0xf2],
            &[0xfd],
            b"\x0212",
            b"\x03end",
        ];
        let bytes = ziplist(&elements);
        let texts = read(&bytes).unwrap();
        let expected: [&[u8]; 16] = [
            b"hi",
            b"",
            &[b'm'; 300],
            &[b'l'; 16384],
            b"-32768",
            b"2147483647",
            b"-9223372036854775808",
            b"-8388608",
            b"8388607",
            b"-128",
            b"127",
            b"0",
            b"1",
            b"12",
            b"12",
            b"end",
        ];
        assert_eq!(texts, expected);
        let listpack = Ziplist::new(&bytes).unwrap().to_listpack().unwrap();
        assert!(listpack.iter().zip(expected).all(|(item, text)| item.eq_bytes(text)));
        assert_eq!(listpack.len(), 16);

        assert_eq!(read(&ziplist(&[])).unwrap().len(), 0);
        // A short length in the long form, as entries that became shorter leave it; and a count that nobody knows.
        let mut lazy = vec![
            21, 0, 0, 0, 12, 0, 0, 0, 0xff, 0xff, 0, 0xf1, 0xfe, 2, 0, 0, 0, 2, b'a', b'b', END,
        ];
        assert_eq!(read(&lazy).unwrap(), [&b"0"[..], b"ab"]);
        lazy[8..10].copy_from_slice(&[2, 0]);
        assert_eq!(read(&lazy).unwrap(), [&b"0"[..], b"ab"]);
    }

    #[test]
    fn damage_to_a_ziplist_is_named_with_its_place() {
        let good = ziplist(&[b"\x02hi", &[0xfd]]);
        let says = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            read(&bytes).unwrap_err().to_string()
        };
        assert_eq!(
            says(&|bytes| bytes.truncate(10)),
            "10 bytes, too few for a header at offset 0"
        );
        assert_eq!(
            says(&|bytes| bytes[0] += 1),
            "the header announces 18 bytes, there are 17 at offset 0"
        );
        assert_eq!(says(&|bytes| bytes[16] = 0), "no end mark at offset 16");
        assert_eq!(
            says(&|bytes| bytes[8] = 3),
            "the header announces 3 elements, there are 2 at offset 8"
        );
        assert_eq!(
            says(&|bytes| bytes[4] = 10),
            "the header says that the last element is at 10, it is at 14 at offset 4"
        );
        assert_eq!(
            says(&|bytes| bytes[10] = END),
            "an end mark before the end at offset 10"
        );
        assert_eq!(
            says(&|bytes| bytes[14] = 5),
            "the length for walking backwards is not the element's, 4 bytes at offset 14"
        );
        assert_eq!(
            says(&|bytes| bytes[15] = 0x81),
            "no element begins with 0x81 at offset 15"
        );
        assert_eq!(
            says(&|bytes| bytes[15] = 0x80),
            "an element of 6 bytes where 2 are left at offset 14"
        );
        assert_eq!(
            says(&|bytes| bytes[11] = 0x3f),
            "an element of 65 bytes where 6 are left at offset 10"
        );
    }

    #[test]
    fn zipmaps_are_read() {
        let long = [&[254, 44, 1, 0, 0][..], &[b'f'; 300]].concat();
        let bytes = [&[2, 3][..], b"foo", &[3, 2], b"bar??", &long, &[0, 0, END]].concat();
        assert_eq!(read_map(&bytes).unwrap(), [&b"foo"[..], b"bar", &[b'f'; 300], b""]);
        assert_eq!(read_map(&[0, END]).unwrap().len(), 0);
        assert_eq!(Zipmap::new(&bytes).unwrap().to_listpack().unwrap().len(), 4);
        assert_eq!(read_map(&[254, 1, b'a', 1, 0, b'7', END]).unwrap(), [b"a", b"7"]);

        let says = |bytes: &[u8]| read_map(bytes).unwrap_err().to_string();
        assert_eq!(says(&[END]), "1 bytes, too few for a header at offset 0");
        assert_eq!(says(&[0, 0]), "no end mark at offset 1");
        assert_eq!(says(&[1, 1, b'a', END]), "a field without a value at offset 3");
        assert_eq!(
            says(&[2, 1, b'a', 1, 0, b'7', END]),
            "the header announces 2 elements, there are 1 at offset 0"
        );
        assert_eq!(
            says(&[1, 1, b'a', 1, 9, b'7', END]),
            "an element of 12 bytes where 3 are left at offset 3"
        );
        assert_eq!(
            says(&[1, 254, b'a', END]),
            "an element of 5 bytes where 2 are left at offset 1"
        );
        assert_eq!(says(&[1, END, END]), "an end mark before the end at offset 1");
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(
            body in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4], 0..40),
            count in any::<u8>(),
            at in any::<usize>(),
            bits in any::<u8>(),
        ) {
            let mut bytes = ziplist(&[&body[..]]);
            bytes[8] = count;
            if let Ok(ziplist) = Ziplist::new(&bytes) {
                prop_assert!(ziplist.count() <= body.len() + 1);
            }
            let mut good = ziplist(&[b"\x02hi", &[0xfd], &[0xc0, 0, 1], b"\x01x"]);
            let at = at % good.len();
            good[at] ^= bits;
            let _ = read(&good);
            let map = [&[count], &body[..], &[END]].concat();
            if let Ok(map) = Zipmap::new(&map) {
                prop_assert!(map.count() <= body.len() + 1);
            }
        }
    }
}
