//! Messages on their way out of a shard, and into its clients' outputs; and publishers, and those who change what others cache, who wait for that.
//!
//! ```text
//!  the publisher's pass --announce--> mailboxes of the shards that listen --deliver--> outputs of their clients
//!                                                                             |
//!  the publisher's shard: reply kept <------------ word, from each -----------'
//! ```
//!
//! A message is put behind every reply that its client has, and behind those that are still to come for what the client has sent: so its
//! own messages come after the reply of the command that caused them, as in Redis. It is put there whatever has piled up: a client that does not
//! read ends by its output limit, and nobody waits for it.
//!
//! The reply to whoever has published is kept until all shards have sent word ([`Awaited`]). PUBLISH, which answers to how many a message
//! went, is answered by what they say; inside EXEC the answer was written when it ran, from what stood in the directory then.

use super::invalidation::{self, Forward};
use super::listening::{Announcement, Message, Publication, address, look_again_at};
use super::local::{Envelope, Local};
use super::receipts::{KeptReply, ReceiptId, Word};
use super::wire::Leaving;
use crate::client::{Client, Stall};
use crate::pubsub::{Moment, Subscriber};
use crate::resp::{Proto, Reply, ReplyBuf};
use crate::shard::durable::Need;
use crate::shard::turns::Turn;
use std::sync::Arc;

/// Rule 8: sends what the pass has to tell to the shards that listen.
pub(super) fn announce(local: &mut Local, turn: &Turn) {
    local.env.mailbox.settle(turn.turn);
    if local.env.messages.is_empty() {
        return;
    }
    let messages = std::mem::take(&mut local.env.messages);
    let receipts = std::mem::take(&mut local.env.receipts);
    let node = local.node.clone();
    let addressed = address(messages, receipts, turn, &node.hearers);
    for (shard, announcement) in addressed.announcements {
        if shard == local.env.shard {
            local.env.mailbox.take_in(announcement);
            // What is told here is heard here in the next pass, which need not wait for anything.
            local.passes.next_look = Some(local.env.ticks);
        } else {
            local.link().message(shard, Envelope::Announcement(announcement));
        }
    }
    for word in addressed.words {
        send_word(local, word);
    }
}

/// Puts the messages of a pass into the outputs of this shard's clients.
pub(super) fn deliver(local: &mut Local, announcement: Announcement) {
    let Announcement {
        turn,
        number,
        content,
        receipts,
    } = announcement;
    let need = match local.env.promises.hold() {
        true => Need::of(number),
        false => Need::NONE,
    };
    show_commands(local, turn, need, &content.messages);
    let mut counts = Vec::with_capacity(content.publications.len());
    let mut forwards = Vec::new();
    let mut publications = content.publications.iter().peekable();
    for (index, message) in content.messages.iter().enumerate() {
        let moment = Moment {
            turn,
            index: index as u32,
        };
        if let Message::Invalidation(told) = message {
            invalidation::tell(local, moment, need, told, &mut forwards);
        }
        while let Some(publication) = publications.next_if(|publication| publication.index as usize == index) {
            let mut delivery = Delivery {
                local,
                moment,
                need,
                count: 0,
            };
            delivery.deliver(publication);
            counts.push((index, delivery.count));
        }
    }
    for broadcast in &content.broadcasts {
        invalidation::tell_broadcast(local, turn, need, broadcast, &mut forwards);
    }
    let words = receipts.into_iter().map(|(receipt, of)| {
        let own = counts.iter().filter(|(index, _)| receipt.messages.contains(index));
        receipt.word(of, own.map(|(_, count)| count).sum())
    });
    forward(local, forwards, words.collect());
}

/// Has other shards' clients hear what they hear in the place of this one's. Word is sent when all have.
fn forward(local: &mut Local, forwards: Vec<Forward>, words: Vec<Word>) {
    let words = Arc::new(words);
    for forward in forwards {
        let (to, words) = (forward.to.shard, words.clone());
        let visit = Box::new(move |there: &mut Local| {
            if let Some((from, lost)) = forward.arrive(there) {
                there.link().message(from.shard, Envelope::Visit(Box::new(lost)));
            }
            send_words(there, words);
        });
        local.link().message(to, Envelope::Visit(visit));
    }
    send_words(local, words);
}

/// Sends word, if nobody else is still to do so.
fn send_words(local: &mut Local, words: Arc<Vec<Word>>) {
    for word in Arc::into_inner(words).into_iter().flatten() {
        send_word(local, word);
    }
}

/// Commands to those who watch all of them.
fn show_commands(local: &mut Local, turn: u64, need: Need, messages: &[Message]) {
    if local.env.mailbox.monitors.is_empty() {
        return;
    }
    let monitors = local.env.mailbox.monitors.clone();
    for (index, message) in messages.iter().enumerate() {
        let Message::Command(line) = message else { continue };
        let moment = Moment {
            turn,
            index: index as u32,
        };
        for Subscriber { place, since } in &monitors {
            if moment >= *since
                && let Some(client) = local.clients.get(*place).filter(|client| !client.is_killed)
            {
                let proto = client.session.proto;
                Reply::new(client.message_buffer(), proto).simple(line);
                client.needs(need);
                local.clients.list(place.index);
            }
        }
    }
}

