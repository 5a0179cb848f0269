//! Payloads and fingerprints against the oracles: what one side dumps the other restores, and equal data have equal digests. And
//! damaged payloads, of which none may do more than be refused.
//!
//! Each oracle is met in the version of the format that it reads: Redis 7.0 in 10, Valkey 9.1 in 11 (its own dumps are of version
//! 80), Redis 8.2 in 12. The seeds are fixed, so a failure is the same failure tomorrow. Where an oracle is missing the comparisons
//! say so and pass; the unit tests of `persist` hold payloads and digests that redis-server once answered.

mod support;

use shardis::base::clock::UnixMs;
use shardis::base::crc64::crc64;
use shardis::base::hash::HashSeed;
use shardis::data::string::StringForm;
use shardis::data::{Limits, ObjectRef};
use shardis::persist::digest::{DatasetDigest, DbDigest, EMPTY, digest_value, hex};
use shardis::persist::payload::{self, Form, PayloadError, RDB_VERSION_MAX, dump};
use shardis::persist::rdb::RdbReader;
use shardis::persist::value::{Making, Value};
use shardis::store::OwnedEntry;
use support::{Client, Oracle, Server, Value as Reply};

/// As redis-server 7.0 writes.
const REDIS_7_0: Form = Form {
    rdb_version: 10,
    compresses: true,
};

/// The oracles, and the version of the format that each of them is sent.
const PEERS: [(Oracle, u16); 3] = [(Oracle::Redis70, 10), (Oracle::Valkey91, 11), (Oracle::Redis82, 12)];

/// Of a payload: version and checksum.
const SEAL_BYTES: usize = 10;

fn restore(bytes: &[u8]) -> Result<Value<'_>, PayloadError> {
    let making = Making {
        limits: &Limits::default(),
        seed: HashSeed([1, 2]),
    };
    payload::restore(bytes, making)
}

/// An oracle and a connection to it.
struct Peer {
    client: Client,
    oracle: Oracle,
    _server: Server,
}

impl Peer {
    fn start(oracle: Oracle) -> Option<Peer> {
        let server = oracle.start(&["--enable-debug-command", "yes"])?;
        Some(Peer {
            client: server.client(),
            oracle,
            _server: server,
        })
    }

    /// Runs a command; the bytes of its reply (an error has a minus in front, nil is `None`, an array is its first element).
    fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Option<Vec<u8>> {
        match self.client.call(words) {
            Reply::Nil => None,
            Reply::Bulk(text) | Reply::Simple(text) => Some(text),
            Reply::Error(text) => Some([b"-", &text[..]].concat()),
            Reply::Integer(number) => Some(number.to_string().into_bytes()),
            Reply::Array(items) => items.first().map(|item| item.text().into_bytes()),
            other => panic!("no reply in RESP2: {other:?}"),
        }
    }

    fn text<W: AsRef<[u8]>>(&mut self, words: &[W]) -> String {
        String::from_utf8_lossy(&self.ask(words).unwrap_or_default()).into_owned()
    }

    /// Whether this is how it would have dumped what it has dumped so: Valkey has a version of its own, and the same layouts.
    fn is_same(&self, ours: &[u8], theirs: &[u8]) -> bool {
        match self.oracle {
            Oracle::Valkey91 => ours[..ours.len() - SEAL_BYTES] == theirs[..theirs.len() - SEAL_BYTES],
            _ => ours == theirs,
        }
    }
}

/// Strings of every form: integers at each border, incompressible and compressible texts of many lengths.
fn samples() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(11);
    let mut out: Vec<Vec<u8>> = Vec::new();
    for bits in [0, 7, 8, 15, 16, 31, 32, 33, 62] {
        for around in [-1i64, 0, 1] {
            out.push(((1i64 << bits) + around).to_string().into());
            out.push((-(1i64 << bits) + around).to_string().into());
        }
    }
    for text in [
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "00",
        "-0",
        "+1",
        " 1",
        "1.5",
        "",
    ] {
        out.push(text.into());
    }
    for length in [
        1, 11, 12, 19, 20, 21, 43, 44, 45, 63, 64, 255, 256, 5000, 16383, 16384, 70_000,
    ] {
        out.push((0..length).map(|_| random.u8(..)).collect());
        out.push((0..length).map(|_| b'a' + random.u8(..2)).collect());
        out.push(vec![b'x'; length]);
    }
    out
}

