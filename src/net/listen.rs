//! Listening sockets, made by hand.
//!
//! By hand, because of one option: SO_REUSEPORT, which runtimes like to set, would let a second server share a port that
//! is taken, and Redis refuses to start then. SO_REUSEADDR is set (a restart must not wait for TIME_WAIT).
//!
//! Options that every connection needs (TCP_NODELAY, keep-alive) are set here, on the listening socket: on Linux an
//! accepted socket inherits them, which saves four system calls for each connection.
//!
//! `bind` has Redis's syntax (redis.conf, "bind"): addresses separated by spaces, `*` for all of IPv4, `::*` for all of
//! IPv6, and a `-` before an address means that it may be missing on this host. IPv6 sockets are V6ONLY, so that
//! `* ::*` can name the same port twice.
//!
//! Sockets can be bound while others are open whose place they take (CONFIG SET `bind`): see [`Handover`].

use super::PeerAddr;
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, setsockopt, sockopt,
};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// One address of Redis's `bind` parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindPattern {
    /// As written, without the `-`.
    pub address: String,
    /// A missing address is no error.
    pub is_optional: bool,
}

impl BindPattern {
    /// Reads one word of `bind`.
    pub fn parse(word: &str) -> BindPattern {
        let (address, is_optional) = match word.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (word, false),
        };
        BindPattern {
            address: address.to_owned(),
            is_optional,
        }
    }

    /// Whether this is a name of that address.
    pub fn names(&self, address: SocketAddr) -> bool {
        self.resolve(address.port()).is_ok_and(|all| all.contains(&address))
    }

    /// Host names may stand here too; what they resolve to is tried in order.
    fn resolve(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self.address.as_str() {
            "*" => Ok(vec![(Ipv4Addr::UNSPECIFIED, port).into()]),
            "::*" => Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into()]),
            name => {
                let wants_v6 = name.contains(':');
                Ok((name, port)
                    .to_socket_addrs()?
                    .filter(|address| address.is_ipv6() == wants_v6)
                    .collect())
            }
        }
    }
}

/// What a TCP listening socket is made with.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// `tcp-backlog`; the kernel cuts it at net.core.somaxconn.
    pub backlog: u32,
    /// `tcp-keepalive`: seconds of silence before the first probe, 0 for no probes.
    pub keepalive_s: u32,
}

impl Default for TcpOptions {
    /// Redis's defaults.
    fn default() -> TcpOptions {
        TcpOptions {
            backlog: 511,
            keepalive_s: 300,
        }
    }
}

/// Why a listening socket could not be made. The text is the one that Redis logs.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("Could not create server TCP listening socket {address}:{port}: {call}: {}", errno_text(.source))]
    Tcp {
        address: String,
        port: u16,
        call: &'static str,
        source: io::Error,
    },
    #[error("Failed opening Unix socket: {call}: {}", errno_text(.source))]
    Unix { call: &'static str, source: io::Error },
}

/// strerror's text, without the number that `io::Error` appends.
fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// A socket that listens already; a plane accepts from it. All clones are the same socket, which closes with the last one.
#[derive(Clone, Debug)]
pub struct ListenSocket {
    pub(super) fd: Arc<OwnedFd>,
    /// Where a TCP socket listens.
    address: Option<SocketAddr>,
}

/// The sockets that are open already while others are bound.
///
/// The kernel refuses an address that overlaps one which is listened on (`127.0.0.1` while `*` is open, and the other way
/// round), but for sockets that have all asked for it with SO_REUSEPORT. So a new socket that overlaps with one which has to go asks
/// for it, and has that one ask too. When all are bound, the option is to be taken back from those that stay
/// ([`ListenSocket::allow_overlap`]), or a second server could share the port.
#[derive(Clone, Copy, Default, Debug)]
pub struct Handover<'a> {
    /// Sockets that stay: they are not bound a second time.
    pub kept: &'a [ListenSocket],
    /// Sockets that will be closed if all goes well.
    pub going: &'a [ListenSocket],
    /// Addresses of sockets that are being closed, and allow overlaps.
    pub leaving: &'a [SocketAddr],
}

