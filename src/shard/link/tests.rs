//! Links: order, bounds, wake-ups.

use super::*;
use std::sync::mpsc;

/// One thing that was sent, as the test remembers it.
#[derive(Debug, PartialEq, Eq, Clone)]
enum Sent {
    Command(u32, Vec<u8>),
    Reply(u32, Vec<u8>),
    Message(u32),
}

fn sent(sequence: u32, random: &mut fastrand::Rng) -> Sent {
    let length = match random.u8(..20) {
        0 => random.usize(1000..5000),
        1..5 => 0,
        _ => random.usize(..60),
    };
    let bytes = (0..length).map(|at| (at as u32 ^ sequence) as u8).collect();
    match random.u8(..10) {
        0 => Sent::Message(sequence),
        1..5 => Sent::Reply(sequence, bytes),
        _ => Sent::Command(sequence, bytes),
    }
}

fn send(outbound: &mut Outbound<u32>, to: ShardId, what: &Sent) {
    match what {
        Sent::Command(sequence, bytes) => {
            let header = CommandHeader {
                connection: sequence ^ 1,
                generation: sequence ^ 2,
                sequence: *sequence,
                db: sequence ^ 3,
                slot: *sequence as u16,
                command: !*sequence as u16,
                flags: 7,
                protocol: 3,
            };
            outbound.command(to, &header, |buffer| buffer.extend_from_slice(bytes));
        }
        Sent::Reply(sequence, bytes) => {
            let header = ReplyHeader {
                connection: sequence ^ 1,
                generation: sequence ^ 2,
                sequence: *sequence,
                flags: 9,
            };
            outbound.reply(to, &header, |buffer| buffer.extend_from_slice(bytes));
        }
        Sent::Message(sequence) => outbound.message(to, *sequence),
    }
}

fn received(frame: Frame<'_, u32>) -> Sent {
    match frame {
        Frame::Command { header, arguments } => {
            let sequence = header.sequence;
            assert_eq!((header.connection, header.generation), (sequence ^ 1, sequence ^ 2));
            assert_eq!((header.db, header.slot), (sequence ^ 3, sequence as u16));
            assert_eq!(
                (header.command, header.flags, header.protocol),
                (!sequence as u16, 7, 3)
            );
            Sent::Command(sequence, arguments.to_vec())
        }
        Frame::Reply { header, resp } => {
            let sequence = header.sequence;
            assert_eq!(
                (header.connection, header.generation, header.flags),
                (sequence ^ 1, sequence ^ 2, 9)
            );
            Sent::Reply(sequence, resp.to_vec())
        }
        Frame::Message(sequence) => Sent::Message(sequence),
        Frame::Clock(now) => panic!("nobody has told the time, and it is {now}"),
    }
}

#[test]
fn keeps_order_across_both_rings_and_overflow() {
    let mut random = fastrand::Rng::with_seed(1);
    for ring_bytes in [64, 100, 1 << 10, 64 << 10] {
        let mut ports = connect::<u32>(3, ring_bytes);
        let mut expected: VecDeque<Sent> = VecDeque::new();
        let mut sequence = 0;
        while sequence < 5000 || !expected.is_empty() {
            for _ in 0..random.usize(..if sequence < 5000 { 200 } else { 1 }.max(1)) {
                let what = sent(sequence, &mut random);
                send(&mut ports[0].outbound, ShardId(2), &what);
                expected.push_back(what);
                sequence += 1;
            }
            if random.bool() {
                ports[0].outbound.flush(|_| panic!("nobody sleeps"));
            }
            ports[2].inbound.drain(|from, frame| {
                assert_eq!(from, ShardId(0));
                assert_eq!(Some(received(frame)), expected.pop_front());
            });
        }
        ports[0].outbound.flush(|_| panic!("nobody sleeps"));
        assert!(!ports[0].outbound.has_backlog());
    }
}

