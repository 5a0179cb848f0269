//! Clients that listen: whether each hears what it should, once, and in the one order.
//!
//! What there is to hear is known from the units that the shards report: what each has published, and its events. When the pass of a unit has taken
//! its turn, its messages have their places in the order of all. What a client is handed is taken apart into replies and
//! messages (`judge`), and each message is looked for in that order, behind the last one that it has heard.
//!
//! Events say the same again and again, so which one it was may be open until more is heard: then all that it can have been is kept
//! ([`Position`]).
//!
//! A subscription begins at some moment between the arrival of its request and its confirmation, and ends in the same way. So of what
//! a client listens to
//!
//! 1. it hears in the order of turns, and of what each pass did, and nothing twice; to a channel comes before to a pattern;
//! 2. it hears all that has run behind the confirmation, and nothing that its client had known of, or that was answered, before the request
//!    came; when it has ended, all that was answered before that was asked for has been heard, and nothing comes any more;
//! 3. it hears nothing before the pass that told it was released, and of its own requests nothing before their replies;
//! 4. what it does behind that has a later turn;
//! 5. PUBLISH answers how many have heard.

use super::engine::Record;
use super::fault::Fault;
use super::history::Told;
use super::judge::{Failure, Judge};
use super::reply;
use super::run::Run;
use super::story::{Listening, shortened};
use crate::base::glob;
use crate::pubsub::Kind;
use crate::resp::{Proto, Reply, ReplyBuf};
use std::collections::{BTreeMap, BTreeSet};

/// A turn, and which of its messages.
type Place = (u64, usize);

/// See the essay above.
pub(super) struct Ears {
    /// By client.
    listeners: BTreeMap<usize, Listener>,
    /// Of each shard, what its pass has told so far.
    open: Vec<Vec<Post>>,
    posts: BTreeMap<Place, Post>,
}

/// Something that is told.
struct Post {
    kind: Kind,
    channel: Vec<u8>,
    payload: Vec<u8>,
    /// The request that it comes of.
    origin: Option<(usize, usize)>,
    /// By PUBLISH, or SPUBLISH.
    is_published: bool,
    ran: u64,
    answered: Option<u64>,
    /// To how many it went, as it was said.
    answer: Option<u64>,
    heard: u64,
    /// By these clients that are gone, or may have heard of it for other reasons, it may have been heard.
    may_be_heard: u64,
}

#[derive(Default)]
struct Listener {
    subscriptions: BTreeMap<Own, Subscription>,
    /// Where it can be in the order of all that is told, by what it has heard.
    positions: BTreeSet<Position>,
    /// It is gone, or may be.
    is_lost: bool,
}

/// The form of a subscription, and its name.
type Own = (u8, Vec<u8>);

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    /// The last message that it has heard, and as what.
    last: Place,
    heard_as: BTreeSet<Own>,
    /// Subscriptions that have heard something: all that comes behind is for them.
    begun: BTreeSet<Own>,
}

impl Position {
    fn has_heard(&self, place: Place, own: &Own) -> bool {
        place == self.last && self.heard_as.contains(own)
    }

    /// Something that it should have heard there.
    fn missed(&self, subscriptions: &BTreeMap<Own, Subscription>, place: Place, post: &Post) -> Option<String> {
        let mut own = subscriptions.iter().filter(|(own, _)| post.is_for(own.0, &own.1));
        let is_missing = |(own, subscription): &(&Own, &Subscription)| {
            let must_hear = subscription.must_hear(post) || place > self.last && self.begun.contains(*own);
            must_hear && !self.has_heard(place, own)
        };
        own.find(is_missing)
            .map(|((_, name), _)| format!("{} as {}", post.text(), shortened(name)))
    }

