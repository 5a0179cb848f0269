//! The scripts that the process knows by their SHA1.
//!
//! One cache for all shards: what SCRIPT LOAD has answered, EVALSHA finds on every shard, and what SCRIPT FLUSH has answered is
//! gone on every shard. A shard that has run a script keeps it ([`Known`]), so that a call looks at no lock: at one number of the process only, which
//! changes with all that takes scripts away; then the shard asks once more for each script that it keeps.
//!
//! What EVAL has brought stays for a while: beyond [`EVALUATED_MAX`] the oldest goes, as in Redis 7.4 (programs that write values into the
//! text of their scripts would fill the memory). What SCRIPT LOAD has brought stays until SCRIPT FLUSH.
//!
//! Invariants: (1) `evaluated` has exactly those scripts of `by_digest` that may go, in the order in which they came; (2) the number is raised
//! after the scripts are gone, and before whoever has taken them away is answered.

use crate::resp::ReplyError;
use crate::script::{ScriptFlags, of_script};
use bytes::Bytes;
use hashbrown::HashMap;
use sha1::{Digest as _, Sha1};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Scripts that are known because EVAL has run them.
const EVALUATED_MAX: usize = 500;

/// What a cached script takes beside its text: its entry, and its place among those that may go.
const OVERHEAD_BYTES: usize = size_of::<CachedScript>() + size_of::<(Digest, Entry)>() + size_of::<Digest>();

/// A SHA1 as 40 hex digits in lower case: the name of a script.
pub type Digest = [u8; 40];

/// A script that was found to compile.
#[derive(Debug)]
pub struct CachedScript {
    pub digest: Digest,
    pub body: Bytes,
    /// What its first line says; None: it has no such line, and may do anything.
    pub flags: Option<ScriptFlags>,
}

/// See the essay above.
#[derive(Default)]
pub struct Cache {
    scripts: Mutex<Scripts>,
    /// How often scripts were taken away.
    losses: AtomicU64,
    /// How often by SCRIPT FLUSH.
    flushes: AtomicU64,
}

#[derive(Default)]
struct Scripts {
    by_digest: HashMap<Digest, Entry>,
    evaluated: VecDeque<Digest>,
    bytes: usize,
}

struct Entry {
    script: Arc<CachedScript>,
    /// It stays until SCRIPT FLUSH.
    is_loaded: bool,
}

/// The name of a script with this text.
pub fn digest(body: &[u8]) -> Digest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 40];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha1::digest(body)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}

/// The name that a client has given, in whatever case; None: no script has such a name.
pub fn parse_digest(text: &[u8]) -> Option<Digest> {
    let mut digest: Digest = text.try_into().ok()?;
    digest.make_ascii_lowercase();
    Some(digest)
}

impl CachedScript {
    /// A script with this text, whose name is known already; the error says what is wrong with its first line.
    pub fn new(digest: Digest, body: &[u8]) -> Result<CachedScript, ReplyError> {
        let (flags, _) = of_script(body)?;
        Ok(CachedScript {
            digest,
            body: Bytes::copy_from_slice(body),
            flags,
        })
    }
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Scripts> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script of that name.
    pub fn find(&self, digest: &Digest) -> Option<Arc<CachedScript>> {
        self.lock().by_digest.get(digest).map(|entry| entry.script.clone())
    }

    /// Takes in a script that compiles; `is_loaded`: by SCRIPT LOAD.
    pub fn insert(&self, script: &Arc<CachedScript>, is_loaded: bool) {
        let mut guard = self.lock();
        let scripts = &mut *guard;
        match scripts.by_digest.get_mut(&script.digest) {
            Some(entry) if is_loaded && !entry.is_loaded => {
                entry.is_loaded = true;
                scripts.evaluated.retain(|digest| *digest != script.digest);
            }
            Some(_) => {}
            None => {
                scripts.bytes += script.body.len() + OVERHEAD_BYTES;
                let entry = Entry {
                    script: script.clone(),
                    is_loaded,
                };
                scripts.by_digest.insert(script.digest, entry);
                if !is_loaded {
                    scripts.evaluated.push_back(script.digest);
                }
            }
        }
        if scripts.evaluated.len() > EVALUATED_MAX
            && let Some(oldest) = scripts.evaluated.pop_front()
            && let Some(entry) = scripts.by_digest.remove(&oldest)
        {
            scripts.bytes -= entry.script.body.len() + OVERHEAD_BYTES;
            self.losses.fetch_add(1, Ordering::Release);
        }
    }

    /// SCRIPT FLUSH.
    pub fn clear(&self) {
        *self.lock() = Scripts::default();
        self.flushes.fetch_add(1, Ordering::Release);
        self.losses.fetch_add(1, Ordering::Release);
    }

