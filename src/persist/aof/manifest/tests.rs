//! Manifests: what Redis writes and refuses, what is ours, and that a save is whole or not there.

use super::*;
use crate::runtime::disk::{Failing, SimulatedDisk};
use proptest::prelude::*;

const STEM: &[u8] = b"appendonly.aof";

fn parse(text: &str) -> Result<Manifest, Malformed> {
    Manifest::parse(STEM, text.as_bytes())
}

fn fault(text: &str) -> (usize, Fault) {
    let malformed = parse(text).unwrap_err();
    (malformed.line, malformed.fault)
}

/// What redis-server 7.0.15 has written after a rewrite, with `aof-disable-auto-gc yes`.
const OF_REDIS: &str = "\
file appendonly.aof.2.base.rdb seq 2 type b
file appendonly.aof.1.incr.aof seq 1 type h
file appendonly.aof.1.base.rdb seq 1 type h
file appendonly.aof.2.incr.aof seq 2 type i
";

#[test]
fn a_rewrite_lists_what_redis_lists() {
    let mut manifest = Manifest::new(STEM);
    let base = |manifest: &Manifest| {
        let seq = manifest.next_base_seq();
        Entry::plain(manifest.base_name(seq, true), seq)
    };
    manifest.retire(0, base(&manifest));
    manifest.begin_generation(None);
    let kept = manifest.begin_generation(None)[0].seq;
    manifest.retire(kept, base(&manifest));
    assert_eq!(String::from_utf8(manifest.encode()).unwrap(), OF_REDIS);
    assert_eq!(parse(OF_REDIS).unwrap(), manifest);
    assert_eq!((manifest.next_base_seq(), manifest.next_increment_seq()), (3, 3));
    assert_eq!(std::mem::take(&mut manifest.history).len(), 2);
    assert_eq!(manifest.sections(), [Section::Plain(0)]);
}

#[test]
fn a_name_in_the_history_is_not_given_again() {
    let text = "file appendonly.aof.4.base.aof seq 4 type h\nfile appendonly.aof.9.incr.aof seq 9 type h\nfile other seq 70 type h\n";
    let manifest = parse(text).unwrap();
    assert_eq!((manifest.next_base_seq(), manifest.next_increment_seq()), (5, 10));
}

#[test]
fn names_with_blanks_are_quoted() {
    let mut manifest = Manifest::new(b"a \"b\".aof");
    manifest.begin_generation(None);
    let bytes = manifest.encode();
    let expected = "file \"a \\\"b\\\".aof.1.incr.aof\" seq 1 type i\n";
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
    assert_eq!(Manifest::parse(&manifest.stem, &bytes).unwrap(), manifest);
}

#[test]
fn lines_are_refused_as_redis_refuses_them() {
    let good = "file a seq 1 type i\n";
    assert_eq!(fault(""), (0, Fault::Empty));
    assert_eq!(fault(&format!("{good}\n")), (2, Fault::Format));
    assert_eq!(fault("file a seq 1 type i"), (1, Fault::TooLong));
    let long = format!("{good}file {} seq 2 type i\n", "b".repeat(1024));
    assert_eq!(fault(&long), (2, Fault::TooLong));
    // What is written in quotes takes up to four bytes for one.
    let strange = [b"file \"a\" seq 1 type i\nfile ", &[0xff; 250][..], b" seq 2 type i\n"].concat();
    let refused = Manifest::parse(STEM, &strange).unwrap_err();
    assert_eq!((refused.line, refused.fault), (2, Fault::TooLong));
    assert_eq!(fault("file a seq 1\n"), (1, Fault::Format));
    assert_eq!(fault("file a seq 1 type i more\n"), (1, Fault::Format));
    assert_eq!(fault("file \"a seq 1 type i\n"), (1, Fault::Format));
    assert_eq!(fault("file a seq 0 type i\n"), (1, Fault::Format));
    assert_eq!(fault("file a seq -1 type i\n"), (1, Fault::Format));
    assert_eq!(fault("file a seq x type i\n"), (1, Fault::Format));
    assert_eq!(fault("file ../a seq 1 type i\n"), (1, Fault::NotAName));
    assert_eq!(fault("file a seq 1 type z\n"), (1, Fault::UnknownType));
    assert_eq!(fault(&format!("{good}{good}")), (2, Fault::NotMonotonic));
    let bases = "file a seq 1 type b\n# a comment\nfile b seq 2 type b\n";
    assert_eq!(fault(bases), (3, Fault::DuplicateBase));
    let message = parse(bases).unwrap_err().to_string();
    assert_eq!(
        message,
        "line 3: Found duplicate base file information: 'file b seq 2 type b'"
    );
}

