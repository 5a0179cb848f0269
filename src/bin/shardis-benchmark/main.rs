//! `shardis-benchmark`: load on any Redis-compatible server, and what became of it.
//!
//! Modules in reading order:
//!
//! | module | idea |
//! |---|---|
//! | `options` | the command line, resolved into a plan |
//! | `template` | requests as images with digits written over them |
//! | `distribution` | which key is asked for |
//! | `reply` | where a reply ends, without parsing it |
//! | `connection` | sockets, and what is said before the load |
//! | `cluster` | which node or port owns a key |
//! | `worker` | the epoll loop of one thread |
//! | `tally` | counts and histograms, merged over threads |
//! | `report`, `html` | the result as text, JSON and a page |
//!
//! The program stands beside the server's library and uses none of it: it must measure other servers as fairly, and a
//! mistake that both shared (in the hash slots, in RESP) would not be seen.
//!
//! A run: connect everything, write the key space if asked to, start all threads on one time, merge their tallies.
//! Exit status: 0, or 1 with a message when the load could not be run as asked. Errors in replies are part of the
//! result.

mod cluster;
mod connection;
mod distribution;
mod html;
mod options;
mod reply;
mod report;
mod tally;
mod template;
mod worker;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use nix::{
    errno::Errno,
    sched::{CpuSet, sched_setaffinity},
    sys::{
        resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
        time::TimeVal,
    },
    unistd::Pid,
};
use thiserror::Error;

use crate::{
    cluster::Topology,
    connection::ConnectError,
    options::{Extent, OptionError, Options, Plan},
    report::Report,
    tally::Tally,
    worker::{Load, Pace, RunError, Worker},
};

/// Requests on the way for each client while the key space is written, unless the load has more.
const PRELOAD_PIPELINE: usize = 64;
/// All threads begin this long after the last of them was told to.
const START_DELAY: Duration = Duration::from_millis(5);
/// File descriptors beyond the connections: standard streams, epoll and timer of each thread, the result's files.
const SPARE_DESCRIPTORS: u64 = 64;

/// Why there is no result.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Options(#[from] OptionError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("a thread could not be pinned to CPU {cpu}: {source}")]
    Pin { cpu: usize, source: Errno },
    #[error("{needed} connections need a higher limit of open files than {limit} (see ulimit -n)")]
    Descriptors { needed: u64, limit: u64 },
    #[error("{0} requests of the preload had no reply in time")]
    Preload(u64),
    #[error("{call}: {source}")]
    System { call: &'static str, source: io::Error },
    #[error("Could not write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("shardis-benchmark: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let cpu_count = thread::available_parallelism().map_or(1, usize::from);
    let plan = options.resolve(cpu_count)?;
    let stop = Arc::new(AtomicBool::new(false));
    // The first interrupt ends the load and shows what there is; the second ends the program.
    let register = || {
        let interrupt = signal_hook::consts::SIGINT;
        signal_hook::flag::register_conditional_shutdown(interrupt, 1, stop.clone())?;
        signal_hook::flag::register(interrupt, stop.clone())
    };
    register().map_err(|source| Failure::System {
        call: "sigaction",
        source,
    })?;
    let mut workers = connect(&plan)?;
    let origin = Instant::now();
    let mut first_error = None;
    if plan.preload.is_some() {
        let tally = preload(&plan, &mut workers, origin, &stop)?;
        if tally.unanswered_count > 0 {
            return Err(Failure::Preload(tally.unanswered_count));
        }
        if let Some((_, text)) = &tally.first_error {
            eprintln!("preload: {} errors, the first: {text}", tally.error_count);
        }
        if !options.quiet {
            let seconds = tally.elapsed_ns() as f64 / 1e9;
            println!("preload: {} keys in {seconds:.2} s", tally.latency().len());
        }
        first_error = tally.first_error;
    }
    let Some(extent) = plan.extent else {
        return Ok(());
    };
    let cpu_before = cpu_time();
    let mut tally = measure(&plan, extent, &mut workers, origin, &stop)?;
    let cpu_s = (cpu_time() - cpu_before).as_secs_f64();
    tally.first_error = first_error.or(tally.first_error);
    let report = Report::new(options, &plan, &tally, cpu_s);
    if !options.quiet {
        print!("{}", report.text());
    }
    if let Some(path) = &options.json {
        let mut text = format!("{:#}", report.json());
        text.push('\n');
        write_file(path, &text)?;
    }
    if let Some(path) = &options.html {
        write_file(path, &html::page(&report))?;
    }
    Ok(())
}

