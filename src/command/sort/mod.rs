//! SORT and SORT_RO: the elements of a list, set or sorted set in another order, by themselves or by what other keys hold.
//!
//! ```text
//! read options -> collect elements -> hold all slots -> weigh each -> order -> answer or store
//! ```
//!
//! Elements are copied into one buffer, as they have to be read while other keys are looked up; whatever is sorted are spans of
//! it. Numbers are ordered by value and then by their bytes, so that equal weights have one order everywhere. Texts (`ALPHA`) are
//! ordered by their bytes as `strcoll` does in the C locale, which sees a text up to its first zero byte; with `STORE`
//! all bytes count. Where two texts that elements are weighed by are equal, elements keep the order they came in.
//!
//! # Keys that are found late
//!
//! A pattern becomes a key for each element. So which slots a call needs is known only when its elements have been read:
//! the literals say so ([`Run::Reaching`]), and before anything is answered or stored, all keys of all patterns are walked
//! through once, so that whatever is lacking is asked for at once.

use crate::base::numbers::{as_c_text, parse_f64};
use crate::base::slot::key_slot;
use crate::data::hash::Hash;
use crate::data::list::{End, List};
use crate::data::listpack::Item;
use crate::data::{Encoding, ObjectRef, TypedValue};
use crate::engine::arguments::numbers::integer;
use crate::engine::arguments::{Options, is_word};
use crate::engine::stored::reply_item;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, Reply, ReplyError, error};

use crate::spec::{
    Argument, ArgumentKind, Begin, Categories, Find, Flags, Group, KeyFlags, KeyPosition, KeySpec, arg, command,
};

use crate::store::{Edited, EntryRef, ValueRef};
use std::cmp::Ordering;
use std::ops::Range;

pub const COMMANDS: &[Command] = &[SORT, SORT_RO];
const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const STORED: KeyFlags = KeyFlags::OW.union(KeyFlags::UPDATE);
const COMPLEXITY: &str = "O(N+M*log(M)), N being the number of elements, M the number of those that are answered; O(N) where nothing is sorted.";

const CATEGORIES: Categories = Categories::SET
    .union(Categories::SORTEDSET)
    .union(Categories::LIST)
    .union(Categories::DANGEROUS);

const PATTERN_KEYS: KeySpec = KeySpec {
    flags: READ,
    begin: Begin::Unknown,
    find: Find::Unknown,
    notes: "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort",
};

const STORE_KEY: KeySpec = KeySpec {
    flags: STORED,
    begin: Begin::Unknown,
    find: Find::Unknown,
    notes: "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument array",
};

const KEY: Argument = Argument::key("key", 0);

const BY: Argument = arg("by-pattern", ArgumentKind::Pattern)
    .shown_as("pattern")
    .token("BY")
    .optional();

const LIMIT: Argument = arg(
    "limit",
    ArgumentKind::Block(&[
        arg("offset", ArgumentKind::Integer),
        arg("count", ArgumentKind::Integer),
    ]),
)
.token("LIMIT")
.optional();

const GET: Argument = arg("get-pattern", ArgumentKind::Pattern)
    .shown_as("pattern")
    .token("GET")
    .optional()
    .token_repeated();

const ORDER: Argument = arg(
    "order",
    ArgumentKind::OneOf(&[Argument::word("asc", "ASC"), Argument::word("desc", "DESC")]),
)
.optional();

const ALPHA: Argument = Argument::word("sorting", "ALPHA").optional();

/// The key behind `STORE`, the last one if there are several.
fn stored_key(args: Args) -> Option<KeyPosition> {
    let mut stored = None;
    let mut index = 2;
    while index < args.len() {
        index += match () {
            () if is_word(args, index, b"LIMIT") => 2,
            () if is_word(args, index, b"GET") || is_word(args, index, b"BY") => 1,
            () if is_word(args, index, b"STORE") && index + 1 < args.len() => {
                stored = Some(index + 1);
                1
            }
            () => 0,
        } + 1;
    }
    stored.map(|index| KeyPosition { index, flags: STORED })
}

