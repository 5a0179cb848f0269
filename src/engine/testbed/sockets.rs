//! The sockets that are simulated: what lies between a shard and the peers of its clients.
//!
//! ```text
//!  peer: stream of requests --(cut at any byte)--> events of the shard --> Local::receive
//!  peer <--(what fits)-- the kernel's buffer <--(when there is room)-- in flight <-- Wire::send
//! ```
//!
//! As in the network plane, one piece of output is in flight at a time, a connection that was told to wait is reported when that
//! piece has gone, and its number is used again for a later connection, with another generation. What was written is kept for
//! the judge at the moment of writing; behind that only its length counts.

use super::engine::uncharged;
use super::fault::Fault;
use crate::base::random::Random;
use crate::engine::wire::{Handed, Wire};
use crate::resp::ReplyBuf;
use crate::shard::ShardId;

/// What a shard finds when it looks at its sockets.
#[derive(Debug)]
pub(super) enum Event {
    Connected {
        index: u32,
        client: usize,
    },
    /// A connection that another shard is to have.
    Accepted {
        client: usize,
    },
    Received {
        index: u32,
        generation: u32,
        bytes: Vec<u8>,
    },
    Drained {
        index: u32,
        generation: u32,
    },
    Ended {
        index: u32,
        generation: u32,
    },
    Broke {
        index: u32,
        generation: u32,
    },
}

/// The sockets of one shard, by their numbers.
#[derive(Default)]
pub(super) struct Sockets {
    places: Vec<Option<Socket>>,
    generations: Vec<u32>,
}

/// One connection, as its shard sees it.
pub(super) struct Socket {
    pub(super) client: usize,
    pub(super) generation: u32,
    /// Bytes that were taken and have no room in the kernel's buffer.
    pub(super) flight_bytes: usize,
    /// The shard was told to wait until they have gone.
    pub(super) is_refused: bool,
    pub(super) is_read: bool,
    /// The shard has forgotten it: it ends when what is in flight has gone.
    pub(super) is_closed: bool,
}

impl Sockets {
    /// A number for a new connection.
    pub(super) fn open(&mut self, client: usize) -> (u32, u32) {
        let free = self.places.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.places.push(None);
            self.generations.push(0);
            self.places.len() - 1
        });
        self.generations[index] += 1;
        let generation = self.generations[index];
        self.places[index] = Some(Socket {
            client,
            generation,
            flight_bytes: 0,
            is_refused: false,
            is_read: true,
            is_closed: false,
        });
        (index as u32, generation)
    }

    pub(super) fn at(&mut self, index: u32) -> Option<&mut Socket> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    pub(super) fn get(&mut self, index: u32, generation: u32) -> Option<&mut Socket> {
        self.at(index).filter(|socket| socket.generation == generation)
    }

    /// The number is free again.
    pub(super) fn free(&mut self, index: u32) {
        self.places[index as usize] = None;
    }

    pub(super) fn open_count(&self) -> usize {
        self.places.iter().flatten().count()
    }
}

/// What a pass has brought about outside of the shard.
#[derive(Default)]
pub(super) struct Brought {
    /// Output, by client, in the order in which it was handed over.
    pub(super) output: Vec<(usize, u32, Vec<u8>)>,
    pub(super) closed: Vec<Closed>,
    pub(super) woken: Vec<ShardId>,
}

/// A connection that was ended.
pub(super) struct Closed {
    pub(super) client: usize,
    pub(super) index: u32,
    pub(super) at_once: bool,
    /// What was in flight.
    pub(super) flight_bytes: usize,
}

/// A shard's sockets while it finishes a pass.
pub(super) struct Hand<'a> {
    pub(super) sockets: &'a mut Sockets,
    pub(super) brought: &'a mut Brought,
    pub(super) fault: Fault,
    pub(super) random: &'a mut Random,
}

impl Wire for Hand<'_> {
    fn send(&mut self, index: u32, output: &mut ReplyBuf) -> Handed {
        let Some(socket) = self.sockets.at(index).filter(|socket| !socket.is_closed) else {
            return Handed::Gone;
        };
        if socket.flight_bytes > 0 {
            socket.is_refused = true;
            return Handed::Busy;
        }
        // What is taken is freed here, while it is the shard's.
        let taken = output.take();
        uncharged(|| {
            let bytes = taken.to_contiguous().into_owned();
            socket.flight_bytes = bytes.len();
            if self.fault == Fault::LoseOutput && self.random.chance(1, 8) {
                return;
            }
            self.brought.output.push((socket.client, index, bytes));
        });
        Handed::Taken
    }

    fn queued_bytes(&self, index: u32) -> usize {
        let socket = self.sockets.places.get(index as usize);
        socket.and_then(Option::as_ref).map_or(0, |socket| socket.flight_bytes)
    }

    fn read_on(&mut self, index: u32, reads: bool) {
        if let Some(socket) = self.sockets.at(index) {
            socket.is_read = reads;
        }
    }

    fn close(&mut self, index: u32, at_once: bool) {
        uncharged(|| {
            if let Some(socket) = self.sockets.at(index).filter(|socket| !socket.is_closed) {
                socket.is_closed = true;
                self.brought.closed.push(Closed {
                    client: socket.client,
                    index,
                    at_once,
                    flight_bytes: socket.flight_bytes,
                });
                if at_once {
                    socket.flight_bytes = 0;
                }
            }
        });
    }

    fn wake(&mut self, shard: ShardId) {
        uncharged(|| {
            if self.fault != Fault::DropWake || self.random.chance(1, 2) {
                self.brought.woken.push(shard);
            }
        });
    }
}
