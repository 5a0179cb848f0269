//! Places, units of work, loans and links: how shards share out the slots, and lend them to each other.
//!
//! All data of a slot is one heap object, and whoever holds the `Box` may touch it: **ownership is the lock**. A
//! unit of work (a command, an EXEC, a script) whose slots are all at home on one shard runs there, over the places
//! themselves. One whose slots are on several shards runs on the shard that holds most of them, and the others travel
//! to it and back. So there is one implementation of each command, over `&mut` data, and none that is distributed.
//!
//! This layer does not know what a command is. It is generic over the content of a slot `S` and over the unit of work
//! `W: Work<S>`, so that a simulator can run it with a toy content, in one thread, with the messages delivered in any
//! order, and check that what it promises is kept.
//!
//! | file | owns |
//! |---|---|
//! | `work` | the words: units of work, tickets, messages, the outbox |
//! | `slot_set` | which slots a unit of work touches |
//! | `places` | where each slot's content is; what travels |
//! | `machine` | the shard: the ways of a unit of work through it |
//! | `home` | the shard as a home: requests, grants, recalls |
//! | `gather` | the shard as a coordinator: what a unit has collected |
//! | `view` | what a running unit may touch |
//! | `link` | the byte rings between shards, and who is to be woken |
//! | `turns` | the one order of what all shards do, and what they show of it |
//! | `durable` | how far that order is on disk |
//! | `post` | messages to oneself |
//!
//! What is promised:
//!
//! 1. *Strict serializability*: a unit of work holds all its slots at one moment between its submission and its end,
//!    and sees and changes them only then. That moment is its place in the order.
//! 2. *No deadlock, no starvation*: every unit ends, if those that hold do (see `home` for why).
//! 3. *Connection order*: units that one connection submits to one shard take effect in that order.
//!
//! `tests/simulation` checks all three on random schedules; `tests/loan_model.rs` checks the second exhaustively on
//! small cases.
//!
//! Messages are cheap, but they are for the few. What most commands need of this layer is one look-up
//! ([`Shard::try_view`]) at home, or one frame of bytes ([`link`]) to the home.

pub mod durable;
pub mod link;
pub mod turns;

mod gather;
mod home;
mod machine;
mod places;
mod post;
#[cfg(test)]
mod scenarios;
mod slot_set;
mod view;
mod work;

pub use machine::{Realm, Shard, initial_owners};
pub use places::{Loan, Places};
pub use slot_set::{Footprint, SlotMarks, SlotSet};
pub use view::View;
pub use work::{ConnRef, Message, Outbox, Route, Ticket, TicketSource, Unit, Verdict, Work};

/// The number of a shard: its index among the shards of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);
