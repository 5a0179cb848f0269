//! Programs of real commands for the testbed, drawn at random.
//!
//! Most requests touch few keys on few slots, so that clients meet; each run has some of the kinds of requests and lacks others.
//! What is answered at random, or by what only one engine knows (memory, ages of clients), is either left out or judged by
//! what must hold of it.

mod listening;
mod waiting;

use shardis::base::random::Random;
use shardis::engine::testbed::{Features, Judge, Meaning, PINNED, Plan, Request, Workload};
use shardis::resp::Proto;

pub struct Commands;

impl Workload for Commands {
    fn features(&self) -> &'static [&'static str] {
        &[
            "strings",
            "counters",
            "lists",
            "hashes",
            "sets",
            "sorted-sets",
            "streams",
            "estimates",
            "many-keys",
            "large",
            "long",
            "expiry",
            "field-expiry",
            "multi",
            "watch",
            "asynchronous",
            "asynchronous-in-exec",
            "reaching",
            "everything",
            "pause",
            "kill",
            "silence",
            "resp3",
            "dbs",
            "mistakes",
            "quit",
            "strict",
            "eviction",
            "scan",
            "output-limit",
            "client-eviction",
            "publishing",
        ]
    }

    fn parameters(&self, plan: &Plan<'_>, random: &mut Random) -> Vec<(String, String)> {
        let mut parameters = Vec::new();
        let mut set = |name: &str, value: &str| parameters.push((name.to_owned(), value.to_owned()));
        // The histogram of a command is kept for good once it was called.
        set("latency-tracking", "no");
        if plan.features.has("strict") {
            set("pipeline-order", "strict");
        }
        if plan.features.has("eviction") {
            let policies = [
                "allkeys-lru",
                "allkeys-lfu",
                "allkeys-random",
                "volatile-ttl",
                "noeviction",
            ];
            set("maxmemory-policy", policies[random.below(policies.len())]);
            set("maxmemory", &random.u64_in(20_000..400_000).to_string());
        }
        if plan.features.has("output-limit") {
            let hard_bytes = match random.below(3) {
                0 => random.u64_in(100..1_000),
                1 => random.u64_in(1_000..10_000),
                _ => random.u64_in(10_000..100_000),
            };
            set("client-output-buffer-limit", &format!("normal {hard_bytes} 0 0"));
        }
        if plan.features.has("client-eviction") {
            set("maxmemory-clients", &random.u64_in(130_000..600_000).to_string());
        }
        parameters
    }

    fn program(&self, plan: &Plan<'_>, client: usize, random: &mut Random) -> Vec<Request> {
        let length = match random.below(4) {
            0 => random.usize_in(1..6),
            1 | 2 => random.usize_in(5..20),
            // Beyond what a client may have under way.
            _ if plan.features.has("long") && random.chance(1, 3) => random.usize_in(300..1500),
            _ => random.usize_in(20..60),
        };
        let mut program = Program {
            plan,
            client,
            random,
            proto: Proto::Resp2,
            requests: Vec::new(),
            last_group: 0,
            dbs: 1,
            listens: false,
        };
        if plan.features.has("dbs") {
            program.dbs = DBS;
        }
        program.begin();
        if program.begin_to_listen() {
            return program.requests;
        }
        while program.requests.len() < length {
            program.next();
        }
        program.end();
        program.requests
    }

    fn keys_expire(&self, features: &Features) -> bool {
        features.has("expiry") || features.has("field-expiry")
    }

    fn closing(&self, plan: &Plan<'_>) -> Vec<Request> {
        let has = |feature: &str| plan.features.has(feature);
        // Renamed and copied keys hold what is of another kind.
        let kinds = KINDS
            .iter()
            .filter(|(_, feature)| has("many-keys") || has("waiting") || has(feature));
        let mut tags = plan.tags.clone();
        tags.sort_unstable();
        tags.dedup();
        let mut requests = Vec::new();
        if has("output-limit") || has("client-eviction") {
            let mut exempts = Request::new(&["CLIENT", "NO-EVICT", "ON"], OK);
            exempts.meaning = Meaning::Exempts;
            requests.push(exempts);
            requests.push(Request::new(
                &[
                    "CONFIG",
                    "SET",
                    "client-output-buffer-limit",
                    "normal 0 0 0",
                    "maxmemory-clients",
                    "0",
                ],
                OK,
            ));
        }
        for db in 0..if has("dbs") { DBS } else { 1 } {
            requests.push(Request::new(&["SELECT", &db.to_string()], OK));
            for (kind, _) in kinds.clone() {
                for tag in &tags {
                    for number in 0..KEYS_EACH {
                        let key = format!("{kind}{{{tag}}}{number}");
                        if *kind == "x" && dates_consumers_anew(plan.features) {
                            requests.push(Request::new(&["XRANGE", &key, "-", "+"], Judge::Compared));
                            requests.push(Request::new(&["XINFO", "GROUPS", &key], Judge::Compared));
                        } else if has("huge") && !has("field-expiry") {
                            // DUMP has the elements of a table in an order that nobody promises.
                            requests.extend(all_of(&key));
                        } else if has("field-expiry") {
                            // DUMP has the fields whose time is over until somebody has removed them.
                            requests.push(Request::new(&["HGETALL", &key], Judge::Unordered));
                            requests.push(Request::new(&["MGET", &key], Judge::Compared));
                        } else {
                            requests.push(Request::new(&["DUMP", &key], Judge::Compared));
                        }
                        if has("expiry") && !has("field-expiry") && !has("huge") {
                            requests.push(Request::new(&["PTTL", &key], Judge::Compared));
                        }
                    }
                }
            }
        }
        requests.push(Request::new(&["FLUSHALL"], Judge::Compared));
        requests
    }
}

