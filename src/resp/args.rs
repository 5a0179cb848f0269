//! The arguments of one command, as a view over bytes that lie somewhere else.
//!
//! A command's arguments are never collected into strings of their own: the parser notes where each begins and ends in the
//! connection's buffer, and everyone up to the handler sees that buffer through [`Args`], which is two slices and free to copy. What must
//! outlive the buffer (MULTI's queue, work that waits for a slot) becomes [`OwnedArgs`].
//!
//! # The frame between shards
//!
//! A small command travels on a link as bytes ([`Args::encode_into`], [`Args::decode`]):
//!
//! ```text
//! +---------------+----------------------------+-----+--------------------------------+
//! | count: u32 LE | start, end of each: u32 LE | ... | the bytes the arguments lie in |
//! +---------------+----------------------------+-----+--------------------------------+
//! ```
//!
//! `start` and `end` count from the first of the bytes. What lies between the arguments in the sender's buffer (`\r\n$64\r\n`) is copied with
//! them: one copy of a few bytes more is cheaper than one copy for each argument.
//!
//! # Invariants
//!
//! 1. Every span lies within the bytes it is used with, and `start <= end`. The parser, `from_slices` and `decode` make no others, and
//!    indexing checks it.
//! 2. Spans need not be in order nor dense, and may share bytes.

use std::ops::Index;

use crate::base::numbers::write_u64;

/// The arguments of a command; the first is its name.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buf: &'a [u8],
    spans: &'a [Span],
}

/// Where one argument lies in its buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Index of its first byte.
    pub start: usize,
    /// Index behind its last byte.
    pub end: usize,
}

/// Bytes of a frame in front of its span table.
const FRAME_COUNT_BYTES: usize = 4;
/// Bytes of one span in a frame.
const FRAME_SPAN_BYTES: usize = 8;

impl Span {
    /// How many bytes the argument has.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether the argument has no bytes.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

impl<'a> Args<'a> {
    /// No arguments.
    pub const EMPTY: Args<'static> = Args { buf: &[], spans: &[] };

