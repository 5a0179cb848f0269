//! A small case: where slots and clients are, what the clients send, and which rule is not kept.

use super::pass::{Flaw, Stage, steps};
use super::state::bit;
use std::fmt::{Display, Formatter};

/// A unit of work, as it is written down: its client, what it does, on which slots, and the shard that runs it.
///
/// It `w`rites, is `r`ead, is `t`racked for client 0, publishes a `m`essage or `s`ubscribes client 0.
pub type Unit = (usize, &'static str, &'static [usize], usize);

#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    /// Of each slot.
    pub home: &'static [usize],
    /// The shard of each client.
    pub connection: &'static [usize],
    /// Each client sends its own in this order.
    pub units: &'static [Unit],
    /// So many replies a client may wait for.
    pub window: usize,
    /// So many frames have room in the ring of a link.
    pub room: usize,
    /// The last unit is sent when client 0 has had the message of the first.
    pub has_answer: bool,
    pub behind: Behind,
    /// Replies wait for the disk (`appendfsync always`).
    pub always: bool,
    pub flaw: Option<Flaw>,
    /// The only property that is looked at.
    pub only: Option<&'static str>,
    pub shard_count: usize,
    /// The steps of a pass of each shard.
    pub plans: Vec<Vec<Stage>>,
    pub writers: u8,
    pub publishers: u8,
    pub subscriber: Option<usize>,
}

/// Behind which replies of its connection a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Those that have come, also if one that has not come keeps them back.
    Came,
    /// Those too that have not come.
    Outstanding,
}

impl Case {
    pub fn new(
        name: &'static str,
        home: &'static [usize],
        connection: &'static [usize],
        units: &'static [Unit],
    ) -> Self {
        let does = |what: char| move |unit: &usize| units[*unit].1.contains(what);
        let mask = |what: char| (0..units.len()).filter(does(what)).map(bit).sum();
        let shards = home.iter().chain(connection).chain(units.iter().map(|unit| &unit.3));
        Case {
            name,
            home,
            connection,
            units,
            window: 1,
            room: usize::MAX,
            has_answer: false,
            behind: Behind::Came,
            always: false,
            flaw: None,
            only: None,
            shard_count: 1 + shards.max().expect("client 0 has a shard"),
            plans: Vec::new(),
            writers: mask('w'),
            publishers: mask('m'),
            subscriber: (0..units.len()).find(does('s')),
        }
    }

    pub fn with_room(self, room: usize) -> Self {
        Case { room, ..self }
    }

    pub fn with_window(self, window: usize) -> Self {
        Case { window, ..self }
    }

    pub fn with_answer(self) -> Self {
        let has_answer = true;
        Case { has_answer, ..self }
    }

    pub fn behind_all_replies(self) -> Self {
        let behind = Behind::Outstanding;
        Case { behind, ..self }
    }

    /// Replies wait for the disk. (Of messages under this policy nothing is modelled.)
    pub fn always(self) -> Self {
        assert!(self.publishers == 0 && self.subscriber.is_none());
        Case { always: true, ..self }
    }

    pub fn with_flaw(self, flaw: Flaw) -> Self {
        let flaw = Some(flaw);
        Case { flaw, ..self }
    }

    /// Looks at this property alone.
    pub fn only(self, property: &'static str) -> Self {
        let only = Some(property);
        Case { only, ..self }
    }

    /// To be called when all is set.
    pub fn planned(mut self) -> Self {
        let has_narrow_links = self.room != usize::MAX;
        self.plans = (0..self.shard_count)
            .map(|shard| steps(shard, self.shard_count, has_narrow_links, self.always, self.flaw))
            .collect();
        self
    }
}

impl Display for Case {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.name)?;
        if self.room != usize::MAX {
            write!(formatter, ", room for {}", self.room)?;
        }
        if self.always {
            write!(formatter, ", always")?;
        }
        if self.behind == Behind::Outstanding {
            write!(formatter, ", behind all replies")?;
        }
        self.flaw.map_or(Ok(()), |flaw| write!(formatter, ", {flaw:?}"))
    }
}
