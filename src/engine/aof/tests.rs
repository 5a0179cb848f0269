//! Rewrites on a disk that crashes or fails at each of their operations.

use super::{Directory, FAILURES_UNTIL_DELAY, Mode};
use crate::base::clock::{Ms, Ticks, UnixMs};
use crate::base::section::Section;
use crate::data::string::StringForm;
use crate::engine::assembly::{Assembly, Plan};
use crate::engine::rewrites::{self, Asked};
use crate::engine::saves;
use crate::engine::snapshot::Reason;
use crate::engine::{Command, Op, Registry, Run};
use crate::persist::aof::manifest::{Manifest, manifest_name, path_of};
use crate::persist::aof::recovered::Recovered;
use crate::resp::ReplyError;
use crate::runtime::disk::{Disk, Failing, SimulatedDisk};
use crate::spec::{KeyFlags, KeySpec, command};
use crate::store::Expiry;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const COMMANDS: &[Command] = &[Command {
    arity: 2,
    keys: &[KeySpec::one(1, KeyFlags::OW)],
    ..command("put", Run::Keys(put))
}];

fn put(op: &mut Op) -> Result<(), ReplyError> {
    let (db, moment, key) = (op.keys.db, op.keys.moment, op.args.at(1));
    let slot = op.keys.slot(key)?;
    slot.set_string(db, key, b"value", StringForm::Raw, Expiry::Clear, moment);
    op.changed(1);
    op.reply.ok();
    Ok(())
}

/// Keys that are written, and synced, before the rewrite begins.
const SYNCED_COUNT: usize = 30;

/// None of these tests writes more.
const NUMBERS_OF_A_LIFE: u64 = 1000;

/// Passes within which a rewrite is over, whatever it meets.
const PATIENCE: usize = 40;

struct Server {
    assembly: Assembly,
    disk: Arc<SimulatedDisk>,
    directory: Directory,
}

impl Server {
    fn start(shard_count: usize, layout: &str, seed: u64) -> Server {
        let server = Server::start_on(SimulatedDisk::new(seed), shard_count, layout).unwrap();
        (0..SYNCED_COUNT).for_each(|number| server.put(&format!("synced:{number}")));
        let node = server.assembly.shards[0].borrow().node.clone();
        node.aof.writers.sync_all().unwrap();
        server
    }

    /// Goes on behind what is on a disk. (Nothing of it is read.)
    fn start_on(disk: Arc<SimulatedDisk>, shard_count: usize, layout: &str) -> Result<Server, String> {
        let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        let assembly = Assembly::of(Plan {
            disk: disk.clone(),
            parameters: &[("aof-layout".to_owned(), layout.to_owned())],
            ..Plan::new(registry, shard_count)
        });
        let node = assembly.shards[0].borrow().node.clone();
        let directory = Directory::of(node.lock_config().settings());
        let mut found = Recovered::nothing(&directory.name);
        let manifest = Manifest::load(&*disk, &directory.path, &directory.name);
        if let Some(mut manifest) = manifest.map_err(|error| error.to_string())? {
            found.next_number = 1 + manifest
                .increments
                .iter()
                .filter_map(|file| file.part)
                .fold(1, |last, part| {
                    last.max(part.until.unwrap_or(part.place.life + NUMBERS_OF_A_LIFE))
                });
            manifest.close_life(found.next_number - 1);
            let saved = manifest.save(&*disk, &directory.path);
            saved.map_err(|error| error.to_string())?;
            found.manifest = manifest;
        }
        node.aof.begin(directory.clone(), found)?;
        assembly
            .shards
            .iter()
            .for_each(|shard| shard.borrow_mut().begin_logging());
        Ok(Server {
            assembly,
            disk,
            directory,
        })
    }

    fn put(&self, key: &str) {
        self.assembly.run(&[b"put", key.as_bytes()]);
    }

    fn is_rewriting(&self) -> bool {
        self.assembly.shards[0].borrow().node.aof.is_rewriting()
    }

