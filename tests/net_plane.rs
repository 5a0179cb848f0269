//! What every plane promises (`net/mod.rs`), held against real sockets on the loopback.

use bytes::Bytes;
use shardis::net::{
    CloseReason, ConnId, Event, ListenSocket, Output, PeerAddr, Plane, Sent, TcpOptions, UringOptions, UringPlane, Wait,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// As long as a test may wait for one thing; far beyond what any of them needs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    plane: UringPlane,
    address: SocketAddr,
    events: Vec<Event>,
}

impl Bench {
    fn new(options: UringOptions) -> Bench {
        let mut plane = UringPlane::new(options).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let socket = ListenSocket::bind_tcp(address, TcpOptions::default()).unwrap();
        let PeerAddr::Tcp(address) = socket.local_addr().unwrap() else {
            unreachable!("bound to an IP address")
        };
        plane.listen(socket);
        Bench {
            plane,
            address,
            events: Vec::new(),
        }
    }

    fn small() -> Bench {
        Bench::new(UringOptions {
            submission_entries: 64,
            completion_entries: 256,
            buffer_count: 16,
            buffer_bytes: 1024,
            ..UringOptions::default()
        })
    }

    /// Polls until `pick` takes an event; what it does not take is dropped (leases are given back).
    fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let give_up = Instant::now() + PATIENCE;
        loop {
            while !self.events.is_empty() {
                let event = self.events.remove(0);
                let picked = pick(&event);
                if let Event::Received { buffer, .. } = event {
                    self.plane.give_back(buffer);
                }
                if let Some(picked) = picked {
                    return picked;
                }
            }
            assert!(Instant::now() < give_up, "{what} did not happen");
            self.plane
                .poll(Wait::Until(Duration::from_millis(20)), &mut self.events)
                .unwrap();
        }
    }

    fn accept(&mut self) -> ConnId {
        self.until("accept", |event| match event {
            Event::Accepted { conn, .. } => Some(*conn),
            _ => None,
        })
    }

    fn connect(&mut self) -> (ConnId, TcpStream) {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let conn = self.accept();
        self.plane.start(conn);
        (conn, stream)
    }

    /// Collects `len` bytes of one connection.
    fn receive(&mut self, from: ConnId, len: usize) -> Vec<u8> {
        let mut got = Vec::new();
        let give_up = Instant::now() + PATIENCE;
        while got.len() < len {
            assert!(Instant::now() < give_up, "{} of {len} bytes came", got.len());
            self.plane
                .poll(Wait::Until(Duration::from_millis(20)), &mut self.events)
                .unwrap();
            for event in std::mem::take(&mut self.events) {
                match event {
                    Event::Received { conn, buffer } => {
                        if conn == from {
                            got.extend_from_slice(buffer.bytes());
                        }
                        self.plane.give_back(buffer);
                    }
                    other => self.events.push(other),
                }
            }
        }
        got
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) -> Sent {
        let mut bytes = bytes.to_vec();
        self.plane.send(
            conn,
            Output {
                bytes: &mut bytes,
                shared: &mut Vec::new(),
            },
        )
    }
}

/// Bytes that show when something is lost, doubled or out of order.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i / 4099) as u8).collect()
}

#[test]
fn echoes_in_both_directions() {
    let mut bench = Bench::small();
    let (conn, mut stream) = bench.connect();
    for round in 0..100u32 {
        stream.write_all(&round.to_be_bytes()).unwrap();
        let got = bench.receive(conn, 4);
        assert_eq!(got, round.to_be_bytes());
        assert_eq!(bench.send(conn, &got), Sent::Taken);
        bench.plane.poll(Wait::No, &mut bench.events).unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, round.to_be_bytes());
    }
    drop(stream);
    let reason = bench.until("end", |event| match event {
        Event::PeerClosed { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(reason, CloseReason::Eof);
    assert_eq!(bench.plane.connection_count(), 1);
    bench.plane.close_now(conn);
    assert_eq!(bench.plane.connection_count(), 0);
}

#[test]
fn shared_pieces_arrive_in_their_places() {
    let mut bench = Bench::small();
    let (conn, mut stream) = bench.connect();
    let large = Bytes::from(pattern(300_000));
    let mut bytes = b"head\r\n\r\ntail".to_vec();
    let mut shared = vec![(6, large.clone()), (8, Bytes::from_static(b"<>"))];
    let sent = bench.plane.send(
        conn,
        Output {
            bytes: &mut bytes,
            shared: &mut shared,
        },
    );
    assert_eq!(sent, Sent::Taken);
    assert!(bytes.is_empty() && shared.is_empty());
    let expected = [b"head\r\n", &large[..], b"\r\n<>tail"].concat();
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == expected);
    });
    while bench.plane.queued_bytes(conn) > 0 {
        bench
            .plane
            .poll(Wait::Until(Duration::from_millis(20)), &mut bench.events)
            .unwrap();
    }
    reader.join().unwrap();
}

