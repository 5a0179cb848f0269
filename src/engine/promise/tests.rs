use crate::engine::assembly::Assembly;
use crate::engine::log::{Chunk, LogFile};
use crate::engine::wire::{Handed, Wire};
use crate::engine::{Command, Op, Registry, Run};
use crate::resp::{ReplyBuf, ReplyError};
use crate::shard::ShardId;
use crate::shard::turns::Turns;
use crate::spec::{KeyFlags, KeySpec, command};
use std::sync::Arc;

const KEY: &[KeySpec] = &[KeySpec::one(1, KeyFlags::RW)];
const KEYS: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyFlags::RW)];

const COMMANDS: &[Command] = &[
    Command {
        arity: 2,
        keys: KEY,
        ..command("put", Run::Keys(put))
    },
    Command {
        arity: -2,
        keys: KEYS,
        ..command("puts", Run::Keys(put))
    },
    Command {
        arity: 2,
        keys: KEY,
        ..command("look", Run::Keys(look))
    },
    Command {
        arity: 1,
        ..command("wipe", Run::Everything(wipe))
    },
    Command {
        arity: 1,
        ..command("count", Run::Everything(answer))
    },
    Command {
        arity: 1,
        ..command(
            "hello",
            Run::Session(|op| {
                op.reply.ok();
                Ok(())
            }),
        )
    },
    Command {
        arity: 1,
        ..command(
            "ask",
            Run::Node(|context| {
                Box::pin(async {
                    context.ask_all(|_: &mut crate::engine::Local| ()).await;
                    context.reply().ok();
                    Ok(())
                })
            }),
        )
    },
];

fn put(op: &mut Op) -> Result<(), ReplyError> {
    for key in op.args.slice_from(1).iter() {
        op.keys.slot(key)?;
    }
    op.changed(1);
    answer(op)
}

fn look(op: &mut Op) -> Result<(), ReplyError> {
    op.keys.slot(op.args.at(1))?;
    answer(op)
}

fn wipe(op: &mut Op) -> Result<(), ReplyError> {
    op.changed(1);
    answer(op)
}

fn answer(op: &mut Op) -> Result<(), ReplyError> {
    op.reply.ok();
    Ok(())
}

/// A file that takes everything.
struct Willing;

impl LogFile for Willing {
    fn write(&mut self, _: &Chunk) -> bool {
        true
    }
}

/// How many replies each connection has got.
#[derive(Default)]
struct Got([usize; 2]);

impl Wire for Got {
    fn send(&mut self, index: u32, output: &mut ReplyBuf) -> Handed {
        let sent = output.take().to_contiguous().into_owned();
        self.0[index as usize] += sent.windows(2).filter(|end| end == b"\r\n").count();
        Handed::Taken
    }
    fn queued_bytes(&self, _: u32) -> usize {
        0
    }
    fn read_on(&mut self, _: u32, _: bool) {}
    fn close(&mut self, _: u32, _: bool) {}
    fn wake(&mut self, _: ShardId) {}
}

/// Two shards under `appendfsync always`, with two clients on the first one.
struct Bench {
    assembly: Assembly,
    got: Got,
    turns: Arc<Turns>,
}

impl Bench {
    fn new() -> Bench {
        let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        let assembly = Assembly::new(registry, 2);
        let turns = assembly.shards[0].borrow().node.turns.clone();
        turns.durable.hold(true);
        for shard in &assembly.shards {
            shard.borrow_mut().log().attach_file(Box::new(Willing));
        }
        let mut first = assembly.shards[0].borrow_mut();
        assert!(first.connect(1, 0, "127.0.0.1:3", "127.0.0.1:2", true));
        drop(first);
        let mut bench = Bench {
            assembly,
            got: Got::default(),
            turns,
        };
        bench.go_on();
        bench
    }

    /// What these clients send arrives in one pass; how many replies each client gets by it, however long it goes on.
    fn send(&mut self, requests: &[(u32, &str)]) -> [usize; 2] {
        let before = self.got.0;
        let mut first = self.assembly.shards[0].borrow_mut();
        first.begin_pass();
        for (client, request) in requests {
            first.receive(*client, format!("{request}\r\n").as_bytes());
        }
        first.finish_pass(&mut self.got);
        drop(first);
        self.go_on();
        [0, 1].map(|client| self.got.0[client] - before[client])
    }

    fn go_on(&mut self) {
        for _ in 0..20 {
            for shard in &self.assembly.shards {
                let mut shard = shard.borrow_mut();
                shard.begin_pass();
                shard.finish_pass(&mut self.got);
            }
            self.assembly.poll_tasks();
        }
    }

    /// The part of a shard goes to disk; how many replies leave for it.
    fn sync(&mut self, shard: u16) -> [usize; 2] {
        let before = self.got.0;
        if self.turns.begin_sync(ShardId(shard)) {
            self.turns.end_sync(ShardId(shard));
        }
        self.go_on();
        [0, 1].map(|client| self.got.0[client] - before[client])
    }

    /// A key of that shard, another one for each number.
    fn key(&self, shard: usize, number: usize) -> String {
        self.assembly.key_on(shard, number)
    }
}

#[test]
fn who_writes_waits_for_the_disk_and_who_reads_what_is_quiet_does_not() {
    let mut bench = Bench::new();
    let (busy, quiet) = (bench.key(0, 0), bench.key(0, 1));
    let put = format!("put {busy}");
    assert_eq!(bench.send(&[(0, &put), (1, &format!("look {quiet}"))]), [0, 1]);
    assert_eq!(bench.sync(0), [1, 0]);
    assert_eq!(
        bench.send(&[(1, &format!("look {busy}"))]),
        [0, 1],
        "it is durable by now"
    );
}

