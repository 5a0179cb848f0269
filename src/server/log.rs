//! The log: one flushed line for each event, in Redis's form, to stdout or to `logfile`.
//!
//! ```text
//! 4711:M 21 Nov 2026 07:13:00.123 * Ready to accept connections tcp
//! pid  role  local time           level: . debug, - verbose, * notice, # warning
//! ```
//!
//! Redis's four levels are those of `tracing`: debug is TRACE, verbose DEBUG, notice INFO, warning WARN and ERROR.

use super::syslog::Syslog;
use crate::config::LogLevel;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The log's target and level; clones name the same log.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    target: Mutex<Option<File>>,
    syslog: Mutex<Option<Syslog>>,
    /// 0 debug, 1 verbose, 2 notice, 3 warning, 4 nothing.
    level: AtomicU8,
}

impl Log {
    /// Installs the log of the process: stdout, at notice. To be called once.
    pub fn install() -> Log {
        let log = Log {
            inner: Arc::new(Inner {
                target: Mutex::new(None),
                syslog: Mutex::new(None),
                level: AtomicU8::new(2),
            }),
        };
        let subscriber = tracing_subscriber::registry().with(log.clone());
        // A second server in one process (tests) goes on with the log of the first.
        let _ = tracing::subscriber::set_global_default(subscriber);
        log
    }

    /// `loglevel`.
    pub fn set_level(&self, level: LogLevel) {
        self.inner.level.store(level as u8, Ordering::Relaxed);
    }

    /// `logfile`: appended to; empty means stdout.
    pub fn set_file(&self, path: &Path) -> io::Result<()> {
        let file = if path.as_os_str().is_empty() {
            None
        } else {
            Some(OpenOptions::new().create(true).append(true).open(path)?)
        };
        *self.inner.target.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }

    /// Whether somebody watches: it goes to standard output, which is a terminal, and nowhere else.
    pub fn is_terminal(&self) -> bool {
        let is_file = self
            .inner
            .target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        let is_syslog = self
            .inner
            .syslog
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        !is_file && !is_syslog && io::stdout().is_terminal()
    }

    /// The descriptor that lines are written to, for those who cannot wait for the lock.
    pub fn descriptor(&self) -> RawFd {
        let target = self.inner.target.lock().unwrap_or_else(PoisonError::into_inner);
        target
            .as_ref()
            .map_or_else(|| io::stdout().as_raw_fd(), AsRawFd::as_raw_fd)
    }

    /// Writes text as it is, when `level` is logged.
    pub fn write_raw(&self, text: &str) {
        if self.inner.level.load(Ordering::Relaxed) <= 2 {
            self.put(text.as_bytes());
        }
    }

    /// `syslog-enabled`: lines go there too.
    pub fn set_syslog(&self, syslog: Syslog) {
        *self.inner.syslog.lock().unwrap_or_else(PoisonError::into_inner) = Some(syslog);
    }

    /// Writes text as it is, whatever the level.
    pub fn write_always(&self, text: &str) {
        self.put(text.as_bytes());
    }

    fn put(&self, line: &[u8]) {
        let mut target = self.inner.target.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written has nobody to tell.
        let _ = match target.as_mut() {
            Some(file) => file.write_all(line),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(line).and_then(|()| out.flush())
            }
        };
    }
}

fn severity(level: &Level) -> (u8, char) {
    match *level {
        Level::TRACE => (0, '.'),
        Level::DEBUG => (1, '-'),
        Level::INFO => (2, '*'),
        Level::WARN | Level::ERROR => (3, '#'),
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (severity, mark) = severity(event.metadata().level());
        // Libraries speak up only when something is wrong.
        let is_own = event.metadata().target().starts_with("shardis");
        if severity < self.inner.level.load(Ordering::Relaxed) || (!is_own && severity < 3) {
            return;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let now = jiff::Zoned::now();
        let line = format!(
            "{}:M {} {mark} {}\n",
            std::process::id(),
            now.strftime("%d %b %Y %H:%M:%S%.3f"),
            text.0
        );
        self.put(line.as_bytes());
        if let Some(syslog) = &*self.inner.syslog.lock().unwrap_or_else(PoisonError::into_inner) {
            syslog.send(severity, &text.0);
        }
    }
}

/// The message of an event, its other fields behind it.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}
