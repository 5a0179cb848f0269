//! What the shard layer costs: the fast path, a loan and its return, a hop over a link and back.
//!
//! All figures are CPU time of the process, which neighbours on the machine disturb less than the wall clock. For the
//! hop between two threads it is both sides together, including what they spend looking for work while the other side
//! has none for them: an upper bound. `cargo bench --bench shard`.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shardis::shard::link::{CommandHeader, Frame, Port, ReplyHeader, connect, ring_bytes_for};
use shardis::shard::{
    ConnRef, Footprint, Message, Outbox, Realm, Route, Shard, ShardId, TicketSource, Unit, Verdict, View, Work,
};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Adds one to each of its slots.
struct Count {
    slots: [u16; 2],
}

impl Work<u64> for Count {
    type Env = ();

    fn run(&mut self, view: &mut View<'_, u64>, _: &mut ()) -> Verdict {
        for slot in self.slots {
            *view.slot(slot).expect("the slots of the footprint are there") += 1;
        }
        Verdict::Done
    }
}

fn shards(shard_count: u16) -> Vec<Shard<u64, Count>> {
    let realm = Realm {
        shard_count,
        slot_count: 16384,
        tickets: TicketSource::new(),
    };
    (0..shard_count)
        .map(|id| Shard::new(ShardId(id), &realm, |_| Box::new(0)))
        .collect()
}

const CLIENT: ConnRef = ConnRef {
    shard: ShardId(0),
    index: 1,
    generation: 1,
};

fn fast_path(criterion: &mut Criterion<CpuTime>) {
    let mut shard = shards(2).remove(0);
    let mut slot = 0;
    criterion.bench_function("try_view, one slot", |bencher| {
        bencher.iter(|| {
            slot = (slot + 4099) & 8191;
            let mut view = shard
                .try_view(black_box(&[slot]), black_box(CLIENT))
                .expect("the slot is at home");
            *view.slot(slot).expect("it is in the view") += 1;
        });
    });
    criterion.bench_function("route, one slot", |bencher| {
        bencher.iter(|| {
            slot = (slot + 4099) & 8191;
            assert_eq!(shard.route_slots(black_box(&[slot])), Route::Here);
        });
    });
    let mut out = Outbox::new();
    criterion.bench_function("submit, two slots at home", |bencher| {
        bencher.iter(|| {
            shard.submit(unit([1, 2]), &mut (), &mut out);
            black_box(out.finished.drain(..).count());
        });
    });
}

fn unit(slots: [u16; 2]) -> Unit<Count> {
    Unit {
        work: Count { slots },
        footprint: Footprint::Slots(slots.into_iter().collect()),
        origin: CLIENT,
        ticket: None,
    }
}

/// A unit of work on slots of two shards: ask, grant, run, return. One thread, so without the links.
fn loan(criterion: &mut Criterion<CpuTime>) {
    let mut shards = shards(2);
    let (mut out, mut other_out) = (Outbox::new(), Outbox::new());
    criterion.bench_function("loan and return, two slots of two shards", |bencher| {
        bencher.iter(|| {
            shards[0].submit(unit([1, 16000]), &mut (), &mut out);
            while !out.messages.is_empty() {
                for (to, message) in out.messages.drain(..) {
                    shards[to.0 as usize].handle(ShardId(0), message, &mut (), &mut other_out);
                }
                for (to, message) in other_out.messages.drain(..) {
                    shards[to.0 as usize].handle(ShardId(1), message, &mut (), &mut out);
                }
            }
            assert_eq!(out.finished.drain(..).count(), 1);
        });
    });
}

type Bench = Message<u64, Count>;

/// Sends one command as a server would, a GET of a key of 16 bytes.
fn send(port: &mut Port<Bench>, sequence: u32) {
    let header = CommandHeader {
        connection: 7,
        generation: 1,
        sequence,
        slot: 16000,
        ..CommandHeader::default()
    };
    port.outbound.command(ShardId(1), &header, |arguments| {
        arguments.extend_from_slice(b"key:000000000042")
    });
}

/// Answers what has arrived, with a value of 64 bytes.
fn echo(port: &mut Port<Bench>) -> usize {
    let Port { inbound, outbound, .. } = port;
    let frame_count = inbound.drain(|from, frame| {
        let Frame::Command { header, arguments } = frame else {
            panic!("only commands were sent")
        };
        black_box(arguments);
        let reply = ReplyHeader {
            connection: header.connection,
            generation: header.generation,
            sequence: header.sequence,
            flags: 0,
        };
        outbound.reply(from, &reply, |resp| {
            resp.extend_from_slice(b"$64\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n");
        });
    });
    outbound.flush(|_| panic!("nobody sleeps"));
    frame_count
}

fn take_replies(port: &mut Port<Bench>) -> usize {
    port.inbound.drain(|_, frame| {
        let Frame::Reply { header, resp } = frame else {
            panic!("only replies were sent")
        };
        black_box((header.sequence, resp));
    })
}

fn ports() -> (Port<Bench>, Port<Bench>) {
    let mut ports = connect::<Bench>(2, ring_bytes_for(2));
    let second = ports.pop().expect("two ports");
    (ports.pop().expect("two ports"), second)
}

fn hop(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("hop and back");
    for in_flight in [32, 256] {
        group.throughput(Throughput::Elements(in_flight as u64));
        let (mut first, mut second) = ports();
        group.bench_function(format!("one thread, {in_flight} in flight"), |bencher| {
            bencher.iter(|| {
                (0..in_flight).for_each(|sequence| send(&mut first, sequence));
                first.outbound.flush(|_| panic!("nobody sleeps"));
                assert_eq!(echo(&mut second), in_flight as usize);
                assert_eq!(take_replies(&mut first), in_flight as usize);
            });
        });
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = &stop;
            scope.spawn(move || {
                let mut idle_count = 0;
                while !stop.load(Ordering::Relaxed) {
                    look(&mut idle_count, echo(&mut second));
                }
            });
            group.bench_function(format!("two threads' CPU, {in_flight} in flight"), |bencher| {
                bencher.iter_custom(|rounds| {
                    let start = CpuTime.start();
                    let (mut sent, mut received, mut idle_count) = (0, 0, 0);
                    let total = rounds * in_flight as u64;
                    while received < total {
                        // As connections do: each reply lets the next command go.
                        let room = (in_flight as u64 - (sent - received)).min(total - sent);
                        (0..room).for_each(|at| send(&mut first, (sent + at) as u32));
                        sent += room;
                        first.outbound.flush(|_| panic!("nobody sleeps"));
                        received += look(&mut idle_count, take_replies(&mut first)) as u64;
                    }
                    CpuTime.end(start)
                });
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

/// After many looks in vain the other side may not even be running: let it.
fn look(idle_count: &mut u32, found: usize) -> usize {
    *idle_count = if found == 0 { *idle_count + 1 } else { 0 };
    if *idle_count > 1000 {
        *idle_count = 0;
        std::thread::yield_now();
    }
    found
}

/// Measures the CPU time of the process, and shows it as times are shown.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)
            .expect("Linux has this clock")
            .into()
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, one: &Duration, two: &Duration) -> Duration {
        *one + *two
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = fast_path, loan, hop
}
criterion_main!(benches);
