//! Recovery, checked exhaustively on small cases: rule 4 of the one order for all that happens, over deaths of the process and of the
//! machine in any state, those of a recovery and of a rewrite included.
//!
//! ```text
//!  serving:   take ... write ... sync      each of them when it comes, on any shard
//!  rewrite:   new parts -> manifest -> cut -> base on disk -> manifest -> old parts go
//!  death:     the process: what is written stays    the machine: of each part what is synced, and any beginning of the rest
//!  recovery:  find -> cut and sync part by part -> manifest (the life is closed) -> new parts -> manifest -> serving, as a new life
//! ```
//!
//! A chunk is its number, with the life of the process that took it. What passes and slots are about is the matter of the turn model; here a
//! number counts as shown to others when it and all before it are written, and under `always` to clients when all of them are
//! on disk. In every state
//!
//! 1. after the deaths of processes alone, what was shown to anybody is found again;
//! 2. what was shown to clients under `always` is found again after any deaths;
//! 3. what is found of a life is a beginning of it: no number without those before it;
//! 4. what a recovery has dropped never comes back;
//! 5. a recovery never meets what it cannot explain.
//!
//! And each part of the rule is shown to be needed.

mod model;

use model::Flaw::{self, *};
use model::*;
use stateright::{Checker, HasDiscoveries, Model};

fn holds(case: Case) {
    let checker = case.checker().threads(2).spawn_bfs().join();
    println!("{case:?}: {} states", checker.unique_state_count());
    checker.assert_properties();
}

fn breaks(flaw: Flaw, case: Case, property: &'static str) {
    let case = case.with_flaw(flaw).only(property);
    let checker = case.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let Some(path) = checker.discovery(property) else {
        panic!("{flaw:?} does no harm to this: {property}");
    };
    println!(
        "{flaw:?} breaks this in {} steps: {property}",
        path.into_actions().len()
    );
}

const PLAIN: Case = Case {
    numbers: 4,
    deaths: 2,
    rewrites: 0,
    flaw: None,
    only: None,
};

const REWRITTEN: Case = Case {
    numbers: 3,
    deaths: 1,
    rewrites: 1,
    flaw: None,
    only: None,
};

#[test]
fn lives() {
    holds(PLAIN);
}

#[test]
fn rewrites() {
    holds(REWRITTEN);
}

#[test]
fn each_part_is_needed() {
    breaks(KeepPastGap, PLAIN, BEGINNING);
    breaks(NoUntil, PLAIN, PROMISED);
    breaks(SameLife, PLAIN, WRITTEN);
    breaks(ServeUnsynced, PLAIN, EXPLAINED);
    breaks(CloseBeforeSync, PLAIN, EXPLAINED);
    breaks(RemoveBeforeManifest, REWRITTEN, EXPLAINED);
    breaks(BaseUnsynced, REWRITTEN, EXPLAINED);
    breaks(BaseBeforeCut, REWRITTEN, WRITTEN);
    breaks(PartsAfterCut, REWRITTEN, WRITTEN);
}

/// Files that are not cut to size do no harm by themselves: the manifest says where the life ended. They are cut so that whoever reads them
/// without the manifest, and a check, see what counts. Nor do numbers of what was dropped that are taken again, since a chunk says
/// of which life it is; they are not, so that a number means one thing for ever.
#[test]
fn what_does_no_harm() {
    holds(PLAIN.with_flaw(Uncut));
    holds(PLAIN.with_flaw(ReuseNumbers));
}
