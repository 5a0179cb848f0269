//! Reads the sources and keeps true what they say of themselves.
//!
//! The table of layers in `src/lib.rs` is the authority: a module uses `crate::other` only if `other` stands in a lower
//! layer, or in its own. Modules that the table says know nothing of each other do not name each other at all. And some
//! names stand only where they may: the ring and the executor, `unsafe`, `unwrap`.
//!
//! Only code counts: comments, texts and unit tests are taken out before anything is searched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file of `src` and its code.
struct Source {
    /// Relative to `src`.
    path: String,
    code: String,
}

impl Source {
    /// The module of the crate's root that it belongs to; nothing for the root itself and the binaries.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!["lib", "bin"].contains(&name)).then_some(name)
    }

    /// The lines (from 1) on which this stands as a word.
    fn lines_with(&self, word: &str) -> Vec<usize> {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let lines = self.code.lines().enumerate().filter(|(_, line)| {
            line.match_indices(word).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + word.len()..].chars().next();
                let starts = !word.starts_with(is_part) || !before.is_some_and(is_part);
                let ends = !word.ends_with(is_part) || !after.is_some_and(is_part);
                starts && ends
            })
        });
        lines.map(|(index, _)| index + 1).collect()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("the sources are there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
                let relative = path
                    .strip_prefix(root())
                    .expect("it is below")
                    .to_string_lossy()
                    .into_owned();
                found.push(Source {
                    code: without_tests(&code_of(&text)),
                    path: relative,
                });
            }
        }
    }
    // Files that are unit tests as a whole.
    found.retain(|source| !source.path.ends_with("tests.rs") && !source.path.contains("/tests/"));
    let tested: Vec<String> = test_modules(&found);
    found.retain(|source| !tested.contains(&source.path));
    assert!(found.len() > 50, "only {} sources", found.len());
    found
}

/// Files that are declared as `#[cfg(test)] mod name;`.
fn test_modules(sources: &[Source]) -> Vec<String> {
    let mut names = Vec::new();
    for source in sources {
        let lines: Vec<&str> = source.code.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let declared = pair[1].trim_start_matches("pub ").strip_prefix("mod ");
            if let Some(name) = declared.and_then(|rest| rest.strip_suffix(';')) {
                let dir = match source
                    .path
                    .strip_suffix("mod.rs")
                    .or(source.path.strip_suffix("lib.rs"))
                {
                    Some(dir) => dir.to_owned(),
                    None => format!("{}/", source.path.trim_end_matches(".rs")),
                };
                names.push(format!("{dir}{name}.rs"));
            }
        }
    }
    names
}

/// The text with comments and the insides of literals blanked out; lines stay lines.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            text[at..].find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_text_length(text, at) {
            length
        } else if rest[0] == b'"' {
            quoted_length(rest, b'"')
        } else if rest[0] == b'\'' && is_character(rest) {
            quoted_length(rest, b'\'')
        } else {
            code.push(rest[0]);
            at += 1;
            continue;
        };
        // A place that is blanked keeps its line breaks.
        code.extend(rest[..length].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
        at += length;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The length of a raw text that begins here.
fn raw_text_length(text: &str, at: usize) -> Option<usize> {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let bytes = text.as_bytes();
    if at > 0 && is_part(&bytes[at - 1]) && bytes[at - 1] != b'b' {
        return None;
    }
    let rest = text[at..].strip_prefix('r')?;
    let marks = rest.len() - rest.trim_start_matches('#').len();
    rest[marks..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    let inside = at + 1 + marks + 1;
    Some(inside - at + text[inside..].find(&end)? + end.len())
}

/// The length of what stands between two of these marks, with them.
fn quoted_length(bytes: &[u8], mark: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != mark {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Whether a single quote begins a character, not a lifetime.
fn is_character(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&b'\\') || {
        let text = String::from_utf8_lossy(&bytes[1..bytes.len().min(6)]);
        text.chars().nth(1) == Some('\'')
    }
}

/// The code without the blocks under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, tested) = rest.split_at(at);
        kept.push_str(before);
        let (semicolon, brace) = (tested.find(';'), tested.find('{'));
        let end = match (semicolon, brace) {
            // A declaration of a module, or an import.
            (Some(semicolon), Some(brace)) if semicolon < brace => None,
            (_, Some(brace)) => Some(brace),
            _ => None,
        };
        let Some(brace) = end else {
            kept.push_str("#[cfg(test)]");
            rest = &tested["#[cfg(test)]".len()..];
            continue;
        };
        let mut depth = 0;
        let mut length = tested.len();
        for (index, byte) in tested.bytes().enumerate().skip(brace) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                length = index + 1;
                break;
            }
        }
        kept.extend(tested[..length].chars().filter(|&c| c == '\n'));
        rest = &tested[length..];
    }
    kept.push_str(rest);
    kept
}

