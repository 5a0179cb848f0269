//! Debian's Sentinel, unchanged, over servers of ours: it finds the replicas, notices that the master has died, promotes one of them and has
//! the other follow it. What all replicas had confirmed is there afterwards.

mod support;

use support::{Client, Oracle, Server, eventually};

use std::process::{Child, Command, Stdio};

/// A Sentinel, which ends with the value.
struct Sentinel {
    port: u16,
    child: Child,
}

impl Sentinel {
    /// One that watches that master by itself. Its configuration, which it rewrites, lies in the directory of another server.
    fn start(master: &Server, host: &Server) -> Option<Sentinel> {
        let program = Oracle::Redis70.program()?;
        let port = support::server::free_port();
        let file = host.dir.join("sentinel.conf");
        let lines = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor ours 127.0.0.1 {} 1\nsentinel down-after-milliseconds ours 1000\n\
             sentinel failover-timeout ours 20000\n",
            master.port
        );
        std::fs::write(&file, lines).expect("the directory is there");
        let child = Command::new(program)
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .spawn()
            .expect("it was run before, for its version");
        Some(Sentinel { port, child })
    }

    fn client(&self) -> Client {
        let mut client = None;
        eventually("Sentinel takes connections", || {
            client = Client::connect(self.port).ok();
            client.is_some()
        });
        client.expect("it has just come to be")
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a server answers, on a connection of its own; None: Sentinel has ended that, as it does with all of them when roles change.
fn told(server: &Server, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let reply = Client::connect(server.port).ok()?.try_call(&words).ok()?;
    Some(reply.to_string())
}

/// Waits until a server answers that, or something with it in it.
#[track_caller]
fn wait_for(server: &Server, line: &str, part: &str) {
    eventually(&format!("{line} of {}: {part}", server.name), || {
        told(server, line).is_some_and(|told| told.contains(part))
    });
}

#[test]
fn it_replaces_a_master_that_has_died() {
    for shards in [1, 2, 4] {
        let args = ["--repl-diskless-sync-delay", "0"];
        let [master, one, other] = [(); 3].map(|()| Server::shardis(shards, &args));
        let Some(sentinel) = Sentinel::start(&master, &one) else {
            return;
        };
        for replica in [&one, &other] {
            let reply = replica.client().line(&format!("REPLICAOF 127.0.0.1 {}", master.port));
            assert_eq!(reply.text(), "OK");
        }
        let mut asked = sentinel.client();
        eventually("Sentinel knows the replicas", || {
            asked.line("SENTINEL REPLICAS ours").items().len() == 2
        });
        let mut client = master.client();
        for number in 0..100 {
            client.line(&format!("SET key:{number} {number}"));
        }
        assert_eq!(client.line("WAIT 2 60000").integer(), 2);
        drop(client);
        drop(master);

        let ports = [one.port, other.port].map(|port| port.to_string());
        let mut leader = String::new();
        eventually("Sentinel names another master", || {
            leader = asked.line("SENTINEL GET-MASTER-ADDR-BY-NAME ours").items()[1]
                .text()
                .to_owned();
            ports.contains(&leader)
        });
        let [leader, follower] = match leader == ports[0] {
            true => [&one, &other],
            false => [&other, &one],
        };
        wait_for(leader, "INFO replication", "role:master");
        wait_for(follower, "INFO replication", &format!("master_port:{}", leader.port));
        wait_for(follower, "INFO replication", "master_link_status:up");
        for number in 0..100 {
            wait_for(leader, &format!("GET key:{number}"), &format!("\"{number}\""));
        }
        wait_for(leader, "SET after 1", "OK");
        wait_for(leader, "WAIT 1 60000", "(integer) 1");
        wait_for(follower, "GET after", "\"1\"");
    }
}
