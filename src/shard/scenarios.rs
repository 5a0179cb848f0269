//! Scenarios: a few shards and units of work, step by step, where it matters which step comes first.
//!
//! Each test tells a story in which some unit could starve, overtake or be forgotten. Random schedules are the matter of
//! `tests/simulation`.

use super::*;
use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Writes its name to its slots, and does with the verdicts what it is told.
#[derive(Debug)]
struct Note {
    name: char,
    slots: Vec<u16>,
    verdicts: VecDeque<Verdict>,
}

type Text = String;

impl Work<Text> for Note {
    type Env = ();

    fn run(&mut self, view: &mut View<'_, Text>, _: &mut ()) -> Verdict {
        let verdict = self.verdicts.pop_front().unwrap_or(Verdict::Done);
        for &slot in &self.slots {
            if !matches!(verdict, Verdict::Lacks(_)) {
                view.slot(slot).expect("it is in the footprint").push(self.name);
            }
        }
        verdict
    }
}

fn realm(shard_count: u16, slot_count: u16) -> Realm {
    Realm {
        shard_count,
        slot_count,
        tickets: TicketSource::new(),
    }
}

fn connection(shard: u16, name: char) -> ConnRef {
    ConnRef {
        shard: ShardId(shard),
        index: name as u32,
        generation: 0,
    }
}

fn unit(shard: u16, name: char, slots: &[u16], verdicts: &[Verdict]) -> Unit<Note> {
    let footprint = if slots.is_empty() {
        Footprint::Everything
    } else {
        Footprint::Slots(slots.into())
    };
    let work = Note {
        name,
        slots: slots.to_vec(),
        verdicts: verdicts.iter().cloned().collect(),
    };
    Unit {
        work,
        footprint,
        origin: connection(shard, name),
        ticket: None,
    }
}

struct Bed {
    shards: Vec<Shard<Text, Note>>,
    tickets: TicketSource,
    finished: String,
    held: VecDeque<(ShardId, Ticket)>,
    in_flight: VecDeque<(ShardId, ShardId, Message<Text, Note>)>,
}

impl Bed {
    /// Shards of four slots each.
    fn new(shard_count: u16) -> Self {
        let realm = realm(shard_count, 4 * shard_count);
        let shard = |id| Shard::new(ShardId(id), &realm, |_| Box::default());
        Bed {
            shards: (0..shard_count).map(shard).collect(),
            tickets: realm.tickets.clone(),
            finished: String::new(),
            held: VecDeque::new(),
            in_flight: VecDeque::new(),
        }
    }

    fn take(&mut self, shard: ShardId, out: Outbox<Text, Note>) {
        self.in_flight
            .extend(out.messages.into_iter().map(|(to, message)| (shard, to, message)));
        self.held
            .extend(out.held.into_iter().map(|(ticket, _)| (shard, ticket)));
        self.finished
            .extend(out.finished.into_iter().map(|(_, note)| note.name));
    }

    /// Each name is a connection of its own; no slots stand for everything.
    fn submit(&mut self, shard: u16, name: char, slots: &[u16], verdicts: &[Verdict]) {
        let unit = unit(shard, name, slots, verdicts);
        let mut out = Outbox::new();
        self.shards[shard as usize].submit(unit, &mut (), &mut out);
        self.take(ShardId(shard), out);
    }

    fn deliver(&mut self) {
        while !self.in_flight.is_empty() {
            self.deliver_first();
        }
    }

    fn deliver_first(&mut self) {
        let (from, to, message) = self.in_flight.pop_front().expect("something is on its way");
        let mut out = Outbox::new();
        self.shards[to.0 as usize].handle(from, message, &mut (), &mut out);
        self.take(to, out);
    }

    fn recall_count(&self) -> usize {
        let messages = self.in_flight.iter().map(|(_, _, message)| message);
        messages
            .filter(|message| matches!(message, Message::Recall { .. }))
            .count()
    }