#[test]
fn no_file_stands_in_it_twice() {
    let good = "file a seq 1 type i\n";
    for other in ["seq 2 type i", "seq 1 type b", "seq 1 type h"] {
        assert_eq!(fault(&format!("{good}file a {other}\n")), (2, Fault::SameFile));
    }
}

#[test]
fn keys_of_others_are_ignored_and_case_does_not_matter() {
    let text = "#first\nFILE a.1.incr.aof SEQ 1 TYPE i startoffset 17 endoffset 42\n";
    let manifest = Manifest::parse(b"a", text.as_bytes()).unwrap();
    assert_eq!(manifest.encode(), b"file a.1.incr.aof seq 1 type i\n");
}

#[test]
fn generations_of_several_lives() {
    let mut manifest = Manifest::new(STEM);
    manifest.begin_generation(None);
    let names: Vec<_> = manifest.begin_generation(Some((2, 900))).to_vec();
    assert_eq!(names.len(), 2);
    let second = manifest.begin_generation(Some((2, 900)))[0].seq;
    manifest.close_life(1300);
    manifest.begin_generation(Some((3, 1310)));
    let expected = [
        Section::Plain(0),
        Section::Life {
            increments: 1..5,
            life: 900,
            until: Some(1300),
        },
        Section::Life {
            increments: 5..8,
            life: 1310,
            until: None,
        },
    ];
    assert_eq!(manifest.sections(), expected);
    let base = Entry {
        number: Some(1042),
        ..Entry::plain(manifest.base_name(3, true), 3)
    };
    manifest.retire(second, base);
    manifest.history.clear();
    let text = "\
file appendonly.aof.3.base.rdb seq 3 type b number 1042
file appendonly.aof.4.incr.aof seq 4 type i shard 0 shards 2 life 900 until 1300
file appendonly.aof.5.incr.aof seq 5 type i shard 1 shards 2 life 900 until 1300
file appendonly.aof.6.incr.aof seq 6 type i shard 0 shards 3 life 1310
file appendonly.aof.7.incr.aof seq 7 type i shard 1 shards 3 life 1310
file appendonly.aof.8.incr.aof seq 8 type i shard 2 shards 3 life 1310
";
    assert_eq!(String::from_utf8(manifest.encode()).unwrap(), text);
    assert_eq!(parse(text).unwrap(), manifest);
    for line in 1..6 {
        let without: Vec<&str> = text
            .lines()
            .enumerate()
            .filter(|(at, _)| *at != line)
            .map(|(_, text)| text)
            .collect();
        let found = fault(&(without.join("\n") + "\n"));
        assert_eq!(found.1, Fault::Generation, "without line {line}");
    }
    let closed = text.replace(" until 1300", "");
    assert_eq!(fault(&closed).1, Fault::Lives, "only the last life is open");
    assert_eq!(
        fault(&text.replace("life 1310", "life 1300")).1,
        Fault::Lives,
        "lives do not overlap"
    );
    assert_eq!(
        fault(&text.replace("1 shards 2 life 900 until 1300", "1 shards 2 life 900 until 1299")).1,
        Fault::Generation
    );
}

