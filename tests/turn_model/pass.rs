//! What a pass does, in which order; and what it does when a rule is not kept.
//!
//! Most flaws are another order of the same steps and stand here alone; the others are a word where the step is taken.

use Flaw::*;
use Stage::*;

/// The shard of client 0, to whom messages go.
pub const LISTENER: usize = 0;

/// One step of a pass: what others can see at one stroke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The counter of turns is read, or a bound that a shard shows, or one that its link to here shows.
    Count,
    ShardBound(usize),
    LinkBound(usize),
    /// All frames that the ring from there holds are handled.
    Drain(usize),
    /// Messages go into client 0's output.
    Deliver,
    /// Requests are run, one by one.
    Run,
    /// What will be shown is read, then it is shown, then turn and number are taken.
    Read(u8),
    Show(u8),
    Take(u8),
    /// Rule 5: the shard marks that what it takes is not on disk.
    Mark,
    /// The chunk is written, and the bound of its number lifted.
    Write,
    Say,
    /// Until that shard shows no earlier log number.
    Wait(usize),
    /// Sockets are written, frames enter rings, as far as there is room.
    Release,
    /// The links show their bounds, then the shard lifts that of its turn.
    Settle,
    Lift,
}

/// What [`Read`], [`Show`] and [`Take`] are about.
pub const TURN: u8 = 1;
pub const NUMBER: u8 = 2;
const BOTH: u8 = TURN | NUMBER;

/// The steps of a pass of this shard.
pub fn steps(shard: usize, shard_count: usize, has_narrow_links: bool, always: bool, flaw: Option<Flaw>) -> Vec<Stage> {
    let others = (0..shard_count).filter(|other| *other != shard);
    let drains = others.clone().map(Drain);
    let mut steps = Vec::new();
    if flaw == Some(TurnAtBegin) {
        steps.extend([Read(TURN), Show(TURN), Take(TURN)]);
    }
    if shard != LISTENER {
        steps.extend(drains);
    } else {
        let look = look(others.clone(), has_narrow_links, flaw);
        if flaw == Some(DrainBeforeBounds) {
            steps.extend(drains.chain(look));
        } else {
            steps.extend(look.into_iter().chain(drains));
        }
        steps.push(Deliver);
    }
    steps.push(Run);
    // Rule 1: shown before it is taken, lifted when all has left.
    let take = match flaw {
        Some(MarkedLate) => vec![Read(BOTH), Show(TURN), Show(NUMBER), Take(BOTH), Mark],
        _ if always => vec![Read(BOTH), Show(TURN), Show(NUMBER), Mark, Take(BOTH)],
        Some(TurnAtBegin) => vec![Read(NUMBER), Show(NUMBER), Take(NUMBER)],
        Some(TurnShownLate) => vec![Read(BOTH), Show(NUMBER), Take(BOTH), Show(TURN)],
        Some(NumberShownLate) => vec![Read(BOTH), Show(TURN), Take(BOTH), Show(NUMBER)],
        _ => vec![Read(BOTH), Show(TURN), Show(NUMBER), Take(BOTH)],
    };
    let write = if flaw == Some(SaidBeforeWritten) {
        [Say, Write]
    } else {
        [Write, Say]
    };
    let waits = others.map(Wait).filter(|_| flaw != Some(NoWait));
    match flaw {
        Some(TurnAfterRelease) => steps.extend([Release].into_iter().chain(take).chain(write)),
        Some(ReleaseBeforeWriting) => steps.extend(take.into_iter().chain(waits).chain([Release]).chain(write)),
        _ => steps.extend(take.into_iter().chain(write).chain(waits).chain([Release])),
    }
    steps.extend(if flaw == Some(LiftBeforeSettle) {
        [Lift, Settle]
    } else {
        [Settle, Lift]
    });
    steps
}

/// Rule 8: the counter, then every bound that is shown. That of a shard comes before that of its link: read in the other order
/// a look could miss both, as the one takes the place of the other.
fn look(others: impl Iterator<Item = usize>, has_narrow_links: bool, flaw: Option<Flaw>) -> Vec<Stage> {
    let bounds = |other| match (has_narrow_links, flaw) {
        (false, _) => vec![ShardBound(other)],
        (true, Some(LinkReadFirst)) => vec![LinkBound(other), ShardBound(other)],
        (true, _) => vec![ShardBound(other), LinkBound(other)],
    };
    let bounds = others.flat_map(bounds);
    match flaw {
        Some(NoCounter) => bounds.collect(),
        Some(CounterLast) => bounds.chain([Count]).collect(),
        _ => [Count].into_iter().chain(bounds).collect(),
    }
}

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Rule 1: the turn is taken before the pass has run.
    TurnAtBegin,
    /// Rule 1: the turn is taken when all has left.
    TurnAfterRelease,
    /// Rule 1: the bound of the turn is shown when the turn is taken.
    TurnShownLate,
    /// Rule 1: the bound of the log number is shown when the number is taken.
    NumberShownLate,
    /// A unit is logged half at each home, when its slots are back.
    HalfAtEachHome,
    /// Rule 2: the chunk is written when all has left.
    ReleaseBeforeWriting,
    /// Rule 2: the bound of the log number is lifted before the chunk is written.
    SaidBeforeWritten,
    /// Rule 3: nobody waits for earlier log numbers.
    NoWait,
    /// Rule 3: a pass that has messages only does not wait.
    MessagesDoNotWait,
    /// Rule 3: slots leave with or before the rest.
    SlotsAnyTime,
    /// Rule 3: slots leave though other frames of their pass find no room.
    SlotsPastStaged,
    /// Rule 3: slots leave though frames of an earlier pass find no room.
    SlotsPastEarlierPasses,
    /// Rule 5: who has written does not wait for the disk.
    WritersDoNotWait,
    /// Rule 5: who reads does not wait for what is not on disk.
    ReadersDoNotWait,
    /// Rule 5: it is enough that the own shard's part is on disk.
    OwnPartOnly,
    /// Rule 5: a number is marked when it is taken.
    MarkedLate,
    /// Rule 5: what is taken and not written when a sync begins counts as covered by it.
    CoversUnwritten,
    /// Rule 5: what is not written is read before the marks are locked.
    LooksBeforeLock,
    /// Rule 5: what is taken while a sync is under way counts as covered by it.
    CoversWhatComes,
    /// Rule 5: the counter of numbers is read behind the marks.
    NumbersReadLast,
    /// Rule 8: a link shows nothing for what finds no room.
    LinkShowsNothing,
    /// Rule 8: a shard lifts its bound before its links show theirs.
    LiftBeforeSettle,
    /// Rule 8: the bound of a link is read before that of its shard.
    LinkReadFirst,
    /// Rule 8: links are drained before the bounds are read.
    DrainBeforeBounds,
    /// Rule 8: the counter is not read.
    NoCounter,
    /// Rule 8: the counter is read after the bounds.
    CounterLast,
    /// Rule 8: only what had come before the look is delivered.
    OldOnly,
    /// Rule 8: a look delivers in the order in which messages came.
    Unsorted,
    /// Rule 8: messages pass the replies that their connection has.
    PassReplies,
    /// Rule 8: what is from before the subscription is delivered.
    BeforeSubscription,
    /// Rule 8: the listener sleeps without a timer although it holds messages.
    SleepOnMessages,
    /// No rule: while it holds messages, the listener looks also when nothing has changed.
    Restless,
}
