//! The whole way of a request without sockets: bytes in, the command run, the reply's bytes out. Pipelines of 16 on one shard, and
//! transactions of any length on one and on four. Beside them, MSET of very many pairs in reads
//! as a network plane makes them. All of these must take the same time for each command, or pair, at any length.
//!
//! To count instructions: `SHARDIS_BENCH_ROUNDS=n` runs each benchmark whose name is among the arguments so many times and nothing
//! else. Two runs under `valgrind --tool=callgrind`, with n and 2n, differ by n rounds (of 16 requests, or of one transaction).

use criterion::{Criterion, Throughput, criterion_group};
use shardis::base::clock::Clock;
use shardis::base::random::Random;
use shardis::command::FAMILIES;
use shardis::engine::assembly::{Equipment, Plan, Tasks};

use shardis::engine::wire::{Handed, Wire};
use shardis::engine::{Local, Registry};
use shardis::resp::{OwnedArgs, ReplyBuf};
use shardis::shard::ShardId;
use std::cell::RefCell;
use std::rc::Rc;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PIPELINE: usize = 16;
/// What one reading from a socket brings at most.
const RECEIVED_BYTES: usize = 16 * 1024;
const KEY_COUNT: usize = 10_000;

fn shards(count: usize) -> Vec<Rc<RefCell<Local>>> {
    let registry = Box::leak(Box::new(Registry::new(FAMILIES, &[]).expect("the registry is whole")));
    let shards = Plan::new(registry, count).assemble(|_| Equipment {
        clock: Clock::Host,
        random: Random::with_seed(7),
        // No command of these benchmarks is asynchronous: it stays without tasks.
        executor: Rc::new(Tasks::default()),
    });
    let shards = shards.expect("the defaults are valid");
    let is_taken = shards[0].borrow_mut().connect(0, 0, "127.0.0.1:1", "127.0.0.1:2", true);
    assert!(is_taken, "the first client is taken");
    shards
}

/// Where the replies go: they are counted.
#[derive(Default)]
struct Sink {
    bytes: usize,
}

impl Wire for Sink {
    fn send(&mut self, _: u32, output: &mut ReplyBuf) -> Handed {
        self.bytes += output.len();
        output.clear();
        Handed::Taken
    }
    fn queued_bytes(&self, _: u32) -> usize {
        0
    }
    fn read_on(&mut self, _: u32, _: bool) {}
    fn close(&mut self, _: u32, _: bool) {}
    fn wake(&mut self, _: ShardId) {}
}

/// Sends what a client would, and takes the replies away.
fn send(shards: &[Rc<RefCell<Local>>], requests: &[u8]) -> usize {
    let mut sink = Sink::default();
    let mut left = requests;
    // What a transaction takes more than the socket's buffer comes in pieces.
    while !left.is_empty()
        || shards[0]
            .borrow_mut()
            .clients
            .at(0)
            .is_some_and(|client| client.has_work())
    {
        let mut first = shards[0].borrow_mut();
        first.begin_pass();
        let piece = left.split_off(..left.len().min(RECEIVED_BYTES)).unwrap_or_default();
        if !piece.is_empty() {
            first.receive(0, piece);
        }
        first.finish_pass(&mut sink);
        drop(first);
        for shard in &shards[1..] {
            let mut shard = shard.borrow_mut();
            shard.begin_pass();
            shard.finish_pass(&mut sink);
        }
    }
    assert!(sink.bytes > 0);
    sink.bytes
}

fn requests(line: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
    (0..KEY_COUNT / PIPELINE)
        .map(|batch| {
            let mut bytes = Vec::new();
            for number in 0..PIPELINE {
                let line = line(batch * PIPELINE + number);
                let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                OwnedArgs::from_slices(&words).as_args().encode_resp(&mut bytes);
            }
            bytes
        })
        .collect()
}

/// A transaction of so many INCRs.
fn transaction(count: usize) -> Vec<u8> {
    let mut bytes = b"MULTI\r\n".to_vec();
    for number in 0..count {
        let key = format!("key:{number:012}");
        OwnedArgs::from_slices(&["INCR", &key])
            .as_args()
            .encode_resp(&mut bytes);
    }
    bytes.extend_from_slice(b"EXEC\r\n");
    bytes
}