/// Whether Redis's own compressor had no say in it: then both sides write the same bytes.
fn is_plain(text: &[u8]) -> bool {
    text.len() <= 20
}

fn entry(text: &[u8]) -> OwnedEntry {
    OwnedEntry::string(b"key", text, StringForm::Detect, None, 0)
}

fn text_of(entry: &OwnedEntry) -> Vec<u8> {
    entry.as_ref().value().as_bytes(&mut itoa::Buffer::new()).to_vec()
}

#[test]
fn each_side_restores_what_the_other_dumps() {
    for (oracle, rdb_version) in PEERS {
        let Some(mut peer) = Peer::start(oracle) else { continue };
        let form = Form {
            rdb_version,
            compresses: true,
        };
        for text in samples() {
            let shown = format!("{}: {}", oracle.name(), text[..text.len().min(40)].escape_ascii());
            let ours = dump(entry(&text).as_ref(), form);
            peer.ask(&[b"SET", &b"theirs"[..], &text]);
            let theirs = peer.ask(&["DUMP", "theirs"]).expect("the key exists");
            assert!(!is_plain(&text) || peer.is_same(&ours, &theirs), "{shown}");
            let restored = restore(&theirs)
                .expect("the peer's payload")
                .into_entry(b"key", None, 0);
            assert_eq!(text_of(&restored), text, "{shown}");
            assert_eq!(
                peer.text(&[b"RESTORE", &b"ours"[..], b"0", &ours, b"REPLACE"]),
                "OK",
                "{shown}"
            );
            assert_eq!(peer.ask(&["GET", "ours"]).as_deref(), Some(&text[..]), "{shown}");
            if oracle == Oracle::Redis70 {
                let encoding = peer.text(&["OBJECT", "ENCODING", "ours"]);
                assert_eq!(restored.as_ref().encoding().name(), encoding, "{shown}");
            }
        }
        peer.ask(&["CONFIG", "SET", "rdbcompression", "no"]);
        let uncompressed = Form {
            compresses: false,
            ..form
        };
        for text in samples() {
            peer.ask(&[b"SET", &b"theirs"[..], &text]);
            let theirs = peer.ask(&["DUMP", "theirs"]).expect("the key exists");
            let ours = dump(entry(&text).as_ref(), uncompressed);
            assert!(peer.is_same(&ours, &theirs), "{}: {} bytes", oracle.name(), text.len());
        }
    }
}

/// Commands that make values of every type and encoding under the key `theirs`, each from nothing.
fn recipes() -> Vec<Vec<Vec<String>>> {
    let mut random = fastrand::Rng::with_seed(17);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let mut element = |number: usize| match number % 5 {
        0 => number.to_string(),
        1 => format!("element {number}"),
        2 => (-(number as i64) * 1_000_003).to_string(),
        3 => "x".repeat(random.usize(..60)) + &number.to_string(),
        _ => format!("{}", number as f64 / 7.0),
    };
    let mut out = Vec::new();
    for count in [1, 7, 100, 2000] {
        let mut push = words(&["RPUSH", "theirs"]);
        let mut add = words(&["ZADD", "theirs"]);
        let mut set = words(&["HSET", "theirs"]);
        let mut integers = words(&["SADD", "theirs"]);
        let mut members = words(&["SADD", "theirs"]);
        for number in 0..count {
            push.push(element(number));
            set.push(format!("field {number}"));
            set.push(element(number));
            integers.push((number as i64 * 77_777_777 - 5).to_string());
            members.push(format!("member {number}"));
            add.push(["1", "-1.5", "inf", "3e300", "0.1", "12345678901"][number % 6].to_owned());
            add.push(element(number));
        }
        out.push(vec![push]);
        out.push(vec![set]);
        out.push(vec![integers]);
        out.push(vec![members]);
        out.push(vec![add]);
        let mut stream = Vec::new();
        for number in 0..count {
            let id = format!("{}-{}", number / 3 + 1, number % 3 + 1);
            let mut entry = words(&["XADD", "theirs", &id, "field", &element(number)]);
            if number % 4 == 0 {
                entry.extend([element(number + 1), element(number + 2)]);
            }
            stream.push(entry);
        }
        stream.push(words(&["XDEL", "theirs", "1-1"]));
        stream.push(words(&["XGROUP", "CREATE", "theirs", "readers", "0"]));
        stream.push(words(&["XGROUP", "CREATE", "theirs", "idle", "$"]));
        stream.push(words(&[
            "XREADGROUP",
            "GROUP",
            "readers",
            "alice",
            "COUNT",
            "5",
            "STREAMS",
            "theirs",
            ">",
        ]));
        stream.push(words(&[
            "XREADGROUP",
            "GROUP",
            "readers",
            "bob",
            "COUNT",
            "9",
            "STREAMS",
            "theirs",
            ">",
        ]));
        out.push(stream);
    }
    out.push(vec![words(&["RPUSH", "theirs", &"y".repeat(100_000), "z"])]);
    out
}

