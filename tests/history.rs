//! Records what real clients saw of the real server, and checks that it is linearizable: that there is an order of all
//! operations, in which each one that ended before another began comes first, and in which every reply is right.
//!
//! A round is a few clients, each on its own connection and thread, that do a handful of operations on a few keys on
//! different shards: single keys, several keys at once, renames, and transactions that watch. Every invocation and every
//! reply gets a number from one counter, so that what overlaps is known. The checker is the search of Wing and Gong (1993)
//! with the memory of Lowe (2017): operations that could come next are tried in turn, and a set of operations done with
//! the state that they led to is never looked into twice. Rounds are short, so the search is; the many rounds make up for
//! it.
//!
//! That the checker finds anything is shown by histories that are corrupted on purpose.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use support::{Client, Server, Value};

const CLIENT_COUNT: usize = 6;
/// Operations of a client in a round.
const OPERATION_COUNT: usize = 5;
/// Each lies on a shard of its own: their slots are 12706, 449, 4576 and 8455, and a shard of four begins with a quarter.
const KEYS: [&str; 4] = ["k1", "k2", "k3", "k4"];
const ROUND_COUNT: usize = 1500;
/// Rounds end by then, however many were done.
const TIME_MAX: Duration = Duration::from_secs(15);

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Call {
    Get(usize),
    Set(usize, i64),
    Incr(usize),
    GetAll,
    /// MSET of two keys.
    SetTwo([(usize, i64); 2]),
    Rename(usize, usize),
    /// MULTI, INCR, GET, EXEC.
    IncrAndGet(usize, usize),
    /// WATCH and GET of the first key, then, in a transaction, the second key set to one more than what was read.
    /// Nothing is answered if the first key was changed in between.
    CopyWatched(usize, usize),
}

/// What it is answered; `None` is a missing value.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    Done,
    Error,
    Values(Vec<Option<i64>>),
    /// The transaction did not run; what was read before it.
    Refused,
}

/// An operation with the moments between which it took effect.
#[derive(Clone, Debug)]
struct Operation {
    client: usize,
    call: Call,
    answer: Answer,
    invoked: u64,
    answered: u64,
}

type State = [Option<i64>; KEYS.len()];

/// What the call does to a state if the answer is right in it; nothing if it is not.
fn apply(state: &State, call: &Call, answer: &Answer) -> Option<State> {
    let mut next = *state;
    let right = match call {
        Call::Get(key) => Answer::Values(vec![state[*key]]),
        Call::GetAll => Answer::Values(state.to_vec()),
        Call::Set(key, value) => {
            next[*key] = Some(*value);
            Answer::Done
        }
        Call::SetTwo(pairs) => {
            for (key, value) in pairs {
                next[*key] = Some(*value);
            }
            Answer::Done
        }
        Call::Incr(key) => {
            next[*key] = Some(state[*key].unwrap_or(0) + 1);
            Answer::Values(vec![next[*key]])
        }
        Call::Rename(from, to) => match state[*from] {
            None => Answer::Error,
            Some(value) => {
                next[*from] = None;
                next[*to] = Some(value);
                Answer::Done
            }
        },
        Call::IncrAndGet(incremented, read) => {
            next[*incremented] = Some(state[*incremented].unwrap_or(0) + 1);
            Answer::Values(vec![next[*incremented], next[*read]])
        }
        // One that was refused changed nothing, and what it saw is not checked: the key was changed after the reading.
        Call::CopyWatched(..) if *answer == Answer::Refused => Answer::Refused,
        Call::CopyWatched(from, to) => {
            next[*to] = Some(state[*from].unwrap_or(0) + 1);
            // The read took effect with the transaction: nobody changed the key in between.
            Answer::Values(vec![state[*from]])
        }
    };
    (right == *answer).then_some(next)
}

/// Whether some order explains the history.
fn is_linearizable(history: &[Operation], start: State) -> bool {
    assert!(history.len() <= 64, "sets of operations are bits of a word");
    let all = u64::MAX >> (64 - history.len());
    let mut seen: HashSet<(u64, State)> = HashSet::new();
    let mut open = vec![(0u64, start)];
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        if !seen.insert((done, state)) {
            continue;
        }
        let waiting = || history.iter().enumerate().filter(|(index, _)| done & (1 << index) == 0);
        // Nothing may be passed over that ended before another began.
        let earliest_end = waiting().map(|(_, operation)| operation.answered).min();
        for (index, operation) in waiting() {
            if earliest_end.is_some_and(|end| operation.invoked > end) {
                continue;
            }
            if let Some(next) = apply(&state, &operation.call, &operation.answer) {
                open.push((done | 1 << index, next));
            }
        }
    }
    false
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Nil => None,
        other => Some(other.text().parse().unwrap_or_else(|_| panic!("not a number: {other}"))),
    }
}

