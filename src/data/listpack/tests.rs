//! Listpacks against a vector of byte strings, against bytes that redis-server made, and against damage.

use proptest::prelude::*;

use super::*;
use crate::base::size_class::size_class;

/// Where one encoding of integers ends and the next begins.
const EDGES: [i64; 22] = [
    0,
    1,
    -1,
    127,
    128,
    -128,
    4095,
    4096,
    -4096,
    -4097,
    32767,
    32768,
    -32768,
    -32769,
    8_388_607,
    8_388_608,
    -8_388_608,
    -8_388_609,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

/// Lengths around which the encoding of strings or the backward length changes.
const LENGTHS: [usize; 16] = [
    0, 1, 62, 63, 64, 125, 126, 127, 128, 4094, 4095, 4096, 16_377, 16_378, 16_379, 16_384,
];

pub(crate) fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..12),
        3 => (-200i64..200).prop_map(|integer| integer.to_string().into_bytes()),
        2 => (prop::sample::select(&EDGES[..]), -1i64..=1)
            .prop_map(|(edge, beside)| edge.saturating_add(beside).to_string().into_bytes()),
        1 => any::<i64>().prop_map(|integer| integer.to_string().into_bytes()),
        1 => prop::sample::select(vec![&b"-0"[..], b"007", b"+1", b" 1", b"9223372036854775808", b"-9223372036854775809"])
            .prop_map(<[u8]>::to_vec),
        1 => (prop::sample::select(&LENGTHS[..11]), any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    PushInt(i64),
    InsertBefore(usize, Vec<u8>),
    InsertAfter(usize, Vec<u8>),
    Replace(usize, Vec<u8>),
    ReplaceInt(usize, i64),
    Delete(usize),
    DeleteRange(usize, usize),
    Split(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => text().prop_map(Step::PushBack),
        4 => text().prop_map(Step::PushFront),
        1 => any::<i64>().prop_map(Step::PushInt),
        2 => (any::<usize>(), text()).prop_map(|(at, text)| Step::InsertBefore(at, text)),
        2 => (any::<usize>(), text()).prop_map(|(at, text)| Step::InsertAfter(at, text)),
        2 => (any::<usize>(), text()).prop_map(|(at, text)| Step::Replace(at, text)),
        1 => (any::<usize>(), any::<i64>()).prop_map(|(at, integer)| Step::ReplaceInt(at, integer)),
        2 => any::<usize>().prop_map(Step::Delete),
        1 => (any::<usize>(), 0usize..6).prop_map(|(at, count)| Step::DeleteRange(at, count)),
        1 => any::<usize>().prop_map(Step::Split),
    ]
}

/// Everything that can be read agrees with the model.
fn agree(listpack: &Listpack, model: &[Vec<u8>]) {
    let texts = |items: &mut dyn Iterator<Item = Item<'_>>| items.map(|item| item.to_vec()).collect::<Vec<_>>();
    assert_eq!(listpack.len(), model.len());
    assert_eq!(listpack.is_empty(), model.is_empty());
    assert_eq!(texts(&mut listpack.iter()), model);
    let mut backwards = texts(&mut listpack.iter_rev());
    backwards.reverse();
    assert_eq!(backwards, model);
    assert_eq!(listpack.allocated_bytes(), size_class(listpack.bytes()));
    let entries: usize = model.iter().map(|text| Listpack::entry_bytes(text)).sum();
    assert_eq!(listpack.bytes(), entries + EMPTY.len());
    let again = Listpack::from_bytes(listpack.as_bytes()).expect("what we wrote is sound");
    assert_eq!(again.as_bytes(), listpack.as_bytes());

    for (index, text) in model.iter().enumerate() {
        let place = listpack.seek(index as i64).expect("it is there");
        assert_eq!(listpack.seek(index as i64 - model.len() as i64), Some(place));
        let item = listpack.get(place);
        assert!(item.eq_bytes(text));
        assert_eq!(item.len(), text.len());
        assert_eq!(item.is_empty(), text.is_empty());
        assert_eq!(item.to_i64(), crate::base::numbers::parse_i64(text));
        assert_eq!(matches!(item, Item::Int(_)), item.to_i64().is_some());
        assert_eq!(listpack.next(place), listpack.seek(index as i64 + 1));
        let previous = index.checked_sub(1).and_then(|index| listpack.seek(index as i64));
        assert_eq!(listpack.previous(place), previous);
        assert!(listpack.iter_from(place).eq(listpack.iter().skip(index)));
        assert!(listpack.iter_to(place).eq(listpack.iter().take(index + 1)));
    }
    assert_eq!(listpack.seek(model.len() as i64), None);
    assert_eq!(listpack.seek(-1 - model.len() as i64), None);
    assert_eq!(listpack.first(), listpack.seek(0));
    assert_eq!(listpack.last(), listpack.seek(-1));
    assert!(listpack.iter_places().all(|(place, item)| listpack.get(place) == item));
    assert!(listpack.iter_places().rev().map(|(place, _)| place).eq({
        let mut places: Vec<Place> = listpack.iter_places().map(|(place, _)| place).collect();
        places.reverse();
        places
    }));
    for skip in 0..3 {
        for text in model.iter().chain([&b"not there"[..].to_vec()]) {
            let expected = (0..model.len()).step_by(skip + 1).find(|&index| &model[index] == text);
            let found = listpack.first().and_then(|first| listpack.find(first, text, skip));
            assert_eq!(found, expected.and_then(|index| listpack.seek(index as i64)));
        }
    }
}