const SORT: Command = Command {
    summary: "Answers the elements of a list, set or sorted set in order, or stores them as a list.",
    since: "1.0.0",
    group: Group::Generic,
    complexity: COMPLEXITY,
    arity: -2,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    categories: CATEGORIES,
    keys: &[KeySpec::one(1, READ), PATTERN_KEYS, STORE_KEY],
    arguments: &[
        KEY,
        BY,
        LIMIT,
        GET,
        ORDER,
        ALPHA,
        Argument::key("destination", 2).token("STORE").optional(),
    ],
    ..command("sort", Run::Reaching(stored_key, sort))
};

fn sort(op: &mut Op) -> Result<(), ReplyError> {
    run(op, true)
}

const SORT_RO: Command = Command {
    summary: "Answers the elements of a list, set or sorted set in order.",
    since: "7.0.0",
    group: Group::Generic,
    complexity: COMPLEXITY,
    arity: -2,
    flags: Flags::READONLY,
    categories: CATEGORIES,
    keys: &[KeySpec::one(1, READ), PATTERN_KEYS],
    arguments: &[KEY, BY, LIMIT, GET, ORDER, ALPHA],
    ..command("sort_ro", Run::Reaching(|_| None, sort_ro))
};

fn sort_ro(op: &mut Op) -> Result<(), ReplyError> {
    run(op, false)
}

/// A call with its options read.
struct Sorting<'a> {
    weight: Weight<'a>,
    alpha: bool,
    descends: bool,
    offset: i64,
    count: i64,
    /// None: the elements themselves.
    gets: Vec<Pattern<'a>>,
    store: Option<&'a [u8]>,
}

/// What elements are ordered by.
#[derive(Clone, Copy)]
enum Weight<'a> {
    Element,
    /// What the key has that an element makes of a pattern.
    Of(Pattern<'a>),
    /// Nothing: they stay in their order.
    Nothing,
}

impl<'a> Sorting<'a> {
    fn parse(op: &Op<'a, '_>, may_store: bool) -> Result<Sorting<'a>, ReplyError> {
        let is_cluster = op.env.settings.cluster_enabled;
        let mut sorting = Sorting {
            weight: Weight::Element,
            alpha: false,
            descends: false,
            offset: 0,
            count: -1,
            gets: Vec::new(),
            store: None,
        };
        let mut options = Options::behind(op.args, 2);
        while !options.is_empty() {
            if options.flag(b"ASC") {
                sorting.descends = false;
            } else if options.flag(b"DESC") {
                sorting.descends = true;
            } else if options.flag(b"ALPHA") {
                sorting.alpha = true;
            } else if options.flag(b"LIMIT") {
                // Both are there before either is read.
                let (offset, count) = (options.word()?, options.word()?);
                sorting.offset = integer(offset)?;
                sorting.count = integer(count)?;
            } else if may_store && options.flag(b"STORE") {
                sorting.store = Some(options.word()?);
            } else if options.flag(b"BY") {
                let pattern = Pattern::parse(options.word()?);
                sorting.weight = match pattern {
                    Pattern::Key { .. } if is_cluster => return Err(error::SORT_BY_IN_CLUSTER),
                    Pattern::Key { .. } => Weight::Of(pattern),
                    Pattern::Element | Pattern::Nothing => Weight::Nothing,
                };
            } else if options.flag(b"GET") {
                let pattern = Pattern::parse(options.word()?);
                if is_cluster {
                    return Err(error::SORT_GET_IN_CLUSTER);
                }
                sorting.gets.push(pattern);
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(sorting)
    }

    /// The elements that are answered, of so many.
    fn window(&self, len: usize) -> Range<usize> {
        let len = len as i64;
        let start = self.offset.clamp(0, len);
        let count = match self.count {
            ..0 => len,
            count => count.min(len),
        };
        start as usize..(start + count).min(len) as usize
    }

    fn patterns(&self) -> impl Iterator<Item = &Pattern<'a>> {
        let weight = match &self.weight {
            Weight::Of(pattern) => Some(pattern),
            Weight::Element | Weight::Nothing => None,
        };
        weight.into_iter().chain(&self.gets)
    }
}

