//! Publishing and subscribing: SUBSCRIBE and its like, PUBLISH and SPUBLISH, and PUBSUB, which tells who listens.
//!
//! Who listens to what is [`pubsub`](crate::pubsub)'s, and how a message gets there the engine's. Outside of a cluster of several nodes a shard
//! channel is a channel in a space of its own, which no pattern reaches.
//!
//! | file | owns |
//! |---|---|
//! | `publish` | PUBLISH and SPUBLISH |
//! | `subscribe` | the commands that change what a client listens to |
//! | `figures` | PUBSUB |

mod figures;
mod publish;
mod subscribe;

use crate::engine::Command;

pub const COMMANDS: &[Command] = &[
    subscribe::PSUBSCRIBE,
    publish::PUBLISH,
    figures::PUBSUB,
    subscribe::PUNSUBSCRIBE,
    publish::SPUBLISH,
    subscribe::SSUBSCRIBE,
    subscribe::SUBSCRIBE,
    subscribe::SUNSUBSCRIBE,
    subscribe::UNSUBSCRIBE,
];