fn apply(listpack: &mut Listpack, model: &mut Vec<Vec<u8>>, step: Step) {
    let count = model.len();
    let pick = |at: usize| (count > 0).then(|| at % count);
    let place = |listpack: &Listpack, index: usize| listpack.seek(index as i64).expect("it is there");
    match step {
        Step::PushBack(text) => {
            listpack.push_back(&text);
            model.push(text);
        }
        Step::PushFront(text) => {
            listpack.push_front(&text);
            model.insert(0, text);
        }
        Step::PushInt(integer) => {
            listpack.push_int(integer);
            model.push(integer.to_string().into_bytes());
        }
        Step::InsertBefore(at, text) => {
            let Some(index) = pick(at) else { return };
            let new = listpack.insert_before(place(listpack, index), &text);
            assert!(listpack.get(new).eq_bytes(&text));
            model.insert(index, text);
        }
        Step::InsertAfter(at, text) => {
            let Some(index) = pick(at) else { return };
            let new = listpack.insert_after(place(listpack, index), &text);
            assert!(listpack.get(new).eq_bytes(&text));
            model.insert(index + 1, text);
        }
        Step::Replace(at, text) => {
            let Some(index) = pick(at) else { return };
            let new = listpack.replace(place(listpack, index), &text);
            assert!(listpack.get(new).eq_bytes(&text));
            model[index] = text;
        }
        Step::ReplaceInt(at, integer) => {
            let Some(index) = pick(at) else { return };
            listpack.replace_int(place(listpack, index), integer);
            model[index] = integer.to_string().into_bytes();
        }
        Step::Delete(at) => {
            let Some(index) = pick(at) else { return };
            let next = listpack.delete(place(listpack, index));
            model.remove(index);
            assert_eq!(next, listpack.seek(index as i64));
        }
        Step::DeleteRange(at, range) => {
            let Some(index) = pick(at) else { return };
            let next = listpack.delete_range(place(listpack, index), range);
            model.drain(index..(index + range).min(count));
            assert_eq!(next, listpack.seek(index as i64));
        }
        Step::Split(at) => {
            let Some(index) = pick(at) else { return };
            let tail = listpack.split_off(place(listpack, index));
            agree(&tail, &model[index..]);
            agree(listpack, &model[..index]);
            if at % 2 == 0 {
                listpack.append(&tail);
            } else {
                let mut whole = tail;
                whole.prepend(listpack);
                *listpack = whole;
            }
        }
    }
}

