//! The slow log of one shard. SLOWLOG GET merges those of all shards by id, which is unique in the process.

use crate::base::clock::UnixMs;
use crate::resp::Args;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Arguments kept of a command, as in Redis.
const ARGUMENTS_MAX: usize = 32;
/// Bytes kept of an argument, as in Redis.
const ARGUMENT_BYTES_MAX: usize = 128;

/// What stands in the place of a secret, as in Redis.
const REDACTED: &[u8] = b"(redacted)";

/// The id of the next slow command of the process.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Takes the next id.
pub fn next_slow_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// One command that took long.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    pub id: u64,
    pub at: UnixMs,
    pub elapsed_us: u64,
    pub args: Vec<Vec<u8>>,
    pub client_address: String,
    pub client_name: Vec<u8>,
}

impl SlowEntry {
    /// An entry with the arguments cut to what the log keeps, and without those at the positions in `secrets`; its
    /// client is set later.
    pub fn new(args: Args, secrets: &[usize], elapsed_us: u64, at: UnixMs) -> SlowEntry {
        let kept = if args.len() > ARGUMENTS_MAX {
            ARGUMENTS_MAX - 1
        } else {
            args.len()
        };
        let mut words: Vec<Vec<u8>> = args.iter().take(kept).map(shorten).collect();
        for &position in secrets {
            if let Some(word) = words.get_mut(position) {
                *word = REDACTED.to_vec();
            }
        }
        if kept < args.len() {
            words.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
        }
        SlowEntry {
            id: next_slow_id(),
            at,
            elapsed_us,
            args: words,
            client_address: String::new(),
            client_name: Vec::new(),
        }
    }

    pub fn set_client(&mut self, address: &str, name: &[u8]) {
        self.client_address = address.to_owned();
        self.client_name = name.to_vec();
    }
}

fn shorten(arg: &[u8]) -> Vec<u8> {
    if arg.len() <= ARGUMENT_BYTES_MAX {
        return arg.to_vec();
    }
    let mut short = arg[..ARGUMENT_BYTES_MAX].to_vec();
    short.extend_from_slice(format!("... ({} more bytes)", arg.len() - ARGUMENT_BYTES_MAX).as_bytes());
    short
}

/// The last slow commands, newest first.
#[derive(Debug)]
pub struct SlowLog {
    entries: VecDeque<SlowEntry>,
    capacity: usize,
}

impl Default for SlowLog {
    fn default() -> SlowLog {
        SlowLog {
            entries: VecDeque::new(),
            capacity: 128,
        }
    }
}

impl SlowLog {
    /// `slowlog-max-len`.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.entries.truncate(capacity);
    }

    pub fn push(&mut self, entry: SlowEntry) {
        self.entries.push_front(entry);
        self.entries.truncate(self.capacity);
    }

    pub fn iter(&self) -> impl Iterator<Item = &SlowEntry> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn long_commands_are_cut_as_redis_cuts_them() {
        let mut words: Vec<Vec<u8>> = (0..40).map(|i| i.to_string().into_bytes()).collect();
        words[1] = vec![b'x'; 130];
        let args = OwnedArgs::from_slices(&words);
        let entry = SlowEntry::new(args.as_args(), &[39, 2, 40], 5, UnixMs(1000));
        assert_eq!(entry.args.len(), 32);
        assert_eq!(entry.args[31], b"... (9 more arguments)");
        assert_eq!(entry.args[2..4], [b"(redacted)".to_vec(), b"3".to_vec()]);
        assert!(entry.args[1].ends_with(b"x... (2 more bytes)"));
        let mut log = SlowLog::default();
        log.set_capacity(2);
        for _ in 0..3 {
            log.push(SlowEntry::new(args.as_args(), &[39, 2, 40], 5, UnixMs(1000)));
        }
        let ids: Vec<u64> = log.iter().map(|e| e.id).collect();
        assert!(ids.len() == 2 && ids[0] > ids[1]);
    }
}
