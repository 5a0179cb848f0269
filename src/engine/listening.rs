//! What is told to those who listen: messages, delivered on every shard in the order of turns.
//!
//! Who listens to what is known process-wide ([`Hearers`], with the [`Directory`] of subscriptions). What the units of a pass have to tell
//! gathers until the pass has taken its turn; then it goes, stamped with it, straight to each shard that listens, by whatever link: so it may arrive
//! before what has an earlier turn, and is held ([`Mailbox`]) until nothing earlier can come any more (rule 8 of
//! [`turns`](crate::shard::turns)). That is a matter of microseconds, and no shard that runs a long unit is waited for: between its passes a shard
//! shows no bound.
//!
//! A message never overtakes a reply of its own pass or of an earlier one: it is delivered within a pass of the listening shard, whose
//! replies leave after it, and whoever puts it into a client's output puts it behind every reply that has come for this client, be that
//! held for its order ([`delivery`](super::delivery)).
//!
//! Four things are told: what is published; keyspace events, which become messages to the channels that Redis has for them when the
//! turn has been taken; to clients that cache keys, that these have changed ([`tracked`](super::tracked)); and, while somebody watches
//! (MONITOR), every command that has run.
//!
//! Whoever publishes is answered when all who listen have the message in their queues. So a unit that publishes has a *receipt*: the shard
//! that tells of it sends it along, each shard that has delivered sends word to the shard of the publisher, and the reply waits there until all have.
//!
//! Invariants: (1) every listener hears each message behind the moment at which it began to listen, once; (2) in the order of
//! turns, and of what the pass did; (3) who holds messages asks for another pass soon ([`Mailbox::next_look`]); (4) word is sent of each receipt,
//! whether anybody was left to hear of it or not.

