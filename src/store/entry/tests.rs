//! Entries of every shape.

use super::*;

fn text(entry: &OwnedEntry) -> Vec<u8> {
    entry.as_ref().value().as_bytes(&mut itoa::Buffer::new()).to_vec()
}

#[test]
fn the_common_entry_fits_96_bytes() {
    let entry = OwnedEntry::string(&[b'k'; 16], &[b'v'; 64], StringForm::Detect, None, 0);
    assert_eq!(entry.as_ref().allocated_bytes(), 96);
    let entry = OwnedEntry::string(&[b'k'; 16], &[b'v'; 64], StringForm::Detect, Some(UnixMs(1)), 0);
    assert_eq!(entry.as_ref().allocated_bytes(), 96);
    assert_eq!(OwnedEntry::int(b"counter", 5, None, 0).as_ref().allocated_bytes(), 32);
}

#[test]
fn every_shape_turns_into_every_other() {
    let keys = [0, 1, 7, 8, 16, 65_534, 65_535, 65_536, 100_000].map(|len| vec![b'k'; len]);
    let values: Vec<Vec<u8>> = [0, 1, 5, 44, 45, 64, 100, 8192, 8193, 30_000]
        .into_iter()
        .map(|len| (0..len).map(|i| (i % 251) as u8).collect())
        .chain([b"12".to_vec(), i64::MIN.to_string().into_bytes()])
        .collect();
    for key in &keys {
        let mut entry = OwnedEntry::string(key, b"", StringForm::Detect, None, 0xabcdef);
        let mut step = 0u64;
        // Every value after every other one, with expiries that come and go.
        for first in &values {
            for second in &values {
                for value in [first, second] {
                    step += 1;
                    let expiry = step.is_multiple_of(3).then_some(UnixMs(step));
                    entry.store(NewValue::string(value, StringForm::Detect), expiry);
                    let other = (!step.is_multiple_of(5)).then_some(UnixMs(step * 2));
                    assert_eq!(entry.as_ref().expiry(), expiry);
                    entry.set_expiry(other);
                    let seen = entry.as_ref();
                    assert_eq!((seen.key(), seen.expiry()), (&key[..], other));
                    assert_eq!(seen.access_clock(), 0xabcdef);
                    assert_eq!(seen.value().string_len(), value.len());
                    assert_eq!(&text(&entry), value);
                }
            }
        }
        let entry = entry.with_key(b"another");
        assert_eq!(
            (entry.as_ref().key(), text(&entry)),
            (&b"another"[..], values[values.len() - 1].clone())
        );
    }
}

#[test]
fn grows_from_every_shape() {
    for start in [&b""[..], b"12", b"text", &[b'x'; 8191], &[b'x'; 8192], &[b'x'; 9000]] {
        for tail in [&b""[..], b"y", &[b'y'; 100], &[b'y'; 10_000]] {
            let make = || OwnedEntry::string(b"key", start, StringForm::Detect, Some(UnixMs(9)), 1);
            let mut entry = make();
            let expected = [start, tail].concat();
            assert_eq!(entry.append(tail), expected.len());
            assert_eq!(text(&entry), expected);
            assert_eq!(entry.as_ref().encoding(), Encoding::Raw);
            assert_eq!(
                (entry.as_ref().key(), entry.as_ref().expiry()),
                (&b"key"[..], Some(UnixMs(9)))
            );
            let mut entry = make();
            let len = entry.edit_bytes(expected.len(), |bytes| {
                bytes.write(start.len()..start.len() + tail.len()).copy_from_slice(tail);
                bytes.len()
            });
            assert_eq!((len, text(&entry)), (expected.len(), expected));
            assert_eq!(
                entry.edit_bytes(0, |bytes| bytes.len()),
                len,
                "it never becomes shorter"
            );
        }
    }
}

#[test]
fn encodings_are_those_of_redis() {
    let encoding = |value: &[u8], form| OwnedEntry::string(b"k", value, form, None, 0).as_ref().encoding();
    assert_eq!(encoding(b"123", StringForm::Detect), Encoding::Int);
    assert_eq!(encoding(b"123", StringForm::Text), Encoding::Embstr);
    assert_eq!(encoding(b"123", StringForm::Raw), Encoding::Raw);
    assert_eq!(encoding(b"0123", StringForm::Detect), Encoding::Embstr);
    assert_eq!(encoding(&[b'x'; 44], StringForm::Detect), Encoding::Embstr);
    assert_eq!(encoding(&[b'x'; 45], StringForm::Detect), Encoding::Raw);
    assert_eq!(encoding(&[b'x'; 10_000], StringForm::Text), Encoding::Raw);
}

#[test]
fn words_carry_the_address_and_the_expiry() {
    for expiry in [None, Some(UnixMs(5))] {
        let word = OwnedEntry::string(b"k", b"v", StringForm::Detect, expiry, 0).into_word();
        assert_eq!(word & 0b111, if expiry.is_some() { WORD_FLAG } else { 0 });
        // SAFETY: the word was made just now.
        let entry = unsafe { OwnedEntry::from_word(word) };
        assert_eq!(text(&entry), b"v");
    }
}
