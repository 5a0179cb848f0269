//! Streams against plain maps, step by step, with all invariants checked after each.

use super::*;
use crate::base::clock::{Ms, UnixMs};
use crate::data::Limits;
use crate::data::listpack::Item;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn limits(bytes: usize, entries: usize) -> Limits {
    Limits {
        stream_node_max_bytes: bytes,
        stream_node_max_entries: entries,
        ..Limits::default()
    }
}

fn text(item: Item<'_>) -> Vec<u8> {
    match item {
        Item::Int(value) => value.to_string().into_bytes(),
        Item::Bytes(bytes) => bytes.to_vec(),
    }
}

type Words = Vec<Vec<u8>>;

fn read(entry: Entry<'_>) -> (StreamId, Words) {
    let fields = entry.fields();
    assert_eq!(fields.len(), entry.field_count());
    (
        entry.id,
        fields.flat_map(|(name, value)| [text(name), text(value)]).collect(),
    )
}

fn append(stream: &mut Stream, id: StreamId, words: &[Vec<u8>], limits: &Limits) -> Result<(), AppendError> {
    stream.entries.append(id, words.iter().map(Vec::as_slice), limits)
}

/// Takes the stream apart and puts it together as a file's reader does.
fn reload(stream: &Stream) -> Stream {
    let mut copy = Stream::new();
    for block in stream.entries.blocks() {
        copy.entries.append_block(block.id(), block.listpack().clone()).unwrap();
    }
    let entries = &stream.entries;
    copy.entries
        .restore(entries.last_id(), entries.max_deleted_id(), entries.added())
        .unwrap();
    copy
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        gap: (u64, u64),
        words: Words,
        count: u8,
    },
    AppendAuto(u64),
    AppendSeq(u64),
    Delete(u8),
    Trim {
        max_len: Option<u64>,
        min: u8,
        is_approximate: bool,
        limit: Option<u64>,
    },
    Range(u8, u8),
    Limits(usize, usize),
    Reload,
}

fn words() -> impl Strategy<Value = Words> {
    let word = prop_oneof![
        any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        "[a-c]{0,3}".prop_map(String::into_bytes),
        "[a-z]{60,70}".prop_map(String::into_bytes),
    ];
    let name = prop_oneof![Just(b"a".to_vec()), Just(b"b".to_vec()), Just(b"12".to_vec())];
    proptest::collection::vec((name, word), 1..4)
        .prop_map(|pairs| pairs.into_iter().flat_map(|(name, value)| [name, value]).collect())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => ((0..3u64, any::<u8>().prop_map(u64::from)), words(), 1..60u8)
            .prop_map(|(gap, words, count)| Step::Append { gap, words, count }),
        1 => (0..20u64).prop_map(Step::AppendAuto),
        1 => (0..20u64).prop_map(Step::AppendSeq),
        4 => any::<u8>().prop_map(Step::Delete),
        2 => (proptest::option::of(0..120u64), any::<u8>(), any::<bool>(), proptest::option::of(0..100u64))
            .prop_map(|(max_len, min, is_approximate, limit)| {
                Step::Trim { max_len, min, is_approximate, limit: limit.filter(|_| is_approximate) }
            }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Step::Range(from, to)),
        1 => (prop_oneof![Just(0), 60..600usize], prop_oneof![Just(0), 1..20usize])
            .prop_map(|(bytes, entries)| Step::Limits(bytes, entries)),
        1 => Just(Step::Reload),
    ]
}

/// An ID that is there or near one: the `part`-th of 256.
fn some_id(model: &BTreeMap<StreamId, Words>, part: u8) -> StreamId {
    let id = model
        .keys()
        .nth(usize::from(part) * model.len() / 256)
        .copied()
        .unwrap_or_default();
    match part % 4 {
        0 => id.next().unwrap(),
        1 => id.previous().unwrap_or_default(),
        _ => id,
    }
}

