//! Scenes of several clients, played on shardis and on real servers, and what each client hears.
//!
//! An empty line ends a scene, which begins with its name; when it ends its clients leave. `name> command` sends a command; a name that ends in 3 is
//! that of a client in RESP3. Behind each command its client asks for a mark, so that all that comes of it has come; `name~> command` reads one
//! reply instead (in MULTI), and `name!> command` none. `{name}` in a command is the id of that client, which is there from then on; where ids are
//! told, names stand in their place. `name.> leave` ends a connection.

use super::value::split_words;
use super::{Client, Server, Value};
use std::collections::BTreeMap;

/// What each client got, in its order.
pub type Heard = BTreeMap<String, Vec<String>>;

pub struct Scene {
    pub name: &'static str,
    lines: Vec<&'static str>,
}

/// The scenes of a text; lines that begin with # are remarks.
pub fn scenes(text: &'static str) -> Vec<Scene> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let scenes = lines.split(|line| line.is_empty());
    let scene = |lines: &[&'static str]| Scene {
        name: lines[0].strip_prefix("== ").expect("a scene has a name"),
        lines: lines[1..].to_vec(),
    };
    scenes.filter(|lines| !lines.is_empty()).map(scene).collect()
}

/// The clients of a scene that is played.
struct Stage<'a> {
    server: &'a Server,
    clients: BTreeMap<String, Client>,
    /// Of those whose ids are spoken of.
    ids: BTreeMap<String, i64>,
    heard: Heard,
    marks: usize,
}

impl Stage<'_> {
    fn client(&mut self, name: &str) -> &mut Client {
        let server = self.server;
        self.clients
            .entry(name.to_owned())
            .or_insert_with(|| match name.ends_with('3') {
                true => server.client_resp3(),
                false => server.client(),
            })
    }

    /// The words of a command, with ids in the places of names.
    fn words(&mut self, command: &str) -> Vec<Vec<u8>> {
        let words = split_words(command).expect("the quotes are balanced");
        let mut with_ids = Vec::new();
        for word in words {
            let text = String::from_utf8_lossy(&word).into_owned();
            match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
                None => with_ids.push(word),
                Some(name) => with_ids.push(self.id(name).to_string().into_bytes()),
            }
        }
        with_ids
    }

    fn id(&mut self, name: &str) -> i64 {
        if !self.ids.contains_key(name) {
            let id = self.client(name).line("client id").integer();
            self.ids.insert(name.to_owned(), id);
        }
        self.ids[name]
    }

    /// A reply as it is compared.
    fn shown(&self, reply: &Value, command: &str) -> String {
        let text = reply.to_string();
        // What HELLO answers names the server.
        if text.contains("\"proto\"") {
            return "hello".to_owned();
        }
        if !command.contains("redir") && !command.contains("trackinginfo") && !text.contains("redir") {
            return text;
        }
        let mut shown = text;
        for (name, id) in &self.ids {
            let number = format!("(integer) {id}");
            let lines = shown.lines().map(|line| match line.strip_suffix(&number) {
                Some(before) => format!("{before}{{{name}}}"),
                None => line.to_owned(),
            });
            shown = lines.collect::<Vec<_>>().join("\n");
        }
        shown
    }

    /// Asks for a mark, and keeps what comes before it.
    fn read_to_mark(&mut self, name: &str, mark: &str, command: &str) {
        let ping = super::client::encode(&["ping", mark]);
        self.client(name).send(&ping).expect("the server reads");
        loop {
            let reply = self.client(name).try_reply();
            let reply = reply.unwrap_or_else(|error| {
                panic!(
                    "{command} of {name} on {}: {error}, after {:?}",
                    self.server.name, self.heard
                )
            });
            let is_mark = match &reply {
                Value::Bulk(text) => text == mark.as_bytes(),
                Value::Array(items) => items.len() == 2 && items[0].text() == "pong" && items[1].text() == mark,
                _ => false,
            };
            if is_mark {
                return;
            }
            let shown = self.shown(&reply, command);
            self.heard.entry(name.to_owned()).or_default().push(shown);
        }
    }
}

impl Scene {
    pub fn play(&self, server: &Server) -> Heard {
        server.client().line("flushall");
        let mut stage = Stage {
            server,
            clients: BTreeMap::new(),
            ids: BTreeMap::new(),
            heard: Heard::new(),
            marks: 0,
        };
        for line in &self.lines {
            let (who, command) = line.split_once("> ").unwrap_or_else(|| panic!("what is {line}?"));
            let name = who.trim_end_matches(['~', '!', '.']);
            if who.ends_with('.') {
                // It has left when it is known that it has.
                let id = stage.id(name);
                stage.clients.remove(name);
                let mut other = server.client();
                super::eventually("it has left", || {
                    other.call(&["client", "list", "id", &id.to_string()]).text().is_empty()
                });
                continue;
            }
            let words = stage.words(command);
            stage.heard.entry(name.to_owned()).or_default();
            let request = super::client::encode(&words);
            stage.client(name).send(&request).expect("the server reads");
            if who.ends_with('~') {
                let reply = stage.client(name).reply();
                let shown = stage.shown(&reply, command);
                stage.heard.entry(name.to_owned()).or_default().push(shown);
            } else if !who.ends_with('!') {
                stage.marks += 1;
                let mark = format!("mark {}", stage.marks);
                stage.read_to_mark(name, &mark, command);
            }
        }
        // What is still to come; whoever has said QUIT has had all.
        let names: Vec<String> = stage.clients.keys().cloned().collect();
        for name in names {
            let has_left = |line: &&str| line.starts_with(name.as_str()) && line.ends_with("quit");
            if self.lines.iter().any(has_left) {
                let rest = stage.client(&name).rest();
                let to = stage.heard.entry(name).or_default();
                to.push(String::from_utf8_lossy(&rest).into_owned());
            } else {
                stage.read_to_mark(&name, "end", "what comes at the end");
            }
        }
        stage.heard
    }
}
