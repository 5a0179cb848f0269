//! Requests of very many keys, in one write, at the real server with 1, 2 and 4 shards: the keys lie in nearly all slots, and what the
//! command notes of its slots is another thing than for a few keys. How long it takes is measured by the bench `dispatch`.

mod support;

use support::client::encode;
use support::{Client, Server, Value};

const KEY_COUNT: usize = 20_000;

fn call(client: &mut Client, words: &[String]) -> Value {
    client.send(&encode(words)).expect("the server reads");
    client.reply()
}

fn with_keys(command: &str) -> Vec<String> {
    let keys = (0..KEY_COUNT).map(|number| format!("key:{number}"));
    std::iter::once(command.to_owned()).chain(keys).collect()
}

#[test]
fn very_many_keys_in_one_request() {
    for shards in [1, 2, 4] {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        let mut other = server.client();
        let mut mset = vec!["MSET".to_owned()];
        for number in 0..KEY_COUNT {
            mset.push(format!("key:{number}"));
            mset.push(format!("value:{number}"));
        }
        assert_eq!(call(&mut client, &mset), Value::Simple(b"OK".to_vec()));
        assert_eq!(other.call(&["DBSIZE"]).integer(), KEY_COUNT as i64, "{shards} shards");
        let values = call(&mut other, &with_keys("MGET")).items();
        assert_eq!(values.len(), KEY_COUNT);
        for (number, value) in values.iter().enumerate() {
            assert_eq!(value.text(), format!("value:{number}"), "{shards} shards");
        }
        // The watch of each key is found by EXEC, whichever key changes.
        for (changed, is_run) in [(None, true), (Some(0), false), (Some(KEY_COUNT - 1), false)] {
            assert!(!call(&mut client, &with_keys("WATCH")).is_error());
            if let Some(number) = changed {
                let key = format!("key:{number}");
                assert!(!other.call(&["APPEND", key.as_str(), "!"]).is_error());
            }
            assert!(!client.call(&["MULTI"]).is_error());
            assert!(!client.call(&["EXISTS", "key:1"]).is_error());
            let expected = if is_run {
                Value::Array(vec![Value::Integer(1)])
            } else {
                Value::Nil
            };
            assert_eq!(client.call(&["EXEC"]), expected, "{changed:?} with {shards} shards");
        }
        assert_eq!(call(&mut other, &with_keys("DEL")).integer(), KEY_COUNT as i64);
        assert_eq!(client.call(&["DBSIZE"]).integer(), 0, "{shards} shards");
    }
}