impl Handover<'_> {
    /// Has those allow it that must go and would be overlapped by a socket of this address; false if there are none.
    fn permit(&self, address: SocketAddr) -> Step<bool> {
        let mut is_in_the_way = self.leaving.iter().any(|other| overlap(*other, address));
        for socket in self.going {
            if socket.address.is_some_and(|other| overlap(other, address)) {
                step("setsockopt", socket.allow_overlap(true))?;
                is_in_the_way = true;
            }
        }
        Ok(is_in_the_way)
    }
}

/// Whether two sockets could not listen on these addresses at once.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// A step that failed, and how.
type Step<T> = Result<T, (&'static str, io::Error)>;

fn step<T>(call: &'static str, result: nix::Result<T>) -> Step<T> {
    result.map_err(|errno| (call, errno.into()))
}

impl ListenSocket {
    /// Binds every address of `bind` on `port`. Optional addresses that this host lacks, and address families that it
    /// does not have, are passed over; no socket at all is an error if any was asked for. Port 0 picks a free one.
    pub fn bind_tcp_all(
        patterns: &[BindPattern],
        port: u16,
        options: TcpOptions,
        handover: Handover<'_>,
    ) -> Result<Vec<ListenSocket>, BindError> {
        let mut sockets: Vec<ListenSocket> = Vec::with_capacity(patterns.len());
        let mut passed_over = None;
        for pattern in patterns {
            let bound = Self::bind_pattern(pattern, port, options, handover).and_then(|socket| {
                let is_second = sockets.iter().any(|other| other.is_same(&socket));
                let taken = || ("bind", Errno::EADDRINUSE.into());
                if is_second { Err(taken()) } else { Ok(socket) }
            });
            match bound {
                Ok(socket) => sockets.push(socket),
                Err((call, source)) => {
                    let may_miss = may_be_passed_over(&source, pattern.is_optional);
                    let error = BindError::Tcp {
                        address: pattern.address.clone(),
                        port,
                        call,
                        source,
                    };
                    if !may_miss {
                        return Err(error);
                    }
                    tracing::warn!("{error}");
                    passed_over = Some(error);
                }
            }
        }
        match passed_over {
            Some(error) if sockets.is_empty() => Err(error),
            _ => Ok(sockets),
        }
    }

    fn bind_pattern(
        pattern: &BindPattern,
        port: u16,
        options: TcpOptions,
        handover: Handover<'_>,
    ) -> Step<ListenSocket> {
        let addresses = pattern.resolve(port).map_err(|error| ("getaddrinfo", error))?;
        let is_meant = |socket: &&ListenSocket| socket.address.is_some_and(|address| addresses.contains(&address));
        if let Some(kept) = handover.kept.iter().find(is_meant) {
            return Ok(kept.clone());
        }
        let mut last = (
            "getaddrinfo",
            io::Error::new(io::ErrorKind::NotFound, "Name or service not known"),
        );
        for address in addresses {
            match Self::bind_address(address, options, handover) {
                Ok(socket) => return Ok(socket),
                Err(failed) => last = failed,
            }
        }
        Err(last)
    }

    /// Binds one address.
    pub fn bind_tcp(address: SocketAddr, options: TcpOptions) -> Result<ListenSocket, BindError> {
        Self::bind_address(address, options, Handover::default()).map_err(|(call, source)| BindError::Tcp {
            address: address.ip().to_string(),
            port: address.port(),
            call,
            source,
        })
    }

    fn bind_address(address: SocketAddr, options: TcpOptions, handover: Handover<'_>) -> Step<ListenSocket> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let fd = step(
            "socket",
            socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None),
        )?;
        if address.is_ipv6() {
            step("setsockopt", setsockopt(&fd, sockopt::Ipv6V6Only, &true))?;
        }
        step("setsockopt", setsockopt(&fd, sockopt::ReuseAddr, &true))?;
        step("setsockopt", setsockopt(&fd, sockopt::TcpNoDelay, &true))?;
        let mut socket = ListenSocket {
            fd: Arc::new(fd),
            address: Some(address),
        };
        step("setsockopt", socket.set_keepalive(options.keepalive_s))?;
        let bind = || socket::bind(socket.fd.as_raw_fd(), &SockaddrStorage::from(address));
        match bind() {
            Err(Errno::EADDRINUSE) if handover.permit(address)? => {
                step("setsockopt", socket.allow_overlap(true))?;
                step("bind", bind())?;
            }
            bound => step("bind", bound)?,
        }
        step("listen", socket.start_listening(options.backlog))?;
        if address.port() == 0 {
            let bound = socket.local_addr().map_err(|error| ("getsockname", error))?;
            socket.address = Some(SocketAddr::new(address.ip(), bound.port()));
        }
        Ok(socket)
    }

    /// Binds a unix socket; a file that a dead server left at `path` is removed first, as Redis does. `permission` is
    /// `unixsocketperm` (for instance 0o700), 0 to leave what the umask gave.
    pub fn bind_unix(path: &Path, permission: u32, backlog: u32) -> Result<ListenSocket, BindError> {
        Self::bind_path(path, permission, backlog).map_err(|(call, source)| BindError::Unix { call, source })
    }

    fn bind_path(path: &Path, permission: u32, backlog: u32) -> Step<ListenSocket> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(("unlink", error)),
            _ => {}
        }
        let fd = step(
            "socket",
            socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None),
        )?;
        let address = step("bind", UnixAddr::new(path))?;
        step("bind", socket::bind(fd.as_raw_fd(), &address))?;
        if permission != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(permission)).map_err(|error| ("chmod", error))?;
        }
        let socket = ListenSocket {
            fd: Arc::new(fd),
            address: None,
        };
        step("listen", socket.start_listening(backlog))?;
        Ok(socket)
    }

    fn start_listening(&self, backlog: u32) -> nix::Result<()> {
        // listen(2) takes an int and cuts at somaxconn; what does not fit says "as many as possible".
        let backlog = i32::try_from(backlog)
            .ok()
            .and_then(|backlog| Backlog::new(backlog).ok())
            .unwrap_or(Backlog::MAXCONN);
        socket::listen(&self.fd, backlog)
    }

    /// Sets keep-alive for the connections accepted from now on, with Redis's timing: probes begin after `idle_s`, come
    /// every third of it, and the third that stays unanswered ends the connection. Works on a clone too, so keep one to
    /// follow CONFIG SET tcp-keepalive (which in Redis, too, is for the connections to come).
    pub fn set_keepalive(&self, idle_s: u32) -> nix::Result<()> {
        if self.address.is_none() {
            return Ok(());
        }
        set_keepalive(self.fd.as_fd(), idle_s)
    }

    /// Whether other sockets that allow it may listen on addresses that overlap with this one's ([`Handover`]).
    pub fn allow_overlap(&self, is_allowed: bool) -> nix::Result<()> {
        setsockopt(&self.fd, sockopt::ReusePort, &is_allowed)
    }

    /// Whether this is a clone of the other one.
    pub fn is_same(&self, other: &ListenSocket) -> bool {
        Arc::ptr_eq(&self.fd, &other.fd)
    }

    /// Where it listens; tells the port that was picked for port 0.
    pub fn local_addr(&self) -> io::Result<PeerAddr> {
        PeerAddr::of_local(self.fd.as_fd())
    }

    /// Where it listens, if that is TCP.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The same for one connected socket, for those that were not accepted.
