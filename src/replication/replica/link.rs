//! One link after the other, for as long as their generation lasts: who says what to whom before data comes.
//!
//! ```text
//!  -> PING                                     <- +PONG, or an error that says that a password is wanted
//!  -> AUTH [user] password                     <- +OK
//!  -> REPLCONF listening-port p                <- +OK, or an error, which is no harm
//!  -> REPLCONF ip-address a                    (if another one is announced)
//!  -> REPLCONF capa eof capa psync2
//!  -> PSYNC id offset+1   or   PSYNC ? -1      <- +CONTINUE [id]: the stream follows
//!                                              <- +FULLRESYNC id offset: the data set follows, then the stream
//!                                              <- -NOMASTERLINK, -LOADING, any other error: later
//! ```
//!
//! That is all that is offered: whatever a newer server has beside it (channels of their own for the data set, checksums that are left out) is not
//! used unless it is asked for.

use super::errands::Errands;
use super::wire::Wire;
use super::{LinkError, placing, stream, transfer};
use crate::config::Settings;
use crate::engine::replication::{Assignment, LinkState, Position};
use crate::engine::{Local, LocalHandle, Node, Registry};
use std::sync::Arc;
use std::time::Duration;

/// How long it is waited before a link is made again.
const TRIED_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether the server serves.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(10);

/// What all steps of a link know.
pub(super) struct Link<'l> {
    pub node: &'l Arc<Node>,
    pub registry: &'static Registry,
    pub errands: &'l Arc<Errands>,
    pub generation: u64,
    pub settings: Arc<Settings>,
}

/// Keeps a link to a master up until its generation ends.
pub(super) fn keep(node: &Arc<Node>, registry: &'static Registry, errands: &Arc<Errands>, assignment: &Assignment) {
    let Assignment { generation, master } = assignment;
    let (host, port) = (master.host.to_string_lossy().into_owned(), master.port);
    wait_until_served(errands);
    while node.replication.following.is_current(*generation) {
        let link = Link {
            node,
            registry,
            errands,
            generation: *generation,
            settings: node.lock_config().shared_settings(),
        };
        match link.once(&host, port) {
            LinkError::Over => return,
            error => tracing::warn!("The link to the MASTER {host}:{port} is down: {error}"),
        }
        node.replication.following.note_link(*generation, LinkState::Connect);
        node.replication.following.pause(*generation, TRIED_EVERY);
    }
}

/// Waits until the data set of the start has been read.
fn wait_until_served(errands: &Errands) {
    let is_loading = || {
        let asking = |local: LocalHandle| async move { local.ask_all(|local: &mut Local| local.is_loading()).await };
        errands.ask(LOOKED_AT_EVERY, || (), asking)
    };
    while is_loading().is_ok_and(|answers: Vec<bool>| answers.contains(&true)) {
        std::thread::sleep(LOOKED_AT_EVERY);
    }
}

/// What the master has agreed to.
enum Agreed {
    /// It goes on from where the data set stands.
    Continue,
    /// Everything comes anew.
    Full { replid: String, offset: u64 },
}

