//! Replicas: how they get the data set, and then the stream.
//!
//! Two shards have to do with each: that of its connection, and the first one, which owns the stream ([`feed`](super::feed)). What the owner has
//! for a replica goes to its connection's shard as a visit, and visits arrive in the order in which they were sent: so what was said first
//! (which history it gets) comes before what follows.
//!
//! ```text
//!  shards --pieces, when passes are released--> the first shard: whole stretches --> shards of replicas --> outputs
//! ```
//!
//! The data set is a snapshot's file ([`full_sync`](super::full_sync)), which all get who wait at its cut. It is read by a thread that may wait, as
//! much at a time as leaves room for in the output, so a slow replica keeps nothing in memory but what it lacks of the stream, and
//! that is bounded by its output limit. With `repl-diskless-sync yes` the file is the same; it is sent between marks then, to those who can read
//! that, as Redis does: for a replica the one is as good as the other, and the master's memory is spared.
//!
//! Nobody waits for a replica: what it is sent is put into its output, whatever has piled up there, and who is too slow ends by his limit.

use super::feed::{Fed, Promise, UnderWay};
use super::full_sync::{FullSync, Laid};
use super::local::{Envelope, Local, on_another_thread};
use super::replication::stream::{Piece, Stream, Stretch};
use super::replication::{BacklogFigures, History, Replica, ReplicaState, Replication};
use super::saves;
use super::snapshot::Reason;
use crate::base::clock::{Ms, UnixMs};
use crate::base::random::Random;
use crate::client::{Client, Follower, Mode, ReplicaWords, Stage};
use crate::config::{ReplCompat, Settings};
use crate::runtime::disk::DiskFile;
use crate::shard::durable::Need;
use crate::shard::{ConnRef, ShardId};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Who owns the stream.
const OWNER: ShardId = ShardId(0);

/// How much of a data set is read at a time, and how much of it may stand in an output.
const READ_AT_ONCE: usize = 256 * 1024;

/// How often it is looked whether there is room for more of it.
const ROOM_LOOKED_FOR_EVERY: Duration = Duration::from_millis(1);

/// How often those who wait are shown that somebody is there.
const KEPT_AWAKE_EVERY: Ms = Ms(1000);

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// What a replica asks for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// SYNC: all, and no word before it.
    Sync,
    /// PSYNC: of that history, what comes from that offset on (the first byte of a history has offset 1).
    From(Vec<u8>, i64),
}

/// A client of this shard asks for the stream. It is answered by what it gets.
pub fn ask(local: &mut Local, place: ConnRef, wish: Wish) {
    let now = local.env.now;
    let Some(client) = local.clients.get(place) else { return };
    if client.follower.is_some() {
        // It has asked before: it is told nothing, as in Redis.
        return;
    }
    client.mode = Mode::Replica;
    client.follower = Some(Box::new(Follower::new()));
    let words = client.session.replica.as_deref().cloned().unwrap_or_default();
    let id = client.session.id;
    let address = client
        .session
        .address
        .rsplit_once(':')
        .map_or("", |(ip, _)| ip)
        .to_owned();
    let replica = Replica {
        id,
        place,
        ip: if words.ip.is_empty() { address } else { words.ip.clone() },
        port: words.port,
        state: ReplicaState::Waiting,
        acked_offset: 0,
        acked_at: now,
        durable_offset: None,
    };
    local.node.replication.lock().replicas.push(replica);
    visit(local, OWNER, move |owner| enter(owner, id, place, words, wish));
}

/// It has gone.
pub(super) fn forget(local: &mut Local, id: u64) {
    let of_others = |replica: &Replica| replica.id != id;
    local.node.replication.lock().replicas.retain(of_others);
    visit(local, OWNER, move |owner| {
        owner.feed.fed.retain(|fed| fed.id != id);
    });
}

