//! Ziplists and zipmaps, Redis's packed formats of old. Anything is read or refused, and what is read makes a sound listpack.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::data::listpack::Listpack;
use shardis::data::ziplist::{Ziplist, Zipmap};

fn sound(listpack: Listpack, count: usize) {
    assert_eq!(listpack.len(), count);
    assert_eq!(Listpack::from_bytes(listpack.as_bytes()), Ok(listpack));
}

fuzz_target!(|data: &[u8]| {
    let _ = Ziplist::new(data).map(Iterator::count);
    if let Ok(map) = Zipmap::new(data)
        && let Ok(listpack) = map.clone().to_listpack()
    {
        sound(listpack, map.count());
    }
    // With a header that fits, so that the fuzzer need not find it: all but the count.
    let Some((&[tail, count], entries)) = data.split_first_chunk() else { return };
    let mut bytes = (entries.len() as u32 + 11).to_le_bytes().to_vec();
    bytes.extend_from_slice(&(u32::from(tail) + 10).to_le_bytes());
    bytes.extend_from_slice(&if count == 255 { [255, 255] } else { [count, 0] });
    bytes.extend_from_slice(entries);
    bytes.push(0xff);
    let Ok(list) = Ziplist::new(&bytes) else { return };
    if let Ok(listpack) = list.clone().to_listpack() {
        sound(listpack, list.count());
    }
});
