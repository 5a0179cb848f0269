//! All commands, numbered and found by name. How they run it does not know: that is the type that it is made with.
//!
//! The registry is built once, at start, from the families' literals; it never changes afterwards but for
//! `rename-command`, which is part of the building. A command's number is its position in the flat list of commands
//! and subcommands; statistics and queued transactions name commands by it.

use crate::resp::{Args, ReplyError, error};
use crate::spec::{Begin, Command, Find, KeyFlags};
use hashbrown::HashTable;

/// A command's number.
pub type CommandId = u16;

/// What the registry must know of how a command runs.
pub trait Kind: Copy + 'static {
    /// The subcommands of a container that alone is seen, if it is one.
    fn guarded(&self) -> Option<&'static [Command<Self>]>;
    /// It runs over the slots of the keys that its key specs find, and of no others.
    fn is_over_its_keys(&self) -> bool;
}

/// One command or subcommand as the registry knows it.
pub struct Registered<R: 'static> {
    pub id: CommandId,
    pub command: &'static Command<R>,
    /// `get`, or `config|get`.
    pub full_name: String,
    /// The names under which clients reach it: the same, unless `rename-command` has changed it.
    pub shown_name: String,
    pub parent: Option<CommandId>,
    /// The place of its only key, when it always has one there.
    pub single_key: Option<usize>,
    /// The numbers of its subcommands that are seen.
    pub children: std::ops::Range<CommandId>,
    /// The numbers of all its subcommands, seen or not.
    members: std::ops::Range<CommandId>,
    /// It belongs to a guarded container, which alone is seen.
    pub is_inner: bool,
}

impl<R: Kind> Registered<R> {
    /// Whether it is a container with a guard.
    pub fn is_guarded(&self) -> bool {
        self.command.run.guarded().is_some()
    }
}

/// The flat list and the tables of names.
pub struct Registry<R: 'static> {
    commands: Vec<Registered<R>>,
    top_level: HashTable<CommandId>,
}

/// What a request's first words name.
pub type Found<'a, R> = Result<&'a Registered<R>, ReplyError>;