impl Bench {
    /// Polls until `is_done` says so, and keeps the events.
    fn poll_until(&mut self, what: &str, mut is_done: impl FnMut(&mut Bench) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !is_done(self) {
            assert!(Instant::now() < give_up, "{what} did not happen");
            self.plane
                .poll(Wait::Until(Duration::from_millis(20)), &mut self.events)
                .unwrap();
        }
    }

    fn wait_for_empty(&mut self) {
        self.poll_until("the end of all connections", |bench| {
            bench.plane.connection_count() == 0
        });
    }
}

/// Closes with a reset instead of the usual end.
fn reset(stream: TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &linger).unwrap();
}

#[test]
fn a_slow_reader_gets_all_of_it_and_the_sender_learns_when() {
    let mut bench = Bench::small();
    let (conn, mut stream) = bench.connect();
    let sent = pattern(8 << 20);
    assert_eq!(bench.send(conn, &sent), Sent::Taken);
    bench.plane.poll(Wait::No, &mut bench.events).unwrap();
    assert_eq!(bench.send(conn, b"more"), Sent::Busy);
    assert_eq!(bench.send(conn, b"more"), Sent::Busy);
    assert!(bench.plane.queued_bytes(conn) > 0);
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        let mut part = vec![0; 100_000];
        while got.len() < (8 << 20) + 4 {
            let len = stream.read(&mut part).unwrap();
            assert!(len > 0, "ended after {}", got.len());
            got.extend_from_slice(&part[..len]);
            std::thread::sleep(Duration::from_micros(100));
        }
        got
    });
    let drained = bench.until("drained", |event| match event {
        Event::Drained { conn } => Some(*conn),
        _ => None,
    });
    assert_eq!(drained, conn);
    assert_eq!(bench.plane.queued_bytes(conn), 0);
    assert_eq!(bench.send(conn, b"more"), Sent::Taken);
    bench.poll_until("the rest", |bench| bench.plane.queued_bytes(conn) == 0);
    let got = reader.join().unwrap();
    assert!(got[..sent.len()] == sent && got[sent.len()..] == *b"more");
    assert!(
        !bench.events.iter().any(|event| matches!(event, Event::Drained { .. })),
        "Drained is owed once for each stretch of refusals"
    );
}

#[test]
fn a_dry_buffer_ring_waits_and_forgets_nobody() {
    let mut bench = Bench::small();
    let clients: Vec<_> = (0..10).map(|_| bench.connect()).collect();
    let mut conns: Vec<_> = clients
        .into_iter()
        .map(|(conn, mut stream)| {
            let writer = std::thread::spawn(move || {
                stream.write_all(&pattern(100_000)).unwrap();
                stream
            });
            (conn, Vec::new(), writer)
        })
        .collect();
    // Take all buffers and keep them: 16 of them are there.
    let mut kept = Vec::new();
    while kept.len() < 16 {
        bench
            .plane
            .poll(Wait::Until(Duration::from_millis(20)), &mut bench.events)
            .unwrap();
        for event in bench.events.drain(..) {
            match event {
                Event::Received { conn, buffer } => kept.push((conn, buffer)),
                other => panic!("{other:?}"),
            }
        }
    }
    // Nothing can be received now, and that must not keep the thread busy.
    let end = Instant::now() + Duration::from_millis(200);
    let mut poll_count = 0;
    while Instant::now() < end {
        bench
            .plane
            .poll(Wait::Until(Duration::from_millis(50)), &mut bench.events)
            .unwrap();
        poll_count += 1;
        assert!(bench.events.is_empty(), "{:?}", bench.events);
    }
    assert!(poll_count < 60, "{poll_count} polls in 200 ms");
    let mut open = conns.len();
    let give_up = Instant::now() + PATIENCE;
    loop {
        for (conn, buffer) in kept.drain(..) {
            let (_, got, _) = conns.iter_mut().find(|(known, ..)| *known == conn).unwrap();
            got.extend_from_slice(buffer.bytes());
            bench.plane.give_back(buffer);
            if got.len() == 100_000 {
                open -= 1;
            }
        }
        if open == 0 {
            break;
        }
        assert!(Instant::now() < give_up, "{open} connections starve");
        bench
            .plane
            .poll(Wait::Until(Duration::from_millis(20)), &mut bench.events)
            .unwrap();
        for event in bench.events.drain(..) {
            match event {
                Event::Received { conn, buffer } => kept.push((conn, buffer)),
                other => panic!("{other:?}"),
            }
        }
    }
    for (_, got, writer) in conns {
        assert!(got == pattern(100_000));
        writer.join().unwrap();
    }
}

