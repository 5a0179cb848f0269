//! Sockets, and the conversation on them before the load begins: HELLO or AUTH, SELECT, CLUSTER SLOTS.
//!
//! This is the only place that builds replies as values: what is said here is said once for each connection. The
//! sockets block while the conversation lasts and are made non-blocking when the load takes them over.
//!
//! Formats: RESP2 and RESP3 of the Redis documentation; HELLO, AUTH, SELECT and CLUSTER SLOTS as its command pages.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    time::Duration,
};

use thiserror::Error;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host name or address and a port.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads `host:port`; an IPv6 address may stand in brackets. The last colon separates.
    pub fn parse(text: &str) -> Option<Endpoint> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(host);
        Some(Endpoint::Tcp {
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => {
                write!(formatter, "[{host}]:{port}")
            }
            Endpoint::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Endpoint::Unix(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// Why a connection cannot be used.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The name could not be resolved, or nobody listens.
    #[error("Could not connect to {endpoint}: {source}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or no reply came in time, before the load began.
    #[error("No answer from {endpoint} to {command}: {source}")]
    Conversation {
        /// Who was asked.
        endpoint: Endpoint,
        /// What was asked.
        command: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The server answered with an error.
    #[error("{endpoint} refused {command}: {text}")]
    Refused {
        /// Who refused.
        endpoint: Endpoint,
        /// What was asked.
        command: String,
        /// Its words.
        text: String,
    },
    /// The reply to CLUSTER SLOTS is not what the documentation says, or leaves slots without an owner.
    #[error("{endpoint} does not describe a usable cluster: {reason}")]
    Topology {
        /// Who was asked.
        endpoint: Endpoint,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// A connected stream of either family.
#[derive(Debug)]
pub enum Socket {
    /// TCP with Nagle's algorithm off.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Chooses between blocking and non-blocking calls.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Socket::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    /// Reads what is there.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).read(buffer),
            Socket::Unix(stream) => (&*stream).read(buffer),
        }
    }

    /// Writes what fits.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).write(bytes),
            Socket::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn set_timeouts(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream
                .set_read_timeout(timeout)
                .and_then(|()| stream.set_write_timeout(timeout)),
            Socket::Unix(stream) => stream
                .set_read_timeout(timeout)
                .and_then(|()| stream.set_write_timeout(timeout)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Opens connections that are ready for commands.
#[derive(Debug, Clone)]
pub struct Connector {
    /// User for AUTH, `default` if only a password is given.
    pub user: Option<String>,
    /// Password; without one, there is no AUTH.
    pub password: Option<String>,
    /// Database to select.
    pub database: u32,
    /// Whether to ask for RESP3.
    pub is_resp3: bool,
    /// How long to wait for the connection and for each reply of the conversation.
    pub timeout: Duration,
}

impl Connector {
    /// Connects, authenticates and selects. The socket still blocks.
    pub fn open(&self, endpoint: &Endpoint) -> Result<Socket, ConnectError> {
        let socket = self.connect(endpoint).map_err(|source| ConnectError::Connect {
            endpoint: endpoint.clone(),
            source,
        })?;
        let user = self.user.as_deref().unwrap_or("default");
        if self.is_resp3 {
            match &self.password {
                Some(password) => ask(
                    &socket,
                    endpoint,
                    &[b"HELLO", b"3", b"AUTH", user.as_bytes(), password.as_bytes()],
                )?,
                None => ask(&socket, endpoint, &[b"HELLO", b"3"])?,
            };
        } else if let Some(password) = &self.password {
            if self.user.is_some() {
                ask(&socket, endpoint, &[b"AUTH", user.as_bytes(), password.as_bytes()])?;
            } else {
                ask(&socket, endpoint, &[b"AUTH", password.as_bytes()])?;
            }
        }
        if self.database != 0 {
            ask(&socket, endpoint, &[b"SELECT", self.database.to_string().as_bytes()])?;
        }
        Ok(socket)
    }

    fn connect(&self, endpoint: &Endpoint) -> io::Result<Socket> {
        let socket = match endpoint {
            Endpoint::Tcp { host, port } => {
                let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    outcome = TcpStream::connect_timeout(&address, self.timeout);
                    if outcome.is_ok() {
                        break;
                    }
                }
                let stream = outcome?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Endpoint::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        socket.set_timeouts(Some(self.timeout))?;
        Ok(socket)
    }
}

/// A reply as a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Null of either protocol.
    Null,
    /// An integer.
    Integer(i64),
    /// A string of any kind, and the text of what is not needed here: doubles, booleans, big numbers.
    Text(Vec<u8>),
    /// An error.
    Error(String),
    /// An array, set or push; a map as its keys and values in turn.
    Array(Vec<Value>),
}

/// Sends one command over a blocking socket and waits for its reply; an error reply is [`ConnectError::Refused`].
pub fn ask(socket: &Socket, endpoint: &Endpoint, arguments: &[&[u8]]) -> Result<Value, ConnectError> {
    // The arguments may be a password: only the command's name is ever shown.
    let command = String::from_utf8_lossy(arguments[0]).into_owned();
    match converse(socket, arguments) {
        Ok(Value::Error(text)) => Err(ConnectError::Refused {
            endpoint: endpoint.clone(),
            command,
            text,
        }),
        Ok(value) => Ok(value),
        Err(source) => Err(ConnectError::Conversation {
            endpoint: endpoint.clone(),
            command,
            source,
        }),
    }
}

fn converse(socket: &Socket, arguments: &[&[u8]]) -> io::Result<Value> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        request.extend_from_slice(argument);
        request.extend_from_slice(b"\r\n");
    }
    let mut rest = &request[..];
    while !rest.is_empty() {
        let written = socket.write(rest)?;
        rest = &rest[written..];
    }
    // One request at a time: the buffer never holds more than its reply, so nothing is lost when it is dropped.
    read_value(&mut BufReader::new(Blocking(socket)))
}

struct Blocking<'socket>(&'socket Socket);

impl Read for Blocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Reads one reply; attributes are skipped.
pub fn read_value(reader: &mut impl BufRead) -> io::Result<Value> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the reply is not RESP");
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\r\n") {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server closed the connection",
        ));
    }
    line.truncate(line.len() - 2);
    let (&kind, text) = line.split_first().ok_or_else(malformed)?;
    let number = || {
        std::str::from_utf8(text)
            .ok()
            .and_then(|digits| digits.parse::<i64>().ok())
            .ok_or_else(malformed)
    };
    match kind {
        b'+' | b',' | b'#' | b'(' => Ok(Value::Text(text.to_vec())),
        b'-' => Ok(Value::Error(String::from_utf8_lossy(text).into_owned())),
        b':' => Ok(Value::Integer(number()?)),
        b'_' => Ok(Value::Null),
        b'$' | b'=' | b'!' => {
            let Ok(length) = u64::try_from(number()?) else {
                return Ok(Value::Null);
            };
            let mut body = Vec::new();
            reader.by_ref().take(length + 2).read_to_end(&mut body)?;
            if body.len() as u64 != length + 2 {
                return Err(malformed());
            }
            body.truncate(body.len() - 2);
            if kind == b'!' {
                Ok(Value::Error(String::from_utf8_lossy(&body).into_owned()))
            } else {
                Ok(Value::Text(body))
            }
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            let Ok(count) = u64::try_from(number()?) else {
                return Ok(Value::Null);
            };
            let count = if matches!(kind, b'%' | b'|') { count * 2 } else { count };
            let elements = (0..count).map(|_| read_value(reader)).collect::<io::Result<Vec<_>>>()?;
            if kind == b'|' {
                read_value(reader)
            } else {
                Ok(Value::Array(elements))
            }
        }
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_shown() {
        for (text, host) in [
            ("localhost:6379", "localhost"),
            ("[::1]:6379", "::1"),
            ("::1:6379", "::1"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(
                endpoint,
                Endpoint::Tcp {
                    host: host.to_owned(),
                    port: 6379
                }
            );
        }
        assert_eq!(Endpoint::parse("[::1]:1").unwrap().to_string(), "[::1]:1");
        assert_eq!(Endpoint::parse("localhost"), None);
        assert_eq!(Endpoint::parse("localhost:70000"), None);
    }

    #[test]
    fn values_are_read() {
        let read = |bytes: &[u8]| read_value(&mut io::Cursor::new(bytes.to_vec()));
        assert_eq!(
            read(b"*3\r\n:1\r\n$-1\r\n*1\r\n$2\r\nab\r\n").unwrap(),
            Value::Array(vec![
                Value::Integer(1),
                Value::Null,
                Value::Array(vec![Value::Text(b"ab".to_vec())])
            ])
        );
        assert_eq!(
            read(b"|1\r\n+k\r\n+v\r\n%1\r\n+a\r\n_\r\n").unwrap(),
            Value::Array(vec![Value::Text(b"a".to_vec()), Value::Null])
        );
        assert_eq!(read(b"-NOAUTH x\r\n").unwrap(), Value::Error("NOAUTH x".to_owned()));
        assert!(read(b"").is_err());
        assert!(read(b"$5\r\nab").is_err());
        assert!(read(b"?\r\n").is_err());
    }
}