proptest! {
    #[test]
    fn the_log_behaves_as_a_map(steps in proptest::collection::vec(step(), 1..60)) {
        let mut stream = Stream::new();
        let mut model: BTreeMap<StreamId, Words> = BTreeMap::new();
        let (mut last, mut added, mut max_deleted) = (StreamId::MIN, 0, StreamId::MIN);
        let mut limits = limits(200, 10);
        for step in steps {
            match step {
                Step::Append { gap, words, count } => for _ in 0..count {
                    // A later millisecond begins at any sequence number.
                    let id = if gap.0 > 0 { StreamId::new(last.ms + gap.0, gap.1) } else {
                        StreamId::new(last.ms, last.seq + 1 + gap.1)
                    };
                    prop_assert_eq!(append(&mut stream, last, &words, &limits), Err(AppendError::IdTooSmall));
                    prop_assert_eq!(append(&mut stream, id, &words, &limits), Ok(()));
                    model.insert(id, words.clone());
                    (last, added) = (id, added + 1);
                },
                Step::AppendAuto(now) => {
                    let id = stream.entries.new_id(NewId::Auto, UnixMs(now)).unwrap();
                    let expected = if now > last.ms { StreamId::new(now, 0) } else { last.next().unwrap() };
                    prop_assert_eq!(id, expected);
                }
                Step::AppendSeq(ms) => {
                    let id = stream.entries.new_id(NewId::AutoSeq(ms), UnixMs(0));
                    let expected = match ms.cmp(&last.ms) {
                        std::cmp::Ordering::Less => Err(AppendError::IdTooSmall),
                        std::cmp::Ordering::Equal => Ok(StreamId::new(ms, last.seq + 1)),
                        std::cmp::Ordering::Greater => Ok(StreamId::new(ms, 0)),
                    };
                    prop_assert_eq!(id, expected);
                }
                Step::Delete(part) => {
                    let id = some_id(&model, part);
                    let was_there = model.remove(&id).is_some();
                    prop_assert_eq!(stream.entries.delete(id), was_there);
                    if was_there { max_deleted = max_deleted.max(id); }
                }
                Step::Trim { max_len, min, is_approximate, limit } => {
                    let min = some_id(&model, min);
                    let bound = max_len.map_or(TrimBound::MinId(min), TrimBound::MaxLen);
                    let excess = match max_len {
                        Some(max) => (model.len() as u64).saturating_sub(max),
                        None => model.range(..min).count() as u64,
                    };
                    let dropped = stream.entries.trim(&Trim { bound, is_approximate, limit });
                    if is_approximate {
                        prop_assert!(dropped <= excess.min(limit.unwrap_or(u64::MAX)));
                    } else {
                        prop_assert_eq!(dropped, excess);
                    }
                    for _ in 0..dropped { model.pop_first(); }
                }
                Step::Range(from, to) => {
                    let (from, to) = (some_id(&model, from), some_id(&model, to));
                    let expected: Vec<_> = if from > to { Vec::new() } else {
                        model.range(from..=to).map(|(id, words)| (*id, words.clone())).collect()
                    };
                    let found: Vec<_> = stream.entries.range(from, to).map(read).collect();
                    prop_assert_eq!(&found, &expected);
                    let mut found: Vec<_> = stream.entries.range_rev(to, from).map(read).collect();
                    found.reverse();
                    prop_assert_eq!(&found, &expected);
                    prop_assert_eq!(stream.entries.contains(from), model.contains_key(&from));
                }
                Step::Limits(bytes, entries) => {
                    limits.stream_node_max_bytes = bytes;
                    limits.stream_node_max_entries = entries;
                }
                Step::Reload => stream = reload(&stream),
            }
            stream.check();
            prop_assert_eq!(stream.len(), model.len());
            prop_assert_eq!(stream.entries.last_id(), last);
            prop_assert_eq!(stream.entries.added(), added);
            prop_assert_eq!(stream.entries.max_deleted_id(), max_deleted);
        }
        let found: Vec<_> = stream.clone().entries.range(StreamId::MIN, StreamId::MAX).map(read).collect();
        prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
        while !stream.free_step(3) {}
    }

    #[test]
    fn groups_behave_as_maps(steps in proptest::collection::vec((0..8u8, 0..40u64, 0..4u8, any::<bool>()), 1..200)) {
        let mut stream = Stream::new();
        let limits = limits(0, 10);
        for ms in 1..=30 {
            append(&mut stream, StreamId::new(ms, 0), &[b"a".to_vec(), b"b".to_vec()], &limits).unwrap();
        }
        let Stream { entries, groups } = &mut stream;
        prop_assert!(groups.add(Group::new(b"g", StreamId::MIN, None)));
        prop_assert!(!groups.add(Group::new(b"g", StreamId::MIN, None)));
        let group = groups.get_mut(b"g").unwrap();
        let mut model: BTreeMap<StreamId, (u8, u64, u64)> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for (now, (what, ms, consumer, flag)) in steps.into_iter().enumerate() {
            let (id, name, now) = (StreamId::new(ms, 0), [b'c', consumer], UnixMs(now as u64));
            match what {
                0 | 1 if entries.contains(id) => {
                    let (number, is_new) = group.add_consumer(&name, now);
                    prop_assert_eq!(is_new, names.insert(consumer));
                    group.deliver(id, number, now);
                    model.insert(id, (consumer, now.0, 1));
                }
                2 => prop_assert_eq!(group.acknowledge(id), model.remove(&id).is_some()),
                3 | 4 => {
                    names.insert(consumer);
                    let (number, _) = group.add_consumer(&name, now);
                    let claim = Claim {
                        idle_min: Ms(3), delivered_at: now, delivery_count: None, counts: flag, force: ms % 2 == 0, now,
                    };
                    let claimed = group.claim(id, number, &claim, entries);
                    let old = model.get(&id).copied();
                    if !entries.contains(id) {
                        prop_assert_eq!(matches!(claimed, Claimed::Gone(_)), model.remove(&id).is_some());
                    } else if old.map_or(claim.force, |old| now.0 - old.1 >= 3) {
                        let count = old.map_or(1, |old| old.2) + u64::from(flag);
                        model.insert(id, (consumer, now.0, count));
                        prop_assert!(matches!(claimed, Claimed::Yes(pending) if pending.delivery_count == count));
                    } else {
                        prop_assert_eq!(claimed, Claimed::No);
                    }
                }
                5 => {
                    let pending = model.values().filter(|old| old.0 == consumer).count();
                    let expected = names.remove(&consumer).then_some(pending);
                    prop_assert_eq!(group.remove_consumer(&name), expected);
                    model.retain(|_, old| old.0 != consumer);
                }
                6 => {
                    let again = group.deliver_again(id, now);
                    let old = model.get_mut(&id);
                    prop_assert_eq!(again, old.is_some());
                    if let Some(old) = old { (old.1, old.2) = (now.0, old.2 + 1); }
                }
                _ if flag => { entries.delete(id); }
                _ => {}
            }
            group.check();
            let found: BTreeMap<_, _> = group.pending_from(StreamId::MIN)
                .map(|pending| (pending.id, (group.owner(pending).name()[1], pending.delivered_at.0, pending.delivery_count)))
                .collect();
            prop_assert_eq!(&found, &model);
            prop_assert!(group.consumers().map(|consumer| consumer.name()[1]).eq(names.iter().copied()));
        }
        stream.check();
        while !stream.free_step(2) {}
    }
}

