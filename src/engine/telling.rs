//! What the units of a shard have to tell: events, what was published, what clients cache that has changed, and commands for those who watch.
//!
//! The end of a unit ([`Env::end_unit`]) comes here with what has followed from it, where anybody listens. It becomes messages of the pass, which
//! wait until that has its turn ([`listening`](super::listening)); and where a reply is to wait until they are delivered, a receipt is made out
//! ([`receipts`](super::receipts)), which whoever hands the reply on asks for.
//!
//! Invariant: between two units there is no receipt that nobody has asked for: what has no reply that could wait forgoes it.

use super::attempt::Consequences;
use super::env::Env;
use super::listening::Message;
use super::receipts::{Owed, Receipt, ReceiptId};
use super::tracked::{Invalidated, Invalidation};
use crate::client::{Session, Tracking};
use crate::shard::ConnRef;
use std::sync::Arc;

impl Env {
    /// Puts down what is to be told of a unit, events, what was published and what clients cache in the order in which they were, and makes out
    /// a receipt for who has published, or changed what somebody caches.
    pub(super) fn tell(&mut self, consequences: &mut Consequences, origin: ConnRef) {
        let from = self.messages.len();
        let classes = consequences.classes;
        let by = origin.keeps_order().then_some(origin);
        let has_posts = !consequences.posts.is_empty();
        let is_any_broadcast = self.attention.is_broadcast();
        let directory = &self.hearers.directory;
        let told = consequences.tracked.drain(..).filter_map(|(behind, step)| {
            let what = step.into_told(|key| is_any_broadcast && directory.is_broadcast(key))?;
            Some((behind, Message::Invalidation(Invalidation { what, by })))
        });
        let mut told = told.peekable();
        let has_told = told.peek().is_some();
        let mut posts = consequences.posts.drain(..).peekable();
        for (index, event) in consequences.events.drain(..).enumerate() {
            while let Some((_, message)) = told.next_if(|(behind, _)| *behind <= index) {
                self.messages.push(message);
            }
            while let Some((_, post)) = posts.next_if(|(behind, _)| *behind <= index) {
                self.messages.push(Message::Post(post));
            }
            self.messages.push(Message::Event(event, classes));
        }
        self.messages.extend(told.map(|(_, message)| message));
        self.messages.extend(posts.map(|(_, post)| Message::Post(post)));
        if (has_posts || has_told) && origin.keeps_order() {
            let id = ReceiptId {
                shard: self.shard,
                number: self.next_receipt,
            };
            self.next_receipt += 1;
            self.receipts.push(Receipt {
                id,
                origin,
                messages: from..self.messages.len(),
            });
            self.unit_receipt = Some(Owed { id, counts: has_posts });
        }
        if !consequences.shown.is_empty() && origin.keeps_order() {
            let shown = std::mem::take(&mut consequences.shown);
            let address = self.clients.address_of(origin).unwrap_or_default();
            for shown in shown {
                let address = if shown.is_script { "lua" } else { &*address };
                self.show_line(shown.db, address, &shown.arguments);
            }
        }
    }

    /// What the reply to the unit that has ended last waits for, if its messages are to be delivered before.
    #[inline]
    pub(super) fn take_receipt(&mut self) -> Option<Owed> {
        self.unit_receipt.take()
    }

    /// Whether there is anything.
    #[inline]
    pub(super) fn has_receipt(&self) -> bool {
        self.unit_receipt.is_some()
    }

    /// Others' units have ended in between.
    pub(super) fn put_receipt_back(&mut self, owed: Option<Owed>) {
        self.unit_receipt = owed;
    }

    /// The unit that has ended last has no reply that could wait.
    pub(super) fn forgo_receipt(&mut self) {
        if let Some(owed) = self.unit_receipt.take() {
            self.receipts.retain(|receipt| receipt.id != owed.id);
        }
    }

    /// Whether any key is tracked, or all are: then it matters in which order keys have changed.
    #[inline]
    pub(super) fn is_anything_tracked(&self) -> bool {
        self.attention.tracked_keys() > 0 || self.attention.is_broadcast()
    }

    /// Whether anybody caches keys.
    pub(super) fn is_anybody_caching(&self) -> bool {
        self.hearers.is_any() && self.hearers.directory.is_anybody_caching()
    }

    /// Tells those who cache keys, as nobody's doing.
    pub(super) fn invalidate(&mut self, what: Invalidated) {
        if self.hearers.is_any() {
            self.messages
                .push(Message::Invalidation(Invalidation { what, by: None }));
        }
    }

    /// Everybody who caches keys is told to keep none.
    pub fn invalidate_all(&mut self) {
        self.invalidate(Invalidated::All);
    }

    /// A client of this shard has keys tracked from now on, as that says.
    pub fn cache(&mut self, session: &mut Session, tracking: Tracking) {
        let within_pass = self.within_pass();
        let before = session.tracking.take().unwrap_or_default();
        let new = tracking.prefixes.difference(&before.prefixes);
        if self.mailbox.cache(session.place, new, within_pass) && tracking.is_broadcast() {
            self.attention.begin_broadcast();
        }
        session.tracking = Some(Arc::new(tracking));
    }

    /// It has none tracked any more.
    pub fn stop_caching(&mut self, session: &mut Session) {
        session.caching = false;
        if let Some(tracking) = session.tracking.take()
            && self.mailbox.stop_caching(session.place, &tracking.prefixes)
            && tracking.is_broadcast()
        {
            self.attention.end_broadcast();
        }
    }
}
