//! What clients do not see of the geo family: effects, hits and misses. Replies and errors are in `tests/transcripts/geo.txt`.

use crate::base::slot::key_slot;
use crate::command::bench::Bench;

#[test]
fn effects_need_no_positions() {
    let mut bench = Bench::new(1);
    let added = "ZADD g 3479099956230698 a 3479447370796909 b";
    let moved = "ZADD g xx ch 3479447370796909 a";
    let search = "geosearchstore d g fromlonlat 15 37 byradius 200 km";
    let radius = "georadius g 15 37 200 km storedist d";
    let nothing = "geosearchstore d g fromlonlat 15 37 byradius 1 m";
    let steps: &[(&str, &[&str])] = &[
        ("geoadd g 13.361389 38.115556 a 15.087269 37.502669 b", &[added]),
        ("geoadd g 13.361389 38.115556 a", &[]),
        ("geoadd g nx 15.087269 37.502669 a", &[]),
        ("geoadd g xx ch 15.087269 37.502669 a", &[moved]),
        ("geoadd new xx 15.087269 37.502669 a", &[]),
        ("geosearch g fromlonlat 15 37 byradius 200 km", &[]),
        (search, &[search]),
        (radius, &[radius]),
        (nothing, &[nothing]),
        (nothing, &[]),
    ];
    for (line, expected) in steps {
        bench.run(line);
        assert_eq!(bench.logged(0), *expected, "{line}");
    }
}

#[test]
fn a_search_over_two_shards_logs_what_it_stored() {
    let mut bench = Bench::new(2);
    let home = |key: &str| bench.shards[0].borrow().core.owner(key_slot(key.as_bytes())).0 as usize;
    let here = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 0).unwrap();
    let there = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 1).unwrap();
    bench.run(&format!("geoadd {there} 13.361389 38.115556 a"));
    bench.logged(1);
    assert_eq!(
        bench.run(&format!(
            "geosearchstore {here} {there} fromlonlat 15 37 byradius 200 km"
        )),
        ":1"
    );
    assert_eq!(
        bench.logged(0),
        [format!("DEL {here}"), format!("ZADD {here} 3479099956230698 a")]
    );
}

#[test]
fn a_search_is_one_hit() {
    let mut bench = Bench::new(1);
    let steps = [
        ("geoadd g 13.361389 38.115556 a 15.087269 37.502669 b", (0, 0)),
        ("geodist g a b", (1, 0)),
        ("geopos g a b", (1, 0)),
        ("geohash missing a b", (0, 1)),
        ("geosearch g frommember a byradius 200 km", (1, 0)),
        ("georadius missing 15 37 200 km", (0, 1)),
    ];
    let mut before = bench.hits_and_misses();
    for (line, (hits, misses)) in steps {
        bench.run(line);
        let after = bench.hits_and_misses();
        assert_eq!(after, (before.0 + hits, before.1 + misses), "{line}");
        before = after;
    }
}
