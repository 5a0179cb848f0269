//! What is known of one client: its requests, how far they have come, and what each is to be answered.

use super::reply;
use super::roles::{Role, Traits, traits_of};
use super::story::{Judge as By, Request, shortened};
use crate::base::clock::UnixMs;
use crate::engine::Registry;
use crate::resp::Proto;
use crate::shard::Footprint;

/// What is known of one client's requests.
pub(super) struct Judged {
    pub(super) number: usize,
    pub(super) program: Vec<Request>,
    pub(super) states: Vec<State>,
    /// How many requests have arrived as a whole.
    pub(super) arrived: usize,
    /// How many have begun to arrive.
    pub(super) begun: usize,
    /// The next request whose reply is to come.
    pub(super) next_reply: usize,
    /// The first request over slots that has not been run.
    pub(super) first_open: usize,
    /// Requests before this one have had their effect on what the reference's client watches.
    pub(super) watched_until: usize,
    /// It watches something since the commands of a file were run, which change it.
    pub(super) watched_replay: bool,
    pub(super) output: Vec<u8>,
    /// Its connection has ended, or may end at any moment: what it is still owed is not known.
    pub(super) is_lost: bool,
    /// The latest of the units whose replies were sent.
    pub(super) known: UnixMs,
    /// The newest turn that these show.
    pub(super) known_turn: u64,
    /// What its replies have shown up to this turn was to be on disk.
    pub(super) durable_turn: u64,
    /// The latest of its units.
    pub(super) latest: UnixMs,
    /// It is not ended for what all clients take.
    pub(super) is_exempt: bool,
    /// The shard of its connection.
    pub(super) shard: usize,
    /// How many confirmations it has got of the request whose reply is next.
    pub(super) part: usize,
    /// In what it is answered at present.
    pub(super) speaks: Proto,
    /// It has closed its sending side.
    pub(super) has_half_closed: bool,
}

pub(super) struct State {
    pub(super) traits: Traits,
    pub(super) arrived_ns: u64,
    pub(super) unpause_count: u64,
    /// The time before which it cannot take effect: that of what its client knew when it sent it.
    pub(super) floor: UnixMs,
    /// The same for turns.
    pub(super) floor_turn: u64,
    /// The newest turn that its reply shows.
    pub(super) turn: u64,
    /// What its reply shows up to this turn must be on disk, where replies wait for that.
    pub(super) durable_turn: u64,
    pub(super) is_executed: bool,
    pub(super) now: UnixMs,
    pub(super) expected: Expected,
    /// It was to be queued, and was not.
    pub(super) is_queue_error: bool,
    /// It was refused for lack of memory.
    pub(super) is_refused: bool,
    /// The wait that it is to end, as there was one when it came.
    pub(super) waited: Option<u64>,
    /// When it came, in units and replies.
    pub(super) asked: u64,
}

pub(super) enum Expected {
    Unknown,
    Reply(Vec<u8>),
    /// It is known in the other protocol only.
    InOtherWords(Vec<u8>),
}

impl Judged {
    /// The slots that a request is known to use.
    pub(super) fn footprint(&self, index: usize) -> Footprint {
        let traits = &self.states[index].traits;
        let mut footprint = traits.footprint.clone();
        if let Role::Exec(multi) = traits.role {
            for queued in &self.states[multi..index] {
                footprint.merge(&queued.traits.footprint);
            }
        }
        footprint
    }

    pub(super) fn new(registry: &Registry, number: usize, program: Vec<Request>) -> Judged {
        let states = traits_of(registry, &program).into_iter().map(|traits| State {
            traits,
            arrived_ns: 0,
            unpause_count: 0,
            floor: UnixMs(0),
            floor_turn: 0,
            turn: 0,
            durable_turn: 0,
            is_executed: false,
            now: UnixMs(0),
            expected: Expected::Unknown,
            is_queue_error: false,
            is_refused: false,
            waited: None,
            asked: 0,
        });
        Judged {
            number,
            states: states.collect(),
            program,
            arrived: 0,
            begun: 0,
            next_reply: 0,
            first_open: 0,
            watched_until: 0,
            watched_replay: false,
            output: Vec::new(),
            is_lost: false,
            known: UnixMs(0),
            known_turn: 0,
            durable_turn: 0,
            latest: UnixMs(0),
            is_exempt: false,
            shard: 0,
            has_half_closed: false,
            part: 0,
            speaks: Proto::Resp2,
        }
    }

    pub(super) fn describe(&self, index: usize) -> String {
        format!("request {index} ({})", self.program[index].text())
    }

    /// Whether this EXEC has nothing to run because something could not be queued.
    pub(super) fn is_doomed(&self, exec: usize) -> bool {
        let Role::Exec(multi) = self.states[exec].traits.role else {
            return false;
        };
        let queued = &self.states[multi..exec];
        queued.iter().any(|state| state.traits.dooms || state.is_queue_error)
    }

    /// Whether the client has let go of what it watched, between what the reference knows of and this request.
    pub(super) fn has_let_go(&self, index: usize) -> bool {
        self.states[self.watched_until.min(index)..index]
            .iter()
            .any(|state| match state.traits.role {
                Role::Unwatch | Role::Discard | Role::Reset => true,
                Role::Exec(_) => !state.is_executed,
                _ => false,
            })
    }

