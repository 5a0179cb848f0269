//! What the server remembers of a peer between two of its commands, sockets and buffers excepted.
//!
//! A session is plain data and `Send`: an EXEC that runs on another shard takes it along (its commands may SELECT, or
//! set a name) and brings it back. While it is away its connection starts nothing, so there is never more than one.

use super::{Mode, ReplicaWords, Tracking};
use crate::pubsub::Subscriptions;
use crate::resp::Proto;
use crate::shard::{ConnRef, ShardId};
use std::sync::Arc;

/// Which replies the client wants (`CLIENT REPLY`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The next command's reply is left out (`SKIP` was just said), then replies are on again.
    SkipNext,
    /// That command runs. It may say `SKIP` again.
    Skipping,
}

/// Identity and choices of one client.
#[derive(Clone, Debug)]
pub struct Session {
    /// Unique in the life of the process, ascending.
    pub id: u64,
    /// The connection.
    pub place: ConnRef,
    /// The selected db.
    pub db: u32,
    pub proto: Proto,
    /// `CLIENT SETNAME`; empty when unset.
    pub name: Vec<u8>,
    /// `CLIENT SETINFO`.
    pub lib_name: Vec<u8>,
    pub lib_ver: Vec<u8>,
    /// The ACL user's name; `default` until AUTH says otherwise.
    pub user: Vec<u8>,
    pub is_authenticated: bool,
    /// `CLIENT NO-EVICT`: not disconnected when clients take too much memory.
    pub is_exempt_from_eviction: bool,
    /// `CLIENT NO-TOUCH`: its commands do not change the access clocks of keys.
    pub leaves_clocks: bool,
    pub reply_mode: ReplyMode,
    /// Set by QUIT and by commands that end the connection: close when the reply is written.
    pub closes: bool,
    /// Where the peer is, as `ip:port` or `path:0`; and this server's side.
    pub address: Box<str>,
    pub local_address: Box<str>,
    /// A Unix socket, or a loopback address: what `local` means in the `enable-*-command` parameters.
    pub is_local: bool,
    /// What it is subscribed to; None: nothing. Changed where the connection is only.
    pub subscriptions: Option<Arc<Subscriptions>>,
    /// MONITOR: it is shown all commands.
    pub is_monitor: bool,
    /// CLIENT TRACKING; None: nothing is tracked for it. Changed where the connection is only.
    pub tracking: Option<Arc<Tracking>>,
    /// CLIENT CACHING was said for what comes next.
    pub caching: bool,
    /// REPLCONF: what it has said of itself as a replica.
    pub replica: Option<Box<ReplicaWords>>,
}

impl Session {
    /// A fresh session in db 0, speaking RESP2.
    pub fn new(id: u64, address: &str, local_address: &str, is_local: bool) -> Session {
        Session {
            id,
            place: ConnRef::background(ShardId(0)),
            db: 0,
            proto: Proto::Resp2,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_ver: Vec::new(),
            user: b"default".to_vec(),
            is_authenticated: false,
            is_exempt_from_eviction: false,
            leaves_clocks: false,
            reply_mode: ReplyMode::On,
            closes: false,
            address: address.into(),
            local_address: local_address.into(),
            is_local,
            subscriptions: None,
            is_monitor: false,
            tracking: None,
            caching: false,
            replica: None,
        }
    }

    /// The mode that follows from what it listens to.
    pub fn mode(&self) -> Mode {
        match self.subscriptions {
            _ if self.is_monitor => Mode::Monitor,
            Some(_) => Mode::Subscribed,
            None => Mode::Normal,
        }
    }

    /// The copy that a command takes along which is answered later. `CLIENT REPLY SKIP` is spent on that command, so
    /// the session that comes back must not ask for it again.
    pub fn taken_along(&self) -> Session {
        let mut copy = self.clone();
        if copy.reply_mode == ReplyMode::Skipping {
            copy.reply_mode = ReplyMode::On;
        }
        copy
    }

    /// What RESET does: everything back to how the connection began, its id and addresses kept. (Whoever calls it has taken the client out of
    /// the subscribers.)
    pub fn reset(&mut self, is_authenticated: bool) {
        let fresh = Session::new(self.id, &self.address, &self.local_address, self.is_local);
        let (lib_name, lib_ver) = (std::mem::take(&mut self.lib_name), std::mem::take(&mut self.lib_ver));
        *self = Session {
            is_authenticated,
            lib_name,
            lib_ver,
            place: self.place,
            ..fresh
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skip_is_spent_on_the_command_that_takes_the_session_along() {
        let mut session = Session::new(1, "127.0.0.1:1", "127.0.0.1:2", true);
        for (mode, then) in [
            (ReplyMode::On, ReplyMode::On),
            (ReplyMode::Off, ReplyMode::Off),
            (ReplyMode::Skipping, ReplyMode::On),
        ] {
            session.reply_mode = mode;
            assert_eq!(session.taken_along().reply_mode, then);
        }
    }
}
