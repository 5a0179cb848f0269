use super::*;
use crate::base::hash::HashSeed;
use crate::base::random::Random;
use crate::data::Limits;
use crate::persist::digest::{digest_value, hex};
use crate::persist::file::writer::{Head as FileHead, PARTS_FIELD, Part, Scribe, Usage, Writing, lay};
use crate::persist::payload::Form;
use crate::persist::rdb::RdbWriter;
use crate::persist::value::{Making, Value};
use crate::runtime::disk::{Disk, SimulatedDisk};
use crate::store::{DbIndex, OwnedEntry};
use std::path::Path;

const SEED: HashSeed = HashSeed([1, 2]);

/// A file as its bytes, for tests.
struct Made(Vec<u8>);

impl Made {
    fn new(signature: &str) -> Made {
        Made(signature.as_bytes().to_vec())
    }

    fn raw(mut self, bytes: &[u8]) -> Made {
        self.0.extend_from_slice(bytes);
        self
    }

    fn length(mut self, length: u64) -> Made {
        RdbWriter::new(&mut self.0, false).length(length);
        self
    }

    fn string(mut self, text: &[u8]) -> Made {
        RdbWriter::new(&mut self.0, true).string(text);
        self
    }

    /// A key with a value that is this one string.
    fn key(self, kind: u8, key: &str, value: &[u8]) -> Made {
        self.raw(&[kind]).string(key.as_bytes()).string(value)
    }

    /// The end, with a checksum.
    fn end(mut self) -> Vec<u8> {
        self.0.push(opcode::EOF);
        let crc = crc64(0, &self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        self.0
    }

    /// The end, as versions without checksums have it.
    fn bare_end(mut self) -> Vec<u8> {
        self.0.push(opcode::EOF);
        self.0
    }
}

/// One key, as it was read: db, key, expiry, idle seconds, frequency, and the digest of the value or its damage.
type Loaded = (u64, String, Option<u64>, Option<u64>, Option<u8>, String);

/// Gives a few bytes at a time.
struct Dripping<'a>(&'a [u8], usize);

impl Read for Dripping<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(self.1).min(self.0.len());
        let (now, later) = self.0.split_at(count);
        out[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

/// What is in a file besides keys.
#[derive(Default, Debug, PartialEq)]
struct Whole {
    keys: Vec<Loaded>,
    others: Vec<Item>,
}

fn make(
    limits: &Limits,
    page: &[u8],
    place: Place,
    version: u16,
) -> (String, Option<u64>, Option<u64>, Option<u8>, String) {
    let mut reader = RdbReader::at(page, place.start);
    let head = Head::read(&mut reader).expect("it was read before");
    let making = Making { limits, seed: SEED };
    let text = match Value::read_kind(head.kind, &mut reader, making, version) {
        Ok(value) => {
            assert_eq!(reader.offset(), place.end, "the value ends where it was said to");
            let entry: OwnedEntry = value.into_entry(&head.key, head.expiry, 0);
            hex(&digest_value(entry.as_ref()))
        }
        Err(error) => error.what.to_string(),
    };
    let key = String::from_utf8_lossy(&head.key).into_owned();
    (
        key,
        head.expiry.map(|expiry| expiry.0),
        head.idle_s,
        head.frequency,
        text,
    )
}

fn read_all<R: Read>(mut reader: Reader<R>) -> Result<Whole, FileError> {
    let limits = Limits::default();
    let (mut whole, mut places, mut db, mut read_bytes) = (Whole::default(), Vec::new(), 0, 0);
    loop {
        let next = reader.look()?;
        let (is_page_end, is_end) = (next == Next::PageEnd, next == Next::Item(Item::End));
        match next {
            Next::Item(Item::Entry(place)) => places.push((db, place)),
            Next::Item(Item::SelectDb(index)) => {
                db = index;
                whole.others.push(Item::SelectDb(index));
            }
            Next::Item(other) => whole.others.push(other),
            Next::PageEnd => {}
        }
        if is_page_end || is_end {
            let version = reader.version();
            let page = reader.turn_page();
            read_bytes += page.bytes.len();
            for (db, place) in places.drain(..) {
                let (key, expiry, idle_s, frequency, text) = make(&limits, &page.bytes, place, version);
                whole.keys.push((db, key, expiry, idle_s, frequency, text));
            }
            assert!(page.bytes.len() <= 2 * read_bytes + 2 * PAGE_BYTES);
        }
        if is_end {
            return Ok(whole);
        }
    }
}

fn load(bytes: &[u8]) -> Result<Whole, FileError> {
    let whole = read_all(Reader::new(bytes, Some(bytes.len() as u64), true)?);
    // The same, bit by bit, from something that does not say how much it has.
    let dripping = Reader::new(Dripping(bytes, 7), None, true).and_then(read_all);
    match (&whole, &dripping) {
        (Ok(whole), Ok(dripping)) => assert_eq!(whole, dripping),
        (Err(_), Err(_)) => {}
        _ => panic!("{whole:?} at once, {dripping:?} bit by bit"),
    }
    whole
}

fn texts(whole: &Whole) -> Vec<&str> {
    whole.keys.iter().map(|key| key.5.as_str()).collect()
}

/// A listpack of texts of less than 64 bytes.
fn listpack(items: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for item in items {
        body.push(0x80 | item.len() as u8);
        body.extend_from_slice(item.as_bytes());
        body.push(item.len() as u8 + 1);
    }
    body.push(0xff);
    let mut out = (6 + body.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&(items.len() as u16).to_le_bytes());
    out.extend(body);
    out
}

/// A ziplist of texts of less than 64 bytes.
fn ziplist(items: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    let (mut previous, mut tail) = (0, 10);
    for item in items {
        tail = 10 + body.len() as u32;
        body.push(previous);
        body.push(item.len() as u8);
        body.extend_from_slice(item.as_bytes());
        previous = 2 + item.len() as u8;
    }
    body.push(0xff);
    let mut out = (10 + body.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&tail.to_le_bytes());
    out.extend_from_slice(&(items.len() as u16).to_le_bytes());
    out.extend(body);
    out
}

/// A zipmap of short texts.
fn zipmap(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![pairs.len() as u8];
    for (field, value) in pairs {
        out.push(field.len() as u8);
        out.extend_from_slice(field.as_bytes());
        out.push(value.len() as u8);
        // Bytes that are free behind the value.
        out.push(2);
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"??");
    }
    out.push(0xff);
    out
}