#[test]
fn who_reads_what_is_not_on_disk_waits_with_who_wrote_it() {
    let mut bench = Bench::new();
    let key = bench.key(0, 0);
    let (put, look) = (format!("put {key}"), format!("look {key}"));
    assert_eq!(bench.send(&[(0, &put), (1, &look)]), [0, 0], "in the same pass");
    assert_eq!(bench.send(&[(1, &look)]), [0, 0], "and later");
    assert_eq!(bench.sync(0), [1, 2]);
}

#[test]
fn a_reply_waits_behind_what_its_connection_was_answered_before() {
    let mut bench = Bench::new();
    let (busy, quiet) = (bench.key(0, 0), bench.key(0, 1));
    assert_eq!(bench.send(&[(0, &format!("put {busy}"))]), [0, 0]);
    assert_eq!(
        bench.send(&[(0, &format!("look {quiet}")), (0, "hello"), (1, "hello")]),
        [0, 1]
    );
    assert_eq!(bench.sync(0), [3, 0]);
}

#[test]
fn a_number_counts_when_all_before_it_are_on_disk() {
    let mut bench = Bench::new();
    let (here, there) = (bench.key(0, 0), bench.key(1, 0));
    assert_eq!(bench.send(&[(0, &format!("put {there}"))]), [0, 0]);
    assert_eq!(bench.send(&[(1, &format!("put {here}"))]), [0, 0]);
    assert_eq!(bench.sync(0), [0, 0], "the other shard's number is the earlier one");
    assert_eq!(bench.sync(1), [1, 1]);
}

#[test]
fn what_runs_elsewhere_waits_for_the_disk_of_there() {
    let mut bench = Bench::new();
    let (there, quiet) = (bench.key(1, 0), bench.key(1, 1));
    let look = format!("look {there}");
    assert_eq!(bench.send(&[(0, &format!("put {there}")), (1, &look)]), [0, 0]);
    assert_eq!(bench.send(&[(1, &look)]), [0, 0]);
    assert_eq!(bench.sync(0), [0, 0]);
    assert_eq!(bench.sync(1), [1, 2]);
    assert_eq!(
        bench.send(&[(0, &format!("put {there}")), (1, &format!("look {quiet}"))]),
        [0, 1]
    );
}

#[test]
fn a_slot_that_was_lent_shows_what_was_done_to_it_elsewhere() {
    let mut bench = Bench::new();
    let (here, there) = (bench.key(0, 0), bench.key(1, 0));
    assert_eq!(bench.send(&[(0, &format!("puts {here} {there}"))]), [0, 0]);
    assert_eq!(bench.send(&[(1, &format!("look {here}"))]), [0, 0]);
    assert_eq!(bench.send(&[(1, &format!("look {there}"))]), [0, 0]);
    bench.sync(0);
    bench.sync(1);
    assert_eq!(bench.got.0, [1, 2]);
}

#[test]
fn what_holds_all_slots_has_seen_and_changed_them_all() {
    let mut bench = Bench::new();
    let (here, there) = (bench.key(0, 0), bench.key(1, 0));
    let looks = [format!("look {here}"), format!("look {there}")];
    assert_eq!(bench.send(&[(0, "count")]), [1, 0], "nothing was ever written");
    assert_eq!(bench.send(&[(0, "wipe"), (1, &looks[0]), (1, &looks[1])]), [0, 0]);
    bench.sync(0);
    bench.sync(1);
    assert_eq!(bench.got.0, [2, 2]);
    assert_eq!(bench.send(&[(0, &format!("put {there}"))]), [0, 0]);
    for asked in ["count", "ask"] {
        assert_eq!(bench.send(&[(1, asked)]), [0, 0], "{asked}");
    }
    assert_eq!(bench.sync(1), [1, 2]);
    assert_eq!(bench.send(&[(1, "ask")]), [0, 1]);
}

#[test]
fn when_nothing_is_promised_any_more_what_waits_leaves() {
    let mut bench = Bench::new();
    let put = format!("put {}", bench.key(0, 0));
    assert_eq!(bench.send(&[(0, &put)]), [0, 0]);
    bench.turns.durable.hold(false);
    bench.go_on();
    assert_eq!(bench.got.0, [1, 0]);
    assert_eq!(bench.send(&[(0, &put)]), [1, 0]);
    // What was written meanwhile is not on disk, whichever slot it was in.
    bench.turns.durable.hold(true);
    assert_eq!(bench.send(&[(1, &format!("look {}", bench.key(0, 0)))]), [0, 0]);
    assert_eq!(bench.sync(0), [0, 1]);
}

#[test]
fn a_connection_ends_when_its_replies_have_left() {
    let mut bench = Bench::new();
    let put = format!("put {}", bench.key(0, 0));
    assert_eq!(bench.send(&[(0, &put)]), [0, 0]);
    bench.assembly.shards[0].borrow_mut().peer_closed(0);
    bench.go_on();
    assert!(bench.assembly.shards[0].borrow_mut().clients.at(0).is_some());
    assert_eq!(bench.sync(0), [1, 0]);
    assert!(bench.assembly.shards[0].borrow_mut().clients.at(0).is_none());
}
