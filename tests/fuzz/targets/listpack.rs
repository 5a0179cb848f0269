//! Listpacks. What is accepted can be walked in both directions, changed and cut, and is a sound listpack again afterwards; nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::data::listpack::{Item, Listpack};

fn texts<'a>(items: impl Iterator<Item = Item<'a>>) -> Vec<Vec<u8>> {
    items.map(|item| item.to_vec()).collect()
}

/// Puts header and end mark around bytes, so that the fuzzer need not find the right length.
fn framed(count: u8, entries: &[u8]) -> Vec<u8> {
    let mut bytes = (entries.len() as u32 + 7).to_le_bytes().to_vec();
    bytes.extend_from_slice(&if count == 255 { [255, 255] } else { [count, 0] });
    bytes.extend_from_slice(entries);
    bytes.push(0xff);
    bytes
}

fuzz_target!(|data: &[u8]| {
    let _ = Listpack::from_bytes(data);
    let Some((&[count, choice], entries)) = data.split_first_chunk() else { return };
    let Ok(mut listpack) = Listpack::from_bytes(&framed(count, entries)) else { return };
    let mut model = texts(listpack.iter());
    let mut backwards = texts(listpack.iter_rev());
    backwards.reverse();
    assert_eq!(backwards, model);
    assert_eq!(listpack.len(), model.len());
    if model.is_empty() {
        return;
    }
    let at = usize::from(choice) % model.len();
    let place = listpack.seek(at as i64).expect("it is there");
    assert_eq!(listpack.seek(at as i64 - model.len() as i64), Some(place));
    assert!(listpack.get(place).eq_bytes(&model[at]));
    let first = listpack.first().expect("there is one");
    assert!(listpack.find(first, &model[at], 0).is_some_and(|found| found <= place));

    let text = entries.get(..usize::from(choice)).unwrap_or(entries);
    listpack.insert_before(place, text);
    model.insert(at, text.to_vec());
    listpack.replace(place, b"17");
    model[at] = b"17".to_vec();
    let tail = listpack.split_off(listpack.seek(at as i64).expect("it is there"));
    assert_eq!(texts(tail.iter()), model[at..]);
    listpack.append(&tail);
    listpack.delete(listpack.first().expect("there is one"));
    model.remove(0);
    let needle = model[0].clone();
    listpack.retain(|item| !item.eq_bytes(&needle));
    model.retain(|text| *text != needle);
    assert_eq!(texts(listpack.iter()), model);
    let again = Listpack::from_bytes(listpack.as_bytes()).expect("what we made is sound");
    assert_eq!(texts(again.iter()), model);
});
