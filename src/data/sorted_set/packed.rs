//! A small sorted set: Redis's listpack of member, score, member, score..., in order of score and then member.
//!
//! The bytes are what DUMP and RDB files hold, so they must be what Redis would have written. A whole score is stored as an
//! integer (the listpack does that with any canonical integer text); this loses the sign of -0, in Redis too. Any other score is
//! its shortest text that reads back.
//!
//! Everything here walks from the front, as the value has at most `zset-max-listpack-entries` elements (128 by default).

use std::cmp::Ordering;
use std::ops::Range;

use super::range::{LexRange, ScoreRange};
use crate::base::numbers::{F64Text, format_f64, parse_f64};
use crate::data::listpack::{Item, Listpack, Place};

/// A member with its score, and where both are.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) place: Place,
    pub(super) member: Item<'a>,
    pub(super) score: f64,
}

/// The pair whose member is at `place`.
pub(super) fn pair_at(pack: &Listpack, place: Place) -> Pair<'_> {
    let score_place = pack.next(place).expect("each member is followed by its score");
    Pair {
        place,
        member: pack.get(place),
        score: score_of(pack.get(score_place)).expect("scores were checked when the listpack was taken in"),
    }
}

/// All pairs from this member on.
pub(super) fn pairs_from(pack: &Listpack, start: Option<Place>) -> impl Iterator<Item = Pair<'_>> {
    let mut at = start;
    std::iter::from_fn(move || {
        let pair = pair_at(pack, at?);
        at = next_member(pack, pair.place);
        Some(pair)
    })
}

pub(super) fn pairs(pack: &Listpack) -> impl Iterator<Item = Pair<'_>> {
    pairs_from(pack, pack.first())
}

pub(super) fn next_member(pack: &Listpack, place: Place) -> Option<Place> {
    pack.next(pack.next(place)?)
}

pub(super) fn previous_member(pack: &Listpack, place: Place) -> Option<Place> {
    pack.previous(pack.previous(place)?)
}

/// Where the member of this rank is.
pub(super) fn member_at(pack: &Listpack, rank: usize) -> Option<Place> {
    let index = i64::try_from(rank).ok()?.checked_mul(2)?;
    pack.seek(index)
}

pub(super) fn find<'a>(pack: &'a Listpack, member: &[u8]) -> Option<Pair<'a>> {
    let place = pack.find(pack.first()?, member, 1)?;
    Some(pair_at(pack, place))
}

/// The rank of a member, and its score.
pub(super) fn rank(pack: &Listpack, member: &[u8]) -> Option<(usize, f64)> {
    let found = find(pack, member)?;
    let mut rank = 0;
    let mut at = pack.first();
    while let Some(place) = at
        && place != found.place
    {
        rank += 1;
        at = next_member(pack, place);
    }
    Some((rank, found.score))
}

/// Puts in a member that is not there yet.
pub(super) fn insert(pack: &mut Listpack, member: &[u8], score: f64) {
    let text = score_text(score);
    // Often scores ascend, and the end is the place.
    let comes_last = last_pair(pack).is_none_or(|last| compare(&last, score, member) == Ordering::Less);
    let successor = if comes_last {
        None
    } else {
        pairs(pack)
            .find(|pair| compare(pair, score, member) == Ordering::Greater)
            .map(|pair| pair.place)
    };
    match successor {
        Some(place) => {
            let place = pack.insert_before(place, &text);
            pack.insert_before(place, member);
        }
        None => {
            pack.push_back(member);
            pack.push_back(&text);
        }
    }
}

/// Gives a member that is at `place` another score, and moves it where it then belongs.
pub(super) fn rescore(pack: &mut Listpack, place: Place, member: &[u8], score: f64) {
    let stays_after = previous_member(pack, place)
        .is_none_or(|place| compare(&pair_at(pack, place), score, member) == Ordering::Less);
    let stays_before =
        next_member(pack, place).is_none_or(|place| compare(&pair_at(pack, place), score, member) == Ordering::Greater);
    if stays_after && stays_before {
        let score_place = pack.next(place).expect("each member is followed by its score");
        pack.replace(score_place, &score_text(score));
    } else {
        pack.delete_range(place, 2);
        insert(pack, member, score);
    }
}

pub(super) fn remove(pack: &mut Listpack, place: Place) {
    pack.delete_range(place, 2);
}

