//! Writes on their way: the memory of each write that the kernel works on, apart from the connection it belongs to.
//!
//! A connection may be closed while the kernel still reads its output, and a zero-copy write tells only later (by its
//! notification) that the pages are free. So the bytes live here, in an entry of their own, and a connection holds no
//! more than its number. An idle connection has none.
//!
//! Invariants:
//! 1. An entry is freed only when its result and all its notifications have come (`kernel_refs == 0`).
//! 2. Between those moments `bytes` and `shared` are neither changed nor moved in memory (the entry itself may move when
//!    the table grows: the kernel holds pointers to the heap parts only).
//! 3. `written_bytes <= total_bytes`.

use super::ConnId;
use crate::base::size_class::allocated;
use bytes::Bytes;

/// Buffers that grew beyond this are freed instead of kept for reuse: one large reply must not pin memory for ever.
const KEPT_CAPACITY_BYTES_MAX: usize = 64 * 1024;
/// As many idle buffers are kept at most; a pass rarely has more writes in flight than that.
const KEPT_BUFFERS_MAX: usize = 512;
/// And so many bytes of them: they would count as data.
const KEPT_BYTES_MAX: usize = 512 * 1024;
/// As many pieces does one system call take (UIO_MAXIOV, sendmsg(2)).
const PIECES_MAX: usize = 1024;
/// As many bytes are offered in one request: the kernel cuts longer writes at 2 GiB less a page (send(2)).
const REQUEST_BYTES_MAX: usize = 1 << 30;

/// One write. See the module's invariants.
pub(super) struct Flight {
    pub(super) conn: ConnId,
    pub(super) total_bytes: usize,
    pub(super) written_bytes: usize,
    /// Completions that are still to come: one for the request, one for each zero-copy notification.
    pub(super) kernel_refs: u32,
    /// The last request asked for no copy.
    pub(super) is_without_copy: bool,
    /// Some request did: pages may be in use until the entry is freed.
    may_be_pinned: bool,
    bytes: Vec<u8>,
    shared: Vec<(usize, Bytes)>,
    gather: Option<Box<Gather>>,
}

/// The list of pieces, at an address that stays.
struct Gather {
    pieces: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// What remains to be written, in the form in which the kernel takes it.
pub(super) enum Rest {
    One(*const u8, u32),
    Many(*const libc::msghdr),
}

impl Flight {
    /// A request for the rest goes to the kernel.
    pub(super) fn depart(&mut self, is_without_copy: bool) {
        self.kernel_refs += 1;
        self.is_without_copy = is_without_copy;
        self.may_be_pinned |= is_without_copy;
    }

    /// Bytes of memory of its own.
    fn memory_bytes(&self) -> usize {
        allocated(self.bytes.capacity()) + allocated(self.shared.capacity() * size_of::<(usize, Bytes)>())
    }

    /// The unwritten rest. The pointers stay valid as long as the entry is not freed (invariant 2).
    pub(super) fn rest(&mut self) -> Rest {
        if self.shared.is_empty() {
            let rest = &self.bytes[self.written_bytes..];
            return Rest::One(rest.as_ptr(), rest.len().min(REQUEST_BYTES_MAX) as u32);
        }
        let gather = self.gather.get_or_insert_with(|| {
            Box::new(Gather {
                pieces: Vec::new(),
                // SAFETY: all zeroes is a valid msghdr: no name, no pieces, no control data.
                header: unsafe { std::mem::zeroed() },
            })
        });
        gather.pieces.clear();
        let mut skip = self.written_bytes;
        let mut room = REQUEST_BYTES_MAX;
        for piece in pieces(&self.bytes, &self.shared) {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let piece = &piece[skip..];
            skip = 0;
            let len = piece.len().min(room);
            gather.pieces.push(libc::iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: len,
            });
            room -= len;
            if room == 0 || gather.pieces.len() == PIECES_MAX {
                break;
            }
        }
        gather.header.msg_iov = gather.pieces.as_mut_ptr();
        gather.header.msg_iovlen = gather.pieces.len();
        Rest::Many(&raw const gather.header)
    }
}