    /// The arguments that `spans` mark in `buf`.
    pub fn new(buf: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        debug_assert!(spans.iter().all(|span| span.start <= span.end && span.end <= buf.len()));
        Args { buf, spans }
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`, or `None` behind the last.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| &self.buf[span.start..span.end])
    }

    /// The argument at `index`, with the lifetime of the bytes (which `args[index]` cannot give). Panics behind the last.
    #[inline]
    pub fn at(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        &self.buf[span.start..span.end]
    }

    /// The arguments in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + use<'a> {
        let buf = self.buf;
        self.spans.iter().map(move |span| &buf[span.start..span.end])
    }

    /// The arguments from `first` on; none if there are not so many.
    pub fn slice_from(&self, first: usize) -> Args<'a> {
        Args {
            buf: self.buf,
            spans: self.spans.get(first..).unwrap_or(&[]),
        }
    }

    /// The arguments from `first` up to, not including, `end`. Panics if there are not so many.
    pub fn range(&self, first: usize, end: usize) -> Args<'a> {
        Args {
            buf: self.buf,
            spans: &self.spans[first..end],
        }
    }

    /// The bytes of all arguments together.
    pub fn byte_len(&self) -> usize {
        self.spans.iter().map(|span| span.len()).sum()
    }

    /// A copy that owns its bytes, without what lay between them.
    pub fn to_owned(&self) -> OwnedArgs {
        OwnedArgs::collect(self.iter(), self.len(), self.byte_len())
    }

    /// Appends the arguments as a RESP request: `*<count>\r\n` and each as `$<length>\r\n<bytes>\r\n`.
    pub fn encode_resp(&self, out: &mut Vec<u8>) {
        // Up to 8 digits of length; longer arguments grow the buffer, which is then the least of the cost.
        out.reserve(16 + self.byte_len() + self.len() * 13);
        out.push(b'*');
        write_u64(out, self.len() as u64);
        out.extend_from_slice(b"\r\n");
        for arg in self.iter() {
            out.push(b'$');
            write_u64(out, arg.len() as u64);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The part of the buffer that all arguments lie in.
    fn extent(&self) -> Span {
        let mut extent = Span {
            start: usize::MAX,
            end: 0,
        };
        for span in self.spans {
            extent.start = extent.start.min(span.start);
            extent.end = extent.end.max(span.end);
        }
        if self.spans.is_empty() { Span::default() } else { extent }
    }

    /// The bytes that the frame of these arguments takes.
    pub fn encoded_len(&self) -> usize {
        FRAME_COUNT_BYTES + FRAME_SPAN_BYTES * self.len() + self.extent().len()
    }

    /// Writes the frame to the start of `out` and says how many bytes it took.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than [`Args::encoded_len`], or if the arguments lie in more than 4 GiB: links carry small commands.
    pub fn encode_into(&self, out: &mut [u8]) -> usize {
        let extent = self.extent();
        let table_bytes = FRAME_COUNT_BYTES + FRAME_SPAN_BYTES * self.len();
        let frame_bytes = table_bytes + extent.len();
        let (table, bytes) = out[..frame_bytes].split_at_mut(table_bytes);
        u32::try_from(frame_bytes).expect("a link's frame is far smaller than 4 GiB");
        let (count, table) = table
            .split_first_chunk_mut::<FRAME_COUNT_BYTES>()
            .expect("the table begins with its count");
        *count = (self.len() as u32).to_le_bytes();
        let (places, _) = table.as_chunks_mut::<FRAME_SPAN_BYTES>();
        for (place, span) in places.iter_mut().zip(self.spans) {
            let start = (span.start - extent.start) as u64;
            let end = (span.end - extent.start) as u64;
            *place = (start | end << 32).to_le_bytes();
        }
        bytes.copy_from_slice(&self.buf[extent.start..extent.end]);
        frame_bytes
    }

    /// Appends the frame to `out`.
    pub fn encode_append(&self, out: &mut Vec<u8>) {
        let from = out.len();
        out.resize(from + self.encoded_len(), 0);
        self.encode_into(&mut out[from..]);
    }

    /// One argument of a frame, without looking at the others; None if it has fewer.
    #[inline]
    pub fn peek(frame: &[u8], index: usize) -> Option<&[u8]> {
        let (count, behind) = frame.split_first_chunk::<FRAME_COUNT_BYTES>()?;
        let table_bytes = u32::from_le_bytes(*count) as usize * FRAME_SPAN_BYTES;
        let (table, buf) = behind.split_at_checked(table_bytes)?;
        let (places, _) = table.as_chunks::<FRAME_SPAN_BYTES>();
        let packed = u64::from_le_bytes(*places.get(index)?);
        buf.get(packed as u32 as usize..(packed >> 32) as usize)
    }

    /// Reads a frame that [`Args::encode_into`] wrote; it must be `frame` as a whole. `spans` is overwritten and lends its memory.
    ///
    /// # Panics
    ///
    /// If `frame` is not such a frame. Links join threads of one process, so that would be a broken invariant and no input.
    pub fn decode(frame: &'a [u8], spans: &'a mut Vec<Span>) -> Args<'a> {
        let (count, behind) = frame
            .split_first_chunk::<FRAME_COUNT_BYTES>()
            .expect("a frame begins with its count");
        let count = u32::from_le_bytes(*count) as usize;
        let (table, buf) = behind.split_at(count * FRAME_SPAN_BYTES);
        let (places, _) = table.as_chunks::<FRAME_SPAN_BYTES>();
        spans.clear();
        spans.extend(places.iter().map(|place| {
            let packed = u64::from_le_bytes(*place);
            Span {
                start: packed as u32 as usize,
                end: (packed >> 32) as usize,
            }
        }));
        Args { buf, spans }
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];
    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.at(index)
    }
}

impl PartialEq for Args<'_> {
    fn eq(&self, other: &Args<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl std::fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|arg| arg.escape_ascii().to_string()))
            .finish()
    }
}

/// The arguments of a command with bytes of their own.
#[derive(Clone, Default)]
pub struct OwnedArgs {
    buf: Box<[u8]>,
    spans: Box<[Span]>,
}

impl OwnedArgs {
    /// Copies the arguments.
    pub fn from_slices<S: AsRef<[u8]>>(args: &[S]) -> OwnedArgs {
        let byte_len = args.iter().map(|arg| arg.as_ref().len()).sum();
        OwnedArgs::collect(args.iter().map(AsRef::as_ref), args.len(), byte_len)
    }

    fn collect<'a>(args: impl Iterator<Item = &'a [u8]>, count: usize, byte_len: usize) -> OwnedArgs {
        let mut buf = Vec::with_capacity(byte_len);
        let mut spans = Vec::with_capacity(count);
        for arg in args {
            let start = buf.len();
            buf.extend_from_slice(arg);
            spans.push(Span { start, end: buf.len() });
        }
        OwnedArgs {
            buf: buf.into_boxed_slice(),
            spans: spans.into_boxed_slice(),
        }
    }

    /// The view that handlers take.
    pub fn as_args(&self) -> Args<'_> {
        Args {
            buf: &self.buf,
            spans: &self.spans,
        }
    }

    /// The memory they hold, for the accounts of MULTI queues and waiting work.
    pub fn memory_bytes(&self) -> usize {
        self.buf.len() + size_of_val(&*self.spans)
    }
}

impl PartialEq for OwnedArgs {
    fn eq(&self, other: &OwnedArgs) -> bool {
        self.as_args() == other.as_args()
    }
}

impl std::fmt::Debug for OwnedArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_args().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n";
    const SET_SPANS: [Span; 3] = [
        Span { start: 8, end: 11 },
        Span { start: 17, end: 18 },
        Span { start: 24, end: 24 },
    ];

    #[test]
    fn views() {
        let args = Args::new(SET, &SET_SPANS);
        assert_eq!(&args[0], b"SET");
        assert_eq!(args.get(2), Some(&b""[..]));
        assert_eq!(args.get(3), None);
        assert_eq!(args.slice_from(1), OwnedArgs::from_slices(&["k", ""]).as_args());
        assert!(args.slice_from(9).is_empty());
        assert_eq!(args.range(1, 2).iter().collect::<Vec<_>>(), [b"k"]);
        assert_eq!(args.byte_len(), 4);
        let mut resp = Vec::new();
        args.to_owned().as_args().encode_resp(&mut resp);
        assert_eq!(resp, SET);
        assert_eq!(format!("{args:?}"), r#"["SET", "k", ""]"#);
    }

    #[test]
    fn frame_of_spans_out_of_order() {
        let args = Args::new(
            b"abcdef",
            &[
                Span { start: 4, end: 6 },
                Span { start: 1, end: 3 },
                Span { start: 2, end: 5 },
            ],
        );
        let mut frame = vec![0; args.encoded_len()];
        assert_eq!(args.encode_into(&mut frame), frame.len());
        let mut spans = Vec::new();
        assert_eq!(Args::decode(&frame, &mut spans), args);
    }

    proptest! {
        #[test]
        fn frames_round_trip(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12), skip in 0usize..4) {
            let owned = OwnedArgs::from_slices(&values);
            let args = owned.as_args().slice_from(skip);
            let mut frame = b"before".to_vec();
            args.encode_append(&mut frame);
            prop_assert_eq!(frame.len(), 6 + args.encoded_len());
            let mut spans = vec![Span { start: 7, end: 9 }];
            prop_assert_eq!(Args::decode(&frame[6..], &mut spans), args);
            let copy = args.to_owned();
            prop_assert_eq!(copy.as_args(), args);
        }
    }
}
