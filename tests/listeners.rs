//! CONFIG SET `bind` and `port`: any list of addresses after any other, with nobody turned away on those that both have; and a
//! change that fails leaves everything as it was.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use support::server::free_port;
use support::{Client, Server, eventually};

/// `bind`, and which of [`ADDRESSES`] then answer.
const LISTS: [(&str, &[&str]); 6] = [
    ("127.0.0.1", &["127.0.0.1"]),
    ("127.0.0.1 ::1", &["127.0.0.1", "::1"]),
    ("*", &["127.0.0.1", "127.0.0.2"]),
    ("127.0.0.2 127.0.0.1", &["127.0.0.1", "127.0.0.2"]),
    ("* -::*", &["127.0.0.1", "127.0.0.2", "::1"]),
    ("::* 127.0.0.2 -192.0.2.1", &["127.0.0.2", "::1"]),
];

const ADDRESSES: [&str; 3] = ["127.0.0.1", "127.0.0.2", "::1"];

fn at(address: &str, port: u16) -> SocketAddr {
    let ip: IpAddr = address.parse().expect("it is an address");
    SocketAddr::new(ip, port)
}

/// Whether somebody there answers PING; one who takes a connection and says nothing does not.
fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let patience = Some(std::time::Duration::from_secs(5));
    stream.set_read_timeout(patience).expect("it is no zero");
    let mut reply = [0; 7];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut reply).is_ok() && &reply == b"+PONG\r\n"
}

#[track_caller]
fn answers_at(port: u16, expected: &[&str]) {
    for address in ADDRESSES {
        let is_expected = expected.contains(&address);
        // The shard closes what goes a moment after the change; until then it may take a connection, and drop it.
        eventually(&format!("{address} answers: {is_expected}"), || match is_expected {
            true => answers(at(address, port)),
            false => TcpStream::connect(at(address, port)).is_err(),
        });
    }
}

fn set(client: &mut Client, pairs: &[&str]) -> String {
    let mut words = vec!["CONFIG", "SET"];
    words.extend_from_slice(pairs);
    client.call(&words).text()
}

fn get(client: &mut Client, name: &str) -> String {
    client.call(&["CONFIG", "GET", name]).items()[1].text()
}

#[test]
fn any_list_of_addresses_may_follow_any_other() {
    for shards in [1, 3] {
        let server = Server::shardis(shards, &[]);
        // This connection goes through all of it.
        let mut client = server.client();
        // A host without IPv6 has no such address.
        let has_ipv6 = TcpListener::bind(at("::1", 0)).is_ok();
        let lists = LISTS.iter().filter(|(list, _)| has_ipv6 || !list.contains("::"));
        for &(before, _) in lists.clone() {
            for &(after, expected) in lists.clone() {
                assert_eq!(set(&mut client, &["bind", before]), "OK", "{before}");
                assert_eq!(set(&mut client, &["bind", after]), "OK", "{before} to {after}");
                let stays = |address: &&str| {
                    [before, after]
                        .iter()
                        .all(|list| list.split(' ').any(|word| word == *address))
                };
                for address in ADDRESSES.into_iter().filter(stays) {
                    assert!(answers(at(address, server.port)), "{address} is in both lists");
                }
                assert_eq!(get(&mut client, "bind"), after);
                answers_at(server.port, expected);
                // Nobody else can have the port.
                assert!(TcpListener::bind(at(expected[0], server.port)).is_err());
            }
        }
    }
}

#[test]
fn a_change_that_fails_leaves_everything_as_it_was() {
    for shards in [1, 2] {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        let other = TcpListener::bind(at("127.0.0.3", server.port)).expect("nobody has that address");
        for (before, expected) in [LISTS[0], LISTS[3]] {
            assert_eq!(set(&mut client, &["bind", before]), "OK");
            for after in [
                "*",
                "127.0.0.2 127.0.0.3",
                "127.0.0.4 192.0.2.1",
                "-192.0.2.1",
                "127.0.0.2 127.0.0.2",
            ] {
                assert_eq!(
                    set(&mut client, &["bind", after]),
                    "ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses.",
                    "{after}"
                );
                assert_eq!(get(&mut client, "bind"), before);
                answers_at(server.port, expected);
                assert!(TcpListener::bind(at("127.0.0.1", server.port)).is_err());
            }
        }
        let (taken, free) = (TcpListener::bind(at("127.0.0.1", 0)).unwrap(), free_port());
        let taken = taken.local_addr().unwrap().port().to_string();
        assert_eq!(
            set(&mut client, &["port", &taken]),
            "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs."
        );
        // What comes after the port fails: the port comes back.
        let refused = set(&mut client, &["port", &free.to_string(), "maxclients", "4000000000"]);
        assert!(refused.contains("'maxclients'"), "{refused}");
        assert_eq!(get(&mut client, "port"), server.port.to_string());
        answers_at(server.port, LISTS[3].1);
        eventually("the new port is closed", || {
            TcpStream::connect(at("127.0.0.1", free)).is_err()
        });
        drop(other);
        assert_eq!(set(&mut client, &["bind", "*"]), "OK");
        assert!(answers(at("127.0.0.3", server.port)));
    }
}

#[test]
fn the_port_changes_goes_and_comes_back() {
    for shards in [1, 2] {
        let directory = std::env::temp_dir().join(format!("shardis-listeners-{}-{shards}", std::process::id()));
        let path = directory.to_str().expect("the name is ASCII");
        let server = Server::shardis(shards, &["--unixsocket", path]);
        let mut client = server.client();
        let port = free_port();
        assert_eq!(
            set(&mut client, &["port", &port.to_string(), "bind", "127.0.0.2"]),
            "OK"
        );
        answers_at(port, &["127.0.0.2"]);
        answers_at(server.port, &[]);
        for (port_now, expected) in [(0, &[][..]), (server.port, &["127.0.0.2"])] {
            assert_eq!(set(&mut client, &["port", &port_now.to_string()]), "OK");
            answers_at(port, &[]);
            answers_at(server.port, expected);
            assert!(
                client
                    .call(&["INFO", "server"])
                    .text()
                    .contains(&format!("tcp_port:{port_now}\r\n"))
            );
            let mut stream = UnixStream::connect(path).expect("the Unix socket stays");
            stream.write_all(b"PING\r\n").unwrap();
            let mut reply = [0; 7];
            stream.read_exact(&mut reply).unwrap();
            assert_eq!(&reply, b"+PONG\r\n");
        }
    }
}

#[test]
fn the_ports_of_the_shards_follow() {
    let server = Server::shardis(2, &["--shard-ports", "yes"]);
    let mut client = server.client();
    assert_eq!(set(&mut client, &["bind", "127.0.0.2"]), "OK");
    for port in server.port..=server.port + 2 {
        answers_at(port, &["127.0.0.2"]);
    }
    // Two of three ports are the same ones: only the first is given up.
    assert_eq!(set(&mut client, &["port", &(server.port + 1).to_string()]), "OK");
    answers_at(server.port, &[]);
    for port in server.port + 1..=server.port + 3 {
        answers_at(port, &["127.0.0.2"]);
    }
    let slots = client.call(&["CLUSTER", "SLOTS"]);
    let ports: Vec<i64> = slots
        .items()
        .iter()
        .map(|range| range.items()[2].items()[1].integer())
        .collect();
    assert_eq!(ports, [i64::from(server.port) + 2, i64::from(server.port) + 3]);
    assert!(
        set(&mut client, &["port", "65535"]).starts_with("ERR"),
        "there is no port 65536"
    );
    answers_at(server.port + 1, &["127.0.0.2"]);
}
