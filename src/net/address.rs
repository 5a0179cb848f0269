//! Addresses of both ends of a connection, written as Redis writes them (CLIENT LIST: `addr` and `laddr`).

use nix::sys::socket::{self, AddressFamily, SockaddrLike, SockaddrStorage};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

/// One end of a connection. Prints as `ip:port`, `[ipv6]:port`, or `path:0` for a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    Tcp(SocketAddr),
    /// The path of the listening socket: the connecting end of a unix socket has no name of its own.
    Unix(Arc<str>),
}

impl PeerAddr {
    /// The far end of a connected socket.
    pub fn of_peer(socket: BorrowedFd<'_>) -> io::Result<PeerAddr> {
        let address: SockaddrStorage = socket::getpeername(socket.as_raw_fd())?;
        match from_storage(&address) {
            Some(PeerAddr::Unix(path)) if path.is_empty() => PeerAddr::of_local(socket),
            Some(address) => Ok(address),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The near end of a socket.
    pub fn of_local(socket: BorrowedFd<'_>) -> io::Result<PeerAddr> {
        let address: SockaddrStorage = socket::getsockname(socket.as_raw_fd())?;
        from_storage(&address).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            PeerAddr::Tcp(address) => Some(address.ip()),
            PeerAddr::Unix(_) => None,
        }
    }

    /// The port; 0 for a unix socket.
    pub fn port(&self) -> u16 {
        match self {
            PeerAddr::Tcp(address) => address.port(),
            PeerAddr::Unix(_) => 0,
        }
    }

    /// Whether protected mode lets it in: a unix socket, 127.0.0.0/8 or ::1.
    pub fn is_local(&self) -> bool {
        self.ip().is_none_or(|ip| ip.to_canonical().is_loopback())
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddr::Tcp(address) => write!(f, "{address}"),
            PeerAddr::Unix(path) => write!(f, "{path}:0"),
        }
    }
}

fn from_storage(address: &SockaddrStorage) -> Option<PeerAddr> {
    match address.family()? {
        AddressFamily::Inet => Some(PeerAddr::Tcp(SocketAddrV4::from(*address.as_sockaddr_in()?).into())),
        AddressFamily::Inet6 => {
            let full = SocketAddrV6::from(*address.as_sockaddr_in6()?);
            // The scope would be printed ("%2"), and Redis's inet_ntop does not print it.
            Some(PeerAddr::Tcp(SocketAddrV6::new(*full.ip(), full.port(), 0, 0).into()))
        }
        AddressFamily::Unix => {
            let path = address
                .as_unix_addr()
                .and_then(|unix| unix.path())
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default();
            Some(PeerAddr::Unix(path.into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn prints_as_redis_prints() {
        let v6 = PeerAddr::Tcp("[::1]:50000".parse().unwrap());
        assert_eq!(v6.to_string(), "[::1]:50000");
        assert_eq!(PeerAddr::Unix("/tmp/s".into()).to_string(), "/tmp/s:0");
    }

    #[test]
    fn both_ends_agree() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let peer = PeerAddr::of_peer(far.as_fd()).unwrap();
        assert_eq!(peer, PeerAddr::of_local(near.as_fd()).unwrap());
        assert_eq!(peer.to_string(), near.local_addr().unwrap().to_string());
        assert!(peer.is_local());
    }

    #[test]
    fn local_means_loopback_or_unix() {
        for (address, is_local) in [
            ("127.8.8.8:1", true),
            ("10.0.0.1:1", false),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("[fe80::1]:1", false),
        ] {
            let address = PeerAddr::Tcp(address.parse().unwrap());
            assert_eq!(address.is_local(), is_local, "{address}");
        }
        assert!(PeerAddr::Unix("/s".into()).is_local());
    }
}
