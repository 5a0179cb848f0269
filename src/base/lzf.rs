//! LZF, the compression of strings in Redis's RDB files (format: LibLZF by Marc Lehmann).
//!
//! A compressed text is a sequence of two kinds of piece, told apart by the first byte:
//!
//! ```text
//! 000LLLLL  <L+1 bytes>                       1 to 32 bytes as they are
//! LLLooooo  oooooooo                          LLL = 1..6: copy LLL+2 bytes from o+1 bytes back
//! 111ooooo  LLLLLLLL oooooooo                 copy LLLLLLLL+9 bytes from o+1 bytes back
//! ```
//!
//! A copy may reach into what it is itself writing, which repeats a pattern. Any choice of pieces is a valid text, so the compressor
//! is free; this one finds repeats through one table of the last place of each hash of three bytes.

/// Longest run of bytes in one piece.
const LITERAL_BYTES_MAX: usize = 32;
/// A copy of fewer bytes would not be shorter than the bytes.
const COPY_BYTES_MIN: usize = 3;
/// Longest copy in one piece.
const COPY_BYTES_MAX: usize = 264;
/// How far back a copy reaches.
const DISTANCE_MAX: usize = 8192;
/// The table of recent places has one entry for each byte of text, but at least and at most two to these powers: clearing it must not
/// cost more than a short text, and for a long one 64 KiB still stay in the nearest caches.
const TABLE_BITS: std::ops::RangeInclusive<u32> = 6..=14;

/// Redis compresses strings longer than this, and keeps the result if it saves at least so many bytes.
pub const SAVING_BYTES_MIN: usize = 4;

/// Compresses `text`. `None` if the result would not be at least four bytes shorter, or if `text` is longer than 4 GiB.
pub fn compress(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() <= SAVING_BYTES_MIN || u32::try_from(text.len()).is_err() {
        return None;
    }
    let budget = text.len() - SAVING_BYTES_MIN;
    let mut out = Vec::with_capacity(budget);
    // Place + 1 of the last three bytes with each hash; 0 is none.
    let table_bits = text.len().ilog2().clamp(*TABLE_BITS.start(), *TABLE_BITS.end());
    let mut places = vec![0u32; 1 << table_bits];
    let mut literal_from = 0;
    let mut at = 0;
    while at + COPY_BYTES_MIN <= text.len() {
        let hash = hash_of(&text[at..], table_bits);
        let earlier = std::mem::replace(&mut places[hash], at as u32 + 1) as usize;
        // `earlier` is a place plus one, so the distance that is stored (one less than the true one) is at - earlier.
        let is_repeat = earlier != 0
            && at - earlier < DISTANCE_MAX
            && text[earlier - 1..earlier - 1 + COPY_BYTES_MIN] == text[at..at + COPY_BYTES_MIN];
        if !is_repeat {
            at += 1;
            continue;
        }
        let longest = COPY_BYTES_MAX.min(text.len() - at);
        let length = COPY_BYTES_MIN
            + text[at + COPY_BYTES_MIN..at + longest]
                .iter()
                .zip(&text[earlier - 1 + COPY_BYTES_MIN..])
                .take_while(|(new, old)| new == old)
                .count();
        write_literals(&mut out, &text[literal_from..at]);
        write_copy(&mut out, at - earlier, length);
        if out.len() > budget {
            return None;
        }
        // The table learns the places inside the copy too, but only the last ones: that is where the next repeat is likely to begin.
        let end = at + length;
        for place in end.saturating_sub(2).max(at + 1)..end {
            if place + COPY_BYTES_MIN <= text.len() {
                places[hash_of(&text[place..], table_bits)] = place as u32 + 1;
            }
        }
        at = end;
        literal_from = end;
    }
    let literal_bytes = text.len() - literal_from;
    if out.len() + literal_bytes + literal_bytes.div_ceil(LITERAL_BYTES_MAX) > budget {
        return None;
    }
    write_literals(&mut out, &text[literal_from..]);
    Some(out)
}

fn hash_of(bytes: &[u8], table_bits: u32) -> usize {
    let three = u32::from(bytes[0]) << 16 | u32::from(bytes[1]) << 8 | u32::from(bytes[2]);
    (three.wrapping_mul(0x9e37_79b1) >> (32 - table_bits)) as usize
}

fn write_literals(out: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.chunks(LITERAL_BYTES_MAX) {
        out.push(piece.len() as u8 - 1);
        out.extend_from_slice(piece);
    }
}

/// Writes a copy of `length` bytes from `distance + 1` bytes back.
fn write_copy(out: &mut Vec<u8>, distance: usize, length: usize) {
    let (high, low) = ((distance >> 8) as u8, distance as u8);
    match length - 2 {
        short @ 1..=6 => out.extend_from_slice(&[(short as u8) << 5 | high, low]),
        long => out.extend_from_slice(&[0b1110_0000 | high, (long - 7) as u8, low]),
    }
}

