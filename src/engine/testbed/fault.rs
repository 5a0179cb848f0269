//! Faults that are put in on purpose, to see whether the checks find them.
//!
//! They strike in what the testbed itself owns (its sockets, its bells, its clocks, the report of what took effect), so the
//! engine that is tested is the one that is shipped. (What concerns clients that wait strikes between two passes, in the queues and timers of
//! a shard.)

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Two requests of a client change places on their way.
    SwapRequests,
    /// A request arrives twice.
    RepeatRequest,
    /// A request is lost on its way.
    LoseRequest,
    /// What is written to a connection gets into the wrong order.
    SwapOutput,
    /// What is written to a connection is lost.
    LoseOutput,
    /// A shard that is rung at does not wake.
    DropWake,
    /// A drained connection is not reported.
    DropDrained,
    /// A shard's calendar stands still.
    StopCalendar,
    /// A unit of work is reported as of another time.
    LieAboutTime,
    /// A unit of work is not reported.
    HideUnit,
    /// A unit of work logs nothing.
    LoseEffects,
    /// Two units of work are reported in the wrong order.
    SwapUnits,
    /// A pause does not reach one of the shards.
    EndPause,
    /// A connection ends and its client is not forgotten.
    KeepClient,
    /// A shard takes memory and never gives it back.
    LeakMemory,
    /// A shard never finds that it has nothing to do.
    Spin,
    /// What is written to a shard's file is lost.
    LoseChunk,
    /// What a pass has produced leaves before earlier passes of other shards are written.
    LeaveEarly,
    /// A message is lost.
    LoseMessage,
    /// The cut of a snapshot is reported as later than it was.
    LateCut,
    /// The data set that was saved is gone when the next process starts.
    LoseSaved,
    /// A shard serves while the data set is still read.
    EndLoading,
    /// A key is lost when the data set is read.
    LoseLoaded,
    /// A sync is said to have ended that has not put anything on disk.
    LoseSync,
    /// Somebody who has waited is reported as served twice.
    ServeTwice,
    /// A waiter is forgotten.
    ForgetWaiter,
    /// Those who wait for a key are put into another order.
    TurnWaitersRound,
    /// A wait ends before its time, and nobody has asked for it.
    EndWait,
    /// A wait is forgotten by the timer that is to end it.
    LoseTimer,
    /// A message to a client that listens is lost.
    LosePush,
    /// It is handed over twice.
    RepeatPush,
    /// Two of them change places.
    SwapPushes,
    /// Who publishes is told another number.
    Miscount,
}

/// All of them.
pub const FAULTS: [Fault; 33] = [
    Fault::SwapRequests,
    Fault::RepeatRequest,
    Fault::LoseRequest,
    Fault::SwapOutput,
    Fault::LoseOutput,
    Fault::DropWake,
    Fault::DropDrained,
    Fault::StopCalendar,
    Fault::LieAboutTime,
    Fault::HideUnit,
    Fault::LoseEffects,
    Fault::SwapUnits,
    Fault::EndPause,
    Fault::KeepClient,
    Fault::LeakMemory,
    Fault::Spin,
    Fault::LoseChunk,
    Fault::LeaveEarly,
    Fault::LoseMessage,
    Fault::LateCut,
    Fault::LoseSaved,
    Fault::EndLoading,
    Fault::LoseLoaded,
    Fault::LoseSync,
    Fault::ServeTwice,
    Fault::ForgetWaiter,
    Fault::TurnWaitersRound,
    Fault::EndWait,
    Fault::LoseTimer,
    Fault::LosePush,
    Fault::RepeatPush,
    Fault::SwapPushes,
    Fault::Miscount,
];