/// Whether a client may change now what it listens to; if not, it is looked after.
///
/// Who is about to listen to less hears first what came before, be it by its own commands or by those of whoever was answered before: such a command
/// is put off until all messages are delivered of the turns that were taken by then, and of the pass under way.
pub(super) fn has_heard_all(local: &mut Local, client: &Client) -> bool {
    if client.session.subscriptions.is_none() {
        return true;
    }
    let leaving = &mut local.passes.leaving;
    let Some(at) = leaving.iter().position(|leaving| leaving.place == client.place) else {
        leaving.push(Leaving {
            place: client.place,
            is_new: true,
            turn: None,
            has_heard: false,
        });
        // If the look of this pass is over, the next one is to come at once.
        local.passes.next_look = Some(local.env.ticks);
        return false;
    };
    if leaving[at].has_heard {
        leaving.swap_remove(at);
        return true;
    }
    false
}

/// All that has a turn up to `stable` is delivered: lets those go on who have waited for that.
pub(super) fn let_leave(local: &mut Local, stable: u64) {
    let Local {
        env,
        node,
        clients,
        passes,
        ..
    } = local;
    if passes.leaving.is_empty() {
        return;
    }
    let counter = node.turns.counter();
    passes.leaving.retain_mut(|leaving| {
        let Some(client) = clients.get(leaving.place) else {
            return false;
        };
        // What the pass under way has to tell gets its turn at the end.
        if std::mem::take(&mut leaving.is_new) && !env.messages.is_empty() {
            return true;
        }
        if !leaving.has_heard && stable >= *leaving.turn.get_or_insert(counter) {
            leaving.has_heard = true;
            client.stall = Stall::Not;
            clients.list(leaving.place.index);
        }
        true
    });
    // What is waited for is another shard's, which may be at its disk.
    if passes.leaving.iter().any(|leaving| !leaving.has_heard) {
        passes.next_look = Some(look_again_at(env.ticks));
    }
}

/// One message, on this shard.
struct Delivery<'a> {
    local: &'a mut Local,
    moment: Moment,
    need: Need,
    count: u64,
}

impl Delivery<'_> {
    fn deliver(&mut self, publication: &Publication) {
        let Publication { post, patterns, .. } = publication;
        let word: &[u8] = match post.kind {
            crate::pubsub::Kind::ShardChannel => b"smessage",
            _ => b"message",
        };
        let roll = std::mem::take(&mut self.local.env.mailbox.roll);
        self.push_to(roll.of_channel(post.kind, &post.channel), |reply| {
            reply.push(3);
            reply.bulk(word);
            reply.bulk_shared(post.channel.clone());
            reply.bulk_shared(post.payload.clone());
        });
        for id in patterns {
            let Some((pattern, subscribers)) = roll.of_pattern(*id) else {
                continue;
            };
            self.push_to(subscribers, |reply| {
                reply.push(4);
                reply.bulk(b"pmessage");
                reply.bulk(pattern);
                reply.bulk_shared(post.channel.clone());
                reply.bulk_shared(post.payload.clone());
            });
        }
        self.local.env.mailbox.roll = roll;
    }

    /// Pushes what `write` writes, once for each protocol, to those who listened by then.
    fn push_to(&mut self, subscribers: &[Subscriber], write: impl Fn(&mut Reply<'_>)) {
        let mut written: [Option<ReplyBuf>; 2] = [None, None];
        for Subscriber { place, since } in subscribers {
            if self.moment < *since {
                continue;
            }
            self.count += 1;
            let Some(client) = self.local.clients.get(*place).filter(|client| !client.is_killed) else {
                continue;
            };
            let proto = client.session.proto;
            let message = written[usize::from(proto == Proto::Resp3)].get_or_insert_with(|| {
                let mut message = ReplyBuf::new();
                write(&mut Reply::new(&mut message, proto));
                message
            });
            client.message_buffer().push_copy(message);
            client.needs(self.need);
            self.local.upkeep.under_way.count_output(client);
            self.local.clients.list(place.index);
        }
    }
}

fn send_word(local: &mut Local, word: Word) {
    let shard = word.origin.shard;
    if shard == local.env.shard {
        take_word(local, word);
    } else {
        local.link().message(shard, Envelope::Word(word));
    }
}

/// A shard says that it has delivered.
pub(super) fn take_word(local: &mut Local, word: Word) {
    if let Some(kept) = local.awaited.take_word(word) {
        answer(local, kept);
    }
}

/// Keeps a reply until there is word of all deliveries. Its client may be at work; it counts the reply itself then.
pub(super) fn keep_reply(local: &mut Local, id: ReceiptId, reply: KeptReply) {
    if let Some(client) = local.clients.get(reply.place) {
        client.undelivered += 1;
    }
    if let Some(kept) = local.awaited.keep(id, reply) {
        answer(local, kept);
    }
}

fn answer(local: &mut Local, kept: KeptReply) {
    let KeptReply {
        place,
        sequence,
        reply,
        deliveries,
    } = kept;
    let Some(client) = local.clients.get(place) else { return };
    client.undelivered -= 1;
    let Client {
        pending, out, session, ..
    } = &mut **client;
    let proto = session.proto;
    pending.answer(sequence, out, |buffer| match reply {
        Some(mut reply) => buffer.append(&mut reply),
        None => Reply::new(buffer, proto).integer(deliveries as i64),
    });
    local.upkeep.under_way.count_output(client);
    local.clients.answered(place.index);
}