    /// Lets the unit go on that has held longest.
    fn go_on(&mut self) {
        let (shard, ticket) = self.held.pop_front().expect("somebody holds");
        let mut out = Outbox::new();
        self.shards[shard.0 as usize].continue_held(ticket, |_, _, _| Verdict::Done, &mut (), &mut out);
        self.take(shard, out);
    }

    fn text(&self, slot: u16) -> &str {
        let home = &self.shards[self.shards[0].owner(slot).0 as usize];
        home.places()
            .expect("the places are at home")
            .home(slot)
            .expect("the slot is at home")
    }
}

#[test]
fn slots_are_shared_out_evenly() {
    for shard_count in [1, 2, 3, 7, 64] {
        let realm = realm(shard_count, 16384);
        let shard: Shard<Text, Note> = Shard::new(ShardId(shard_count - 1), &realm, |_| Box::default());
        for of in 0..shard_count as usize {
            let mut range = of * 16384 / shard_count as usize..(of + 1) * 16384 / shard_count as usize;
            assert!(range.all(|slot| shard.owner(slot as u16) == ShardId(of as u16)));
        }
        let own_count = 16384 - (shard_count as usize - 1) * 16384 / shard_count as usize;
        assert_eq!(shard.slots_here().count(), own_count);
    }
}

#[test]
fn routes_to_where_most_slots_are() {
    let bed = Bed::new(3);
    let route = |shard: u16, slots: &[u16]| bed.shards[shard as usize].route(&Footprint::Slots(slots.into()));
    assert_eq!(route(1, &[]), Route::Here);
    assert_eq!(route(1, &[4, 5]), Route::Here);
    assert_eq!(route(0, &[4, 5]), Route::Home(ShardId(1)));
    assert_eq!(route(0, &[0, 4, 5]), Route::Coordinate(ShardId(1)));
    assert_eq!(route(2, &[0, 4, 8]), Route::Coordinate(ShardId(2)));
    assert_eq!(route(2, &[0, 1, 4, 5]), Route::Coordinate(ShardId(0)));
    assert_eq!(
        bed.shards[2].route(&Footprint::Everything),
        Route::Coordinate(ShardId(2))
    );
}

#[test]
fn the_fast_path_is_closed_while_slots_are_away() {
    let mut bed = Bed::new(2);
    let conn = |name: char| connection(0, name);
    bed.submit(1, 'm', &[0, 4], &[]);
    let (from, to, ask) = bed.in_flight.pop_front().expect("shard 1 asks for slot 0");
    let mut out = Outbox::new();
    bed.shards[to.0 as usize].handle(from, ask, &mut (), &mut out);
    bed.take(to, out);
    assert!(bed.shards[0].try_view(&[0], conn('a')).is_none());
    assert!(bed.shards[0].try_view(&[1], conn('a')).is_some());
    assert!(
        bed.shards[0].try_view(&[4], conn('a')).is_none(),
        "slot 4 is at home elsewhere"
    );
    assert!(bed.shards[0].try_view(&[60000], conn('a')).is_none());
    let mut view = bed.shards[0].try_view(&[1], conn('a')).expect("slot 1 is at home");
    assert!(!view.has_everything() && view.all_slots().is_none());
    bed.submit(0, 'a', &[0], &[]);
    assert!(bed.shards[0].try_view(&[1], conn('a')).is_none(), "it would overtake");
    assert!(bed.shards[0].try_view(&[1], conn('b')).is_some(), "nobody else waits");
    bed.submit(0, 'a', &[1], &[]);
    assert_eq!((bed.text(1), bed.finished.as_str()), ("", ""));
    bed.deliver();
    assert_eq!((bed.text(0), bed.text(1), bed.finished.as_str()), ("ma", "a", "maa"));
    assert!(bed.shards[0].try_view(&[0], conn('a')).is_some());
}

