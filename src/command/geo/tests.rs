//! What clients do not see of the geo family: effects, events, hits and misses. Replies and errors are in `tests/transcripts/geo.txt`.

use crate::base::clock::Ms;
use crate::command::bench::Bench;

/// GEOADD is logged as ZADD: no replica has to compute a position.
#[test]
fn writes_lead_to_what_they_lead_to_in_redis() {
    let added = "ZADD g 3479099956230698 a 3479447370796909 b";
    let moved = "ZADD g xx ch 3479447370796909 a";
    let search = "geosearchstore d g fromlonlat 15 37 byradius 200 km";
    let radius = "georadius g 15 37 200 km storedist d";
    let by_member = "georadiusbymember g a 200 km store d";
    let nothing = "geosearchstore d g fromlonlat 15 37 byradius 1 m";
    let nowhere = "georadius missing 15 37 200 km store d";
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        bench.follow(&[
            (
                "geoadd g 13.361389 38.115556 a 15.087269 37.502669 b",
                &[added],
                &["new g", "zadd g"],
                &["ready g"],
            ),
            ("geoadd g 13.361389 38.115556 a", &[], &[], &[]),
            ("geoadd g nx 15.087269 37.502669 a", &[], &[], &[]),
            ("geoadd g xx ch 15.087269 37.502669 a", &[moved], &["zadd g"], &[]),
            ("geoadd new xx 15.087269 37.502669 a", &[], &[], &[]),
            ("geosearch g fromlonlat 15 37 byradius 200 km", &[], &[], &[]),
            ("geodist missing a b", &[], &["keymiss missing"], &[]),
            (search, &[search], &["new d", "geosearchstore d"], &["ready d"]),
            (radius, &[radius], &["georadiusstore d"], &["gone d"]),
            (by_member, &[by_member], &["georadiusstore d"], &["gone d"]),
            (nothing, &[nothing], &["del d"], &["gone d"]),
            (nothing, &[], &[], &[]),
            (nowhere, &[], &["keymiss missing"], &[]),
            ("expire g 1", &["PEXPIREAT g 1700000001000"], &["expire g"], &[]),
        ]);
        bench.pass(Ms(1001));
        bench.follow(&[(nothing, &["DEL g"], &["expired g", "keymiss g"], &["gone g"])]);
    }
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