impl<R: Kind> Registry<R> {
    /// Builds the registry. `renames` pairs a command's name with its new one; an empty new name removes it.
    ///
    /// An error is the name in `renames` that is no command, or the new name that exists already.
    pub fn new(families: &[&'static [Command<R>]], renames: &[(String, String)]) -> Result<Registry<R>, String> {
        let mut registry = Registry {
            commands: Vec::new(),
            top_level: HashTable::new(),
        };
        for command in families.iter().flat_map(|family| family.iter()) {
            let id = registry.push(command, None);
            let children_start = registry.commands.len() as CommandId;
            let inner = command.run.guarded().unwrap_or_default();
            for sub in command.subcommands.iter().chain(inner) {
                registry.push(sub, Some(id));
            }
            let end = registry.commands.len() as CommandId;
            let container = &mut registry.commands[id as usize];
            container.members = children_start..end;
            container.children = children_start..end - inner.len() as CommandId;
        }
        let mut reachable: Vec<CommandId> = registry
            .commands
            .iter()
            .filter(|c| c.parent.is_none())
            .map(|c| c.id)
            .collect();
        for (old, new) in renames {
            let id = *reachable
                .iter()
                .find(|&&id| registry.commands[id as usize].shown_name.eq_ignore_ascii_case(old))
                .ok_or_else(|| "No such command in rename-command".to_owned())?;
            if new.is_empty() {
                reachable.retain(|&other| other != id);
            } else if reachable
                .iter()
                .any(|&o| registry.commands[o as usize].shown_name.eq_ignore_ascii_case(new))
            {
                return Err("Target command name already exists".to_owned());
            } else {
                registry.commands[id as usize].shown_name = new.to_ascii_lowercase();
            }
        }
        for id in reachable {
            let hash = hash_name(registry.commands[id as usize].shown_name.as_bytes());
            let commands = &registry.commands;
            let rehash = |&other: &CommandId| hash_name(commands[other as usize].shown_name.as_bytes());
            registry.top_level.insert_unique(hash, id, rehash);
        }
        Ok(registry)
    }

    fn push(&mut self, command: &'static Command<R>, parent: Option<CommandId>) -> CommandId {
        let id = CommandId::try_from(self.commands.len()).expect("there are fewer than 65536 commands");
        let full_name = match parent {
            Some(parent) => format!("{}|{}", self.commands[parent as usize].full_name, command.name),
            None => command.name.to_owned(),
        };
        let shown_name = full_name.clone();
        let is_inner = parent.is_some_and(|parent| self.commands[parent as usize].is_guarded());
        self.commands.push(Registered {
            id,
            command,
            full_name,
            shown_name,
            parent,
            single_key: single_key(command),
            children: 0..0,
            members: 0..0,
            is_inner,
        });
        id
    }

    /// Every command and subcommand, in the order of their numbers.
    pub fn all(&self) -> &[Registered<R>] {
        &self.commands
    }

    /// The commands that clients can reach, without their subcommands.
    pub fn reachable(&self) -> impl Iterator<Item = &Registered<R>> {
        let mut ids: Vec<CommandId> = self.top_level.iter().copied().collect();
        ids.sort_unstable();
        ids.into_iter().map(|id| self.get(id))
    }

    #[inline]
    pub fn get(&self, id: CommandId) -> &Registered<R> {
        &self.commands[id as usize]
    }

    /// The top-level command of that name, in any letter case.
    #[inline]
    pub fn by_name(&self, name: &[u8]) -> Option<&Registered<R>> {
        let same = |&id: &CommandId| {
            let known = self.commands[id as usize].shown_name.as_bytes();
            known.len() == name.len() && known.eq_ignore_ascii_case(name)
        };
        self.top_level.find(hash_name(name), same).map(|&id| self.get(id))
    }

    /// The subcommand of that name, in any letter case.
    pub fn subcommand(&self, container: &Registered<R>, name: &[u8]) -> Option<&Registered<R>> {
        let found = self.named_child(container, name)?;
        (!found.is_inner).then_some(found)
    }

    fn named_child(&self, container: &Registered<R>, name: &[u8]) -> Option<&Registered<R>> {
        self.commands[container.members.start as usize..container.members.end as usize]
            .iter()
            .find(|child| child.command.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The subcommands of a container, as far as they are seen.
    pub fn children(&self, container: &Registered<R>) -> impl Iterator<Item = &Registered<R>> {
        self.commands[container.children.start as usize..container.children.end as usize].iter()
    }

    /// What statistics count a command as: itself, or the container that it is hidden in.
    pub fn counted_as(&self, found: &Registered<R>) -> CommandId {
        match found.parent {
            Some(parent) if found.is_inner => parent,
            _ => found.id,
        }
    }

    /// The command of `name` or `container|sub`, as ACL rules and `COMMAND INFO` spell it.
    pub fn by_full_name(&self, name: &[u8]) -> Option<&Registered<R>> {
        match memchr::memchr(b'|', name) {
            Some(bar) => self.subcommand(self.by_name(&name[..bar])?, &name[bar + 1..]),
            None => self.by_name(name),
        }
    }

    /// As [`Registry::resolve`], for a client that has just called `last`: it will often call that again.
    #[inline]
    pub fn resolve_after<'r>(&'r self, last: Option<CommandId>, args: Args<'_>) -> Found<'r, R> {
        if let Some(last) = last {
            let known = &self.commands[last as usize];
            let is_alone = known.parent.is_none() && known.members.is_empty();
            if is_alone && known.shown_name.as_bytes().eq_ignore_ascii_case(args.at(0)) {
                return Ok(known);
            }
        }
        self.resolve(args)
    }

    /// What the first words of a request name; the error is what the client gets.
    pub fn resolve(&self, args: Args<'_>) -> Found<'_, R> {
        let Some(found) = self.by_name(args.at(0)) else {
            return Err(error::unknown_command(args));
        };
        if found.members.is_empty() {
            return Ok(found);
        }
        match args.get(1) {
            Some(name) => match self.named_child(found, name) {
                Some(sub) => Ok(sub),
                // Whether the client may know that is for its guard to say.
                None if found.is_guarded() => Ok(found),
                None => Err(error::unknown_subcommand(&found.shown_name, name)),
            },
            // A container that also runs by itself (COMMAND) keeps its own arity.
            None => Ok(found),
        }
    }
}

/// The argument that is the only key of a call, when the literal says that there is exactly one at a fixed place.
fn single_key<R: Kind>(command: &Command<R>) -> Option<usize> {
    let [spec] = command.keys else { return None };
    match (spec.begin, spec.find) {
        // (What only looks like a key, as a shard channel does, is none.)
        _ if spec.flags.contains(KeyFlags::NOT_KEY) => None,
        (Begin::Index(index), Find::Range { last: 0, .. }) if command.run.is_over_its_keys() => Some(index),
        _ => None,
    }
}

/// FNV-1a over the lower-cased name: names are short, and the table is built from our own words.
#[inline]
fn hash_name(name: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in name {
        hash = (hash ^ (byte | 0x20) as u64).wrapping_mul(0x100_0000_01b3);
    }
    // The table takes its control bits from the top and its position from the bottom.
    hash ^ (hash >> 29)
}
