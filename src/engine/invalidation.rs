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