/// Asks the server; what it answers.
fn ask(client: &mut Client, call: &Call) -> Answer {
    let one = |reply: Value| Answer::Values(vec![number(&reply)]);
    let done = |reply: Value| if reply.is_error() { Answer::Error } else { Answer::Done };
    match call {
        Call::Get(key) => one(client.call(&["GET", KEYS[*key]])),
        Call::Incr(key) => one(client.call(&["INCR", KEYS[*key]])),
        Call::Set(key, value) => done(client.call(&["SET", KEYS[*key], &value.to_string()])),
        Call::GetAll => {
            let mut words = vec!["MGET"];
            words.extend(KEYS);
            Answer::Values(client.call(&words).items().iter().map(number).collect())
        }
        Call::SetTwo([(a, x), (b, y)]) => {
            done(client.call(&["MSET", KEYS[*a], &x.to_string(), KEYS[*b], &y.to_string()]))
        }
        Call::Rename(from, to) => done(client.call(&["RENAME", KEYS[*from], KEYS[*to]])),
        Call::IncrAndGet(incremented, read) => {
            client.call(&["MULTI"]);
            client.call(&["INCR", KEYS[*incremented]]);
            client.call(&["GET", KEYS[*read]]);
            Answer::Values(client.call(&["EXEC"]).items().iter().map(number).collect())
        }
        Call::CopyWatched(from, to) => {
            client.call(&["WATCH", KEYS[*from]]);
            let read = number(&client.call(&["GET", KEYS[*from]]));
            client.call(&["MULTI"]);
            client.call(&["SET", KEYS[*to], &(read.unwrap_or(0) + 1).to_string()]);
            match client.call(&["EXEC"]) {
                Value::Nil => Answer::Refused,
                _ => Answer::Values(vec![read]),
            }
        }
    }
}

/// A call, and with it two different keys where it needs them.
fn random_call(rng: &mut fastrand::Rng) -> Call {
    let key = rng.usize(0..KEYS.len());
    let other = (key + rng.usize(1..KEYS.len())) % KEYS.len();
    let value = rng.i64(0..1000) * 1000;
    match rng.u32(0..10) {
        0 => Call::Get(key),
        1 => Call::Set(key, value),
        2 => Call::Incr(key),
        3 | 4 => Call::GetAll,
        5 => Call::SetTwo([(key, value), (other, value + 1)]),
        6 => Call::Rename(key, other),
        7 => Call::IncrAndGet(key, other),
        _ => Call::CopyWatched(key, other),
    }
}

/// Runs a round on connections that are there already.
fn round(clients: Vec<Client>, seed: u64) -> (Vec<Client>, Vec<Operation>) {
    let counter = Arc::new(AtomicU64::new(0));
    let start = Arc::new(Barrier::new(clients.len()));
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(index, mut client)| {
            let (counter, start) = (counter.clone(), start.clone());
            std::thread::spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed * CLIENT_COUNT as u64 + index as u64);
                let calls: Vec<Call> = (0..OPERATION_COUNT).map(|_| random_call(&mut rng)).collect();
                start.wait();
                let operations: Vec<Operation> = calls
                    .into_iter()
                    .map(|call| {
                        let invoked = counter.fetch_add(1, Ordering::SeqCst);
                        let answer = ask(&mut client, &call);
                        Operation {
                            client: index,
                            call,
                            answer,
                            invoked,
                            answered: counter.fetch_add(1, Ordering::SeqCst),
                        }
                    })
                    .collect();
                (client, operations)
            })
        })
        .collect();
    let mut history = Vec::new();
    let mut clients = Vec::new();
    for thread in threads {
        let (client, operations) = thread.join().expect("a client's thread ends by itself");
        clients.push(client);
        history.extend(operations);
    }
    history.sort_by_key(|operation| operation.invoked);
    (clients, history)
}

