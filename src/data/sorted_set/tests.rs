//! Both encodings against a model: a vector of (score, member) kept in order.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::data::listpack::Item;

const SEED: HashSeed = HashSeed([3, 5]);

#[derive(Clone, Default)]
struct Model(Vec<(f64, Vec<u8>)>);

impl Model {
    fn position(&self, member: &[u8]) -> Option<usize> {
        self.0.iter().position(|(_, other)| other == member)
    }

    fn set(&mut self, member: &[u8], score: f64) {
        if let Some(at) = self.position(member) {
            self.0.remove(at);
        }
        let at = self
            .0
            .partition_point(|(other, name)| packed::order(*other, name, score, member) == Ordering::Less);
        self.0.insert(at, (score, member.to_vec()));
    }
}

fn text(item: Item<'_>) -> Vec<u8> {
    item.as_bytes(&mut itoa::Buffer::new()).to_vec()
}

fn pairs(elements: impl Iterator<Item = ScoredMember<'static>>) -> Vec<(f64, Vec<u8>)> {
    elements.map(|element| (element.score, text(element.member))).collect()
}

fn read(elements: Elements<'_>) -> Vec<(f64, Vec<u8>)> {
    elements.map(|element| (element.score, text(element.member))).collect()
}

fn read_reversed(elements: Elements<'_>) -> Vec<(f64, Vec<u8>)> {
    let mut read: Vec<_> = elements
        .rev()
        .map(|element| (element.score, text(element.member)))
        .collect();
    read.reverse();
    read
}

fn check(set: &SortedSet, model: &Model) {
    assert_eq!(set.len(), model.0.len());
    assert_eq!(read(set.as_ref().iter()), model.0);
    assert_eq!(read_reversed(set.as_ref().iter()), model.0);
    match set {
        SortedSet::Tree(tree) => tree.check(SEED),
        SortedSet::Packed(pack) => assert!(packed::is_sorted_set(pack)),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u16, f64, AddOptions),
    Remove(u16),
    RemoveRanks(usize, usize),
    Pop(usize, bool),
    Fill(u16, u16, i8),
    ByScore(ScoreRange),
    ByLex(u16, u16),
    Ranks(i64, i64, i64, i64),
    Clone,
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-20i32..20).prop_map(f64::from),
        2 => (-2000i32..2000).prop_map(|n| f64::from(n) / 8.0),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(-0.0),
        1 => any::<f64>().prop_filter("scores are numbers", |score| !score.is_nan()),
    ]
}

fn options() -> impl Strategy<Value = AddOptions> {
    (any::<bool>(), 0u8..8).prop_map(|(increment, which)| AddOptions {
        only_new: which == 1,
        only_existing: which == 2 || which == 5,
        only_greater: which == 3 || which == 5,
        only_less: which == 4,
        increment,
    })
}

fn bound() -> impl Strategy<Value = ScoreBound> {
    (score(), any::<bool>()).prop_map(|(score, is_exclusive)| ScoreBound { score, is_exclusive })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u16..400, score(), options()).prop_map(|(n, score, options)| Step::Add(n, score, options)),
        2 => (0u16..400).prop_map(Step::Remove),
        2 => (0usize..400, 0usize..300).prop_map(|(from, count)| Step::RemoveRanks(from, count)),
        1 => (0usize..90, any::<bool>()).prop_map(|(count, is_highest)| Step::Pop(count, is_highest)),
        3 => (0u16..400, 1u16..400, any::<i8>()).prop_map(|(from, count, slope)| Step::Fill(from, count, slope)),
        2 => (bound(), bound()).prop_map(|(min, max)| Step::ByScore(ScoreRange { min, max })),
        1 => (0u16..400, 0u16..400).prop_map(|(min, max)| Step::ByLex(min, max)),
        1 => (-500i64..500, -500i64..500, -2i64..40, -2i64..40).prop_map(|(a, b, c, d)| Step::Ranks(a, b, c, d)),
        1 => Just(Step::Clone),
    ]
}