/// To be called before its output is handed over: who has said that it has the data set gets what was withheld.
#[cold]
pub(super) fn obey_ack(client: &mut Client, replication: &Replication) {
    let has_acked = client.session.replica.as_ref().is_some_and(|words| words.has_acked);
    if let Some(follower) = &mut client.follower
        && follower.stage == Stage::Silent
        && has_acked
    {
        let mut withheld = follower.go_online();
        client.message_buffer().append(&mut withheld);
        let id = client.session.id;
        if let Some(replica) = replication.lock().replica(id) {
            replica.state = ReplicaState::Online;
        }
    }
}

/// Hands on what a pass that is released has for the stream.
#[cold]
pub(super) fn hand_on(local: &mut Local, pieces: Vec<Piece>) {
    visit(local, OWNER, move |owner| take_in(owner, pieces));
}

/// Asks all replicas to say what they have.
pub fn ask_for_acks(local: &mut Local) {
    visit(local, OWNER, |owner| say(owner, GETACK));
}

/// To be called by the cron of each shard.
pub(super) fn look_after(local: &mut Local) {
    if local.env.shard != OWNER {
        return;
    }
    if see_role(local) {
        return;
    }
    let has_any = !local.feed.fed.is_empty();
    if !has_any && local.feed.stream.is_none() && local.feed.sync.is_none() {
        return;
    }
    let (settings, now) = (local.env.settings.clone(), local.env.now);
    look_at_sync(local);
    if let Some(stream) = &mut local.feed.stream {
        stream.resize(backlog_bytes_max(&settings));
    }
    begin_sync(local, &settings);
    if has_any && now.since(local.feed.pinged_at) >= Ms::from_seconds(settings.repl_ping_replica_period.into()) {
        local.feed.pinged_at = now;
        say(local, PING);
    }
    if now.since(local.feed.kept_awake_at) >= KEPT_AWAKE_EVERY {
        local.feed.kept_awake_at = now;
        keep_awake(local);
        end_silent(local, &settings);
    }
    local
        .node
        .replication
        .count_near(settings.min_replicas_max_lag.into(), now);
    forget_backlog(local, &settings);
    note_backlog(local);
}

/// What was promised as a master, or by one that had another history, is over when the role has changed: those who copied this server come
/// back, and are told what it is now. To be called before anything is done about the stream; true: a replica has none.
fn see_role(local: &mut Local) -> bool {
    let replication = &local.node.replication;
    let (generation, is_replica) = (replication.following.generation(), replication.is_replica());
    if local.feed.generation != generation {
        let feed = &mut local.feed;
        feed.generation = generation;
        (feed.stream, feed.sync) = (None, None);
        let fed = std::mem::take(&mut feed.fed);
        local.node.log_switch.stream(false);
        fed.into_iter().for_each(|fed| end(local, fed.place));
        note_backlog(local);
    }
    is_replica
}

/// Has something done by another shard, or by this one at once.
fn visit(local: &mut Local, shard: ShardId, work: impl FnOnce(&mut Local) + Send + 'static) {
    if local.env.shard == shard {
        return work(local);
    }
    local.link().message(shard, Envelope::Visit(Box::new(work)));
}

/// Has something done about a replica, where its connection is.
fn visit_client(local: &mut Local, place: ConnRef, work: impl FnOnce(&mut Local, ConnRef) + Send + 'static) {
    visit(local, place.shard, move |there| {
        work(there, place);
        there.clients.list(place.index);
    });
}

fn write(local: &mut Local, place: ConnRef, bytes: &[u8]) {
    if let Some(client) = local.clients.get(place) {
        client.message_buffer().push(bytes);
    }
}

/// What has been said so far, under `appendfsync always`.
fn need_of_all(local: &Local) -> Need {
    match local.env.promises.hold() {
        true => Need::of(local.env.durable().last_of_all()),
        false => Need::NONE,
    }
}