fn intset(numbers: &[i16]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    out.extend_from_slice(&(numbers.len() as u32).to_le_bytes());
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out
}

/// Every layout that Redis ever had for the same five values, each in a file of its own version: all read alike.
#[test]
fn every_layout_of_a_value_is_read_as_the_same() {
    let lists = Made::new("REDIS0011")
        .raw(&[1])
        .string(b"l1")
        .length(2)
        .string(b"one")
        .string(b"two")
        .key(10, "l10", &ziplist(&["one", "two"]))
        .raw(&[14])
        .string(b"l14")
        .length(2)
        .string(&ziplist(&["one"]))
        .string(&ziplist(&["two"]))
        .raw(&[18])
        .string(b"l18")
        .length(2)
        .length(1)
        .string(b"one")
        .length(2)
        .string(&listpack(&["two"]));
    let sets = Made::new("REDIS0011")
        .raw(&[2])
        .string(b"s2")
        .length(2)
        .string(b"17")
        .string(b"5")
        .key(11, "s11", &intset(&[5, 17]))
        .key(20, "s20", &listpack(&["5", "17"]));
    let sorted_sets = Made::new("REDIS0011")
        .raw(&[3])
        .string(b"z3")
        .length(2)
        .string(b"a")
        .raw(b"\x031.5")
        .string(b"b")
        .raw(b"\x01\x32")
        .raw(&[5])
        .string(b"z5")
        .length(2)
        .string(b"a")
        .raw(&1.5f64.to_le_bytes())
        .string(b"b")
        .raw(&2f64.to_le_bytes())
        .key(12, "z12", &ziplist(&["a", "1.5", "b", "2"]))
        .key(17, "z17", &listpack(&["a", "1.5", "b", "2"]));
    let endless = Made::new("REDIS0011")
        .raw(&[3])
        .string(b"z3")
        .length(2)
        .string(b"a")
        .raw(&[254])
        .string(b"b")
        .raw(&[255])
        .raw(&[5])
        .string(b"z5")
        .length(2)
        .string(b"a")
        .raw(&f64::INFINITY.to_le_bytes())
        .string(b"b")
        .raw(&f64::NEG_INFINITY.to_le_bytes());
    let hashes = Made::new("REDIS0011")
        .raw(&[4])
        .string(b"h4")
        .length(2)
        .string(b"f")
        .string(b"1")
        .string(b"g")
        .string(b"x")
        .key(9, "h9", &zipmap(&[("f", "1"), ("g", "x")]))
        .key(13, "h13", &ziplist(&["f", "1", "g", "x"]))
        .key(16, "h16", &listpack(&["f", "1", "g", "x"]));
    for (made, count) in [(lists, 4), (sets, 3), (sorted_sets, 4), (endless, 2), (hashes, 4)] {
        let whole = load(&made.end()).unwrap();
        let texts = texts(&whole);
        assert_eq!(texts.len(), count);
        assert!(
            texts.iter().all(|text| *text == texts[0] && text.len() == 40),
            "{:?}",
            whole.keys
        );
    }
}