    /// Asks for a rewrite, and writes until it is over.
    fn rewrite(&self) {
        let asked = rewrites::ask(&mut self.assembly.shards[0].borrow_mut(), false);
        assert_eq!(asked, Asked::Started);
        for number in 0..PATIENCE {
            self.put(&format!("meanwhile:{number}"));
            self.assembly.pass(Ms(1));
            for shard in &self.assembly.shards {
                shard.borrow_mut().background_step();
            }
            if !self.is_rewriting() {
                return;
            }
        }
        panic!("a rewrite does not end");
    }

    /// The manifest that is on the disk, and the bytes of all files that it names.
    fn read(&self) -> (Manifest, Vec<u8>) {
        let found = Manifest::load(&*self.disk, &self.directory.path, &self.directory.name);
        let manifest = found.unwrap().expect("there is a manifest");
        let mut bytes = Vec::new();
        for file in manifest.files() {
            let content = self.disk.content(&file.path(&self.directory.path));
            let content = content.unwrap_or_else(|| panic!("{} is missing", file.name.escape_ascii()));
            if manifest.base.as_ref() == Some(file) {
                assert!(
                    content.starts_with(b"REDIS") && content[content.len() - 9] == 0xff,
                    "a base is whole"
                );
            }
            bytes.extend(content);
        }
        (manifest, bytes)
    }

    #[track_caller]
    fn has_all(&self, what: &str, count: usize) -> Manifest {
        let (manifest, bytes) = self.read();
        for number in 0..count {
            let key = format!("{what}:{number}");
            let mut words = bytes.windows(key.len()).enumerate();
            let is_there = words
                .any(|(at, word)| word == key.as_bytes() && !bytes.get(at + key.len()).is_some_and(u8::is_ascii_digit));
            assert!(is_there, "{key} is lost");
        }
        manifest
    }
}

const SHAPES: [(usize, &str); 3] = [(1, "per-shard"), (2, "per-shard"), (2, "single")];

#[test]
fn a_rewrite_puts_a_new_base_and_new_increments_in_the_place_of_all() {
    for (shard_count, layout) in SHAPES {
        let server = Server::start(shard_count, layout, 1);
        server.rewrite();
        let manifest = server.has_all("synced", SYNCED_COUNT);
        assert_eq!(manifest.base.as_ref().map(|base| base.seq), Some(2));
        assert!(manifest.history.is_empty());
        assert_eq!(
            server.disk.names().len(),
            manifest.files().count() + 1,
            "nothing else is left"
        );
        // What is not in the base is in the new increments.
        let written = manifest.increments.iter().map(|file| {
            let content = server.disk.content(&file.path(&server.directory.path));
            content.map_or(0, |content| content.len())
        });
        assert!(written.sum::<usize>() > 0);
        let digest = server.has_all("meanwhile", 1);
        assert_eq!(digest, manifest);
    }
}

#[test]
fn whatever_a_crash_leaves_of_a_rewrite_is_the_old_set_or_the_new_one() {
    for (shard_count, layout) in SHAPES {
        let whole = Server::start(shard_count, layout, 1);
        let before = whole.disk.operations();
        whole.rewrite();
        let mut bases = [0; 2];
        for at in before..whole.disk.operations() {
            let server = Server::start(shard_count, layout, at);
            server.disk.fail_at(at, Failing::Crash);
            server.rewrite();
            assert!(server.disk.has_crashed(), "operation {at} is one of the rewrite's");
            server.disk.restart();
            let manifest = server.has_all("synced", SYNCED_COUNT);
            let base = manifest.base.expect("there is a base");
            bases[base.seq as usize - 1] += 1;
        }
        assert!(bases[0] > 5 && bases[1] > 1, "{bases:?}");
    }
}

