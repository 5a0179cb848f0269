//! Parts, manifest, deaths and recoveries, and what must hold.

use Flaw::*;
use stateright::{Model, Property};
use std::collections::BTreeSet;

pub const SHARDS: usize = 2;

pub const WRITTEN: &str = "what was shown is found again when processes have died";
pub const PROMISED: &str = "what clients were shown under always is found again";
pub const BEGINNING: &str = "what is found of a life is a beginning of it";
pub const GONE: &str = "what was dropped does not come back";
pub const EXPLAINED: &str = "a recovery meets nothing that it cannot explain";

/// A part of the rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A recovery takes what stands behind a missing number.
    KeepPastGap,
    /// The manifest does not say where a life has ended.
    NoUntil,
    /// A new life begins above what is kept, not above all that was found, and files are not cut.
    ReuseNumbers,
    /// Files are not cut to what is kept.
    Uncut,
    /// A life in which no number was taken and the next one begin with the same number.
    SameLife,
    /// What is kept is not synced before a new life serves.
    ServeUnsynced,
    /// A life is closed in the manifest before what is kept is synced.
    CloseBeforeSync,
    /// What a rewrite replaces is removed before the manifest knows of the base.
    RemoveBeforeManifest,
    /// The manifest names a base that is not on disk.
    BaseUnsynced,
    /// What the base has was noted before everybody stood still.
    BaseBeforeCut,
    /// The new parts come into the manifest when they have been written to.
    PartsAfterCut,
}

#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// How many log numbers are taken, deaths come and rewrites begin, at most.
    pub numbers: u8,
    pub deaths: u8,
    pub rewrites: u8,
    pub flaw: Option<Flaw>,
    /// The only property that is looked at.
    pub only: Option<&'static str>,
}

impl Case {
    pub fn with_flaw(self, flaw: Flaw) -> Case {
        let flaw = Some(flaw);
        Case { flaw, ..self }
    }

    /// Looks at this property alone.
    pub fn only(self, property: &'static str) -> Case {
        let only = Some(property);
        Case { only, ..self }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

/// Of each life, the number that it does not reach.
type Ends = Vec<(u8, u8)>;

/// A chunk: the first number of its life, and its own.
pub type Chunk = (u8, u8);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Part {
    /// Files of one generation are made together.
    generation: u8,
    shard: u8,
    life: u8,
    chunks: Vec<Chunk>,
    /// How many of them are on disk.
    synced: usize,
}

/// What a manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Manifest {
    /// What the base has, and up to which number.
    base: Option<(u8, BTreeSet<Chunk>)>,
    /// Generations whose parts are read, from this one on, up to this one.
    first: u8,
    last: u8,
    /// Where lives have ended.
    until: Vec<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    #[default]
    Serving,
    Dead,
    /// Found; so many parts have been cut and synced.
    Settling(usize),
    /// The life is closed.
    Closed,
    /// It has met something that should not be.
    Lost,
}

/// How far a rewrite is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rewrite {
    #[default]
    None,
    Noted,
    Prepared,
    Cut,
    Based,
    Named,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    phase: Phase,
    life: u8,
    next: u8,
    /// Of each shard, the number that it has taken and not written.
    taken: [Option<u8>; SHARDS],
    parts: Vec<Part>,
    manifest: Manifest,
    generation: u8,
    rewrite: Rewrite,
    /// Of the rewrite under way: the number at the cut, and what the base has; whether that is on disk.
    cut: u8,
    base: BTreeSet<Chunk>,
    base_on_disk: bool,
    /// Whether the one that the manifest names is.
    is_named_on_disk: bool,
    /// What has gone with the parts that a base has replaced: the process has it in memory.
    rewritten: BTreeSet<Chunk>,
    /// What the data set of this process began with.
    found: BTreeSet<Chunk>,
    is_base_whole: bool,
    numbers_left: u8,
    deaths_left: u8,
    rewrites_left: u8,
    /// Shown to anybody since the last death of a machine; shown to clients under `always`; dropped by a recovery.
    shown: BTreeSet<Chunk>,
    promised: BTreeSet<Chunk>,
    dropped: BTreeSet<Chunk>,
    has_gap: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Take(usize),
    Write(usize),
    Sync(usize),
    Rewrite,
    Kill,
    /// Of each part so many chunks stay.
    Crash(Vec<usize>),
    Recover,
}