/// The owner hears of a replica.
fn enter(local: &mut Local, id: u64, place: ConnRef, words: ReplicaWords, wish: Wish) {
    if see_role(local) {
        return end(local, place);
    }
    let since = local.env.now;
    let knows_histories = words.knows_histories;
    let mut fed = Fed {
        id,
        place,
        words,
        is_told: matches!(wish, Wish::From(..)),
        since,
        stage: Promise::Nothing,
    };
    local.feed.alone_since = None;
    let kept = match &wish {
        Wish::From(replid, offset) => since_offset(local, replid, *offset),
        Wish::Sync => None,
    };
    if let (Some(kept), Some(stream)) = (kept, &local.feed.stream) {
        fed.stage = Promise::From(stream.end());
        let mut told = b"+CONTINUE".to_vec();
        if knows_histories {
            told.push(b' ');
            told.extend_from_slice(local.node.replication.lock().history.replid.as_bytes());
        }
        told.extend_from_slice(b"\r\n");
        tracing::info!(
            "Partial resynchronization request accepted. Sending {} bytes of backlog.",
            kept.len()
        );
        told.extend_from_slice(&kept);
        let acked_offset = stream.end() - kept.len() as u64;
        let need = need_of_all(local);
        local.feed.fed.push(fed);
        local.env.stats.counts.partial_syncs += 1;
        if let Some(replica) = local.node.replication.lock().replica(id) {
            replica.state = ReplicaState::Online;
            replica.acked_offset = acked_offset;
        }
        return visit_client(local, place, move |there, place| {
            if let Some(client) = there.clients.get(place) {
                client.needs(need);
                client.message_buffer().push(&told);
                if let Some(follower) = &mut client.follower {
                    follower.stage = Stage::Online;
                }
            }
        });
    }
    local.feed.fed.push(fed);
    let counts = &mut local.env.stats.counts;
    counts.full_syncs += 1;
    counts.refused_partial_syncs += u64::from(matches!(&wish, Wish::From(replid, _) if replid != b"?"));
    let settings = local.env.settings.clone();
    begin_sync(local, &settings);
}

/// What a replica lacks, if all of it is kept.
fn since_offset(local: &Local, replid: &[u8], offset: i64) -> Option<Vec<u8>> {
    let from = u64::try_from(offset).ok().filter(|from| *from > 0)?;
    let stream = local.feed.stream.as_ref()?;
    let is_known = local.node.replication.lock().history.has(replid, from);
    is_known.then(|| stream.since(from - 1)).flatten()
}

/// Begins a full sync, if somebody waits for one and it is time.
fn begin_sync(local: &mut Local, settings: &Settings) {
    let Some((since, count)) = local.feed.waiting() else {
        return;
    };
    if local.feed.sync.is_some() || local.feed.is_beginning || local.env.is_loading {
        return;
    }
    let is_diskless = settings.repl_diskless_sync;
    let delay = Ms::from_seconds(settings.repl_diskless_sync_delay.into());
    let is_full = (1..=count).contains(&(settings.repl_diskless_sync_max_replicas as usize));
    if is_diskless && !is_full && local.env.now.since(since) < delay {
        return;
    }
    if local.node.snapshots.is_under_way() || local.node.aof.is_rewriting() {
        // The next cron looks again.
        return;
    }
    local.feed.is_beginning = true;
    if local.feed.stream.is_none() {
        // What happened before was not counted as a part of any history.
        begin_history(local);
    }
    local.node.log_switch.stream(true);
    let (handle, version) = (local.handle(), rdb_version(settings));
    local.executor().spawn(Box::pin(async move {
        // Passes that began before hand out nothing.
        handle.ask_all(|_: &mut Local| ()).await;
        handle.with(|local| {
            local.feed.is_beginning = false;
            if see_role(local) || local.feed.fed.is_empty() {
                // They have gone meanwhile. Without a stream nothing more is logged for it.
                return local.node.log_switch.stream(local.feed.stream.is_some());
            }
            // What waits together is sent in one form.
            let has_mark = local.env.settings.repl_diskless_sync;
            let replid = local.node.replication.lock().history.replid.clone();
            let (turns, disk) = (local.node.turns.clone(), local.node.snapshots.disk.clone());
            let sync = Arc::new(FullSync::new(turns, disk, replid, version));
            if saves::begin_for(local, Reason::Background, Some(sync.clone())).is_some() {
                tracing::info!(
                    "Starting BGSAVE for SYNC with target: {}",
                    if has_mark { "replicas sockets" } else { "disk" }
                );
                local.feed.sync = Some(UnderWay {
                    sync,
                    is_cut: false,
                    has_mark,
                });
                look_at_sync(local);
            }
        });
    }));
}