#[test]
fn values_of_every_type_go_both_ways() {
    for (oracle, rdb_version) in PEERS {
        let Some(mut peer) = Peer::start(oracle) else { continue };
        peer.ask(&["CONFIG", "SET", "rdbcompression", "no"]);
        for recipe in recipes() {
            go_both_ways(&mut peer, rdb_version, &recipe);
        }
    }
}

/// What the peer has made after the recipe goes to us, and back.
fn go_both_ways(peer: &mut Peer, rdb_version: u16, recipe: &[Vec<String>]) {
    let oracle = peer.oracle;
    let uncompressed = Form {
        rdb_version,
        compresses: false,
    };
    peer.ask(&["DEL", "theirs", "ours"]);
    for command in recipe {
        let answer = peer.text(command);
        assert!(!answer.starts_with('-'), "{}: {answer}: {command:?}", oracle.name());
    }
    let shown = format!("{}: {:?} and {} more", oracle.name(), &recipe[0][..1], recipe.len() - 1);
    let theirs = peer.ask(&["DUMP", "theirs"]).expect("the key exists");
    let entry = restore(&theirs)
        .unwrap_or_else(|error| panic!("{shown}: {error}"))
        .into_entry(b"key", None, 0);
    let entry = entry.as_ref();
    let digest = peer.text(&["DEBUG", "DIGEST-VALUE", "theirs"]);
    let our_digest = hex(&digest_value(entry));
    // 7.0 takes 17 digits of a score.
    let has_other_digest = oracle == Oracle::Redis70 && recipe[0][0] == "ZADD";
    assert!(our_digest == digest || has_other_digest, "{shown}");
    let encoding = peer.text(&["OBJECT", "ENCODING", "theirs"]);
    // Since 7.2 a list that fits one node is a listpack, and so are small sets.
    let is_older =
        oracle == Oracle::Redis70 && (encoding == "quicklist" || (encoding == "hashtable" && recipe[0][0] == "SADD"));
    if !is_older {
        assert_eq!(entry.encoding().name(), encoding, "{shown}");
    }
    for rdb_version in [10, 11, RDB_VERSION_MAX] {
        let form = Form {
            rdb_version,
            ..uncompressed
        };
        let again = restore(&dump(entry, form))
            .expect("our payload")
            .into_entry(b"key", None, 0);
        assert_eq!(hex(&digest_value(again.as_ref())), our_digest, "{shown}");
        assert_eq!(again.as_ref().encoding(), entry.encoding(), "{shown}");
    }
    let ours = dump(entry, uncompressed);
    assert_eq!(peer.text(&[b"RESTORE", &b"ours"[..], b"0", &ours]), "OK", "{shown}");
    assert_eq!(peer.text(&["DEBUG", "DIGEST-VALUE", "ours"]), digest, "{shown}");
    // Where nothing orders the elements each side has an order of its own.
    if !["skiplist", "hashtable"].contains(&encoding.as_str()) {
        let again = peer.ask(&["DUMP", "ours"]).expect("the key exists");
        assert!(peer.is_same(&ours, &again), "{shown}");
    }
    damage(&theirs);
}

/// The fields of a hash with the Unix times in milliseconds at which they expire.
fn expiries(entry: &OwnedEntry) -> Vec<(String, Option<u64>)> {
    let mut found = Vec::new();
    let Some(ObjectRef::Hash(hash)) = entry.as_ref().object() else {
        panic!("no hash");
    };
    hash.for_each_with_expiry(|field, _, expiry| {
        found.push((
            String::from_utf8_lossy(&field.to_vec()).into_owned(),
            expiry.map(|at| at.0),
        ));
    });
    found.sort();
    found
}

