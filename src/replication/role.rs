//! Changes of the role: REPLICAOF, and what follows from it at once.
//!
//! Whoever changes the role holds all slots, so that each unit of work runs on one side of the change. What the change begins (a link, a data set
//! that is fetched) goes on behind it, on the link's thread.
//!
//! | from | to | its history | its data |
//! |---|---|---|---|
//! | master | replica | its own until the master's is here: it may turn out that this goes on from it | stay, and are served as they are |
//! | replica | another's replica | as it was | stay |
//! | replica | master | goes on under a new name from where it has come to, so that who is not further can follow it without a full sync | stay; it takes writes at once |

use crate::config::Endpoint;
use crate::engine::replication::{History, Position};
use crate::engine::{Env, Node};

/// The node copies that server from now on; false: it does already. To be called by who holds all slots.
pub fn follow(env: &mut Env, master: Endpoint) -> bool {
    let node = env.node().clone();
    // Only while its changes are counted does a master know where in its history it stands.
    let state = node.replication.lock();
    let is_counted = state.backlog.is_some();
    let position = is_counted.then(|| Position {
        replid: state.history.replid.clone(),
        offset: node.turns.end_offset(),
        // Whoever has gone on from it begins with a SELECT.
        db: 0,
    });
    drop(state);
    if !node.replication.following.follow(master.clone(), position) {
        return false;
    }
    note(&node, Some(master));
    true
}

/// The node copies nobody from now on; false: it does not anyway. To be called by who holds all slots.
pub fn lead(env: &mut Env) -> bool {
    let node = env.node().clone();
    if !node.replication.is_replica() {
        return false;
    }
    let position = node.replication.following.stop();
    let name = env.random.random_hex(40);
    let mut state = node.replication.lock();
    match position {
        Some(position) => {
            state.history.go_on_as(name, position.offset);
            node.turns.go_on_at(position.offset);
        }
        // What it has is a part of nothing.
        None => state.history = History::new(name),
    }
    drop(state);
    note(&node, None);
    true
}

/// CONFIG REWRITE writes what the role is now.
fn note(node: &Node, master: Option<Endpoint>) {
    let mut config = node.lock_config();
    *config = config.changed(|settings| settings.replicaof = master);
}
