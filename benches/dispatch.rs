//! The whole way of a request without sockets: bytes in, the command run, the reply's bytes out. One shard, pipelines of 16.
//!
//! To count instructions: `valgrind --tool=callgrind` around the bench program with `--profile-time 1 <name>`.

use criterion::{Criterion, Throughput, criterion_group};
use shardis::base::clock::UnixMs;
use shardis::base::random::Random;
use shardis::base::slot::SLOT_COUNT;
use shardis::client::ClientTable;
use shardis::command::local::{Executor, LocalOptions, Surroundings};
use shardis::command::{FAMILIES, Local, Node, Registry};
use shardis::config::{Config, Settings};
use shardis::resp::OwnedArgs;
use shardis::shard::{EffectSwitch, Realm, ShardId, TicketSource, link};
use shardis::stats::MemoryAccount;
use shardis::store::{HashSeed, Occupancy};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PIPELINE: usize = 16;
const KEY_COUNT: usize = 10_000;

struct Nowhere;

impl Surroundings for Nowhere {
    fn apply(&self, _: &str, _: &Settings) -> Result<(), String> {
        Ok(())
    }
    fn shut_down(&self) {}
}

type Spawned = Pin<Box<dyn Future<Output = ()>>>;

/// No command of these benchmarks is asynchronous.
struct NoTasks;

impl Executor for NoTasks {
    fn spawn(&self, _: Spawned) {}
    fn sleep(&self, _: Duration) -> Spawned {
        Box::pin(async {})
    }
}

fn one_shard() -> Rc<RefCell<Local>> {
    let mut random = Random::with_seed(7);
    let config =
        Config::load_from(&[], &mut std::io::empty(), std::path::Path::new("/")).expect("the defaults are valid");
    let node = Arc::new(Node {
        started_at: UnixMs(1_700_000_000_000),
        run_id: random.random_hex(40),
        replid: random.random_hex(40),
        shards: 1,
        clients: ClientTable::new(),
        registry: Box::leak(Box::new(Registry::new(FAMILIES, &[]).expect("the registry is whole"))),
        config: Mutex::new(config),
        executable: String::new(),
        memory_peak: Default::default(),
        memory_at_start: Default::default(),
        memory: MemoryAccount::new(1),
        occupancy: Arc::new(Occupancy::new(SLOT_COUNT)),
        shutdown: Mutex::new(None),
        surroundings: Box::new(Nowhere),
    });
    let local = Local::new(LocalOptions {
        id: ShardId(0),
        node,
        realm: Realm {
            shard_count: 1,
            slot_count: SLOT_COUNT as u16,
            tickets: TicketSource::new(),
            effects: EffectSwitch::new(),
            effect_lag_bytes_max: u64::MAX,
        },
        seed: HashSeed([1, 2]),
        port: link::connect(1, 64 * 1024).pop().expect("one port for one shard"),
        executor: Rc::new(NoTasks),
    });
    let is_taken = local.borrow_mut().connect(0, 0, "127.0.0.1:1", "127.0.0.1:2", true);
    assert!(is_taken, "the first client is taken");
    local
}

/// Sends what a client would, and takes the replies away.
fn send(local: &RefCell<Local>, requests: &[u8]) -> usize {
    let mut local = local.borrow_mut();
    local.begin_pass();
    local.receive(0, requests);
    let client = local.clients.at(0).expect("the client is there");
    let reply_bytes = client.out.len();
    assert!(reply_bytes > 0);
    client.out.clear();
    while local.next_listed().is_some() {}
    reply_bytes
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

/// A name, batches that are sent first, and those that are measured.
type Workload = (&'static str, Vec<Vec<u8>>, Vec<Vec<u8>>);

fn workloads() -> Vec<Workload> {
    let value = "v".repeat(64);
    let set = requests(|n| format!("SET key:{n:012} {value}"));
    let push = requests(|_| "LPUSH list value".to_owned());
    let push_and_pop = requests(|n| if n % 2 == 0 { "LPUSH list value" } else { "LPOP list" }.to_owned());
    vec![
        ("ping", Vec::new(), requests(|_| "PING".to_owned())),
        ("get", set.clone(), requests(|n| format!("GET key:{n:012}"))),
        ("set", set.clone(), set),
        ("incr", Vec::new(), requests(|n| format!("INCR key:{n:012}"))),
        ("lpush_lpop", push, push_and_pop),
        ("sadd", Vec::new(), requests(|n| format!("SADD set element:{n:012}"))),
        (
            "hset",
            Vec::new(),
            requests(|n| format!("HSET hash element:{n:012} value")),
        ),
        (
            "zadd",
            Vec::new(),
            requests(|n| format!("ZADD sorted {n} element:{n:012}")),
        ),
    ]
}

fn dispatch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dispatch");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    for (name, before, measured) in workloads() {
        group.bench_function(name, |bencher| {
            let local = one_shard();
            for batch in &before {
                send(&local, batch);
            }
            let mut batches = measured.iter().cycle();
            bencher.iter(|| send(&local, batches.next().expect("a cycle has no end")));
        });
    }
    group.finish();
}

criterion_group!(benches, dispatch);

/// `SHARDIS_DISPATCH_BATCHES=n`: runs so many batches of each workload instead, for whoever counts instructions (valgrind
/// --tool=cachegrind); what two numbers of batches differ by is free of the preparations.
fn main() {
    let Some(batches) = std::env::var("SHARDIS_DISPATCH_BATCHES").ok() else {
        benches();
        Criterion::default().configure_from_args().final_summary();
        return;
    };
    let count: usize = batches.parse().expect("SHARDIS_DISPATCH_BATCHES is a number");
    for (name, before, measured) in workloads() {
        let local = one_shard();
        for batch in &before {
            send(&local, batch);
        }
        let bytes: usize = measured
            .iter()
            .cycle()
            .take(count)
            .map(|batch| send(&local, batch))
            .sum();
        println!("{name}: {count} batches of {PIPELINE}, {bytes} bytes of replies");
    }
}