/// How much of the stream is kept.
fn backlog_bytes_max(settings: &Settings) -> usize {
    usize::try_from(settings.repl_backlog_size).unwrap_or(usize::MAX)
}

/// The version of the format that a full sync must not exceed.
fn rdb_version(settings: &Settings) -> u16 {
    match settings.repl_compat {
        ReplCompat::V6_2 => 9,
        ReplCompat::Auto | ReplCompat::V7_0 => 10,
        ReplCompat::V7_2 => 11,
        ReplCompat::V7_4 => 12,
        ReplCompat::Valkey9 => 80,
    }
}

/// Sees how far the full sync is.
fn look_at_sync(local: &mut Local) {
    let Some(under_way) = &mut local.feed.sync else { return };
    if !under_way.is_cut
        && let Some(offset) = under_way.sync.cut()
    {
        under_way.is_cut = true;
        let sync = under_way.sync.clone();
        let backlog_bytes_max = backlog_bytes_max(&local.env.settings);
        let stream = &mut local.feed.stream;
        stream.get_or_insert_with(|| Stream::new(offset, backlog_bytes_max));
        promise(local, sync.replid(), offset);
    }
    let Some(under_way) = &local.feed.sync else { return };
    let Some(outcome) = under_way.sync.outcome() else {
        return;
    };
    let has_mark = under_way.has_mark;
    local.feed.sync = None;
    match outcome {
        Ok(laid) => send_all(local, &laid, has_mark),
        Err(failure) => {
            let failure = failure.as_deref().unwrap_or("it was called off");
            tracing::warn!("SYNC failed: {failure}");
            let is_promised = |fed: &&Fed| matches!(fed.stage, Promise::Sync(_));
            let places: Vec<_> = local.feed.fed.iter().filter(is_promised).map(|fed| fed.place).collect();
            places.into_iter().for_each(|place| end(local, place));
        }
    }
}

/// Whoever waits gets the data set as of this offset.
fn promise(local: &mut Local, replid: &str, offset: u64) {
    let told: Arc<[u8]> = format!("+FULLRESYNC {replid} {offset}\r\n").into_bytes().into();
    let mut places = Vec::new();
    for fed in local.feed.fed.iter_mut().filter(|fed| fed.stage == Promise::Nothing) {
        fed.stage = Promise::Sync(offset);
        if fed.is_told {
            places.push(fed.place);
        }
    }
    for place in places {
        let told = told.clone();
        visit_client(local, place, move |there, place| write(there, place, &told));
    }
}

/// The file of a full sync is whole: it goes to those whom it was promised.
fn send_all(local: &mut Local, (file, bytes): &Laid, has_mark: bool) {
    let mark = Random::from_entropy().random_hex(40);
    let need = need_of_all(local);
    let mut receivers = Vec::new();
    for fed in &mut local.feed.fed {
        let Promise::Sync(offset) = fed.stage else { continue };
        fed.stage = match fed.words.is_served_once {
            true => Promise::Served,
            false => Promise::From(offset),
        };
        let form = match has_mark && fed.words.reads_marks {
            true => (format!("$EOF:{mark}\r\n"), mark.clone(), Stage::Silent),
            false => (format!("${bytes}\r\n"), String::new(), Stage::Online),
        };
        receivers.push((fed.place, fed.id, fed.words.is_served_once, form));
    }
    for (place, id, is_served_once, (head, tail, then)) in receivers {
        let then = if is_served_once { Stage::Served } else { then };
        let sent = Sent {
            id,
            file: file.clone(),
            bytes: *bytes,
            tail,
            then,
        };
        set_state(local, id, ReplicaState::Receiving);
        visit_client(local, place, move |there, place| {
            if let Some(client) = there.clients.get(place) {
                client.needs(need);
                if let Some(follower) = &mut client.follower {
                    follower.stage = Stage::Receiving;
                }
                // What it has said before was of what it had before.
                if let Some(words) = &mut client.session.replica {
                    words.has_acked = false;
                }
                client.message_buffer().push(head.as_bytes());
                send(there, place, sent);
            }
        });
    }
}