/// Fields that expire: Redis's three ways and Valkey's, in which the same numbers mean something else.
#[test]
fn hashes_with_expiries_are_read_in_the_dialect_of_their_file() {
    const AT: u64 = 4_000_000_000_000;
    let of_redis = Made::new("REDIS0012")
        .raw(&[24])
        .string(b"h")
        .raw(&AT.to_le_bytes())
        .length(2)
        .length(1)
        .string(b"f")
        .string(b"1")
        .length(0)
        .string(b"g")
        .string(b"x")
        .raw(&[22])
        .string(b"pre")
        .length(2)
        .length(AT)
        .string(b"f")
        .string(b"1")
        .length(0)
        .string(b"g")
        .string(b"x")
        .raw(&[25])
        .string(b"packed")
        .raw(&AT.to_le_bytes())
        .string(&listpack(&["f", "1", "4000000000000", "g", "x", "0"]))
        .key(23, "packed-pre", &listpack(&["f", "1", "4000000000000", "g", "x", "0"]));
    let of_valkey = Made::new("VALKEY080")
        .raw(&[22])
        .string(b"h")
        .length(2)
        .string(b"f")
        .string(b"1")
        .raw(&AT.to_le_bytes())
        .string(b"g")
        .string(b"x")
        .raw(&(-1i64).to_le_bytes())
        // Slots that were on their way, which is no value in this dialect.
        .raw(&[opcode::SLOT_IMPORT])
        .string(&[b'a'; 40])
        .length(1)
        .length(3)
        .length(9);
    let (of_redis, of_valkey) = (load(&of_redis.end()).unwrap(), load(&of_valkey.end()).unwrap());
    let expected = texts(&of_valkey)[0];
    assert_eq!(expected.len(), 40);
    assert_eq!(texts(&of_redis), [expected; 4]);
    assert_eq!(of_valkey.others, [Item::Passed, Item::End]);
    for (signature, kind) in [
        ("REDIS0012", 243),
        ("REDIS0012", 242),
        ("VALKEY080", 242),
        ("VALKEY080", 23),
    ] {
        let error = load(&Made::new(signature).key(kind, "k", b"v").end()).unwrap_err();
        assert!(
            matches!(error.fault, Fault::Damage(Damage::Type(of)) if of == kind),
            "{error}"
        );
    }
}

#[test]
fn what_stands_around_the_keys_is_told() {
    let made = Made::new("REDIS0011")
        .raw(&[opcode::AUX])
        .string(b"redis-ver")
        .string(b"7.2.4")
        .raw(&[opcode::FUNCTION_2])
        .string(b"#!lua name=x")
        // A module: what it says before the keys, in all kinds of parts.
        .raw(&[opcode::MODULE_AUX])
        .length(0x1234_5678_9abc_dc00)
        .length(2)
        .length(1)
        .length(1)
        .length(7)
        .length(2)
        .length(8)
        .length(3)
        .raw(&[0; 4])
        .length(4)
        .raw(&[0; 8])
        .length(5)
        .string(b"text")
        .length(0)
        .raw(&[opcode::SELECT_DB])
        .length(9)
        .raw(&[opcode::RESIZE_DB])
        .length(70000)
        .length(1)
        .raw(&[opcode::SLOT_INFO])
        .length(5)
        .length(6)
        .length(7)
        .raw(&[opcode::EXPIRE_TIME_MS])
        .raw(&4_000_000_000_123i64.to_le_bytes())
        .raw(&[opcode::IDLE])
        .length(300)
        .key(0, "a", b"12")
        .raw(&[opcode::EXPIRE_TIME])
        .raw(&2_000_000_000i32.to_le_bytes())
        .raw(&[opcode::FREQUENCY, 77])
        .key(0, "b", &[b'x'; 300])
        .key(0, "c", b"v");
    let whole = load(&made.end()).unwrap();
    let heads: Vec<_> = whole
        .keys
        .iter()
        .map(|key| (key.0, key.1.as_str(), key.2, key.3, key.4))
        .collect();
    assert_eq!(
        heads,
        [
            (9, "a", Some(4_000_000_000_123), Some(300), None),
            (9, "b", Some(2_000_000_000_000), None, Some(77)),
            (9, "c", None, None, None)
        ]
    );
    assert_eq!(whole.others[0], Item::Aux(b"redis-ver".to_vec(), b"7.2.4".to_vec()));
    assert_eq!(whole.others[1], Item::Function(b"#!lua name=x".to_vec()));
    assert!(matches!(
        whole.others[2],
        Item::ModuleAux(ModuleType(0x1234_5678_9abc_dc00))
    ));
    assert_eq!(
        whole.others[4],
        Item::Sizes {
            keys: 70000,
            expires: 1
        }
    );
}