#[test]
fn keys_of_ours_are_whole_or_not_there() {
    for keys in [
        "shard 0 shards 1",
        "life 3",
        "until 3",
        "shard 1 shards 1 life 3",
        "shard 0 shards 1 life 0",
        "shard 0 shards 1 life x",
        "shard 0 shards 70000 life 1",
        "shard 0 shards 1 life 9 until 7",
    ] {
        assert_eq!(
            fault(&format!("file a seq 1 type i {keys}\n")),
            (1, Fault::Annotation),
            "{keys}"
        );
    }
    assert!(
        parse("file a seq 1 type i shard 0 shards 1 life 9 until 8\n").is_ok(),
        "a life of nothing"
    );
    assert_eq!(fault("file a seq 1 type b number x\n"), (1, Fault::Annotation));
}

/// Whenever the machine stops, there is the manifest of before or the new one; and the new one, once a save has returned.
#[test]
fn a_save_is_whole_or_not_there() {
    let dir = Path::new("/data");
    let before = parse(OF_REDIS).unwrap();
    let mut after = before.clone();
    after.begin_generation(Some((2, 5)));
    for seed in 0..40 {
        for operation in 0..8 {
            let disk = SimulatedDisk::new(seed);
            before.save(&*disk, dir).unwrap();
            disk.fail_at(disk.operations() + operation, Failing::Crash);
            let saved = after.save(&*disk, dir);
            disk.crash();
            disk.restart();
            let found = Manifest::load(&*disk, dir, STEM).unwrap().unwrap();
            match saved {
                Ok(()) => assert_eq!(found, after),
                Err(_) => assert!(found == before || found == after, "{found:?}"),
            }
        }
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let name = proptest::collection::vec(any::<u8>().prop_filter("a name", |byte| *byte != b'/'), 1..20);
    name.prop_map(|name| Entry::plain(name, 0))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        base in proptest::option::of((entry(), 1..u64::MAX / 2, any::<Option<u32>>())),
        history in proptest::collection::vec((entry(), 1..u64::MAX / 2), 0..4),
        generations in proptest::collection::vec((entry(), 1..5_u64, proptest::option::of((1..4_u16, any::<bool>(), 0..9_u64))), 0..6),
    ) {
        let mut manifest = Manifest::new(STEM);
        manifest.base = base.map(|(entry, seq, number)| Entry { seq, number: number.map(u64::from), ..entry });
        manifest.history = history.into_iter().map(|(entry, seq)| Entry { seq, ..entry }).collect();
        let (mut seq, mut life) = (0, 1);
        for (entry, step, annotated) in generations {
            seq += step;
            // What comes behind a life finds it closed.
            manifest.close_life(life + 3);
            let Some((shards, is_new, gap)) = annotated else {
                manifest.increments.push(Entry { seq, ..entry });
                continue;
            };
            let last = manifest.increments.last().and_then(|last| last.part);
            let part = match last.filter(|last| !is_new && last.place.life == life) {
                Some(last) => last,
                None => {
                    life += 4 + gap;
                    Part { place: Place { shard: 0, shards, life }, until: None }
                }
            };
            for shard in 0..part.place.shards {
                let place = Place { shard, ..part.place };
                manifest.increments.push(Entry { seq, part: Some(Part { place, ..part }), ..entry.clone() });
                seq += 1;
            }
        }
        let all = manifest.base.iter_mut().chain(&mut manifest.history).chain(&mut manifest.increments);
        for (index, entry) in all.enumerate() {
            entry.name.extend_from_slice(format!("-{index}").as_bytes());
        }
        let bytes = manifest.encode();
        if bytes.is_empty() {
            prop_assert_eq!(Manifest::parse(STEM, &bytes).unwrap_err().fault, Fault::Empty);
        } else {
            prop_assert_eq!(Manifest::parse(STEM, &bytes), Ok(manifest));
        }
    }

    #[test]
    fn strangers_lines_do_no_harm(lines in proptest::collection::vec("(file|seq|type|shard|[a-i]|[0-3]|[ \"#]){0,6} (file a|seq [0-4]|type [bhi]|shard 0|shards 1|life [0-9]){1,7}", 0..5)) {
        let text = lines.join("\n") + "\n";
        if let Ok(manifest) = Manifest::parse(STEM, text.as_bytes()) {
            let bytes = manifest.encode();
            prop_assert!(bytes.is_empty() || Manifest::parse(STEM, &bytes) == Ok(manifest));
        }
    }
}