/// Some members are integers, which a listpack stores in another way.
fn member(n: u16) -> Vec<u8> {
    match n % 3 {
        0 => n.to_string().into_bytes(),
        1 => format!("member:{n}").into_bytes(),
        _ => format!("m{n:040}").into_bytes(),
    }
}

/// A packed set loses the sign of zero.
fn stored(set: &SortedSet, score: f64) -> f64 {
    if matches!(set, SortedSet::Packed(_)) && score == 0.0 {
        0.0
    } else {
        score
    }
}

fn model_add(model: &mut Model, set: &SortedSet, member: &[u8], score: f64, options: AddOptions) -> AddOutcome {
    let Some(at) = model.position(member) else {
        if options.only_existing {
            return AddOutcome::Refused;
        }
        model.set(member, stored(set, score));
        return AddOutcome::Added(score);
    };
    let current = model.0[at].0;
    let new = if options.increment { current + score } else { score };
    if options.only_new {
        AddOutcome::Refused
    } else if new.is_nan() {
        AddOutcome::NotANumber
    } else if (options.only_greater && new <= current) || (options.only_less && new >= current) {
        AddOutcome::Refused
    } else if new == current {
        AddOutcome::Same(new)
    } else {
        model.set(member, stored(set, new));
        AddOutcome::Updated(new)
    }
}