pub(super) fn remove_ranks(pack: &mut Listpack, ranks: Range<usize>) {
    if let Some(place) = member_at(pack, ranks.start)
        && !ranks.is_empty()
    {
        pack.delete_range(place, ranks.len() * 2);
    }
}

pub(super) fn ranks_by_score(pack: &Listpack, range: &ScoreRange) -> Range<usize> {
    ranks_between(
        pack,
        |pair| range.is_below(pair.score),
        |pair| range.is_above(pair.score),
    )
}

/// With unequal scores, where members are in no order, what a range by member finds depends on the end where reading
/// begins; so it does in Redis, and in the same way.
pub(super) fn ranks_by_lex(pack: &Listpack, range: &LexRange<'_>, is_reversed: bool) -> Range<usize> {
    let is_below = |pair: &Pair<'_>| range.is_below(pair.member.as_bytes(&mut itoa::Buffer::new()));
    let is_above = |pair: &Pair<'_>| range.is_above(pair.member.as_bytes(&mut itoa::Buffer::new()));
    // Redis looks at the outermost members first, whatever lies between them.
    let outermost = pairs(pack).next().zip(last_pair(pack));
    if outermost.is_none_or(|(first, last)| is_above(&first) || is_below(&last)) {
        return 0..0;
    }
    if !is_reversed {
        return ranks_between(pack, is_below, is_above);
    }
    let (mut start, mut end) = (0, 0);
    for (rank, pair) in pairs(pack).enumerate() {
        if !is_above(&pair) {
            end = rank + 1;
        }
    }
    for (rank, pair) in pairs(pack).take(end).enumerate() {
        if is_below(&pair) {
            start = rank + 1;
        }
    }
    start..end
}

/// From the first pair that is not below, to the first one after it that is above.
fn ranks_between(
    pack: &Listpack,
    is_below: impl Fn(&Pair<'_>) -> bool,
    is_above: impl Fn(&Pair<'_>) -> bool,
) -> Range<usize> {
    let mut pairs = pairs(pack).enumerate();
    let Some((start, first)) = pairs.by_ref().find(|(_, pair)| !is_below(pair)) else {
        return 0..0;
    };
    if is_above(&first) {
        return start..start;
    }
    let count = 1 + pairs.take_while(|(_, pair)| !is_above(pair)).count();
    start..start + count
}

/// Whether a foreign listpack is a sorted set: pairs, readable scores, strict order, no member twice.
pub(super) fn is_sorted_set(pack: &Listpack) -> bool {
    if !pack.len().is_multiple_of(2) {
        return false;
    }
    let mut members = hashbrown::HashSet::new();
    let mut last: Option<(f64, Vec<u8>)> = None;
    let mut at = pack.first();
    while let Some(place) = at {
        let Some(score) = pack.next(place).and_then(|place| score_of(pack.get(place))) else {
            return false;
        };
        let member = pack.get(place).as_bytes(&mut itoa::Buffer::new()).to_vec();
        if let Some((last_score, last_member)) = &last
            && order(*last_score, last_member, score, &member) != Ordering::Less
        {
            return false;
        }
        if !members.insert(member.clone()) {
            return false;
        }
        last = Some((score, member));
        at = next_member(pack, place);
    }
    true
}

/// The text of a score as it is stored.
pub(super) fn score_text(score: f64) -> F64Text {
    format_f64(if score == 0.0 { 0.0 } else { score })
}

fn score_of(item: Item<'_>) -> Option<f64> {
    match item {
        Item::Int(score) => Some(score as f64),
        Item::Bytes(text) => parse_f64(text),
    }
}

fn last_pair(pack: &Listpack) -> Option<Pair<'_>> {
    let score_place = pack.last()?;
    Some(pair_at(pack, pack.previous(score_place)?))
}

fn compare(pair: &Pair<'_>, score: f64, member: &[u8]) -> Ordering {
    order(
        pair.score,
        pair.member.as_bytes(&mut itoa::Buffer::new()),
        score,
        member,
    )
}

/// The order of a sorted set. Scores are never NaN.
pub(super) fn order(score: f64, member: &[u8], other_score: f64, other_member: &[u8]) -> Ordering {
    score
        .partial_cmp(&other_score)
        .unwrap_or(Ordering::Equal)
        .then_with(|| member.cmp(other_member))
}
