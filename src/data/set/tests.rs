//! Sets against a model: a sorted set of strings, next to each encoding.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SEED: HashSeed = HashSeed([5, 8]);

fn members(set: SetRef<'_>) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    set.for_each(|item| assert!(all.insert(item.to_vec()), "twice"));
    all
}

fn built(texts: &BTreeSet<Vec<u8>>, limits: &Limits) -> Set {
    let mut set = Set::for_members(texts.first().map_or(b"", Vec::as_slice), 1, limits);
    texts.iter().for_each(|text| assert!(set.add(text, limits, SEED)));
    set
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (-20i64..40).prop_map(|n| n.to_string().into_bytes()),
        "[a-c]{0,2}".prop_map(String::into_bytes),
        (0usize..30, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (0usize..20, 0usize..20, 0usize..30).prop_map(|(ints, entries, value)| Limits {
        set_max_intset_entries: ints,
        set_max_listpack_entries: entries,
        set_max_listpack_value: value,
        ..Limits::default()
    })
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u8>),
    Remove(Vec<u8>),
    Pop(usize),
    Scan(usize),
    Random(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => text().prop_map(Step::Add),
        3 => text().prop_map(Step::Remove),
        1 => (0usize..4).prop_map(Step::Pop),
        1 => (0usize..10).prop_map(Step::Scan),
        1 => (0usize..30).prop_map(Step::Random),
    ]
}

proptest! {
    #[test]
    fn behaves_as_its_model(steps in prop::collection::vec(step(), 1..120), limits in limits()) {
        let mut random = Random::with_seed(1);
        let mut model: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut set: Option<Set> = None;
        for step in steps {
            let set = set.get_or_insert_with(|| match &step {
                Step::Add(text) => Set::for_members(text, 1, &limits),
                _ => Set::Packed(Listpack::new()),
            });
            match step {
                Step::Add(text) => prop_assert_eq!(set.add(&text, &limits, SEED), model.insert(text)),
                Step::Remove(text) => prop_assert_eq!(set.remove(&text, SEED), model.remove(&text)),
                Step::Pop(count) => {
                    let before = model.len();
                    set.pop(count, &mut random, SEED, |item| assert!(model.remove(&item.to_vec())));
                    prop_assert_eq!(before - model.len(), count.min(before));
                }
                Step::Scan(count) => {
                    let (mut cursor, mut seen) = (0, BTreeSet::new());
                    loop {
                        cursor = set.as_ref().scan(cursor, count, |item| assert!(seen.insert(item.to_vec())));
                        if cursor == 0 { break; }
                    }
                    prop_assert_eq!(&seen, &model);
                }
                Step::Random(count) => {
                    let drawn = set.as_ref().random_distinct(count, &mut random, SEED);
                    let texts: BTreeSet<Vec<u8>> = drawn.iter().map(Item::to_vec).collect();
                    prop_assert_eq!((texts.len(), drawn.len()), (count.min(model.len()), count.min(model.len())));
                    prop_assert!(texts.is_subset(&model));
                    let one = set.as_ref().random(&mut random, SEED).map(|item| item.to_vec());
                    prop_assert_eq!(one.is_some(), !model.is_empty());
                    prop_assert!(one.is_none_or(|one| model.contains(&one)));
                }
            }
            set.check(SEED);
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(&members(set.as_ref()), &model);
            prop_assert!(model.iter().all(|text| set.as_ref().contains(text, SEED)));
            prop_assert!(!set.as_ref().contains(b"never", SEED));
            prop_assert_eq!(&members(set.clone().as_ref()), &model);
        }
    }

    #[test]
    fn algebra_is_that_of_sets(
        texts in prop::collection::vec(prop::collection::btree_set(text(), 0..20), 1..5),
        limits in prop::collection::vec(limits(), 5),
    ) {
        let sets: Vec<Set> = texts.iter().zip(&limits).map(|(texts, limits)| built(texts, limits)).collect();
        let refs: Vec<SetRef<'_>> = sets.iter().map(Set::as_ref).collect();
        let collect = |found: &mut BTreeSet<Vec<u8>>, item: Item<'_>| {
            assert!(found.insert(item.to_vec()), "twice");
            ControlFlow::<()>::Continue(())
        };
        let (mut common, mut rest, mut all) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let _ = intersection(&refs, SEED, |item| collect(&mut common, item));
        let _ = difference(refs[0], &refs[1..], SEED, |item| collect(&mut rest, item));
        let _ = union(&refs, SEED, |item| collect(&mut all, item));
        let first = &texts[0];
        let in_all = |text: &&Vec<u8>| texts.iter().all(|other| other.contains(*text));
        let in_none = |text: &&Vec<u8>| !texts[1..].iter().any(|other| other.contains(*text));
        prop_assert_eq!(common, first.iter().filter(in_all).cloned().collect());
        prop_assert_eq!(rest, first.iter().filter(in_none).cloned().collect());
        prop_assert_eq!(all, texts.iter().flatten().cloned().collect());
    }
}

#[test]
fn encodings_change_as_in_redis() {
    let limits = Limits::default();
    let mut set = Set::for_members(b"1", 1, &limits);
    (0..512).for_each(|n: i64| assert!(set.add(n.to_string().as_bytes(), &limits, SEED)));
    assert_eq!(set.encoding(), Encoding::Intset);
    assert!(set.add(b"512", &limits, SEED));
    assert_eq!(set.encoding(), Encoding::Hashtable);

    let with_ints = |count: i64, last: &[u8]| {
        let mut set = Set::for_members(b"1", 1, &limits);
        (0..count).for_each(|n| assert!(set.add(n.to_string().as_bytes(), &limits, SEED)));
        assert!(set.add(last, &limits, SEED));
        set.encoding()
    };
    assert_eq!(with_ints(127, b"a"), Encoding::Listpack);
    assert_eq!(with_ints(128, b"a"), Encoding::Hashtable);
    assert_eq!(with_ints(10, &[b'a'; 64]), Encoding::Listpack);
    assert_eq!(with_ints(10, &[b'a'; 65]), Encoding::Hashtable);

    let mut set = Set::for_members(b"a", 1, &limits);
    (0..128).for_each(|n| assert!(set.add(format!("m{n}").as_bytes(), &limits, SEED)));
    assert_eq!(set.encoding(), Encoding::Listpack);
    assert!(!set.add(b"m5", &limits, SEED));
    assert_eq!(set.encoding(), Encoding::Listpack);
    assert!(set.add(b"m128", &limits, SEED));
    assert_eq!(set.encoding(), Encoding::Hashtable);
    assert_eq!(Set::for_members(b"a", 129, &limits).encoding(), Encoding::Hashtable);
    assert_eq!(Set::for_members(b"1", 513, &limits).encoding(), Encoding::Hashtable);
}

#[test]
fn a_big_set_is_popped_fairly_and_freed_in_steps() {
    let limits = Limits::default();
    let mut set = Set::for_members(b"a", 10_000, &limits);
    (0..10_000).for_each(|n| assert!(set.add(format!("member:{n}").as_bytes(), &limits, SEED)));
    let mut popped = 0;
    set.pop(5_000, &mut Random::with_seed(2), SEED, |_| popped += 1);
    set.check(SEED);
    assert_eq!((popped, set.len()), (5_000, 5_000));
    let mut steps = 1;
    while !set.free_step(500) {
        steps += 1;
    }
    assert!((5..=11).contains(&steps), "{steps}");
    assert_eq!(set.len(), 0);
}
