//! Rewrites on a disk that crashes or fails at each of their operations.

use super::{Directory, Mode, Recovered};
use crate::base::clock::Ms;
use crate::data::string::StringForm;
use crate::engine::assembly::{Assembly, Plan};
use crate::engine::rewrites::{self, Asked};
use crate::engine::{Command, Op, Registry, Run};
use crate::persist::aof::manifest::Manifest;
use crate::resp::ReplyError;
use crate::runtime::disk::{Failing, SimulatedDisk};
use crate::spec::{KeyFlags, KeySpec, command};
use crate::store::Expiry;
use std::sync::Arc;

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

/// Passes within which a rewrite is over, whatever it meets.
const PATIENCE: usize = 40;

struct Server {
    assembly: Assembly,
    disk: Arc<SimulatedDisk>,
    directory: Directory,
}

impl Server {
    fn start(shard_count: usize, layout: &str, seed: u64) -> Server {
        let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        let disk = SimulatedDisk::new(seed);
        let assembly = Assembly::of(Plan {
            disk: disk.clone(),
            parameters: &[("aof-layout".to_owned(), layout.to_owned())],
            ..Plan::new(registry, shard_count)
        });
        let node = assembly.shards[0].borrow().node.clone();
        let directory = Directory::of(node.lock_config().settings());
        node.aof
            .begin(directory.clone(), Recovered::nothing(&directory))
            .unwrap();
        assembly
            .shards
            .iter()
            .for_each(|shard| shard.borrow_mut().begin_logging());
        let server = Server {
            assembly,
            disk,
            directory,
        };
        (0..SYNCED_COUNT).for_each(|number| server.put(&format!("synced:{number}")));
        node.aof.writers.sync_all().unwrap();
        server
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