/// A word of `BY` or `GET`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pattern<'a> {
    /// `#`
    Element,
    /// Without a place for the element: there is no such key.
    Nothing,
    /// The key is the element between two texts; of a hash, the field.
    Key {
        before: &'a [u8],
        behind: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Pattern<'a> {
        if text == b"#" {
            return Pattern::Element;
        }
        let visible = as_c_text(text);
        let Some(star) = memchr::memchr(b'*', visible) else {
            return Pattern::Nothing;
        };
        let arrow = memchr::memmem::find(&visible[star + 1..], b"->").map(|at| star + 1 + at);
        let arrow = arrow.filter(|arrow| arrow + 2 < visible.len());
        Pattern::Key {
            before: &text[..star],
            behind: &text[star + 1..arrow.unwrap_or(text.len())],
            field: arrow.map(|arrow| &text[arrow + 2..]),
        }
    }

    /// Writes the key for an element; false: there is none.
    fn key(&self, element: &[u8], key: &mut Vec<u8>) -> bool {
        let Pattern::Key { before, behind, .. } = self else {
            return false;
        };
        key.clear();
        key.extend_from_slice(before);
        key.extend_from_slice(element);
        key.extend_from_slice(behind);
        true
    }
}

/// The elements, one behind the other.
#[derive(Default)]
struct Elements {
    bytes: Vec<u8>,
    spans: Vec<Range<usize>>,
}

impl Elements {
    fn push(&mut self, item: Item<'_>) {
        let start = self.bytes.len();
        match item {
            Item::Bytes(text) => self.bytes.extend_from_slice(text),
            Item::Int(number) => crate::base::numbers::write_i64(&mut self.bytes, number),
        }
        self.spans.push(start..self.bytes.len());
    }

    fn text(&self, span: &Range<usize>) -> &[u8] {
        &self.bytes[span.clone()]
    }
}

/// The elements under a key, in the order in which they are without being sorted.
fn collect(op: &mut Op, key: &[u8], sorting: &Sorting) -> Result<(Elements, bool), ReplyError> {
    let mut elements = Elements::default();
    let Some(entry) = op.keys.read(key)? else {
        return Ok((elements, false));
    };
    let object = entry.object().ok_or(error::WRONG_TYPE)?;
    elements.spans.reserve(object.len());
    let is_unsorted = matches!(sorting.weight, Weight::Nothing);
    match object {
        ObjectRef::List(list) => list.for_each(|item| elements.push(item)),
        ObjectRef::Set(set) => set.for_each(|item| elements.push(item)),
        ObjectRef::SortedSet(set) => set.iter().for_each(|element| elements.push(element.member)),
        ObjectRef::Hash(_) | ObjectRef::Stream(_) => return Err(error::WRONG_TYPE),
    }
    let is_set = matches!(object, ObjectRef::Set(_));
    let is_packed_sorted_set = matches!(object, ObjectRef::SortedSet(_)) && object.encoding() == Encoding::Listpack;
    if is_packed_sorted_set {
        // Redis sorts only large ones and makes every other one large first, for good, as OBJECT ENCODING and ZSCAN show.
        let seed = op.env.seed;
        op.keys.edit_sorted_set(key, |set| {
            set.make_large(seed);
            Edited::Same(())
        })?;
    }
    // What has an order of its own has it the other way round, too.
    if is_unsorted && sorting.descends && !is_set {
        elements.spans.reverse();
    }
    Ok((elements, is_set))
}

fn run(op: &mut Op, may_store: bool) -> Result<(), ReplyError> {
    let mut sorting = Sorting::parse(op, may_store)?;
    let (elements, is_set) = collect(op, op.args.at(1), &sorting)?;
    // What is stored, or seen by a script, must not depend on how a set happens to lie.
    let must_be_fixed = sorting.store.is_some() || op.caller.is_script;
    if is_set && must_be_fixed && matches!(sorting.weight, Weight::Nothing) {
        sorting.weight = Weight::Element;
        sorting.alpha = true;
    }
    hold_slots(op, &sorting, &elements)?;
    let window = sorting.window(elements.spans.len());
    let order = order(op, &sorting, &elements, &window)?;
    let chosen = order.unwrap_or_else(|| elements.spans[window].to_vec());
    match sorting.store {
        None => answer(op, &sorting, &elements, &chosen),
        Some(target) => store(op, target, &sorting, &elements, &chosen),
    }
}

/// Makes sure that this unit of work holds all the slots that it will need.
fn hold_slots(op: &mut Op, sorting: &Sorting, elements: &Elements) -> Result<(), ReplyError> {
    let mut lacking = sorting.store.map_or(Ok(()), |target| op.keys.slot(target).map(drop));
    // One shard has all slots.
    if op.env.shards > 1 {
        let mut key = Vec::new();
        for pattern in sorting.patterns() {
            for span in &elements.spans {
                if pattern.key(elements.text(span), &mut key) && op.keys.view.peek(key_slot(&key)).is_none() {
                    lacking = op.keys.slot(&key).map(drop);
                }
            }
        }
    }
    match op.keys.attempt.is_lacking() {
        true => lacking,
        false => Ok(()),
    }
}