/// The output in order: stretches of `bytes` with the shared pieces between them.
fn pieces<'a>(bytes: &'a [u8], shared: &'a [(usize, Bytes)]) -> impl Iterator<Item = &'a [u8]> {
    let starts = std::iter::once(0).chain(shared.iter().map(|(position, _)| *position));
    let ends = shared
        .iter()
        .map(|(position, _)| *position)
        .chain(std::iter::once(bytes.len()));
    let inserted = shared
        .iter()
        .map(|(_, piece)| &piece[..])
        .chain(std::iter::once(&[][..]));
    starts
        .zip(ends)
        .map(|(start, end)| &bytes[start..end])
        .zip(inserted)
        .flat_map(|(stretch, piece)| [stretch, piece])
        .filter(|piece| !piece.is_empty())
}

/// All the writes of a plane, and the empty buffers that wait to be used again.
#[derive(Default)]
pub(super) struct Flights {
    entries: Vec<Option<Flight>>,
    vacant: Vec<u32>,
    spare_bytes: Vec<Vec<u8>>,
    /// The sum of their capacities.
    spare_capacity_bytes: usize,
    spare_shared: Vec<Vec<(usize, Bytes)>>,
    /// The sum over all entries, of closed connections too.
    entries_bytes: usize,
}

impl Flights {
    /// Takes the output (leaving recycled empty buffers in its place) and gives the number of the new entry.
    pub(super) fn take(&mut self, conn: ConnId, bytes: &mut Vec<u8>, shared: &mut Vec<(usize, Bytes)>) -> u32 {
        let bytes = std::mem::replace(bytes, self.spare_buffer());
        let shared = if shared.is_empty() {
            Vec::new()
        } else {
            std::mem::replace(shared, self.spare_shared.pop().unwrap_or_default())
        };
        assert!(
            shared.is_sorted_by_key(|(position, _)| *position)
                && shared.last().is_none_or(|(position, _)| *position <= bytes.len()),
            "shared pieces must lie in order within the linear output"
        );
        let flight = Flight {
            conn,
            total_bytes: bytes.len() + shared.iter().map(|(_, piece)| piece.len()).sum::<usize>(),
            written_bytes: 0,
            kernel_refs: 0,
            is_without_copy: false,
            may_be_pinned: false,
            bytes,
            shared,
            gather: None,
        };
        self.entries_bytes += flight.memory_bytes();
        match self.vacant.pop() {
            Some(number) => {
                self.entries[number as usize] = Some(flight);
                number
            }
            None => {
                self.entries.push(Some(flight));
                (self.entries.len() - 1) as u32
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> &Flight {
        self.entries[number as usize]
            .as_ref()
            .expect("a completion or a connection names a write only while its entry lives (invariant 1)")
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Flight {
        self.entries[number as usize]
            .as_mut()
            .expect("a completion or a connection names a write only while its entry lives (invariant 1)")
    }

    /// Frees an entry that the kernel has let go of.
    pub(super) fn free(&mut self, number: u32) {
        let flight = self.entries[number as usize]
            .take()
            .expect("an entry is freed once (invariant 1)");
        assert_eq!(flight.kernel_refs, 0, "the kernel still reads this write");
        self.vacant.push(number);
        self.entries_bytes -= flight.memory_bytes();
        self.recycle(flight.bytes);
        let mut shared = flight.shared;
        if shared.capacity() > 0 && self.spare_shared.len() < KEPT_BUFFERS_MAX {
            shared.clear();
            self.spare_shared.push(shared);
        }
    }

    /// Whether pages of a zero-copy write may still be in use when all requests have completed.
    pub(super) fn may_be_pinned(&self) -> bool {
        let mut flights = self.entries.iter().flatten();
        flights.any(|flight| flight.may_be_pinned)
    }

    /// Bytes of memory of all entries, and of what is kept for further ones.
    pub(super) fn held_bytes(&self) -> usize {
        self.entries_bytes + self.spare_capacity_bytes
    }

    pub(super) fn spare_buffer(&mut self) -> Vec<u8> {
        let buffer = self.spare_bytes.pop().unwrap_or_default();
        self.spare_capacity_bytes -= buffer.capacity();
        buffer
    }

    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0
            && buffer.capacity() <= KEPT_CAPACITY_BYTES_MAX
            && self.spare_bytes.len() < KEPT_BUFFERS_MAX
            && self.spare_capacity_bytes + buffer.capacity() <= KEPT_BYTES_MAX
        {
            buffer.clear();
            self.spare_capacity_bytes += buffer.capacity();
            self.spare_bytes.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId {
        index: 0,
        generation: 0,
    };

    fn gathered(flight: &mut Flight) -> Vec<u8> {
        match flight.rest() {
            Rest::One(start, len) => {
                // SAFETY: the entry is alive and unchanged.
                unsafe { std::slice::from_raw_parts(start, len as usize) }.to_vec()
            }
            Rest::Many(header) => {
                // SAFETY: as above; the header names `msg_iovlen` pieces.
                let pieces = unsafe { std::slice::from_raw_parts((*header).msg_iov, (*header).msg_iovlen) };
                pieces
                    .iter()
                    // SAFETY: as above.
                    .flat_map(|piece| unsafe {
                        std::slice::from_raw_parts(piece.iov_base.cast::<u8>(), piece.iov_len).to_vec()
                    })
                    .collect()
            }
        }
    }

    #[test]
    fn every_rest_is_a_suffix_of_the_output() {
        let whole = b"$3\r\nabc\r\n$4\r\nWXYZ\r\n!!";
        for written in 0..whole.len() {
            let mut flights = Flights::default();
            let mut bytes = b"$3\r\n\r\n$4\r\n\r\n".to_vec();
            let mut shared = vec![
                (4, Bytes::from_static(b"abc")),
                (10, Bytes::from_static(b"WXYZ")),
                (12, Bytes::from_static(b"!")),
                (12, Bytes::from_static(b"!")),
            ];
            let number = flights.take(CONN, &mut bytes, &mut shared);
            assert!(bytes.is_empty() && shared.is_empty());
            let flight = flights.get_mut(number);
            assert_eq!(flight.total_bytes, whole.len());
            flight.written_bytes = written;
            assert_eq!(gathered(flight), &whole[written..], "after {written}");
            flights.free(number);
        }
    }

    #[test]
    fn more_pieces_than_one_call_takes_go_in_turns() {
        let mut flights = Flights::default();
        let mut shared: Vec<_> = (0..3000).map(|_| (0, Bytes::from_static(b"ab"))).collect();
        let number = flights.take(CONN, &mut Vec::new(), &mut shared);
        let flight = flights.get_mut(number);
        assert_eq!(gathered(flight).len(), 2048);
        flight.written_bytes = 2047;
        assert_eq!(gathered(flight).len(), 2047);
        flight.written_bytes = 5999;
        assert_eq!(gathered(flight), b"b");
    }

    #[test]
    fn small_buffers_come_back_and_large_ones_do_not() {
        let mut flights = Flights::default();
        for (capacity, kept) in [(100, true), (KEPT_CAPACITY_BYTES_MAX + 1, false)] {
            let mut bytes = Vec::with_capacity(capacity);
            bytes.push(1);
            let number = flights.take(CONN, &mut bytes, &mut Vec::new());
            assert!(flights.held_bytes() >= capacity);
            flights.free(number);
            assert_eq!(flights.held_bytes() >= capacity, kept);
            let spare = flights.spare_buffer();
            assert!(spare.is_empty());
            assert_eq!(spare.capacity() > 0, kept);
            assert_eq!(flights.held_bytes(), 0);
        }
    }

    #[test]
    fn only_so_many_buffers_are_kept() {
        let mut flights = Flights::default();
        for _ in 0..2 * KEPT_BYTES_MAX / KEPT_CAPACITY_BYTES_MAX {
            flights.recycle(Vec::with_capacity(KEPT_CAPACITY_BYTES_MAX));
        }
        let sum = |flights: &Flights| flights.spare_bytes.iter().map(Vec::capacity).sum::<usize>();
        assert_eq!(sum(&flights), KEPT_BYTES_MAX);
        assert_eq!(flights.spare_buffer().capacity(), KEPT_CAPACITY_BYTES_MAX);
        assert_eq!(flights.spare_capacity_bytes, sum(&flights));
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn refuses_positions_out_of_order() {
        let mut shared = vec![(1, Bytes::new()), (0, Bytes::new())];
        Flights::default().take(CONN, &mut b"ab".to_vec(), &mut shared);
    }
}
