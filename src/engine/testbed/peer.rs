//! The far end of a client's connection: what it sends and when, and how much it has read.
//!
//! All that a client will ever send is one stream of bytes, made before it comes. It sends on while it has fewer requests under
//! way than its story says, and it counts what it reads: what the bytes are has been judged when they were handed over.

use super::run::Step;
use super::story::{ClientStory, End};

/// In so many pieces the stream of a client arrives at most, or a few more.
const PIECES_MAX: usize = 2000;

/// A client and the far end of its connection.
pub(super) struct Peer {
    pub(super) story: ClientStory,
    pub(super) stream: Vec<u8>,
    /// Where each request ends in the stream.
    pub(super) ends: Vec<usize>,
    /// Where what it sends ends: it may break off.
    pub(super) stream_end: usize,
    pub(super) phase: Phase,
    pub(super) index: u32,
    pub(super) generation: u32,
    /// How much of the stream has arrived.
    pub(super) arrived: usize,
    /// How many requests it has begun to send.
    pub(super) sent: usize,
    /// In the kernel's buffer, not yet read.
    pub(super) kernel_bytes: usize,
    /// Replies of so many requests are behind it, and where in its input the next ones end.
    pub(super) read_bytes: usize,
    pub(super) written_bytes: usize,
    pub(super) reply_ends: Vec<(usize, usize)>,
    pub(super) answered: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// It is not there yet.
    Before,
    /// One shard has accepted its connection, and another one does not have it yet.
    HandedOver,
    Open,
    /// It has closed its sending side.
    HalfClosed,
    Gone,
}

impl Peer {
    pub(super) fn new(mut story: ClientStory) -> Peer {
        let mut stream = Vec::new();
        let mut ends = Vec::with_capacity(story.program.len());
        for request in &story.program {
            request.encode(&mut stream);
            ends.push(stream.len());
        }
        let part = |thousandths: u32| stream.len() * thousandths as usize / 1000;
        let stream_end = match story.end {
            End::Done => stream.len(),
            End::HalfCloses(thousandths) | End::Resets(thousandths) => part(thousandths),
        };
        // Byte for byte, long streams would take steps without end.
        story.cut_bytes = story.cut_bytes.max(stream.len() / PIECES_MAX);
        Peer {
            story,
            stream,
            ends,
            stream_end,
            phase: Phase::Before,
            index: 0,
            generation: 0,
            arrived: 0,
            sent: 0,
            kernel_bytes: 0,
            read_bytes: 0,
            written_bytes: 0,
            reply_ends: Vec::new(),
            answered: 0,
        }
    }

    /// Where a request begins in the stream.
    pub(super) fn starts(&self, request: usize) -> usize {
        if request == 0 { 0 } else { self.ends[request - 1] }
    }

    /// Where the last request ends that it has begun to send.
    pub(super) fn begun_bytes(&self) -> usize {
        self.starts(self.sent)
    }

    /// How far it may send without having more requests under way than it wants.
    pub(super) fn may_send_until(&self) -> usize {
        let requests = &self.story.program;
        let mut under_way = 0;
        let mut until = self.starts(self.answered.min(self.ends.len()));
        for (request, end) in requests.iter().zip(&self.ends).skip(self.answered) {
            under_way += usize::from(request.is_answered);
            if under_way > self.story.depth {
                break;
            }
            until = *end;
        }
        until.min(self.stream_end).max(self.arrived)
    }

    pub(super) fn can_send(&self) -> bool {
        self.may_send_until() > self.arrived
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.arrived >= self.stream_end
    }

    /// What it could do next, sending excepted.
    pub(super) fn steps(&self, client: usize, steps: &mut Vec<(u32, Step)>) {
        match self.phase {
            Phase::Before => steps.push((self.story.connect_weight, Step::Connect(client))),
            Phase::Open if self.is_at_end() => match self.story.end {
                End::HalfCloses(_) => steps.push((10, Step::HalfClose(client))),
                End::Resets(_) => steps.push((2, Step::Break(client))),
                End::Done => {}
            },
            _ => {}
        }
        if self.kernel_bytes > 0 {
            steps.push((self.story.read_weight, Step::Read(client)));
        }
    }
}
