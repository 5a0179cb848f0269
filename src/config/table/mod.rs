//! The table of all parameters: one row each, in files by theme, in the order in which the sample file shows them.
//!
//! A row is
//!
//! ```text
//! /// What it does (becomes the field's documentation and the comment in the sample file).
//! "name" | "older-name" => field: Type = kind, "default", FLAGS, Subsystem;
//! ```
//!
//! To add a parameter, add a row. Names, defaults, ranges and flags are those of Redis 7.2; what differs has
//! [`Flags::OWN`](super::Flags::OWN).
//!
//! Invariants, all tested:
//! 1. Every name and every older name is unique.
//! 2. The field's name is the parameter's, in snake_case.
//! 3. A default is a value of its kind; the ends of a range fit into the field's type.

mod cluster;
mod memory;
mod network;
mod persistence;
mod replication;
mod server;
mod statistics;

pub(super) use cluster::cluster_parameters;
pub(super) use memory::memory_parameters;
pub(super) use network::network_parameters;
pub(super) use persistence::persistence_parameters;
pub(super) use replication::replication_parameters;
pub(super) use server::server_parameters;
pub(super) use statistics::statistics_parameters;

/// What is checked of texts beyond being text. Each answers Redis's own error.
pub(super) mod check {
    /// Anything goes.
    pub fn any(_: &[u8]) -> Result<(), String> {
        Ok(())
    }

    /// `dbfilename`: it may be empty, but not a path.
    pub fn dump_file(name: &[u8]) -> Result<(), String> {
        no_path(name, "dbfilename", "filename")
    }

    /// `appendfilename`
    pub fn append_file(name: &[u8]) -> Result<(), String> {
        not_empty(name, "appendfilename")?;
        no_path(name, "appendfilename", "filename")
    }

    /// `appenddirname`
    pub fn append_directory(name: &[u8]) -> Result<(), String> {
        not_empty(name, "appenddirname")?;
        no_path(name, "appenddirname", "dirname")
    }

    fn not_empty(name: &[u8], parameter: &str) -> Result<(), String> {
        if name.is_empty() {
            Err(format!("{parameter} can't be empty"))
        } else {
            Ok(())
        }
    }

    fn no_path(name: &[u8], parameter: &str, what: &str) -> Result<(), String> {
        if name.contains(&b'/') {
            Err(format!("{parameter} can't be a path, just a {what}"))
        } else {
            Ok(())
        }
    }

    /// `cluster-announce-hostname`
    pub fn host_name(name: &[u8]) -> Result<(), String> {
        if name.len() >= 256 {
            return Err("Hostnames must be less than 256 characters".into());
        }
        if !name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        {
            return Err("Hostnames may only contain alphanumeric characters, hyphens or dots".into());
        }
        Ok(())
    }

    /// `cluster-announce-human-nodename`: it is written into nodes.conf, so it may not hold what separates there.
    pub fn node_name(name: &[u8]) -> Result<(), String> {
        if name
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'=' | b'"' | b'\'' | b'\\'))
        {
            Ok(())
        } else {
            Err("Announced human node name contained invalid character".into())
        }
    }

    /// `proc-title-template`: every brace is closed and holds a known name, and something would be left of it without
    /// the title.
    pub fn title_template(template: &[u8]) -> Result<(), String> {
        const NAMES: [&[u8]; 7] = [
            b"title",
            b"listen-addr",
            b"server-mode",
            b"port",
            b"tls-port",
            b"unixsocket",
            b"config-file",
        ];
        let is_known = |piece: &[u8]| {
            let end = piece.iter().position(|&byte| byte == b'}');
            end.is_some_and(|end| NAMES.contains(&&piece[..end]))
        };
        let without_title = String::from_utf8_lossy(template).replace("{title}", "");
        if !without_title.trim_matches(' ').is_empty() && template.split(|&byte| byte == b'{').skip(1).all(is_known) {
            Ok(())
        } else {
            Err("template format is invalid or contains unknown variables".into())
        }
    }

    /// `shutdown-on-sigterm`, `shutdown-on-sigint`
    pub fn shutdown_flags(bits: u32) -> Result<(), String> {
        use crate::config::choices::ShutdownFlags;
        let flags = ShutdownFlags(bits);
        if flags.contains(ShutdownFlags::SAVE) && flags.contains(ShutdownFlags::NOSAVE) {
            Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into())
        } else {
            Ok(())
        }
    }
}
