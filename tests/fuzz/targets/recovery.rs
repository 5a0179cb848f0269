//! A manifest, and the files that it lists. Whatever they are, they are read or refused; a manifest that is taken is written again as one that
//! says the same; and what is kept of the files is all that is found in them afterwards, however often it is looked for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::durability::aof::keep::{keep, tell};
use shardis::durability::aof::{Found, Word, read};
use shardis::persist::aof::manifest::{Manifest, manifest_name};
use shardis::runtime::disk::{Disk, SimulatedDisk};
use std::path::{Path, PathBuf};

const DIR: &str = "/data";
const STEM: &[u8] = b"a";
const DATABASES: u32 = 16;

/// The next file in the input: two bytes of length, and so many bytes, or what is left.
fn next_file<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((length, behind)) = rest.split_first_chunk::<2>() else {
        return std::mem::take(rest);
    };
    let (file, behind) = behind.split_at(usize::from(u16::from_le_bytes(*length)).min(behind.len()));
    *rest = behind;
    file
}

fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    let written = disk.create(path).and_then(|mut file| file.append(bytes));
    written.expect("the disk is sound");
}

/// The manifest that is on the disk.
fn found(disk: &dyn Disk) -> Option<Found> {
    let manifest = Manifest::load(disk, Path::new(DIR), STEM).ok()??;
    let dir = PathBuf::from(DIR);
    Some(Found { dir, manifest })
}

/// What of that takes effect: a transaction that does not end does not.
fn taken(mut words: Vec<Word>) -> Vec<Word> {
    let bounds = words.iter().rposition(|word| matches!(word, Word::Multi | Word::Exec));
    if let Some(at) = bounds.filter(|at| words[*at] == Word::Multi) {
        words.truncate(at);
    }
    words.retain(|word| !matches!(word, Word::Timestamp(_)));
    words
}

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let disk = SimulatedDisk::new(1);
    let name = String::from_utf8(manifest_name(STEM)).expect("it is ASCII");
    put(&*disk, &Path::new(DIR).join(name), next_file(&mut rest));
    let Some(first) = found(&*disk) else { return };
    // One that lists nothing is read where it says something else, and never written.
    if first.manifest.files().next().is_none() {
        return;
    }
    let again = Manifest::parse(STEM, &first.manifest.encode());
    assert_eq!(again.as_ref().ok(), Some(&first.manifest));
    for entry in first.manifest.files() {
        put(&*disk, &entry.path(Path::new(DIR)), next_file(&mut rest));
    }
    let Ok(Some((words, kept))) = read(disk.clone(), &first, DATABASES) else {
        return;
    };
    tell(&kept, true).expect("what is lost may be dropped");
    let (next_number, end) = (kept.next_number, (kept.last_turn, kept.end_offset));
    keep(&*disk, first, kept).expect("the disk is sound");
    let second = found(&*disk).expect("a manifest is there");
    let (words_again, kept) = read(disk.clone(), &second, DATABASES)
        .expect("what was kept can be read")
        .expect("it has no keys");
    assert_eq!(taken(words), taken(words_again));
    assert_eq!(kept.losses().count(), 0);
    assert_eq!((kept.last_turn, kept.end_offset), end);
    // The first start has seen what it dropped, and goes on above that.
    assert!(kept.next_number <= next_number);
});