/// A hash of so many fields, of which every other one expires, made by whoever answers.
fn make_expiring(peer: &mut Peer, key: &str, count: usize) -> Vec<(String, Option<u64>)> {
    peer.ask(&["DEL", key]);
    let mut fields = Vec::new();
    for number in 0..count {
        let field = format!("field {number}");
        peer.ask(&["HSET", key, &field, &format!("value {}", number % 7)]);
        let at = (number % 2 == 0).then(|| 20_000_000_000_000 + (number as u64 * 7_919) % 1000);
        if let Some(at) = at {
            let answer = peer.text(&["HPEXPIREAT", key, &at.to_string(), "FIELDS", "1", &field]);
            assert_eq!(answer, "1");
        }
        fields.push((field, at));
    }
    fields.sort();
    fields
}

#[test]
fn fields_that_expire_go_both_ways_or_are_refused() {
    const VERSION_REFUSED: &str = "-ERR DUMP payload version or checksum are wrong";
    let Some(mut redis) = Peer::start(Oracle::Redis82) else {
        return;
    };
    let mut valkey = Peer::start(Oracle::Valkey91);
    let mut older = Peer::start(Oracle::Redis70);
    for count in [1, 2, 60, 900] {
        let fields = make_expiring(&mut redis, "theirs", count);
        let theirs = redis.ask(&["DUMP", "theirs"]).expect("the key exists");
        let entry = restore(&theirs)
            .expect("the peer's payload")
            .into_entry(b"key", None, 0);
        assert_eq!(expiries(&entry), fields);
        assert_eq!(
            hex(&digest_value(entry.as_ref())),
            redis.text(&["DEBUG", "DIGEST-VALUE", "theirs"]),
            "{count} fields"
        );
        for rdb_version in [10, 11, 12] {
            let form = Form {
                rdb_version,
                compresses: true,
            };
            let ours = dump(entry.as_ref(), form);
            let again = restore(&ours).expect("our payload").into_entry(b"key", None, 0);
            assert_eq!(expiries(&again), fields, "at version {rdb_version}");
            assert_eq!(redis.text(&[b"RESTORE", &b"ours"[..], b"0", &ours, b"REPLACE"]), "OK");
            for (field, at) in &fields {
                let at = at.map_or("-1".to_owned(), |at| at.to_string());
                assert_eq!(redis.text(&["HPEXPIRETIME", "ours", "FIELDS", "1", field]), at);
            }
            // Whoever has no place for it says so, instead of keeping the fields for ever.
            for peer in [&mut valkey, &mut older].into_iter().flatten() {
                let answer = peer.text(&[b"RESTORE", &b"ours"[..], b"0", &ours]);
                assert_eq!(answer, VERSION_REFUSED, "{}", peer.oracle.name());
            }
        }
        if let Some(valkey) = &mut valkey {
            let fields = make_expiring(valkey, "theirs", count);
            let theirs = valkey.ask(&["DUMP", "theirs"]).expect("the key exists");
            let entry = restore(&theirs)
                .expect("the peer's payload")
                .into_entry(b"key", None, 0);
            assert_eq!(expiries(&entry), fields, "of Valkey");
            damage(&theirs);
        }
    }
}

/// At any `rdb-version`: what cannot be said in it is said in a newer one, as long as there is something to say.
#[test]
fn no_setting_loses_the_expiry_of_fields() {
    for version in ["10", "11", "12"] {
        let server = Server::shardis(1, &["--rdb-version", version]);
        let mut client = server.client();
        let setting: u16 = version.parse().expect("a number");
        for (key, count) in [("packed", 5), ("table", 700)] {
            for number in 0..count {
                client.line(&format!("HSET {key} field{number} {number}"));
            }
            let dumped = |client: &mut Client| match client.line(&format!("DUMP {key}")) {
                Reply::Bulk(payload) => payload,
                other => panic!("no payload: {other}"),
            };
            assert_eq!(version_of(&dumped(&mut client)), setting);
            client.line(&format!("HPEXPIREAT {key} 20000000000123 FIELDS 1 field3"));
            let payload = dumped(&mut client);
            assert_eq!(version_of(&payload), 12, "{key} at {version}");
            let restored = client.call(&[b"RESTORE", &b"copy"[..], b"0", &payload, b"REPLACE"]);
            assert_eq!(restored.text(), "OK");
            let expiry = client.line("HPEXPIRETIME copy FIELDS 2 field3 field4").items();
            assert_eq!(expiry, [Reply::Integer(20_000_000_000_123), Reply::Integer(-1)]);
            // When the last expiry is gone, so is the reason.
            client.line(&format!("HPERSIST {key} FIELDS 1 field3"));
            assert_eq!(version_of(&dumped(&mut client)), setting);
        }
    }
}