#[test]
fn wakes_a_sleeping_target_once() {
    let mut ports = connect::<u32>(2, 1 << 10);
    let mut other = ports.pop().expect("two ports");
    let mut this = ports.pop().expect("two ports");
    assert!(other.inbound.announce_sleep());
    let mut woken = Vec::new();
    this.outbound.flush(|shard| woken.push(shard));
    assert!(woken.is_empty(), "nothing was sent");
    this.outbound.message(ShardId(1), 1);
    assert!(other.inbound.announce_sleep(), "nothing is visible before the flush");
    this.outbound.flush(|shard| woken.push(shard));
    this.outbound.message(ShardId(1), 2);
    this.outbound.flush(|shard| woken.push(shard));
    assert_eq!(woken, [ShardId(1)]);
    assert!(!other.inbound.announce_sleep(), "there is something to read");
    assert_eq!(other.inbound.drain(|_, _| ()), 2);
    assert!(other.inbound.announce_sleep());
    assert!(this.doorbells.ring(ShardId(1)) && !this.doorbells.ring(ShardId(1)));
    assert!(other.inbound.announce_sleep());
    other.inbound.awake();
    assert!(!this.doorbells.ring(ShardId(1)));
}

/// Two threads that bounce messages and sleep whenever they can: a lost wake-up would stop them for ever, which
/// shows as a wake-up that does not come within a time far beyond any scheduling delay.
#[test]
fn two_threads_lose_neither_frames_nor_wake_ups() {
    const ROUNDS: u32 = 20_000;
    let mut ports = connect::<u32>(2, 256).into_iter();
    let (wake_first, sleep_first) = mpsc::channel::<()>();
    let (wake_second, sleep_second) = mpsc::channel::<()>();
    let run = |mut port: Port<u32>, peer: ShardId, wake: mpsc::Sender<()>, sleep: mpsc::Receiver<()>| {
        let mut random = fastrand::Rng::with_seed(peer.0 as u64);
        let (mut sent_count, mut received_count) = (0, 0);
        while sent_count < ROUNDS || received_count < ROUNDS || port.outbound.has_backlog() {
            // The peer ends when it has received everything, so this side may be told later than it asks.
            let burst = random
                .u32(..20)
                .min(ROUNDS - sent_count)
                .min(received_count + 64 - sent_count);
            for _ in 0..burst {
                send(&mut port.outbound, peer, &sent(sent_count, &mut random));
                sent_count += 1;
            }
            port.outbound.flush(|shard| {
                assert_eq!(shard, peer);
                // A peer that has ended does not listen any more.
                let _ = wake.send(());
            });
            let taken = port.inbound.drain(|_, frame| {
                let (Sent::Command(sequence, _) | Sent::Reply(sequence, _) | Sent::Message(sequence)) = received(frame);
                assert_eq!(sequence, received_count);
                received_count += 1;
            });
            let is_blocked = sent_count == ROUNDS || sent_count == received_count + 64;
            let waits = is_blocked && taken == 0 && received_count < ROUNDS && !port.outbound.has_backlog();
            if waits && port.inbound.announce_sleep() {
                sleep
                    .recv_timeout(std::time::Duration::from_secs(60))
                    .expect("a wake-up was lost");
                port.inbound.awake();
            } else if taken == 0 {
                std::thread::yield_now();
            }
        }
    };
    let (first, second) = (ports.next().expect("two ports"), ports.next().expect("two ports"));
    std::thread::scope(|scope| {
        scope.spawn(move || run(first, ShardId(1), wake_second, sleep_first));
        scope.spawn(move || run(second, ShardId(0), wake_first, sleep_second));
    });
}

