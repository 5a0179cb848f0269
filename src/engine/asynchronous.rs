//! Asynchronous commands: what their [`Context`] can do, and how one is run.
//!
//! It runs as a task of the executor of its connection's shard. The connection starts nothing while it is under way.
//! It works on a copy of the session, which is put back with the reply.

use super::clients::Clients;
use super::literal::{Context, Registered, Run};
use super::local::{Local, LocalHandle};
use super::registry::CommandId;
use super::route::Flow;
use crate::base::clock::UnixMs;
use crate::client::{Client, Session, Stall};
use crate::config::Settings;
use crate::resp::{Args, Reply, ReplyBuf};
use crate::shard::durable::Need;
use crate::shard::{ConnRef, ShardId};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

impl Context {
    /// The shard that it runs on.
    fn local(&self) -> LocalHandle {
        let shard = self.shard.clone().downcast::<RefCell<Local>>();
        LocalHandle(shard.expect("a context is made with its shard"))
    }

    pub fn args(&self) -> Args<'_> {
        self.arguments.as_args()
    }

    pub fn reply(&mut self) -> Reply<'_> {
        Reply::new(&mut self.output, self.session.proto)
    }

    /// Runs `f` over this shard.
    pub fn with<T>(&self, f: impl FnOnce(&mut Local) -> T) -> T {
        self.local().with(f)
    }

    pub fn now(&self) -> UnixMs {
        self.with(|local| local.env.now)
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.with(|local| local.env.settings.clone())
    }

    /// Asks all shards; answers in the order of their numbers.
    pub async fn ask_all<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Local) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        self.local().ask_all(question).await
    }

    /// Asks one shard.
    pub async fn ask<T: Send + 'static>(
        &self,
        shard: ShardId,
        question: impl FnOnce(&mut Local) -> T + Send + 'static,
    ) -> T {
        self.local().ask(shard, question).await
    }

    pub fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
        self.with(|local| local.executor()).sleep(duration)
    }
}

/// Starts an asynchronous command of a client of this shard.
pub(super) fn start_asynchronous(shard: &Local, client: &mut Client, found: &Registered, args: Args) -> Flow {
    if !client.pending.is_empty() {
        return Flow::Wait(Stall::Barrier);
    }
    let sequence = client.pending.reserve(client.is_silent(), args.byte_len());
    client.stall = Stall::Underway;
    let context = Context {
        shard: shard.handle().0,
        arguments: args.to_owned(),
        session: client.session.taken_along(),
        output: ReplyBuf::default(),
        place: client.place,
        is_nested: false,
        command: found.command,
    };
    let id = found.id;
    shard.executor.spawn(Box::pin(async move {
        let context = run_asynchronous(id, context).await;
        let local = context.local();
        let Context {
            session, output, place, ..
        } = context;
        local.with(|local| {
            let need = local.env.need_of_everything();
            finish_asynchronous(&mut local.clients, place, sequence, session, output, need);
        });
    }));
    Flow::Started
}

fn finish_asynchronous(
    clients: &mut Clients,
    place: ConnRef,
    sequence: u32,
    session: Session,
    mut output: ReplyBuf,
    need: Need,
) {
    let Some(client) = clients.get(place) else { return };
    client.needs(need);
    let Client { pending, out, .. } = &mut **client;
    pending.answer(sequence, out, |buffer| buffer.append(&mut output));
    clients.take_session_back(place, session);
    clients.answered(place.index);
}

/// Runs the handler and counts the call; the reply is in the context that comes back.
pub(super) async fn run_asynchronous(id: CommandId, mut context: Context) -> Context {
    let Run::Node(handler) = context.command.run else {
        unreachable!("only asynchronous commands get here");
    };
    let began = context.with(|local| local.env.tick());
    let result = handler(&mut context).await;
    let elapsed = context.with(|local| local.env.tick());
    if let Err(error) = &result {
        context.output.clear();
        context.reply().error(error);
    }
    let arguments = std::mem::take(&mut context.arguments);
    let is_nested = context.is_nested;
    context.with(|local| {
        let Local { env, registry, .. } = local;
        let microseconds = elapsed.us_since(began);
        match &result {
            Ok(()) => env.stats.count_call(id, microseconds),
            Err(error) => {
                env.stats.count_error(error);
                env.stats.count_failure(id, microseconds);
            }
        }
        env.note_slow(registry.get(id).command, arguments.as_args(), microseconds);
        if env.shows_commands() && !is_nested {
            env.show(registry.get(id).command, arguments.as_args(), &context.session);
        }
    });
    context
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::assembly::Assembly;
    use crate::engine::{Command, Registry};
    use crate::spec::command;

    const COMMANDS: &[Command] = &[Command {
        arity: 1,
        ..command(
            "ask-length",
            Run::Node(|context| {
                Box::pin(async {
                    let length = context.settings().slowlog_max_len;
                    context.reply().integer(length as i64);
                    Ok(())
                })
            }),
        )
    }];

    #[test]
    fn a_command_that_waits_goes_by_the_settings_of_now() {
        let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        let assembly = Assembly::new(registry, 1);
        for length in [3, 5] {
            let mut shard = assembly.shards[0].borrow_mut();
            let settings = Settings {
                slowlog_max_len: length,
                ..(*shard.env.settings).clone()
            };
            shard.follow(Arc::new(settings));
            drop(shard);
            assert_eq!(assembly.run(&[b"ask-length"]), format!(":{length}\r\n").as_bytes());
        }
    }
}