fn run(steps: &[Step], limits: &Limits) {
    let (mut set, mut model) = (SortedSet::new(), Model::default());
    for step in steps {
        match step {
            Step::Add(n, score, options) => {
                let outcome = set.add(SEED, &member(*n), *score, *options, limits);
                assert_eq!(outcome, model_add(&mut model, &set, &member(*n), *score, *options));
            }
            Step::Remove(n) => {
                let expected = model.position(&member(*n)).map(|at| model.0.remove(at).0);
                assert_eq!(set.remove(SEED, &member(*n)), expected);
            }
            Step::RemoveRanks(from, count) => {
                let from = (*from).min(model.0.len());
                let to = (from + count).min(model.0.len());
                model.0.drain(from..to);
                assert_eq!(set.remove_ranks(SEED, from..from + count), to - from);
            }
            Step::Pop(count, is_highest) => {
                let mut popped = Vec::new();
                set.pop(SEED, *count, *is_highest, |element| {
                    popped.push((element.score, text(element.member)));
                });
                let count = (*count).min(model.0.len());
                let expected: Vec<_> = if *is_highest {
                    model.0.drain(model.0.len() - count..).rev().collect()
                } else {
                    model.0.drain(..count).collect()
                };
                assert_eq!(popped, expected);
            }
            Step::Fill(from, count, slope) => {
                for n in *from..from + count {
                    let score = f64::from(*slope) * f64::from(n) / 4.0;
                    set.add(SEED, &member(n), score, AddOptions::default(), limits);
                    let score = stored(&set, score);
                    if model.position(&member(n)).is_none_or(|at| model.0[at].0 != score) {
                        model.set(&member(n), score);
                    }
                }
            }
            Step::ByScore(range) => {
                let ranks = set.as_ref().ranks_by_score(range);
                let expected: Vec<_> = model
                    .0
                    .iter()
                    .filter(|(score, _)| !range.is_below(*score) && !range.is_above(*score))
                    .cloned()
                    .collect();
                assert_eq!(ranks.len(), expected.len());
                assert_eq!(read(set.as_ref().range(ranks.clone())), expected);
                assert_eq!(read_reversed(set.as_ref().range(ranks)), expected);
            }
            Step::ByLex(min, max) => {
                let mut flat = SortedSet::new();
                for (_, name) in &model.0 {
                    flat.add(SEED, name, 7.0, AddOptions::default(), limits);
                }
                let (min, max) = (member(*min), member(*max));
                for range in [
                    LexRange {
                        min: LexBound::Inclusive(&min),
                        max: LexBound::Exclusive(&max),
                    },
                    LexRange {
                        min: LexBound::Exclusive(&min),
                        max: LexBound::Inclusive(&max),
                    },
                    LexRange {
                        min: LexBound::Lowest,
                        max: LexBound::Inclusive(&max),
                    },
                    LexRange {
                        min: LexBound::Highest,
                        max: LexBound::Lowest,
                    },
                ] {
                    let expected = model
                        .0
                        .iter()
                        .filter(|(_, name)| !range.is_below(name) && !range.is_above(name))
                        .count();
                    let ranks = flat.as_ref().ranks_by_lex(&range, false);
                    assert_eq!(ranks.len(), expected);
                    let reversed = flat.as_ref().ranks_by_lex(&range, true);
                    assert!(reversed == ranks || (ranks.is_empty() && reversed.is_empty()));
                    assert!(flat.as_ref().range(ranks).all(|element| {
                        let name = text(element.member);
                        !range.is_below(&name) && !range.is_above(&name)
                    }));
                }
            }
            Step::Ranks(start, stop, offset, count) => {
                let ranks = resolve_ranks(*start, *stop, set.len());
                let ranks = limit(ranks, *offset, *count, false);
                assert_eq!(read(set.as_ref().range(ranks.clone())), model.0[ranks]);
            }
            Step::Clone => {
                let copy = set.clone();
                check(&copy, &model);
                set = copy;
            }
        }
        check(&set, &model);
        for (rank, (score, member)) in model.0.iter().enumerate().step_by(37) {
            assert_eq!(set.as_ref().score(SEED, member), Some(*score));
            assert_eq!(set.as_ref().rank(SEED, member), Some((rank, *score)));
        }
        assert_eq!(set.as_ref().score(SEED, b"nobody"), None);
    }
    let mut steps = 0;
    while !set.free_step(10) {
        steps += 1;
        assert!(steps < 1000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agrees_with_the_model_when_packed(steps in proptest::collection::vec(step(), 1..30)) {
        run(&steps, &Limits { zset_max_listpack_entries: 2000, ..Limits::default() });
    }

    #[test]
    fn agrees_with_the_model_when_large(steps in proptest::collection::vec(step(), 1..60)) {
        run(&steps, &Limits { zset_max_listpack_entries: 0, ..Limits::default() });
    }

    #[test]
    fn agrees_with_the_model_over_the_conversion(steps in proptest::collection::vec(step(), 1..40)) {
        run(&steps, &Limits::default());
    }

    #[test]
    fn accumulates_like_single_additions(
        added in proptest::collection::vec((0u16..300, score()), 0..400),
        which in 0..3usize,
    ) {
        let aggregate = [Aggregate::Sum, Aggregate::Min, Aggregate::Max][which];
        let mut accumulator = Accumulator::new();
        let mut model = Model::default();
        for (n, score) in added {
            accumulator.combine(SEED, &member(n), score, aggregate);
            let score = match model.position(&member(n)) {
                Some(at) => aggregate.combine(model.0[at].0, score),
                None => score,
            };
            model.set(&member(n), score);
        }
        let set = accumulator.into_sorted_set(&Limits::default());
        prop_assert_eq!(matches!(set, SortedSet::Packed(_)), model.0.len() <= 128);
        check(&set, &model);
    }
}

#[test]
fn grows_in_every_direction_and_shrinks_again() {
    let limits = Limits::default();
    for pattern in 0..3 {
        let mut set = SortedSet::new();
        let count = 20_000u32;
        for n in 0..count {
            let score = match pattern {
                0 => n,
                1 => count - n,
                _ => n.wrapping_mul(2_654_435_761) >> 8,
            };
            set.add(
                SEED,
                n.to_string().as_bytes(),
                f64::from(score),
                AddOptions::default(),
                &limits,
            );
        }
        let SortedSet::Tree(tree) = &set else {
            panic!("it is large")
        };
        tree.check(SEED);
        set.remove_ranks(SEED, 5_000..15_000);
        while set.len() > 3 {
            let middle = set.len() / 2;
            set.remove_ranks(SEED, middle - 1..middle + 1);
            set.pop(SEED, 7, pattern == 1, |_| {});
        }
        let SortedSet::Tree(tree) = &set else {
            panic!("it stays large")
        };
        tree.check(SEED);
    }
}

#[test]
fn packed_bytes_are_those_of_redis() {
    // DUMP of: ZADD k 5 a inf b -inf c 3.0 d 1e20 f, without the float whose digits depend on the version.
    let mut set = SortedSet::new();
    for (member, score) in [
        ("a", 5.0),
        ("b", f64::INFINITY),
        ("c", f64::NEG_INFINITY),
        ("d", 3.0),
        ("f", 1e20),
    ] {
        set.add(
            SEED,
            member.as_bytes(),
            score,
            AddOptions::default(),
            &Limits::default(),
        );
    }
    let SortedSet::Packed(pack) = &set else {
        panic!("it is small")
    };
    let mut expected = vec![0, 0, 0, 0, 10, 0];
    expected.extend_from_slice(
        b"\x81c\x02\x84-inf\x05\x81d\x02\x03\x01\x81a\x02\x05\x01\x81f\x02\x851e+20\x06\x81b\x02\x83inf\x04\xff",
    );
    expected[0] = expected.len() as u8;
    assert_eq!(pack.as_bytes(), expected);
}

#[test]
fn foreign_listpacks_are_checked() {
    let pack = |elements: &[&str]| {
        let mut pack = Listpack::new();
        for element in elements {
            pack.push_back(element.as_bytes());
        }
        SortedSet::from_listpack(pack).is_some()
    };
    assert!(pack(&["a", "1", "b", "1", "c", "2.5"]));
    assert!(!pack(&["a", "1", "b"]), "no score");
    assert!(!pack(&["a", "x"]), "not a number");
    assert!(!pack(&["a", "nan"]));
    assert!(!pack(&["b", "1", "a", "1"]), "out of order");
    assert!(!pack(&["a", "1", "a", "2"]), "twice");
}

#[test]
fn samples_are_different_elements_and_all_come_up() {
    let mut random = Random::with_seed(9);
    for limits in [
        Limits::default(),
        Limits {
            zset_max_listpack_entries: 0,
            ..Limits::default()
        },
    ] {
        let mut set = SortedSet::new();
        for n in 0..100u32 {
            set.add(
                SEED,
                n.to_string().as_bytes(),
                f64::from(n),
                AddOptions::default(),
                &limits,
            );
        }
        let mut seen = [0u32; 100];
        for _ in 0..200 {
            let mut sample = Vec::new();
            set.as_ref()
                .sample(30, &mut random, |element| sample.push(element.score as usize));
            assert_eq!(sample.len(), 30);
            assert!(sample.windows(2).all(|pair| pair[0] < pair[1]));
            sample.iter().for_each(|n| seen[*n] += 1);
            let one = set.as_ref().random(&mut random).expect("there are some");
            seen[one.score as usize] += 1;
        }
        assert!(seen.iter().all(|count| (30..100).contains(count)), "{seen:?}");
        let mut all = 0;
        set.as_ref().sample(1000, &mut random, |_| all += 1);
        assert_eq!(all, 100);
    }
}

#[test]
fn scan_shows_everything() {
    for count in [10u32, 1000] {
        let mut set = SortedSet::new();
        for n in 0..count {
            set.add(
                SEED,
                n.to_string().as_bytes(),
                f64::from(n),
                AddOptions::default(),
                &Limits::default(),
            );
        }
        let mut seen = 0;
        let mut position = Some(0);
        while let Some(at) = position {
            position = set.as_ref().scan(at, 10, |_, _| seen += 1);
        }
        assert_eq!(seen, count);
    }
}