    /// Where it can be when it has heard this: at each place where that was told which it can have come to. The error is what it would have
    /// missed.
    fn hear(
        &self,
        heard: &Message<'_>,
        all: &BTreeMap<Own, Subscription>,
        posts: &BTreeMap<Place, Post>,
    ) -> Result<Vec<Position>, String> {
        let own = (heard.form, heard.name.to_vec());
        let subscription = &all[&own];
        let mut found = Vec::new();
        for (place, post) in posts.range(self.last..) {
            let is_it = post.is_for(own.0, &own.1) && post.channel == heard.channel && post.payload == heard.payload;
            let is_behind_pattern = *place == self.last && self.heard_as.iter().any(|(form, _)| *form > own.0);
            if is_it && !self.has_heard(*place, &own) && !is_behind_pattern && subscription.may_hear(*place, post) {
                let mut next = self.clone();
                if *place != self.last {
                    (next.last, next.heard_as) = (*place, BTreeSet::new());
                }
                next.heard_as.insert(own.clone());
                next.begun.insert(own.clone());
                found.push(next);
            }
            if let Some(missed) = self.missed(all, *place, post) {
                return match found.is_empty() {
                    true => Err(format!("and has not heard {missed}")),
                    false => Ok(found),
                };
            }
        }
        match found.is_empty() {
            true => Err("for a second time, too early or too late".to_owned()),
            false => Ok(found),
        }
    }
}

#[derive(Clone, Copy)]
struct Subscription {
    /// When its request came, and what its client knew of then.
    asked: u64,
    floor_turn: u64,
    confirmed: u64,
}

impl Subscription {
    fn may_hear(&self, place: Place, post: &Post) -> bool {
        post.answered.is_none_or(|answered| answered > self.asked) && place.0 > self.floor_turn
    }

    fn must_hear(&self, post: &Post) -> bool {
        post.ran > self.confirmed
    }
}

/// Forms of subscriptions, in the order in which one message is handed to them.
fn form_of(kind: Kind) -> u8 {
    match kind {
        Kind::Channel => 0,
        Kind::ShardChannel => 1,
        Kind::Pattern => 2,
    }
}

impl Post {
    fn is_for(&self, form: u8, name: &[u8]) -> bool {
        match (form, self.kind) {
            (0, Kind::Channel) | (1, Kind::ShardChannel) => self.channel == name,
            (2, Kind::Channel) => glob::matches(name, &self.channel),
            _ => false,
        }
    }

    fn text(&self) -> String {
        format!("{} on {}", shortened(&self.payload), shortened(&self.channel))
    }
}

fn wrong(text: String) -> Failure {
    Failure::new("heard", text)
}

impl Ears {
    pub(super) fn new(shard_count: usize) -> Ears {
        Ears {
            listeners: BTreeMap::new(),
            open: (0..shard_count).map(|_| Vec::new()).collect(),
            posts: BTreeMap::new(),
        }
    }

    /// This client listens some time.
    pub(super) fn listens(&mut self, client: usize) {
        let listener = self.listeners.entry(client).or_default();
        listener.positions.insert(Position::default());
    }

    /// A unit has told something.
    pub(super) fn told(&mut self, record: &Record, origin: Option<(usize, usize)>, ran: u64) {
        if self.listeners.is_empty() {
            return;
        }
        let posts = record.told.iter().flat_map(|told| {
            let is_published = ["publish", "spublish"].contains(&told.0);
            posts_of(told).into_iter().map(move |post| (is_published, post))
        });
        self.open[record.shard].extend(posts.map(|(is_published, (kind, channel, payload))| Post {
            is_published,
            kind,
            channel,
            payload,
            origin,
            ran,
            answered: None,
            answer: None,
            heard: 0,
            may_be_heard: 0,
        }));
    }

    /// A pass has taken its turn, or none: nobody listens.
    pub(super) fn took_turn(&mut self, shard: usize, turn: Option<u64>) {
        let posts = std::mem::take(&mut self.open[shard]);
        if let Some(turn) = turn {
            self.posts
                .extend(posts.into_iter().enumerate().map(|(index, post)| ((turn, index), post)));
        }
    }

    /// A request was answered: what came of it is known to be told.
    pub(super) fn answered(&mut self, origin: (usize, usize), at: u64, reply: &[u8], is_alone: bool) {
        let all = self.posts.values_mut().rev().filter(|post| post.origin == Some(origin));
        for post in all {
            post.answered = Some(at);
            let is_count = is_alone && post.is_published && reply.first() == Some(&b':');
            post.answer = reply.get(1..reply.len() - 2).filter(|_| is_count).and_then(number);
        }
    }

