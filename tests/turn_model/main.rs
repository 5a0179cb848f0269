//! Turns, checked exhaustively on small cases: rules 1, 2, 3, 5 and 8 of the one order for all that happens.
//!
//! ```text
//!          listeners only                            if it wrote, or has messages
//! a pass:  Count ShardBound LinkBound  Drain    Run  Read Show Take   Write Say  Wait   Release           Settle Lift
//!          the counter, then every     link by       shown before     rule 2     until  frame by frame,   the links' bounds,
//!          bound: rule 8               link          taken: rule 1               rule 3 slots last        then the shard's own
//! ```
//!
//! A state is a few shards in such passes ([`pass`]), the links between them, the log and the clients ([`state`]); a step is
//! what another shard or a client can see at one stroke ([`model`]). One pass of a shard is in flight at a time: while it
//! waits, the shard runs nothing. Units of work ([`case`]) write, read, publish to client 0, are tracked for it (it caches
//! what it read; the next write sends it an invalidation) or subscribe it, on slots that are lent to the shard that runs them.
//! Which unit waits for which slot is the matter of the loan model: here slots are taken in their order, and nothing
//! deadlocks. A link has room for any number of frames or for a few; those that find none stay staged. Nobody dies here (what deaths
//! leave is the matter of the recovery model): rule 2 says "written", and the dense prefix of the numbers that are written is what the
//! process leaves. Under `always` each part has a disk and a syncer, and the dense prefix of what is on disk is what the machine leaves.
//!
//! All states that can be reached are visited, and in each of them
//!
//! 1. the writes of a slot have ascending turns;
//! 2. what was shown to a client, or to another shard, is in the dense written prefix with all that it depends on;
//! 3. under `always`, what was shown to a client is in the dense prefix on disk with all that it depends on;
//! 4. units are whole in the log, and closed under what they saw, whatever prefix of turns is taken;
//! 5. messages come in the order of turns, after what caused them, each once, and none from before the subscription;
//! 6. when nothing more can happen, no cache is stale, no message is missing and nothing waits;
//! 7. that moment always comes: the steps that can follow each other have no circle.
//!
//! "Depends on" is strict: what the unit found in its slots, and all that any client had been shown when it was sent (real time).
//!
//! And each rule is shown to be needed: without it ([`Flaw`]) a small case must do harm. What does none is explored whole too.

mod case;
mod model;
mod pass;
mod state;

use case::{Case, Unit};
use model::*;
use pass::Flaw;
use pass::Flaw::*;
use state::State;
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Explores all states.
fn holds(case: Case) {
    let case = case.planned();
    let checker = case.clone().checker().threads(2).spawn_bfs().join();
    println!("{case}: {} states", checker.unique_state_count());
    checker.assert_properties();
    assert_eq!(count_without_circle(&case), Some(checker.unique_state_count()));
}

/// Explores until this property is found broken, which it must be.
fn breaks(flaw: Flaw, case: Case, property: &'static str) {
    let case = case.with_flaw(flaw).only(property).planned();
    let checker = case.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let Some(path) = checker.discovery(property) else {
        panic!("{flaw:?} does no harm to this: {property}");
    };
    let (step_count, state_count) = (path.into_actions().len(), checker.unique_state_count());
    println!("{flaw:?} breaks this in {step_count} steps ({state_count} states): {property}");
}

/// Walks through all states, depth first, and counts them. `None`: it came to one that it was still on its way from.
fn count_without_circle(case: &Case) -> Option<usize> {
    let digest = |state: &State| {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        hasher.finish()
    };
    let mut is_under_way = HashMap::new();
    let mut path = Vec::new();
    let mut next = case.init_states().pop();
    loop {
        if let Some(state) = next.take() {
            let digest = digest(&state);
            let before = is_under_way.get(&digest).copied();
            if before == Some(true) {
                return None;
            }
            if before.is_none() {
                let mut actions = Vec::new();
                case.actions(&state, &mut actions);
                is_under_way.insert(digest, true);
                path.push((digest, state, actions));
            }
        }
        let Some((digest, state, actions)) = path.last_mut() else {
            return Some(is_under_way.len());
        };
        if let Some(action) = actions.pop() {
            next = case.next_state(state, action);
        } else {
            is_under_way.insert(*digest, false);
            path.pop();
        }
    }
}

/// Both shards write both slots.
fn loans() -> Case {
    let units: &[Unit] = &[
        (0, "w", &[0], 0),
        (0, "w", &[0, 1], 0),
        (1, "w", &[1], 1),
        (1, "w", &[0, 1], 1),
    ];
    Case::new("loans", &[0, 1], &[0, 1], units)
}

/// Each shard needs a slot of the next.
fn loans_in_a_circle() -> Case {
    let units: &[Unit] = &[(0, "w", &[0, 1], 0), (1, "w", &[1, 2], 1), (2, "r", &[0, 2], 2)];
    Case::new("loans in a circle", &[0, 1, 2], &[0, 1, 2], units)
}

