//! Invalidations into the outputs of clients that cache keys.
//!
//! What is told of a key is for those who had read it, what is told of a prefix for those who asked for it, and what is told of all keys for
//! everybody who caches. As in Redis a client may have another one hear in its place (REDIRECT), which may be on any shard: then the text
//! goes on from the client's shard to that of the other ([`Forward`]), and who has made the change is answered when it is there, too. Of
//! different clients that redirect to one, what each is told stays in its order.
//!
//! | hears | gets |
//! |---|---|
//! | in RESP3 | a push `invalidate` |
//! | in RESP2, in another's place, subscribed to anything | a message on `__redis__:invalidate` |
//! | in RESP2 otherwise | nothing |
//!
//! Where the other client has gone, the first one is told so, each time that it would have heard something.
//!
//! Invariant: what is put into an output stands behind every reply that its client has or will have for what it has sent
//! ([`Client::message_buffer`](crate::client::Client::message_buffer)).

use super::listening::Broadcast;
use super::local::Local;
use super::tracked::{Invalidated, Invalidation, place_of};
use crate::pubsub::Moment;
use crate::resp::{Proto, Reply, ReplyBuf};
use crate::shard::ConnRef;
use crate::shard::durable::Need;
use bytes::Bytes;
use std::sync::Arc;

/// On which channel clients in RESP2 hear.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// What is told, in either protocol, written when it is first needed.
pub(super) struct Text {
    /// None: all keys.
    keys: Option<Vec<Bytes>>,
}

impl Text {
    fn write(&self, reply: &mut Reply<'_>) {
        if reply.is_resp3() {
            reply.push(2);
            reply.bulk(b"invalidate");
        } else {
            reply.push(3);
            reply.bulk(b"message");
            reply.bulk(CHANNEL);
        }
        match &self.keys {
            None => reply.null(),
            Some(keys) => {
                reply.array(keys.len());
                keys.iter().for_each(|key| reply.bulk_shared(key.clone()));
            }
        }
    }
}

/// Something that a client of another shard is to hear in the place of one of this.
pub(super) struct Forward {
    /// Who caches.
    from: ConnRef,
    /// Who hears, and its id.
    pub to: ConnRef,
    id: u64,
    text: Arc<Text>,
    need: Need,
}

/// What is told on this shard of one message, or of one prefix.
struct Telling<'a> {
    local: &'a mut Local,
    need: Need,
    text: Arc<Text>,
    written: Option<ReplyBuf>,
    forwards: &'a mut Vec<Forward>,
}

impl<'a> Telling<'a> {
    fn new(local: &'a mut Local, need: Need, keys: Option<Vec<Bytes>>, forwards: &'a mut Vec<Forward>) -> Telling<'a> {
        Telling {
            local,
            need,
            text: Arc::new(Text { keys }),
            written: None,
            forwards,
        }
    }

    /// Tells a client that caches, or who hears in its place.
    fn tell(&mut self, place: ConnRef) {
        let clients = &mut self.local.clients;
        let Some(client) = clients.get(place).filter(|client| !client.is_killed) else {
            return;
        };
        let Some(tracking) = &client.session.tracking else {
            return;
        };
        if let Some(id) = tracking.redirect {
            return self.tell_other(place, id);
        }
        if client.session.proto == Proto::Resp3 {
            let text = &self.text;
            let written = self.written.get_or_insert_with(|| {
                let mut written = ReplyBuf::new();
                text.write(&mut Reply::new(&mut written, Proto::Resp3));
                written
            });
            client.message_buffer().push_copy(written);
            client.needs(self.need);
            self.local.upkeep.under_way.count_output(client);
            clients.list(place.index);
        }
    }

    /// Tells the client of that id.
    fn tell_other(&mut self, place: ConnRef, id: u64) {
        match self.local.node.clients.find(id) {
            None => lose_redirect(self.local, place, id),
            Some(to) if to.shard == self.local.env.shard => {
                if !hear(self.local, to, &self.text, self.need) {
                    lose_redirect(self.local, place, id);
                }
            }
            Some(to) => self.forwards.push(Forward {
                from: place,
                to,
                id,
                text: self.text.clone(),
                need: self.need,
            }),
        }
    }
}