#[test]
fn a_rewrite_that_fails_leaves_all_as_it_was_and_the_next_one_succeeds() {
    for (shard_count, layout) in SHAPES {
        let whole = Server::start(shard_count, layout, 1);
        let before = whole.disk.operations();
        whole.rewrite();
        let mut failed = 0;
        for how in [Failing::NoSpace, Failing::Broken] {
            for at in before..whole.disk.operations() {
                let server = Server::start(shard_count, layout, at);
                server.disk.fail_at(at, how);
                server.rewrite();
                server.has_all("synced", SYNCED_COUNT);
                let node = server.assembly.shards[0].borrow().node.clone();
                // A write of a chunk may have been the one that failed.
                node.aof.writers.retry();
                assert!(!node.aof.writers.is_stopped() && node.aof.mode() == Mode::On);
                server.has_all("meanwhile", 1);
                let first = |server: &Server| server.read().0.increments[0].seq;
                failed += usize::from(first(&server) == 1);
                let before = first(&server);
                server.rewrite();
                assert!(first(&server) > before, "{how:?} at {at}");
                server.has_all("synced", SYNCED_COUNT);
                server.has_all("meanwhile", 1);
            }
        }
        assert!(failed > 10, "{failed}");
    }
}

#[test]
fn after_a_sync_that_failed_a_new_base_makes_all_count_again() {
    for (shard_count, layout) in SHAPES {
        let server = Server::start(shard_count, layout, 3);
        let node = server.assembly.shards[0].borrow().node.clone();
        let (turns, writers) = (&node.turns, &node.aof.writers);
        let before = turns.durable.prefix();
        assert_eq!(before, turns.next_number() - 1, "all was synced");
        server.put("lost:0");
        server.disk.fail_at(server.disk.operations(), Failing::Broken);
        (0..writers.place_count()).for_each(|place| {
            writers.sync(place);
        });
        server.put("later:0");
        writers.sync_all().expect("the disk works again");
        assert_eq!(
            turns.durable.prefix(),
            before,
            "what was lost is lost, whatever is synced later"
        );
        server.rewrite();
        writers.sync_all().expect("the disk works");
        assert_eq!(turns.durable.prefix(), turns.next_number() - 1);
        server.has_all("lost", 1);
        server.has_all("later", 1);
    }
}

/// Every file that lies in the directory beside the manifest is named by it.
#[track_caller]
fn has_no_orphans(server: &Server) {
    let (manifest, _) = server.read();
    let dir = &server.directory.path;
    let mut expected: Vec<PathBuf> = manifest.files().map(|file| file.path(dir)).collect();
    expected.push(path_of(dir, &manifest_name(&server.directory.name)));
    expected.sort();
    let mut found = server.disk.names();
    found.retain(|path| path.parent() == Some(dir));
    assert_eq!(found, expected);
}

#[test]
fn whatever_a_crash_leaves_in_no_manifest_is_gone_after_the_next_start() {
    let mut orphans = 0;
    for (shard_count, layout) in SHAPES {
        // Of the first start, of a rewrite, and of a start behind it: a crash at each operation, and then other shards.
        let whole = Server::start(shard_count, layout, 1);
        let begun = SimulatedDisk::new(1);
        Server::start_on(begun.clone(), shard_count, layout).unwrap();
        let started = whole.disk.operations();
        whole.rewrite();
        let rewritten = whole.disk.operations();
        Server::start_on(whole.disk.clone(), shard_count, layout).unwrap();
        let restarted = whole.disk.operations();
        for at in (0..begun.operations()).chain(started..restarted) {
            let disk = match at {
                _ if at < started => {
                    let disk = SimulatedDisk::new(at);
                    disk.fail_at(at, Failing::Crash);
                    assert!(Server::start_on(disk.clone(), shard_count, layout).is_err());
                    disk
                }
                _ => {
                    let server = Server::start(shard_count, layout, at);
                    server.disk.fail_at(at, Failing::Crash);
                    server.rewrite();
                    if at >= rewritten {
                        assert!(Server::start_on(server.disk.clone(), shard_count, layout).is_err());
                    }
                    server.disk.clone()
                }
            };
            assert!(disk.has_crashed(), "operation {at} is one of it");
            disk.restart();
            let dir = Directory::of(whole.assembly.shards[0].borrow().node.lock_config().settings());
            let manifest = Manifest::load(&*disk, &dir.path, &dir.name).unwrap();
            let manifest = manifest.unwrap_or_else(|| Manifest::new(&dir.name));
            let names = disk.names();
            let own = names.iter().filter_map(|path| path.file_name());
            let own = own.filter(|name| manifest.named(name.as_bytes()).is_some());
            let listed = |name: &&OsStr| {
                let mut all = manifest.files().chain(&manifest.history);
                all.any(|file| file.name == name.as_bytes())
            };
            orphans += own.filter(|name| !listed(name)).count();
            let server = Server::start_on(disk, 1, layout).unwrap();
            has_no_orphans(&server);
            server.rewrite();
            has_no_orphans(&server);
        }
    }
    assert!(orphans > 20, "{orphans}");
}