    /// Whether a request of a client has published something.
    fn has_published(&self, client: usize, index: usize) -> bool {
        let posts = self.posts.values();
        let mut own = posts.filter(|post| post.origin == Some((client, index)));
        own.any(|post| post.is_published)
    }

    /// What it listens to is not known any more. What it has asked for besides, and was not told of, may have been heard for it too.
    fn lost(&mut self, client: usize, unconfirmed: BTreeMap<Own, Subscription>) {
        let Ears { listeners, posts, .. } = self;
        if let Some(listener) = listeners.get_mut(&client).filter(|listener| !listener.is_lost) {
            listener.is_lost = true;
            let last = listener.positions.first().map_or((0, 0), |position| position.last);
            for (place, post) in posts.range_mut(last..) {
                let others = unconfirmed
                    .iter()
                    .filter(|(own, _)| !listener.subscriptions.contains_key(own));
                let subscriptions = listener.subscriptions.iter().chain(others);
                let may_hear =
                    subscriptions.filter(|((form, name), own)| post.is_for(*form, name) && own.may_hear(*place, post));
                post.may_be_heard += may_hear.count() as u64;
            }
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// As what a thing is published.
fn posts_of((name, db, what): &Told) -> Vec<(Kind, Vec<u8>, Vec<u8>)> {
    let kind = match *name {
        "publish" => Kind::Channel,
        "spublish" => Kind::ShardChannel,
        _ => {
            let channel = |space: &str, of: &[u8]| [format!("__{space}@{}__:", db.0).as_bytes(), of].concat();
            let (keyspace, keyevent) = (channel("keyspace", what), channel("keyevent", name.as_bytes()));
            return vec![
                (Kind::Channel, keyspace, name.as_bytes().to_vec()),
                (Kind::Channel, keyevent, what.clone()),
            ];
        }
    };
    let (channel, payload) = super::history::parted(what);
    vec![(kind, channel.to_vec(), payload.to_vec())]
}

/// What a client is told that listens: the form of its subscription, its name, the channel and the payload.
struct Message<'a> {
    form: u8,
    name: &'a [u8],
    channel: &'a [u8],
    payload: &'a [u8],
}

fn message(value: &[u8]) -> Option<Message<'_>> {
    let parts = reply::elements(value)?;
    let texts: Option<Vec<&[u8]>> = parts.into_iter().map(reply::text_of_bulk).collect();
    match texts?[..] {
        [b"message", channel, payload] => Some((0, channel, channel, payload)),
        [b"smessage", channel, payload] => Some((1, channel, channel, payload)),
        [b"pmessage", pattern, channel, payload] => Some((2, pattern, channel, payload)),
        _ => None,
    }
    .map(|(form, name, channel, payload)| Message {
        form,
        name,
        channel,
        payload,
    })
}

/// Whether this is a message to who listens, and no reply.
pub(super) fn is_message(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'*' | b'>')) && message(value).is_some()
}

impl Judge {
    /// Whether a client is handed messages beside its replies.
    pub(super) fn is_listener(&self, client: usize) -> bool {
        self.ears.listeners.contains_key(&client)
    }

    /// A client is handed a message.
    pub(super) fn hears(&mut self, client: usize, value: &[u8]) -> Result<(), Failure> {
        let number = self.clients[client].number;
        let proto_is_right = match self.clients[client].speaks {
            Proto::Resp2 => value.first() == Some(&b'*'),
            Proto::Resp3 => value.first() == Some(&b'>'),
        };
        let Some(heard) = message(value).filter(|_| proto_is_right) else {
            return Err(wrong(format!("client {number} is handed {}", shortened(value))));
        };
        let told = || {
            format!(
                "client {number} hears {} on {}",
                shortened(heard.payload),
                shortened(heard.channel)
            )
        };
        let own = (heard.form, heard.name.to_vec());
        let Ears { listeners, posts, .. } = &mut self.ears;
        let listener = listeners.get_mut(&client).expect("it is known to listen");
        if !listener.subscriptions.contains_key(&own) {
            return Err(wrong(format!(
                "{}, and does not listen to {}",
                told(),
                shortened(&own.1)
            )));
        }
        let (mut next, mut objection) = (BTreeSet::new(), String::new());
        for position in &listener.positions {
            match position.hear(&heard, &listener.subscriptions, posts) {
                Ok(found) => next.extend(found),
                Err(text) => objection = text,
            }
        }
        listener.positions = next;
        let mut places = listener.positions.iter().map(|position| position.last);
        let Some(place) = places.next() else {
            return Err(wrong(format!("{}, {objection}", told())));
        };
        if places.any(|other| other != place) {
            return Ok(());
        }
        let post = posts.get_mut(&place).expect("it was found there");
        post.heard += 1;
        let origin = post.origin;
        let judged = &mut self.clients[client];
        // Who is blocked hears in the meantime.
        let is_owed = |index: usize| index >= judged.next_reply && judged.program[index].waits.is_none();
        if origin.is_some_and(|(from, index)| from == client && is_owed(index)) {
            return Err(wrong(format!("{} before the reply of its own request", told())));
        }
        if !self.history.is_released(place.0) {
            return Err(wrong(format!("{} before turn {} is released", told(), place.0)));
        }
        judged.known_turn = judged.known_turn.max(place.0);
        Ok(())
    }

