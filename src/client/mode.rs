//! What a client is to the server: one mode at a time, from which everything is read that depends on it.
//!
//! Most clients are normal for all their lives. What else one can be (it listens to channels, waits for a key, copies this server, or is
//! the one that this server copies, watches all commands) is entered and left in one place, and every consequence stands in one table:
//! the letter in CLIENT LIST, the type that filters name, whose output limits hold, whether `timeout` ends it, whether it may be evicted.

use crate::config::ClientClass;

/// See above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// It sends commands and reads replies.
    #[default]
    Normal,
    /// It has subscriptions.
    Subscribed,
    /// A command of it waits for keys, or for replicas.
    Blocked,
    /// It copies this server.
    Replica,
    /// This server copies it.
    Master,
    /// It is shown all commands.
    Monitor,
}

/// The types of clients, as filters name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientType {
    Normal,
    Master,
    Replica,
    PubSub,
}

/// What follows from a mode.
struct Row {
    letter: Option<char>,
    kind: ClientType,
    limits: ClientClass,
    times_out: bool,
    is_evictable: bool,
}

impl Mode {
    const fn row(self) -> Row {
        let normal = Row {
            letter: None,
            kind: ClientType::Normal,
            limits: ClientClass::Normal,
            times_out: true,
            is_evictable: true,
        };
        match self {
            Mode::Normal => normal,
            Mode::Subscribed => Row {
                letter: Some('P'),
                kind: ClientType::PubSub,
                limits: ClientClass::Pubsub,
                times_out: false,
                ..normal
            },
            Mode::Blocked => Row {
                letter: Some('b'),
                times_out: false,
                ..normal
            },
            Mode::Replica => Row {
                letter: Some('S'),
                kind: ClientType::Replica,
                limits: ClientClass::Replica,
                times_out: false,
                is_evictable: false,
            },
            // Its output is measured as that of a normal client, as in Redis.
            Mode::Master => Row {
                letter: Some('M'),
                kind: ClientType::Master,
                times_out: false,
                is_evictable: false,
                ..normal
            },
            Mode::Monitor => Row {
                letter: Some('O'),
                times_out: false,
                ..normal
            },
        }
    }

    /// Its letter among the flags in CLIENT LIST.
    pub fn letter(self) -> Option<char> {
        self.row().letter
    }

    /// The type that a filter finds it by.
    pub fn client_type(self) -> ClientType {
        self.row().kind
    }

    /// Whose limits hold for its output.
    pub fn output_class(self) -> ClientClass {
        self.row().limits
    }

    /// Whether `timeout` ends it when it sends nothing.
    pub fn times_out(self) -> bool {
        self.row().times_out
    }

    /// Whether it can be disconnected for the memory that all clients take.
    pub fn is_evictable(self) -> bool {
        self.row().is_evictable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serves_the_server_is_neither_evicted_nor_timed_out() {
        for mode in [Mode::Replica, Mode::Master] {
            assert!(!mode.is_evictable() && !mode.times_out(), "{mode:?}");
        }
        for mode in [Mode::Subscribed, Mode::Blocked, Mode::Monitor] {
            assert!(mode.is_evictable() && !mode.times_out(), "{mode:?}");
        }
        assert!(Mode::Normal.is_evictable() && Mode::Normal.times_out());
        // MONITOR is answered to a normal client, as filters and limits see it.
        assert_eq!(Mode::Monitor.client_type(), ClientType::Normal);
        assert_eq!(Mode::Master.output_class(), ClientClass::Normal);
    }
}