/// Asks for all that a key holds, whatever type it is.
fn all_of(key: &str) -> [Request; 6] {
    [
        Request::new(&["SMEMBERS", key], Judge::Unordered),
        Request::new(&["HGETALL", key], Judge::Unordered),
        Request::new(&["ZRANGE", key, "0", "-1", "WITHSCORES"], Judge::Compared),
        Request::new(&["LRANGE", key, "0", "-1"], Judge::Compared),
        Request::new(&["XRANGE", key, "-", "+"], Judge::Compared),
        Request::new(&["MGET", key], Judge::Compared),
    ]
}

/// The first letters of keys, and the feature with which there are such keys.
const KINDS: &[(&str, &str)] = &[
    ("s", "strings"),
    ("n", "counters"),
    ("l", "lists"),
    ("h", "hashes"),
    ("t", "sets"),
    ("z", "sorted-sets"),
    ("x", "streams"),
    ("e", "estimates"),
    ("r", "reaching"),
];

/// Dbs that are used where there are several.
const DBS: usize = 3;

/// Keys of each kind with each tag.
const KEYS_EACH: usize = 2;

struct Program<'a> {
    plan: &'a Plan<'a>,
    client: usize,
    random: &'a mut Random,
    proto: Proto,
    requests: Vec<Request>,
    last_group: u32,
    dbs: usize,
    /// It subscribes to channels.
    listens: bool,
}

const OK: Judge = Judge::Exactly(b"+OK\r\n");

/// Whether DUMP of a stream has what no model knows: a consumer was seen last when the file was read. Then streams stay with their kind of keys,
/// and are asked about in other ways.
fn dates_consumers_anew(features: &Features) -> bool {
    features.has("waiting") && features.has("file")
}

fn is_map_or_array(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'*' | b'%'))
}

fn is_bulk_or_verbatim(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'$' | b'='))
}

fn is_number(reply: &[u8]) -> bool {
    reply.first() == Some(&b':')
}

/// A cursor and keys.
fn is_scanned(reply: &[u8]) -> bool {
    reply.starts_with(b"*2\r\n$")
}

/// `+OK`, or that there is no such client (any more).
fn is_killed(reply: &[u8]) -> bool {
    reply == b"+OK\r\n" || reply == b"-ERR No such client\r\n"
}