/// What a pattern leads to for an element, handed to `visit`; None: there is no such key or field, or it holds something else.
fn look_up<R>(
    op: &mut Op,
    pattern: &Pattern,
    element: &[u8],
    key: &mut Vec<u8>,
    visit: impl FnOnce(&mut Reply<'_>, Found<'_>) -> R,
) -> Result<Option<R>, ReplyError> {
    if *pattern == Pattern::Element {
        return Ok(Some(visit(&mut op.reply, Found::Text(element))));
    }
    if !pattern.key(element, key) {
        return Ok(None);
    }
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let Some(entry) = op.keys.read(key)? else {
        return Ok(None);
    };
    let found = match pattern {
        Pattern::Key { field: Some(field), .. } => {
            let value = entry
                .object()
                .and_then(Hash::of)
                .and_then(|hash| hash.get(field, now, seed));
            value.map(Found::Item)
        }
        _ => entry.object().is_none().then_some(Found::Entry(entry)),
    };
    Ok(found.map(|found| visit(&mut op.reply, found)))
}

/// A text that a pattern leads to.
enum Found<'k> {
    Text(&'k [u8]),
    Item(Item<'k>),
    Entry(EntryRef<'k>),
}

impl Found<'_> {
    fn with_bytes<R>(&self, visit: impl FnOnce(&[u8]) -> R) -> R {
        let mut digits = itoa::Buffer::new();
        match self {
            Found::Text(text) => visit(text),
            Found::Item(item) => visit(item.as_bytes(&mut digits)),
            Found::Entry(entry) => match entry.value() {
                ValueRef::Int(number) => visit(digits.format(number).as_bytes()),
                ValueRef::Inline(text) => visit(text),
                ValueRef::Shared(text) => visit(text),
                ValueRef::Object(_) => unreachable!("only strings are found as entries"),
            },
        }
    }

    fn reply(&self, reply: &mut Reply<'_>) {
        match self {
            Found::Text(text) => reply.bulk(text),
            Found::Item(item) => reply_item(reply, *item),
            Found::Entry(entry) => super::string::reply_string(reply, *entry),
        }
    }
}

/// The elements of the window in order; None: they stay as they are.
fn order(
    op: &mut Op,
    sorting: &Sorting,
    elements: &Elements,
    window: &Range<usize>,
) -> Result<Option<Vec<Range<usize>>>, ReplyError> {
    let pattern = match sorting.weight {
        Weight::Nothing => return Ok(None),
        Weight::Element => None,
        Weight::Of(pattern) => Some(pattern),
    };
    let directed = |ordering: Ordering| if sorting.descends { ordering.reverse() } else { ordering };
    let text = |span: &Range<usize>| elements.text(span);
    if !sorting.alpha {
        let mut weighed = weigh(op, pattern, elements)?;
        let by_number = |one: &(f64, Range<usize>), two: &(f64, Range<usize>)| {
            let numbers = one.0.partial_cmp(&two.0).unwrap_or(Ordering::Equal);
            directed(numbers.then_with(|| text(&one.1).cmp(text(&two.1))))
        };
        sort_window(&mut weighed, window, by_number);
        return Ok(Some(weighed.drain(window.clone()).map(|(_, span)| span).collect()));
    }
    let counts_all = sorting.store.is_some();
    let seen = |text| if counts_all { text } else { as_c_text(text) };
    let Some(pattern) = pattern else {
        let mut spans = elements.spans.clone();
        let by_text = |one: &Range<usize>, two: &Range<usize>| directed(seen(text(one)).cmp(seen(text(two))));
        spans.sort_by(by_text);
        return Ok(Some(spans.drain(window.clone()).collect()));
    };
    let mut weights = Elements::default();
    let mut weighed = Vec::with_capacity(elements.spans.len());
    let mut key = Vec::new();
    for span in &elements.spans {
        let found = look_up(op, &pattern, text(span), &mut key, |_, found| {
            found.with_bytes(|bytes| weights.push(Item::Bytes(bytes)));
            weights.spans.len() - 1
        })?;
        weighed.push((found, span.clone()));
    }
    // What has no weight comes before what has one.
    let weight = |found: Option<usize>| found.map(|index| seen(weights.text(&weights.spans[index])));
    weighed.sort_by(|one, two| directed(weight(one.0).cmp(&weight(two.0))));
    Ok(Some(weighed.drain(window.clone()).map(|(_, span)| span).collect()))
}

/// The number of each element; that of what has none is 0.
fn weigh(op: &mut Op, pattern: Option<Pattern>, elements: &Elements) -> Result<Vec<(f64, Range<usize>)>, ReplyError> {
    let mut weighed = Vec::with_capacity(elements.spans.len());
    let mut key = Vec::new();
    let mut is_number = true;
    for span in &elements.spans {
        let number = match &pattern {
            None => Some(number_of(elements.text(span))),
            Some(pattern) => look_up(op, pattern, elements.text(span), &mut key, |_, found| {
                found.with_bytes(number_of)
            })?,
        };
        let number = number.unwrap_or(Some(0.0));
        is_number &= number.is_some();
        weighed.push((number.unwrap_or(0.0), span.clone()));
    }
    if is_number {
        Ok(weighed)
    } else {
        Err(error::SORT_NOT_A_DOUBLE)
    }
}

/// The number that C's `strtod` reads, where it reads all of the text up to a zero byte. The empty text is 0, spaces may stand in
/// front, and what is too small to be kept with all its digits is refused.
fn number_of(text: &[u8]) -> Option<f64> {
    if let Some(number) = crate::base::numbers::parse_i64(text) {
        return Some(number as f64);
    }
    let text = as_c_text(text);
    if text.is_empty() {
        return Some(0.0);
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_space(byte))?;
    let text = &text[start..];
    let is_hexadecimal = text.iter().any(|byte| matches!(byte, b'x' | b'X'));
    parse_f64(text).filter(|number| !number.is_subnormal() || is_hexadecimal)
}

/// Sorts so much of the elements that those of the window are in their places; no two are equal but those with the same bytes.
fn sort_window<T>(elements: &mut [T], window: &Range<usize>, compare: impl Fn(&T, &T) -> Ordering) {
    if window.is_empty() {
        return;
    }
    let mut part = elements;
    if window.end < part.len() {
        part = part.select_nth_unstable_by(window.end, &compare).0;
    }
    if window.start > 0 {
        part = part.select_nth_unstable_by(window.start - 1, &compare).2;
    }
    part.sort_unstable_by(compare);
}

fn answer(op: &mut Op, sorting: &Sorting, elements: &Elements, chosen: &[Range<usize>]) -> Result<(), ReplyError> {
    op.reply.array(chosen.len() * sorting.gets.len().max(1));
    let mut key = Vec::new();
    for span in chosen {
        // Each element may bring a value of any size by each of any number of patterns.
        if op.reply.is_full() {
            break;
        }
        let element = elements.text(span);
        if sorting.gets.is_empty() {
            op.reply.bulk(element);
        }
        for pattern in &sorting.gets {
            let found = look_up(op, pattern, element, &mut key, |reply, found| found.reply(reply))?;
            if found.is_none() {
                op.reply.null();
            }
        }
    }
    Ok(())
}

fn store(
    op: &mut Op,
    target: &[u8],
    sorting: &Sorting,
    elements: &Elements,
    chosen: &[Range<usize>],
) -> Result<(), ReplyError> {
    let mut stored = Elements::default();
    let mut key = Vec::new();
    for span in chosen {
        let element = elements.text(span);
        if sorting.gets.is_empty() {
            stored.push(Item::Bytes(element));
        }
        for pattern in &sorting.gets {
            let found = look_up(op, pattern, element, &mut key, |_, found| {
                found.with_bytes(|bytes| stored.push(Item::Bytes(bytes)));
            })?;
            if found.is_none() {
                stored.push(Item::Bytes(b""));
            }
        }
    }
    let mut list = List::new();
    for span in &stored.spans {
        list.push(End::Back, stored.text(span), &op.env.limits);
    }
    let len = stored.spans.len();
    if op.keys.replace(target, list)? {
        match len {
            0 => op.wrote(target, Event::generic("del")),
            _ => op.wrote_times(target, Event::list("sortstore"), len as u64),
        }
    }
    op.reply.integer(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests;
