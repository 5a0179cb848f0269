//! How far the loading of a data set has got, for INFO and for those who wait for it.
//!
//! One for the process: who reads the file writes it, everybody reads it. Whether a shard refuses commands meanwhile is not read here but
//! kept by each shard, because that is asked with every request.

use crate::base::clock::UnixMs;
use crate::base::section::Section;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// See above.
#[derive(Debug, Default)]
pub struct Loading {
    is_loading: AtomicBool,
    /// Some shard may refuse commands still: each ends that by itself, when all have everything.
    is_refusing: AtomicBool,
    /// Somebody is about to put a file in the place of what there is, or is at it.
    is_reloading: AtomicBool,
    started_at_ms: AtomicU64,
    total_bytes: AtomicU64,
    loaded_bytes: AtomicU64,
    /// What the one who wrote the file used.
    used_bytes_then: AtomicU64,
    /// Of the load that goes on, or of the last one.
    keys_loaded: AtomicU64,
    keys_expired: AtomicU64,
    keys_empty: AtomicU64,
}

impl Loading {
    /// Begins with so many bytes before it; 0: that is not known.
    pub fn begin(&self, now: UnixMs, total_bytes: u64) {
        self.started_at_ms.store(now.0, Ordering::Relaxed);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        for counter in [
            &self.loaded_bytes,
            &self.used_bytes_then,
            &self.keys_loaded,
            &self.keys_expired,
            &self.keys_empty,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        self.is_refusing.store(true, Ordering::Release);
        self.is_loading.store(true, Ordering::Release);
    }

    /// For who puts a file in the place of what there is: false, if something is read already, or is about to be.
    pub fn claim_reload(&self) -> bool {
        !self.is_loading() && !self.is_reloading.swap(true, Ordering::AcqRel)
    }

    pub fn end_reload(&self) {
        self.is_reloading.store(false, Ordering::Release);
    }

    /// All of it is there: what is saved from here on is the whole.
    pub fn end(&self) {
        self.is_loading.store(false, Ordering::Release);
    }

    /// No shard refuses anything any more.
    pub fn end_refusing(&self) {
        self.is_refusing.store(false, Ordering::Release);
    }

    /// What INFO says: whoever reads there that it is over may ask any shard.
    pub fn is_refusing(&self) -> bool {
        self.is_refusing.load(Ordering::Acquire)
    }

    pub fn is_loading(&self) -> bool {
        self.is_loading.load(Ordering::Acquire)
    }

    pub fn count_bytes(&self, bytes: u64) {
        self.loaded_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn count_keys(&self, loaded: u64, empty: u64) {
        self.keys_loaded.fetch_add(loaded, Ordering::Relaxed);
        self.keys_empty.fetch_add(empty, Ordering::Relaxed);
    }

    pub fn count_expired(&self, keys: u64) {
        self.keys_expired.fetch_add(keys, Ordering::Relaxed);
    }

    /// What the file says that the server used which wrote it.
    pub fn note_used_bytes_then(&self, bytes: u64) {
        self.used_bytes_then.store(bytes, Ordering::Relaxed);
    }

    pub fn keys_loaded(&self) -> u64 {
        self.keys_loaded.load(Ordering::Relaxed)
    }

    pub fn keys_expired(&self) -> u64 {
        self.keys_expired.load(Ordering::Relaxed)
    }

    /// Keys that were left out because there was nothing in them.
    pub fn keys_empty(&self) -> u64 {
        self.keys_empty.load(Ordering::Relaxed)
    }

    /// Writes what INFO says while it goes on; nothing else.
    pub fn write_progress(&self, now: UnixMs, out: &mut Section) {
        if !self.is_refusing() {
            return;
        }
        let [total, loaded, started_at_ms] =
            [&self.total_bytes, &self.loaded_bytes, &self.started_at_ms].map(|counter| counter.load(Ordering::Relaxed));
        let used_then = self.used_bytes_then.load(Ordering::Relaxed);
        // Of a transfer whose length nobody knows, what the other side used is the best guess.
        let whole = if total == 0 { used_then } else { total };
        let elapsed_s = now.0.saturating_sub(started_at_ms) / 1000;
        let percent = match whole {
            0 => 0.0,
            whole => loaded as f64 * 100.0 / whole as f64,
        };
        let eta_s = match loaded {
            0 => 1,
            loaded => (elapsed_s as f64 * whole.saturating_sub(loaded) as f64 / loaded as f64) as u64,
        };
        out.field("loading_start_time", started_at_ms / 1000);
        out.field("loading_total_bytes", total);
        out.field("loading_rdb_used_mem", used_then);
        out.field("loading_loaded_bytes", loaded);
        out.field("loading_loaded_perc", format_args!("{percent:.2}"));
        out.field("loading_eta_seconds", eta_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reload_at_a_time_and_none_while_a_file_is_read() {
        let loading = Loading::default();
        loading.begin(UnixMs(0), 0);
        assert!(!loading.claim_reload());
        loading.end();
        assert!(loading.claim_reload() && !loading.claim_reload());
        loading.end_reload();
        assert!(loading.claim_reload());
    }

    #[test]
    fn progress_is_shown_as_redis_shows_it() {
        let loading = Loading::default();
        let shown = |now| {
            let mut out = Section::new("");
            loading.write_progress(UnixMs(now), &mut out);
            out.into_text()
        };
        assert_eq!(shown(0), Section::new("").into_text());
        loading.count_bytes(9);
        loading.begin(UnixMs(5_000), 400);
        assert!(shown(5_000).contains("loading_loaded_perc:0.00\r\nloading_eta_seconds:1\r\n"));
        loading.count_bytes(100);
        loading.note_used_bytes_then(777);
        let text = shown(15_000);
        assert!(text.contains("loading_start_time:5\r\nloading_total_bytes:400\r\nloading_rdb_used_mem:777\r\n"));
        assert!(text.contains("loading_loaded_bytes:100\r\nloading_loaded_perc:25.00\r\nloading_eta_seconds:30\r\n"));
        loading.begin(UnixMs(0), 0);
        loading.note_used_bytes_then(200);
        loading.count_bytes(100);
        assert!(shown(1_000).contains(
            "loading_total_bytes:0\r\nloading_rdb_used_mem:200\r\nloading_loaded_bytes:100\r\nloading_loaded_perc:50.00"
        ));
        loading.end();
        assert!(!loading.is_loading() && shown(0).contains("loading_start_time"));
        loading.end_refusing();
        assert_eq!(shown(0), Section::new("").into_text());
    }
}