/// A slot goes to and fro, and its home has another request besides.
fn loans_and_others() -> Case {
    let units: &[Unit] = &[(1, "w", &[0], 1), (0, "w", &[0], 0), (1, "r", &[], 1)];
    Case::new("loans and others", &[1], &[0, 1], units).with_window(2)
}

fn one_unit_on_two_shards() -> Case {
    Case::new("one unit on two shards", &[0, 1], &[0], &[(0, "w", &[0, 1], 0)])
}

fn two_shards_alone() -> Case {
    let units: &[Unit] = &[(0, "w", &[0], 0), (1, "w", &[1], 1)];
    Case::new("two shards alone", &[0, 1], &[0, 1], units)
}

/// Two publish.
fn publishers() -> Case {
    let units: &[Unit] = &[(1, "m", &[], 1), (2, "m", &[], 2)];
    Case::new("publishers", &[], &[0, 1, 2], units)
}

/// The listener has a request of its own, so that it may look before any message is there.
fn publishers_and_early_looks() -> Case {
    let units: &[Unit] = &[(1, "m", &[], 1), (2, "m", &[], 2), (0, "r", &[], 0)];
    Case::new("publishers and early looks", &[], &[0, 1, 2], units)
}

/// Two messages of one pass, of which the link takes one, and one of the listener's own shard.
fn publishers_without_room() -> Case {
    let units: &[Unit] = &[(1, "m", &[], 1), (1, "m", &[], 1), (0, "m", &[], 0)];
    let case = Case::new("publishers without room", &[], &[0, 1], units);
    case.with_window(2).with_room(1)
}

/// Messages that go with writes of one slot; client 0 answers the first.
fn messages_with_writes() -> Case {
    let units: &[Unit] = &[(1, "wm", &[1], 1), (2, "wm", &[1], 2), (0, "m", &[], 0)];
    Case::new("messages with writes", &[0, 1, 2], &[0, 1, 2], units).with_answer()
}

/// A message with a write and one without, and a read of what was written.
fn messages_and_reads() -> Case {
    let units: &[Unit] = &[(1, "m", &[], 1), (2, "wm", &[1], 1), (0, "r", &[1], 1)];
    Case::new("messages and reads", &[0, 1], &[0, 1, 1], units)
}

fn subscription() -> Case {
    let units: &[Unit] = &[(0, "s", &[], 0), (1, "wm", &[1], 1), (2, "m", &[], 1)];
    Case::new("subscription", &[0, 1], &[0, 1, 1], units)
}

/// What client 0 reads from another shard is written on a third.
fn tracked() -> Case {
    let units: &[Unit] = &[(0, "t", &[1], 1), (1, "w", &[1], 2), (2, "r", &[0], 0)];
    Case::new("tracked", &[0, 1], &[0, 2, 0], units)
}

/// The same, behind another read.
fn pipeline() -> Case {
    let units: &[Unit] = &[(0, "r", &[1], 1), (0, "t", &[1], 1), (1, "w", &[1], 2)];
    Case::new("pipeline", &[0, 1], &[0, 2], units).with_window(2)
}

#[test]
fn writes() {
    holds(loans());
    holds(loans().with_room(1));
    holds(loans_in_a_circle());
    holds(loans_and_others());
    holds(one_unit_on_two_shards());
    holds(two_shards_alone());
}

/// What is written here is read elsewhere, by who writes then.
fn readers() -> Case {
    let units: &[Unit] = &[(0, "w", &[0], 0), (1, "r", &[0], 0), (1, "w", &[1], 1)];
    Case::new("readers", &[0, 1], &[0, 1], units)
}

/// Two passes of one shard, one after the other.
fn two_writers_of_a_shard() -> Case {
    let units: &[Unit] = &[(0, "w", &[0], 0), (1, "w", &[0], 0)];
    Case::new("two writers of a shard", &[0], &[0, 0], units)
}

#[test]
fn disks() {
    holds(two_shards_alone().always());
    holds(one_unit_on_two_shards().always());
    holds(readers().always());
    holds(two_writers_of_a_shard().always());
}

#[test]
fn each_part_of_rule_5_is_needed() {
    breaks(WritersDoNotWait, two_shards_alone().always(), DURABLE);
    breaks(ReadersDoNotWait, readers().always(), DURABLE);
    breaks(OwnPartOnly, two_shards_alone().always(), DURABLE);
    breaks(MarkedLate, two_shards_alone().always(), DURABLE);
    breaks(CoversUnwritten, two_writers_of_a_shard().always(), DURABLE);
    breaks(LooksBeforeLock, two_writers_of_a_shard().always(), DURABLE);
    breaks(CoversWhatComes, two_writers_of_a_shard().always(), DURABLE);
    breaks(NumbersReadLast, two_shards_alone().always(), DURABLE);
}

#[test]
fn messages() {
    holds(publishers());
    holds(publishers_and_early_looks());
    holds(publishers_without_room());
    holds(messages_with_writes());
    holds(messages_and_reads());
    holds(messages_and_reads().with_room(1));
    holds(subscription());
}