/// Decompresses `compressed` to exactly `text_bytes` bytes. `None` if it is damaged: cut short, reaching back before its
/// beginning, or of another length. Never makes more than `text_bytes` bytes, whatever it is given.
pub fn decompress(compressed: &[u8], text_bytes: usize) -> Option<Vec<u8>> {
    // The announced length may itself be damaged: a text cannot be longer than its pieces can make it.
    if text_bytes > compressed.len().saturating_mul(COPY_BYTES_MAX) {
        return None;
    }
    let mut text: Vec<u8> = Vec::with_capacity(text_bytes);
    let mut rest = compressed;
    while let [first, behind @ ..] = rest {
        let room = text_bytes - text.len();
        if *first < 32 {
            let (literal, behind) = behind.split_at_checked(usize::from(*first) + 1)?;
            if literal.len() > room {
                return None;
            }
            text.extend_from_slice(literal);
            rest = behind;
            continue;
        }
        let (length, behind) = match (*first >> 5, behind) {
            (7, [more, behind @ ..]) => (usize::from(*more) + 9, behind),
            (7, []) => return None,
            (short, behind) => (usize::from(short) + 2, behind),
        };
        let (low, behind) = behind.split_first()?;
        let distance = (usize::from(*first & 0x1f) << 8 | usize::from(*low)) + 1;
        let from = text.len().checked_sub(distance)?;
        if length > room {
            return None;
        }
        if distance >= length {
            text.extend_from_within(from..from + length);
        } else {
            for place in from..from + length {
                text.push(text[place]);
            }
        }
        rest = behind;
    }
    (text.len() == text_bytes).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(text: &[u8]) -> Option<usize> {
        let compressed = compress(text)?;
        assert!(compressed.len() + SAVING_BYTES_MIN <= text.len());
        assert_eq!(decompress(&compressed, text.len()).as_deref(), Some(text));
        Some(compressed.len())
    }

    #[test]
    fn pieces_by_hand() {
        assert_eq!(decompress(&[2, b'a', b'b', b'c'], 3).as_deref(), Some(&b"abc"[..]));
        assert_eq!(decompress(&[0, b'a', 0x20, 0], 4).as_deref(), Some(&b"aaaa"[..]));
        assert_eq!(
            decompress(&[1, b'a', b'b', 0xe0, 0, 1], 11).as_deref(),
            Some(&b"abababababa"[..])
        );
        assert_eq!(decompress(&[], 0).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn damage_is_refused() {
        for (compressed, text_bytes) in [
            (&[2, b'a'][..], 3),
            (&[0, b'a', 0x20], 4),
            (&[0, b'a', 0xe0], 11),
            (&[0, b'a', 0xe0, 0], 11),
            (&[0, b'a', 0x20, 1], 4),
            (&[0, b'a', 0x20, 0], 5),
            (&[0, b'a', 0x20, 0], 3),
            (&[1, b'a', b'b'], 1),
            (&[], 1),
            (&[0, b'a'], usize::MAX),
        ] {
            assert_eq!(decompress(compressed, text_bytes), None, "{compressed:?}");
        }
    }

    #[test]
    fn what_compresses_and_what_does_not() {
        assert_eq!(compress(b""), None);
        assert_eq!(compress(b"abcd"), None);
        assert_eq!(compress(b"0123456789abcdefghijklmnop"), None);
        assert!(round_trip(&[b'a'; 1000]).is_some_and(|bytes| bytes < 20));
        let sentence = b"the quick brown fox jumps over the lazy dog; ".repeat(50);
        assert!(round_trip(&sentence).is_some_and(|bytes| bytes < 120));
        let mut generator = fastrand::Rng::with_seed(9);
        let noise: Vec<u8> = (0..10_000).map(|_| generator.u8(..)).collect();
        assert_eq!(compress(&noise), None);
        // A repeat exactly as far back as the format reaches, and one byte farther.
        for distance in [DISTANCE_MAX, DISTANCE_MAX + 1] {
            let mut text = noise[..distance].to_vec();
            text.extend_from_slice(&noise[..1000]);
            assert_eq!(round_trip(&text).is_some(), distance == DISTANCE_MAX);
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in prop::collection::vec(0u8..4, 0..2000)) {
            round_trip(&text);
        }

        #[test]
        fn damage_never_panics(
            mut compressed in prop::collection::vec(any::<u8>(), 0..200),
            text_bytes in 0usize..4000,
            small in prop::collection::vec(0u8..2, 0..400),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            if let Some(text) = decompress(&compressed, text_bytes) {
                prop_assert_eq!(text.len(), text_bytes);
            }
            if let Some(valid) = compress(&small) {
                compressed = valid;
                let place = place.index(compressed.len());
                compressed[place] = byte;
                if let Some(text) = decompress(&compressed, small.len()) {
                    prop_assert_eq!(text.len(), small.len());
                }
            }
        }
    }
}
