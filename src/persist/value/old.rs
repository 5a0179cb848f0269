//! Ziplists and zipmaps: how Redis packed small values before listpacks.
//!
//! ```text
//! ziplist   total bytes u32 | offset of the last entry u32 | count u16 | entries | 0xff
//! entry     bytes of the one before it: u8, or 0xfe and u32 | kind and length | text or integer
//! zipmap    count u8 | (length, name, length, free u8, value, free bytes) ... | 0xff
//! ```
//!
//! Numbers are little-endian, but for the lengths of texts of 14 and of 32 bits. They are only read, element by element, into
//! whatever the value is kept in today.

use super::super::rdb::{Damage, RdbError, RdbReader};

/// An element of a ziplist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element<'a> {
    Text(&'a [u8]),
    Integer(i64),
}

impl Element<'_> {
    /// As text; an integer is written into `digits`.
    pub(super) fn as_bytes<'b>(&'b self, digits: &'b mut itoa::Buffer) -> &'b [u8] {
        match self {
            Element::Text(text) => text,
            Element::Integer(integer) => digits.format(*integer).as_bytes(),
        }
    }
}

const END: u8 = 0xff;
/// A length that does not fit its byte stands in the four bytes behind it.
const LONG: u8 = 0xfe;
const ZIPLIST_HEADER_BYTES: u64 = 10;

/// Hands out the elements of a ziplist, front to back.
pub(super) fn ziplist(bytes: &[u8], mut take: impl FnMut(Element<'_>) -> Result<(), Damage>) -> Result<(), Damage> {
    let mut reader = RdbReader::new(bytes);
    let mut read = || -> Result<Result<(), Damage>, RdbError> {
        let total = u32::from_le_bytes(reader.array()?);
        reader.take(ZIPLIST_HEADER_BYTES - 4)?;
        if total as usize != bytes.len() {
            return Ok(Err(Damage::OldPacking));
        }
        loop {
            match reader.byte()? {
                END => {
                    return Ok(if reader.left() == 0 {
                        Ok(())
                    } else {
                        Err(Damage::OldPacking)
                    });
                }
                LONG => drop(reader.array::<4>()?),
                _ => {}
            }
            let Some(element) = ziplist_element(&mut reader)? else {
                return Ok(Err(Damage::OldPacking));
            };
            if let Err(refused) = take(element) {
                return Ok(Err(refused));
            }
        }
    };
    // Where in the ziplist it is cut short does not matter to anybody.
    read().unwrap_or(Err(Damage::OldPacking))
}

fn ziplist_element<'a>(reader: &mut RdbReader<'a>) -> Result<Option<Element<'a>>, RdbError> {
    let kind = reader.byte()?;
    let length = match kind >> 6 {
        0 => u64::from(kind),
        1 => u64::from(u16::from_be_bytes([kind & 0x3f, reader.byte()?])),
        2 => u64::from(u32::from_be_bytes(reader.array()?)),
        _ => {
            let integer = match kind {
                0xc0 => i64::from(i16::from_le_bytes(reader.array()?)),
                0xd0 => i64::from(i32::from_le_bytes(reader.array()?)),
                0xe0 => i64::from_le_bytes(reader.array()?),
                0xf0 => {
                    let [low, middle, high] = reader.array()?;
                    i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)
                }
                0xfe => i64::from(i8::from_le_bytes(reader.array()?)),
                0xf1..=0xfd => i64::from(kind & 0x0f) - 1,
                _ => return Ok(None),
            };
            return Ok(Some(Element::Integer(integer)));
        }
    };
    Ok(Some(Element::Text(reader.take(length)?)))
}

/// Hands out the elements of a ziplist of pairs, as text.
#[allow(dead_code, reason = "read by the types that have pairs")]
pub(super) fn ziplist_pairs(
    bytes: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let mut first: Option<Vec<u8>> = None;
    ziplist(bytes, |element| {
        let mut digits = itoa::Buffer::new();
        let text = element.as_bytes(&mut digits);
        match first.take() {
            None => {
                first = Some(text.to_vec());
                Ok(())
            }
            Some(first) => take(&first, text),
        }
    })?;
    if first.is_some() { Err(Damage::HalfPair) } else { Ok(()) }
}

/// Hands out the pairs of a zipmap.
#[allow(dead_code, reason = "read by hashes")]
pub(super) fn zipmap(bytes: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Damage>) -> Result<(), Damage> {
    let mut reader = RdbReader::new(bytes);
    let mut read = || -> Result<Result<(), Damage>, RdbError> {
        reader.byte()?;
        loop {
            let Some(name_len) = zipmap_length(&mut reader)? else {
                return Ok(if reader.left() == 0 {
                    Ok(())
                } else {
                    Err(Damage::OldPacking)
                });
            };
            let name = reader.take(name_len)?;
            let Some(value_len) = zipmap_length(&mut reader)? else {
                return Ok(Err(Damage::OldPacking));
            };
            let free = reader.byte()?;
            let value = reader.take(value_len)?;
            reader.take(u64::from(free))?;
            if let Err(refused) = take(name, value) {
                return Ok(Err(refused));
            }
        }
    };
    read().unwrap_or(Err(Damage::OldPacking))
}

/// A length in a zipmap; None: the end.
fn zipmap_length(reader: &mut RdbReader<'_>) -> Result<Option<u64>, RdbError> {
    Ok(match reader.byte()? {
        END => None,
        LONG => Some(u64::from(u32::from_le_bytes(reader.array()?))),
        short => Some(u64::from(short)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As redis-server 6.2 keeps the list `a`, `12`, `13`, `-1`, `300`, `70000`, `-9000000000`, `8388607`: written down by the format's description.
    const ZIPLIST: &[u8] = b"\x2d\0\0\0\x26\0\0\0\x08\0\
        \0\x01a\
        \x03\xfd\
        \x02\xfe\x0d\
        \x03\xfe\xff\
        \x03\xc0\x2c\x01\
        \x04\xd0\x70\x11\x01\0\
        \x06\xe0\0\xe6\x8e\xe7\xfd\xff\xff\xff\
        \x0a\xf0\xff\xff\x7f\
        \xff";

    fn texts(bytes: &[u8]) -> Result<Vec<String>, Damage> {
        let mut out = Vec::new();
        ziplist(bytes, |element| {
            out.push(String::from_utf8_lossy(element.as_bytes(&mut itoa::Buffer::new())).into_owned());
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn every_kind_of_element_is_read() {
        let mut bytes = ZIPLIST.to_vec();
        let total = bytes.len() as u32;
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        let expected = ["a", "12", "13", "-1", "300", "70000", "-9000000000", "8388607"];
        assert_eq!(texts(&bytes).unwrap(), expected);
        for end in 0..bytes.len() {
            let mut cut = bytes[..end].to_vec();
            if end >= 4 {
                cut[..4].copy_from_slice(&(end as u32).to_le_bytes());
            }
            assert_eq!(texts(&cut), Err(Damage::OldPacking), "{end} bytes");
        }
    }

    #[test]
    fn zipmaps_have_room_behind_their_values() {
        let mut pairs = Vec::new();
        let whole = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xff";
        let mut read = |bytes: &[u8]| {
            zipmap(bytes, |name, value| {
                pairs.push((name.to_vec(), value.to_vec()));
                Ok(())
            })
        };
        assert_eq!(read(whole), Ok(()));
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Err(Damage::OldPacking), "{end} bytes");
        }
        assert_eq!(
            pairs[..2],
            [
                (b"foo".to_vec(), b"bar".to_vec()),
                (b"hello".to_vec(), b"world".to_vec())
            ]
        );
    }
}