#[test]
fn a_half_closed_peer_still_gets_its_reply() {
    let mut bench = Bench::small();
    let (conn, mut stream) = bench.connect();
    stream.write_all(b"PING").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(bench.receive(conn, 4), b"PING");
    let reason = bench.until("end", |event| match event {
        Event::PeerClosed { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(reason, CloseReason::Eof);
    assert_eq!(bench.send(conn, b"PONG"), Sent::Taken);
    bench.plane.close_after_flush(conn);
    assert_eq!(bench.send(conn, b"late"), Sent::Gone);
    bench.wait_for_empty();
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    assert_eq!(got, "PONG");
}

#[test]
fn a_reset_is_reported_as_a_failure() {
    let mut bench = Bench::small();
    let (conn, stream) = bench.connect();
    reset(stream);
    let reason = bench.until("reset", |event| match event {
        Event::PeerClosed { conn: closed, reason } => Some((*closed, *reason)),
        _ => None,
    });
    assert_eq!(reason, (conn, CloseReason::Failed(nix::libc::ECONNRESET)));
    assert_eq!(bench.send(conn, b"x"), Sent::Gone);
    bench.plane.close_now(conn);
    bench.wait_for_empty();
}

#[test]
fn a_failed_write_is_reported_once_and_frees_its_output() {
    let mut bench = Bench::small();
    let (conn, stream) = bench.connect();
    assert_eq!(bench.send(conn, &pattern(8 << 20)), Sent::Taken);
    bench.plane.poll(Wait::No, &mut bench.events).unwrap();
    assert_eq!(bench.send(conn, b"x"), Sent::Busy);
    reset(stream);
    bench.until("failure", |event| {
        matches!(
            event,
            Event::PeerClosed {
                reason: CloseReason::Failed(_),
                ..
            }
        )
        .then_some(())
    });
    bench.poll_until("the write's end", |bench| bench.plane.queued_bytes(conn) == 0);
    let failures = bench.events.iter().filter(|event| {
        matches!(
            event,
            Event::PeerClosed {
                reason: CloseReason::Failed(_),
                ..
            }
        )
    });
    assert_eq!(failures.count(), 0, "reported twice");
    bench.plane.close_now(conn);
    bench.wait_for_empty();
}

/// Output that says when it is freed.
struct Watched(Vec<u8>, std::sync::Arc<std::sync::atomic::AtomicBool>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

fn closing_keeps_output_until_the_kernel_lets_go(zero_copy_from_bytes: usize) {
    let mut bench = Bench::new(UringOptions {
        zero_copy_from_bytes,
        ..UringOptions::default()
    });
    let (conn, mut stream) = bench.connect();
    let is_freed = std::sync::Arc::default();
    let large = Bytes::from_owner(Watched(pattern(8 << 20), std::sync::Arc::clone(&is_freed)));
    let mut shared = vec![(2, large)];
    let sent = bench.plane.send(
        conn,
        Output {
            bytes: &mut b"abcd".to_vec(),
            shared: &mut shared,
        },
    );
    assert_eq!(sent, Sent::Taken);
    bench.plane.poll(Wait::No, &mut bench.events).unwrap();
    let is_freed = || is_freed.load(std::sync::atomic::Ordering::SeqCst);
    assert!(!is_freed());
    bench.plane.close_now(conn);
    assert!(!is_freed(), "the kernel still reads it");
    bench.wait_for_empty();
    // What the peer has received is the beginning of it; then the connection ends, one way or the other.
    let expected = [b"ab", &pattern(8 << 20)[..], b"cd"].concat();
    let mut got = vec![0; expected.len()];
    let mut len = 0;
    while let Ok(part) = stream.read(&mut got[len..]) {
        len += part;
        if part == 0 {
            break;
        }
    }
    assert!(len < expected.len());
    assert!(got[..len] == expected[..len]);
    drop(stream);
    bench.poll_until("the output's end", |_| is_freed());
    assert!(bench.events.is_empty(), "{:?}", bench.events);
}

#[test]
fn closing_keeps_copied_output_until_the_kernel_lets_go() {
    closing_keeps_output_until_the_kernel_lets_go(usize::MAX);
}

#[test]
fn closing_keeps_zero_copy_output_until_the_kernel_lets_go() {
    closing_keeps_output_until_the_kernel_lets_go(1);
}

#[test]
fn zero_copy_writes_arrive_whole_and_in_order() {
    let mut bench = Bench::new(UringOptions {
        zero_copy_from_bytes: 1000,
        ..UringOptions::default()
    });
    let (conn, mut stream) = bench.connect();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    let mut expected = Vec::new();
    for round in 0..50 {
        let large = Bytes::from(pattern(round * 5000));
        let mut bytes = format!("[{round}]").into_bytes();
        expected.extend_from_slice(&bytes);
        expected.extend_from_slice(&large);
        let mut shared = vec![(bytes.len(), large)];
        let give_up = Instant::now() + PATIENCE;
        while bench.plane.send(
            conn,
            Output {
                bytes: &mut bytes,
                shared: &mut shared,
            },
        ) != Sent::Taken
        {
            assert!(Instant::now() < give_up);
            bench
                .plane
                .poll(Wait::Until(Duration::from_millis(20)), &mut bench.events)
                .unwrap();
        }
    }
    bench.plane.close_after_flush(conn);
    bench.wait_for_empty();
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn closing_after_the_flush_writes_all_first() {
    let mut bench = Bench::small();
    let (conn, mut stream) = bench.connect();
    let sent = pattern(4 << 20);
    assert_eq!(bench.send(conn, &sent), Sent::Taken);
    bench.plane.close_after_flush(conn);
    assert_eq!(bench.plane.queued_bytes(conn), 0, "the id is dead");
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    bench.wait_for_empty();
    assert!(reader.join().unwrap() == sent);
    assert!(bench.events.is_empty(), "{:?}", bench.events);
}

#[test]
fn the_flush_of_a_peer_that_never_reads_ends() {
    let mut bench = Bench::new(UringOptions {
        flush_patience: Duration::from_millis(1),
        ..UringOptions::default()
    });
    let (conn, _stream) = bench.connect();
    assert_eq!(bench.send(conn, &pattern(8 << 20)), Sent::Taken);
    bench.plane.close_after_flush(conn);
    bench.wait_for_empty();
}

#[test]
fn thousands_of_short_connections_leave_nothing_behind() {
    let mut bench = Bench::small();
    let mut names = std::collections::HashSet::new();
    let mut largest_index = 0;
    for round in 0..3000 {
        let mut stream = TcpStream::connect(bench.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let conn = bench.accept();
        assert!(names.insert(conn), "{conn:?} came twice");
        largest_index = largest_index.max(conn.index());
        if round % 7 > 0 {
            bench.plane.start(conn);
        }
        if round % 3 == 0 {
            stream.write_all(b"some bytes").unwrap();
        }
        if round % 5 == 0 {
            let _ = bench.send(conn, &pattern(round));
        }
        match round % 4 {
            0 => reset(stream),
            1 => drop(stream),
            2 => {
                bench.plane.close_now(conn);
                let mut rest = Vec::new();
                // Poll on: what was queued for this socket must be submitted before it can close.
                bench.poll_until("close", |bench| bench.plane.connection_count() == 0);
                match stream.read_to_end(&mut rest) {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
                }
            }
            _ => {
                bench.plane.close_after_flush(conn);
                drop(stream);
            }
        }
        bench.plane.poll(Wait::No, &mut bench.events).unwrap();
        for event in std::mem::take(&mut bench.events) {
            match event {
                Event::Received { buffer, .. } => bench.plane.give_back(buffer),
                Event::PeerClosed { conn, .. } => bench.plane.close_now(conn),
                _ => {}
            }
        }
        bench.plane.close_now(conn);
    }
    bench.wait_for_empty();
    assert!(largest_index < 100, "places are reused: {largest_index}");
    for conn in names {
        assert!(bench.plane.socket(conn).is_none());
        assert_eq!(bench.send(conn, b"x"), Sent::Gone);
        bench.plane.close_now(conn);
    }
    // The ring still has all its buffers.
    let (conn, mut stream) = bench.connect();
    stream.write_all(&pattern(16 * 1024)).unwrap();
    assert!(bench.receive(conn, 16 * 1024) == pattern(16 * 1024));
}

/// A plane with queues far too small for its connections.
fn cramped() -> (Bench, Vec<(ConnId, TcpStream)>) {
    let mut bench = Bench::new(UringOptions {
        submission_entries: 4,
        completion_entries: 8,
        buffer_count: 64,
        buffer_bytes: 256,
        ..UringOptions::default()
    });
    let clients = (0..200).map(|_| bench.connect()).collect();
    (bench, clients)
}

#[test]
fn a_full_submission_queue_loses_nothing() {
    let (mut bench, mut clients) = cramped();
    for (conn, _) in &clients {
        let name = (conn.index() as u32).to_be_bytes();
        assert_eq!(bench.send(*conn, &name), Sent::Taken);
        bench.plane.pause_receive(*conn);
    }
    bench.poll_until("all writes", |bench| {
        clients.iter().all(|(conn, _)| bench.plane.queued_bytes(*conn) == 0)
    });
    for (conn, stream) in &mut clients {
        let mut got = [0; 4];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, (conn.index() as u32).to_be_bytes());
        bench.plane.resume_receive(*conn);
        stream.write_all(b"ok").unwrap();
    }
    for (conn, _) in &clients {
        bench.plane.resume_receive(*conn);
    }
    let mut heard = std::collections::HashSet::new();
    bench.poll_until("all answers", |bench| {
        for event in std::mem::take(&mut bench.events) {
            let Event::Received { conn, buffer } = event else {
                panic!("{event:?}");
            };
            bench.plane.give_back(buffer);
            heard.insert(conn);
        }
        heard.len() == clients.len()
    });
}

#[test]
fn an_overflowing_completion_queue_loses_nothing() {
    let (mut bench, mut clients) = cramped();
    for round in 0..20u32 {
        for (_, stream) in &mut clients {
            stream.write_all(&round.to_be_bytes()).unwrap();
        }
        let mut got = vec![Vec::new(); clients.len()];
        bench.poll_until("all bytes", |bench| {
            for event in std::mem::take(&mut bench.events) {
                let Event::Received { conn, buffer } = event else {
                    panic!("{event:?}");
                };
                got[conn.index()].extend_from_slice(buffer.bytes());
                bench.plane.give_back(buffer);
            }
            got.iter().all(|bytes| bytes.len() >= 4)
        });
        assert!(got.iter().all(|bytes| *bytes == round.to_be_bytes()));
    }
}

#[test]
fn a_paused_connection_is_silent_until_it_is_resumed() {
    let mut bench = Bench::small();
    let (conn, mut stream) = bench.connect();
    bench.plane.pause_receive(conn);
    bench.plane.poll(Wait::No, &mut bench.events).unwrap();
    stream.write_all(b"first").unwrap();
    for _ in 0..5 {
        bench
            .plane
            .poll(Wait::Until(Duration::from_millis(10)), &mut bench.events)
            .unwrap();
    }
    assert!(bench.events.is_empty(), "{:?}", bench.events);
    bench.plane.resume_receive(conn);
    assert_eq!(bench.receive(conn, 5), b"first");
    // Paused and resumed before the kernel has heard of either.
    for _ in 0..10 {
        bench.plane.pause_receive(conn);
        bench.plane.resume_receive(conn);
    }
    stream.write_all(b"second").unwrap();
    assert_eq!(bench.receive(conn, 6), b"second");
    // The end of the peer is seen after the resume.
    bench.plane.pause_receive(conn);
    drop(stream);
    bench.plane.poll(Wait::No, &mut bench.events).unwrap();
    bench.plane.resume_receive(conn);
    bench.until("end", |event| matches!(event, Event::PeerClosed { .. }).then_some(()));
}

#[test]
fn wakes_from_threads_and_from_other_planes_end_the_sleep() {
    let mut bench = Bench::small();
    let handle = bench.plane.wake_handle();
    for by_ring in [false, true] {
        let handle = handle.clone();
        let waker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            if by_ring {
                let mut other = UringPlane::new(UringOptions::default()).unwrap();
                other.wake_peer(&handle);
                other.poll(Wait::No, &mut Vec::new()).unwrap();
            } else {
                handle.wake();
            }
        });
        let start = Instant::now();
        bench.plane.poll(Wait::Until(PATIENCE * 10), &mut bench.events).unwrap();
        assert!(start.elapsed() < PATIENCE, "slept on (by ring: {by_ring})");
        assert!(matches!(bench.events[..], [Event::Woken]), "{by_ring}");
        bench.events.clear();
        waker.join().unwrap();
    }
}

/// Whether the bell can be read without waiting.
fn rings(plane: &UringPlane) -> bool {
    use nix::poll::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::new(plane.bell(), PollFlags::POLLIN)];
    poll(&mut fds, 2000u16).unwrap() > 0
}

#[test]
fn the_bell_rings_for_whatever_completes() {
    let mut bench = Bench::small();
    let (conn, mut stream) = bench.connect();
    bench.plane.poll(Wait::No, &mut bench.events).unwrap();
    let handle = bench.plane.wake_handle();
    let peer = std::thread::spawn({
        let handle = handle.clone();
        move || {
            let mut other = UringPlane::new(UringOptions::default()).unwrap();
            other.wake_peer(&handle);
            other.poll(Wait::No, &mut Vec::new()).unwrap();
        }
    });
    peer.join().unwrap();
    assert!(!bench.plane.set_bell(true).unwrap(), "a wake-up waits");
    bench.plane.set_bell(false).unwrap();
    let what: [(&str, &mut dyn FnMut()); 3] = [
        ("bytes", &mut || stream.write_all(b"x").unwrap()),
        ("eventfd", &mut || handle.wake()),
        ("ring", &mut || {
            let mut other = UringPlane::new(UringOptions::default()).unwrap();
            other.wake_peer(&handle);
            other.poll(Wait::No, &mut Vec::new()).unwrap();
        }),
    ];
    for (name, act) in what {
        while {
            bench.plane.poll(Wait::No, &mut bench.events).unwrap();
            !bench.plane.set_bell(true).unwrap()
        } {}
        // Old rings are read away, as the parked thread would.
        while nix::poll::poll(
            &mut [nix::poll::PollFd::new(bench.plane.bell(), nix::poll::PollFlags::POLLIN)],
            0u16,
        )
        .unwrap()
            > 0
        {
            nix::unistd::read(bench.plane.bell(), &mut [0; 8]).unwrap();
        }
        act();
        assert!(rings(&bench.plane), "{name}");
        bench.plane.set_bell(false).unwrap();
        for event in bench.events.drain(..) {
            if let Event::Received { buffer, .. } = event {
                bench.plane.give_back(buffer);
            }
        }
    }
    bench.plane.close_now(conn);
}

#[test]
fn a_fresh_connection_can_move_to_another_plane() {
    let mut bench = Bench::small();
    let mut stream = TcpStream::connect(bench.address).unwrap();
    stream.write_all(b"before").unwrap();
    let conn = bench.accept();
    let peer = PeerAddr::of_peer(bench.plane.socket(conn).unwrap()).unwrap();
    assert_eq!(peer.to_string(), stream.local_addr().unwrap().to_string());
    let fd = bench.plane.detach(conn).unwrap();
    assert_eq!(bench.plane.connection_count(), 0);
    assert!(bench.plane.detach(conn).is_none());
    bench.plane.start(conn);
    let other = std::thread::spawn(move || {
        let mut other = Bench::small();
        let conn = other.plane.adopt(fd);
        other.plane.start(conn);
        assert!(other.plane.detach(conn).is_none(), "it receives already");
        assert_eq!(other.receive(conn, 6), b"before");
        assert_eq!(other.send(conn, b"after"), Sent::Taken);
        other.plane.close_after_flush(conn);
        other.wait_for_empty();
    });
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    assert_eq!(got, "after");
    other.join().unwrap();
}

#[test]
fn unlisten_frees_the_port() {
    let mut bench = Bench::small();
    let socket = ListenSocket::bind_tcp("127.0.0.1:0".parse().unwrap(), TcpOptions::default());
    let socket = socket.unwrap();
    let port = socket.local_addr().unwrap().port();
    let listener = bench.plane.listen(socket);
    bench.plane.poll(Wait::No, &mut bench.events).unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    bench.accept();
    bench.plane.unlisten(listener);
    bench.plane.unlisten(listener);
    bench.poll_until("refusal", |_| TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn unix_sockets_serve_too() {
    let path = std::env::temp_dir().join(format!("plane-{}.sock", std::process::id()));
    let mut bench = Bench::small();
    bench.plane.listen(ListenSocket::bind_unix(&path, 0o600, 16).unwrap());
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let conn = bench.accept();
    let peer = PeerAddr::of_peer(bench.plane.socket(conn).unwrap()).unwrap();
    assert_eq!(peer.to_string(), format!("{}:0", path.display()));
    bench.plane.start(conn);
    stream.write_all(b"PING").unwrap();
    assert_eq!(bench.receive(conn, 4), b"PING");
    // Large enough to be tried without a copy, which unix sockets cannot do.
    let large = pattern(200_000);
    assert_eq!(bench.send(conn, &large), Sent::Taken);
    bench.plane.close_after_flush(conn);
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    bench.wait_for_empty();
    assert!(reader.join().unwrap() == large);
    assert!(bench.events.is_empty(), "{:?}", bench.events);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_plane_can_be_dropped_with_everything_in_flight() {
    let mut bench = Bench::small();
    let mut clients = Vec::new();
    for round in 0..20 {
        let (conn, stream) = bench.connect();
        if round % 2 == 0 {
            assert_eq!(bench.send(conn, &pattern(8 << 20)), Sent::Taken);
        }
        clients.push((conn, stream));
    }
    bench.plane.poll(Wait::No, &mut bench.events).unwrap();
    let handle = bench.plane.wake_handle();
    let (conn, _) = clients[1];
    assert_eq!(bench.send(conn, b"not even submitted"), Sent::Taken);
    drop(bench);
    handle.wake();
    for (_, mut stream) in clients {
        let mut rest = Vec::new();
        // Ended or reset, but not left open.
        let _ = stream.read_to_end(&mut rest);
    }
}

/// Runs in a process of its own, because it lowers the limit on open files.
#[test]
#[ignore = "run by running_out_of_descriptors_is_survived"]
fn child_that_runs_out_of_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let mut bench = Bench::small();
    let mut clients: Vec<_> = (0..20).map(|_| TcpStream::connect(bench.address).unwrap()).collect();
    let highest = std::fs::File::open("/dev/null").unwrap();
    let next_fd = std::os::fd::AsRawFd::as_raw_fd(&highest) as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, next_fd + 5, hard).unwrap();
    let mut accepted = std::collections::VecDeque::new();
    let mut failure_count = 0;
    let mut poll_count = 0;
    let mut collect = |bench: &mut Bench, accepted: &mut std::collections::VecDeque<ConnId>| {
        bench
            .plane
            .poll(Wait::Until(Duration::from_millis(50)), &mut bench.events)
            .unwrap();
        for event in bench.events.drain(..) {
            match event {
                Event::Accepted { conn, .. } => accepted.push_back(conn),
                Event::AcceptFailed { error, .. } => {
                    assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
                    failure_count += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        failure_count
    };
    let end = Instant::now() + Duration::from_millis(400);
    while Instant::now() < end {
        collect(&mut bench, &mut accepted);
        poll_count += 1;
    }
    assert!(accepted.len() < 20);
    let failure_count = collect(&mut bench, &mut accepted);
    assert!((1..=6).contains(&failure_count), "{failure_count} failures");
    assert!(poll_count < 60, "{poll_count} polls in 400 ms");
    // Descriptors become free, and those who wait get their turn.
    let mut served = 0;
    let give_up = Instant::now() + PATIENCE;
    while served < 20 {
        assert!(Instant::now() < give_up, "{served} of 20 were accepted");
        while let Some(conn) = accepted.pop_front() {
            bench.plane.close_now(conn);
            served += 1;
        }
        collect(&mut bench, &mut accepted);
    }
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_runs_out_of_descriptors"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