#[test]
fn a_rewrite_that_fails_leaves_no_orphans_behind_the_next_one() {
    for (shard_count, layout) in SHAPES {
        let whole = Server::start(shard_count, layout, 1);
        let before = whole.disk.operations();
        whole.rewrite();
        for at in before..whole.disk.operations() {
            let server = Server::start(shard_count, layout, at);
            server.disk.fail_at(at, Failing::Broken);
            server.rewrite();
            let node = server.assembly.shards[0].borrow().node.clone();
            node.aof.writers.retry();
            server.rewrite();
            has_no_orphans(&server);
        }
    }
}

#[test]
fn only_orphans_are_removed() {
    let put = |disk: &SimulatedDisk, name: &str, bytes: &[u8]| {
        let mut file = disk.create(&Path::new("/appendonlydir").join(name)).unwrap();
        file.append(bytes).unwrap();
    };
    let is_there = |disk: &SimulatedDisk, name: &str| disk.content(&Path::new("/appendonlydir").join(name)).is_some();
    let server = Server::start(1, "per-shard", 1);
    server.rewrite();
    let disk = &server.disk;
    let others = [
        // Lower numbers, other names, another stem, and what another manifest names.
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.1.base.aof",
        "appendonly.aof.07.incr.aof",
        "appendonly.aof.7.incr",
        "appendonly.aof.7.incr.aof.save",
        "other.aof.7.incr.aof",
        "appendonly.aof.9.incr.aof",
    ];
    others.iter().for_each(|name| put(disk, name, b"kept"));
    put(
        disk,
        "appendonly.aof.manifest.of-monday",
        b"file appendonly.aof.9.incr.aof seq 9 type i\n",
    );
    let orphans = [
        "appendonly.aof.7.incr.aof",
        "appendonly.aof.8.base.rdb",
        "appendonly.aof.3.base.aof",
    ];
    orphans.iter().for_each(|name| put(disk, name, b"gone"));
    put(disk, "torn.manifest", b"file appendonly.aof.7.incr.aof se");
    drop(Server::start_on(disk.clone(), 1, "per-shard").unwrap());
    assert!(
        orphans.iter().all(|name| is_there(disk, name)),
        "what a torn manifest names nobody knows"
    );
    disk.remove(Path::new("/appendonlydir/torn.manifest")).unwrap();
    drop(Server::start_on(disk.clone(), 1, "per-shard").unwrap());
    assert!(!orphans.iter().any(|name| is_there(disk, name)));
    others.iter().for_each(|name| assert!(is_there(disk, name), "{name}"));

    // Where the manifest is lost, what it named is neither removed nor written over, at this start and the next.
    let lost = SimulatedDisk::new(1);
    put(&lost, "appendonly.aof.2.base.rdb", b"data");
    put(&lost, "appendonly.aof.4.incr.aof", b"data");
    for _ in 0..2 {
        let server = Server::start_on(lost.clone(), 1, "per-shard").unwrap();
        server.rewrite();
        for name in ["appendonly.aof.2.base.rdb", "appendonly.aof.4.incr.aof"] {
            assert_eq!(
                lost.content(&Path::new("/appendonlydir").join(name)).as_deref(),
                Some(&b"data"[..])
            );
        }
    }
}