/// Opens all connections, dealt out evenly over the threads and the servers.
fn connect(plan: &Plan) -> Result<Vec<Worker>, Failure> {
    let topology = if plan.is_cluster {
        let contact = &plan.endpoints[0];
        let socket = plan.connector.open(contact)?;
        Topology::discover(&socket, contact)?
    } else {
        let mut topology = Topology::single(plan.endpoints[0].clone());
        for endpoint in &plan.endpoints[1..] {
            topology.node_index(endpoint);
        }
        topology
    };
    let lane_count = if plan.is_cluster { topology.nodes.len() } else { 1 };
    raise_descriptor_limit((plan.client_count * lane_count) as u64)?;
    let mut workers = (0..plan.thread_count as u64)
        .map(|index| {
            Worker::new(
                plan.connector.clone(),
                topology.clone(),
                plan.is_cluster,
                plan.seed.wrapping_add(index),
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    for client in 0..plan.client_count {
        workers[client % plan.thread_count].add_client(client % plan.endpoints.len())?;
    }
    Ok(workers)
}

fn raise_descriptor_limit(connection_count: u64) -> Result<(), Failure> {
    let system = |errno: Errno| Failure::System {
        call: "setrlimit",
        source: errno.into(),
    };
    let needed = connection_count + SPARE_DESCRIPTORS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(system)?;
    if needed > hard {
        return Err(Failure::Descriptors {
            needed: connection_count,
            limit: hard,
        });
    }
    if needed > soft {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(system)?;
    }
    Ok(())
}

/// Writes every key once.
fn preload(plan: &Plan, workers: &mut [Worker], origin: Instant, stop: &AtomicBool) -> Result<Tally, Failure> {
    let taken = AtomicU64::new(0);
    let now_ns = origin.elapsed().as_nanos() as u64;
    let load = Load {
        mix: plan.preload.as_ref().unwrap_or(&plan.mix),
        keys: None,
        key_count: plan.key_count,
        pipeline: plan.pipeline.max(PRELOAD_PIPELINE),
        pace: Pace::Closed,
        start_ns: now_ns,
        measure_from_ns: now_ns,
        end_ns: u64::MAX,
        budget: (plan.key_count, &taken),
        interval_ns: plan.interval.as_nanos() as u64,
        drain_ns: plan.connector.timeout.as_nanos() as u64,
        origin,
        stop,
    };
    run_all(plan, workers, |_| load.clone())
}

/// The load itself.
fn measure(
    plan: &Plan,
    extent: Extent,
    workers: &mut [Worker],
    origin: Instant,
    stop: &AtomicBool,
) -> Result<Tally, Failure> {
    let taken = AtomicU64::new(0);
    let start_ns = (origin.elapsed() + START_DELAY).as_nanos() as u64;
    let measure_from_ns = start_ns + plan.warmup.as_nanos() as u64;
    let (request_count, end_ns) = match extent {
        Extent::Requests(count) => (count, u64::MAX),
        Extent::Duration(duration) => (u64::MAX, measure_from_ns + duration.as_nanos() as u64),
    };
    let worker_count = workers.len();
    run_all(plan, workers, |index| Load {
        mix: &plan.mix,
        keys: Some(&plan.distribution),
        key_count: plan.key_count,
        pipeline: plan.pipeline,
        pace: match plan.rate {
            None => Pace::Closed,
            Some(rate) => {
                // The workers' requests interleave: together they are evenly spaced at the whole rate.
                let gap_ns = 1e9 / rate;
                Pace::Open {
                    first_ns: start_ns + (index as f64 * gap_ns) as u64,
                    gap_ns: gap_ns * worker_count as f64,
                }
            }
        },
        start_ns,
        measure_from_ns,
        end_ns,
        budget: (request_count, &taken),
        interval_ns: plan.interval.as_nanos() as u64,
        drain_ns: plan.connector.timeout.as_nanos() as u64,
        origin,
        stop,
    })
}

/// Runs a load on a thread for each worker and merges the tallies. The first failure ends all of them.
fn run_all<'load>(
    plan: &Plan,
    workers: &mut [Worker],
    load_of: impl Fn(usize) -> Load<'load>,
) -> Result<Tally, Failure> {
    let outcomes: Vec<Result<Tally, Failure>> = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .enumerate()
            .map(|(index, worker)| {
                let load = load_of(index);
                let cpu = (!plan.cpus.is_empty()).then(|| plan.cpus[index % plan.cpus.len()]);
                scope.spawn(move || {
                    let outcome = pin(cpu).and_then(|()| Ok(worker.run(&load)?));
                    if outcome.is_err() {
                        load.stop.store(true, std::sync::atomic::Ordering::Relaxed);
                    }
                    outcome
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a worker does not panic"))
            .collect()
    });
    let mut merged: Option<Tally> = None;
    for outcome in outcomes {
        let tally = outcome?;
        match &mut merged {
            Some(merged) => merged.merge(tally),
            None => merged = Some(tally),
        }
    }
    Ok(merged.expect("a plan has at least one thread"))
}

fn pin(cpu: Option<usize>) -> Result<(), Failure> {
    let Some(cpu) = cpu else {
        return Ok(());
    };
    let mut cpus = CpuSet::new();
    cpus.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
        .map_err(|source| Failure::Pin { cpu, source })
}

/// CPU time of this process so far, user and system.
fn cpu_time() -> Duration {
    let duration =
        |time: TimeVal| Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64);
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| {
        duration(usage.user_time()) + duration(usage.system_time())
    })
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|source| Failure::Write {
        path: path.to_owned(),
        source,
    })
}