/// One benchmark: shards, what is sent before, and what is measured.
struct Load {
    name: String,
    shards: usize,
    elements: usize,
    before: Vec<Vec<u8>>,
    measured: Vec<Vec<u8>>,
}

/// The loads whose names are wanted. (To make the requests of all of them takes longer than to run most of them.)
fn loads(is_wanted: impl Fn(&str) -> bool) -> Vec<Load> {
    let value = "v".repeat(64);
    let mut loads = Vec::new();
    let mut load = |name: &str, before: Option<&dyn Fn(usize) -> String>, measured: &dyn Fn(usize) -> String| {
        if !is_wanted(name) {
            return;
        }
        loads.push(Load {
            name: name.to_owned(),
            shards: 1,
            elements: PIPELINE,
            before: before.map_or_else(Vec::new, requests),
            measured: requests(measured),
        });
    };
    let set = |n| format!("SET key:{n:012} {value}");
    load("ping", None, &|_| "PING".to_owned());
    load("get", Some(&set), &|n| format!("GET key:{n:012}"));
    load("set", Some(&set), &set);
    load("incr", None, &|n| format!("INCR key:{n:012}"));
    let push = |_| "LPUSH list value".to_owned();
    let pop = |_| "LPOP list".to_owned();
    load("lpush_lpop", Some(&push), &|n| {
        if n % 2 == 0 { push(n) } else { pop(n) }
    });
    load("sadd", None, &|n| format!("SADD set element:{n:012}"));
    load("hset", None, &|n| format!("HSET hash element:{n:012} value"));
    load("zadd", None, &|n| format!("ZADD sorted {n} element:{n:012}"));
    // The least transaction that is one: most of its time goes into becoming a unit of work.
    let exec = |n| match n % 4 {
        0 => "MULTI".to_owned(),
        3 => "EXEC".to_owned(),
        place => format!("SET {{key:{:012}}}:{place} {value}", n / 4),
    };
    load("exec", Some(&exec), &exec);
    for count in [1_000, 10_000, 100_000, 400_000] {
        let name = format!("mset_of_{count}");
        if !is_wanted(&name) {
            continue;
        }
        let mut random = Random::with_seed(5);
        let mut words = vec![b"MSET".to_vec()];
        for _ in 0..count {
            words.push(format!("key:{:012}", random.below(1_000_000_000_000)).into_bytes());
            words.push(b"value".to_vec());
        }
        let mut request = Vec::new();
        OwnedArgs::from_slices(&words).as_args().encode_resp(&mut request);
        loads.push(Load {
            name,
            shards: 1,
            elements: count,
            before: Vec::new(),
            measured: vec![request],
        });
    }
    for shards in [1, 4] {
        // By the command, these should be the same.
        for count in [16, 1000, 16_000] {
            let name = format!("exec_of_{count}_on_{shards}");
            if !is_wanted(&name) {
                continue;
            }
            loads.push(Load {
                name,
                shards,
                elements: count,
                before: Vec::new(),
                measured: vec![transaction(count)],
            });
        }
    }
    loads
}

impl Load {
    fn prepare(&self) -> Vec<Rc<RefCell<Local>>> {
        let shards = shards(self.shards);
        for batch in &self.before {
            send(&shards, batch);
        }
        shards
    }
}

fn dispatch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dispatch");
    for load in loads(|_| true) {
        group.throughput(Throughput::Elements(load.elements as u64));
        group.bench_function(&load.name, |bencher| {
            let shards = load.prepare();
            let mut batches = load.measured.iter().cycle();
            bencher.iter(|| send(&shards, batches.next().expect("a cycle has no end")));
        });
    }
    group.finish();
}

criterion_group!(benches, dispatch);

fn main() {
    let Some(rounds) = std::env::var("SHARDIS_BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
    else {
        benches();
        return Criterion::default().configure_from_args().final_summary();
    };
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for load in loads(|name| wanted.iter().any(|wanted| wanted == name)) {
        let shards = load.prepare();
        for batch in load.measured.iter().cycle().take(rounds) {
            send(&shards, batch);
        }
    }
}
