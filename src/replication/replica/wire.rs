//! The connection to a master, as the link's thread reads and writes it.
//!
//! Reads wait for [`LOOKED_AT_EVERY`] at most and then look whether anybody still wants what they wait for. A master that says nothing for
//! longer than `repl-timeout` is taken for dead; each byte of it is a sign of life, the empty lines that it sends while it has nothing else to say
//! included.

use super::LinkError;
use crate::config::Settings;
use crate::engine::Node;
use crate::resp::OwnedArgs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long a read waits at most before it looks around.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(100);

/// Bytes that are read at once.
const READ_BYTES: usize = 32 * 1024;

/// A line of a master's is no longer than that.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// See the essay above.
pub(super) struct Wire<'l> {
    node: &'l Node,
    generation: u64,
    stream: TcpStream,
    /// What has come and was not taken.
    pub(super) buffer: Vec<u8>,
    patience: Duration,
    heard_at: Instant,
    /// What it is waited for, for who reads the log.
    pub(super) waits_for: &'static str,
}

impl<'l> Wire<'l> {
    /// Connects; blocks for as long as that takes, `repl-timeout` at most for each address.
    pub(super) fn connect(
        node: &'l Node,
        generation: u64,
        host: &str,
        port: u16,
        settings: &Settings,
    ) -> Result<Wire<'l>, LinkError> {
        let patience = Duration::from_secs(u64::from(settings.repl_timeout));
        let failed = |error| LinkError::Io {
            what: "Unable to connect to MASTER",
            error,
        };
        let mut outcome = Err(failed(io::ErrorKind::NotFound.into()));
        for address in (host, port).to_socket_addrs().map_err(failed)? {
            if !node.replication.following.is_current(generation) {
                return Err(LinkError::Over);
            }
            outcome = TcpStream::connect_timeout(&address, patience).map_err(failed);
            if outcome.is_ok() {
                break;
            }
        }
        let stream = outcome?;
        let prepare = || {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(LOOKED_AT_EVERY))?;
            stream.set_write_timeout(Some(patience))?;
            stream.try_clone()
        };
        let other = prepare().map_err(failed)?;
        let interrupt = Box::new(move || {
            // It may have ended by itself.
            let _ = other.shutdown(Shutdown::Both);
        });
        if !node.replication.following.interrupt_by(generation, interrupt) {
            return Err(LinkError::Over);
        }
        Ok(Wire {
            node,
            generation,
            stream,
            buffer: Vec::new(),
            patience,
            heard_at: Instant::now(),
            waits_for: "connecting to the MASTER",
        })
    }

    /// Sends a command.
    pub(super) fn command(&mut self, words: &[&[u8]]) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        OwnedArgs::from_slices(words).as_args().encode_resp(&mut bytes);
        self.send(&bytes)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.stream.write_all(bytes).map_err(|error| LinkError::Io {
            what: "Sending to MASTER",
            error,
        })
    }

    /// Whether the generation goes on.
    pub(super) fn check(&self) -> Result<(), LinkError> {
        match self.node.replication.following.is_current(self.generation) {
            true => Ok(()),
            false => Err(LinkError::Over),
        }
    }

    /// Reads what has come into `into`; 0: nothing, for as long as a read waits.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, LinkError> {
        self.check()?;
        let failed = match self.stream.read(into) {
            Ok(0) => {
                self.check()?;
                return Err(LinkError::Closed(self.waits_for));
            }
            Ok(count) => {
                self.heard_at = Instant::now();
                return Ok(count);
            }
            Err(error) => error,
        };
        match failed.kind() {
            io::ErrorKind::Interrupted => Ok(0),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => match self.heard_at.elapsed() > self.patience {
                true => Err(LinkError::Silent(self.waits_for)),
                false => Ok(0),
            },
            _ => {
                self.check()?;
                Err(LinkError::Io {
                    what: "I/O error reading from MASTER",
                    error: failed,
                })
            }
        }
    }

    /// Reads into the buffer; 0: nothing, for as long as a read waits.
    pub(super) fn read_more(&mut self) -> Result<usize, LinkError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let filled = buffer.len();
        buffer.resize(filled + READ_BYTES, 0);
        let outcome = self.read(&mut buffer[filled..]);
        buffer.truncate(filled + *outcome.as_ref().unwrap_or(&0));
        self.buffer = buffer;
        outcome
    }

    /// The next line that is not empty, without its end.
    pub(super) fn line(&mut self) -> Result<String, LinkError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let text = line.trim_ascii();
                if !text.is_empty() {
                    return Ok(String::from_utf8_lossy(text).into_owned());
                }
                continue;
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(LinkError::Protocol("a line without an end".to_owned()));
            }
            self.read_more()?;
        }
    }

    /// Sends a command and reads the line that answers it.
    pub(super) fn ask(&mut self, words: &[&[u8]]) -> Result<String, LinkError> {
        self.command(words)?;
        self.line()
    }
}