/// A sender with a backlog may sleep until the receiver has read, and is woken then; if there is room already, it may not.
#[test]
fn a_sender_that_waits_for_room_is_woken_by_the_reader() {
    let mut ports = connect::<u32>(2, 256);
    let mut reader = ports.pop().expect("two ports");
    let mut writer = ports.pop().expect("two ports");
    let (here, there) = (ShardId(0), ShardId(1));
    let nobody = |shard: ShardId| panic!("{shard:?} does not sleep");
    // Once by bytes, once by parcels.
    for sends_messages in [false, true] {
        let mut sent = 0;
        while !writer.outbound.has_backlog() || sent == 0 {
            let what = match sends_messages {
                true => Sent::Message(sent),
                false => Sent::Command(sent, vec![7; 20]),
            };
            send(&mut writer.outbound, there, &what);
            sent += 1;
            writer.outbound.flush(nobody);
        }
        assert!(writer.inbound.announce_sleep() && writer.outbound.announce_starving());
        let mut received_count = 0;
        let mut woken = 0;
        while received_count < sent {
            received_count += reader.inbound.drain(|_, frame| drop(received(frame))) as u32;
            reader.outbound.owe_wakes(reader.inbound.relieved());
            reader.outbound.flush(|shard| {
                assert_eq!(shard, here);
                woken += 1;
            });
            assert_eq!(woken, 1, "as soon as something was read, and once");
            assert!(
                received_count == sent || !writer.outbound.announce_starving(),
                "there is room"
            );
            writer.inbound.awake();
            writer.outbound.flush(nobody);
        }
        assert!(!writer.outbound.has_backlog() && writer.outbound.announce_starving());
    }
}

#[test]
fn what_may_wait_for_room_has_a_bound() {
    let mut ports = connect::<u32>(2, 256);
    let mut reader = ports.pop().expect("two ports");
    let mut writer = ports.pop().expect("two ports");
    let mut sent = 0;
    while writer.outbound.has_room(ShardId(1)) {
        // Small frames, and such as go beside the ring.
        send(
            &mut writer.outbound,
            ShardId(1),
            &Sent::Command(sent, vec![1; 10 + 100 * (sent as usize % 2)]),
        );
        writer.outbound.flush(|_| ());
        sent += 1;
    }
    let staged = writer.outbound.staged_bytes();
    assert!(
        (LINK_STAGED_BYTES_MAX..LINK_STAGED_BYTES_MAX + 200).contains(&staged),
        "{staged}"
    );
    while writer.outbound.has_backlog() {
        reader.inbound.drain(|_, frame| drop(received(frame)));
        writer.outbound.flush(|_| ());
    }
    assert_eq!(writer.outbound.staged_bytes(), 0);
    assert!(writer.outbound.has_room_everywhere());
}

/// The sender's time comes before what it sends, once for each millisecond, and to each target.
#[test]
fn frames_carry_the_senders_time() {
    let mut ports = connect::<u32>(3, 1 << 10);
    let mut heard = Vec::new();
    for (now, target) in [(5, 1), (5, 1), (7, 2), (7, 1), (6, 1), (9, 1)] {
        ports[0].outbound.now = UnixMs(now);
        ports[0].outbound.message(ShardId(target), now as u32);
        ports[0].outbound.flush(|_| ());
        ports[target as usize].inbound.drain(|_, frame| match frame {
            Frame::Clock(now) => heard.push(now.0),
            Frame::Message(sent_at) => assert!(u64::from(sent_at) <= heard.last().copied().unwrap_or(0)),
            _ => panic!("nothing else is sent"),
        });
    }
    assert_eq!(heard, [5, 7, 7, 9]);
}

/// Sends a reply of so many bytes.
fn reply(outbound: &mut Outbound<u32>, to: u16, sequence: u32, length: usize) {
    let header = ReplyHeader {
        sequence,
        ..ReplyHeader::default()
    };
    outbound.reply(ShardId(to), &header, |buffer| buffer.resize(buffer.len() + length, 0));
}

/// What has come: the numbers of replies and messages.
fn drained(port: &mut Port<u32>) -> Vec<u32> {
    let mut numbers = Vec::new();
    port.inbound.drain(|_, frame| {
        numbers.push(match frame {
            Frame::Reply { header, .. } => header.sequence,
            Frame::Message(number) => number,
            other => panic!("nobody has sent {other:?}"),
        });
    });
    numbers
}