/// Tells the clients of this shard of a message, and notes what those of others are to hear.
pub(super) fn tell(local: &mut Local, moment: Moment, need: Need, told: &Invalidation, forwards: &mut Vec<Forward>) {
    match &told.what {
        Invalidated::All => {
            let places: Vec<ConnRef> = local.env.mailbox.caching.at(moment).collect();
            let mut telling = Telling::new(local, need, None, forwards);
            places.into_iter().for_each(|place| telling.tell(place));
        }
        Invalidated::Key { key, trackers, .. } => {
            let shard = local.env.shard;
            let mut telling = Telling::new(local, need, Some(vec![key.clone()]), forwards);
            for place in trackers.iter().map(|tracker| place_of(*tracker)) {
                if place.shard == shard && is_told(telling.local, place, told.by) {
                    telling.tell(place);
                }
            }
        }
    }
}

/// Whether a client is told of a key that it had read, which that one has changed.
fn is_told(local: &mut Local, place: ConnRef, by: Option<ConnRef>) -> bool {
    let Some(client) = local.clients.get(place) else {
        return false;
    };
    let tracking = client.session.tracking.as_deref();
    tracking.is_some_and(|tracking| !(tracking.is_broadcast() || tracking.skips_own && by == Some(place)))
}

/// Tells those who want to hear of a prefix, of all keys that a pass has changed.
pub(super) fn tell_broadcast(
    local: &mut Local,
    turn: u64,
    need: Need,
    broadcast: &Broadcast,
    forwards: &mut Vec<Forward>,
) {
    let caching = std::mem::take(&mut local.env.mailbox.caching);
    let all: Vec<Bytes> = broadcast.keys.keys().cloned().collect();
    let mut to_all = Vec::new();
    for subscriber in caching.of_prefix(&broadcast.prefix) {
        let place = subscriber.place;
        let client = local.clients.get(place);
        let tracking = client.and_then(|client| client.session.tracking.as_deref());
        let Some(tracking) = tracking else { continue };
        if !tracking.skips_own && subscriber.since.turn < turn {
            to_all.push(place);
            continue;
        }
        let skips = |by: &Option<ConnRef>| tracking.skips_own && *by == Some(place);
        let is_new = |index: u32| Moment { turn, index } >= subscriber.since;
        let own = broadcast.keys.iter();
        let own = own.filter(|(_, (index, by))| is_new(*index) && !skips(by));
        let keys: Vec<Bytes> = own.map(|(key, _)| key.clone()).collect();
        if keys.len() == all.len() {
            to_all.push(place);
        } else if !keys.is_empty() {
            Telling::new(local, need, Some(keys), forwards).tell(place);
        }
    }
    local.env.mailbox.caching = caching;
    let mut telling = Telling::new(local, need, Some(all), forwards);
    to_all.into_iter().for_each(|place| telling.tell(place));
}

/// A client of this shard hears in another's place. False: it has gone.
fn hear(local: &mut Local, place: ConnRef, text: &Text, need: Need) -> bool {
    let Some(client) = local.clients.get(place).filter(|client| !client.is_killed) else {
        return false;
    };
    let proto = client.session.proto;
    if proto == Proto::Resp3 || client.session.subscriptions.is_some() {
        text.write(&mut Reply::new(client.message_buffer(), proto));
        client.needs(need);
        local.upkeep.under_way.count_output(client);
        local.clients.list(place.index);
    }
    true
}

/// The client that was to hear in the place of this one has gone.
fn lose_redirect(local: &mut Local, place: ConnRef, id: u64) {
    let Some(client) = local.clients.get(place) else { return };
    let tracking = client.session.tracking.as_deref();
    let Some(tracking) = tracking.filter(|tracking| tracking.redirect == Some(id)) else {
        return;
    };
    tracking.break_redirect();
    if client.session.proto == Proto::Resp3 {
        let mut reply = Reply::new(client.message_buffer(), Proto::Resp3);
        reply.push(2);
        reply.bulk(b"tracking-redir-broken");
        reply.integer(id as i64);
        local.upkeep.under_way.count_output(client);
        local.clients.list(place.index);
    }
}

