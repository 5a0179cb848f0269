//! Hashes against a model: a sorted map from fields to values and expiries, through all encodings.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::base::numbers::parse_i64;
use crate::base::random::Random;

const SEED: HashSeed = HashSeed([5, 8]);

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

fn field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0i64..30).prop_map(|n| n.to_string().into_bytes()),
        "[a-c]{0,2}".prop_map(String::into_bytes),
        (0usize..30).prop_map(|length| vec![b'f'; length]),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        4 => (-50i64..50).prop_map(|n| n.to_string().into_bytes()),
        4 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (0usize..400).prop_map(|length| vec![b'v'; length]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Increment(Vec<u8>, i64),
    Expiry(Vec<u8>, Option<u64>),
    Advance(u64),
    Expire(usize),
    Scan(usize),
    Random(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (field(), value()).prop_map(|(field, value)| Step::Set(field, value)),
        3 => field().prop_map(Step::Remove),
        2 => (field(), any::<i64>()).prop_map(|(field, delta)| Step::Increment(field, delta)),
        5 => (field(), prop::option::of(1u64..200)).prop_map(|(field, after)| Step::Expiry(field, after)),
        2 => (0u64..60).prop_map(Step::Advance),
        1 => (1usize..10).prop_map(Step::Expire),
        1 => (0usize..10).prop_map(Step::Scan),
        1 => (0usize..20).prop_map(Step::Random),
    ]
}

fn live(model: &Model, now: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let live = model
        .iter()
        .filter(|(_, (_, expiry))| expiry.is_none_or(|at| now <= at));
    live.map(|(field, (value, _))| (field.clone(), value.clone())).collect()
}

fn fields(hash: HashRef<'_>, now: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    hash.for_each(UnixMs(now), |field, value| {
        assert!(all.insert(field.to_vec(), value.to_vec()).is_none());
    });
    all
}

proptest! {
    #[test]
    fn behaves_as_its_model(
        steps in prop::collection::vec(step(), 1..120),
        entries in prop_oneof![0usize..20, Just(1000usize)],
        length in prop_oneof![0usize..40, Just(1000usize)],
    ) {
        let limits = Limits { hash_max_listpack_entries: entries, hash_max_listpack_value: length, ..Limits::default() };
        let mut random = Random::with_seed(1);
        let (mut hash, mut model, mut now) = (Hash::new(), Model::new(), 1000u64);
        for step in steps {
            let is_live = |model: &Model, field: &Vec<u8>| live(model, now).contains_key(field);
            match step {
                Step::Set(field, value) => {
                    let is_new = hash.set(&field, &value, FieldExpiry::Clear, UnixMs(now), &limits, SEED);
                    prop_assert_eq!(is_new, !is_live(&model, &field));
                    model.insert(field, (value, None));
                }
                Step::Remove(field) => {
                    prop_assert_eq!(hash.remove(&field, UnixMs(now), SEED), is_live(&model, &field));
                    model.remove(&field);
                }
                Step::Increment(field, delta) => {
                    let old = live(&model, now).get(&field).cloned();
                    let expected = match old.as_ref().map(|old| parse_i64(old)) {
                        Some(None) => Err(IncrementError::NotANumber),
                        known => known.flatten().unwrap_or(0).checked_add(delta).ok_or(IncrementError::OutOfRange),
                    };
                    prop_assert_eq!(hash.increment(&field, delta, UnixMs(now), &limits, SEED), expected);
                    if let Ok(new) = expected {
                        let expiry = if old.is_some() { model[&field].1 } else { None };
                        model.insert(field, (new.to_string().into_bytes(), expiry));
                    }
                }
                Step::Expiry(field, after) => {
                    let expiry = after.map(|after| now + after);
                    let is_there = is_live(&model, &field);
                    prop_assert_eq!(hash.set_expiry(&field, expiry.map(UnixMs), UnixMs(now), SEED), is_there);
                    if is_there {
                        model.get_mut(&field).unwrap().1 = expiry;
                    }
                }
                Step::Advance(by) => now += by,
                Step::Expire(count) => {
                    loop {
                        for field in hash.expire_fields(UnixMs(now), count, SEED) {
                            let removed = model.remove(&field[..]);
                            prop_assert!(removed.is_some_and(|(_, expiry)| expiry.is_some_and(|at| now > at)));
                        }
                        if hash.as_ref().next_expiry().is_none_or(|bound| UnixMs(now) <= bound) { break; }
                    }
                    prop_assert_eq!(live(&model, now).len(), model.len());
                }
                Step::Scan(count) => {
                    let (mut cursor, mut seen) = (0, BTreeMap::new());
                    loop {
                        cursor = hash.as_ref().scan(cursor, count, UnixMs(now), |field, value| {
                            assert!(seen.insert(field.to_vec(), value.to_vec()).is_none());
                        });
                        if cursor == 0 { break; }
                    }
                    prop_assert_eq!(&seen, &live(&model, now));
                }
                Step::Random(count) => {
                    let there = live(&model, now);
                    let drawn = hash.as_ref().random_distinct(count, UnixMs(now), &mut random, SEED);
                    let texts: BTreeSet<Vec<u8>> = drawn.iter().map(|(field, _)| field.to_vec()).collect();
                    prop_assert_eq!((texts.len(), drawn.len()), (count.min(there.len()), count.min(there.len())));
                    prop_assert!(drawn.iter().all(|(field, value)| there[&field.to_vec()] == value.to_vec()));
                    let mut repeated = 0;
                    hash.as_ref().random_repeated(count, UnixMs(now), &mut random, SEED, |field, value| {
                        assert!(there[&field.to_vec()] == value.to_vec());
                        repeated += 1;
                        ControlFlow::Continue(())
                    });
                    prop_assert_eq!(repeated, if there.is_empty() { 0 } else { count });
                    let one = hash.as_ref().random(UnixMs(now), &mut random, SEED);
                    prop_assert_eq!(one.is_some(), !there.is_empty());
                }
            }
            hash.check(SEED);
            let there = live(&model, now);
            prop_assert_eq!(hash.len(), model.len());
            prop_assert_eq!(hash.as_ref().live_len(UnixMs(now)), there.len());
            prop_assert_eq!(&fields(hash.as_ref(), now), &there);
            prop_assert_eq!(&fields(hash.clone().as_ref(), now), &there);
            for (field, (value, expiry)) in &model {
                let expected = there.contains_key(field).then(|| value.clone());
                prop_assert_eq!(hash.as_ref().get(field, UnixMs(now), SEED).map(|item| item.to_vec()), expected);
                let expected = there.contains_key(field).then(|| expiry.map(UnixMs));
                prop_assert_eq!(hash.as_ref().expiry(field, UnixMs(now), SEED), expected);
            }
        }
    }
}