/// A data set on its way to one replica.
struct Sent {
    id: u64,
    file: Arc<dyn DiskFile + Sync>,
    bytes: u64,
    tail: String,
    /// What its receiver is when it has all of it.
    then: Stage,
}

/// Sends it, as there is room.
fn send(local: &mut Local, place: ConnRef, sent: Sent) {
    let (handle, executor) = (local.handle(), local.executor());
    local.executor().spawn(Box::pin(async move {
        let mut offset = 0;
        while offset < sent.bytes {
            let has_room = handle.with(|local| {
                let client = local.clients.get(place)?;
                Some(client.out.len() + client.in_flight_bytes <= READ_AT_ONCE)
            });
            match has_room {
                // It has gone.
                None => return,
                Some(false) => {
                    executor.sleep(ROOM_LOOKED_FOR_EVERY).await;
                    continue;
                }
                Some(true) => {}
            }
            let (file, length) = (sent.file.clone(), sent.bytes);
            let read = on_another_thread(&*executor, move || read_some(&*file, offset, length)).await;
            let goes_on = handle.with(|local| match read {
                Ok(bytes) => {
                    offset += bytes.len() as u64;
                    write(local, place, &bytes);
                    local.clients.list(place.index);
                    true
                }
                Err(error) => {
                    tracing::warn!("Read error sending DB to replica: {error}");
                    end(local, place);
                    false
                }
            });
            if !goes_on {
                return;
            }
        }
        handle.with(|local| finish_sending(local, place, &sent));
    }));
}

/// Reads the next bytes of a file of that length. Blocks.
fn read_some(file: &dyn DiskFile, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let wanted = usize::try_from(length - offset).map_or(READ_AT_ONCE, |left| left.min(READ_AT_ONCE));
    let mut bytes = vec![0; wanted];
    let count = file.read_at(&mut bytes, offset)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(count);
    Ok(bytes)
}

/// All of the data set is in the output.
fn finish_sending(local: &mut Local, place: ConnRef, sent: &Sent) {
    let Some(client) = local.clients.get(place) else { return };
    client.message_buffer().push(sent.tail.as_bytes());
    if let Some(follower) = &mut client.follower {
        match sent.then {
            Stage::Online => {
                let mut withheld = follower.go_online();
                client.message_buffer().append(&mut withheld);
            }
            then => follower.stage = then,
        }
    }
    local.clients.list(place.index);
    match sent.then {
        Stage::Online => set_state(local, sent.id, ReplicaState::Online),
        Stage::Served => set_state(local, sent.id, ReplicaState::Served),
        _ => {}
    }
    tracing::info!("Synchronization with replica succeeded");
}

fn set_state(local: &mut Local, id: u64, now: ReplicaState) {
    let at = local.env.now;
    if let Some(replica) = local.node.replication.lock().replica(id) {
        replica.state = now;
        replica.acked_at = at;
    }
}

/// Ends the connection of a replica.
fn end(local: &mut Local, place: ConnRef) {
    visit_client(local, place, |there, place| {
        if let Some(client) = there.clients.get(place) {
            client.is_killed = true;
        }
    });
}

