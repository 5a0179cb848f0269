//! Lines for the system's log, by the socket that every syslog daemon listens on (RFC 3164, without the time stamp, which
//! the daemon adds).

use crate::config::SyslogFacility;
use std::os::unix::net::UnixDatagram;

const SOCKET: &str = "/dev/log";

/// RFC 3164's number of `local0`; `local1` to `local7` follow.
const LOCAL0: u32 = 16;
/// RFC 3164's number of `user`.
const USER: u32 = 1;

/// Where the lines go.
pub struct Syslog {
    socket: Option<UnixDatagram>,
    ident: String,
    facility: u32,
}

impl Syslog {
    /// Lines will carry `ident` (`syslog-ident`) and `facility` (`syslog-facility`).
    pub fn open(ident: &str, facility: SyslogFacility) -> Syslog {
        let facility = match facility
            .name()
            .strip_prefix("local")
            .and_then(|number| number.parse::<u32>().ok())
        {
            Some(number) => LOCAL0 + number,
            None => USER,
        };
        Syslog {
            socket: UnixDatagram::unbound().ok(),
            ident: ident.to_owned(),
            facility,
        }
    }

    /// Sends one line; `severity` is 0 debug to 3 warning.
    pub fn send(&self, severity: u8, text: &str) {
        // debug, info, notice, warning
        let level = match severity {
            0 => 7,
            1 => 6,
            2 => 5,
            _ => 4,
        };
        let line = format!(
            "<{}>{}[{}]: {text}",
            self.facility * 8 + level,
            self.ident,
            std::process::id()
        );
        if let Some(socket) = &self.socket {
            // Nobody listens where no syslog runs; that is no reason to stop.
            let _ = socket.send_to(line.as_bytes(), SOCKET);
        }
    }
}
