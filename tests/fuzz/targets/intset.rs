//! Intsets. What is accepted ascends and finds its members; it takes and gives up members and stays sound; nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::data::intset::Intset;

fuzz_target!(|data: &[u8]| {
    let _ = Intset::from_bytes(data);
    // With a header that fits, so that the fuzzer need not find it.
    let Some((&choice, integers)) = data.split_first() else { return };
    let width = 2 << (choice % 3);
    let count = integers.len() / width;
    let mut bytes = (width as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&(count as u32).to_le_bytes());
    bytes.extend_from_slice(&integers[..count * width]);
    if let Ok(set) = Intset::from_bytes(&bytes) {
        assert!(set.iter().is_sorted_by(|one, two| one < two));
        assert!(set.iter().all(|integer| set.contains(integer)));
        assert_eq!(set.as_bytes(), bytes);
    }
    let (mut set, mut model) = (Intset::new(), std::collections::BTreeSet::new());
    for (index, bytes) in integers.chunks(width).enumerate() {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        let integer = i64::from_le_bytes(padded);
        if index % 3 == 2 {
            assert_eq!(set.remove(integer), model.remove(&integer));
        } else {
            assert_eq!(set.insert(integer), model.insert(integer));
        }
    }
    assert!(set.iter().eq(model.iter().copied()));
    assert_eq!(Intset::from_bytes(set.as_bytes()), Ok(set));
});
