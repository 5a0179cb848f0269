//! Recovery of annotated increments on a simulated disk: whatever is torn, missing, changed or from elsewhere, what is kept is a beginning of
//! the log, whole; and it is the same however often a start is cut off.

use super::keep::{keep, tell};
use super::walk::{Kept, Step, Walk};
use super::{AofError, Recovered};
use crate::base::random::Random;
use crate::engine::aof::Directory;
use crate::persist::aof::chunk::{self, Head, Place};
use crate::persist::aof::manifest::Manifest;
use crate::resp::OwnedArgs;
use crate::runtime::disk::{Disk, Failing, SimulatedDisk};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/data/aof";
const DATABASES: u32 = 16;

fn location() -> Directory {
    Directory {
        outer: PathBuf::from("/data"),
        path: PathBuf::from(DIR),
        name: b"a".to_vec(),
    }
}

pub(super) fn put(disk: &SimulatedDisk, name: &str, bytes: &[u8]) {
    let mut file = disk.create(&Path::new(DIR).join(name)).unwrap();
    file.append(bytes).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
}

/// What a shard has written: chunks, with where each ends.
#[derive(Clone)]
pub(super) struct Part {
    place: Place,
    pub bytes: Vec<u8>,
    ends: Vec<(u64, usize)>,
}

/// The parts of a life whose numbers begin there; `shards` says who has each of them. A chunk sets the key of its number.
pub(super) fn life(begin: u64, count: u16, shards: &[u16]) -> Vec<Part> {
    let part = |shard| Part {
        place: Place {
            shard,
            shards: count,
            life: begin,
        },
        bytes: Vec::new(),
        ends: Vec::new(),
    };
    let mut parts: Vec<Part> = (0..count).map(part).collect();
    for (shard, number) in shards.iter().zip(begin..) {
        add(&mut parts[usize::from(*shard)], number);
    }
    parts
}

fn add(part: &mut Part, number: u64) {
    add_with(part, number, Vec::new());
}

/// The same, in that second.
pub(super) fn add_at(part: &mut Part, number: u64, second: u64) {
    add_with(part, number, format!("#TS:{second}\r\n").into_bytes());
}

fn add_with(part: &mut Part, number: u64, mut commands: Vec<u8>) {
    if part.bytes.is_empty() {
        OwnedArgs::from_slices(&["SELECT", "3"])
            .as_args()
            .encode_resp(&mut commands);
    }
    let value = "v".repeat(number as usize % 5 * 7);
    OwnedArgs::from_slices(&["SET", &number.to_string(), &value])
        .as_args()
        .encode_resp(&mut commands);
    let head = Head {
        number,
        turn: number + 100,
        offsets: number * 10..number * 10 + 5,
        is_broad: false,
    };
    chunk::encode(part.place, &head, &[&commands], &mut part.bytes);
    part.ends.push((number, part.bytes.len()));
}

/// Puts the parts of a life into a manifest, and both on the disk.
pub(super) fn put_life(disk: &SimulatedDisk, manifest: &mut Manifest, parts: &[Part]) {
    let begin = parts[0].place.life;
    for (entry, part) in manifest
        .begin_generation(Some((parts.len() as u16, begin)))
        .iter()
        .zip(parts)
    {
        put(disk, &String::from_utf8_lossy(&entry.name), &part.bytes);
    }
    manifest.save(disk, Path::new(DIR)).unwrap();
}

/// Reads everything: the keys that are set.
fn read(disk: &Arc<SimulatedDisk>) -> Result<(Vec<u64>, Kept), AofError> {
    let found = location().look(&**disk)?.expect("there is a manifest");
    let mut walk = Walk::new(disk.clone(), &found, DATABASES);
    let mut numbers = Vec::new();
    loop {
        match walk.go()? {
            Step::Command => {
                assert_eq!(walk.db(), 3);
                let text = String::from_utf8_lossy(walk.args().at(1)).into_owned();
                numbers.push(text.parse().expect("keys are numbers"));
            }
            Step::End => return Ok((numbers, walk.into_kept())),
            other => panic!("{other:?} was never written"),
        }
    }
}

fn recover(disk: &Arc<SimulatedDisk>) -> Result<(Vec<u64>, Recovered), AofError> {
    let (numbers, kept) = read(disk)?;
    tell(&kept, true)?;
    let found = location().find(&**disk)?.expect("there is a manifest");
    Ok((numbers, keep(&**disk, found, kept)?))
}

/// The highest number up to which all are whole in these beginnings of the parts.
fn last_of(parts: &[Part], lens: &[usize], begin: u64) -> u64 {
    let is_whole = |number: u64| {
        let mut all = parts
            .iter()
            .zip(lens)
            .flat_map(|(part, len)| part.ends.iter().map(move |end| (end, len)));
        all.any(|(&(other, end), len)| other == number && end <= *len)
    };
    (begin..).find(|number| !is_whole(*number)).expect("they end") - 1
}