#[test]
fn ids_end() {
    let mut stream = Stream::new();
    let words = [b"a".to_vec(), b"1".to_vec()];
    let limits = Limits::default();
    append(&mut stream, StreamId::new(5, u64::MAX), &words, &limits).unwrap();
    let entries = &stream.entries;
    assert_eq!(entries.new_id(NewId::Auto, UnixMs(3)), Ok(StreamId::new(6, 0)));
    assert_eq!(
        entries.new_id(NewId::AutoSeq(5), UnixMs(3)),
        Err(AppendError::SeqExhausted)
    );
    append(&mut stream, StreamId::MAX, &words, &limits).unwrap();
    assert_eq!(
        stream.entries.new_id(NewId::Auto, UnixMs(3)),
        Err(AppendError::Exhausted)
    );
    let found: Vec<_> = stream
        .entries
        .range(StreamId::MIN, StreamId::MAX)
        .map(|entry| entry.id)
        .collect();
    assert_eq!(found, [StreamId::new(5, u64::MAX), StreamId::MAX], "differences wrap");
    stream.check();
}

#[test]
fn a_group_knows_its_lag_until_entries_are_missing() {
    let mut stream = Stream::new();
    let words = [b"a".to_vec(), b"1".to_vec()];
    for ms in 1..=5 {
        append(&mut stream, StreamId::new(ms, 0), &words, &Limits::default()).unwrap();
    }
    let Stream { entries, .. } = &mut stream;
    let mut group = Group::new(b"g", StreamId::MIN, None);
    assert_eq!(group.lag(entries), Some(5), "0-0 is before the first entry");
    group.advance(StreamId::new(1, 0), entries);
    assert_eq!((group.entries_read, group.lag(entries)), (Some(1), Some(4)));
    group.advance(StreamId::new(2, 0), entries);
    assert_eq!((group.entries_read, group.lag(entries)), (Some(2), Some(3)));
    entries.delete(StreamId::new(4, 0));
    assert_eq!(group.lag(entries), None, "there is a gap ahead");
    group.advance(StreamId::new(3, 0), entries);
    assert_eq!(group.entries_read, None);
    group.advance(StreamId::new(5, 0), entries);
    assert_eq!(
        (group.entries_read, group.lag(entries)),
        (Some(5), Some(0)),
        "the last one's number is known"
    );
    let middle = Group::new(b"m", StreamId::new(2, 5), None);
    assert_eq!(middle.lag(entries), None);
}