/// The version in a payload's seal.
fn version_of(payload: &[u8]) -> u16 {
    let seal = &payload[payload.len() - SEAL_BYTES..];
    u16::from_le_bytes([seal[0], seal[1]])
}

/// Changes bytes of a payload, and cuts it: it is read or refused, and what is read can be written again.
fn damage(payload: &[u8]) {
    let mut random = fastrand::Rng::with_seed(payload.len() as u64);
    let rounds = (400_000 / payload.len()).clamp(20, 2000);
    for _ in 0..rounds {
        let mut bytes = payload[..payload.len() - 8].to_vec();
        let body_len = bytes.len() - 2;
        for _ in 0..random.usize(1..4) {
            let reach = if random.bool() { body_len } else { body_len.min(40) };
            bytes[random.usize(..reach)] = random.u8(..);
        }
        if random.u8(..4) == 0 {
            let cut = random.usize(..body_len);
            bytes.drain(cut..random.usize(cut..=body_len));
        }
        let checksum = crc64(0, &bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        if let Ok(value) = restore(&bytes) {
            let entry = value.into_entry(b"key", None, 0);
            let digest = digest_value(entry.as_ref());
            let form = Form {
                rdb_version: RDB_VERSION_MAX,
                ..REDIS_7_0
            };
            let again = dump(entry.as_ref(), form);
            let again = restore(&again).expect("our payload").into_entry(b"key", None, 0);
            assert_eq!(digest_value(again.as_ref()), digest);
        }
    }
}

#[test]
fn a_newer_version_is_refused_by_who_does_not_know_it() {
    let newest = Form {
        rdb_version: RDB_VERSION_MAX,
        compresses: true,
    };
    let payload = dump(entry(b"hello").as_ref(), newest);
    assert_eq!(text_of(&restore(&payload).unwrap().into_entry(b"k", None, 0)), b"hello");
    let Some(mut redis) = Peer::start(Oracle::Redis70) else {
        return;
    };
    let answer = redis.text(&[b"RESTORE", &b"k"[..], b"0", &payload]);
    assert_eq!(answer, "-ERR DUMP payload version or checksum are wrong");
}

#[test]
fn damage_never_does_more_than_be_refused() {
    let mut random = fastrand::Rng::with_seed(23);
    let samples = samples();
    let mut refused = [0u32; 2];
    let mut accepted = 0u32;
    for _ in 0..60_000 {
        let mut payload = dump(entry(&samples[random.usize(..samples.len())]).as_ref(), REDIS_7_0);
        // Long payloads are slow to seal, and their damage is that of short ones.
        if payload.len() > 6000 {
            continue;
        }
        let body_len = payload.len() - 10;
        for _ in 0..random.usize(1..4) {
            let reach = if random.bool() { payload.len() } else { body_len.min(8) };
            let place = random.usize(..reach);
            payload[place] = random.u8(..);
        }
        match random.u8(..6) {
            0 => payload.truncate(random.usize(..payload.len())),
            // Sealed again: the damage gets past the checksum, to the reader.
            1..=4 => {
                if random.bool() {
                    payload.drain(..random.usize(..body_len.min(4)));
                }
                let sealed = payload.len() - 8;
                payload[sealed - 2..sealed].copy_from_slice(&10u16.to_le_bytes());
                let checksum = crc64(0, &payload[..sealed]);
                payload[sealed..].copy_from_slice(&checksum.to_le_bytes());
            }
            _ => {}
        }
        match restore(&payload) {
            Ok(value) => {
                let entry = value.into_entry(b"key", None, 0);
                let again = dump(entry.as_ref(), REDIS_7_0);
                assert_eq!(
                    text_of(&restore(&again).unwrap().into_entry(b"key", None, 0)),
                    text_of(&entry)
                );
                accepted += 1;
            }
            Err(PayloadError::Seal) => refused[0] += 1,
            Err(PayloadError::Value(error)) => {
                assert!(error.offset <= payload.len(), "{error}");
                refused[1] += 1;
            }
        }
    }
    // All three outcomes have been met, else nothing was tried.
    assert!(
        refused[0] > 1000 && refused[1] > 1000 && accepted > 1000,
        "{refused:?} {accepted}"
    );
}

#[test]
fn equal_data_have_the_digest_that_redis_answers() {
    let Some(mut redis) = Peer::start(Oracle::Redis70) else {
        return;
    };
    assert_eq!(redis.text(&["DEBUG", "DIGEST"]), hex(&EMPTY));
    assert_eq!(redis.text(&["DEBUG", "DIGEST-VALUE", "missing"]), hex(&EMPTY));
    let mut whole = DatasetDigest::default();
    for db in [0u32, 1, 5, 15] {
        redis.ask(&["SELECT", &db.to_string()]);
        // Two shards' shares of the same db, added up.
        let mut shares = [DbDigest::default(); 2];
        for (number, text) in samples().into_iter().enumerate().skip(db as usize) {
            let key = format!("key:{number}");
            redis.ask(&[b"SET", key.as_bytes(), &text]);
            let mut ours = OwnedEntry::string(key.as_bytes(), &text, StringForm::Detect, None, 0);
            if number % 3 == 0 {
                redis.ask(&["PEXPIREAT", &key, "4000000000000"]);
                ours.set_expiry(Some(UnixMs(5_000_000_000_000)));
            }
            let theirs = redis.text(&["DEBUG", "DIGEST-VALUE", &key]);
            assert_eq!(hex(&digest_value(ours.as_ref())), theirs, "{key}");
            shares[number % 2].mix_key(ours.as_ref());
        }
        let [mut both, other] = shares;
        both.merge(&other);
        whole.mix_db(db, &both);
    }
    assert_eq!(hex(&whole.finish()), redis.text(&["DEBUG", "DIGEST"]));
}

/// A payload with this type and body, as a server of version 9 of the format would have dumped it.
fn sealed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut payload = [&[kind], body, &9u16.to_le_bytes()].concat();
    let sum = crc64(0, &payload);
    payload.extend(sum.to_le_bytes());
    payload
}

