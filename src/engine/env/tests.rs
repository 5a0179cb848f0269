//! What a shard's surroundings do for a unit of work: times, events, promises.

use super::*;
use crate::config::KeyspaceEvents;
use crate::data::string::StringForm;
use crate::engine::assembly::Assembly;
use crate::engine::{Command, Op, Registry, Run};
use crate::resp::ReplyError;
use crate::spec::{KeyFlags, KeySpec, command};
use crate::store::Expiry;
use std::cell::RefCell;
use std::rc::Rc;

const COMMANDS: &[Command] = &[
    Command {
        arity: 2,
        keys: &[KeySpec::one(1, KeyFlags::OW)],
        ..command("put", Run::Keys(put))
    },
    // Nothing tells its keys before it runs.
    Command {
        arity: -2,
        ..command("look", Run::Reaching(|_| None, look))
    },
];

fn put(op: &mut Op) -> Result<(), ReplyError> {
    let (db, moment, key) = (op.keys.db, op.keys.moment, op.args.at(1));
    let soon = Expiry::At(moment.now + Ms(10));
    let slot = op.keys.slot(key)?;
    slot.set_string(db, key, b"value", StringForm::Raw, soon, moment);
    op.reply.ok();
    Ok(())
}

fn look(op: &mut Op) -> Result<(), ReplyError> {
    for key in op.args.slice_from(1).iter() {
        op.keys.read(key)?;
    }
    op.reply.ok();
    Ok(())
}

/// What an attempt finds to be over is gone; so it stays known, though the attempt lacks a slot and is forgotten.
#[test]
fn a_key_that_is_over_is_told_once_however_often_a_command_runs() {
    let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
    let assembly = Assembly::new(registry, 2);
    let told = Rc::new(RefCell::new(Vec::new()));
    let mut readers = Vec::new();
    for shard in &assembly.shards {
        let env = &mut shard.borrow_mut().env;
        readers.push(env.log.subscribe());
        let classes = KeyspaceEvents::EXPIRED.union(KeyspaceEvents::KEY_MISS);
        env.follow(Arc::new(Settings {
            notify_keyspace_events: classes,
            ..(*env.settings).clone()
        }));
        let told = told.clone();
        env.observer = Some(Box::new(move |observed| {
            let events = observed
                .consequences
                .iter()
                .flat_map(|consequences| &consequences.events);
            told.borrow_mut().extend(events.map(|told| told.event.name));
        }));
    }
    let (here, there) = (assembly.key_on(0, 0), assembly.key_on(1, 0));
    let run = |words: &[&str]| {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        assert_eq!(assembly.run(&words), b"+OK\r\n");
    };
    run(&["put", &here]);
    run(&["put", &there]);
    assembly.pass(Ms(11));
    run(&["look", &here, &there]);
    let mut deleted: Vec<u8> = Vec::new();
    for (shard, reader) in assembly.shards.iter().zip(readers) {
        for chunk in shard.borrow_mut().env.log.read(reader).unwrap() {
            deleted.extend(&chunk.stream().bytes);
        }
    }
    let text = String::from_utf8(deleted).unwrap();
    assert_eq!(text.matches("DEL").count(), 2, "{text}");
    assert_eq!(*told.borrow(), ["expired", "keymiss", "expired", "keymiss"]);
    let expired: u64 = assembly
        .shards
        .iter()
        .map(|shard| shard.borrow().env.stats.counts.expired_keys)
        .sum();
    assert_eq!(expired, 2);
}