impl Case {
    fn add_parts(state: &mut State) {
        state.generation += 1;
        for shard in 0..SHARDS {
            state.parts.push(Part {
                generation: state.generation,
                shard: shard as u8,
                life: state.life,
                ..Part::default()
            });
        }
    }

    /// The numbers of this life that are in parts, on disk or not, with none missing before them.
    fn dense(state: &State, only_synced: bool) -> BTreeSet<Chunk> {
        let own = state.parts.iter().filter(|part| part.life == state.life);
        let all: BTreeSet<Chunk> = own
            .flat_map(|part| {
                part.chunks
                    .iter()
                    .take(if only_synced { part.synced } else { usize::MAX })
            })
            .copied()
            .collect();
        let mut end = state.life;
        while all.contains(&(state.life, end)) || state.rewritten.contains(&(state.life, end)) {
            end += 1;
        }
        all.into_iter().filter(|(_, number)| *number < end).collect()
    }

    /// Notes what others have been shown by now.
    fn note(state: &mut State) {
        if state.phase != Phase::Serving {
            return;
        }
        let written = Self::dense(state, false);
        state.shown.extend(written);
        let durable = Self::dense(state, true);
        let found = state.found.clone();
        state.shown.extend(found.iter().copied());
        state.promised.extend(found);
        state.promised.extend(durable);
    }

    /// What a process finds that begins now, and where each life ends by that.
    fn find(&self, state: &State) -> Option<(BTreeSet<Chunk>, Ends)> {
        let manifest = &state.manifest;
        let mut found = BTreeSet::new();
        let mut next = 1;
        if let Some((number, base)) = &manifest.base {
            if !state.is_base_whole {
                return None;
            }
            found.extend(base);
            next = *number;
        }
        let is_read = |part: &&Part| (manifest.first..=manifest.last).contains(&part.generation);
        let read: Vec<&Part> = state.parts.iter().filter(is_read).collect();
        // A file that is listed and missing.
        for generation in manifest.first..=manifest.last {
            if generation > 0 && !read.iter().any(|part| part.generation == generation) {
                return None;
            }
        }
        let mut lives: Vec<u8> = read.iter().map(|part| part.life).collect();
        lives.dedup();
        let mut ends = Vec::new();
        for life in lives {
            let chunks = read
                .iter()
                .filter(|part| part.life == life)
                .flat_map(|part| &part.chunks);
            let chunks: BTreeSet<Chunk> = chunks.copied().collect();
            let until = manifest
                .until
                .iter()
                .find(|(of, _)| *of == life)
                .map(|(_, until)| *until);
            let is_known = until.is_some() || !self.has(NoUntil);
            next = if is_known { next.max(life) } else { next };
            if self.has(KeepPastGap) && until.is_none() {
                found.extend(chunks.iter().filter(|(_, number)| *number >= next));
                next = chunks.last().map_or(next, |(_, number)| number + 1);
                ends.push((life, next));
                continue;
            }
            while until.is_none_or(|until| next < until) && chunks.contains(&(life, next)) {
                found.insert((life, next));
                next += 1;
            }
            if until.is_some_and(|until| next < until) {
                return None;
            }
            ends.push((life, next));
        }
        Some((found, ends))
    }