/// As in Redis: from the third failure on, a minute, two, four, and never more than an hour.
#[test]
fn rewrites_that_fail_again_and_again_are_put_off_for_longer_and_longer() {
    let server = Server::start(1, "per-shard", 1);
    let node = server.assembly.shards[0].borrow().node.clone();
    let (aof, mut now) = (&node.aof, UnixMs(1_000_000));
    let mut settings = node.lock_config().settings().clone();
    settings.auto_aof_rewrite_percentage = 1;
    settings.auto_aof_rewrite_min_size = 0;
    let fail = |now| {
        assert!(aof.claim(now));
        aof.note_rewrite(Some(false), None, 0);
    };
    for _ in 0..FAILURES_UNTIL_DELAY {
        assert!(aof.is_due(&settings, now));
        fail(now);
    }
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(!aof.is_due(&settings, now));
        now += Ms(minutes * 60_000 - 1);
        assert!(!aof.is_due(&settings, now), "{minutes} minutes");
        now += Ms(1);
        assert!(aof.is_due(&settings, now), "{minutes} minutes");
        fail(now);
    }
    assert!(!aof.is_due(&settings, now));
    aof.forget_failures();
    assert!(aof.is_due(&settings, now), "somebody has asked for one");
    // One that succeeds forgets them, too.
    (0..FAILURES_UNTIL_DELAY).for_each(|_| fail(now));
    assert!(!aof.is_due(&settings, now));
    assert!(aof.claim(now));
    aof.note_rewrite(Some(true), None, 0);
    assert!(aof.is_due(&settings, now));
}

#[test]
fn a_sync_that_takes_long_is_counted_once() {
    let server = Server::start(2, "per-shard", 1);
    let node = server.assembly.shards[0].borrow().node.clone();
    let writers = &node.aof.writers;
    (0..20).for_each(|number| server.put(&format!("unsynced:{number}")));
    let syncs: Vec<_> = (0..2).map(|place| writers.begin_sync(place).unwrap()).collect();
    let later = |ns| Ticks(Ticks::now().0 + ns);
    assert_eq!(writers.take_late(later(1_000_000_000)), 0);
    assert_eq!(writers.take_late(later(2_100_000_000)), 2);
    assert_eq!(writers.take_late(later(9_000_000_000)), 0, "that was said");
    for mut sync in syncs {
        let outcome = sync.run();
        writers.end_sync(sync, outcome);
    }
    let shown = || {
        let mut section = Section::new("Persistence");
        node.aof.write_sizes(&mut section);
        section.into_text()
    };
    node.aof.count_delayed(2);
    assert!(shown().contains("aof_delayed_fsync:2\r\n"), "{}", shown());
    node.aof.reset_counts();
    assert!(shown().contains("aof_delayed_fsync:0\r\n"), "{}", shown());
}

/// The names are those of Redis's latency monitor.
#[test]
fn a_slow_write_is_told_by_what_went_on_beside_it() {
    let server = Server::start(1, "per-shard", 1);
    let node = server.assembly.shards[0].borrow().node.clone();
    let writers = &node.aof.writers;
    writers.note_write(50);
    assert!(writers.take_slow().is_empty(), "nobody monitors");
    writers.latency_ms.store(20, Ordering::Relaxed);
    writers.note_write(19);
    assert!(writers.take_slow().is_empty());
    writers.note_write(20);
    assert_eq!(writers.take_slow(), [("aof-write", 20), ("aof-write-alone", 20)]);
    server.put("unsynced");
    let mut sync = writers.begin_sync(0).unwrap();
    writers.note_write(30);
    assert_eq!(
        writers.take_slow(),
        [("aof-write", 30), ("aof-write-pending-fsync", 30)]
    );
    let outcome = sync.run();
    writers.end_sync(sync, outcome);
    let begun = saves::begin(&mut server.assembly.shards[0].borrow_mut(), Reason::Background);
    assert!(begun.is_some() && node.snapshots.is_under_way());
    writers.note_write(40);
    assert_eq!(writers.take_slow(), [("aof-write", 40), ("aof-write-active-child", 40)]);
}