/// Recovers from beginnings of parts, and looks at all that can be seen of it.
fn check(parts: &[Part], lens: &[usize]) {
    let (disk, mut manifest) = (SimulatedDisk::new(1), Manifest::new(b"a"));
    let cut: Vec<Part> = parts
        .iter()
        .zip(lens)
        .map(|(part, len)| Part {
            bytes: part.bytes[..*len].to_vec(),
            ..part.clone()
        })
        .collect();
    let begin = parts[0].place.life;
    put_life(&disk, &mut manifest, &cut);
    let last = last_of(parts, lens, begin);
    let (numbers, recovered) = recover(&disk).unwrap();
    assert_eq!(numbers, (begin..=last).collect::<Vec<_>>(), "{lens:?}");
    manifest.close_life(last);
    assert_eq!(recovered.manifest, manifest);
    for (part, (len, entry)) in parts.iter().zip(lens.iter().zip(&manifest.increments)) {
        let kept = part.ends.iter().rfind(|(number, end)| *number <= last && end <= len);
        let content = disk.content(&entry.path(Path::new(DIR))).unwrap();
        assert_eq!(content.len(), kept.map_or(0, |(_, end)| *end), "{lens:?}");
        // Whatever was there, even as a line only, is below what comes next.
        let seen = part
            .ends
            .iter()
            .filter(|(_, end)| end <= len)
            .map(|(number, _)| *number)
            .max();
        assert!(recovered.next_number > seen.unwrap_or(begin), "{lens:?}");
    }
    if last >= begin {
        assert_eq!((recovered.last_turn, recovered.end_offset), (last + 100, last * 10 + 5));
    }
    let (again, kept) = read(&disk).unwrap();
    assert_eq!((again, kept.losses().count(), kept.until), (numbers, 0, None));
    assert_eq!(kept.next_number.max(recovered.next_number), recovered.next_number);
}

#[test]
fn every_beginning_of_two_parts_is_cut_to_a_beginning_of_the_log() {
    let parts = life(7, 2, &[0, 1, 1, 0, 1, 0]);
    let boundaries = |part: &Part| {
        let ends = part.ends.iter().map(|(_, end)| *end);
        std::iter::once(0)
            .chain(ends)
            .flat_map(|end| [end.saturating_sub(1), end, end + 1])
            .collect::<Vec<_>>()
    };
    for first in 0..=parts[0].bytes.len() {
        for second in boundaries(&parts[1])
            .into_iter()
            .filter(|len| *len <= parts[1].bytes.len())
        {
            check(&parts, &[first, second]);
        }
    }
    for second in 0..=parts[1].bytes.len() {
        check(&parts, &[parts[0].bytes.len(), second]);
    }
}

#[test]
fn beginnings_of_three_parts_by_chance() {
    let mut random = Random::with_seed(11);
    for _ in 0..600 {
        let shards: Vec<u16> = (0..random.below(12)).map(|_| random.below(3) as u16).collect();
        let parts = life(1 + random.below(5) as u64, 3, &shards);
        let lens: Vec<usize> = parts.iter().map(|part| random.below(part.bytes.len() + 1)).collect();
        check(&parts, &lens);
    }
}

/// A byte that is not what it was ends an open life before its chunk, and a closed one is refused, with the file.
#[test]
fn every_byte_that_is_changed_is_found() {
    let parts = life(1, 2, &[0, 1, 0, 1]);
    for at in 0..parts[0].bytes.len() {
        let mut changed = parts.clone();
        changed[0].bytes[at] ^= 0x10;
        let in_first = at < parts[0].ends[0].1;
        for is_closed in [false, true] {
            let (disk, mut manifest) = (SimulatedDisk::new(1), Manifest::new(b"a"));
            put_life(&disk, &mut manifest, &changed);
            if is_closed {
                manifest.close_life(4);
                manifest.save(&*disk, Path::new(DIR)).unwrap();
                let error = read(&disk).unwrap_err();
                let offset = if in_first { 0 } else { parts[0].ends[0].1 };
                assert!(matches!(&error, AofError::Closed { .. }), "{error}");
                let place = format!("/data/aof/a.1.incr.aof: at offset {offset}: ");
                assert!(error.to_string().starts_with(&place), "{at}: {error}");
            } else {
                let (numbers, kept) = read(&disk).unwrap();
                let expected: &[u64] = if in_first { &[] } else { &[1, 2] };
                assert_eq!(
                    (&numbers[..], kept.until),
                    (expected, Some(expected.len() as u64)),
                    "{at}"
                );
                assert!(kept.next_number > 4, "what was dropped is not used again");
            }
        }
    }
}