#[test]
fn versions_without_a_checksum_and_those_of_others() {
    let old = |signature: &str| {
        Made::new(signature)
            .raw(&[opcode::SELECT_DB])
            .length(0)
            .key(0, "k", b"v")
    };
    for version in 1..=4 {
        assert_eq!(
            load(&old(&format!("REDIS000{version}")).bare_end()).unwrap().keys.len(),
            1
        );
    }
    for version in 5..=12 {
        let made = old(&format!("REDIS{version:04}")).end();
        assert_eq!(load(&made).unwrap().keys.len(), 1);
        let mut altered = made.clone();
        altered[12] ^= 1;
        assert!(load(&altered).is_err(), "a bit of a key");
        let unchecked = old(&format!("REDIS{version:04}")).raw(&[opcode::EOF]).raw(&[0; 8]).0;
        assert_eq!(load(&unchecked).unwrap().keys.len(), 1);
    }
    for (signature, text) in [
        ("REDIS0000", "Can't handle RDB format version 0"),
        ("REDIS0013", "Can't handle RDB format version 13"),
        ("REDIS0080", "Can't handle RDB format version 80"),
        ("VALKEY081", "Can't handle RDB format version 81"),
        ("VALKEY011", "Can't handle RDB format version 11"),
        ("REDISxyzw", "Wrong signature"),
        ("MONGO0001", "Wrong signature"),
        ("REDIS", "expected"),
        ("", "expected"),
    ] {
        let error = load(signature.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(text) && error.contains("offset 0"), "{error}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_its_name() {
    // Nine letters of six bits, in front of a version: ReJSON-RL, 3.
    let module = b"ReJSON-RL".iter().fold(0u64, |id, letter| {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        id << 6 | letters.iter().position(|other| other == letter).unwrap() as u64
    });
    let made = Made::new("REDIS0011")
        .key(0, "a", b"v")
        .raw(&[7])
        .string(b"json:1")
        .length(module << 10 | 3)
        .length(0);
    let error = load(&made.end()).unwrap_err();
    assert_eq!(error.key.as_deref(), Some(&b"json:1"[..]));
    assert!(error.to_string().contains("'ReJSON-RL'"), "{error}");
    let made = Made::new("REDIS0010").raw(&[opcode::FUNCTION_PRE_GA]).string(b"x");
    let error = load(&made.end()).unwrap_err();
    assert!(error.to_string().contains("Pre-release function format not supported."));
}

/// A file with something of everything.
fn rich() -> Vec<u8> {
    let entry_id = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    Made::new("REDIS0012")
        .raw(&[opcode::AUX])
        .string(b"redis-bits")
        .string(b"64")
        .raw(&[opcode::SELECT_DB])
        .length(0)
        .raw(&[opcode::RESIZE_DB])
        .length(9)
        .length(1)
        .raw(&[opcode::EXPIRE_TIME_MS])
        .raw(&4_000_000_000_123i64.to_le_bytes())
        .key(0, "a", &[b'x'; 100])
        .raw(&[14])
        .string(b"l")
        .length(1)
        .string(&ziplist(&["one", "two"]))
        .raw(&[18])
        .string(b"l2")
        .length(1)
        .length(2)
        .string(&listpack(&["two"]))
        .raw(&[2])
        .string(b"s")
        .length(2)
        .string(b"17")
        .string(b"x")
        .raw(&[3])
        .string(b"z")
        .length(1)
        .string(b"a")
        .raw(b"\x031.5")
        .key(9, "h", &zipmap(&[("f", "1")]))
        .raw(&[24])
        .string(b"he")
        .raw(&4_000_000_000_000u64.to_le_bytes())
        .length(1)
        .length(1)
        .string(b"f")
        .string(b"1")
        // A stream with no entries, one group, a consumer, and what it has pending.
        .raw(&[21])
        .string(b"x")
        .length(0)
        .length(0)
        .length(1)
        .length(0)
        .length(0)
        .length(0)
        .length(0)
        .length(0)
        .length(1)
        .length(1)
        .string(b"group")
        .length(1)
        .length(0)
        .length(1)
        .length(1)
        .raw(&entry_id)
        .raw(&[0; 8])
        .length(1)
        .length(1)
        .string(b"consumer")
        .raw(&[0; 16])
        .length(1)
        .raw(&entry_id)
        .end()
}

/// Whatever is altered, it is an error; whatever is altered and has a checksum that fits, is read or is an error.
#[test]
fn truncated_and_altered_bytes_are_errors() {
    let whole = rich();
    let read = load(&whole).unwrap();
    assert_eq!(read.keys.len(), 8);
    assert!(texts(&read).iter().all(|text| text.len() == 40), "{:?}", read.keys);
    for end in 0..whole.len() {
        assert!(load(&whole[..end]).is_err(), "cut off at {end}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut altered = whole.clone();
            altered[at] ^= 1 << bit;
            // Another version may be one that has no checksum.
            assert!(
                (5..9).contains(&at) || load(&altered).is_err(),
                "bit {bit} of byte {at}"
            );
            let body = altered.len() - 8;
            altered[body..].copy_from_slice(&[0; 8]);
            // It may mean something else now.
            let _ = load(&altered);
        }
    }
}

/// A file can be the beginning of something else (a log): where it ends is known.
#[test]
fn what_follows_a_file_is_left_alone() {
    let whole = rich();
    let followed = [&whole[..], b"*1\r\n$4\r\nPING\r\n"].concat();
    let mut reader = Reader::new(&followed[..], Some(followed.len() as u64), true).unwrap();
    while reader.look().unwrap() != Next::Item(Item::End) {}
    assert_eq!(reader.offset(), whole.len() as u64);
    assert!(reader.page().ends_with(b"PING\r\n"));
    let page = reader.turn_page();
    assert_eq!(page.bytes, whole);
    assert_eq!(reader.page(), b"*1\r\n$4\r\nPING\r\n");
}

/// A length that nothing stands behind takes no memory.
#[test]
fn lengths_that_are_only_announced_take_nothing() {
    for kind in 0..=25 {
        for length in [1u64 << 31, 1 << 40, u64::MAX] {
            let made = Made::new("REDIS0012")
                .raw(&[kind])
                .string(b"k")
                .length(length)
                .raw(&[1; 64]);
            let bytes = made.0;
            let mut reader = Reader::new(&bytes[..], Some(bytes.len() as u64), true).unwrap();
            let looks = std::iter::from_fn(|| reader.look().ok()).take(100);
            assert!(looks.count() < 100, "kind {kind}");
            assert!(reader.page.capacity() <= 2 * PAGE_BYTES);
        }
    }
}

/// Entries that are larger than a page, with many small ones behind them.
#[test]
fn large_entries_and_small_ones_behind_them() {
    let mut made = Made::new("REDIS0011");
    let mut random = Random::with_seed(7);
    let mut expected = Vec::new();
    for round in 0..3 {
        let key = format!("large{round}");
        made = made.raw(&[1]).string(key.as_bytes()).length(9000);
        for number in 0..9000u32 {
            made = made.string(
                format!(
                    "{number:x}{:x}{:x}{:x}",
                    random.next_u64(),
                    random.next_u64(),
                    random.next_u64()
                )
                .as_bytes(),
            );
        }
        expected.push(key);
        for number in 0..4000 {
            let key = format!("{round}:{number}");
            made = made.key(0, &key, &[b'v'; 30]);
            expected.push(key);
        }
        let key = format!("text{round}");
        let noise: Vec<u8> = (0..700_000).map(|_| random.next_u64() as u8).collect();
        made = made.key(0, &key, &noise);
        expected.push(key);
    }
    let bytes = made.end();
    let whole = load(&bytes).unwrap();
    let keys: Vec<&String> = whole.keys.iter().map(|key| &key.1).collect();
    assert_eq!(keys, expected.iter().collect::<Vec<_>>());
    assert!(texts(&whole).iter().all(|text| text.len() == 40));
    // Behind a large entry, pages are as small as ever.
    let mut reader = Reader::new(&bytes[..], Some(bytes.len() as u64), true).unwrap();
    let mut pages = Vec::new();
    loop {
        let next = reader.look().unwrap();
        let is_end = next == Next::Item(Item::End);
        if is_end || next == Next::PageEnd {
            pages.push(reader.turn_page().bytes.len());
        }
        if is_end {
            break;
        }
    }
    assert_eq!(pages.iter().filter(|bytes| **bytes > 600_000).count(), 3, "{pages:?}");
}

/// What shardis has written: the parts by themselves, and the rest behind a jump over them.
#[test]
fn parts_are_read_apart_and_the_checksum_is_that_of_the_whole() {
    let disk = SimulatedDisk::new(3);
    let head = FileHead {
        is_base: false,
        redis_version: "7.2.4",
        created_at: UnixMs(1_700_000_000_000),
        used_bytes: 1,
        part_count: 3,
        fields: Vec::new(),
        functions: vec![b"#!lua name=a".to_vec()],
    };
    let form = Form {
        rdb_version: 11,
        compresses: true,
    };
    let writing = Writing {
        syncs_on_the_way: false,
        has_checksum: true,
    };
    let usage = Usage::Idle;
    let mut parts = Vec::new();
    for number in 0..3u32 {
        let path = format!("/data/temp-{number}");
        let mut part = Part::create(&*disk, Path::new(&path), writing, (number == 0).then(|| head.clone())).unwrap();
        let mut scribe = Scribe::new(form, usage, UnixMs(1_700_000_000_000));
        // The last one is empty.
        for key in 0..(2 - number) * 5000 {
            let entry = OwnedEntry::int(format!("{number}:{key}").as_bytes(), i64::from(key), None, 0);
            scribe.write(DbIndex(key / 7000), entry.as_ref());
        }
        part.append(&scribe.take(Vec::new())).unwrap();
        part.seal(scribe.version());
        parts.push(part);
    }
    let sealed = lay(&*disk, parts).unwrap();
    let file = disk.open(sealed.path()).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let whole = load(&bytes).unwrap();
    assert_eq!(whole.keys.len(), 15_000);

    let mut reader = Reader::new(&bytes[..], Some(bytes.len() as u64), true).unwrap();
    let list = loop {
        match reader.look().unwrap() {
            Next::Item(Item::Aux(name, value)) if name == PARTS_FIELD.as_bytes() => break value,
            Next::Item(_) => {}
            Next::PageEnd => panic!("the header is short"),
        }
    };
    let parts = parts_of(&list, bytes.len() as u64 - reader.offset()).expect("three parts");
    let (mut at, mut keys) = (reader.offset(), 0);
    let mut crc = reader.checksum().unwrap();
    for part in &parts {
        let mut of_part = Reader::of_part(&bytes[at as usize..], at, part.bytes, reader.version(), true);
        loop {
            match of_part.look().unwrap() {
                Next::Item(Item::Entry(_)) => keys += 1,
                Next::Item(Item::End) => break,
                Next::Item(_) => {}
                Next::PageEnd => {
                    of_part.turn_page();
                }
            }
        }
        assert_eq!(of_part.checksum(), Some(part.crc));
        crc = crate::base::crc64::combine(crc, part.crc, part.bytes);
        at += part.bytes;
    }
    assert_eq!(keys, 15_000);
    reader.jump(
        &bytes[at as usize..],
        at - reader.offset(),
        bytes.len() as u64 - at,
        |_| crc,
    );
    assert_eq!(reader.look().unwrap(), Next::Item(Item::End));
    // A part that ends within an entry.
    let mut torn = Reader::of_part(&bytes[200..], 200, 4000, 11, true);
    let error = loop {
        match torn.look() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.offset < 4200);
    for (list, left) in [
        ("", 10),
        ("5", 10),
        ("5:zz", 10),
        ("5:1,", 10),
        ("5:1,6:1", 10),
        ("-1:1", 10),
        ("18446744073709551615:1,2:1", 10),
    ] {
        assert_eq!(parts_of(list.as_bytes(), left), None, "{list}");
    }
}