proptest! {
    #[test]
    fn behaves_as_a_vector(steps in prop::collection::vec(step(), 0..60)) {
        let (mut listpack, mut model) = (Listpack::new(), Vec::new());
        for step in steps {
            apply(&mut listpack, &mut model, step);
        }
        agree(&listpack, &model);
        let copy = listpack.clone();
        prop_assert_eq!(copy.as_bytes(), listpack.as_bytes());
    }

    #[test]
    fn one_damaged_byte_is_refused_or_harmless(
        texts in prop::collection::vec(text(), 0..12),
        at in any::<usize>(),
        bits in 1u8..,
    ) {
        let mut listpack = Listpack::new();
        for text in &texts {
            listpack.push_back(text);
        }
        let mut bytes = listpack.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= bits;
        if let Ok(mut other) = Listpack::from_bytes(&bytes) {
            let model: Vec<Vec<u8>> = other.iter().map(|item| item.to_vec()).collect();
            prop_assert_eq!(other.iter_rev().count(), model.len());
            while let Some(place) = other.last() {
                other.delete(place);
            }
            prop_assert_eq!(other.as_bytes(), &EMPTY[..]);
        }
        let cut = at.min(listpack.bytes() - 1);
        prop_assert!(Listpack::from_bytes(&listpack.as_bytes()[..cut]).is_err());
    }

    #[test]
    fn anything_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..30), count in any::<u16>()) {
        let mut bytes = (body.len() as u32 + 7).to_le_bytes().to_vec();
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.push(END);
        if let Ok(listpack) = Listpack::from_bytes(&bytes) {
            prop_assert_eq!(listpack.iter().count(), listpack.iter_rev().count());
        }
    }
}

#[test]
fn integers_at_the_edges_of_their_encodings() {
    let (mut listpack, mut model) = (Listpack::new(), Vec::new());
    for edge in EDGES {
        for beside in [-1, 0, 1] {
            let Some(integer) = i64::checked_add(edge, beside) else {
                continue;
            };
            listpack.push_back(integer.to_string().as_bytes());
            model.push(integer.to_string().into_bytes());
        }
    }
    agree(&listpack, &model);
    let sizes = [
        (0, 2),
        (127, 2),
        (-1, 3),
        (128, 3),
        (4095, 3),
        (-4096, 3),
        (4096, 4),
        (-4097, 4),
        (32767, 4),
        (32768, 5),
        (-32769, 5),
        (8_388_607, 5),
        (8_388_608, 6),
        (-8_388_609, 6),
        (i64::from(i32::MIN), 6),
        (1 << 31, 10),
        (i64::MIN, 10),
    ];
    for (integer, bytes) in sizes {
        assert_eq!(
            Listpack::entry_bytes(integer.to_string().as_bytes()),
            bytes,
            "{integer}"
        );
    }
}

#[test]
fn strings_at_the_edges_of_their_encodings() {
    let (mut listpack, mut model) = (Listpack::new(), Vec::new());
    for len in LENGTHS {
        listpack.push_back(&vec![b'x'; len]);
        model.push(vec![b'x'; len]);
    }
    agree(&listpack, &model);
    // The head of 5 bytes makes it 16382, 16383 and 16384: Redis takes a third byte from 16383 on.
    for (len, bytes) in [
        (63, 65),
        (64, 67),
        (125, 128),
        (126, 130),
        (4095, 4099),
        (16_377, 16_384),
        (16_378, 16_386),
    ] {
        assert_eq!(Listpack::entry_bytes(&vec![b'x'; len]), bytes, "{len}");
    }
    for len in [(1 << 21) - 8, (1 << 21) - 7, (1 << 21) - 6, (1 << 21) - 5] {
        let mut long = Listpack::new();
        long.push_back(&vec![b'y'; len]);
        long.push_back(b"behind");
        agree(&long, &[vec![b'y'; len], b"behind".to_vec()]);
    }
}

/// What redis-server 7.0.15 gives for the list `a 1 -5000 hello 70000`, a listpack in one node (DUMP).
#[test]
fn bytes_are_those_of_redis() {
    let expected = [
        28, 0, 0, 0, 5, 0, 0x81, b'a', 2, 1, 1, 0xf1, 0x78, 0xec, 3, 0x85, b'h', b'e', b'l', b'l', b'o', 6, 0xf2, 0x70,
        0x11, 1, 4, 0xff,
    ];
    let mut listpack = Listpack::new();
    for text in ["a", "1", "-5000", "hello", "70000"] {
        listpack.push_back(text.as_bytes());
    }
    assert_eq!(listpack.as_bytes(), expected);
}

