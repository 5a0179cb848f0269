//! What INFO counts of a connection's traffic, against the bytes that went over it.

mod support;

use support::client::encode;
use support::{Client, Server};

/// Bytes that were sent and received, and how many replies were.
#[derive(Default)]
struct Traffic {
    sent_bytes: u64,
    received_bytes: u64,
    reply_count: u64,
}

impl Traffic {
    fn call(&mut self, client: &mut Client, words: &[&str]) -> String {
        let request = encode(words);
        client.send(&request).expect("the server reads");
        let (reply, bytes) = client.try_raw_reply().expect("the server answers");
        self.sent_bytes += request.len() as u64;
        self.received_bytes += bytes.len() as u64;
        self.reply_count += 1;
        reply.text()
    }
}

fn figure(info: &str, name: &str) -> u64 {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {info}"))
}

#[test]
fn what_is_counted_is_what_was_sent_and_received() {
    for shards in [1, 2] {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        let before = Traffic::default().call(&mut client, &["INFO", "stats"]);
        let mut between = Traffic::default();
        for number in 0..20 {
            between.call(&mut client, &["SET", &format!("k{number}"), &"x".repeat(10 * number)]);
        }
        let mut last = Traffic::default();
        let after = last.call(&mut client, &["INFO", "stats"]);
        let growth = |name: &str| figure(&after, name) - figure(&before, name);
        // The first INFO was answered before it counted its own reply, and the last one has arrived when it counts.
        let first_reply_bytes = format!("${}\r\n{before}\r\n", before.len()).len() as u64;
        assert_eq!(growth("total_net_input_bytes"), between.sent_bytes + last.sent_bytes);
        assert_eq!(
            growth("total_net_output_bytes"),
            first_reply_bytes + between.received_bytes
        );
        assert_eq!(growth("total_writes_processed"), 1 + between.reply_count);
        assert_eq!(growth("total_commands_processed"), 1 + between.reply_count);
        // What is sent at once may arrive in pieces.
        assert!(growth("total_reads_processed") >= between.reply_count + last.reply_count);
    }
}