#[test]
fn damaged_blocks_are_refused() {
    let mut stream = Stream::new();
    let words = [b"a".to_vec(), b"1".to_vec()];
    for ms in 1..=5 {
        append(&mut stream, StreamId::new(ms, 0), &words, &Limits::default()).unwrap();
    }
    let block = stream.entries.blocks().next().unwrap().clone();
    let places = block.listpack().len();
    for index in 0..places {
        let mut pack = block.listpack().clone();
        let place = (0..index).fold(pack.first().unwrap(), |at, _| pack.next(at).unwrap());
        let is_text = !matches!(pack.get(place), Item::Int(_));
        pack.replace_int(place, 77);
        // Only texts and values may be any number; and a difference of IDs as long as they ascend.
        if let Some(Some(other)) = Block::from_listpack(block.id(), pack) {
            assert!(is_text || index > 4, "{index}");
            other.check();
        }
    }
    let mut copy = Stream::new();
    copy.entries.append_block(block.id(), block.listpack().clone()).unwrap();
    assert_eq!(
        copy.entries.append_block(StreamId::new(5, 0), block.listpack().clone()),
        Err(BadBlock)
    );
    assert_eq!(
        copy.entries.restore(StreamId::new(4, 0), StreamId::MIN, 5),
        Err(BadBlock)
    );
    assert_eq!(copy.entries.restore(StreamId::new(5, 0), StreamId::MIN, 5), Ok(()));
}

#[test]
fn a_million_entries_take_little_more_than_their_blocks() {
    let mut stream = Stream::new();
    let limits = Limits::default();
    let count = 100_000u64;
    for number in 0..count {
        let value = number.to_string();
        let words: [&[u8]; 6] = [b"sensor", value.as_bytes(), b"temperature", b"21.5", b"place", b"attic"];
        let id = StreamId::new(1_700_000_000_000 + number, 0);
        stream.entries.append(id, words.into_iter(), &limits).unwrap();
    }
    let packs: usize = stream.entries.blocks().map(|block| block.listpack().bytes()).sum();
    let taken = stream.allocated_bytes();
    println!(
        "{} bytes for each entry, of them {} in listpacks",
        taken as u64 / count,
        packs as u64 / count
    );
    assert!(taken * 100 < packs * 125, "{taken} for {packs}");
    stream.check();
}