#[test]
fn encodings_change_as_in_redis() {
    let (limits, now) = (Limits::default(), UnixMs(10));
    let set =
        |hash: &mut Hash, field: &[u8], value: &[u8]| hash.set(field, value, FieldExpiry::Clear, now, &limits, SEED);
    let filled = || {
        let mut hash = Hash::new();
        (0..512).for_each(|n| assert!(set(&mut hash, format!("f{n}").as_bytes(), &[b'v'; 64])));
        hash
    };
    let mut hash = filled();
    assert_eq!(hash.encoding(), Encoding::Listpack);
    assert!(!set(&mut hash, b"f0", b"w"));
    assert_eq!(hash.encoding(), Encoding::Listpack);
    assert!(set(&mut hash, b"f512", b"w"));
    assert_eq!(hash.encoding(), Encoding::Hashtable);
    let mut hash = filled();
    assert!(!set(&mut hash, b"f0", &[b'v'; 65]));
    assert_eq!(hash.encoding(), Encoding::Hashtable);
    let mut hash = filled();
    assert!(hash.set_expiry(b"f1", Some(UnixMs(11)), now, SEED));
    assert_eq!(hash.encoding(), Encoding::ListpackEx);
    assert!(hash.set_expiry(b"f1", None, now, SEED));
    assert_eq!(hash.encoding(), Encoding::ListpackEx);
}

#[test]
fn floats_are_added_as_in_redis() {
    let (limits, now) = (Limits::default(), UnixMs(10));
    let mut hash = Hash::new();
    let mut add = |delta: &[u8]| {
        let delta = LongDouble::parse(delta).expect("a number");
        hash.increment_float(b"f", delta, now, &limits, SEED)
    };
    assert_eq!(add(b"10.5").as_deref(), Ok(&b"10.5"[..]));
    assert_eq!(add(b"0.1").as_deref(), Ok(&b"10.6"[..]));
    assert_eq!(add(b"-0.6").as_deref(), Ok(&b"10"[..]));
    assert_eq!(add(b"inf"), Err(IncrementError::OutOfRange));
}

#[test]
fn a_big_hash_expires_in_steps_and_is_freed_in_steps() {
    let limits = Limits::default();
    let mut hash = Hash::new();
    for n in 0..20_000u64 {
        let field = n.to_be_bytes();
        hash.set(&field, b"value", FieldExpiry::Clear, UnixMs(1), &limits, SEED);
        if n % 2 == 0 {
            assert!(hash.set_expiry(&field, Some(UnixMs(1000 + n)), UnixMs(1), SEED));
        }
    }
    let mut gone = 0;
    while hash.as_ref().next_expiry().is_some_and(|bound| UnixMs(11_000) > bound) {
        let fields = hash.expire_fields(UnixMs(11_000), 300, SEED);
        assert!(fields.len() <= 300 + 141);
        gone += fields.len();
    }
    hash.check(SEED);
    assert_eq!((gone, hash.len()), (5_000, 15_000));
    assert_eq!(hash.as_ref().next_expiry(), Some(UnixMs(11_000)));
    let mut steps = 1;
    while !hash.free_step(1000) {
        steps += 1;
    }
    assert!(steps >= 14, "{steps}");
}
