//! The sockets that the process listens on, and how they change while it runs (CONFIG SET `port` and `bind`).
//!
//! A change is all or nothing: every new socket is bound while the old ones still accept (`net::Handover` says how), those that
//! both lists have are kept as they are and never cease to accept, and only when all are bound are the shards told
//! ([`Listeners::of_shard`], `Shared::listen_to`). A change that fails has changed nothing.
//!
//! A socket that goes is closed by the shard that accepts from it, as soon as its ring has let go of it. Until then another
//! change may want its address again.
//!
//! Invariant: no two TCP sockets here have the same address.

use super::shared::Listening;
use crate::config::Settings;
use crate::net::{BindPattern, Handover, ListenSocket, TcpOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// All listening sockets.
pub struct Listeners {
    tcp: TcpSockets,
    unix: Option<(PathBuf, ListenSocket)>,
    /// Addresses of sockets that have been given up and may still be open.
    leaving: Vec<SocketAddr>,
}

/// The sockets of `port`, `bind` and `shard-ports`.
struct TcpSockets {
    /// Of the main port: accepted for all shards.
    main: Vec<ListenSocket>,
    /// Accepted by each shard for itself.
    own: Vec<Vec<ListenSocket>>,
}

impl Listeners {
    /// Binds what the settings say, or answers why not.
    pub fn bind(settings: &Settings, shards: usize) -> Result<Listeners, String> {
        let tcp = TcpSockets::bind(settings, shards, Handover::default())?;
        let mut unix = None;
        if !settings.unixsocket.is_empty() {
            let path = settings.unixsocket.as_path();
            let socket = ListenSocket::bind_unix(path, settings.unixsocketperm, settings.tcp_backlog)
                .map_err(|error| error.to_string())?;
            unix = Some((path.to_path_buf(), socket));
        }
        if tcp.all().next().is_none() && unix.is_none() {
            return Err("Configured to not listen anywhere, exiting.".to_owned());
        }
        Ok(Listeners {
            tcp,
            unix,
            leaving: Vec::new(),
        })
    }

    /// Changes over to what `port` and `bind` say now.
    pub fn change(&mut self, settings: &Settings) -> Result<(), String> {
        let shards = self.tcp.own.len();
        let patterns = patterns(settings);
        let ports: Vec<usize> = (0..shards)
            .filter_map(|index| settings.shard_port(index))
            .chain([usize::from(settings.port)])
            .collect();
        let stays = |socket: &ListenSocket| {
            socket.tcp_address().is_some_and(|address| {
                ports.contains(&usize::from(address.port())) && patterns.iter().any(|pattern| pattern.names(address))
            })
        };
        let (kept, going): (Vec<ListenSocket>, Vec<ListenSocket>) = self.tcp.all().cloned().partition(stays);
        let handover = Handover {
            kept: &kept,
            going: &going,
            leaving: &self.leaving,
        };
        let bound = TcpSockets::bind(settings, shards, handover);
        if let Ok(tcp) = bound {
            self.tcp = tcp;
            self.leaving.extend(going.iter().filter_map(ListenSocket::tcp_address));
            self.leaving.sort_unstable();
            self.leaving.dedup();
            for socket in &going {
                set_overlap(socket, true);
            }
            self.forbid_overlaps();
            return Ok(());
        }
        self.forbid_overlaps();
        bound.map(drop)
    }

    /// From here on a second server is refused the ports.
    fn forbid_overlaps(&self) {
        for socket in self.tcp.all() {
            set_overlap(socket, false);
        }
    }

    /// What that shard accepts from.
    pub fn of_shard(&self, index: usize) -> Listening {
        let unix = self.unix.iter().map(|(_, socket)| socket);
        let shared = match index {
            0 => self.tcp.main.iter().chain(unix).cloned().collect(),
            _ => Vec::new(),
        };
        Listening {
            shared,
            own: self.tcp.own[index].clone(),
        }
    }

    /// CONFIG SET `tcp-keepalive`: for the connections to come.
    pub fn set_keepalive(&self, idle_s: u32) {
        for socket in self.tcp.all() {
            if let Err(error) = socket.set_keepalive(idle_s) {
                tracing::warn!("Setting keep-alive for connections to come: {error}");
            }
        }
    }

    /// Where the Unix socket is.
    pub fn unix_path(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(path, _)| path.as_path())
    }
}

impl TcpSockets {
    fn bind(settings: &Settings, shards: usize, handover: Handover<'_>) -> Result<TcpSockets, String> {
        let main = bind_port(settings, usize::from(settings.port), handover)?;
        let own = (0..shards).map(|index| match settings.shard_port(index) {
            Some(port) => bind_port(settings, port, handover),
            None => Ok(Vec::new()),
        });
        Ok(TcpSockets {
            own: own.collect::<Result<_, _>>()?,
            main,
        })
    }

    fn all(&self) -> impl Iterator<Item = &ListenSocket> {
        self.main.iter().chain(self.own.iter().flatten())
    }
}

/// Binds every address of `bind` on `port`; none when the port is 0.
fn bind_port(settings: &Settings, port: usize, handover: Handover<'_>) -> Result<Vec<ListenSocket>, String> {
    if port == 0 {
        return Ok(Vec::new());
    }
    let failed = || format!("Failed listening on port {port} (tcp), aborting.");
    let options = TcpOptions {
        backlog: settings.tcp_backlog,
        keepalive_s: settings.tcp_keepalive,
    };
    let patterns = patterns(settings);
    let number = u16::try_from(port).map_err(|_| failed())?;
    let sockets = ListenSocket::bind_tcp_all(&patterns, number, options, handover).map_err(|error| {
        tracing::warn!("{error}");
        failed()
    })?;
    if sockets.is_empty() && !patterns.is_empty() {
        return Err(failed());
    }
    Ok(sockets)
}

fn patterns(settings: &Settings) -> Vec<BindPattern> {
    let words = settings.bind.iter();
    words.map(|word| BindPattern::parse(&word.to_string_lossy())).collect()
}

fn set_overlap(socket: &ListenSocket, is_allowed: bool) {
    if let Err(error) = socket.allow_overlap(is_allowed) {
        tracing::warn!("Setting SO_REUSEPORT of a listening socket: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use nix::sys::socket::{getsockopt, sockopt};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    /// Connections inherit what their listening socket has.
    #[test]
    fn keep_alive_is_set_for_the_connections_to_come() {
        // The port is found by a socket that goes away: somebody else may take it first.
        let (listeners, port) = (0..10)
            .find_map(|_| {
                let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
                let settings = Settings {
                    port,
                    bind: vec!["127.0.0.1".into()],
                    ..Settings::default()
                };
                Some((Listeners::bind(&settings, 1).ok()?, port))
            })
            .unwrap();
        let socket = &listeners.of_shard(0).shared[0];
        let listener = TcpListener::from(socket.as_fd().try_clone_to_owned().unwrap());
        for (idle_s, is_on) in [(300, true), (77, true), (0, false)] {
            listeners.set_keepalive(idle_s);
            let _peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let accepted = listener.accept().unwrap().0;
            assert_eq!(getsockopt(&accepted, sockopt::KeepAlive).unwrap(), is_on);
            if is_on {
                assert_eq!(getsockopt(&accepted, sockopt::TcpKeepIdle).unwrap(), idle_s);
            }
        }
    }
}