use super::attempt::{KeyEvent, Post};
use super::receipts::{Receipt, Word};
use super::tracked::{Invalidated, Invalidation, place_of};
use crate::base::clock::Ticks;
use crate::config::KeyspaceEvents;
use crate::pubsub::{CachingClients, Directory, Found, Kind, Moment, Name, PatternId, Roll, Subscriber};
use crate::shard::turns::{Turn, Turns};
use crate::shard::{ConnRef, ShardId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// When a shard looks again whether what it holds can be delivered: it waits for passes that are being released, which takes
/// microseconds, but for one that a disk holds back.
const LOOK_AGAIN_AFTER: Duration = Duration::from_micros(50);

/// Which shards of the process have somebody who listens, and to what.
#[derive(Debug)]
pub struct Hearers {
    shards: Box<[AtomicBool]>,
    /// Those on which somebody hears everything.
    whole: Box<[AtomicBool]>,
    /// Those on which somebody watches all commands.
    watched: Box<[AtomicBool]>,
    watched_count: AtomicUsize,
    count: AtomicUsize,
    /// How many clients have gone that may have left something behind that they have read.
    gone: AtomicU64,
    pub directory: Directory,
}

impl Hearers {
    /// Nobody, on so many shards.
    pub fn new(shard_count: usize) -> Hearers {
        let none = || std::iter::repeat_with(AtomicBool::default).take(shard_count).collect();
        Hearers {
            shards: none(),
            whole: none(),
            watched: none(),
            watched_count: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            gone: AtomicU64::new(0),
            directory: Directory::default(),
        }
    }

    /// Whether anybody listens.
    #[inline]
    pub fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether somebody watches all commands.
    #[inline]
    pub fn shows_commands(&self) -> bool {
        self.watched_count.load(Ordering::Relaxed) > 0
    }

    /// A client that has cached keys has gone: what it has read is of no use any more.
    pub(super) fn note_gone(&self) {
        self.gone.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have.
    #[inline]
    pub(super) fn gone_count(&self) -> u64 {
        self.gone.load(Ordering::Relaxed)
    }

    /// The shards on which somebody hears everything. To be asked once the turn is taken: who is not among them then has begun at that turn or
    /// later.
    fn whole(&self) -> impl Iterator<Item = ShardId> {
        set_in(&self.whole)
    }

    fn set(&self, shard: ShardId, listens: bool) {
        if self.shards[shard.0 as usize].swap(listens, Ordering::SeqCst) == listens {
            return;
        }
        match listens {
            true => self.count.fetch_add(1, Ordering::SeqCst),
            false => self.count.fetch_sub(1, Ordering::SeqCst),
        };
    }
}

/// The shards for which it is set.
fn set_in(shards: &[AtomicBool]) -> impl Iterator<Item = ShardId> {
    let shards = shards.iter().enumerate();
    let set = shards.filter(|(_, is_set)| is_set.load(Ordering::SeqCst));
    set.map(|(shard, _)| ShardId(shard as u16))
}

/// Something that a unit has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// With the classes that were asked for then, of which two say in which form it is told.
    Event(KeyEvent, KeyspaceEvents),
    Post(Post),
    /// A command has run: a line for those who watch all of them.
    Command(Arc<str>),
    /// For those who cache keys.
    Invalidation(Invalidation),
}

/// A message as it goes to subscribers.
#[derive(Debug)]
pub(super) struct Publication {
    /// The place of its message among those of the pass.
    pub index: u32,
    pub post: Post,
    /// The patterns that match its channel.
    pub patterns: Vec<PatternId>,
}

/// Keys that begin with something, for those who want to hear of all of them: told at once, however often each has changed.
#[derive(Debug)]
pub(super) struct Broadcast {
    pub prefix: Name,
    /// With the place of the last message about each, and who has changed it last.
    pub keys: BTreeMap<Bytes, (u32, Option<ConnRef>)>,
}

/// What one pass has to tell, in the order in which it happened.
#[derive(Debug)]
pub(super) struct Content {
    pub messages: Vec<Message>,
    pub publications: Vec<Publication>,
    pub broadcasts: Vec<Broadcast>,
}

/// The same, on its way to one shard.
#[derive(Debug)]
pub struct Announcement {
    pub(super) turn: u64,
    /// What it shows is durable when this log number is.
    pub(super) number: u64,
    pub(super) content: Arc<Content>,
    /// Of which this shard is to send word, and how many shards are.
    pub(super) receipts: Vec<(Receipt, usize)>,
}

/// Who is told of what a pass has to tell.
#[derive(Default)]
pub(super) struct Addressed {
    pub announcements: Vec<(ShardId, Announcement)>,
    /// Of receipts for messages that nobody hears.
    pub words: Vec<Word>,
}

/// Finds out who is to be told, once the pass has taken that turn.
pub(super) fn address(messages: Vec<Message>, receipts: Vec<Receipt>, turn: &Turn, hearers: &Hearers) -> Addressed {
    let mut posts = Vec::with_capacity(messages.len());
    let mut invalidations = Invalidations::default();
    let mut shows_commands = false;
    for (index, message) in messages.iter().enumerate() {
        match message {
            Message::Post(post) => posts.push((index as u32, post.clone())),
            Message::Event(event, classes) => told_as(event, *classes, |post| posts.push((index as u32, post))),
            Message::Command(_) => shows_commands = true,
            Message::Invalidation(told) => invalidations.take_in(index, told, &hearers.directory),
        }
    }
    let names = posts.iter().map(|(_, post)| (post.kind, &post.channel[..]));
    let found = hearers.directory.find(names);
    let targets = |range: &Range<usize>| {
        let first = posts.partition_point(|(index, _)| (*index as usize) < range.start);
        let end = posts.partition_point(|(index, _)| (*index as usize) < range.end);
        let mut shards: Vec<ShardId> = hearers.whole().collect();
        let listening = found[first..end].iter().flat_map(|found| &found.shards);
        for shard in listening.chain(invalidations.shards(range)) {
            if !shards.contains(shard) {
                shards.push(*shard);
            }
        }
        shards
    };
    let mut of_all = targets(&(0..messages.len()));
    if shows_commands {
        let watched: Vec<ShardId> = set_in(&hearers.watched)
            .filter(|shard| !of_all.contains(shard))
            .collect();
        of_all.extend(watched);
    }
    let targets_of: Vec<Vec<ShardId>> = receipts.iter().map(|receipt| targets(&receipt.messages)).collect();
    let publications = posts.into_iter().zip(found);
    let publications = publications.filter(|(_, found)| !found.shards.is_empty());
    let publications =
        publications.map(|((index, post), Found { patterns, .. })| Publication { index, post, patterns });
    let content = Arc::new(Content {
        publications: publications.collect(),
        broadcasts: invalidations.into_broadcasts(),
        messages,
    });
    let announcement = |shard: ShardId| {
        let own = receipts
            .iter()
            .zip(&targets_of)
            .filter(|(_, targets)| targets.contains(&shard));
        Announcement {
            turn: turn.turn,
            number: turn.number.unwrap_or(turn.earlier_numbers.saturating_sub(1)),
            content: content.clone(),
            receipts: own.map(|(receipt, targets)| (receipt.clone(), targets.len())).collect(),
        }
    };
    let unheard = receipts
        .iter()
        .zip(&targets_of)
        .filter(|(_, targets)| targets.is_empty());
    Addressed {
        announcements: of_all.into_iter().map(|shard| (shard, announcement(shard))).collect(),
        words: unheard.map(|(receipt, _)| receipt.word(0, 0)).collect(),
    }
}

/// Who is to hear that keys have changed which clients cache.
#[derive(Default)]
struct Invalidations {
    /// By the places of the messages, which ascend.
    shards: Vec<(usize, BTreeSet<ShardId>)>,
    by_prefix: BTreeMap<Name, BTreeMap<Bytes, (u32, Option<ConnRef>)>>,
}

impl Invalidations {
    fn take_in(&mut self, index: usize, told: &Invalidation, directory: &Directory) {
        let mut shards = BTreeSet::new();
        match &told.what {
            Invalidated::All => shards.extend(directory.caching_shards()),
            Invalidated::Key {
                key,
                trackers,
                is_over,
                is_broadcast,
            } => {
                shards.extend(trackers.iter().map(|tracker| place_of(*tracker).shard));
                let prefixes = if *is_broadcast {
                    directory.prefixes_of(key)
                } else {
                    Vec::new()
                };
                let by = told.by.filter(|_| !is_over);
                for (prefix, of) in prefixes {
                    shards.extend(of);
                    let keys = self.by_prefix.entry(prefix).or_default();
                    keys.insert(key.clone(), (index as u32, by));
                }
            }
        }
        self.shards.push((index, shards));
    }

    /// The shards that are told of one of these messages.
    fn shards(&self, range: &Range<usize>) -> impl Iterator<Item = &ShardId> {
        let first = self.shards.partition_point(|(index, _)| *index < range.start);
        let end = self.shards.partition_point(|(index, _)| *index < range.end);
        self.shards[first..end].iter().flat_map(|(_, shards)| shards)
    }

    fn into_broadcasts(self) -> Vec<Broadcast> {
        let by_prefix = self.by_prefix.into_iter();
        by_prefix.map(|(prefix, keys)| Broadcast { prefix, keys }).collect()
    }
}

/// A keyspace event as messages to Redis's channels: to that of the key, and to that of the event.
fn told_as(told: &KeyEvent, classes: KeyspaceEvents, mut tell: impl FnMut(Post)) {
    let mut tell_in = |space: &str, channel: &[u8], payload: &[u8]| {
        let mut name = format!("__{space}@{}__:", told.db.0).into_bytes();
        name.extend_from_slice(channel);
        tell(Post {
            kind: Kind::Channel,
            channel: name.into(),
            payload: Bytes::copy_from_slice(payload),
        });
    };
    let name = told.event.name.as_bytes();
    if classes.contains(KeyspaceEvents::KEYSPACE) {
        tell_in("keyspace", &told.key, name);
    }
    if classes.contains(KeyspaceEvents::KEYEVENT) {
        tell_in("keyevent", name, &told.key);
    }
}

/// Who hears all that is delivered on a shard: the turn, and its messages.
pub type Hearer = Box<dyn FnMut(u64, &[Message])>;

/// Who listens on a shard, and what it holds for them.
pub struct Mailbox {
    shard: ShardId,
    hearers: Arc<Hearers>,
    turns: Arc<Turns>,
    hearer: Option<Hearer>,
    /// The last turn when that one began to listen: what came up to then is not for it.
    since: u64,
    pub(super) roll: Roll,
    /// Those who watch all commands.
    pub(super) monitors: Vec<Subscriber>,
    /// Those who cache keys.
    pub(super) caching: CachingClients,
    /// By their turns.
    held: BTreeMap<u64, Announcement>,
    /// What has been delivered, at least.
    delivered: u64,
}

impl Mailbox {
    pub(super) fn new(shard: ShardId, hearers: Arc<Hearers>, turns: Arc<Turns>) -> Mailbox {
        Mailbox {
            shard,
            hearers,
            turns,
            hearer: None,
            since: 0,
            roll: Roll::default(),
            monitors: Vec::new(),
            caching: CachingClients::default(),
            held: BTreeMap::new(),
            delivered: 0,
        }
    }

    fn follow(&self) {
        self.hearers.set(self.shard, self.listens());
    }

    /// Begins to listen to everything.
    pub(super) fn listen(&mut self, hearer: Hearer) {
        self.hearer = Some(hearer);
        // In this order: a pass that takes a later turn finds this shard among the listeners.
        self.hearers.whole[self.shard.0 as usize].store(true, Ordering::SeqCst);
        self.follow();
        self.since = self.turns.counter();
    }

    /// Does so no more.
    pub(super) fn stop(&mut self) {
        self.hearer = None;
        self.hearers.whole[self.shard.0 as usize].store(false, Ordering::SeqCst);
        self.follow();
    }

    /// A client of this shard subscribes. `within_pass`: the pass under way will have a turn, and has so many messages by now.
    pub(super) fn subscribe(&mut self, kind: Kind, name: &Name, place: ConnRef, within_pass: Option<u32>) {
        self.roll.add(&self.hearers.directory, kind, name, place);
        self.follow();
        let since = self.moment(within_pass);
        self.roll.set_moment(kind, name, place, since);
    }

    fn moment(&self, within_pass: Option<u32>) -> Moment {
        match within_pass {
            Some(index) => Moment::within_pass(index),
            None => Moment::after(self.turns.counter()),
        }
    }

    /// The pass under way has this turn.
    pub(super) fn settle(&mut self, turn: u64) {
        self.roll.settle_moments(turn);
        self.caching.settle_moments(turn);
        for monitor in &mut self.monitors {
            monitor.since.settle(turn);
        }
    }

    /// It leaves, if it was there.
    pub(super) fn unsubscribe(&mut self, kind: Kind, name: &Name, place: ConnRef) {
        self.roll.remove(&self.hearers.directory, kind, name, place);
        self.follow();
    }

    /// A client of this shard watches all commands from now on.
    pub(super) fn watch(&mut self, place: ConnRef, within_pass: Option<u32>) {
        if self.monitors.is_empty() {
            self.hearers.watched[self.shard.0 as usize].store(true, Ordering::SeqCst);
        }
        self.hearers.watched_count.fetch_add(1, Ordering::SeqCst);
        let since = self.moment(within_pass);
        self.monitors.push(Subscriber { place, since });
        self.follow();
    }

    /// It does so no more.
    pub(super) fn unwatch(&mut self, place: ConnRef) {
        self.monitors.retain(|monitor| monitor.place != place);
        self.hearers.watched_count.fetch_sub(1, Ordering::SeqCst);
        if self.monitors.is_empty() {
            self.hearers.watched[self.shard.0 as usize].store(false, Ordering::SeqCst);
        }
        self.follow();
    }

    /// A client of this shard caches keys, and wants to hear of those that begin with these from now on, too. True: it has cached none before.
    pub(super) fn cache<'a>(
        &mut self,
        place: ConnRef,
        prefixes: impl Iterator<Item = &'a Name>,
        within_pass: Option<u32>,
    ) -> bool {
        let is_new = !self.hearers.directory.caches(place);
        if is_new {
            self.caching.add(&self.hearers.directory, place);
        }
        let prefixes: Vec<Name> = prefixes.cloned().collect();
        for prefix in &prefixes {
            self.caching.add_prefix(&self.hearers.directory, prefix, place);
        }
        self.follow();
        let since = self.moment(within_pass);
        self.caching.set_moment(place, &prefixes, since);
        is_new
    }

    /// It does so no more. False: it did not.
    pub(super) fn stop_caching(&mut self, place: ConnRef, prefixes: &BTreeSet<Name>) -> bool {
        for prefix in prefixes {
            self.caching.remove_prefix(&self.hearers.directory, prefix, place);
        }
        let was_there = self.caching.remove(&self.hearers.directory, place);
        self.follow();
        was_there
    }

    /// Whether anybody listens here.
    #[inline]
    pub(super) fn listens(&self) -> bool {
        self.hearer.is_some() || !self.roll.is_empty() || !self.monitors.is_empty() || !self.caching.is_empty()
    }

    /// Something has come.
    pub(super) fn take_in(&mut self, announcement: Announcement) {
        let turn = announcement.turn;
        assert!(
            turn > self.delivered,
            "rule 8: turn {turn} comes behind one that was delivered"
        );
        self.held.insert(turn, announcement);
    }

    /// What is next to be delivered, up to that turn, before which nothing can come any more. Whoever hears everything has heard it.
    pub(super) fn next(&mut self, stable: u64) -> Option<Announcement> {
        let first = self.held.first_entry().filter(|first| *first.key() <= stable)?;
        let (turn, announcement) = first.remove_entry();
        self.delivered = turn;
        if let Some(hearer) = &mut self.hearer
            && turn > self.since
        {
            hearer(turn, &announcement.content.messages);
        }
        Some(announcement)
    }

    /// Whether something waits to be delivered.
    #[inline]
    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// When it is to be looked at again, if it was now.
    pub(super) fn next_look(&self, now: Ticks) -> Option<Ticks> {
        self.holds_any().then(|| look_again_at(now))
    }
}