#[test]
fn caches() {
    holds(tracked());
    holds(pipeline());
    holds(pipeline().with_room(1));
    holds(pipeline().with_room(1).behind_all_replies());
}

#[test]
fn each_part_of_rules_1_and_2_is_needed() {
    breaks(TurnAtBegin, loans_and_others(), ORDER_OF_WRITES);
    breaks(TurnAtBegin, two_shards_alone(), WHOLE);
    breaks(TurnAfterRelease, loans(), ORDER_OF_WRITES);
    breaks(TurnAfterRelease, loans(), WRITTEN);
    breaks(TurnShownLate, publishers(), ORDER_OF_MESSAGES);
    breaks(NumberShownLate, two_shards_alone(), WRITTEN);
    breaks(HalfAtEachHome, one_unit_on_two_shards(), WHOLE);
    breaks(ReleaseBeforeWriting, two_shards_alone(), WRITTEN);
    breaks(SaidBeforeWritten, two_shards_alone(), WRITTEN);
}

#[test]
fn each_part_of_rule_3_is_needed() {
    breaks(NoWait, two_shards_alone(), WRITTEN);
    breaks(SlotsAnyTime, pipeline(), CACHES);
    breaks(SlotsPastStaged, pipeline().with_room(1), CACHES);
    breaks(SlotsPastEarlierPasses, pipeline().with_room(1), CACHES);
}

#[test]
fn each_part_of_rule_8_is_needed() {
    breaks(LinkShowsNothing, publishers_without_room(), ORDER_OF_MESSAGES);
    breaks(LiftBeforeSettle, publishers_without_room(), ORDER_OF_MESSAGES);
    breaks(LinkReadFirst, publishers_without_room(), ORDER_OF_MESSAGES);
    breaks(DrainBeforeBounds, publishers(), ORDER_OF_MESSAGES);
    breaks(NoCounter, publishers_and_early_looks(), ORDER_OF_MESSAGES);
    breaks(CounterLast, publishers_and_early_looks(), ORDER_OF_MESSAGES);
    breaks(OldOnly, publishers(), ORDER_OF_MESSAGES);
    breaks(Unsorted, publishers(), ORDER_OF_MESSAGES);
    breaks(PassReplies, pipeline(), CACHES);
    breaks(BeforeSubscription, subscription(), SUBSCRIPTION);
    breaks(SleepOnMessages, publishers(), REST);
}

/// Two parts of rule 3 that nothing depends on in what is modelled here.
///
/// A pass that has messages only shows nothing unwritten, whether it waits or not: it has written nothing, and what it found
/// had been released, by other shards or by the pass before it.
///
/// If messages went behind the replies too that have not come, no invalidation could overtake the reply that it concerns,
/// whatever the slots overtake, since the place of a reply is kept before its unit runs. But they would wait behind a blocked
/// command.
#[test]
fn what_does_no_harm() {
    holds(messages_and_reads().with_flaw(MessagesDoNotWait));
    holds(messages_with_writes().with_flaw(MessagesDoNotWait));
    holds(pipeline().with_room(1).behind_all_replies().with_flaw(SlotsAnyTime));
}

/// Looks that find nothing new change nothing, so they may be left out; and what finds circles finds them.
#[test]
fn a_restless_listener_is_safe() {
    for case in [publishers(), publishers_without_room(), pipeline().with_room(1)] {
        let case = case.with_flaw(Restless).planned();
        case.clone().checker().threads(2).spawn_bfs().join().assert_properties();
        assert_eq!(count_without_circle(&case), None);
    }
}

/// `cargo test --test turn_model larger -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes: a step of scripts/test --long"]
fn larger_cases() {
    let units: &[Unit] = &[(0, "t", &[0, 1], 2), (1, "w", &[1], 1), (2, "w", &[1], 2)];
    let pair = || Case::new("tracked pair", &[0, 1], &[0, 0, 2], units);
    holds(pair());
    holds(pair().with_room(1));
    let units: &[Unit] = &[
        (0, "r", &[2], 2),
        (0, "t", &[1], 1),
        (1, "w", &[1], 1),
        (2, "w", &[1], 2),
    ];
    let pipeline = || Case::new("pipeline over three shards", &[0, 1, 2], &[0, 1, 2], units).with_window(2);
    holds(pipeline());
    holds(pipeline().with_room(1));
    let units: &[Unit] = &[
        (1, "wm", &[1], 1),
        (2, "wm", &[1], 2),
        (3, "r", &[0], 0),
        (3, "r", &[0], 0),
    ];
    holds(Case::new("busy listener", &[0, 1, 2], &[0, 1, 2, 0], units));
    let units: &[Unit] = &[(1, "m", &[], 1), (1, "m", &[], 1), (2, "m", &[], 2)];
    holds(
        Case::new("three messages", &[], &[0, 1, 2], units)
            .with_window(2)
            .with_room(1),
    );
}