    /// Part of the reply to a request that begins or ends subscriptions. True: it was the last.
    pub(super) fn confirms(&mut self, client: usize, index: usize, reply: &[u8]) -> Result<bool, Failure> {
        let judged = &mut self.clients[client];
        let request = &judged.program[index];
        let Some(Listening {
            kind,
            begins,
            ref names,
        }) = request.listens
        else {
            return Ok(true);
        };
        let name = names[judged.part].clone();
        judged.part += 1;
        let is_last = judged.part == names.len();
        if is_last {
            judged.part = 0;
        }
        let (form, state) = (form_of(kind), &judged.states[index]);
        let Ears { listeners, posts, .. } = &mut self.ears;
        let listener = listeners.get_mut(&client).expect("it is known to listen");
        let own = (form, name.clone());
        if begins {
            listener.subscriptions.entry(own).or_insert(Subscription {
                asked: state.asked,
                floor_turn: state.floor_turn,
                confirmed: self.progress,
            });
        } else if let Some(subscription) = listener.subscriptions.remove(&own) {
            let (before, asked) = (listener.positions.clone(), state.asked);
            let all = BTreeMap::from([(own.clone(), subscription)]);
            let mut missing = None;
            listener.positions.retain(|position| {
                let told = posts.range(position.last..);
                let mut told = told.filter(|(_, post)| post.answered.is_some_and(|answered| answered < asked));
                let missed = told.find_map(|(place, post)| position.missed(&all, *place, post));
                let is_right = missed.is_none();
                missing = missed.or(missing.take());
                is_right
            });
            if listener.positions.is_empty() {
                let number = judged.number;
                let missing = missing.unwrap_or_default();
                return Err(wrong(format!("client {number} has not heard {missing} when it leaves")));
            }
            // What came since and was not heard will be heard no more.
            let first = before.first().map_or((0, 0), |position| position.last);
            for (place, post) in posts.range_mut(first..) {
                let may_count = post.is_for(form, &own.1) && subscription.may_hear(*place, post);
                post.may_be_heard += u64::from(may_count);
            }
            let positions = std::mem::take(&mut listener.positions).into_iter();
            listener.positions = positions
                .map(|mut position| {
                    position.begun.remove(&own);
                    position
                })
                .collect();
        }
        let is_shard = kind == Kind::ShardChannel;
        let count = listener
            .subscriptions
            .keys()
            .filter(|(form, _)| (*form == 1) == is_shard);
        let count = count.count() as i64;
        let word = match (kind, begins) {
            (Kind::Channel, true) => "subscribe",
            (Kind::Channel, false) => "unsubscribe",
            (Kind::Pattern, true) => "psubscribe",
            (Kind::Pattern, false) => "punsubscribe",
            (Kind::ShardChannel, true) => "ssubscribe",
            (Kind::ShardChannel, false) => "sunsubscribe",
        };
        let mut expected = ReplyBuf::default();
        let mut writer = Reply::new(&mut expected, request.proto);
        writer.push(3);
        writer.bulk(word.as_bytes());
        writer.bulk(&name);
        writer.integer(count);
        let expected = expected.to_contiguous();
        match reply == &*expected {
            true => Ok(is_last),
            false => Err(wrong(format!(
                "client {}: {}: {}",
                judged.number,
                judged.describe(index),
                super::judged::differs(&expected, reply)
            ))),
        }
    }