/// When a shard that has looked now looks again for what others have not written yet.
pub(super) fn look_again_at(now: Ticks) -> Ticks {
    Ticks(now.0 + LOOK_AGAIN_AFTER.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Event;
    use crate::engine::receipts::ReceiptId;
    use crate::engine::tracked::tracker_of;
    use crate::shard::turns::Share;
    use crate::store::DbIndex;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn event(key: &str) -> Message {
        let event = KeyEvent {
            event: Event::generic("del"),
            db: DbIndex(3),
            key: key.as_bytes().into(),
        };
        Message::Event(event, KeyspaceEvents::KEYSPACE.union(KeyspaceEvents::KEYEVENT))
    }

    fn post(channel: &str) -> Message {
        Message::Post(Post {
            kind: Kind::Channel,
            channel: Bytes::copy_from_slice(channel.as_bytes()),
            payload: Bytes::from_static(b"payload"),
        })
    }

    fn announcement(turn: u64) -> Announcement {
        let content = Content {
            messages: vec![event(&turn.to_string())],
            publications: Vec::new(),
            broadcasts: Vec::new(),
        };
        Announcement {
            turn,
            number: 0,
            content: Arc::new(content),
            receipts: Vec::new(),
        }
    }

    fn client(shard: u16) -> ConnRef {
        ConnRef {
            shard: ShardId(shard),
            index: 0,
            generation: 0,
        }
    }

    /// As the turn in the middle of a process's life.
    fn turn() -> Turn {
        Turn {
            turn: 9,
            number: None,
            earlier_numbers: 4,
            offsets: 0..0,
            has_select: false,
        }
    }

    #[test]
    fn what_comes_too_early_is_held_and_what_is_older_than_the_listener_is_dropped() {
        let (turns, hearers) = (Arc::new(Turns::new(2)), Arc::new(Hearers::new(2)));
        let heard = Rc::<RefCell<Vec<u64>>>::default();
        let hears = {
            let heard = heard.clone();
            Box::new(move |turn, _: &[Message]| heard.borrow_mut().push(turn))
        };
        let (here, there) = (ShardId(0), ShardId(1));
        for _ in 0..3 {
            turns.take(there, Share::default());
            turns.released(there);
        }
        let mut mailbox = Mailbox::new(here, hearers.clone(), turns);
        assert!(!hearers.is_any());
        mailbox.listen(hears);
        assert!(hearers.is_any());
        assert_eq!(hearers.whole().collect::<Vec<_>>(), [here]);
        for turn in [6, 3, 4, 5] {
            mailbox.take_in(announcement(turn));
        }
        while mailbox.next(4).is_some() {}
        assert_eq!(*heard.borrow(), [4]);
        assert!(mailbox.holds_any());
        assert_eq!(mailbox.next_look(Ticks(3)), Some(Ticks(50_003)));
        while mailbox.next(9).is_some() {}
        assert_eq!(*heard.borrow(), [4, 5, 6]);
        assert_eq!(mailbox.next_look(Ticks(1)), None);
        mailbox.stop();
        assert!(!hearers.is_any());
        mailbox.take_in(announcement(7));
        assert!(mailbox.next(7).is_some());
        assert_eq!(heard.borrow().len(), 3, "nobody listens");
    }

    #[test]
    fn who_caches_is_told_by_what_it_has_read_and_by_prefix() {
        let (turns, hearers) = (Arc::new(Turns::new(4)), Arc::new(Hearers::new(4)));
        let mut mailboxes = [0, 1, 2].map(|shard| Mailbox::new(ShardId(shard), hearers.clone(), turns.clone()));
        let prefixes: BTreeSet<Name> = ["a", "ab"].map(|text| Name::from(text.as_bytes())).into();
        assert!(mailboxes[0].cache(client(0), [].iter(), None));
        assert!(mailboxes[2].cache(client(2), prefixes.iter(), None));
        assert!(!mailboxes[2].cache(client(2), [].iter(), None), "it does already");
        let changed = |key: &str, readers: &[u16], by, is_over| {
            Message::Invalidation(Invalidation {
                what: Invalidated::Key {
                    key: Bytes::copy_from_slice(key.as_bytes()),
                    trackers: readers.iter().map(|shard| tracker_of(client(*shard))).collect(),
                    is_over,
                    is_broadcast: hearers.directory.is_broadcast(key.as_bytes()),
                },
                by: Some(client(by)),
            })
        };
        let all = Message::Invalidation(Invalidation {
            what: Invalidated::All,
            by: None,
        });
        let messages = vec![
            changed("x", &[1], 0, false),
            changed("abc", &[], 0, false),
            changed("a", &[], 1, true),
            changed("abc", &[0], 1, false),
            all,
        ];
        let receipt = |number, messages| Receipt {
            id: ReceiptId {
                shard: ShardId(1),
                number,
            },
            origin: client(1),
            messages,
        };
        let receipts = vec![receipt(0, 0..1), receipt(1, 1..3), receipt(2, 3..5)];
        let Addressed { announcements, words } = address(messages, receipts, &turn(), &hearers);
        assert!(words.is_empty());
        let mut told: Vec<(u16, Vec<(u64, usize)>)> = announcements
            .iter()
            .map(|(shard, announcement)| {
                let receipts = announcement.receipts.iter();
                let receipts = receipts.map(|(receipt, of)| (receipt.id.number, *of));
                (shard.0, receipts.collect())
            })
            .collect();
        told.sort();
        assert_eq!(told, [(0, vec![(2, 2)]), (1, vec![(0, 1)]), (2, vec![(1, 1), (2, 2)])]);
        let broadcasts = announcements[0].1.content.broadcasts.iter();
        let broadcasts: Vec<_> = broadcasts
            .map(|of| (&of.prefix[..], of.keys.iter().collect::<Vec<_>>()))
            .collect();
        let (a, abc) = (Bytes::from_static(b"a"), Bytes::from_static(b"abc"));
        let last = (3, Some(client(1)));
        assert_eq!(
            broadcasts,
            [
                (&b"a"[..], vec![(&a, &(2, None)), (&abc, &last)]),
                (&b"ab"[..], vec![(&abc, &last)])
            ],
            "each once, as it was changed last"
        );
        assert!(mailboxes[2].stop_caching(client(2), &prefixes) && !mailboxes[2].stop_caching(client(2), &prefixes));
        assert!(hearers.is_any());
        assert!(mailboxes[0].stop_caching(client(0), &BTreeSet::new()));
        assert!(!hearers.is_any());
    }

    #[test]
    fn a_shard_is_told_of_a_pass_if_one_of_its_messages_is_for_it() {
        let (turns, hearers) = (Arc::new(Turns::new(3)), Arc::new(Hearers::new(3)));
        let mut mailboxes = [0, 1, 2].map(|shard| Mailbox::new(ShardId(shard), hearers.clone(), turns.clone()));
        let name = |text: &str| Name::from(text.as_bytes());
        mailboxes[0].subscribe(Kind::Channel, &name("__keyspace@3__:k"), client(0), None);
        mailboxes[2].subscribe(Kind::Pattern, &name("a*"), client(2), None);
        let receipt = |number, messages| Receipt {
            id: ReceiptId {
                shard: ShardId(1),
                number,
            },
            origin: client(1),
            messages,
        };
        let messages = vec![event("k"), post("ab"), post("b"), post("ac")];
        let receipts = vec![receipt(0, 1..2), receipt(1, 2..3), receipt(2, 0..4)];
        let Addressed { announcements, words } = address(messages, receipts, &turn(), &hearers);
        assert_eq!(words.len(), 1, "of what nobody hears");
        assert_eq!((words[0].id.number, words[0].of, words[0].deliveries), (1, 0, 0));
        let told: Vec<(u16, Vec<(u64, usize)>)> = announcements
            .iter()
            .map(|(shard, announcement)| {
                let receipts = announcement.receipts.iter();
                (
                    shard.0,
                    receipts.map(|(receipt, of)| (receipt.id.number, *of)).collect(),
                )
            })
            .collect();
        assert_eq!(told, [(0, vec![(2, 2)]), (2, vec![(0, 1), (2, 2)])]);
        let (_, first) = &announcements[0];
        assert_eq!((first.turn, first.number), (9, 3));
        let publications = first.content.publications.iter();
        let indices: Vec<(u32, usize)> = publications.map(|one| (one.index, one.patterns.len())).collect();
        assert_eq!(
            indices,
            [(0, 0), (1, 1), (3, 1)],
            "the event goes to its key's channel only"
        );
        mailboxes[0].unsubscribe(Kind::Channel, &name("__keyspace@3__:k"), client(0));
        mailboxes[2].unsubscribe(Kind::Pattern, &name("a*"), client(2));
        assert!(!hearers.is_any());
    }
}
