//! Where a key lives: its hash slot.
//!
//! `slot = CRC16/XMODEM(key) mod 16384`, and if the key holds a `{`, a later `}` and at least one byte between that `{` and the
//! first `}` behind it, only those bytes are hashed, so that keys can be kept together (Redis Cluster specification, "Hash tags").
//!
//! The checksum is the `crc16` crate's. It goes byte by byte, which was a twentieth of all that a GET costs; so the crate only makes
//! the tables with which eight bytes are taken at once (the method is known as slicing-by-8).

use std::sync::LazyLock;

/// How many hash slots there are.
pub const SLOT_COUNT: usize = 16384;

/// The hash slot of a key, below [`SLOT_COUNT`].
pub fn key_slot(key: &[u8]) -> u16 {
    checksum(hashed_part(key)) & (SLOT_COUNT as u16 - 1)
}

/// For each byte, the checksum of it with so many zero bytes behind it as the table's number says. A checksum of several bytes is the
/// exclusive or of theirs, because it is linear.
static TABLES: LazyLock<[[u16; 256]; 8]> = LazyLock::new(|| {
    std::array::from_fn(|zeros| {
        std::array::from_fn(|byte| {
            let mut text = [0; 8];
            text[0] = byte as u8;
            crc16::State::<crc16::XMODEM>::calculate(&text[..=zeros])
        })
    })
});

/// CRC16/XMODEM.
fn checksum(bytes: &[u8]) -> u16 {
    let tables = &*TABLES;
    let mut sum = 0u16;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let [high, low] = sum.to_be_bytes();
        sum = tables[7][usize::from(chunk[0] ^ high)]
            ^ tables[6][usize::from(chunk[1] ^ low)]
            ^ tables[5][usize::from(chunk[2])]
            ^ tables[4][usize::from(chunk[3])]
            ^ tables[3][usize::from(chunk[4])]
            ^ tables[2][usize::from(chunk[5])]
            ^ tables[1][usize::from(chunk[6])]
            ^ tables[0][usize::from(chunk[7])];
    }
    for byte in rest {
        let [high, low] = sum.to_be_bytes();
        sum = tables[0][usize::from(byte ^ high)] ^ u16::from(low) << 8;
    }
    sum
}

/// The part of a key that decides its slot: its hash tag if it has one, else all of it.
pub fn hashed_part(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else {
        return key;
    };
    let behind = &key[open + 1..];
    match memchr::memchr(b'}', behind) {
        None | Some(0) => key,
        Some(close) => &behind[..close],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_slots() {
        // As CLUSTER KEYSLOT of redis-server answers.
        assert_eq!(key_slot(b"123456789"), 0x31c3);
        assert_eq!(key_slot(b"foo"), 12182);
        assert_eq!(key_slot(b"somekey"), 11058);
        assert_eq!(key_slot(b""), 0);
    }

    #[test]
    fn the_checksum_is_the_crate_s() {
        let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for start in 0..20 {
            for end in start..bytes.len() {
                let part = &bytes[start..end];
                assert_eq!(
                    checksum(part),
                    crc16::State::<crc16::XMODEM>::calculate(part),
                    "{start}..{end}"
                );
            }
        }
    }

    #[test]
    fn hash_tags() {
        assert_eq!(key_slot(b"{user1000}.following"), key_slot(b"user1000"));
        assert_eq!(hashed_part(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hashed_part(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hashed_part(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hashed_part(b"foo}{bar"), b"foo}{bar");
        assert_eq!(hashed_part(b"}{a}"), b"a");
    }
}