/// The layers of the modules, and whether a layer's modules must not know each other, as `src/lib.rs` says.
fn table() -> BTreeMap<String, (usize, bool)> {
    let text = std::fs::read_to_string(root().join("lib.rs")).expect("the crate has a root");
    let mut layers = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(layer) = cells[0].parse::<usize>().ok() else {
            continue;
        };
        let are_strangers = cells.get(2).is_some_and(|cell| cell.contains("each other"));
        for part in cells[1].split("[`").skip(1) {
            let name = part.split('`').next().expect("a split has a first part");
            layers.insert(name.to_owned(), (layer, are_strangers));
        }
    }
    layers
}

/// The modules of the crate's root that the code names.
fn uses(code: &str) -> Vec<(usize, String)> {
    uses_behind("crate::", code)
}

/// The first names behind a prefix.
fn uses_behind(prefix: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(at) = rest.find(prefix) {
        line += rest[..at].matches('\n').count();
        rest = &rest[at + prefix.len()..];
        // `use crate::{a::b, c}` names the first words between its outermost commas.
        let names: Vec<String> = match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0;
                let end = list.find("};").unwrap_or(list.len());
                let parts = list[..end].split(|c| {
                    depth += (c == '{') as i32 - (c == '}') as i32;
                    c == ',' && depth == 0
                });
                parts.map(first_word).collect()
            }
            None => vec![first_word(rest)],
        };
        found.extend(
            names
                .into_iter()
                .filter(|name| !name.is_empty())
                .map(|name| (line, name)),
        );
    }
    found
}

