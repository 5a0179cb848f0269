//! Increments of an append-only file: a row of chunks, with commands in them. Whatever the bytes are, they are read or refused; a chunk that
//! is taken is one that could have been written, byte for byte; commands lie where they are said to; and the bytes as the commands of a chunk
//! make one that is whole, and is not when anything of it is changed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::persist::aof::chunk::{self, Head, Place};
use shardis::persist::aof::command::{self, Next};

const PLACE: Place = Place {
    shard: 1,
    shards: 2,
    life: 7,
};

fn commands(bytes: &[u8]) {
    let (mut at, mut spans) = (0, Vec::new());
    while let Ok(next) = command::next(bytes, at, &mut spans) {
        let end = match next {
            Next::CutShort => {
                // With more of it, it is still no other thing.
                let longer = [bytes, b"\r\n"].concat();
                if let Ok(Next::Command { end } | Next::Annotation { end }) = command::next(&longer, at, &mut spans) {
                    assert!(end > bytes.len());
                }
                return;
            }
            Next::Annotation { end } => end,
            Next::Command { end } => {
                assert!(!spans.is_empty());
                let mut begin = at;
                for span in &spans {
                    assert!(begin < span.start && span.start <= span.end && span.end + 2 <= end);
                    begin = span.end + 2;
                }
                assert_eq!(begin, end);
                end
            }
        };
        assert!(end > at && end <= bytes.len());
        at = end;
    }
}

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(found) = chunk::decode(PLACE, rest) {
        let mut again = Vec::new();
        chunk::encode(PLACE, &found.head, &[&rest[found.commands()]], &mut again);
        assert_eq!(again, rest[..found.bytes()]);
        commands(&rest[found.commands()]);
        rest = &rest[found.bytes()..];
    }
    commands(data);
    let Some((numbers, bytes)) = data.split_first_chunk::<4>() else {
        return;
    };
    let [number, turn, place, change] = numbers.map(u64::from);
    let head = Head {
        number,
        turn,
        offsets: turn..turn + number,
        is_broad: change % 2 == 1,
    };
    let (mut whole, half) = (Vec::new(), bytes.len() / 2);
    chunk::encode(PLACE, &head, &[&bytes[..half], &bytes[half..]], &mut whole);
    let found = chunk::decode(PLACE, &whole).expect("it is whole");
    assert_eq!((&found.head, found.bytes()), (&head, whole.len()));
    let at = (place as usize * 37 + change as usize) % whole.len();
    assert!(chunk::decode(PLACE, &whole[..at]).is_err());
    whole[at] ^= change.max(1) as u8;
    assert!(chunk::decode(PLACE, &whole).is_err());
});