#[test]
fn the_fast_path_does_not_overtake_a_reserved_request() {
    let mut bed = Bed::new(2);
    bed.submit(1, 'k', &[1, 5], &[Verdict::Hold]);
    bed.deliver();
    bed.submit(1, 'm', &[0, 1, 4], &[]);
    bed.deliver();
    bed.submit(0, 'a', &[0], &[Verdict::Hold]);
    bed.held.rotate_right(1);
    bed.go_on();
    bed.deliver();
    // Slot 0 is at home again, and no connection waits here, but the next turn is not for those who come now.
    assert_eq!((bed.text(0), bed.finished.as_str()), ("a", "a"));
    assert!(bed.shards[0].try_view(&[0], connection(0, 'b')).is_none());
    assert!(bed.shards[0].try_view(&[2], connection(0, 'b')).is_some());
    bed.go_on();
    bed.deliver();
    assert_eq!((bed.text(0), bed.finished.as_str()), ("am", "akm"));
    assert!(bed.shards[0].try_view(&[0], connection(0, 'b')).is_some());
}

#[test]
fn a_unit_is_sent_to_where_its_slots_are() {
    for (slots, runs_on) in [(&[4, 5][..], 1), (&[0, 4, 5], 1), (&[0, 1, 4], 0), (&[], 0)] {
        let mut bed = Bed::new(2);
        let mut out = Outbox::new();
        bed.shards[0].dispatch(unit(0, 'a', slots, &[]), &mut (), &mut out);
        let first = out.messages.first().expect("something of it is on shard 1");
        let is_sent = matches!(first, (ShardId(1), Message::Submit(_)));
        assert_eq!(is_sent, runs_on == 1, "{slots:?}");
        bed.take(ShardId(0), out);
        bed.deliver();
        assert_eq!(bed.finished, "a");
    }
}

#[test]
fn a_unit_with_loans_finds_what_lies_at_home_beside_them() {
    let mut bed = Bed::new(2);
    let reaching = Unit {
        footprint: Footprint::Slots([0, 4].as_slice().into()),
        ..unit(0, 'a', &[0, 1, 4], &[Verdict::Hold])
    };
    let mut out = Outbox::new();
    bed.shards[0].submit(reaching, &mut (), &mut out);
    bed.take(ShardId(0), out);
    bed.deliver();
    assert!(
        bed.shards[0].try_view(&[1], connection(0, 'b')).is_none(),
        "what it has touched it holds"
    );
    bed.go_on();
    bed.deliver();
    assert_eq!((bed.text(1), bed.finished.as_str()), ("a", "a"));
}

#[test]
fn work_that_no_client_sent_keeps_no_order() {
    let mut bed = Bed::new(1);
    let background = |name: char, slot: u16, verdicts: &[Verdict]| Unit {
        origin: ConnRef::background(ShardId(0)),
        ..unit(0, name, &[slot], verdicts)
    };
    let mut out = Outbox::new();
    bed.shards[0].submit(background('a', 0, &[Verdict::Hold]), &mut (), &mut out);
    bed.shards[0].submit(background('b', 1, &[]), &mut (), &mut out);
    bed.take(ShardId(0), out);
    assert_eq!(bed.finished, "b");
    bed.go_on();
    assert_eq!(bed.finished, "ba");
}

#[test]
fn an_outbox_is_empty_when_nothing_of_any_kind_is_in_it() {
    let (origin, ticket) = (connection(0, 'a'), Ticket(1));
    let empty = Outbox::<Text, Note>::new;
    assert!(empty().is_empty());
    let filled = [
        Outbox {
            messages: vec![(origin.shard, Message::Recall { ticket })],
            ..empty()
        },
        Outbox {
            finished: vec![(origin, unit(0, 'a', &[], &[]).work)],
            ..empty()
        },
        Outbox {
            held: vec![(ticket, origin)],
            ..empty()
        },
    ];
    assert!(filled.iter().all(|out| !out.is_empty()));
}