    fn recover(&self, state: &mut State) {
        match state.phase {
            Phase::Dead => {
                let Some((found, ends)) = self.find(state) else {
                    state.phase = Phase::Lost;
                    return;
                };
                let all = state.parts.iter().flat_map(|part| &part.chunks);
                let highest = all.clone().map(|(_, number)| *number).max().unwrap_or(0);
                let highest = highest.max(state.manifest.base.as_ref().map_or(0, |(number, _)| number - 1));
                let highest = highest.max(
                    state
                        .manifest
                        .until
                        .iter()
                        .map(|(_, until)| until - 1)
                        .max()
                        .unwrap_or(0),
                );
                // No two lives begin with the same number, or the end of the one would be taken for that of the other.
                let highest = if self.has(SameLife) {
                    highest
                } else {
                    highest.max(state.life)
                };
                let kept = found.iter().map(|(_, number)| *number).max().unwrap_or(0);
                state.next = 1 + if self.has(ReuseNumbers) { kept } else { highest };
                state.cut = state.next;
                state.base = found;
                if self.has(CloseBeforeSync) && !self.has(NoUntil) {
                    state.manifest.until = ends;
                }
                state.phase = Phase::Settling(0);
            }
            Phase::Settling(count) if count < state.parts.len() => {
                let cuts = !self.has(Uncut) && !self.has(ReuseNumbers);
                let kept = state.base.clone();
                let part = &mut state.parts[count];
                if cuts {
                    part.chunks
                        .retain(|chunk| kept.contains(chunk) || part.generation > state.manifest.last);
                    part.synced = part.synced.min(part.chunks.len());
                }
                if !self.has(ServeUnsynced) {
                    part.synced = part.chunks.len();
                }
                state.phase = Phase::Settling(count + 1);
            }
            Phase::Settling(_) => {
                let Some((_, ends)) = self.find(state) else {
                    state.phase = Phase::Lost;
                    return;
                };
                if !self.has(NoUntil) {
                    state.manifest.until = ends;
                }
                state.phase = Phase::Closed;
            }
            Phase::Closed => {
                let found = std::mem::take(&mut state.base);
                let chunks = state.parts.iter().flat_map(|part| &part.chunks);
                let lost = chunks.filter(|chunk| !found.contains(chunk)).copied();
                state.dropped.extend(lost.collect::<Vec<_>>());
                state.found = found;
                state.life = state.next;
                Self::add_parts(state);
                state.manifest.last = state.generation;
                state.phase = Phase::Serving;
            }
            Phase::Serving | Phase::Lost => unreachable!("nothing is to be recovered"),
        }
    }

    /// The next step of a rewrite.
    fn rewrite(&self, state: &mut State) {
        let all = |state: &State| {
            let own = state.parts.iter().filter(|part| part.life == state.life);
            let own = own
                .flat_map(|part| &part.chunks)
                .chain(&state.found)
                .chain(&state.rewritten);
            own.copied().collect::<BTreeSet<Chunk>>()
        };
        state.rewrite = match state.rewrite {
            Rewrite::None if self.has(BaseBeforeCut) => {
                state.base = all(state);
                Rewrite::Noted
            }
            Rewrite::None | Rewrite::Noted => {
                state.rewrites_left -= 1;
                Self::add_parts(state);
                // (Nobody writes to the new parts before the cut: see `write`.)
                if !self.has(PartsAfterCut) {
                    state.manifest.last = state.generation;
                }
                Rewrite::Prepared
            }
            // Everybody stands still: nothing is taken that is not written.
            Rewrite::Prepared => {
                state.cut = state.next;
                if !self.has(BaseBeforeCut) {
                    state.base = all(state);
                }
                state.base_on_disk = false;
                Rewrite::Cut
            }
            Rewrite::Cut => {
                state.base_on_disk = !self.has(BaseUnsynced);
                if self.has(RemoveBeforeManifest) {
                    Self::remove_replaced(state);
                }
                Rewrite::Based
            }
            Rewrite::Based => {
                state.is_named_on_disk = state.base_on_disk;
                state.manifest.base = Some((state.cut, std::mem::take(&mut state.base)));
                state.manifest.first = state.generation;
                state.manifest.last = state.generation;
                Rewrite::Named
            }
            Rewrite::Named => {
                Self::remove_replaced(state);
                Rewrite::None
            }
        };
    }

    fn remove_replaced(state: &mut State) {
        let (kept, gone) = std::mem::take(&mut state.parts)
            .into_iter()
            .partition(|part| part.generation == state.generation);
        state.parts = kept;
        let gone: Vec<Part> = gone;
        state.rewritten.extend(gone.into_iter().flat_map(|part| part.chunks));
    }

    fn may_rewrite(&self, state: &State) -> bool {
        let may_begin = state.rewrite != Rewrite::None || state.rewrites_left > 0;
        let stands_still = state.taken == [None; SHARDS];
        may_begin && (state.rewrite != Rewrite::Prepared || stands_still)
    }

    fn die(&self, state: &mut State, kept: Option<&[usize]>) {
        state.deaths_left -= 1;
        state.taken = [None; SHARDS];
        state.rewrite = Rewrite::None;
        state.phase = Phase::Dead;
        state.base.clear();
        state.rewritten.clear();
        if let Some(kept) = kept {
            for (part, kept) in state.parts.iter_mut().zip(kept) {
                part.chunks.truncate(*kept);
                part.synced = part.chunks.len();
            }
            state.shown = state.promised.clone();
            state.is_base_whole &= state.is_named_on_disk;
        }
    }