fn first_word(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let layers = table();
    let mut faults = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        let Some(&(layer, are_strangers)) = layers.get(module) else {
            faults.push(format!(
                "src/{}: the table in lib.rs has no module {module}",
                source.path
            ));
            continue;
        };
        for (line, name) in uses(&source.code) {
            let is_wrong = match layers.get(&name) {
                // Macros and items of the root are nobody's.
                None => false,
                Some(_) if name == module => false,
                Some(&(used, _)) => used > layer || (used == layer && are_strangers),
            };
            if is_wrong {
                faults.push(format!(
                    "src/{}:{line}: {module} (layer {layer}) uses {name}",
                    source.path
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_module_stands_in_the_table_and_the_other_way_round() {
    let text = std::fs::read_to_string(root().join("lib.rs")).expect("the crate has a root");
    let mut declared: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    declared.sort();
    let known: Vec<String> = table().into_keys().collect();
    assert_eq!(declared, known);
}

/// What the engine's files name of each other: a file, or a folder as one.
fn engine_uses() -> BTreeMap<String, Vec<String>> {
    let sources = sources();
    let part_of = |path: &str| {
        let inner = path.strip_prefix("engine/")?;
        let part = inner.split('/').next()?.trim_end_matches(".rs");
        (part != "mod").then(|| part.to_owned())
    };
    let parts: Vec<String> = sources.iter().filter_map(|source| part_of(&source.path)).collect();
    let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in &sources {
        let Some(part) = part_of(&source.path) else { continue };
        let is_alone = !source.path.trim_start_matches("engine/").contains('/');
        let prefixes: &[&str] = match is_alone {
            true => &["super::", "crate::engine::"],
            false => &["crate::engine::"],
        };
        let names = prefixes.iter().flat_map(|prefix| uses_behind(prefix, &source.code));
        let names = names.map(|(_, name)| name).filter(|name| *name != part);
        let entry = used.entry(part.clone()).or_default();
        for name in names {
            // What stands in the face of the engine is no file: it hides which one is meant.
            let is_part = parts.contains(&name);
            assert!(
                is_part || !is_alone,
                "src/{}: {name} is to be named by its file",
                source.path
            );
            if is_part && !entry.contains(&name) {
                entry.push(name);
            }
        }
    }
    used
}

#[test]
fn no_files_of_the_engine_know_each_other_in_a_circle() {
    let mut left = engine_uses();
    assert!(left.len() > 20, "only {} files", left.len());
    // Takes away, again and again, what uses nothing that is left.
    loop {
        let names: Vec<String> = left.keys().cloned().collect();
        let is_free = |used: &Vec<String>| !used.iter().any(|name| names.contains(name));
        let free: Vec<String> = left
            .iter()
            .filter(|(_, used)| is_free(used))
            .map(|(name, _)| name.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|name, _| !free.contains(name));
    }
    assert!(
        left.is_empty(),
        "these know each other in a circle, or know one that does: {left:?}"
    );
}

#[test]
fn the_files_of_the_engine_stand_in_reading_order() {
    let text = std::fs::read_to_string(root().join("engine/mod.rs")).expect("the engine has a face");
    let mut order = Vec::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("//! | `")) {
        let cell = row.split('|').next().expect("a split has a first part");
        order.extend(
            cell.split('`')
                .filter(|name| !name.trim_matches([',', ' ']).is_empty())
                .map(str::to_owned),
        );
    }
    let place = |name: &String| order.iter().position(|other| other == name);
    for (name, used) in engine_uses() {
        let own = place(&name).unwrap_or_else(|| panic!("the table in engine/mod.rs has no {name}"));
        let below: Vec<_> = used
            .iter()
            .filter(|used| place(used).is_none_or(|at| at > own))
            .collect();
        assert!(below.is_empty(), "{name} stands above what it uses: {below:?}");
    }
}

/// A type of which methods stand in more files than that is a name for a folder, and what a method may touch is anybody's guess.
const FILES_OF_A_TYPE_MAX: usize = 5;

#[test]
fn no_type_of_the_engine_is_spread_over_many_files() {
    let mut files: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let is_meant = |source: &Source| source.path.starts_with("engine/");
    for source in sources().into_iter().filter(is_meant) {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut names: Vec<String> = source
            .code
            .lines()
            .filter(|line| line.starts_with("impl") && !line.contains(" for "))
            .map(|line| {
                let rest = &line["impl".len()..];
                // Behind the parameters, if there are any, stands the type's name.
                let depth_ends = |mut depth: i32| {
                    rest.find(|c| {
                        depth += (c == '<') as i32 - (c == '>') as i32;
                        depth == 0
                    })
                };
                let at = if rest.starts_with('<') {
                    depth_ends(0).map_or(0, |end| end + 1)
                } else {
                    0
                };
                first_word(&rest[at..])
            })
            .collect();
        names.sort();
        names.dedup();
        for name in names {
            files
                .entry((folder.to_owned(), name))
                .or_default()
                .push(source.path.clone());
        }
    }
    let local = &files[&("engine".to_owned(), "Local".to_owned())];
    assert!(local.len() > 2, "{local:?}");
    files.retain(|_, files| files.len() > FILES_OF_A_TYPE_MAX);
    assert!(files.is_empty(), "{files:#?}");
}

/// Fails for every place of the words within the places that must not have them.
fn not_in(words: &[&str], forbidden: &[&str], except: &[&str]) {
    let mut faults = Vec::new();
    for source in sources() {
        let is_meant = forbidden.iter().any(|place| source.path.starts_with(place));
        if !is_meant || except.contains(&&*source.path) {
            continue;
        }
        for word in words {
            let lines = source.lines_with(word).into_iter();
            faults.extend(lines.map(|line| format!("src/{}:{line}: {word}", source.path)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn values_and_slots_read_no_clock() {
    let clocks = ["Instant", "SystemTime", "now()", "ticks()", "Clock"];
    not_in(&clocks, &["data/", "data.rs", "store/"], &[]);
}

#[test]
fn what_runs_commands_knows_no_socket() {
    let sockets = [
        "os::fd",
        "OwnedFd",
        "RawFd",
        "TcpStream",
        "TcpListener",
        "UnixStream",
        "crate::net",
    ];
    not_in(&sockets, &["engine/", "command/"], &[]);
}

#[test]
fn the_engine_knows_no_family() {
    not_in(&["FAMILIES", "COMMANDS"], &["engine/"], &[]);
}

#[test]
fn what_clients_are_told_of_errors_stands_in_one_file() {
    let texts = ["ReplyError::Static", "ReplyError::Owned"];
    // Those that no client ever sees: they end a handler that lacks a slot, or goes on in another step.
    let except = ["engine/keyspace.rs", "resp/reply.rs"];
    not_in(&texts, &["engine/", "command/", "client/", "server/"], &except);
}

/// Fails for every place of the words outside the places that may have them.
fn only_in(words: &[&str], allowed: &[&str]) {
    let mut faults = Vec::new();
    for source in sources() {
        if allowed.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for word in words {
            let lines = source.lines_with(word).into_iter();
            faults.extend(lines.map(|line| format!("src/{}:{line}: {word}", source.path)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_executor_and_the_ring_are_named_only_behind_their_seams() {
    only_in(&["glommio", "io_uring::"], &["runtime/", "net/"]);
}

#[test]
fn unsafe_stands_only_where_memory_is_laid_out() {
    only_in(&["unsafe"], UNSAFE_PLACES);
}

/// Rings and their buffers, links between shards, packed values, entries and tables; the memory that the kernel shows as the
/// title of the process; the border to Lua; the handler of faults, and the fault that DEBUG makes; the allocator's configuration.
const UNSAFE_PLACES: &[&str] = &[
    "net/",
    "store/",
    "data/",
    "script/",
    "server/boot.rs",
    "server/title.rs",
    "server/fault.rs",
    "command/server/debug.rs",
    "bin/shardis.rs",
];

#[test]
fn nothing_is_unwrapped_and_nothing_is_left_for_later() {
    only_in(&[".unwrap()", "todo!", "unimplemented!", "dbg!"], &[]);
}

/// One that is not declared is run as a program of tests, which has none.
#[test]
fn every_bench_is_declared() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(package.join("Cargo.toml")).expect("the package has a manifest");
    let benches = std::fs::read_dir(package.join("benches")).expect("there are benches");
    for bench in benches {
        let file = bench.expect("it can be read").path();
        let name = file.file_stem().expect("a file has a name").to_string_lossy();
        let declaration = format!("[[bench]]\nname = \"{name}\"\nharness = false\n");
        assert!(
            manifest.contains(&declaration),
            "benches/{name}.rs is not declared in Cargo.toml"
        );
    }
}

#[test]
fn no_file_outgrows_its_idea() {
    const LINE_COUNT_MAX: usize = 900;
    let long: Vec<String> = sources()
        .iter()
        .map(|source| (source, source.code.lines().count()))
        .filter(|&(_, count)| count > LINE_COUNT_MAX)
        .map(|(source, count)| format!("src/{}: {count} lines", source.path))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// The reader itself: what is code and what is not.
#[test]
fn comments_texts_and_tests_are_no_code() {
    let text = "use crate::a::{b, c}; // crate::x\nlet s = \"crate::y \\\" //\"; let c = '\"'; let l: &'a str = r#\"crate::z \"\"#;\n#[cfg(test)]\nmod tests { fn f() { crate::t(); } }\nuse crate::{d::{e, f}, g};\n";
    let code = without_tests(&code_of(text));
    let names: Vec<String> = uses(&code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["a", "d", "g"]);
    assert_eq!(code.lines().count(), text.lines().count());
    let source = Source {
        path: "x.rs".to_owned(),
        code: "unsafely(); x.unwrap(); y.unwrap_or(1);\nunsafe { }".to_owned(),
    };
    assert_eq!(source.lines_with("unsafe"), [2]);
    assert_eq!(source.lines_with(".unwrap()"), [1]);
}
