//! Active expiry by the real server at 1, 2 and 4 shards: nobody touches the keys, and yet they go, are counted once, and those whose
//! time is over are a small part of what takes memory.
//!
//! Nothing here says how fast anything happens, but for the share of the dead among the present: Redis promises about a tenth
//! (`active-expire-effort` 1), and a busy machine is allowed more than twice that.

mod support;

use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Server, Value, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];
const BATCH: usize = 200;
/// The greatest share of dead keys, in the middle of all looks.
const DEAD_SHARE_MAX: f64 = 0.25;

/// Sends commands, of which none may be an error.
fn send_all(client: &mut Client, commands: impl IntoIterator<Item = String>) {
    let words = |line: String| line.split(' ').map(str::to_owned).collect();
    let commands: Vec<Vec<String>> = commands.into_iter().map(words).collect();
    for reply in client.call_all(&commands) {
        assert!(!reply.is_error(), "{reply}");
    }
}

fn key_count(client: &mut Client) -> usize {
    client.call(&["DBSIZE"]).integer() as usize
}

#[test]
fn what_expires_goes_by_itself_and_is_counted_once() {
    const MORTAL: usize = 20_000;
    const PERMANENT: usize = 500;
    const HASHES: usize = 300;
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        send_all(
            &mut client,
            (0..PERMANENT).map(|number| format!("SET permanent:{number} x")),
        );
        // Of every hash one field stays: the key does too.
        send_all(
            &mut client,
            (0..HASHES).map(|number| format!("HSET hash:{number} a 1 b 2 c 3")),
        );
        send_all(
            &mut client,
            (0..HASHES).map(|number| format!("HPEXPIRE hash:{number} {} FIELDS 2 a b", 200 + number)),
        );
        send_all(
            &mut client,
            (0..MORTAL).map(|number| format!("SET mortal:{number} x PX {}", 1 + number % 1500)),
        );
        // Who asks again and again holds all slots most of the time, and expiry has its turn all the same.
        let began = Instant::now();
        while key_count(&mut client) != PERMANENT + HASHES {
            assert!(began.elapsed() < PATIENCE, "{shards} shards: what is over stays");
        }
        println!("{shards} shards: gone after {:?}", began.elapsed());
        eventually("all fields are gone", || {
            server.info_number("stats", "expired_subkeys") == 2 * HASHES as u64
        });
        assert_eq!(
            server.info_number("stats", "expired_keys"),
            MORTAL as u64,
            "{shards} shards"
        );
        let keyspace = client.call(&["INFO", "keyspace"]).text();
        let expected = format!("db0:keys={},expires=0,avg_ttl=0", PERMANENT + HASHES);
        assert!(keyspace.contains(&expected), "{shards} shards: {keyspace}");
        send_all(&mut client, (0..HASHES).map(|number| format!("HLEN hash:{number}")));
        assert_eq!(client.call(&["HKEYS", "hash:7"]).items().len(), 1);
    }
}

#[test]
fn the_dead_are_few_among_the_present() {
    const LIFE: Duration = Duration::from_millis(1000);
    const WATCHED: Duration = Duration::from_millis(4500);
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        let began = Instant::now();
        // When each batch was acknowledged: its keys live as long as that from then on at most.
        let mut written: Vec<Instant> = Vec::new();
        let mut shares = Vec::new();
        while began.elapsed() < WATCHED {
            let first = written.len() * BATCH;
            send_all(
                &mut client,
                (first..first + BATCH).map(|number| format!("SET key:{number} x PX {}", LIFE.as_millis())),
            );
            written.push(Instant::now());
            // The first ones are over by then.
            if written.len().is_multiple_of(8) && began.elapsed() > LIFE * 2 {
                let asked_at = Instant::now();
                let present = key_count(&mut client);
                let alive = written.iter().filter(|at| **at + LIFE > asked_at).count() * BATCH;
                shares.push(present.saturating_sub(alive) as f64 / present.max(1) as f64);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        shares.sort_by(f64::total_cmp);
        let middle = shares[shares.len() / 2];
        println!(
            "{shards} shards: {:.1} % are dead, of {} looks",
            middle * 100.0,
            shares.len()
        );
        assert!(middle <= DEAD_SHARE_MAX, "{shards} shards: {shares:?}");
    }
}

/// CLIENT PAUSE stops all that deletes by itself: what is over is not seen, and there, until the pause ends.
#[test]
fn while_clients_are_paused_nothing_is_deleted_because_it_is_over() {
    const MORTAL: usize = 300;
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        // The lives begin before the pause, which must be in effect before they end.
        send_all(
            &mut client,
            (0..MORTAL).map(|number| format!("SET mortal:{number} x PX 700")),
        );
        send_all(
            &mut client,
            [
                "HSET hash a 1 b 2".to_owned(),
                "HPEXPIRE hash 700 FIELDS 1 a".to_owned(),
            ],
        );
        send_all(&mut client, ["CLIENT PAUSE 600000 WRITE".to_owned()]);
        let there = key_count(&mut client);
        assert_eq!(
            there,
            MORTAL + 1,
            "{shards} shards: the machine is too slow for this test"
        );
        std::thread::sleep(Duration::from_millis(900));
        let mut gets: Vec<Vec<String>> = Vec::new();
        for number in 0..MORTAL {
            let key = format!("mortal:{number}");
            gets.push(vec!["GET".to_owned(), key.clone()]);
            gets.push(vec!["TYPE".to_owned(), key]);
        }
        for reply in client.call_all(&gets) {
            assert!(reply == Value::Nil || reply.text() == "none", "{reply}");
        }
        assert_eq!(client.call(&["KEYS", "mortal:*"]).items().len(), 0);
        assert_eq!(client.call(&["RANDOMKEY"]).text(), "hash");
        assert_eq!(client.call(&["HGET", "hash", "a"]), Value::Nil);
        let mut cursor = "0".to_owned();
        loop {
            let reply = client.call(&["SCAN", &cursor, "MATCH", "mortal:*", "COUNT", "100"]);
            assert_eq!(reply.items()[1].items().len(), 0);
            cursor = reply.items()[0].text();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(key_count(&mut client), MORTAL + 1, "{shards} shards");
        for figure in ["expired_keys", "expired_subkeys"] {
            assert_eq!(server.info_number("stats", figure), 0, "{figure} with {shards} shards");
        }
        send_all(&mut client, ["CLIENT UNPAUSE".to_owned()]);
        eventually("what was over goes when the pause ends", || key_count(&mut client) == 1);
        eventually("and so do fields", || {
            server.info_number("stats", "expired_subkeys") == 1
        });
        assert_eq!(server.info_number("stats", "expired_keys"), MORTAL as u64);
    }
}
