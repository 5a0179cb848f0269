//! What each request of a program is to the engine, read from the literals: which of them run over slots, which are queued, which
//! end a transaction. Nothing here knows a command.

use super::reply;
use super::story::Request;
use crate::engine::Control;
use crate::engine::literal::each_key;
use crate::engine::{Registry, Run};
use crate::resp::OwnedArgs;
use crate::shard::Footprint;
use crate::spec::Flags;

/// See the essay above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Runs over slots by itself.
    Data,
    /// Waits for EXEC.
    Queued,
    Multi,
    /// With the place of its MULTI in the program.
    Exec(usize),
    Discard,
    Watch,
    Unwatch,
    Reset,
    Quit,
    Session,
    /// Waits for other shards.
    Asynchronous,
    /// It is answered with an error before it runs.
    Refused,
}

/// What the registry says of a request.
#[derive(Clone, Debug)]
pub(super) struct Traits {
    pub(super) role: Role,
    /// The transaction that it would have been queued for does nothing any more.
    pub(super) dooms: bool,
    pub(super) footprint: Footprint,
    /// It has one slot, and will not need more.
    pub(super) is_single: bool,
    pub(super) writes: bool,
    pub(super) needs_memory: bool,
    /// It is not refused while a data set is read.
    pub(super) runs_while_loading: bool,
    /// It asks other shards, at once or when EXEC comes to it.
    pub(super) is_asynchronous: bool,
}

/// The traits of each request of a program.
pub(super) fn traits_of(registry: &Registry, program: &[Request]) -> Vec<Traits> {
    let mut multi = None;
    let mut all = Vec::with_capacity(program.len());
    for (index, request) in program.iter().enumerate() {
        let traits = of(registry, request, &mut multi, index);
        all.push(traits);
    }
    all
}

fn of(registry: &Registry, request: &Request, multi: &mut Option<usize>, index: usize) -> Traits {
    let args = OwnedArgs::from_slices(&request.words);
    let args = args.as_args();
    let mut traits = Traits {
        role: Role::Refused,
        dooms: false,
        footprint: Footprint::Slots(crate::shard::SlotSet::new()),
        is_single: false,
        writes: false,
        needs_memory: false,
        runs_while_loading: false,
        is_asynchronous: false,
    };
    let Ok(found) = registry.resolve(args) else {
        traits.dooms = true;
        return traits;
    };
    let command = found.command;
    if !command.accepts(args.len()) || matches!(command.run, Run::Container | Run::Guarded(_)) {
        traits.dooms = true;
        return traits;
    }
    traits.writes = command.flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE));
    traits.needs_memory = command.flags.contains(Flags::DENYOOM);
    traits.runs_while_loading = command.flags.contains(Flags::LOADING);
    traits.is_asynchronous = matches!(command.run, Run::Node(_));
    if let Some(Ok(footprint)) = command.run.footprint(command, args) {
        let has_one = matches!(&footprint, Footprint::Slots(slots) if slots.len() == 1);
        // Nothing changes places with what may wait.
        traits.is_single = has_one && !command.run.may_reach_further() && !command.flags.contains(Flags::BLOCKING);
        traits.footprint = footprint;
    }
    traits.role = match command.run {
        Run::Transaction(Control::Multi) if multi.is_some() => Role::Refused,
        Run::Transaction(Control::Multi) => {
            *multi = Some(index);
            Role::Multi
        }
        Run::Transaction(Control::Exec) => multi.take().map_or(Role::Refused, Role::Exec),
        Run::Transaction(Control::Discard) => multi.take().map_or(Role::Refused, |_| Role::Discard),
        Run::Transaction(Control::Watch) if multi.is_some() => Role::Refused,
        Run::Transaction(Control::Watch) => {
            traits.footprint = Footprint::Slots(args.slice_from(1).iter().map(crate::base::slot::key_slot).collect());
            Role::Watch
        }
        Run::Transaction(Control::Reset) => {
            *multi = None;
            Role::Reset
        }
        Run::Transaction(Control::Quit) => Role::Quit,
        _ if multi.is_some() && command.flags.contains(Flags::NO_MULTI) => {
            traits.dooms = true;
            Role::Refused
        }
        _ if multi.is_some() => Role::Queued,
        Run::Transaction(Control::Unwatch) => Role::Unwatch,
        Run::Session(_) => Role::Session,
        Run::Node(_) => Role::Asynchronous,
        Run::Keys(_) | Run::Slots(..) | Run::Reaching(..) | Run::Script(_) | Run::Everything(_) => Role::Data,
        Run::Container | Run::Guarded(_) => unreachable!("containers were refused above"),
    };
    traits
}

/// The keys of a command as it is logged.
pub(super) fn keys_of_logged(registry: &Registry, command: &[u8]) -> Vec<Vec<u8>> {
    let bulks = reply::elements(command).unwrap_or_default();
    let words: Vec<&[u8]> = bulks.into_iter().filter_map(reply::text_of_bulk).collect();
    let mut keys = Vec::new();
    if words.is_empty() {
        return keys;
    }
    let args = OwnedArgs::from_slices(&words);
    let args = args.as_args();
    if let Ok(found) = registry.resolve(args) {
        let positions = each_key(found.command, args, |position| keys.push(args[position.index].to_vec()));
        positions.expect("what is logged has run");
    }
    keys
}