#[test]
fn who_waits_for_one_slot_takes_no_ticket() {
    let mut bed = Bed::new(2);
    bed.submit(0, 'a', &[0, 4], &[Verdict::Hold]);
    bed.deliver();
    assert_eq!(bed.tickets.taken_count(), 1);
    bed.submit(0, 's', &[0], &[]);
    bed.submit(0, 't', &[0], &[]);
    bed.go_on();
    bed.deliver();
    assert_eq!((bed.finished.as_str(), bed.tickets.taken_count()), ("ast", 1));
}

#[test]
fn a_shard_is_idle_only_while_nothing_is_lent_collected_or_waiting() {
    let idle = |bed: &Bed| bed.shards.iter().map(Shard::is_idle).collect::<Vec<_>>();
    let mut bed = Bed::new(3);
    assert_eq!(idle(&bed), [true, true, true]);
    bed.submit(0, 'a', &[4, 8], &[Verdict::Hold]);
    assert_eq!(idle(&bed), [false, true, true], "one collects");
    bed.deliver();
    assert_eq!(idle(&bed), [false, false, false], "two lend");
    bed.submit(1, 's', &[4], &[]);
    bed.go_on();
    bed.deliver();
    assert_eq!((idle(&bed), bed.finished.as_str()), (vec![true; 3], "as"));

    // Each of the things a shard remembers, by itself: what a unit of no connection waits for, holds and borrows.
    let background = |slots: &[u16], verdicts: &[Verdict]| Unit {
        origin: ConnRef::background(ShardId(0)),
        ..unit(0, 'b', slots, verdicts)
    };
    let mut out = Outbox::new();
    bed.shards[0].submit(background(&[4, 8], &[]), &mut (), &mut out);
    assert!(
        !bed.shards[0].is_idle(),
        "it collects, for no connection and with nothing of its own"
    );
    bed.take(ShardId(0), out);
    bed.deliver();
    assert_eq!(idle(&bed), [true; 3]);
}

#[test]
fn shards_are_the_same_after_as_many_tickets() {
    let shard = |taken_count: u64| {
        let realm = realm(2, 8);
        (0..taken_count).for_each(|_| {
            realm.tickets.take();
        });
        realm.tickets
    };
    let hash = |tickets: &TicketSource| BuildHasherDefault::<DefaultHasher>::new().hash_one(tickets);
    assert_eq!(shard(3), shard(3));
    assert_ne!(shard(3), shard(4));
    assert_eq!(hash(&shard(3)), hash(&shard(3)));
    assert_ne!(hash(&shard(3)), hash(&shard(4)));
}

/// Each unit that holds a slot lets go only when the next one has come to wait for it.
fn starve(bed: &mut Bed, slots: [u16; 2]) -> usize {
    bed.submit(0, 'a', &slots[..1], &[Verdict::Hold]);
    bed.submit(0, 'b', &slots[1..], &[Verdict::Hold]);
    bed.submit(1, 'm', &[slots[0], slots[1], 4], &[]);
    bed.deliver();
    for round in 0..100 {
        for (slot, first_name) in slots.into_iter().zip(['c', 'd']) {
            // A connection of its own for each unit.
            let name = char::from_u32(first_name as u32 + 100 + 2 * round).expect("a character");
            bed.submit(0, name, &[slot], &[Verdict::Hold]);
            bed.go_on();
            bed.deliver();
            if bed.finished.contains('m') {
                return round as usize;
            }
        }
    }
    panic!("the unit on two slots starved");
}

#[test]
fn units_that_hold_in_turn_do_not_starve_a_request() {
    let mut bed = Bed::new(2);
    assert!(starve(&mut bed, [0, 1]) < 5);
    while !bed.held.is_empty() {
        bed.go_on();
        bed.deliver();
    }
    assert!(bed.shards.iter().all(Shard::is_idle));
}