/// The owner takes pieces in, and feeds what has become whole to those who get it.
fn take_in(local: &mut Local, pieces: Vec<Piece>) {
    if see_role(local) {
        return;
    }
    // A cut that has been made begins the stream.
    look_at_sync(local);
    for piece in pieces {
        if let Some(stretch) = local.feed.take_in(piece) {
            feed(local, stretch);
        }
    }
}

fn feed(local: &mut Local, stretch: Stretch) {
    let readers = local.feed.readers(&stretch);
    let need = Need::of(stretch.number);
    let bytes: Arc<[u8]> = stretch.bytes.into();
    for (place, skipped) in readers {
        let bytes = bytes.clone();
        visit_client(local, place, move |there, place| {
            if let Some(client) = there.clients.get(place)
                && let Some(follower) = &mut client.follower
            {
                let bytes = &bytes[skipped..];
                match follower.stage {
                    Stage::Online => client.message_buffer().push(bytes),
                    _ => follower.withheld.push(bytes),
                }
                client.needs(need);
            }
        });
    }
}

/// Says something in the stream that is of no pass.
fn say(local: &mut Local, bytes: &[u8]) {
    if see_role(local) {
        return;
    }
    look_at_sync(local);
    if local.feed.stream.is_none() {
        return;
    }
    let offset = local.node.turns.take_offsets(bytes.len() as u64).start;
    let piece = Piece {
        offset,
        bytes: bytes.to_vec(),
        number: 0,
    };
    take_in(local, vec![piece]);
}

/// An empty line to those who wait for a data set: it counts as nothing.
fn keep_awake(local: &mut Local) {
    let waits = |fed: &&Fed| matches!(fed.stage, Promise::Nothing | Promise::Sync(_));
    let places: Vec<_> = local.feed.fed.iter().filter(waits).map(|fed| fed.place).collect();
    for place in places {
        visit_client(local, place, |there, place| write(there, place, b"\n"));
    }
}

/// `repl-timeout`: who has said nothing for so long is not there any more.
fn end_silent(local: &mut Local, settings: &Settings) {
    let timeout = Ms::from_seconds(settings.repl_timeout.into());
    let now: UnixMs = local.env.now;
    let silent: Vec<_> = {
        let state = local.node.replication.lock();
        let is_silent =
            |replica: &&Replica| replica.state == ReplicaState::Online && now.since(replica.acked_at) > timeout;
        let silent = state.replicas.iter().filter(is_silent);
        silent
            .map(|replica| (replica.place, format!("{}:{}", replica.ip, replica.port)))
            .collect()
    };
    for (place, name) in silent {
        tracing::warn!("Disconnecting timedout replica (streaming sync): {name}");
        end(local, place);
    }
}

/// `repl-backlog-ttl`: what is kept for nobody is given up, and with it the history that it was the end of.
fn forget_backlog(local: &mut Local, settings: &Settings) {
    let now = local.env.now;
    let ttl = Ms::from_seconds(settings.repl_backlog_ttl);
    if !local.feed.fed.is_empty() || local.feed.sync.is_some() || local.feed.is_beginning {
        local.feed.alone_since = None;
        return;
    }
    let since = *local.feed.alone_since.get_or_insert(now);
    if settings.repl_backlog_ttl == 0 || now.since(since) < ttl || local.feed.stream.is_none() {
        return;
    }
    tracing::info!(
        "Replication backlog freed after {} seconds without connected replicas.",
        settings.repl_backlog_ttl
    );
    local.feed.stream = None;
    local.node.log_switch.stream(false);
    begin_history(local);
}

/// What comes is a part of no history that anybody knows.
fn begin_history(local: &Local) {
    let replid = Random::from_entropy().random_hex(40);
    local.node.replication.lock().history = History::new(replid);
}

/// What INFO says of it.
fn note_backlog(local: &mut Local) {
    let figures = local.feed.stream.as_ref().map(|stream| BacklogFigures {
        first_offset: stream.first_kept() + 1,
        byte_count: stream.kept_bytes() as u64,
    });
    local.node.replication.lock().backlog = figures;
}