/// A string as RDB files have it, with the longest form of its length that is not for 64 bits.
fn rdb_string(text: &[u8]) -> Vec<u8> {
    [&[0x80], &(text.len() as u32).to_be_bytes()[..], text].concat()
}

/// A ziplist, in which numbers take their shortest form, as Redis wrote it up to 6.2.
fn ziplist<T: AsRef<[u8]>>(items: &[T]) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut last_len = 0;
    for item in items {
        let start = entries.len();
        let text = item.as_ref();
        match u32::try_from(last_len) {
            Ok(len @ ..254) => entries.push(len as u8),
            len => {
                entries.push(254);
                entries.extend(len.expect("a short list").to_le_bytes());
            }
        }
        let number = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|number| number.to_string().as_bytes() == text);
        let bytes = number.unwrap_or(0).to_le_bytes();
        match (number, text.len()) {
            (Some(small @ 0..=12), _) => entries.push(0xf1 + small as u8),
            (Some(-0x80..=0x7f), _) => entries.extend([0xfe, bytes[0]]),
            (Some(-0x8000..=0x7fff), _) => entries.extend([&[0xc0], &bytes[..2]].concat()),
            (Some(-0x80_0000..=0x7f_ffff), _) => entries.extend([&[0xf0], &bytes[..3]].concat()),
            (Some(-0x8000_0000..=0x7fff_ffff), _) => entries.extend([&[0xd0], &bytes[..4]].concat()),
            (Some(_), _) => entries.extend([&[0xe0], &bytes[..]].concat()),
            (None, len @ 0..=63) => entries.push(len as u8),
            (None, len @ 64..=0x3fff) => entries.extend([0x40 | (len >> 8) as u8, len as u8]),
            (None, len) => entries.extend([&[0x80], &(len as u32).to_be_bytes()[..]].concat()),
        }
        if number.is_none() {
            entries.extend(text);
        }
        last_len = entries.len() - start;
    }
    let tail = 10 + entries.len() - last_len;
    let mut out = (11 + entries.len() as u32).to_le_bytes().to_vec();
    out.extend((tail as u32).to_le_bytes());
    out.extend((items.len() as u16).to_le_bytes());
    out.extend(entries);
    out.push(0xff);
    out
}

