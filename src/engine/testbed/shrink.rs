//! Making a failing story smaller, so that what is left is what the failure needs.
//!
//! Clients, then requests (in pieces that halve), then whatever makes the run special are left out, one after another, and each
//! time the story must still fail in the same way. As every change gives another course of events, each smaller story is tried with
//! several of them.

use super::judge::Failure;
use super::run::Manner;
use super::story::{ClientStory, End, PINNED, Story};
use std::time::{Duration, Instant};

/// Courses of events that each smaller story is tried with.
const COURSES: u64 = 12;

/// A smaller story that fails in the same way, as far as was found in this time.
pub(super) fn shrink(
    story: Story,
    failure: Failure,
    time: Duration,
    run: &dyn Fn(&Story, Manner) -> Option<Failure>,
    fault: super::Fault,
) -> (Story, Failure) {
    let mut shrinker = Shrinker {
        story,
        act: 0,
        failure,
        deadline: Instant::now() + time,
        run,
        manner: Manner { fault, is_told: false },
    };
    loop {
        let before = shrinker.size();
        shrinker.leave_out_acts();
        for act in 0..shrinker.story.act_count() {
            shrinker.act = act;
            shrinker.leave_out_clients();
            shrinker.leave_out_requests();
            shrinker.make_plain();
            shrinker.shorten_words();
        }
        if shrinker.size() == before || shrinker.is_over() {
            return (shrinker.story, shrinker.failure);
        }
    }
}

struct Shrinker<'a> {
    story: Story,
    /// The process in whose life it looks for what can be left out.
    act: usize,
    failure: Failure,
    deadline: Instant,
    run: &'a dyn Fn(&Story, Manner) -> Option<Failure>,
    manner: Manner,
}

impl Shrinker<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn size(&self) -> (usize, usize) {
        let acts = std::iter::successors(Some(&self.story), |act| act.after.as_ref().map(|(_, next)| &**next));
        let clients = acts.flat_map(|act| &act.clients);
        clients.fold((self.story.act_count(), 0), |(size, requests), client| {
            (size + 1, requests + client.program.len())
        })
    }

    /// Keeps a smaller story if it fails in the same way.
    fn attempt(&mut self, mut smaller: Story) -> bool {
        let first = smaller.schedule_seed;
        for course in 0..COURSES {
            if self.is_over() {
                return false;
            }
            smaller.schedule_seed = first ^ course.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if let Some(failure) = (self.run)(&smaller, self.manner)
                && failure.kind == self.failure.kind
            {
                self.story = smaller;
                self.failure = failure;
                return true;
            }
        }
        false
    }

    /// The last processes first, then those in between.
    fn leave_out_acts(&mut self) {
        for act in (0..self.story.act_count()).rev() {
            let mut smaller = self.story.clone();
            let shortened = smaller.act(act);
            let Some((_, next)) = shortened.after.take() else {
                continue;
            };
            if self.attempt(smaller.clone()) {
                continue;
            }
            if let Some(after) = next.after {
                smaller.act(act).after = Some(after);
                self.attempt(smaller);
            }
        }
    }

    fn leave_out_clients(&mut self) {
        let mut index = 0;
        while index < self.here().clients.len() && self.here().clients.len() > 1 {
            let mut smaller = self.story.clone();
            smaller.act(self.act).clients.remove(index);
            if !self.attempt(smaller) {
                index += 1;
            }
        }
    }

    fn here(&mut self) -> &mut Story {
        self.story.act(self.act)
    }

    fn leave_out_requests(&mut self) {
        for client in 0..self.here().clients.len() {
            let mut piece = self.here().clients[client].program.len() / 2;
            while piece > 0 {
                let mut from = 0;
                while from < self.here().clients[client].program.len() {
                    let mut smaller = self.story.clone();
                    let shortened = &mut smaller.act(self.act).clients[client];
                    let until = leave_out(shortened, from, piece);
                    if shortened.program.len() == self.here().clients[client].program.len() {
                        from = until;
                    } else if !self.attempt(smaller) {
                        from = until.max(from + 1);
                    }
                    if self.is_over() {
                        return;
                    }
                }
                piece /= 2;
            }
        }
    }

    /// Takes away what makes the run special.
    fn make_plain(&mut self) {
        self.try_with(|story| story.schedule.skews_ms.iter_mut().for_each(|skew| *skew = 0));
        self.try_with(|story| story.schedule.set_backs_ms.clear());
        self.try_with(|story| story.schedule.slow_every = 0);
        self.try_with(|story| story.schedule.step_ns = 20);
        self.try_with(|story| story.schedule.shard_weights.iter_mut().for_each(|weight| *weight = 40));
        self.try_with(|story| story.features = story.features.without("leaps"));
        self.try_with(|story| story.ring_bytes = 1 << 16);
        for parameter in (0..self.here().parameters.len()).rev() {
            self.try_with(|story| {
                story.parameters.remove(parameter);
            });
        }
        for client in 0..self.here().clients.len() {
            self.try_with(|story| story.clients[client].end = End::Done);
            self.try_with(|story| story.clients[client].accepted_by = story.clients[client].shard);
            self.try_with(|story| story.clients[client].cut_bytes = 1 << 16);
            self.try_with(|story| story.clients[client].socket_bytes = 1 << 18);
            self.try_with(|story| story.clients[client].depth = 1);
            self.try_with(|story| {
                for request in &mut story.clients[client].program {
                    request.is_inline = false;
                }
            });
        }
    }

    fn try_with(&mut self, change: impl FnOnce(&mut Story)) {
        let mut plainer = self.story.clone();
        change(plainer.act(self.act));
        self.attempt(plainer);
    }

    fn shorten_words(&mut self) {
        for client in 0..self.here().clients.len() {
            for index in 0..self.here().clients[client].program.len() {
                let words = self.here().clients[client].program[index].words.len();
                for word in 0..words {
                    let length = self.here().clients[client].program[index].words[word].len();
                    if length > 64 {
                        self.try_with(|story| {
                            story.clients[client].program[index].words[word].truncate(16);
                        });
                    }
                    if self.is_over() {
                        return;
                    }
                }
            }
        }
    }
}

/// Leaves out so many requests, with those that belong to them. Answers where to go on if that was too much.
fn leave_out(client: &mut ClientStory, from: usize, piece: usize) -> usize {
    let until = (from + piece).min(client.program.len());
    let groups: Vec<u32> = client.program[from..until]
        .iter()
        .map(|request| request.group)
        .filter(|group| ![0, PINNED].contains(group))
        .collect();
    let mut index = 0;
    client.program.retain(|request| {
        let goes = (from..until).contains(&index) && request.group == 0 || groups.contains(&request.group);
        index += 1;
        !goes
    });
    until
}
