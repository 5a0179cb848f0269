//! What a run is about, drawn from its seed before anything runs: which features it has, how many shards and clients, what
//! each client sends, and how it ends.
//!
//! A story is plain data. So it can be told, and a failing one can be made smaller: requests and clients are left out, and what
//! is left is run again. Only the order of the steps is drawn as the run goes ([`Story::schedule_seed`]).
//!
//! Each run has some of the features and lacks others (*swarm testing*, Groce and others, 2012): a run that has all of them hides
//! what only a few of them bring out.

use crate::base::random::Random;
use crate::base::slot::{SLOT_COUNT, key_slot};
use crate::pubsub::Kind;
use crate::resp::{OwnedArgs, Proto};
use std::sync::LazyLock;

/// What a run has. The names of the workload's own features are among them.
#[derive(Clone, Debug, Default)]
pub struct Features(Vec<&'static str>);

/// The testbed's features.
pub const FEATURES: &[&str] = &[
    "skew",
    "slow-shard",
    "held-up",
    "slow-work",
    "leaps",
    "tiny-rings",
    "tiny-sockets",
    "lazy-readers",
    "byte-cuts",
    "half-close",
    "reset",
    "deep-pipelines",
    "inline",
    "every-slot",
    "late-connects",
    "one-slot-each",
    "set-back",
    "handed-over",
    "logged",
];

/// Features that came later. They are drawn by themselves, so that a seed is about what it has always been about. (The workload knows
/// `huge` ones as well: values that are frozen while a snapshot runs, and copied in steps. They are not drawn: once in some thousand runs
/// their replies are so long, and the sockets so small, that a story does not come to its end.)
const LATER_FEATURES: &[&str] = &[
    "listening",
    "torn-passes",
    "slow-disk",
    "snapshots",
    "failing-disk",
    "restarts",
    "rdb-layout",
];

/// And later still.
const LATEST_FEATURES: &[&str] = &["always", "file"];

/// What is drawn last. (The workload knows `policies` as well: `appendfsync` changes while the process runs. They are not drawn yet: what
/// the judge takes for sure of such a change has not been run for long.)
const LAST_FEATURES: &[&str] = &["waiting", "subscribing"];

impl Features {
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    /// Those that are there, in the order of their declaration.
    pub fn names(&self) -> &[&'static str] {
        &self.0
    }

    fn draw(random: &mut Random, all: &[&'static str], without: &[String]) -> Features {
        // Some runs have few, some have most.
        let chance = random.u64_in(1..=7);
        let drawn = all.iter().copied().filter(|name| {
            let rare = if *name == "every-slot" { 4 } else { 1 };
            random.chance(chance, 8 * rare) && !without.iter().any(|other| other == name)
        });
        Features(drawn.collect())
    }

    pub(super) fn without(&self, name: &str) -> Features {
        Features(self.0.iter().copied().filter(|other| *other != name).collect())
    }
}

/// What the testbed has drawn when the workload is asked for its part.
pub struct Plan<'a> {
    pub features: &'a Features,
    pub shard_count: usize,
    /// All slots that there are: the hash slot of every key must be below.
    pub slot_count: u16,
    pub ring_bytes: usize,
    /// Hash tags that lead to slots, some of them of the same shard.
    pub tags: Vec<&'static str>,
    /// The addresses of the clients, by their numbers.
    pub addresses: Vec<String>,
}

/// Where the commands come from.
pub trait Workload {
    /// The names of what a run may have or lack.
    fn features(&self) -> &'static [&'static str];
    /// The parameters of the configuration, each a name and a value.
    fn parameters(&self, plan: &Plan<'_>, random: &mut Random) -> Vec<(String, String)>;
    /// What a client sends. Its first request finds a fresh connection.
    fn program(&self, plan: &Plan<'_>, client: usize, random: &mut Random) -> Vec<Request>;
    /// Whether time alone may change what is stored: when somebody finds that a key is over is nobody's promise.
    fn keys_expire(&self, features: &Features) -> bool;
    /// What is asked for when all clients are done: what the data has become, which is compared; at last, all of it is
    /// removed.
    fn closing(&self, plan: &Plan<'_>) -> Vec<Request>;
}

/// One request, and what is expected of its reply.
#[derive(Clone, Debug)]
pub struct Request {
    pub words: Vec<Vec<u8>>,
    /// Sent as a line of words.
    pub is_inline: bool,
    /// What the connection speaks when it is run.
    pub proto: Proto,
    pub judge: Judge,
    /// It gets a reply.
    pub is_answered: bool,
    pub meaning: Meaning,
    /// What it waits for, if there is nothing for it.
    pub waits: Option<Box<Wish>>,
    /// What it begins or ends to listen to.
    pub listens: Option<Listening>,
    /// Requests of the same number are left out together when a story is made smaller; 0 is a request by itself.
    pub group: u32,
}

/// The group of requests that are never left out: what comes behind is another thing without them.
pub const PINNED: u32 = u32::MAX;

/// Stands for the id of a client that has not come yet.
pub const NO_ID: &str = "999";

/// The words of a request.
pub type Words = Vec<Vec<u8>>;

/// What answers the questions of who only looks.
pub type Ask<'a> = dyn FnMut(&[&[u8]]) -> Vec<u8> + 'a;

/// What a request waits for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The keys, from any of which it can be served.
    pub keys: Vec<Vec<u8>>,
    /// For each of them, the same request of that one alone; none, if it may be served from several at once.
    pub alone: Vec<Words>,
    /// For how long it waits; 0: for ever.
    pub for_ms: u64,
    /// Its words as it waits, where some of them say something of the moment.
    pub settled: fn(&Words, &mut Ask<'_>) -> Words,
    /// Whether somebody who waits with these words could be served from this key, as it is.
    pub is_served_by: fn(&Words, &[u8], &mut Ask<'_>) -> bool,
}

/// A request that begins subscriptions, or ends them, each of which is confirmed.
#[derive(Clone, Debug)]
pub struct Listening {
    pub kind: Kind,
    pub begins: bool,
    pub names: Vec<Vec<u8>>,
}

/// How a reply is judged.
#[derive(Clone, Copy, Debug)]
pub enum Judge {
    /// It is what the reference answers.
    Compared,
    /// It has the elements of what the reference answers, in any order.
    Unordered,
    /// It is this.
    Exactly(&'static [u8]),
    /// This holds for it.
    Holds(fn(&[u8]) -> bool),
    /// It is there.
    Any,
}

/// What a request does that the checks must know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Plain,
    /// Clients are held back for so long.
    Pauses {
        for_ms: u64,
        writes_only: bool,
    },
    Unpauses,
    /// This client is ended by it.
    Kills(usize),
    /// The client is not ended for what all of them take.
    Exempts,
    /// From then on replies leave when what they show is on disk, or no more.
    Promises {
        always: bool,
    },
    /// The wait of the client of that number is ended by it. Among its words, [`NO_ID`] stands for the id.
    Unblocks {
        number: usize,
        with_error: bool,
    },
}

impl Request {
    pub fn new<W: AsRef<[u8]>>(words: &[W], judge: Judge) -> Request {
        Request {
            words: words.iter().map(|word| word.as_ref().to_vec()).collect(),
            is_inline: false,
            proto: Proto::Resp2,
            judge,
            is_answered: true,
            meaning: Meaning::Plain,
            waits: None,
            listens: None,
            group: 0,
        }
    }

    /// As it goes over the wire.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if !self.is_inline {
            return OwnedArgs::from_slices(&self.words).as_args().encode_resp(out);
        }
        for (index, word) in self.words.iter().enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(word);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether a line of words can say it.
    pub(super) fn can_be_inline(&self) -> bool {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
        let starts_plain = !matches!(self.words[0].first(), Some(b'*' | b'$'));
        starts_plain
            && self
                .words
                .iter()
                .all(|word| !word.is_empty() && word.len() < 100 && word.iter().all(is_plain))
    }

    /// For people.
    pub fn text(&self) -> String {
        let words = self.words.iter().map(|word| shortened(word));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Bytes for people: what is long is cut.
pub(super) fn shortened(bytes: &[u8]) -> String {
    const SHOWN_BYTES: usize = 48;
    if bytes.len() <= SHOWN_BYTES {
        return bytes.escape_ascii().to_string();
    }
    format!("{}...({} bytes)", bytes[..16].escape_ascii(), bytes.len())
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// When it has all its replies.
    Done,
    /// It closes its sending side after so many thousandths of its bytes, and reads on.
    HalfCloses(u32),
    /// Its connection breaks after so many thousandths of its bytes.
    Resets(u32),
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientStory {
    /// Its number in the whole story, which stays when others are left out.
    pub number: usize,
    pub shard: usize,
    /// The shard that accepts its connection, and hands it over if it is not its own.
    pub accepted_by: usize,
    /// Requests that it has under way at most.
    pub depth: usize,
    /// How many bytes arrive at once, at most.
    pub cut_bytes: usize,
    /// What fits between the server's writing and its reading.
    pub socket_bytes: usize,
    /// How eager it is to read, to write, and to come.
    pub read_weight: u32,
    pub send_weight: u32,
    pub connect_weight: u32,
    pub program: Vec<Request>,
    pub end: End,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Story {
    pub seed: u64,
    pub features: Features,
    pub shard_count: usize,
    pub slot_count: u16,
    pub ring_bytes: usize,
    pub parameters: Vec<(String, String)>,
    pub clients: Vec<ClientStory>,
    pub closing: Vec<Request>,
    pub schedule_seed: u64,
    pub schedule: Schedule,
    /// As [`Workload::keys_expire`] says.
    pub keys_expire: bool,
    /// How the process dies, and what happens when there is another one.
    pub after: Option<(Death, Box<Story>)>,
}

/// The end of a process that another one follows, which has what is on the disk.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// When, at the latest: when all clients are done.
    pub after_steps: usize,
    /// The machine crashes; otherwise it goes on, and what was written is there.
    pub is_crash: bool,
    /// How long there is none.
    pub gap_ms: u64,
}

/// By what the steps are drawn.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// How eager each shard is to run.
    pub shard_weights: Vec<u32>,
    /// How far each shard's calendar is from the common one.
    pub skews_ms: Vec<i64>,
    /// How far the host's clock is set back, each time.
    pub set_backs_ms: Vec<u64>,
    /// What each reading of a clock takes.
    pub step_ns: u64,
    /// One pass in so many is slow; 0: none.
    pub slow_every: u64,
    pub time_weight: u32,
    pub task_weight: u32,
}

/// The address that a client comes from.
pub(super) fn address_of(number: usize) -> String {
    format!("127.0.0.1:{}", 20_000 + number)
}

impl Story {
    /// The story of a seed.
    pub fn draw(seed: u64, workload: &dyn Workload, without: &[String]) -> Story {
        let mut random = Random::with_seed(seed);
        let all: Vec<&'static str> = FEATURES.iter().chain(workload.features()).copied().collect();
        let features = Features::draw(&mut random, &all, without);
        let later = Features::draw(&mut Random::with_seed(!seed), LATER_FEATURES, without);
        let latest = Features::draw(&mut Random::with_seed(seed.rotate_left(32)), LATEST_FEATURES, without);
        let last = Features::draw(&mut Random::with_seed(!seed.rotate_left(16)), LAST_FEATURES, without);
        let features = Features([features.0, later.0, latest.0, last.0].concat());
        let has = |name: &str| features.has(name);
        let shard_count = [1, 2, 2, 3, 3, 4, 5][random.below(7)];
        let slot_count = match has("every-slot") {
            true => SLOT_COUNT as u16,
            false => 8 << random.below(5),
        };
        let ring_bytes = match has("tiny-rings") {
            true => random.usize_in(160..800),
            false => 1 << random.usize_in(10..17),
        };
        let client_count = random.usize_in(1..=7);
        let tag_count = random.usize_in(2..=8);
        let plan = Plan {
            features: &features,
            shard_count,
            slot_count,
            ring_bytes,
            tags: (0..tag_count)
                .map(|_| &*TAGS[random.below(slot_count as usize)])
                .collect(),
            addresses: (0..client_count).map(address_of).collect(),
        };
        let mut parameters = workload.parameters(&plan, &mut random);
        if has("listening") {
            parameters.push(("notify-keyspace-events".to_owned(), "KEAmn".to_owned()));
        }
        let mut story = draw_act(seed, &plan, parameters, workload, &mut random);
        if has("restarts") {
            // Of their own, as what came later.
            let mut random = Random::with_seed(seed.rotate_left(32));
            for _ in 0..random.usize_in(1..4) {
                let client_count = random.usize_in(1..=5);
                let plan = Plan {
                    features: &features,
                    shard_count: [1, 2, 4][random.below(3)],
                    slot_count,
                    ring_bytes,
                    tags: plan.tags.clone(),
                    addresses: (0..client_count).map(address_of).collect(),
                };
                let shift = random.u64_in(4..13);
                let death = Death {
                    after_steps: 1 + random.below(1 << shift),
                    is_crash: random.chance(1, 2),
                    gap_ms: [0, 1, 30, 100_000][random.below(4)],
                };
                let act = draw_act(seed, &plan, story.parameters.clone(), workload, &mut random);
                story.last_act().after = Some((death, Box::new(act)));
            }
        }
        story
    }

    fn last_act(&mut self) -> &mut Story {
        let count = self.act_count();
        self.act(count - 1)
    }

    /// How many processes there are, one after the other.
    pub(super) fn act_count(&self) -> usize {
        std::iter::successors(Some(self), |act| act.next()).count()
    }

    fn next(&self) -> Option<&Story> {
        self.after.as_ref().map(|(_, next)| &**next)
    }

    /// What happens with the process of that number.
    pub(super) fn act(&mut self, number: usize) -> &mut Story {
        let mut act = self;
        for _ in 0..number {
            let (_, next) = act.after.as_mut().expect("there are so many acts");
            act = next;
        }
        act
    }

    /// Whether somebody listens on that shard, if there is anybody who does.
    pub(super) fn listens(&self, shard: usize) -> bool {
        shard == 0 || self.seed >> shard & 1 == 1
    }

    /// The story for people, one line for each thing.
    pub fn tell(&self) -> String {
        let mut text = format!(
            "{} shards, {} slots, rings of {} bytes, features: {}\n",
            self.shard_count,
            self.slot_count,
            self.ring_bytes,
            self.features.names().join(" ")
        );
        for (name, value) in &self.parameters {
            text += &format!("{name} {value}\n");
        }
        for client in &self.clients {
            text += &format!(
                "client {} on shard {}, pipeline {}, ends: {:?}\n",
                client.number, client.shard, client.depth, client.end
            );
            for (index, request) in client.program.iter().enumerate() {
                let silent = if request.is_answered { "" } else { " (no reply)" };
                text += &format!("  {index}: {}{silent}\n", request.text());
            }
        }
        if let Some((death, next)) = &self.after {
            text += &format!("then: {death:?}\n{}", next.tell());
        }
        text
    }
}

/// What happens with one process.
fn draw_act(
    seed: u64,
    plan: &Plan<'_>,
    parameters: Vec<(String, String)>,
    workload: &dyn Workload,
    random: &mut Random,
) -> Story {
    let clients = (0..plan.addresses.len())
        .map(|number| draw_client(plan, number, workload, random))
        .collect();
    let closing = workload.closing(plan);
    let schedule = draw_schedule(plan, random);
    Story {
        seed,
        shard_count: plan.shard_count,
        slot_count: plan.slot_count,
        ring_bytes: plan.ring_bytes,
        parameters,
        clients,
        closing,
        schedule_seed: random.next_u64(),
        schedule,
        features: plan.features.clone(),
        keys_expire: workload.keys_expire(plan.features),
        after: None,
    }
}

fn draw_client(plan: &Plan<'_>, number: usize, workload: &dyn Workload, random: &mut Random) -> ClientStory {
    let has = |name: &str| plan.features.has(name);
    let mut program = workload.program(plan, number, random);
    if has("inline") {
        for request in &mut program {
            request.is_inline = request.can_be_inline() && random.chance(1, 3);
        }
    }
    let depth = match (has("deep-pipelines"), random.below(4)) {
        (true, 0 | 1) => usize::MAX,
        (_, 0) => 1,
        (_, 1 | 2) => random.usize_in(2..6),
        _ => 32,
    };
    let end = match random.below(3) {
        0 if has("half-close") => End::HalfCloses(random.below(1001) as u32),
        1 if has("reset") => End::Resets(random.below(1001) as u32),
        _ => End::Done,
    };
    let shard = random.below(plan.shard_count);
    ClientStory {
        number,
        shard,
        accepted_by: match has("handed-over") {
            true => random.below(plan.shard_count),
            false => shard,
        },
        depth,
        cut_bytes: match has("byte-cuts") && random.chance(1, 2) {
            true => random.usize_in(1..40),
            false => 1 << random.usize_in(8..17),
        },
        socket_bytes: match has("tiny-sockets") {
            true => 1 << random.usize_in(2..12),
            false => 1 << random.usize_in(10..19),
        },
        read_weight: if has("lazy-readers") && random.chance(1, 2) {
            1
        } else {
            20
        },
        send_weight: [2, 10, 30][random.below(3)],
        connect_weight: if has("late-connects") && random.chance(1, 2) {
            1
        } else {
            100
        },
        program,
        end,
    }
}

fn draw_schedule(plan: &Plan<'_>, random: &mut Random) -> Schedule {
    let has = |name: &str| plan.features.has(name);
    let slow = random.below(plan.shard_count);
    Schedule {
        shard_weights: (0..plan.shard_count)
            .map(|shard| if has("slow-shard") && shard == slow { 1 } else { 40 })
            .collect(),
        skews_ms: (0..plan.shard_count)
            .map(|_| {
                if has("skew") {
                    random.u64_in(0..=10) as i64 - 5
                } else {
                    0
                }
            })
            .collect(),
        set_backs_ms: match has("set-back") {
            true => (0..random.usize_in(1..4))
                .map(|_| [2, 15, 200, 3_600_000][random.below(4)])
                .collect(),
            false => Vec::new(),
        },
        step_ns: [20, 200, 2_000, 30_000][random.below(4)],
        slow_every: if has("slow-work") { random.u64_in(2..30) } else { 0 },
        time_weight: [1, 3, 10][random.below(3)],
        task_weight: [1, 10, 40][random.below(3)],
    }
}

/// For each slot, a short tag that leads to it.
static TAGS: LazyLock<Vec<Box<str>>> = LazyLock::new(|| {
    let mut tags: Vec<Option<Box<str>>> = vec![None; SLOT_COUNT];
    let mut missing = SLOT_COUNT;
    for number in 0u32.. {
        let tag = format!("{number:x}");
        let place = &mut tags[usize::from(key_slot(tag.as_bytes()))];
        if place.is_none() {
            *place = Some(tag.into());
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into_iter().flatten().collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_a_tag() {
        assert_eq!(TAGS.len(), SLOT_COUNT);
        for (slot, tag) in TAGS.iter().enumerate() {
            assert_eq!(usize::from(key_slot(tag.as_bytes())), slot);
        }
    }

    #[test]
    fn requests_are_encoded_as_lines_where_they_can() {
        let mut request = Request::new(&["GET", "{a}k"], Judge::Any);
        let mut out = Vec::new();
        request.encode(&mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$4\r\n{a}k\r\n");
        assert!(request.can_be_inline());
        request.is_inline = true;
        out.clear();
        request.encode(&mut out);
        assert_eq!(out, b"GET {a}k\r\n");
        assert!(!Request::new(&["SET", "k", "a b"], Judge::Any).can_be_inline());
        assert!(!Request::new(&["SET", "k", ""], Judge::Any).can_be_inline());
    }
}