/// A zipmap, as Redis wrote small hashes up to 2.4; every other value has spare bytes behind it.
fn zipmap<T: AsRef<[u8]>>(pairs: &[T]) -> Vec<u8> {
    let length = |text: &[u8]| match text.len() {
        len @ ..254 => vec![len as u8],
        len => [&[254], &(len as u32).to_le_bytes()[..]].concat(),
    };
    let mut out = vec![(pairs.len() / 2).min(254) as u8];
    for (index, pair) in pairs.chunks(2).enumerate() {
        let (field, value) = (pair[0].as_ref(), pair[1].as_ref());
        let spare = index % 2 * 3;
        out.extend(length(field));
        out.extend(field);
        out.extend(length(value));
        out.push(spare as u8);
        out.extend(value);
        out.extend(&b"???"[..spare]);
    }
    out.push(0xff);
    out
}

/// What older servers dumped: redis-server still reads it, and so it says what each payload is.
fn old_payloads() -> Vec<(&'static str, Vec<u8>)> {
    let items = samples();
    let distinct: Vec<&Vec<u8>> = {
        let mut seen = std::collections::HashSet::new();
        items.iter().filter(|item| seen.insert(item.as_slice())).collect()
    };
    let pairs = &distinct[..distinct.len() / 2 * 2];
    let counted =
        |count: usize, parts: Vec<Vec<u8>>| [&[0x80], &(count as u32).to_be_bytes()[..], &parts.concat()].concat();
    let strings = |items: &[&Vec<u8>]| items.iter().map(|item| rdb_string(item)).collect::<Vec<_>>();
    let scored: Vec<Vec<u8>> = distinct
        .iter()
        .enumerate()
        .flat_map(|(rank, item)| [item.to_vec(), format!("{}", rank as f64 / 4.0 - 7.0).into_bytes()])
        .collect();
    let old_scores = scored
        .chunks(2)
        .enumerate()
        .map(|(rank, pair)| match rank {
            0 => [&rdb_string(&pair[0])[..], &[255]].concat(),
            _ => [&rdb_string(&pair[0])[..], &[pair[1].len() as u8], &pair[1]].concat(),
        })
        .collect();
    let nodes = distinct
        .chunks(7)
        .map(|node| rdb_string(&ziplist(node)))
        .collect::<Vec<_>>();
    let mut out = vec![
        (
            "a list of strings",
            sealed(1, &counted(items.len(), strings(&items.iter().collect::<Vec<_>>()))),
        ),
        (
            "a set of strings",
            sealed(2, &counted(distinct.len(), strings(&distinct))),
        ),
        (
            "a sorted set with scores as text",
            sealed(3, &counted(distinct.len(), old_scores)),
        ),
        (
            "a hash of strings",
            sealed(4, &counted(pairs.len() / 2, strings(pairs))),
        ),
        ("a zipmap", sealed(9, &rdb_string(&zipmap(pairs)))),
        ("a list that is a ziplist", sealed(10, &rdb_string(&ziplist(&items)))),
        (
            "a sorted set that is a ziplist",
            sealed(12, &rdb_string(&ziplist(&scored))),
        ),
        ("a hash that is a ziplist", sealed(13, &rdb_string(&ziplist(pairs)))),
        ("a list of ziplists", sealed(14, &counted(nodes.len(), nodes))),
    ];
    // So many pairs that a zipmap does not say how many.
    let many: Vec<String> = (0..600).map(|number| format!("n{number}")).collect();
    out.push(("a zipmap of many", sealed(9, &rdb_string(&zipmap(&many)))));
    // From the documentation of RESTORE, dumped by a Redis 2.6.
    let documented =
        b"\n\x17\x17\0\0\0\x12\0\0\0\x03\0\0\xc0\x01\0\x04\xc0\x02\0\x04\xc0\x03\0\xff\x04\0u#<\xc0;.\xe9\xdd";
    out.push(("the list of the documentation", documented.to_vec()));
    out
}

fn pass_lengths(reader: &mut RdbReader<'_>, count: usize) {
    for _ in 0..count {
        reader.length().expect("a length");
    }
}