fn printed(history: &[Operation]) -> String {
    let lines = history.iter().map(|o| {
        format!(
            "{:3} to {:3}  client {}  {:?} -> {:?}",
            o.invoked, o.answered, o.client, o.call, o.answer
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_clients_see_is_linearizable() {
    let server = Server::shardis(4, &[]);
    let homes: HashSet<u16> = KEYS
        .iter()
        .map(|key| shardis::base::slot::key_slot(key.as_bytes()) / 4096)
        .collect();
    assert_eq!(homes.len(), KEYS.len(), "each key has a shard of its own");
    let first_seed = fastrand::u64(0..1 << 32);
    let deadline = Instant::now() + TIME_MAX;
    let mut clients: Vec<Client> = (0..CLIENT_COUNT).map(|_| server.client()).collect();
    let mut judge = server.client();
    let mut overlaps = 0;
    let mut refused = 0;
    let mut rounds = 0;
    for seed in first_seed..first_seed + ROUND_COUNT as u64 {
        if Instant::now() > deadline {
            break;
        }
        judge.call(&["FLUSHALL"]);
        let (back, history) = round(clients, seed);
        clients = back;
        assert!(
            is_linearizable(&history, [None; KEYS.len()]),
            "no order explains this (seed {seed}):\n{}",
            printed(&history)
        );
        overlaps += history
            .windows(2)
            .filter(|pair| pair[1].invoked < pair[0].answered)
            .count();
        refused += history
            .iter()
            .filter(|operation| operation.answer == Answer::Refused)
            .count();
        rounds += 1;
    }
    println!("{rounds} rounds from seed {first_seed}: {overlaps} overlapping pairs, {refused} transactions refused");
    assert!(rounds >= 20, "only {rounds} rounds in {TIME_MAX:?}");
    assert!(overlaps > rounds && refused > 0, "the clients did not meet");
}

fn operation(client: usize, times: (u64, u64), call: Call, answer: Answer) -> Operation {
    Operation {
        client,
        call,
        answer,
        invoked: times.0,
        answered: times.1,
    }
}

/// Half of an MSET seen by an MGET, a value that comes back, a lost increment: all are found.
#[test]
fn corrupted_histories_are_rejected() {
    let nothing = [None; KEYS.len()];
    let both = Call::SetTwo([(0, 1), (1, 2)]);
    let seen = |a, b| Answer::Values(vec![a, b, None, None]);
    let history = |answer: Answer| {
        vec![
            operation(0, (0, 3), both.clone(), Answer::Done),
            operation(1, (1, 2), Call::GetAll, answer),
        ]
    };
    assert!(is_linearizable(&history(seen(Some(1), Some(2))), nothing));
    assert!(is_linearizable(&history(seen(None, None)), nothing));
    assert!(!is_linearizable(&history(seen(Some(1), None)), nothing));
    let value = |value| Answer::Values(vec![value]);
    let stale = |second| {
        vec![
            operation(0, (0, 9), Call::Set(0, 5), Answer::Done),
            operation(1, (1, 2), Call::Get(0), value(Some(5))),
            operation(1, (3, 4), Call::Get(0), value(second)),
        ]
    };
    assert!(is_linearizable(&stale(Some(5)), nothing));
    assert!(!is_linearizable(&stale(None), nothing));
    let increments = |second| {
        vec![
            operation(0, (0, 3), Call::Incr(0), value(Some(1))),
            operation(1, (1, 2), Call::Incr(0), value(Some(second))),
        ]
    };
    assert!(is_linearizable(&increments(2), nothing));
    assert!(!is_linearizable(&increments(1), nothing));
    // A transaction that ran though its watched key was changed after the reading.
    let watched = vec![
        operation(0, (0, 1), Call::Set(0, 7), Answer::Done),
        operation(1, (2, 3), Call::CopyWatched(0, 1), value(None)),
    ];
    assert!(!is_linearizable(&watched, nothing));
}

/// Any single reply of a real history that is made wrong is noticed, if its value can come from nowhere.
#[test]
fn a_real_history_with_one_wrong_reply_is_rejected() {
    let server = Server::shardis(4, &[]);
    let clients: Vec<Client> = (0..CLIENT_COUNT).map(|_| server.client()).collect();
    let (_, history) = round(clients, 7);
    assert!(is_linearizable(&history, [None; KEYS.len()]));
    let mut corrupted: BTreeMap<usize, Vec<Operation>> = BTreeMap::new();
    for (index, operation) in history.iter().enumerate() {
        if let Answer::Values(values) = &operation.answer {
            let mut wrong = history.clone();
            let mut values = values.clone();
            values[0] = Some(-77);
            wrong[index].answer = Answer::Values(values);
            corrupted.insert(index, wrong);
        }
    }
    assert!(!corrupted.is_empty());
    for (index, wrong) in corrupted {
        assert!(
            !is_linearizable(&wrong, [None; KEYS.len()]),
            "operation {index} is wrong:\n{}",
            printed(&wrong)
        );
    }
}