    /// A request was refused for lack of memory: what was taken for it was a later one of the same words, and so on with that. Answers which of them
    /// have changed places with the first.
    pub(super) fn was_refused(&mut self, index: usize) -> Vec<usize> {
        self.states[index].is_refused = true;
        let mut exchanged = Vec::new();
        for later in index + 1..self.arrived {
            if !self.states[index].is_executed {
                break;
            }
            let is_same = self.states[later].traits.role == self.states[index].traits.role
                && self.program[later].words == self.program[index].words;
            if is_same && !self.states[later].is_refused {
                let (before, behind) = self.states.split_at_mut(later);
                let (one, other) = (&mut before[index], &mut behind[0]);
                std::mem::swap(&mut one.is_executed, &mut other.is_executed);
                std::mem::swap(&mut one.now, &mut other.now);
                std::mem::swap(&mut one.turn, &mut other.turn);
                std::mem::swap(&mut one.durable_turn, &mut other.durable_turn);
                exchanged.push(later);
                std::mem::swap(&mut one.expected, &mut other.expected);
                if self.program[index].proto != self.program[later].proto {
                    let expected = std::mem::replace(&mut other.expected, Expected::Unknown);
                    other.expected = match expected {
                        Expected::Reply(reply) => Expected::InOtherWords(reply),
                        expected => expected,
                    };
                }
            }
        }
        exchanged
    }

    pub(super) fn move_on(&mut self) {
        let is_done =
            |state: &State| state.is_executed || !matches!(state.traits.role, Role::Data | Role::Watch | Role::Exec(_));
        while self.states.get(self.first_open).is_some_and(is_done) {
            self.first_open += 1;
        }
    }

    /// What is wrong with a reply: its kind, and in words.
    pub(super) fn objection(
        &self,
        index: usize,
        got: &[u8],
        is_short_of_memory: bool,
    ) -> Option<(&'static str, String)> {
        let state = &self.states[index];
        let by = self.program[index].judge;
        let is_refused_for_memory = is_short_of_memory && is_refusal(got);
        let exactly = |text: &[u8]| (got != text).then(|| differs(text, got));
        let text = match state.traits.role {
            Role::Refused => (!reply::is_error(got)).then(|| format!("is no error: {}", shortened(got))),
            Role::Queued if is_refused_for_memory => None,
            Role::Queued => exactly(b"+QUEUED\r\n"),
            Role::Multi | Role::Discard | Role::Unwatch | Role::Quit => exactly(b"+OK\r\n"),
            Role::Reset => exactly(b"+RESET\r\n"),
            Role::Session | Role::Asynchronous => objection_by(by, &Expected::Unknown, got),
            Role::Exec(_) if self.is_doomed(index) => {
                (!reply::is_error(got)).then(|| format!("should be refused: {}", shortened(got)))
            }
            Role::Data | Role::Watch | Role::Exec(_) if !state.is_executed => {
                if is_refused_for_memory {
                    return None;
                }
                let text = format!("was answered and did not take effect: {}", shortened(got));
                return Some(("reply-of-nothing", text));
            }
            Role::Data | Role::Watch => objection_by(by, &state.expected, got),
            Role::Exec(multi) => {
                let text = self.objection_to_exec(multi, index, got);
                return text.map(|text| ("reply-of-exec", text));
            }
        };
        text.map(|text| ("reply", text))
    }

    pub(super) fn objection_to_exec(&self, multi: usize, exec: usize, got: &[u8]) -> Option<String> {
        let expected = match &self.states[exec].expected {
            Expected::Reply(expected) => expected,
            Expected::InOtherWords(_) => return None,
            Expected::Unknown => return Some("was not run".to_owned()),
        };
        if reply::is_null(got) || reply::is_null(expected) {
            return (got != expected).then(|| differs(expected, got));
        }
        let (Some(parts), Some(known)) = (reply::elements(got), reply::elements(expected)) else {
            return Some(differs(expected, got));
        };
        let queue = multi + 1..exec;
        if parts.len() != queue.len() {
            return Some(format!("has {} replies instead of {}", parts.len(), queue.len()));
        }
        let mut known = known.into_iter();
        for (place, part) in queue.zip(parts) {
            let by = self.program[place].judge;
            let expected = match self.states[place].traits.is_asynchronous {
                true => Expected::Unknown,
                false => match known.next() {
                    Some(reply) => Expected::Reply(reply.to_vec()),
                    None => return Some("the reference has fewer replies".to_owned()),
                },
            };
            if let Some(text) = objection_by(by, &expected, part) {
                return Some(format!("{}: {text}", self.describe(place)));
            }
        }
        None
    }
}

fn objection_by(by: By, expected: &Expected, got: &[u8]) -> Option<String> {
    match (by, expected) {
        (By::Any, _) | (_, Expected::InOtherWords(_)) => None,
        (By::Holds(holds), _) => (!holds(got)).then(|| format!("is not right: {}", shortened(got))),
        (By::Exactly(text), _) => (got != text).then(|| differs(text, got)),
        (By::Compared, Expected::Reply(expected)) => (got != expected).then(|| differs(expected, got)),
        (By::Unordered, Expected::Reply(expected)) => {
            let sorted = |reply| {
                reply::elements(reply).map(|mut parts: Vec<&[u8]>| {
                    parts.sort_unstable();
                    parts.concat()
                })
            };
            let is_same = got == expected || sorted(got).is_some_and(|parts| Some(parts) == sorted(expected));
            (!is_same).then(|| differs(expected, got))
        }
        (By::Compared | By::Unordered, Expected::Unknown) => Some("there is nothing to compare it with".to_owned()),
    }
}

/// Whether a reply says that there is no memory for a request, or that there was none for what it should have run.
pub(super) fn is_refusal(reply: &[u8]) -> bool {
    reply.starts_with(b"-OOM") || reply.starts_with(b"-EXECABORT")
}

pub(super) fn differs(expected: &[u8], got: &[u8]) -> String {
    format!("expected {}, got {}", shortened(expected), shortened(got))
}