pub fn set_keepalive(fd: BorrowedFd<'_>, idle_s: u32) -> nix::Result<()> {
    setsockopt(&fd, sockopt::KeepAlive, &(idle_s > 0))?;
    if idle_s > 0 {
        setsockopt(&fd, sockopt::TcpKeepIdle, &idle_s)?;
        setsockopt(&fd, sockopt::TcpKeepInterval, &(idle_s / 3).max(1))?;
        setsockopt(&fd, sockopt::TcpKeepCount, &3)?;
    }
    Ok(())
}

/// Redis passes over an optional address that does not exist here, and any whose address family or protocol is missing.
fn may_be_passed_over(error: &io::Error, is_optional: bool) -> bool {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRNOTAVAIL) => is_optional,
        Some(
            Errno::ENOPROTOOPT
            | Errno::EPROTONOSUPPORT
            | Errno::ESOCKTNOSUPPORT
            | Errno::EPFNOSUPPORT
            | Errno::EAFNOSUPPORT,
        ) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(words: &str, port: u16) -> Result<Vec<ListenSocket>, BindError> {
        let patterns: Vec<_> = words.split_whitespace().map(BindPattern::parse).collect();
        ListenSocket::bind_tcp_all(&patterns, port, TcpOptions::default(), Handover::default())
    }

    #[test]
    fn a_taken_port_is_an_error_with_rediss_words() {
        let first = bind("127.0.0.1", 0).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let error = bind("127.0.0.1", port).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Could not create server TCP listening socket 127.0.0.1:{port}: bind: Address already in use")
        );
    }

    #[test]
    fn an_optional_address_may_be_missing() {
        // 192.0.2.0/24 is reserved for documentation (RFC 5737): no host has it.
        assert_eq!(bind("127.0.0.1 -192.0.2.1", 0).unwrap().len(), 1);
        assert!(bind("127.0.0.1 192.0.2.1", 0).is_err());
        assert!(bind("-192.0.2.1", 0).is_err(), "no socket at all");
        assert!(bind("", 0).unwrap().is_empty());
    }

    #[test]
    fn all_of_ipv4_and_all_of_ipv6_share_a_port() {
        let first = bind("*", 0).unwrap();
        let port = first[0].local_addr().unwrap().port();
        match bind("::*", port) {
            Ok(second) => assert_eq!(second[0].local_addr().unwrap().to_string(), format!("[::]:{port}")),
            // A host without IPv6.
            Err(BindError::Tcp { call, .. }) => assert_eq!(call, "socket"),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn sockets_take_the_place_of_others_that_overlap() {
        let parse = |words: &str| words.split_whitespace().map(BindPattern::parse).collect::<Vec<_>>();
        let first = bind("127.0.0.1", 0).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let change = |words: &str, kept: &[ListenSocket], going: &[ListenSocket]| {
            let handover = Handover {
                kept,
                going,
                leaving: &[],
            };
            ListenSocket::bind_tcp_all(&parse(words), port, TcpOptions::default(), handover)
        };
        assert!(change("*", &[], &[]).is_err(), "it is in the way");
        assert!(change("*", &first, &[]).is_err(), "it stays, and is in the way");
        let all = change("*", &[], &first).unwrap();
        // Both accept until the first one is closed, and nobody else gets in between.
        all[0].allow_overlap(false).unwrap();
        drop(first);
        assert!(bind("127.0.0.1", port).is_err());
        let both = change("127.0.0.2 127.0.0.1", &[], &all).unwrap();
        let kept = change("127.0.0.1 127.0.0.3", &both, &all).unwrap();
        assert!(kept[0].is_same(&both[1]));
        assert!(change("127.0.0.1 127.0.0.1", &both, &[]).is_err(), "twice the same");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced() {
        let path = std::env::temp_dir().join(format!("listen-{}.sock", std::process::id()));
        drop(ListenSocket::bind_unix(&path, 0, 16).unwrap());
        let socket = ListenSocket::bind_unix(&path, 0o700, 16).unwrap();
        assert_eq!(
            socket.local_addr().unwrap().to_string(),
            format!("{}:0", path.display())
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let listening = bind("127.0.0.1", 0).unwrap().remove(0);
        let port = listening.local_addr().unwrap().port();
        let _near = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let descriptor = listening.fd.try_clone().unwrap();
        let accepted = std::net::TcpListener::from(descriptor).accept().unwrap().0;
        assert!(socket::getsockopt(&accepted, sockopt::TcpNoDelay).unwrap());
        assert!(socket::getsockopt(&accepted, sockopt::KeepAlive).unwrap());
        assert_eq!(socket::getsockopt(&accepted, sockopt::TcpKeepIdle).unwrap(), 300);
        assert_eq!(socket::getsockopt(&accepted, sockopt::TcpKeepInterval).unwrap(), 100);
    }
}