impl Program<'_> {
    fn has(&self, feature: &str) -> bool {
        self.plan.features.has(feature)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.random.chance(1, count)
    }

    fn push(&mut self, mut request: Request) {
        request.proto = self.proto;
        self.requests.push(request);
    }

    fn say<W: AsRef<[u8]>>(&mut self, words: &[W], judge: Judge) {
        self.push(Request::new(words, judge));
    }

    fn pick<'b>(&mut self, of: &[&'b str]) -> &'b str {
        of[self.random.below(of.len())]
    }

    fn tag(&mut self) -> String {
        let tags = &self.plan.tags;
        if self.plan.features.has("one-slot-each") {
            return tags[self.client % tags.len()].to_owned();
        }
        tags[self.random.below(tags.len())].to_owned()
    }

    fn key(&mut self, kind: &str) -> String {
        let number = self.random.below(KEYS_EACH);
        format!("{kind}{{{}}}{number}", self.tag())
    }

    /// A value, now and then larger than rings, than what is copied into them, and than what a socket holds.
    fn value(&mut self) -> Vec<u8> {
        let ring = self.plan.ring_bytes;
        let rarity = if self.has("long") { 120 } else { 12 };
        let length = match self.random.below(rarity) {
            0 if self.has("large") => self.random.usize_in(ring / 2..ring * 3),
            1 if self.has("large") => self.random.usize_in(15_000..22_000),
            2 if self.has("large") => self.random.usize_in(60_000..140_000),
            3 => self.random.usize_in(20..400),
            _ => self.random.usize_in(1..8),
        };
        let letter = b'a' + self.random.below(26) as u8;
        let mut value = vec![letter; length];
        // Told apart by more than their lengths.
        let mark = self.random.u64_in(0..10_000).to_string();
        let marked = mark.len().min(length);
        value[..marked].copy_from_slice(&mark.as_bytes()[..marked]);
        value
    }

    fn begin(&mut self) {
        if self.has("resp3") && self.one_in(2) {
            self.proto = Proto::Resp3;
            self.say(&["HELLO", "3"], Judge::Holds(is_map_or_array));
            self.pin();
        }
        if self.dbs > 1 && self.one_in(2) {
            let db = self.random.below(self.dbs).to_string();
            self.say(&["SELECT", &db], OK);
        }
        if self.has("client-eviction") && self.one_in(4) {
            let mut request = Request::new(&["CLIENT", "NO-EVICT", "ON"], OK);
            request.meaning = Meaning::Exempts;
            self.push(request);
        }
    }

    fn end(&mut self) {
        if self.has("client-eviction") && self.one_in(2) {
            return self.hoard();
        }
        if self.has("quit") && self.one_in(3) {
            self.say(&["QUIT"], OK);
            if self.one_in(2) {
                self.data();
            }
        }
    }

    /// Keeps much in the queue of a transaction that does not end.
    fn hoard(&mut self) {
        self.say(&["MULTI"], OK);
        for _ in 0..self.random.usize_in(1..8) {
            let key = self.key("s");
            let value = vec![b'h'; self.random.usize_in(5_000..90_000)];
            self.say(&[&b"SET"[..], key.as_bytes(), &value], Judge::Compared);
        }
    }

    /// The last request cannot be left out without all.
    fn pin(&mut self) {
        if let Some(request) = self.requests.last_mut() {
            request.group = PINNED;
        }
    }

    /// One request, or a few that belong together.
    fn next(&mut self) {
        match self.random.below(40) {
            0..6 if self.has("multi") => self.transaction(),
            6 if self.has("watch") => {
                let keys: Vec<String> = (0..self.random.usize_in(1..4)).map(|_| self.any_key()).collect();
                let mut words = vec!["WATCH".to_owned()];
                words.extend(keys);
                self.say(&words, OK);
                if self.one_in(6) {
                    self.say(&["UNWATCH"], OK);
                }
            }
            7 | 8 if self.has("asynchronous") => self.asynchronous(),
            9 if self.has("pause") => self.pause(),
            10 if self.has("kill") && self.one_in(4) => {
                let victim = self.random.below(self.plan.addresses.len());
                if victim != self.client {
                    let mut request = Request::new(
                        &["CLIENT", "KILL", &self.plan.addresses[victim]],
                        Judge::Holds(is_killed),
                    );
                    request.meaning = Meaning::Kills(victim);
                    self.push(request);
                }
            }
            // What was refused for lack of memory, or while a data set is read, is said in replies only.
            11 if self.has("silence") && !self.listens && !self.has("eviction") && !self.has("restarts") => {
                self.silence()
            }
            12 if self.dbs > 1 => {
                let db = self.random.below(self.dbs).to_string();
                self.say(&["SELECT", &db], OK);
            }
            13 if self.has("mistakes") => {
                if self.one_in(2) {
                    self.say(&["NOSUCHCOMMAND", "x"], Judge::Any);
                } else {
                    self.say(&["GET"], Judge::Any);
                }
            }
            14 => self.say(&["PING"], Judge::Exactly(b"+PONG\r\n")),
            15 => self.say(&["CLIENT", "ID"], Judge::Holds(is_number)),
            16 if self.has("everything") && self.one_in(2) => self.everything(),
            17 if self.has("quit") && self.one_in(3) => {
                self.proto = Proto::Resp2;
                self.listens = false;
                self.say(&["RESET"], Judge::Any);
                self.pin();
            }
            19 if self.publishes() => self.publish(),
            18 if self.has("scan") && self.has("every-slot") => {
                self.say(&["SCAN", "0", "COUNT", "100"], Judge::Holds(is_scanned));
            }
            27..30 if self.listens => self.subscribe(),
            30 if self.has("policies") && self.has("file") => self.promise(),
            20..36 if self.has("waiting") => self.waiting(),
            _ => self.data(),
        }
    }

    fn transaction(&mut self) {
        if self.has("watch") && self.one_in(3) {
            let key = self.any_key();
            self.say(&["WATCH", &key], OK);
        }
        self.say(&["MULTI"], OK);
        let length = match self.random.below(8) {
            0 => 0,
            1 => self.random.usize_in(5..25),
            _ => self.random.usize_in(1..5),
        };
        for _ in 0..length {
            match self.random.below(16) {
                0 if self.has("asynchronous-in-exec") => self.harmless(),
                1 if self.has("asynchronous-in-exec") => self.say(&["WAIT", "0", "0"], Judge::Exactly(b":0\r\n")),
                2 if self.dbs > 1 => {
                    let db = self.random.below(self.dbs).to_string();
                    self.say(&["SELECT", &db], OK);
                }
                3 if self.has("mistakes") && self.one_in(4) => self.say(&["GET"], Judge::Any),
                4 => self.say(&["PING"], Judge::Compared),
                5 if self.has("watch") && self.one_in(3) => self.say(&["UNWATCH"], Judge::Compared),
                6 if self.has("everything") && self.one_in(3) => self.everything(),
                7 | 8 if self.publishes() => self.publish(),
                9 if self.has("waiting") => self.waiting_in_exec(),
                _ => self.data(),
            }
        }
        if self.one_in(8) {
            self.say(&["DISCARD"], OK);
        } else {
            self.say(&["EXEC"], Judge::Compared);
        }
    }

    /// Asks other shards, and changes nothing that another run of it would see.
    fn harmless(&mut self) {
        match self.random.below(4) {
            0 => self.say(&["CLIENT", "LIST"], Judge::Holds(is_bulk_or_verbatim)),
            1 => self.say(&["SLOWLOG", "LEN"], Judge::Holds(is_number)),
            2 if self.has("every-slot") => self.say(&["INFO", "commandstats"], Judge::Holds(is_bulk_or_verbatim)),
            _ => self.say(&["CONFIG", "SET", "hz", "10"], OK),
        }
    }

    fn asynchronous(&mut self) {
        match self.random.below(4) {
            0 => self.say(&["WAIT", "0", "0"], Judge::Exactly(b":0\r\n")),
            1 => self.say(&["CONFIG", "RESETSTAT"], OK),
            _ => self.harmless(),
        }
    }

    /// Has replies wait for the disk, or no more.
    fn promise(&mut self) {
        let policy = self.pick(&["always", "always", "everysec", "no"]);
        let mut request = Request::new(&["CONFIG", "SET", "appendfsync", policy], OK);
        request.meaning = Meaning::Promises {
            always: policy == "always",
        };
        self.push(request);
    }

    fn pause(&mut self) {
        if self.one_in(3) {
            let mut request = Request::new(&["CLIENT", "UNPAUSE"], OK);
            request.meaning = Meaning::Unpauses;
            return self.push(request);
        }
        let for_ms = self.random.u64_in(1..60);
        let writes_only = self.one_in(2);
        let mode = if writes_only { "WRITE" } else { "ALL" };
        let mut request = Request::new(&["CLIENT", "PAUSE", &for_ms.to_string(), mode], OK);
        request.meaning = Meaning::Pauses { for_ms, writes_only };
        self.push(request);
    }

    /// Requests without replies.
    fn silence(&mut self) {
        self.last_group += 1;
        let from = self.requests.len();
        if self.one_in(2) {
            self.say(&["CLIENT", "REPLY", "SKIP"], Judge::Any);
            self.data();
            for request in &mut self.requests[from..] {
                request.is_answered = false;
            }
        } else {
            self.say(&["CLIENT", "REPLY", "OFF"], Judge::Any);
            for _ in 0..self.random.usize_in(0..5) {
                if self.has("multi") && self.one_in(4) {
                    self.say(&["MULTI"], OK);
                    self.data();
                    self.data();
                    self.say(&["EXEC"], Judge::Compared);
                } else {
                    self.data();
                }
            }
            for request in &mut self.requests[from..] {
                request.is_answered = false;
            }
            self.say(&["CLIENT", "REPLY", "ON"], OK);
        }
        let group = self.client as u32 * 1000 + self.last_group;
        for request in &mut self.requests[from..] {
            request.group = group;
        }
    }

    /// What needs every slot.
    fn everything(&mut self) {
        match self.random.below(8) {
            0 => self.say(&["FLUSHDB"], Judge::Compared),
            1 if self.one_in(3) => self.say(&["FLUSHALL"], Judge::Compared),
            2 | 3 if self.dbs > 1 => {
                let (one, other) = (self.random.below(self.dbs), self.random.below(self.dbs));
                self.say(&["SWAPDB", &one.to_string(), &other.to_string()], Judge::Compared);
            }
            // Keys whose time is over count until somebody has looked at them.
            4 if !self.has("expiry") && !self.has("field-expiry") => self.say(&["DBSIZE"], Judge::Compared),
            _ => self.all_keys(),
        }
    }

    /// A pattern for all keys. It begins its search at a slot that there is.
    fn pattern(&mut self) -> String {
        let slot = |text: &str| shardis::base::slot::key_slot(text.as_bytes());
        let slot_count = self.plan.slot_count;
        let patterns = (0u32..).map(|number| format!("*[^\x01{number:x}Q]*"));
        let from = self.random.below(50);
        patterns
            .skip(from)
            .find(|pattern| slot(pattern) < slot_count)
            .expect("one of many patterns leads to each slot")
    }

    fn all_keys(&mut self) {
        let pattern = self.pattern();
        // A hash whose fields' time is over is there until somebody has removed it.
        let judge = if self.has("field-expiry") {
            Judge::Any
        } else {
            Judge::Unordered
        };
        self.say(&["KEYS", &pattern], judge);
    }

    fn any_key(&mut self) -> String {
        let kinds = ["s", "n", "l", "t", "z", "x", "h"];
        // A hash whose fields' time is over is there, with its type, until somebody has removed it.
        let kind = self.pick(if self.has("field-expiry") { &kinds[..6] } else { &kinds });
        self.key(kind)
    }

    /// From where to where a value goes.
    fn any_way(&mut self) -> (String, String) {
        let (from, mut to) = (self.any_key(), self.any_key());
        if from.starts_with('x') && dates_consumers_anew(self.plan.features) {
            to.replace_range(..1, "x");
        }
        (from, to)
    }

    fn data(&mut self) {
        if self.has("huge") && !self.has("eviction") && self.one_in(20) {
            return self.huge();
        }
        for _ in 0..20 {
            match self.random.below(12) {
                0 if self.has("counters") => return self.counters(),
                1 if self.has("lists") => return self.lists(),
                2 if self.has("hashes") => return self.hashes(),
                3 if self.has("sets") => return self.sets(),
                4 if self.has("sorted-sets") => return self.sorted_sets(),
                5 if self.has("streams") => return self.streams(),
                6 if self.has("estimates") => return self.estimates(),
                7 if self.has("many-keys") => return self.many_keys(),
                8 if self.has("expiry") => return self.expiry(),
                9 if self.has("field-expiry") => return self.field_expiry(),
                10 if self.has("reaching") => return self.reaching(),
                11 if self.has("strings") => return self.strings(),
                _ => {}
            }
        }
        self.strings();
    }

    /// Values of so many elements that they are frozen while a snapshot runs, and copied in steps.
    fn huge(&mut self) {
        let kinds = ["t", "z", "l", "s", "x", "h"];
        // A hash whose fields' time is over is there until somebody has removed it.
        let kind = self.pick(if self.has("field-expiry") { &kinds[..5] } else { &kinds });
        let (key, other) = (self.key(kind), self.key(kind));
        // Most changes are of a few elements of what is there.
        let count = [1200, 1200, 3, 1, 1, 1][self.random.below(6)];
        let first = self.random.below(1000);
        let names = (first..first + count).map(|number| format!("name {number}"));
        let words: Vec<String> = match (kind, self.random.below(6)) {
            (_, 0) => ["COPY", &key, &other, "REPLACE"].map(str::to_owned).into(),
            (_, 1) => ["RENAME", &key, &other].map(str::to_owned).into(),
            ("t", 2) => ["SREM", &key].map(str::to_owned).into_iter().chain(names).collect(),
            ("t", _) => ["SADD", &key].map(str::to_owned).into_iter().chain(names).collect(),
            ("h", 2) => ["HDEL", &key].map(str::to_owned).into_iter().chain(names).collect(),
            ("h", _) => {
                let fields = names.flat_map(|name| [name, first.to_string()]);
                ["HSET", &key].map(str::to_owned).into_iter().chain(fields).collect()
            }
            ("z", 2) => ["ZREM", &key].map(str::to_owned).into_iter().chain(names).collect(),
            ("z", _) => {
                let scored = names.enumerate().flat_map(|(at, name)| [(at % 77).to_string(), name]);
                ["ZADD", &key].map(str::to_owned).into_iter().chain(scored).collect()
            }
            ("l", 2) => ["LPOP", &key, &count.to_string()].map(str::to_owned).into(),
            ("l", 3) => ["LSET", &key, &(first / 4).to_string(), "set"]
                .map(str::to_owned)
                .into(),
            ("l", _) => ["RPUSH", &key].map(str::to_owned).into_iter().chain(names).collect(),
            ("x", 2) => ["XTRIM", &key, "MAXLEN", &count.to_string()].map(str::to_owned).into(),
            ("x", _) => {
                let fields = names.flat_map(|name| [name, "v".repeat(40)]);
                ["XADD", &key, "*"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain(fields)
                    .collect()
            }
            (_, 2) if count > 100 => ["SETRANGE", &key, "270000", "end"].map(str::to_owned).into(),
            (_, 3) => ["APPEND", &key, "tail"].map(str::to_owned).into(),
            _ => ["SETRANGE", &key, &(first * 270).to_string(), "written over"]
                .map(str::to_owned)
                .into(),
        };
        self.say(&words, Judge::Compared);
    }

    fn strings(&mut self) {
        let key = self.key("s").into_bytes();
        let value = self.value();
        let words: Vec<Vec<u8>> = match self.random.below(9) {
            0..3 => vec![b"SET".to_vec(), key, value],
            3 => vec![b"GET".to_vec(), key],
            4 => vec![b"APPEND".to_vec(), key, value],
            5 => vec![b"STRLEN".to_vec(), key],
            6 => vec![b"GETDEL".to_vec(), key],
            7 => vec![b"SET".to_vec(), key, value, b"GET".to_vec()],
            _ => vec![b"GETRANGE".to_vec(), key, b"0".to_vec(), b"10".to_vec()],
        };
        self.say(&words, Judge::Compared);
    }

    fn counters(&mut self) {
        let key = self.key("n");
        match self.random.below(5) {
            0..3 => self.say(&["INCR", &key], Judge::Compared),
            3 => self.say(&["GET", &key], Judge::Compared),
            _ => self.say(&["DECRBY", &key, "3"], Judge::Compared),
        }
    }

    fn lists(&mut self) {
        let key = self.key("l").into_bytes();
        let other = self.key("l").into_bytes();
        let value = self.value();
        let word = |text: &str| text.as_bytes().to_vec();
        let words = match self.random.below(9) {
            0 | 1 => vec![word("RPUSH"), key, value],
            2 => vec![word("LPUSH"), key, value, word("x")],
            3 => vec![word("LPOP"), key],
            4 => vec![word("RPOP"), key],
            5 => vec![word("LRANGE"), key, word("0"), word("-1")],
            6 => vec![word("LMOVE"), key, other, word("LEFT"), word("RIGHT")],
            7 => vec![word("LLEN"), key],
            _ => vec![word("RPOPLPUSH"), key, other],
        };
        self.say(&words, Judge::Compared);
    }

    fn hashes(&mut self) {
        let key = self.key("h").into_bytes();
        let field = self.pick(&["a", "b", "c"]).as_bytes().to_vec();
        let value = self.value();
        let word = |text: &str| text.as_bytes().to_vec();
        let (words, judge) = match self.random.below(7) {
            0 | 1 => (vec![word("HSET"), key, field, value], Judge::Compared),
            2 => (vec![word("HGET"), key, field], Judge::Compared),
            3 => (vec![word("HDEL"), key, field], Judge::Compared),
            4 => (vec![word("HGETALL"), key], Judge::Unordered),
            5 => (vec![word("HINCRBY"), key, word("n"), word("2")], Judge::Compared),
            _ => (
                vec![word("HMGET"), key, word("a"), word("b"), word("n")],
                Judge::Compared,
            ),
        };
        self.say(&words, judge);
    }

    fn sets(&mut self) {
        let (key, other, third) = (self.key("t"), self.key("t"), self.key("t"));
        let member = self.random.below(6).to_string();
        match self.random.below(8) {
            0..3 => self.say(&["SADD", &key, &member, "m"], Judge::Compared),
            3 => self.say(&["SREM", &key, &member], Judge::Compared),
            4 => self.say(&["SMEMBERS", &key], Judge::Unordered),
            5 => self.say(&["SUNIONSTORE", &key, &other, &third], Judge::Compared),
            6 => self.say(&["SINTER", &key, &other], Judge::Unordered),
            _ => self.say(&["SMOVE", &key, &other, &member], Judge::Compared),
        }
    }

    fn sorted_sets(&mut self) {
        let (key, other, third) = (self.key("z"), self.key("z"), self.key("z"));
        let score = self.random.below(9).to_string();
        let member = self.pick(&["a", "b", "c", "d"]);
        match self.random.below(6) {
            0..2 => self.say(&["ZADD", &key, &score, member], Judge::Compared),
            2 => self.say(&["ZRANGE", &key, "0", "-1", "WITHSCORES"], Judge::Compared),
            3 => self.say(&["ZINCRBY", &key, &score, member], Judge::Compared),
            4 => self.say(&["ZUNIONSTORE", &key, "2", &other, &third], Judge::Compared),
            _ => self.say(&["ZPOPMIN", &key], Judge::Compared),
        }
    }

    fn streams(&mut self) {
        let key = self.key("x").into_bytes();
        let value = self.value();
        let word = |text: &str| text.as_bytes().to_vec();
        let words = match self.random.below(5) {
            0 | 1 => vec![word("XADD"), key, word("*"), word("f"), value],
            2 => vec![word("XLEN"), key],
            3 => vec![word("XTRIM"), key, word("MAXLEN"), word("2")],
            _ => vec![word("XRANGE"), key, word("-"), word("+")],
        };
        self.say(&words, Judge::Compared);
    }

    fn estimates(&mut self) {
        let (key, other) = (self.key("e"), self.key("e"));
        let element = self.random.below(50).to_string();
        match self.random.below(3) {
            0 => self.say(&["PFADD", &key, &element], Judge::Compared),
            1 => self.say(&["PFCOUNT", &key, &other], Judge::Compared),
            _ => self.say(&["PFMERGE", &key, &other], Judge::Compared),
        }
    }

    fn many_keys(&mut self) {
        let word = |text: &str| text.as_bytes().to_vec();
        let keys: Vec<Vec<u8>> = (0..self.random.usize_in(1..7))
            .map(|_| self.key("s").into_bytes())
            .collect();
        let mut words = Vec::new();
        match self.random.below(9) {
            0 | 1 => {
                words.push(word("MSET"));
                for key in keys {
                    words.push(key);
                    words.push(self.value());
                }
            }
            2 => {
                words.push(word("MGET"));
                words.extend(keys);
            }
            3 => {
                words.push(word("DEL"));
                words.extend(keys);
            }
            4 => {
                words.push(word("EXISTS"));
                words.extend(keys);
            }
            5 => {
                let (from, to) = self.any_way();
                words.extend([word("RENAME"), from.into_bytes(), to.into_bytes()]);
            }
            6 => {
                let (from, to) = self.any_way();
                words.extend([word("COPY"), from.into_bytes(), to.into_bytes(), word("REPLACE")]);
            }
            7 => {
                words.push(word("UNLINK"));
                words.extend(keys);
            }
            _ => {
                words.push(word("MSETNX"));
                for key in keys {
                    words.push(key);
                    words.push(self.value());
                }
            }
        }
        self.say(&words, Judge::Compared);
    }

    fn expiry(&mut self) {
        let key = self.key("s");
        let other = self.any_key();
        let ms = self.random.u64_in(1..80).to_string();
        match self.random.below(8) {
            0 | 1 => self.say(&["SET", &key, "v", "PX", &ms], Judge::Compared),
            2 => self.say(&["PEXPIRE", &other, &ms], Judge::Compared),
            3 => self.say(&["PTTL", &other], Judge::Compared),
            4 => self.say(&["GET", &key], Judge::Compared),
            5 => self.say(&["PERSIST", &other], Judge::Compared),
            6 => self.say(&["GETEX", &key, "PX", &ms], Judge::Compared),
            _ => self.say(&["TYPE", &other], Judge::Compared),
        }
    }

    fn field_expiry(&mut self) {
        let key = self.key("h");
        let field = self.pick(&["a", "b", "c"]);
        let ms = self.random.u64_in(1..80).to_string();
        match self.random.below(4) {
            0 => self.say(&["HPEXPIRE", &key, &ms, "FIELDS", "1", field], Judge::Compared),
            1 => self.say(&["HPTTL", &key, "FIELDS", "1", field], Judge::Compared),
            2 => self.say(&["HLEN", &key], Judge::Any),
            _ => self.say(&["HGETALL", &key], Judge::Unordered),
        }
    }

    /// What finds keys as it runs.
    fn reaching(&mut self) {
        let (list, target) = (self.key("r"), self.key("l"));
        match self.random.below(7) {
            0..2 => {
                let (one, other) = (self.tag(), self.tag());
                self.say(&["RPUSH", &list, &one, &other], Judge::Compared);
            }
            2 => self.say(
                &["SORT", &list, "BY", "n{*}0", "GET", "s{*}0", "GET", "#"],
                Judge::Compared,
            ),
            3 => self.say(&["SORT", &list, "ALPHA", "STORE", &target], Judge::Compared),
            4 => self.say(
                &["SORT", &list, "BY", "n{*}1", "ALPHA", "STORE", &target],
                Judge::Compared,
            ),
            5 => self.say(&["SORT_RO", &list, "BY", "nosort", "GET", "s{*}1"], Judge::Compared),
            _ => self.all_keys(),
        }
    }
}