/// The payload of a stream as 7.0 dumps it, in the form that servers wrote up to 6.2: without the first ID, the greatest deleted
/// ID, and how many entries were added and read.
fn first_stream_form(payload: &[u8]) -> Vec<u8> {
    let body = &payload[1..payload.len() - 10];
    let mut reader = RdbReader::new(body);
    let mut out = Vec::new();
    let mut kept_to = 0;
    let mut leave_out = |reader: &mut RdbReader<'_>, lengths: usize| {
        out.extend(&body[kept_to..reader.offset()]);
        pass_lengths(reader, lengths);
        kept_to = reader.offset();
    };
    let blocks = reader.length().expect("a count");
    for _ in 0..2 * blocks {
        reader.string().expect("an ID or a block");
    }
    // How many entries, and the last ID.
    pass_lengths(&mut reader, 3);
    leave_out(&mut reader, 5);
    let groups = reader.length().expect("a count");
    for _ in 0..groups {
        reader.string().expect("a name");
        // The last ID delivered.
        pass_lengths(&mut reader, 2);
        leave_out(&mut reader, 1);
        let pending = reader.length().expect("a count");
        for _ in 0..pending {
            reader.take(16 + 8).expect("an ID and a time");
            reader.length().expect("how often it was delivered");
        }
        let consumers = reader.length().expect("a count");
        for _ in 0..consumers {
            reader.string().expect("a name");
            reader.take(8).expect("a time");
            let pending = reader.length().expect("a count");
            reader.take(16 * pending).expect("IDs");
        }
    }
    leave_out(&mut reader, 0);
    assert_eq!(reader.left(), 0);
    sealed(15, &out)
}

#[test]
fn streams_of_older_servers_are_read_as_redis_reads_them() {
    let Some(mut redis) = Peer::start(Oracle::Redis70) else {
        return;
    };
    for entries in [0, 1, 250] {
        redis.ask(&["DEL", "new", "old"]);
        redis.ask(&["XGROUP", "CREATE", "new", "group", "0", "MKSTREAM"]);
        redis.ask(&["XGROUP", "CREATE", "new", "idle", "$"]);
        for id in 1..=entries {
            let fields = ["field", "value", "other", &id.to_string()];
            redis.ask(&[&["XADD", "new", &format!("7-{id}")], &fields[..2 + id % 2 * 2]].concat());
        }
        redis.ask(&[
            "XREADGROUP",
            "GROUP",
            "group",
            "consumer",
            "COUNT",
            "30",
            "STREAMS",
            "new",
            ">",
        ]);
        redis.ask(&["XDEL", "new", "7-3"]);
        let old = first_stream_form(&redis.ask(&["DUMP", "new"]).expect("the key exists"));
        assert_eq!(redis.text(&[b"RESTORE", &b"old"[..], b"0", &old]), "OK", "{entries}");
        let entry = restore(&old).expect("the old form").into_entry(b"key", None, 0);
        let digest = redis.text(&["DEBUG", "DIGEST-VALUE", "old"]);
        assert_eq!(hex(&digest_value(entry.as_ref())), digest, "{entries}");
        // Groups and what is pending are not in the digest; the dump has them.
        let uncompressed = Form {
            compresses: false,
            ..REDIS_7_0
        };
        redis.ask(&["CONFIG", "SET", "rdbcompression", "no"]);
        // Of an empty one redis-server makes up the greatest of all IDs as the first one, in this form only.
        let is_same = redis.ask(&["DUMP", "old"]) == Some(dump(entry.as_ref(), uncompressed));
        assert!(is_same || entries == 0, "{entries}");
        damage(&old);
    }
}

#[test]
fn what_older_servers_dumped_is_read_as_redis_reads_it() {
    let Some(mut redis) = Peer::start(Oracle::Redis70) else {
        return;
    };
    for (name, payload) in old_payloads() {
        let answer = redis.text(&[b"RESTORE", &b"key"[..], b"0", &payload, b"REPLACE"]);
        assert_eq!(answer, "OK", "{name}");
        let digest = redis.text(&["DEBUG", "DIGEST-VALUE", "key"]);
        let entry = restore(&payload).unwrap_or_else(|error| panic!("{name}: {error}"));
        let entry = entry.into_entry(b"key", None, 0);
        assert_eq!(hex(&digest_value(entry.as_ref())), digest, "{name}");
        damage(&payload);
    }
}
