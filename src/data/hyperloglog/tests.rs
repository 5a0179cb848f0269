//! Against the plain array of registers. That the bytes are Redis's is compared with a redis-server in the tests of the
//! commands.

use super::*;
use proptest::prelude::*;

fn elements(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(|number| number.to_string().into_bytes()).collect()
}

fn add_all(bytes: &mut Vec<u8>, elements: &[Vec<u8>], sparse_bytes_max: usize) -> usize {
    let slices = || elements.iter().map(Vec::as_slice);
    match add(View::new(bytes).unwrap(), slices(), sparse_bytes_max).unwrap() {
        Added::Unchanged => 0,
        Added::InPlace => add_to_dense(bytes, slices()),
        Added::Replaced(new, count) => {
            *bytes = new;
            count
        }
    }
}

fn registers_of(bytes: &[u8]) -> Registers {
    let mut registers = [0; REGISTER_COUNT];
    View::new(bytes).unwrap().merge_into(&mut registers).unwrap();
    registers
}

#[test]
fn elements_go_where_they_go_in_redis() {
    // Known from what redis-server's PFDEBUG DECODE shows.
    assert_eq!(pattern(b""), (5938, 2));
    assert_eq!(pattern(b"abcdefghijk"), (14121, 1));
}

#[test]
fn an_estimate_is_near() {
    let mut bytes = empty();
    assert_eq!(View::new(&bytes).unwrap().estimate(), Ok(0));
    for (count, tolerance) in [(10u32, 1), (1000, 20), (100_000, 2000)] {
        add_all(&mut bytes, &elements(0..count), 3000);
        let estimate = View::new(&bytes).unwrap().estimate().unwrap();
        assert!(
            estimate.abs_diff(u64::from(count)) <= tolerance,
            "{estimate} for {count}"
        );
    }
    assert_eq!(bytes.len(), DENSE_BYTES);
}

#[test]
fn the_estimate_of_full_registers_is_finite() {
    assert!(estimate_of(&[51; REGISTER_COUNT]) > 1 << 60);
    assert!(estimate_of(&[63; REGISTER_COUNT]) > 0);
    assert_eq!(estimate_of(&[0; REGISTER_COUNT]), 0);
}

#[test]
fn the_self_test_passes() {
    assert_eq!(self_test(), Ok(()));
}

#[test]
fn headers_are_checked() {
    let bytes = empty();
    assert_eq!(bytes.len(), HEADER_BYTES + 2);
    assert!(View::new(&bytes).is_ok());
    assert!(View::new(&bytes[..15]).is_err());
    let mut dense = bytes.clone();
    dense[ENCODING_AT] = DENSE;
    assert!(View::new(&dense).is_err(), "too short");
    dense[ENCODING_AT] = 2;
    assert!(View::new(&dense).is_err());
    let short = &bytes[..16];
    assert_eq!(View::new(short).unwrap().estimate(), Err(Corrupted));
    assert_eq!(
        add(View::new(short).unwrap(), [&b"a"[..]].into_iter(), 3000),
        Err(Corrupted)
    );
}

#[test]
fn rows_are_shown_as_text() {
    let mut bytes = empty();
    assert_eq!(View::new(&bytes).unwrap().decoded(), Some("Z:16384".to_owned()));
    raise(&mut bytes, 10, 3, 3000).unwrap();
    raise(&mut bytes, 11, 3, 3000).unwrap();
    raise(&mut bytes, 16383, 32, 3000).unwrap();
    assert_eq!(
        View::new(&bytes).unwrap().decoded(),
        Some("z:10 v:3,2 Z:16371 v:32,1".to_owned())
    );
    raise(&mut bytes, 0, 33, 3000).unwrap();
    assert_eq!(View::new(&bytes).unwrap().decoded(), None, "33 is not sparse");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_value_is_its_registers(
        raises in prop::collection::vec((0usize..REGISTER_COUNT, 1u8..=51), 0..300),
        near in prop::collection::vec((0usize..200, 1u8..4), 0..300),
        sparse_bytes_max in prop::sample::select(vec![0usize, 100, 600, 3000]),
    ) {
        let mut bytes = empty();
        let mut expected = [0; REGISTER_COUNT];
        for (index, value) in near.into_iter().chain(raises) {
            let is_new = expected[index] < value;
            expected[index] = expected[index].max(value);
            prop_assert_eq!(raise(&mut bytes, index, value, sparse_bytes_max), Ok(is_new));
        }
        prop_assert!(registers_of(&bytes) == expected);
        prop_assert_eq!(View::new(&bytes).unwrap().estimate(), Ok(estimate_of(&expected)));
        let mut dense = bytes.clone();
        make_dense(&mut dense).unwrap();
        prop_assert_eq!(dense.len(), DENSE_BYTES);
        prop_assert!(registers_of(&dense) == expected);
        prop_assert_eq!(View::new(&dense).unwrap().estimate(), Ok(estimate_of(&expected)));
        for index in [0, 1, 2, 3, 1000, REGISTER_COUNT - 1] {
            prop_assert_eq!(dense_get(&dense[HEADER_BYTES..], index), expected[index]);
        }
        let mut merged = empty();
        raise_all(&mut merged, &expected, sparse_bytes_max).unwrap();
        prop_assert!(registers_of(&merged) == expected);
        prop_assert_eq!(View::new(&merged).unwrap().cached_estimate(), None);
    }

    #[test]
    fn order_and_repetition_do_not_matter(a in 0u32..3000, b in 0u32..3000) {
        let (mut one, mut two) = (empty(), empty());
        let (a, b) = (elements(0..a), elements(b..3000));
        add_all(&mut one, &a, 3000);
        add_all(&mut one, &b, 3000);
        add_all(&mut two, &b, 3000);
        add_all(&mut two, &a, 3000);
        prop_assert_eq!(add_all(&mut two, &b, 3000), 0);
        prop_assert!(registers_of(&one) == registers_of(&two));
    }

    #[test]
    fn damaged_values_are_refused_or_used(form in 0u8..3, registers in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = empty();
        bytes[ENCODING_AT] = form;
        bytes.truncate(HEADER_BYTES);
        bytes.extend(registers);
        if let Ok(view) = View::new(&bytes) {
            let _ = (view.estimate(), view.decoded(), view.merge_into(&mut [0; REGISTER_COUNT]));
            let _ = add(view, elements(0..50).iter().map(Vec::as_slice), 3000);
            let _ = make_dense(&mut bytes);
        }
    }
}