#[test]
fn nothing_leaves_a_pass_before_it_is_released() {
    let mut ports = connect::<u32>(2, 64 << 10);
    ports[0].outbound.hold(true);
    for sequence in 0..20 {
        reply(&mut ports[0].outbound, 1, sequence, GATHERED_BYTES_MAX / 4);
        assert_eq!(
            drained(&mut ports[1]),
            Vec::new(),
            "so much has gathered that it would have been published"
        );
    }
    ports[0].outbound.slots(ShardId(1), 100);
    reply(&mut ports[0].outbound, 1, 20, 0);
    ports[0].outbound.release(Some(1), |_| {});
    let expected: Vec<u32> = (0..=20).chain([100]).collect();
    assert_eq!(drained(&mut ports[1]), expected, "slots come last");
}

#[test]
fn slots_wait_for_all_frames_of_their_pass_on_all_links() {
    let mut ports = connect::<u32>(3, 1 << 10);
    ports[0].outbound.hold(true);
    // Pass 1: more for shard 1 than its ring takes, and a slot for shard 2.
    (0..8).for_each(|sequence| reply(&mut ports[0].outbound, 1, sequence, 200));
    ports[0].outbound.slots(ShardId(2), 100);
    ports[0].outbound.release(Some(1), |_| {});
    // Pass 2: something for shard 2, which overtakes that slot, and another slot, which does not.
    reply(&mut ports[0].outbound, 2, 50, 0);
    ports[0].outbound.slots(ShardId(2), 101);
    ports[0].outbound.release(Some(2), |_| {});
    assert_eq!(drained(&mut ports[2]), [50]);
    assert!(!drained(&mut ports[1]).is_empty());
    // There is room for the rest of pass 1 now.
    ports[0].outbound.release(None, |_| {});
    assert_eq!(drained(&mut ports[2]), [100, 101]);
    assert!(!ports[0].outbound.has_backlog());
}

#[test]
fn a_link_shows_a_bound_below_what_is_staged_in_it() {
    let mut ports = connect::<u32>(3, 1 << 10);
    ports[0].outbound.hold(true);
    let send = |ports: &mut [Port<u32>], turn, count| {
        (0..count).for_each(|sequence| reply(&mut ports[0].outbound, 1, sequence, 200));
        ports[0].outbound.release(turn, |_| {});
    };
    send(&mut ports, Some(7), 1);
    assert_eq!(ports[1].inbound.bound(), NO_BOUND, "all of it is in the ring");
    send(&mut ports, Some(9), 8);
    send(&mut ports, Some(12), 8);
    assert_eq!(ports[1].inbound.bound(), 8);
    assert_eq!(ports[2].inbound.bound(), NO_BOUND, "nothing is staged there");
    let mut bounds = Vec::new();
    while ports[0].outbound.has_backlog() {
        drained(&mut ports[1]);
        send(&mut ports, None, 0);
        bounds.push(ports[1].inbound.bound());
    }
    bounds.dedup();
    assert_eq!(bounds, [8, 11, NO_BOUND]);
}

/// There is one for each pair of shards.
#[test]
fn a_link_gives_back_what_many_parcels_have_taken() {
    let mut ports = connect::<u32>(2, 1024);
    let taken_bytes = ports[0].outbound.memory_bytes();
    let count = 40 * PARCELS_MAX as u32;
    for sequence in 0..count {
        ports[0].outbound.message(ShardId(1), sequence);
    }
    let mut next = 0;
    while next < count {
        ports[0].outbound.flush(|_| ());
        for sequence in drained(&mut ports[1]) {
            assert_eq!(sequence, next);
            next += 1;
        }
    }
    ports[0].outbound.flush(|_| ());
    let kept_bytes = STAGED_BYTES_KEPT + 2 * PARCELS_MAX * size_of::<(u64, Parcel<u32>)>();
    let left_bytes = ports[0].outbound.memory_bytes() - taken_bytes;
    assert!(left_bytes <= kept_bytes, "{left_bytes}");
}
