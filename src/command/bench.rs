//! For tests of the families: what clients do not see of a command, and how several shards share it.
//!
//! An [`Assembly`] of shards, each of whose logs has a reader, with all classes of keyspace events asked for.

use crate::command::FAMILIES;
use crate::config::KeyspaceEvents;
use crate::engine::assembly::{Assembly, BEGIN};
use crate::engine::log::ReaderId;
use crate::engine::{Registry, Signal};
use crate::store::DbIndex;
use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

/// The time at which it stands still.
pub(super) const NOW: crate::base::clock::UnixMs = BEGIN;

/// An assembly that is watched.
pub(super) struct Bench {
    assembly: Assembly,
    readers: Vec<ReaderId>,
    events: Rc<RefCell<Vec<String>>>,
    signals: Rc<RefCell<Vec<String>>>,
}

impl Deref for Bench {
    type Target = Assembly;

    fn deref(&self) -> &Assembly {
        &self.assembly
    }
}

/// What the families' tables of consequences are made of: a command; what it logs; its events; the signals to clients that wait.
pub(super) type Followed<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

impl Bench {
    pub(super) fn new(shards: usize) -> Bench {
        let registry = Box::leak(Box::new(Registry::new(FAMILIES, &[]).unwrap()));
        let assembly = Assembly::new(registry, shards);
        let mut readers = Vec::new();
        let (events, signals) = (
            Rc::<RefCell<Vec<String>>>::default(),
            Rc::<RefCell<Vec<String>>>::default(),
        );
        for (index, shard) in assembly.shards.iter().enumerate() {
            readers.push(assembly.subscribe(index));
            let mut shard = shard.borrow_mut();
            let mut settings = (*shard.env.settings).clone();
            settings.notify_keyspace_events = [
                KeyspaceEvents::ALL,
                KeyspaceEvents::KEYSPACE,
                KeyspaceEvents::KEYEVENT,
                KeyspaceEvents::NEW,
                KeyspaceEvents::KEY_MISS,
            ]
            .into_iter()
            .fold(KeyspaceEvents::default(), KeyspaceEvents::union);
            shard.env.follow(Arc::new(settings));
            drop(shard);
            let (events, signals) = (events.clone(), signals.clone());
            assembly.observe(index, move |observed| {
                let Some(consequences) = observed.consequences else {
                    return;
                };
                let text = |db: DbIndex, key: &[u8]| match db {
                    DbIndex(0) => String::from_utf8_lossy(key).into_owned(),
                    DbIndex(other) => format!("{}@{other}", String::from_utf8_lossy(key)),
                };
                let told = consequences.events.iter();
                events
                    .borrow_mut()
                    .extend(told.map(|event| format!("{} {}", event.event.name, text(event.db, &event.key))));
                signals
                    .borrow_mut()
                    .extend(consequences.signals.iter().map(|signal| match signal {
                        Signal::Ready(db, key) => format!("ready {}", text(*db, key)),
                        Signal::Gone(db, key) => format!("gone {}", text(*db, key)),
                        Signal::Flushed(db) => format!("flushed {}", db.0),
                        Signal::Swapped(a, b) => format!("swapped {} {}", a.0, b.0),
                    }));
            });
        }
        Bench {
            assembly,
            readers,
            events,
            signals,
        }
    }

    /// Runs a command of words without spaces; the reply with `|` for each line end.
    pub(super) fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.run_words(&words))
            .trim_end()
            .replace("\r\n", "|")
    }

    /// Runs a command of any words; the reply as it goes to the client.
    pub(super) fn run_words(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.assembly.run(words)
    }

    /// Runs these commands one after the other, each with all that follows from it, as the table says, on whichever shard it runs.
    #[track_caller]
    pub(super) fn follow(&mut self, table: &[Followed<'_>]) {
        for (line, logged, events, signals) in table {
            let reply = self.run(line);
            assert_eq!(
                self.logged_anywhere(),
                *logged,
                "what {line} logs, which answers {reply}"
            );
            assert_eq!(self.events(), *events, "events of {line}, which answers {reply}");
            assert_eq!(self.signals(), *signals, "signals of {line}, which answers {reply}");
        }
    }

    /// Forgets what has followed so far.
    pub(super) fn forget(&mut self) {
        self.logged_anywhere();
        self.events();
        self.signals();
    }

    /// What all shards have logged since the last call, shard by shard.
    pub(super) fn logged_anywhere(&mut self) -> Vec<String> {
        (0..self.shards.len()).flat_map(|shard| self.logged(shard)).collect()
    }

    /// What a shard has logged since the last call, as words; without what frames it (MULTI, EXEC, SELECT).
    pub(super) fn logged(&mut self, shard: usize) -> Vec<String> {
        let bytes = self.assembly.read_log(shard, self.readers[shard]);
        let mut logged = Vec::new();
        let mut rest = &bytes[..];
        let line = |rest: &mut &[u8]| {
            let end = rest.iter().position(|&byte| byte == b'\r').expect("lines have ends");
            let number: usize = std::str::from_utf8(&rest[1..end]).unwrap().parse().unwrap();
            *rest = &rest[end + 2..];
            number
        };
        while !rest.is_empty() {
            let words: Vec<String> = (0..line(&mut rest))
                .map(|_| {
                    let length = line(&mut rest);
                    let (word, behind) = rest.split_at_checked(length).expect("a word is whole");
                    rest = &behind[2..];
                    String::from_utf8_lossy(word).into_owned()
                })
                .collect();
            if !["MULTI", "EXEC", "SELECT"].contains(&&*words[0]) {
                logged.push(words.join(" "));
            }
        }
        logged
    }

    /// The keyspace events since the last call, each with its key.
    pub(super) fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.borrow_mut())
    }

    /// What clients that wait for keys would have been told since the last call.
    pub(super) fn signals(&self) -> Vec<String> {
        std::mem::take(&mut self.signals.borrow_mut())
    }

    /// `keyspace_hits` and `keyspace_misses` of the first shard.
    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        let first = self.shards[0].borrow();
        (
            first.env.stats.counts.keyspace_hits,
            first.env.stats.counts.keyspace_misses,
        )
    }
}