#[test]
fn a_count_of_65535_means_count_yourself() {
    let mut listpack = Listpack::new();
    let count_at = |listpack: &Listpack| u16::from_le_bytes([listpack.as_bytes()[4], listpack.as_bytes()[5]]);
    for index in 0..65_534 {
        listpack.push_int(index % 100);
    }
    assert_eq!((listpack.len(), count_at(&listpack)), (65_534, 65_534));
    listpack.push_int(1);
    assert_eq!((listpack.len(), count_at(&listpack)), (65_535, 65_535));
    listpack.push_front(b"first");
    listpack.push_back(b"last");
    assert_eq!((listpack.len(), count_at(&listpack)), (65_537, 65_535));
    assert!(listpack.get(listpack.seek(0).unwrap()).eq_bytes(b"first"));
    assert!(listpack.get(listpack.seek(65_536).unwrap()).eq_bytes(b"last"));
    assert!(listpack.get(listpack.seek(-65_537).unwrap()).eq_bytes(b"first"));
    assert_eq!(listpack.seek(65_537), None);
    assert_eq!(listpack.seek(-65_538), None);
    assert_eq!(Listpack::from_bytes(listpack.as_bytes()).unwrap(), listpack);
    listpack.delete(listpack.first().unwrap());
    assert_eq!((listpack.len(), count_at(&listpack)), (65_536, 65_535));
    listpack.delete_range(listpack.first().unwrap(), 2);
    assert_eq!((listpack.len(), count_at(&listpack)), (65_534, 65_534));

    // A count that somebody left unknown is settled when it is read.
    let mut bytes = listpack.as_bytes().to_vec();
    bytes[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(Listpack::from_bytes(&bytes).unwrap().as_bytes(), listpack.as_bytes());
}

#[test]
fn damage_is_named_with_its_place() {
    let says = |bytes: &[u8]| Listpack::from_bytes(bytes).unwrap_err().to_string();
    assert_eq!(says(&[]), "0 bytes, too few for a header at offset 0");
    assert_eq!(
        says(&[8, 0, 0, 0, 0, 0, 0xff]),
        "the header announces 8 bytes, there are 7 at offset 0"
    );
    assert_eq!(says(&[7, 0, 0, 0, 0, 0, 0xfe]), "no end mark at offset 6");
    assert_eq!(
        says(&[8, 0, 0, 0, 0, 0, 0xff, 0xff]),
        "an end mark before the end at offset 6"
    );
    assert_eq!(
        says(&[7, 0, 0, 0, 1, 0, 0xff]),
        "the header announces 1 elements, there are 0 at offset 4"
    );
    assert_eq!(
        says(&[9, 0, 0, 0, 1, 0, 0xf5, 1, 0xff]),
        "no element begins with 0xf5 at offset 6"
    );
    assert_eq!(
        says(&[9, 0, 0, 0, 1, 0, 1, 2, 0xff]),
        "the length for walking backwards is not the element's, 1 bytes at offset 7"
    );
    assert_eq!(
        says(&[9, 0, 0, 0, 1, 0, 0x85, b'a', 0xff]),
        "an element of 7 bytes where 2 are left at offset 6"
    );
    assert_eq!(
        says(&[8, 0, 0, 0, 1, 0, 0xf0, 0xff]),
        "an element of 5 bytes where 1 are left at offset 6"
    );
    let mut longest = vec![13, 0, 0, 0, 1, 0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0, 0xff];
    assert!(says(&longest).ends_with("where 6 are left at offset 6"));
    longest[6] = 0xef;
    assert!(says(&longest).ends_with("where 6 are left at offset 6"));
}

#[test]
fn an_integer_kept_as_text_is_the_same_element() {
    // Ours never look so, but the format allows it.
    let foreign = [10, 0, 0, 0, 1, 0, 0x82, b'1', b'2', 3, 0xff];
    let mut foreign = foreign.to_vec();
    foreign[0] = 11;
    let listpack = Listpack::from_bytes(&foreign).unwrap();
    let first = listpack.first().unwrap();
    assert_eq!(listpack.get(first), Item::Int(12));
    assert_eq!(listpack.find(first, b"12", 0), Some(first));
    assert_eq!(listpack.get(first).to_i64(), Some(12));
}

#[test]
fn one_pointer_and_back() {
    assert_eq!(size_of::<Option<Listpack>>(), 8);
    let mut listpack = Listpack::default();
    listpack.push_back(b"kept");
    let start = listpack.into_raw();
    // SAFETY: it comes from `into_raw` just now.
    let listpack = unsafe { Listpack::from_raw(start) };
    assert_eq!(format!("{listpack:?}"), "[\"kept\"]");
    assert!(listpack.fits(1000));
    assert!(!listpack.fits(1 << 30));
    assert!(!listpack.fits(usize::MAX));
}
