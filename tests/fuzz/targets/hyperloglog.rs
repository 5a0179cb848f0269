//! HyperLogLogs whose bytes come from strangers. Nothing that reads or changes one may panic; one that is whole stays so, and has the same
//! registers when it has become dense. The first byte says how many elements are added and from where values may not be sparse; the
//! rest stands behind a header, which the second byte may spoil.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::data::hyperloglog::{Added, REGISTER_COUNT, Registers, View, add, add_to_dense, empty, make_dense, raise_all};

fn registers(bytes: &[u8]) -> Option<Box<Registers>> {
    let mut registers = Box::new([0; REGISTER_COUNT]);
    View::new(bytes).ok()?.merge_into(&mut registers).ok()?;
    Some(registers)
}

fuzz_target!(|data: &[u8]| {
    let Some(([choice, spoiled], rest)) = data.split_first_chunk::<2>().map(|(first, rest)| (*first, rest)) else {
        return;
    };
    let mut bytes = empty();
    bytes.truncate(16);
    bytes.extend_from_slice(rest);
    if spoiled < 16 {
        bytes[usize::from(spoiled)] ^= choice;
    }
    let Ok(view) = View::new(&bytes) else { return };
    let before = registers(&bytes);
    assert_eq!(view.estimate().is_ok(), before.is_some());
    view.decoded();
    let mut dense = bytes.clone();
    if make_dense(&mut dense).is_ok() {
        assert!(before.is_some() && registers(&dense) == before);
    }
    let elements: Vec<[u8; 1]> = (0..choice % 64).map(|element| [element]).collect();
    let slices = || elements.iter().map(|element| &element[..]);
    let sparse_bytes_max = usize::from(choice) * 16;
    let after = match add(view, slices(), sparse_bytes_max) {
        Err(_) => return,
        Ok(Added::Unchanged) => bytes.clone(),
        Ok(Added::InPlace) => {
            let mut changed = bytes.clone();
            assert!(add_to_dense(&mut changed, slices()) > 0);
            changed
        }
        Ok(Added::Replaced(changed, count)) => {
            assert!(count > 0);
            changed
        }
    };
    if let Some(before) = before {
        let after = registers(&after).expect("what was whole stays whole");
        assert!(before.iter().zip(after.iter()).all(|(before, after)| before <= after));
        let mut merged = empty();
        raise_all(&mut merged, &after, sparse_bytes_max).expect("an empty value is whole");
        assert!(registers(&merged) == Some(after));
    }
});