#[test]
fn units_that_hold_in_turn_do_not_starve_who_wants_everything() {
    let mut bed = Bed::new(2);
    bed.submit(0, 'a', &[0], &[Verdict::Hold]);
    bed.submit(1, 'e', &[], &[]);
    bed.deliver();
    for name in 'f'..='k' {
        bed.submit(0, name, &[name as u16 % 4], &[Verdict::Hold]);
        bed.go_on();
        bed.deliver();
    }
    assert!(bed.finished.contains('e'));
}

#[test]
fn a_request_is_not_passed_by_younger_ones() {
    for old in [&[] as &[u16], &[0, 1, 4]] {
        let mut bed = Bed::new(2);
        bed.submit(0, 'a', &[0, 4], &[Verdict::Hold]);
        bed.deliver();
        bed.submit(1, 'o', old, &[]);
        bed.deliver();
        // Slot 1 is at home all the time, but the older unit wants it too.
        bed.submit(1, 'y', &[1, 5], &[]);
        bed.deliver();
        assert_eq!(bed.finished, "");
        bed.go_on();
        bed.deliver();
        assert_eq!(bed.finished, "aoy");
    }
}

#[test]
fn requests_do_not_starve_a_unit_on_one_slot() {
    let mut bed = Bed::new(2);
    bed.submit(0, 'a', &[0, 4], &[Verdict::Hold]);
    bed.deliver();
    for name in ['b', 'c', 'd'] {
        bed.submit(0, name, &[0, 4], &[Verdict::Hold]);
    }
    bed.submit(0, 's', &[0], &[]);
    bed.deliver();
    bed.go_on();
    bed.deliver();
    assert_eq!(bed.finished, "as", "one loan had to be waited for, no more");
}

#[test]
fn an_older_unit_calls_back_the_loan_of_a_younger_one() {
    let mut bed = Bed::new(3);
    bed.submit(0, 'o', &[4, 8], &[]);
    let older = std::mem::take(&mut bed.in_flight);
    bed.submit(2, 'y', &[0, 4], &[]);
    // The younger one's asks arrive first, and it gets slot 4, but not yet slot 0.
    let (to_shard_0, to_shard_1): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut bed.in_flight)
        .into_iter()
        .partition(|(_, to, _)| *to == ShardId(0));
    bed.in_flight = to_shard_1;
    bed.deliver();
    bed.in_flight = older;
    bed.deliver();
    assert_eq!(bed.finished, "o");
    bed.in_flight = to_shard_0;
    bed.deliver();
    assert_eq!((bed.text(4), bed.finished.as_str()), ("oy", "oy"));
    assert!(bed.shards.iter().all(Shard::is_idle));
}

#[test]
fn a_loan_is_called_back_once() {
    let mut bed = Bed::new(3);
    bed.submit(0, 'o', &[0, 4], &[]);
    bed.submit(0, 'p', &[1, 4], &[]);
    let mut asks = std::mem::take(&mut bed.in_flight);
    bed.submit(2, 'y', &[4, 8], &[]);
    bed.deliver_first();
    // Shard 1 has granted slot 4 to the younger one, which does not have it yet.
    let mut grant = std::mem::take(&mut bed.in_flight);
    assert_eq!(grant.len(), 1);
    bed.in_flight.append(&mut asks);
    bed.deliver_first();
    assert_eq!(bed.recall_count(), 1);
    bed.in_flight.rotate_right(1);
    let recall = bed.in_flight.pop_front().expect("it was just counted");
    bed.deliver_first();
    assert_eq!(bed.recall_count(), 0, "it is on its way already");
    grant.push_back(recall);
    grant.append(&mut bed.in_flight);
    bed.in_flight = grant;
    bed.deliver();
    assert_eq!((bed.text(4).len(), bed.finished.len()), (3, 3));
    assert!(bed.shards.iter().all(Shard::is_idle));
}

#[test]
#[should_panic(expected = "which it held")]
fn who_lacks_what_it_held_would_lack_for_ever() {
    Bed::new(1).submit(0, 'x', &[1], &[Verdict::Lacks(Footprint::one(1))]);
}