#[test]
fn what_is_from_elsewhere_is_not_taken() {
    let (own, others) = (life(5, 2, &[0, 1, 0]), life(4, 2, &[1, 0, 0, 1, 0]));
    let end = |mut parts: Vec<Part>| {
        let (disk, mut manifest) = (SimulatedDisk::new(1), Manifest::new(b"a"));
        parts.iter_mut().for_each(|part| part.place.life = 5);
        put_life(&disk, &mut manifest, &parts);
        let (numbers, kept) = read(&disk).unwrap();
        (
            numbers.len(),
            kept.cuts.iter().filter(|cut| cut.fault.is_some()).count(),
        )
    };
    assert_eq!(end(own.clone()), (3, 0));
    // The increments of another life, and those of this one under each other's names.
    let mut parts = own.clone();
    parts[1].bytes.clone_from(&others[1].bytes);
    assert_eq!(end(parts), (1, 1));
    let mut parts = own.clone();
    let first = parts[0].bytes.clone();
    parts[0].bytes = std::mem::replace(&mut parts[1].bytes, first);
    assert_eq!(end(parts), (0, 2));
    // A chunk of another life behind, and one of this life once more.
    let mut parts = own.clone();
    parts[0].bytes.extend_from_slice(&others[0].bytes);
    assert_eq!(end(parts), (3, 1));
    let mut parts = own.clone();
    let again = parts[0].bytes.clone();
    parts[0].bytes.extend_from_slice(&again);
    assert_eq!(end(parts), (3, 1));
    // A number that another part has, too.
    let mut parts = own.clone();
    add(&mut parts[1], 7);
    assert_eq!(end(parts), (3, 1));
    // Commands without an annotation, as another server has appended them.
    let mut parts = own;
    parts[1].bytes.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    assert_eq!(end(parts), (3, 1));
}

#[test]
fn what_a_base_holds_is_read_over() {
    let (disk, mut manifest) = (SimulatedDisk::new(1), Manifest::new(b"a"));
    let before = life(1, 2, &[0, 1, 0, 1]);
    put_life(&disk, &mut manifest, &before);
    // The rewrite begins new increments of the same life; its base holds what is below 6.
    let mut after = life(1, 2, &[]);
    for (shard, number) in [(1, 5), (0, 6), (1, 7), (1, 8)] {
        add(&mut after[shard], number);
    }
    put_life(&disk, &mut manifest, &after);
    let (numbers, kept) = read(&disk).unwrap();
    assert_eq!((numbers, kept.next_number), ((1..=8).collect(), 9));
    let first = manifest.increments[2].seq;
    let mut base = crate::persist::aof::manifest::Entry::plain(manifest.base_name(1, false), 1);
    base.number = Some(6);
    put(&disk, "a.1.base.aof", b"");
    manifest.retire(first, base);
    manifest.save(&*disk, Path::new(DIR)).unwrap();
    let (numbers, recovered) = recover(&disk).unwrap();
    assert_eq!((numbers, recovered.next_number), (vec![6, 7, 8], 9));
    // Nothing is left of what was open, if the base holds it all.
    manifest.base.as_mut().expect("it is there").number = Some(40);
    manifest.save(&*disk, Path::new(DIR)).unwrap();
    let (numbers, recovered) = recover(&disk).unwrap();
    assert_eq!((numbers, recovered.next_number), (vec![], 40));
}

/// Lives without a single chunk, one after the other: no two of them begin with the same number.
#[test]
fn lives_of_nothing_follow_each_other() {
    let (disk, mut manifest) = (SimulatedDisk::new(1), Manifest::new(b"a"));
    put_life(&disk, &mut manifest, &life(1, 2, &[]));
    let mut next = 1;
    for _ in 0..4 {
        let (numbers, recovered) = recover(&disk).unwrap();
        assert!(numbers.is_empty() && recovered.next_number > next);
        next = recovered.next_number;
        manifest = recovered.manifest;
        put_life(&disk, &mut manifest, &life(next, 3, &[]));
    }
}

/// However a start is cut off by the machine, the next one keeps the same; and what was dropped comes back in no life.
#[test]
fn a_start_that_is_cut_off_changes_nothing_of_what_the_next_one_keeps() {
    let mut random = Random::with_seed(5);
    for seed in 0..60 {
        let shards: Vec<u16> = (0..8).map(|_| random.below(3) as u16).collect();
        let parts = life(10, 3, &shards);
        let lens: Vec<usize> = parts.iter().map(|part| random.below(part.bytes.len() + 1)).collect();
        let last = last_of(&parts, &lens, 10);
        for operation in 0..30 {
            let (disk, mut manifest) = (SimulatedDisk::new(seed), Manifest::new(b"a"));
            let mut cut = parts.clone();
            cut.iter_mut()
                .zip(&lens)
                .for_each(|(part, len)| part.bytes.truncate(*len));
            put_life(&disk, &mut manifest, &cut);
            disk.fail_at(disk.operations() + operation, Failing::Crash);
            let begun = recover(&disk);
            disk.crash();
            disk.restart();
            let (numbers, recovered) = recover(&disk).unwrap();
            assert_eq!(numbers, (10..=last).collect::<Vec<_>>());
            if let Ok((_, before)) = begun {
                assert_eq!(before.manifest, recovered.manifest);
            }
            // The next life goes on, and is read behind this one.
            let (mut manifest, begin) = (recovered.manifest, recovered.next_number);
            put_life(&disk, &mut manifest, &life(begin, 2, &[1, 0, 1]));
            let (all, _) = recover(&disk).unwrap();
            assert_eq!(all, (10..=last).chain(begin..begin + 3).collect::<Vec<_>>());
        }
    }
}