impl Link<'_> {
    fn note(&self, state: LinkState) -> Result<(), LinkError> {
        match self.node.replication.following.note_link(self.generation, state) {
            true => Ok(()),
            false => Err(LinkError::Over),
        }
    }

    /// One link, from its beginning to its end, which is an error in any case.
    fn once(&self, host: &str, port: u16) -> LinkError {
        match self.try_once(host, port) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn try_once(&self, host: &str, port: u16) -> Result<std::convert::Infallible, LinkError> {
        tracing::info!("Connecting to MASTER {host}:{port}");
        self.note(LinkState::Connecting)?;
        let mut wire = Wire::connect(self.node, self.generation, host, port, &self.settings)?;
        tracing::info!("MASTER <-> REPLICA sync started");
        self.note(LinkState::Handshake)?;
        wire.waits_for = "receiving from the MASTER during the handshake";
        self.introduce(&mut wire)?;
        match self.agree(&mut wire)? {
            Agreed::Continue => {}
            Agreed::Full { replid, offset } => {
                self.note(LinkState::Transfer)?;
                wire.waits_for = "receiving bulk data from MASTER";
                let file = transfer::receive(self, &mut wire)?;
                placing::put_in_place(self, &mut wire, file, replid, offset)?;
            }
        }
        self.note(LinkState::Connected)?;
        wire.waits_for = "receiving the stream of the MASTER";
        stream::follow(self, &mut wire)
    }

    /// Tells the master who this is.
    fn introduce(&self, wire: &mut Wire<'_>) -> Result<(), LinkError> {
        let settings = &self.settings;
        let refused = |what, answer: String| Err(LinkError::Refused { what, answer });
        let answer = wire.ask(&[b"PING"])?;
        let is_alive = ["+", "-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
        if !is_alive.iter().any(|begin| answer.starts_with(begin)) {
            return refused("Error reply to PING from master", answer);
        }
        let (user, password) = (settings.masteruser.as_bytes(), settings.masterauth.as_bytes());
        if !password.is_empty() {
            let answer = match user {
                [] => wire.ask(&[b"AUTH", password])?,
                user => wire.ask(&[b"AUTH", user, password])?,
            };
            if answer.starts_with('-') {
                return refused("Unable to AUTH to MASTER", answer);
            }
        }
        let port = match settings.replica_announce_port {
            0 => settings.port,
            announced => announced,
        };
        let told = wire.ask(&[b"REPLCONF", b"listening-port", port.to_string().as_bytes()])?;
        if told.starts_with('-') {
            tracing::info!("(Non critical) Master does not understand REPLCONF listening-port: {told}");
        }
        let address = settings.replica_announce_ip.as_bytes();
        if !address.is_empty() {
            let told = wire.ask(&[b"REPLCONF", b"ip-address", address])?;
            if told.starts_with('-') {
                tracing::info!("(Non critical) Master does not understand REPLCONF ip-address: {told}");
            }
        }
        let told = wire.ask(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"])?;
        if told.starts_with('-') {
            tracing::info!("(Non critical) Master does not understand REPLCONF capa: {told}");
        }
        Ok(())
    }

    /// Asks for what follows the data set, or for everything.
    fn agree(&self, wire: &mut Wire<'_>) -> Result<Agreed, LinkError> {
        let position = self.node.replication.following.position();
        let answer = match &position {
            Some(position) => {
                let next = (position.offset + 1).to_string();
                tracing::info!(
                    "Trying a partial resynchronization (request {}:{next}).",
                    position.replid
                );
                wire.ask(&[b"PSYNC", position.replid.as_bytes(), next.as_bytes()])?
            }
            None => {
                tracing::info!("Partial resynchronization not possible (no cached master)");
                wire.ask(&[b"PSYNC", b"?", b"-1"])?
            }
        };
        let mut words = answer.split_ascii_whitespace();
        match (words.next(), position) {
            (Some("+FULLRESYNC"), _) => {
                let replid = words.next().filter(|replid| is_replid(replid));
                let offset = words.next().and_then(|offset| offset.parse().ok());
                let (Some(replid), Some(offset)) = (replid, offset) else {
                    return Err(LinkError::Protocol(answer));
                };
                tracing::info!("Full resync from master: {replid}:{offset}");
                let replid = replid.to_owned();
                Ok(Agreed::Full { replid, offset })
            }
            (Some("+CONTINUE"), Some(position)) => {
                tracing::info!("Successful partial resynchronization with master.");
                if let Some(replid) = words.next().filter(|replid| *replid != position.replid) {
                    if !is_replid(replid) {
                        return Err(LinkError::Protocol(answer));
                    }
                    tracing::warn!("Master replication ID changed to {replid}");
                    let offset = position.offset;
                    self.node.replication.lock().history.go_on_as(replid.to_owned(), offset);
                    let replid = replid.to_owned();
                    let position = Position { replid, ..position };
                    if !self
                        .node
                        .replication
                        .following
                        .set_position(self.generation, Some(position))
                    {
                        return Err(LinkError::Over);
                    }
                }
                Ok(Agreed::Continue)
            }
            _ => Err(LinkError::Refused {
                what: "Unexpected reply to PSYNC from master",
                answer,
            }),
        }
    }
}

fn is_replid(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