    fn crashes(parts: &[Part]) -> Vec<Vec<usize>> {
        parts.iter().fold(vec![Vec::new()], |all, part| {
            let extend = |before: Vec<usize>| {
                let ends = part.synced..=part.chunks.len();
                ends.map(move |end| [&before[..], &[end]].concat())
            };
            all.into_iter().flat_map(extend).collect()
        })
    }
}

impl Model for Case {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            life: 1,
            next: 1,
            is_base_whole: true,
            is_named_on_disk: true,
            numbers_left: self.numbers,
            deaths_left: self.deaths,
            rewrites_left: self.rewrites,
            ..State::default()
        };
        Self::add_parts(&mut state);
        (state.manifest.first, state.manifest.last) = (1, 1);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.phase {
            Phase::Lost => return,
            Phase::Serving => {
                for shard in 0..SHARDS {
                    match state.taken[shard] {
                        Some(_) => actions.push(Action::Write(shard)),
                        None if state.numbers_left > 0 => actions.push(Action::Take(shard)),
                        None => {}
                    }
                    let own = |part: &&Part| usize::from(part.shard) == shard;
                    let mut own = state.parts.iter().filter(own);
                    if own.any(|part| part.synced < part.chunks.len()) {
                        actions.push(Action::Sync(shard));
                    }
                }
                if self.may_rewrite(state) {
                    actions.push(Action::Rewrite);
                }
            }
            Phase::Dead | Phase::Settling(_) | Phase::Closed => actions.push(Action::Recover),
        }
        if state.deaths_left > 0 {
            actions.push(Action::Kill);
            actions.extend(Self::crashes(&state.parts).into_iter().map(Action::Crash));
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Take(shard) => {
                state.taken[shard] = Some(state.next);
                state.next += 1;
                state.numbers_left -= 1;
            }
            Action::Write(shard) => {
                let number = state.taken[shard].take()?;
                let is_new = !matches!(state.rewrite, Rewrite::Prepared);
                let life = state.life;
                let generation = if is_new { state.generation } else { state.generation - 1 };
                let part = state
                    .parts
                    .iter_mut()
                    .find(|part| part.generation == generation && usize::from(part.shard) == shard);
                part?.chunks.push((life, number));
            }
            Action::Sync(shard) => {
                let own = state.parts.iter_mut().filter(|part| usize::from(part.shard) == shard);
                own.for_each(|part| part.synced = part.chunks.len());
            }
            Action::Rewrite => self.rewrite(&mut state),
            Action::Kill => self.die(&mut state, None),
            Action::Crash(kept) => self.die(&mut state, Some(&kept)),
            Action::Recover => self.recover(&mut state),
        }
        Self::note(&mut state);
        state.has_gap = state.phase == Phase::Serving && has_gap(&state.found);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(WRITTEN, |_, state: &State| has(state, &state.shown)),
            Property::always(PROMISED, |_, state: &State| has(state, &state.promised)),
            Property::always(BEGINNING, |_, state: &State| !state.has_gap),
            Property::always(GONE, |_, state: &State| {
                state.phase != Phase::Serving || state.found.is_disjoint(&state.dropped)
            }),
            Property::always(EXPLAINED, |_, state: &State| state.phase != Phase::Lost),
        ];
        properties.retain(|property| self.only.is_none_or(|only| property.name == only));
        properties
    }
}

/// Whether a process that serves has all of these.
fn has(state: &State, all: &BTreeSet<Chunk>) -> bool {
    let own = state.parts.iter().filter(|part| part.life == state.life);
    let own: BTreeSet<&Chunk> = own.flat_map(|part| &part.chunks).chain(&state.found).collect();
    let has_gone = |chunk: &Chunk| state.rewritten.contains(chunk);
    state.phase != Phase::Serving || all.iter().all(|chunk| own.contains(chunk) || has_gone(chunk))
}

/// Whether a number is missing before another one of the same life.
fn has_gap(found: &BTreeSet<Chunk>) -> bool {
    found
        .iter()
        .any(|(life, number)| (*life..*number).any(|before| !found.contains(&(*life, before))))
}
