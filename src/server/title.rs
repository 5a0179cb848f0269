//! The title of the process: what `ps` and `top` show in place of the command line (`proc-title-template`).
//!
//! The kernel shows the bytes between two addresses of the process, where it once put the arguments, with the environment
//! right behind. (PR_SET_NAME, which needs no memory of ours, is another thing: fifteen bytes, one name for each thread.)
//! A title is written over them. It may be longer than the arguments were; so the environment is moved to the heap first,
//! and its old place is the title's. When the last byte of the arguments is not zero any more, the kernel takes all up to
//! the first zero byte for the title (proc_pid_cmdline(5)).
//!
//! The two addresses are in /proc/self/stat (proc_pid_stat(5), fields 48 to 51).
//!
//! Invariants:
//! 1. the place is claimed once, before there is a second thread, and after the arguments were read for the last time;
//! 2. nothing reads the place but the kernel.

use crate::config::Settings;
use std::ffi::OsString;
use std::fs;
use std::sync::Mutex;

/// The longest title, as in Redis.
const TITLE_BYTES_MAX: usize = 255;

/// The memory of the title.
pub struct Title {
    place: Mutex<&'static mut [u8]>,
    /// What `{title}` stands for: the program's name as it was called.
    program: String,
    /// What `{config-file}` stands for; empty without one.
    config_file: String,
}

impl Title {
    /// Takes the place of the arguments and the environment; None where the kernel does not say where it is.
    ///
    /// # Safety
    ///
    /// No other thread may run yet, and nobody may hold a text of `argv` or `environ`. From here on
    /// [`std::env::args_os`] answers nonsense; [`std::env::var_os`] goes on answering as before.
    pub unsafe fn claim(config_file: String) -> Option<Title> {
        let program = std::env::args_os().next()?.to_string_lossy().into_owned();
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let [start, arguments_end, environment, end] = addresses(&stat)?;
        let end = if environment == arguments_end {
            end
        } else {
            arguments_end
        };
        let is_settable = |name: &OsString| !name.is_empty() && !name.as_encoded_bytes().contains(&b'=');
        for (name, value) in std::env::vars_os().filter(|(name, _)| is_settable(name)) {
            // SAFETY: there is no other thread that could read the environment (the caller's promise). Setting a variable
            // copies it to the heap, also when its value stays.
            unsafe { std::env::set_var(name, value) };
        }
        // SAFETY: the kernel's own account of where it has put the arguments and the environment of this process: mapped,
        // writable, and part of no Rust object. Nobody else refers to it: the environment has just been moved away, and
        // the arguments are not read again (the caller's promise).
        let place =
            unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(start), end - start) };
        Some(Title {
            place: Mutex::new(place),
            program,
            config_file,
        })
    }

    /// Shows the title that the settings describe.
    pub fn show(&self, settings: &Settings) {
        let text = expand(settings, &self.program, &self.config_file);
        let mut place = self.place.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        write(&mut place, text.as_bytes());
    }
}

/// Where the arguments begin and end, and the environment.
fn addresses(stat: &str) -> Option<[usize; 4]> {
    // The second field, the name, is in parentheses and may hold anything: what follows is counted from its end.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace().skip(48 - 3).map(str::parse);
    let mut next = || fields.next()?.ok().filter(|&address| address != 0);
    let found = [next()?, next()?, next()?, next()?];
    (found[0] < found[1] && found[1] <= found[2] && found[2] <= found[3]).then_some(found)
}

/// Writes the title into its place, cut to what fits, zeros behind it.
fn write(place: &mut [u8], text: &[u8]) {
    let length = text.len().min(TITLE_BYTES_MAX).min(place.len().saturating_sub(1));
    place[..length].copy_from_slice(&text[..length]);
    place[length..].fill(0);
}

/// The template with its names replaced.
fn expand(settings: &Settings, program: &str, config_file: &str) -> String {
    let port = match settings.port {
        0 => settings.tls_port,
        port => port,
    };
    let address = match settings.bind.first() {
        _ if port == 0 => format!("unixsocket:{}", settings.unixsocket.to_string_lossy()),
        Some(address) => format!("{}:{port}", address.to_string_lossy()),
        None => format!("*:{port}"),
    };
    let mode = if settings.cluster_enabled { "[cluster]" } else { "" };
    let template = settings.proc_title_template.to_string_lossy();
    let mut out = String::new();
    let mut rest = &*template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        // The template was checked when it was set: every brace is closed and holds a known name.
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        match name {
            "title" => out.push_str(program),
            "listen-addr" => out.push_str(&address),
            "server-mode" => out.push_str(mode),
            "port" => out.push_str(&settings.port.to_string()),
            "tls-port" => out.push_str(&settings.tls_port.to_string()),
            "unixsocket" => out.push_str(&settings.unixsocket.to_string_lossy()),
            "config-file" => out.push_str(if config_file.is_empty() { "-" } else { config_file }),
            _ => {}
        }
        rest = after;
    }
    out.push_str(rest);
    out.trim_matches(' ').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn expanded(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let config = Config::load_from(&arguments, &mut std::io::empty(), std::path::Path::new("/"))
            .expect("the arguments are good");
        expand(config.settings(), "shardis", "/etc/shardis.conf")
    }

    #[test]
    fn templates_are_expanded_as_redis_expands_them() {
        assert_eq!(expanded(&["--port", "7000"]), "shardis *:7000");
        assert_eq!(
            expanded(&["--port", "7000", "--bind", "127.0.0.1", "::1"]),
            "shardis 127.0.0.1:7000"
        );
        assert_eq!(
            expanded(&["--port", "0", "--unixsocket", "/s"]),
            "shardis unixsocket:/s"
        );
        let template = "{title} X {port} {tls-port} {unixsocket} {config-file} {server-mode}{listen-addr} ";
        assert_eq!(
            expanded(&["--port", "7911", "--proc-title-template", template]),
            "shardis X 7911 0  /etc/shardis.conf *:7911"
        );
    }

    #[test]
    fn a_title_is_cut_to_its_place() {
        let mut place = *b"shardis\0PATH=/bin\0";
        write(&mut place, b"title");
        assert!(place.starts_with(b"title\0\0"));
        write(&mut place, &[b'x'; 300]);
        assert_eq!(place[16..], *b"x\0");
        let mut place = [1; 1000];
        write(&mut place, &[b'x'; 300]);
        assert!(place[254] == b'x' && place[255..].iter().all(|&byte| byte == 0));
        write(&mut [], b"title");
    }

    #[test]
    fn the_fields_of_stat_are_counted_behind_the_name() {
        let fields: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        assert_eq!(
            addresses(&format!("1 (a) b) R {}", fields.join(" "))),
            Some([48, 49, 50, 51])
        );
        assert_eq!(addresses("1 (a) R 4 5"), None);
        let own = fs::read_to_string("/proc/self/stat").expect("this is Linux");
        assert!(addresses(&own).is_some(), "{own}");
    }
}
