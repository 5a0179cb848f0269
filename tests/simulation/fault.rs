//! Faults that are put into the system to see whether the checks find them.
//!
//! They strike outside the shards (on the links, and where units are issued), so that the code that is tested is the
//! code that is shipped.

use super::{Content, Job, Simulation};
use shardis::shard::{Loan, Message};

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A home grants a loan twice.
    GrantTwice,
    /// A home forgets to call back what an older unit needs.
    SkipRecall,
    /// A link delivers out of order.
    Reorder,
    /// A slot comes home as it left.
    StaleContent,
    /// A unit runs on the first half of its slots before it has the rest.
    RunEarly,
    /// A connection's units to one shard change places.
    SwapUnits,
    /// A finished unit is not handed back.
    LoseFinished,
    /// What waits is seen as done before it has run.
    FinishEarly,
}

/// All of them.
pub const FAULTS: [Fault; 8] = [
    Fault::GrantTwice,
    Fault::SkipRecall,
    Fault::Reorder,
    Fault::StaleContent,
    Fault::RunEarly,
    Fault::SwapUnits,
    Fault::LoseFinished,
    Fault::FinishEarly,
];

impl Simulation {
    /// What the fault makes of a message.
    pub fn spoil(&mut self, mut message: Message<Content, Job>) -> Vec<Message<Content, Job>> {
        let strikes = self.random.u8(..3) == 0;
        match (self.fault, &mut message) {
            (Fault::GrantTwice, Message::Grant { .. }) if strikes => vec![message.clone(), message],
            (Fault::SkipRecall, Message::Recall { .. }) => Vec::new(),
            (Fault::LoseFinished, Message::Finished { .. }) if strikes => Vec::new(),
            (
                Fault::StaleContent,
                Message::Grant {
                    ticket,
                    loan: Loan::Slots(slots),
                },
            ) => {
                for (slot, content) in slots {
                    self.stale.insert((*ticket, *slot), (**content).clone());
                }
                vec![message]
            }
            (
                Fault::StaleContent,
                Message::Return {
                    ticket,
                    loan: Loan::Slots(slots),
                    ..
                },
            ) => {
                for (slot, content) in slots {
                    if let Some(stale) = self.stale.remove(&(*ticket, *slot)) {
                        **content = stale;
                    }
                }
                vec![message]
            }
            _ => vec![message],
        }
    }
}