    /// Subscriptions that a client has asked for and has not been told of.
    fn unconfirmed(&self, client: usize) -> BTreeMap<Own, Subscription> {
        let judged = &self.clients[client];
        let open = judged.next_reply.min(judged.begun)..judged.begun;
        let begun = open.flat_map(|index| {
            let listening = judged.program[index]
                .listens
                .iter()
                .filter(|listening| listening.begins);
            let state = &judged.states[index];
            let subscription = Subscription {
                asked: state.asked,
                floor_turn: state.floor_turn,
                confirmed: self.progress,
            };
            listening.flat_map(move |listening| {
                let form = form_of(listening.kind);
                listening
                    .names
                    .iter()
                    .map(move |name| ((form, name.clone()), subscription))
            })
        });
        begun.collect()
    }

    /// A client is gone, or may be.
    pub(super) fn hears_no_more(&mut self, client: usize) {
        let unconfirmed = self.unconfirmed(client);
        self.ears.lost(client, unconfirmed);
    }

    /// A connection is as it was at its beginning.
    pub(super) fn listens_no_more(&mut self, client: usize) {
        if self.is_listener(client) {
            self.ears.lost(client, BTreeMap::new());
            let listener = self.ears.listeners.entry(client).or_default();
            listener.is_lost = false;
            listener.subscriptions.clear();
            let last = listener.positions.last().map(|position| position.last);
            listener.positions = [Position {
                last: last.unwrap_or_default(),
                ..Position::default()
            }]
            .into();
        }
    }

    /// All has come to rest: whoever listens has heard all, and who has published was told the truth.
    pub(super) fn check_ears(&mut self) -> Result<(), Failure> {
        let lost: Vec<usize> = self
            .ears
            .listeners
            .keys()
            .copied()
            .filter(|client| self.clients[*client].is_lost)
            .collect();
        for client in lost {
            self.hears_no_more(client);
        }
        let Ears { listeners, posts, .. } = &self.ears;
        for (client, listener) in listeners.iter().filter(|(_, listener)| !listener.is_lost) {
            let missed = |position: &Position| {
                let mut behind = posts.range(position.last..);
                behind.find_map(|(place, post)| position.missed(&listener.subscriptions, *place, post))
            };
            let missed: Option<Vec<String>> = listener.positions.iter().map(missed).collect();
            if let Some(missed) = missed {
                let number = self.clients[*client].number;
                return Err(wrong(format!("client {number} has not heard {}", missed.join(", or "))));
            }
        }
        for ((turn, _), post) in posts {
            let Some(answer) = post.answer else { continue };
            let possible = post.heard..=post.heard + post.may_be_heard;
            if !possible.contains(&answer) {
                return Err(Failure::new(
                    "deliveries",
                    format!(
                        "{} of turn {turn} is said to have gone to {answer}, and {possible:?} have heard it",
                        post.text()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// What a fault makes of messages among what a client is handed.
pub(super) fn spoil_messages(run: &Run<'_>, client: usize, bytes: Vec<u8>) -> Vec<u8> {
    let fault = run.manner.fault;
    let next = run.judge.answered(client);
    if fault == Fault::Miscount && bytes.first() == Some(&b':') && run.judge.ears.has_published(client, next) {
        return [b":9", &bytes[2..]].concat();
    }
    let is_meant = matches!(fault, Fault::LosePush | Fault::RepeatPush | Fault::SwapPushes);
    if !is_meant || !run.judge.is_listener(client) {
        return bytes;
    }
    let mut values = Vec::new();
    let mut rest = &bytes[..];
    while let Ok(Some(length)) = reply::length(rest) {
        values.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    values.push(rest.to_vec());
    let messages: Vec<usize> = (0..values.len()).filter(|at| is_message(&values[*at])).collect();
    match (fault, &messages[..]) {
        (Fault::LosePush, [.., last]) => drop(values.remove(*last)),
        (Fault::RepeatPush, [.., last]) => values.insert(*last, values[*last].clone()),
        (Fault::SwapPushes, [.., one, other]) => values.swap(*one, *other),
        _ => {}
    }
    values.concat()
}
