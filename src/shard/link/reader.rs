//! Reading a link: frame after frame out of the ring of bytes, and parcels out of the other one where their markers come by.
//!
//! A frame may straddle the wrap of the ring, where it is put together in a scratch buffer, and it may arrive in pieces; then it stays
//! until the rest is there.

use super::{
    COMMAND_HEAD_BYTES, CommandHeader, FORESEEN_FRAMES, FRAME_HEAD_BYTES, Frame, KIND_CLOCK, KIND_COMMAND, KIND_MARKER,
    KIND_REPLY, Parcel, REPLY_HEAD_BYTES, ReplyHeader, Take,
};
use crate::base::clock::UnixMs;
use crate::shard::ShardId;

/// One walk over what a link has.
pub(super) struct Reader<'a, M, T> {
    pub(super) from: ShardId,
    pub(super) parcels: &'a mut rtrb::Consumer<Parcel<M>>,
    pub(super) take: &'a mut T,
    pub(super) frame_count: usize,
    /// A frame has not wholly arrived.
    pub(super) is_stopped: bool,
}

impl<M, T: Take<M>> Reader<'_, M, T> {
    /// Reads the whole frames at the start of `bytes`; answers how many bytes they are.
    #[inline]
    pub(super) fn read(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        let mut foreseen_until = 0;
        while let Some(frame_bytes) = frame_bytes(&bytes[at..])
            && let Some(frame) = bytes[at..].get(..frame_bytes)
        {
            if at >= foreseen_until {
                foreseen_until = at + self.foresee(&bytes[at..]);
            }
            self.hand_out(frame);
            at += frame_bytes;
        }
        at
    }

    /// Tells of the commands among the next frames; answers how many bytes these are.
    #[inline]
    fn foresee(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        for _ in 0..FORESEEN_FRAMES {
            let Some(frame_bytes) = frame_bytes(&bytes[at..]) else {
                break;
            };
            let Some(frame) = bytes[at..].get(..frame_bytes) else {
                break;
            };
            if frame[4] == KIND_COMMAND
                && let Frame::Command { header, arguments } = decode::<M>(frame)
            {
                self.take.foresee(&header, arguments);
            }
            at += frame_bytes;
        }
        at
    }

    /// Reads the frame that begins in `first`, where the ring ends, and goes on in `second`. Answers how many bytes of
    /// `second` it is.
    #[cold]
    pub(super) fn read_straddling(&mut self, first: &[u8], second: &[u8], scratch: &mut Vec<u8>) -> usize {
        scratch.clear();
        scratch.extend_from_slice(first);
        let missing_head = FRAME_HEAD_BYTES.saturating_sub(first.len());
        scratch.extend_from_slice(&second[..missing_head.min(second.len())]);
        let frame_bytes = frame_bytes(scratch);
        let Some(rest) = frame_bytes.and_then(|frame_bytes| second.get(..frame_bytes - first.len())) else {
            self.is_stopped = true;
            return 0;
        };
        scratch.truncate(first.len());
        scratch.extend_from_slice(rest);
        self.hand_out(scratch);
        rest.len()
    }

    /// Hands out one frame.
    #[inline]
    fn hand_out(&mut self, frame: &[u8]) {
        if frame[4] == KIND_MARKER {
            match self
                .parcels
                .pop()
                .expect("invariant 2: a parcel comes before its marker")
            {
                Parcel::Message(message) => self.take.take(self.from, Frame::Message(message)),
                Parcel::Frame(frame) => self.take.take(self.from, decode(&frame)),
            }
        } else {
            self.take.take(self.from, decode(frame));
        }
        self.frame_count += 1;
    }
}

/// The length of the frame at the start of `bytes`, if its head is there.
#[inline]
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<FRAME_HEAD_BYTES>()?;
    Some(u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize)
}

#[inline]
fn decode<M>(frame: &[u8]) -> Frame<'_, M> {
    let u16_at = |at: usize| u16::from_le_bytes([frame[at], frame[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    match frame[4] {
        KIND_COMMAND => {
            let arguments = &frame[COMMAND_HEAD_BYTES..];
            let header = CommandHeader {
                connection: u32_at(8),
                generation: u32_at(12),
                sequence: u32_at(16),
                db: u32_at(20),
                slot: u16_at(24),
                command: u16_at(26),
                flags: u16_at(6),
                protocol: frame[5],
            };
            Frame::Command { header, arguments }
        }
        KIND_REPLY => {
            let resp = &frame[REPLY_HEAD_BYTES..];
            let header = ReplyHeader {
                connection: u32_at(8),
                generation: u32_at(12),
                sequence: u32_at(16),
                flags: u16_at(6),
            };
            Frame::Reply { header, resp }
        }
        KIND_CLOCK => {
            let bytes = frame[8..]
                .first_chunk()
                .expect("a frame of this kind has eight bytes behind its head");
            Frame::Clock(UnixMs(u64::from_le_bytes(*bytes)))
        }
        kind => panic!("a link delivered a frame of kind {kind}, which nobody sends"),
    }
}