    /// How many scripts there are, and what they take in bytes.
    pub fn size(&self) -> (usize, usize) {
        let scripts = self.lock();
        (scripts.by_digest.len(), scripts.bytes)
    }
}

/// The scripts that a shard keeps.
#[derive(Default)]
pub struct Known {
    /// How often SCRIPT FLUSH has been when it began to.
    flushes: u64,
    /// Each with the losses of the process when it was last found in the cache.
    scripts: HashMap<Digest, (Arc<CachedScript>, u64)>,
}

/// What a shard finds for a name.
pub enum Lookup {
    Found(Arc<CachedScript>),
    /// It was known here, and is no more: whoever has compiled it may forget that.
    Lost,
    Unknown,
}

impl Known {
    /// Forgets all if SCRIPT FLUSH has been since. True: it has.
    pub fn follow_flush(&mut self, cache: &Cache) -> bool {
        let flushes = cache.flushes.load(Ordering::Acquire);
        if flushes == self.flushes {
            return false;
        }
        *self = Known {
            flushes,
            ..Known::default()
        };
        true
    }

    /// The script of that name, if the process still has it.
    pub fn find(&mut self, digest: &Digest, cache: &Cache) -> Lookup {
        let losses = cache.losses.load(Ordering::Acquire);
        if let Some((script, checked_at)) = self.scripts.get(digest)
            && *checked_at == losses
        {
            return Lookup::Found(script.clone());
        }
        match cache.find(digest) {
            Some(script) => {
                self.scripts.insert(*digest, (script.clone(), losses));
                Lookup::Found(script)
            }
            None => match self.scripts.remove(digest) {
                Some(_) => Lookup::Lost,
                None => Lookup::Unknown,
            },
        }
    }

    /// Forgets those that the process does not have any more. Answers which.
    pub fn take_lost(&mut self, cache: &Cache) -> Vec<Digest> {
        let lost = self.scripts.keys().filter(|digest| cache.find(digest).is_none());
        let lost: Vec<Digest> = lost.copied().collect();
        for digest in &lost {
            self.scripts.remove(digest);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(body: &str) -> Arc<CachedScript> {
        Arc::new(CachedScript::new(digest(body.as_bytes()), body.as_bytes()).expect("its first line is right"))
    }

    fn is_found(known: &mut Known, cache: &Cache, script: &CachedScript) -> bool {
        matches!(known.find(&script.digest, cache), Lookup::Found(_))
    }

    #[test]
    fn a_digest_is_a_sha1_in_whatever_case() {
        let hex = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(&digest(b"return 1"), hex);
        assert_eq!(parse_digest(&hex.to_ascii_uppercase()), Some(*hex));
        assert_eq!(parse_digest(&hex[1..]), None);
    }

    #[test]
    fn what_is_flushed_is_gone_on_every_shard() {
        let cache = Cache::default();
        let mut shards = [Known::default(), Known::default()];
        let one = script("return 1");
        cache.insert(&one, true);
        assert!(shards.iter_mut().all(|known| is_found(known, &cache, &one)));
        cache.clear();
        assert!(matches!(shards[0].find(&one.digest, &cache), Lookup::Lost));
        assert!(matches!(shards[0].find(&one.digest, &cache), Lookup::Unknown));
        assert!(shards[1].follow_flush(&cache) && !shards[1].follow_flush(&cache));
        assert!(matches!(shards[1].find(&one.digest, &cache), Lookup::Unknown));
        assert_eq!(cache.size(), (0, 0));
    }

    #[test]
    fn what_was_evaluated_goes_in_its_order_and_what_was_loaded_stays() {
        let cache = Cache::default();
        let mut known = Known::default();
        let scripts: Vec<_> = (0..EVALUATED_MAX + 2).map(|i| script(&format!("return {i}"))).collect();
        for script in &scripts[..EVALUATED_MAX] {
            cache.insert(script, false);
        }
        // The oldest was loaded as well meanwhile: it makes room by it.
        cache.insert(&scripts[0], true);
        cache.insert(&scripts[0], false);
        cache.insert(&scripts[EVALUATED_MAX], false);
        assert!(
            scripts[..=EVALUATED_MAX]
                .iter()
                .all(|script| is_found(&mut known, &cache, script))
        );
        cache.insert(&scripts[EVALUATED_MAX + 1], false);
        assert!(is_found(&mut known, &cache, &scripts[0]));
        assert_eq!(known.take_lost(&cache), [scripts[1].digest]);
        assert!(!is_found(&mut known, &cache, &scripts[1]));
        assert!(is_found(&mut known, &cache, &scripts[2]));
        assert_eq!(cache.size().0, EVALUATED_MAX + 1);
    }
}
