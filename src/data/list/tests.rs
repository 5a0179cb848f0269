//! Lists against a vector of byte strings, and the moments at which they change their form.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::data::listpack::Item;

fn texts(list: &List) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    list.as_ref().for_each(|item| all.push(item.to_vec()));
    all
}

fn check(list: &List, compress_depth: usize) {
    if let List::Nodes(nodes) = list {
        nodes.check(compress_depth);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(bool, Vec<Vec<u8>>),
    Pop(bool, usize),
    Insert(bool, usize, Vec<u8>),
    Set(usize, Vec<u8>),
    Remove(i64, usize),
    Keep(usize, usize),
    Reload,
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (0i64..8).prop_map(|integer| integer.to_string().into_bytes()),
        3 => prop::sample::select(vec![&b"a"[..], b"b", b"cc"]).prop_map(<[u8]>::to_vec),
        2 => (0usize..600, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        1 => any::<i64>().prop_map(|integer| integer.to_string().into_bytes()),
        1 => (3000usize..5000).prop_map(|len| vec![b'l'; len]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), prop::collection::vec(text(), 1..12)).prop_map(|(end, texts)| Step::Push(end, texts)),
        1 => (any::<bool>(), 0usize..30).prop_map(|(end, count)| Step::Pop(end, count)),
        4 => (any::<bool>(), any::<usize>(), text()).prop_map(|(side, pivot, text)| Step::Insert(side, pivot, text)),
        3 => (any::<usize>(), text()).prop_map(|(index, text)| Step::Set(index, text)),
        2 => (-4i64..4, any::<usize>()).prop_map(|(count, index)| Step::Remove(count, index)),
        1 => (0usize..10, 0usize..10).prop_map(|(front, back)| Step::Keep(front, back)),
        1 => Just(Step::Reload),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (
        prop::sample::select(vec![-2, -1, 1, 2, 3, 7, 100, 0, -5]),
        0usize..4,
        prop::sample::select(vec![1 << 30, 4000, 200, 1]),
    )
        .prop_map(
            |(list_max_listpack_size, list_compress_depth, list_packed_threshold)| Limits {
                list_max_listpack_size,
                list_compress_depth,
                list_packed_threshold,
                ..Limits::default()
            },
        )
}

fn reload(list: &List, limits: &Limits) -> List {
    let views: Vec<NodeView<'_>> = list.as_ref().nodes().collect();
    assert_eq!(views.len(), list.as_ref().node_count());
    let nodes = views.iter().map(|view| match view {
        NodeView::Plain(element) => NewNode::Plain(element),
        packed => NewNode::Packed(Listpack::from_bytes(packed.bytes()).expect("a node is sound")),
    });
    List::from_nodes(nodes, limits)
}

/// All that reads agrees with the model.
fn agree(list: &List, model: &VecDeque<Vec<u8>>) {
    let len = model.len();
    assert_eq!(list.len(), len);
    assert_eq!(list.is_empty(), len == 0);
    assert!(texts(list).iter().eq(model.iter()));
    let list = list.as_ref();
    for index in (0..len).step_by(1 + len / 13) {
        assert!(list.get(index as i64, |item| item.eq_bytes(&model[index])).unwrap());
        assert!(
            list.get(index as i64 - len as i64, |item| item.eq_bytes(&model[index]))
                .unwrap()
        );
        for end in [index, (index + 3).min(len), len] {
            let (mut forward, mut backward) = (Vec::new(), Vec::new());
            list.range(index..end, |item| forward.push(item.to_vec()));
            list.range_rev(index..end, |item| backward.push(item.to_vec()));
            assert!(forward.iter().eq(model.range(index..end)));
            assert!(backward.iter().rev().eq(model.range(index..end)));
        }
        let needle = &model[index];
        for (rank, count, maxlen) in [
            (1, 0, 0),
            (-1, 0, 0),
            (2, 1, 0),
            (-2, 2, 0),
            (1, 0, 5),
            (-1, 3, 4),
            (i64::MIN, 1, 0),
        ] {
            let mut found = Vec::new();
            list.positions(needle, rank, count, maxlen, |index| found.push(index));
            let order: Vec<usize> = if rank > 0 {
                (0..len).collect()
            } else {
                (0..len).rev().collect()
            };
            let expected: Vec<usize> = order
                .into_iter()
                .take(if maxlen == 0 { len } else { maxlen })
                .filter(|&at| &model[at] == needle)
                .skip((rank.unsigned_abs() - 1) as usize)
                .take(if count == 0 { len } else { count })
                .collect();
            assert_eq!(found, expected);
        }
    }
    assert_eq!(list.get(len as i64, |_| ()), None);
    assert_eq!(list.get(-1 - len as i64, |_| ()), None);
    assert_eq!(list.get(i64::MIN, |_| ()), None);
}

fn apply(list: &mut List, model: &mut VecDeque<Vec<u8>>, step: Step, limits: &Limits) {
    let len = model.len();
    let end = |is_front| if is_front { End::Front } else { End::Back };
    match step {
        Step::Push(is_front, texts) => {
            list.push_all(end(is_front), texts.iter().map(Vec::as_slice), limits);
            for text in texts {
                if is_front {
                    model.push_front(text);
                } else {
                    model.push_back(text);
                }
            }
        }
        Step::Pop(is_front, 1) => {
            let popped = list.pop(end(is_front), limits, |item| item.to_vec());
            let expected = if is_front { model.pop_front() } else { model.pop_back() };
            assert_eq!(popped, expected);
        }
        Step::Pop(is_front, count) => {
            let mut popped = Vec::new();
            list.pop_many(end(is_front), count, limits, |item| popped.push(item.to_vec()));
            for text in &popped {
                let expected = if is_front { model.pop_front() } else { model.pop_back() };
                assert_eq!(Some(text), expected.as_ref());
            }
            assert_eq!(popped.len(), count.min(len));
        }
        Step::Insert(is_before, index, text) if len > 0 => {
            let pivot = model[index % len].clone();
            let at = model.iter().position(|text| *text == pivot).unwrap();
            if is_before {
                assert!(list.insert_before(&pivot, &text, limits));
                model.insert(at, text);
            } else {
                assert!(list.insert_after(&pivot, &text, limits));
                model.insert(at + 1, text);
            }
            assert!(!list.insert_after(b"no such element", b"", limits));
        }
        Step::Set(index, text) if len > 0 => {
            let at = index % len;
            let index = if index % 2 == 0 {
                at as i64
            } else {
                at as i64 - len as i64
            };
            assert!(list.set(index, &text, limits));
            assert!(!list.set(len as i64, &text, limits));
            model[at] = text;
        }
        Step::Remove(count, index) if len > 0 => {
            let needle = model[index % len].clone();
            let mut places: Vec<usize> = (0..len).filter(|&at| model[at] == needle).collect();
            if count < 0 {
                places.reverse();
            }
            if count != 0 {
                places.truncate(count.unsigned_abs() as usize);
            }
            assert_eq!(list.remove(count, &needle, limits), places.len());
            places.sort_unstable();
            for at in places.into_iter().rev() {
                model.remove(at);
            }
        }
        Step::Keep(front, back) => {
            list.keep(front..len.saturating_sub(back), limits);
            let to = len.saturating_sub(back).max(front.min(len));
            model.truncate(to);
            model.drain(..front.min(model.len()));
        }
        Step::Reload => *list = reload(list, limits),
        Step::Insert(..) | Step::Set(..) | Step::Remove(..) => {}
    }
}

proptest! {
    #[test]
    fn behaves_as_a_deque(steps in prop::collection::vec(step(), 0..60), limits in any_limits()) {
        let (mut list, mut model) = (List::new(), VecDeque::new());
        for step in steps {
            apply(&mut list, &mut model, step, &limits);
            check(&list, limits.list_compress_depth);
        }
        agree(&list, &model);
        let mut copy = list.clone();
        check(&copy, limits.list_compress_depth);
        agree(&copy, &model);
        while !copy.free_step(2) {
            check(&copy, 0);
        }
        prop_assert!(copy.is_empty());
    }
}

fn limits(list_max_listpack_size: i64) -> Limits {
    Limits {
        list_max_listpack_size,
        ..Limits::default()
    }
}

#[test]
fn a_long_list_keeps_its_elements_and_its_sums() {
    // One element a node: many chunks, and insertion that cuts full ones.
    let limits = limits(1);
    let (mut list, mut model) = (List::new(), VecDeque::new());
    for index in 0..3000i64 {
        let text = index.to_string().into_bytes();
        let end = if index % 3 == 0 { End::Front } else { End::Back };
        list.push(end, &text, &limits);
        if end == End::Front {
            model.push_front(text);
        } else {
            model.push_back(text);
        }
    }
    for index in (0..3000i64).step_by(7) {
        let (pivot, text) = (index.to_string().into_bytes(), format!("before {index}").into_bytes());
        assert!(list.insert_before(&pivot, &text, &limits));
        let at = model.iter().position(|text| *text == pivot).unwrap();
        model.insert(at, text);
    }
    check(&list, 0);
    agree(&list, &model);
    for index in (0..3000i64).step_by(2) {
        let text = index.to_string().into_bytes();
        assert_eq!(list.remove(if index % 4 == 0 { 1 } else { -1 }, &text, &limits), 1);
        model.retain(|other| *other != text);
    }
    check(&list, 0);
    agree(&list, &model);
}

#[test]
fn becomes_a_quicklist_and_a_listpack_again_when_redis_does() {
    let eight = limits(-1);
    // 4096 bytes: the listpack's own and the bare bytes of what is added.
    let mut list = List::new();
    list.push(End::Back, &[b'x'; 4089], &eight);
    assert_eq!(list.encoding(), Encoding::Listpack);
    let mut list = List::new();
    list.push(End::Back, &[b'x'; 4090], &eight);
    assert_eq!(list.encoding(), Encoding::Quicklist);

    // All elements of one command count together, without their heads.
    let parts = [[b'y'; 1000]; 4];
    let mut list = List::new();
    list.push_all(End::Back, parts.iter().map(|part| &part[..]), &eight);
    assert_eq!(list.encoding(), Encoding::Listpack);
    list.push_all(End::Back, parts.iter().map(|part| &part[..]), &eight);
    assert_eq!(list.encoding(), Encoding::Quicklist);
    assert_eq!(list.as_ref().node_count(), 2);

    // One node of more than half: still a quicklist; half a node: a listpack again.
    list.pop_many(End::Back, 5, &eight, |_| ());
    assert_eq!((list.as_ref().node_count(), list.encoding()), (1, Encoding::Quicklist));
    list.pop(End::Back, &eight, |_| ());
    assert_eq!(list.encoding(), Encoding::Listpack);

    let five = limits(5);
    let mut list = List::new();
    list.push_all(End::Back, [&b"a"[..]; 5].into_iter(), &five);
    assert_eq!(list.encoding(), Encoding::Listpack);
    list.push(End::Front, b"b", &five);
    assert_eq!(list.encoding(), Encoding::Quicklist);
    list.remove(1, b"a", &five);
    list.keep(0..3, &five);
    assert_eq!(list.encoding(), Encoding::Quicklist);
    list.remove(0, b"b", &five);
    assert_eq!(list.encoding(), Encoding::Listpack);

    // Loading asks only that the node is not overfull.
    let mut list = List::new();
    list.push_all(End::Back, [&b"a"[..]; 6].into_iter(), &five);
    list.keep(0..5, &five);
    assert_eq!(list.encoding(), Encoding::Quicklist);
    assert_eq!(reload(&list, &five).encoding(), Encoding::Listpack);
    assert_eq!(List::from_nodes([NewNode::Packed(Listpack::new())], &five).len(), 0);
}

#[test]
fn large_elements_have_nodes_of_their_own() {
    let limits = Limits {
        list_packed_threshold: 100,
        ..limits(-2)
    };
    let mut list = List::new();
    list.push(End::Back, b"small", &limits);
    list.push_all(End::Back, [&[b'x'; 9000][..], b"12"].into_iter(), &limits);
    let kinds: Vec<bool> = list.as_ref().nodes().map(|node| node.is_plain()).collect();
    assert_eq!(kinds, [false, true, false]);
    assert!(list.set(1, &[b'y'; 200], &limits));
    assert!(list.set(0, &[b'z'; 200], &limits));
    assert_eq!(
        list.as_ref().get(0, |item| item == Item::Bytes(&[b'z'; 200])),
        Some(true)
    );
    assert_eq!(list.remove(0, &[b'y'; 200], &limits), 1);
    check(&list, 0);
    assert_eq!(texts(&list), [vec![b'z'; 200], b"12".to_vec()]);
}

#[test]
fn inner_nodes_are_compressed_to_the_depth() {
    let limits = Limits {
        list_compress_depth: 1,
        ..limits(-1)
    };
    let (mut list, mut model) = (List::new(), VecDeque::new());
    for index in 0..2000 {
        let text = format!("element {index} of a list that is easy to compress").into_bytes();
        list.push(End::Back, &text, &limits);
        model.push_back(text);
    }
    let List::Nodes(nodes) = &list else {
        panic!("a long list")
    };
    assert!(nodes.node_count() > 20);
    assert_eq!(nodes.compressed_count(), nodes.node_count() - 2);
    assert!(list.allocated_bytes() < 2000 * 25);
    check(&list, 1);
    agree(&list, &model);
    assert!(list.insert_before(&model[1000].clone(), b"in between", &limits));
    model.insert(1000, b"in between".to_vec());
    let List::Nodes(nodes) = &list else {
        panic!("a long list")
    };
    assert_eq!(nodes.compressed_count(), nodes.node_count() - 2);
    check(&list, 1);
    agree(&list, &model);
    list.keep(900..1100, &limits);
    check(&list, 1);
    assert!(texts(&list).iter().eq(model.range(900..1100)));
}

#[test]
fn one_word_that_owns_it() {
    assert_eq!(size_of::<List>(), 16);
    assert_eq!(size_of::<node::Node>(), 16);
    let mut list = List::default();
    list.push(End::Front, b"1", &Limits::default());
    assert_eq!(format!("{list:?}"), "[1]");
}

/// 1 M elements of 16 bytes: a quicklist of redis-server 7.0 takes 8192 bytes for about 452 elements and 32 for the node.
#[test]
fn a_million_elements_take_no_more_than_in_redis() {
    let mut list = List::new();
    for index in 0..1_000_000 {
        list.push(End::Back, format!("element-{index:08}").as_bytes(), &Limits::default());
    }
    let nodes = list.as_ref().node_count();
    assert!(
        list.allocated_bytes() <= nodes * (8192 + 32),
        "{} in {nodes} nodes",
        list.allocated_bytes()
    );
    assert!(list.allocated_bytes() < 18_300_000, "{}", list.allocated_bytes());
}