impl Forward {
    /// On the shard of who hears. What comes back is to be done on the shard of who caches, if the other has gone.
    pub(super) fn arrive(self, local: &mut Local) -> Option<(ConnRef, impl FnOnce(&mut Local) + Send + use<>)> {
        let Forward {
            from,
            to,
            id,
            text,
            need,
        } = self;
        if hear(local, to, &text, need) {
            return None;
        }
        Some((from, move |there: &mut Local| lose_redirect(there, from, id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Tracking;
    use crate::data::string::StringForm;
    use crate::engine::assembly::Assembly;
    use crate::engine::wire::{Handed, Wire};
    use crate::engine::{Command, Event, Op, Registry, Run};
    use crate::resp::ReplyError;
    use crate::shard::ShardId;
    use crate::spec::{Flags, KeyFlags, KeySpec, command};
    use crate::store::Expiry;

    const COMMANDS: &[Command] = &[
        Command {
            arity: 1,
            changes_subscriptions: true,
            ..command(
                "cache",
                Run::Session(|op| {
                    op.env.cache(op.session, Tracking::default());
                    op.reply.ok();
                    Ok(())
                }),
            )
        },
        Command {
            arity: 2,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(1, KeyFlags::RO)],
            ..command("look", Run::Keys(look))
        },
        Command {
            arity: -2,
            flags: Flags::WRITE,
            keys: &[KeySpec::range(1, -1, 1, KeyFlags::OW)],
            ..command("put", Run::Keys(put))
        },
    ];

    fn look(op: &mut Op) -> Result<(), ReplyError> {
        let found = op.keys.read(op.args.at(1))?;
        op.reply.integer(i64::from(found.is_some()));
        Ok(())
    }

    fn put(op: &mut Op) -> Result<(), ReplyError> {
        for key in op.args.slice_from(1).iter() {
            let (db, at) = (op.keys.db, op.keys.moment);
            let slot = op.keys.slot(key)?;
            slot.set_string(db, key, b"value", StringForm::Raw, Expiry::Clear, at);
            op.wrote(key, Event::string("put"));
        }
        op.reply.ok();
        Ok(())
    }

    /// Connections to which nothing can be written: what they were to get stays in sight.
    struct Deaf;

    impl Wire for Deaf {
        fn send(&mut self, _: u32, _: &mut ReplyBuf) -> Handed {
            Handed::Busy
        }
        fn queued_bytes(&self, _: u32) -> usize {
            0
        }
        fn read_on(&mut self, _: u32, _: bool) {}
        fn close(&mut self, _: u32, _: bool) {}
        fn wake(&mut self, _: ShardId) {}
    }

    /// Three shards with a client on each, of whom the first caches.
    struct Bed(Assembly);

    impl Bed {
        fn new() -> Bed {
            let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
            let assembly = Assembly::new(registry, 3);
            for shard in &assembly.shards[1..] {
                assert!(shard.borrow_mut().connect(0, 0, "127.0.0.1:3", "127.0.0.1:2", true));
            }
            let bed = Bed(assembly);
            bed.0.shards[0].borrow_mut().clients.at(0).unwrap().session.proto = Proto::Resp3;
            bed
        }

        fn send(&self, shard: usize, line: &str) {
            let line = format!("{line}\r\n");
            self.0.shards[shard].borrow_mut().receive(0, line.as_bytes());
        }

        /// A whole pass of a shard.
        fn pass(&self, shard: usize) {
            let mut shard = self.0.shards[shard].borrow_mut();
            shard.begin_pass();
            shard.finish_pass(&mut Deaf);
        }

        /// One up to where it is to be released; and that.
        fn run(&self, shard: usize) {
            let mut shard = self.0.shards[shard].borrow_mut();
            shard.begin_pass();
            shard.run_pass(&mut Deaf);
        }

        fn release(&self, shard: usize) {
            let mut shard = self.0.shards[shard].borrow_mut();
            shard.take_turn();
            assert!(shard.write_pass() && shard.may_release());
            shard.release_pass(&mut Deaf);
        }

        fn heard(&self, shard: usize) -> String {
            let mut shard = self.0.shards[shard].borrow_mut();
            let out = shard.clients.at(0).unwrap().out.take();
            String::from_utf8_lossy(&out.to_contiguous()).replace("\r\n", " ")
        }
    }

    fn push_of(key: &str) -> String {
        format!(">2 $10 invalidate *1 ${} {key} ", key.len())
    }

    #[test]
    fn what_is_told_of_a_change_comes_behind_the_reply_that_it_makes_old() {
        let bed = Bed::new();
        let key = bed.0.key_on(1, 0);
        bed.send(0, "cache");
        assert_eq!(bed.heard(0), "+OK ");
        bed.send(0, &format!("look {key}"));
        bed.pass(0);
        // It is read and changed in one pass, of which nothing has left yet.
        bed.run(1);
        bed.send(1, &format!("put {key}"));
        bed.pass(0);
        assert_eq!((bed.heard(0), bed.heard(1)), (String::new(), String::new()));
        bed.release(1);
        assert_eq!(bed.heard(1), "", "nobody has heard of it");
        bed.pass(0);
        assert_eq!(bed.heard(0), format!(":0 {}", push_of(&key)));
        bed.pass(1);
        assert_eq!(bed.heard(1), "+OK ");
        // Of the next change nobody hears, and nobody waits for it.
        bed.send(1, &format!("put {key}"));
        assert_eq!(bed.heard(1), "+OK ");
    }

    #[test]
    fn a_change_on_a_loan_does_not_overtake_the_reply_to_the_read_at_home() {
        let bed = Bed::new();
        let (key, others) = (bed.0.key_on(1, 0), [0, 1].map(|number| bed.0.key_on(2, number)));
        bed.send(0, "cache");
        bed.heard(0);
        bed.send(0, &format!("look {key}"));
        bed.pass(0);
        bed.send(2, &format!("put {key} {} {}", others[0], others[1]));
        bed.pass(2);
        // Here it is read, and then lent, in one pass; the slot leaves behind the reply.
        bed.run(1);
        bed.pass(2);
        bed.pass(0);
        assert_eq!((bed.heard(0), bed.heard(2)), (String::new(), String::new()));
        bed.release(1);
        bed.pass(2);
        bed.pass(0);
        assert_eq!(bed.heard(0), format!(":0 {}", push_of(&key)));
        bed.pass(2);
        assert_eq!(bed.heard(2), "+OK ");
    }

    #[test]
    fn own_changes_are_told_behind_their_reply_and_who_has_gone_is_not_waited_for() {
        let bed = Bed::new();
        let keys = [0, 1].map(|shard| bed.0.key_on(shard, 0));
        bed.send(0, "cache");
        for key in &keys {
            bed.send(0, &format!("look {key}"));
            bed.send(0, &format!("put {key}"));
        }
        for _ in 0..4 {
            [0, 1].into_iter().for_each(|shard| bed.pass(shard));
        }
        let heard = bed.heard(0);
        for key in &keys {
            assert!(heard.contains(&push_of(key)), "{heard}");
        }
        assert!(heard.starts_with("+OK :0 +OK "), "{heard}");
        assert_eq!(heard.matches("+OK").count(), 3, "{heard}");
        bed.send(0, &format!("look {}", keys[1]));
        (0..2).for_each(|_| [0, 1].into_iter().for_each(|shard| bed.pass(shard)));
        bed.0.shards[0].borrow_mut().disconnect(0);
        bed.send(1, &format!("put {}", keys[1]));
        (0..2).for_each(|_| [0, 1].into_iter().for_each(|shard| bed.pass(shard)));
        assert_eq!(bed.heard(1), "+OK ");
    }
}
