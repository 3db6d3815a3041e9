//! The rules of docs/architecture.md as tests: which room may use which, where unsafe and C libraries live, how long things get.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rooms from the ground up. A room may use its own floor's rooms only where that is written, and everything below.
const FLOORS: &[&[&str]] = &[
    &["der", "secret", "failure", "files", "dns"],
    &["naming"],
    &["certificate", "shutdown"],
    &["directory"],
    &["revocation"],
    &["tls"],
    &["x509"],
    &["identity"],
    &["policy"],
    &["kerberos"],
    &["audit", "roster"],
    &["proxy"],
    &["config"],
    &["cli"],
];

/// Lines of a file without its tests, and of one function.
const FILE_LIMIT: usize = 450;
const FUNCTION_LIMIT: usize = 80;

struct Source {
    path: String,
    /// without what is compiled for tests only and without comments
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let is_test = |path: &str| {
        path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("testkit") || path.contains("test_")
    };
    let relative = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let all = files.iter().map(|path| (relative(path), read(path)));
    all.filter(|(path, _)| !is_test(&format!("/{path}"))).map(|(path, text)| Source { code: code_of(&text), path }).collect()
}

/// Drops comments and every item behind `#[cfg(test)]`: a declaration alone, a block with all of its lines.
fn code_of(text: &str) -> String {
    let mut code = Vec::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code.push(line);
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#[")).unwrap_or_default();
        if item.trim_end().ends_with('{') {
            // rustfmt puts the closing brace below the first letter of the item.
            lines.by_ref().find(|line| line.trim_start().starts_with('}') && line.len() - line.trim_start().len() == indent);
        }
    }
    code.join("\n")
}

#[test]
fn the_code_of_a_file_goes_on_behind_its_tests() {
    let text = "use a;\n#[cfg(test)]\nmod tests;\n// why\nfn b() {}\n#[cfg(test)]\npub(crate) mod kit {\n    fn c() {\n    }\n}\nfn d() {}\n";
    assert_eq!(code_of(text), "use a;\nfn b() {}\nfn d() {}");
}

fn room_of(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap()
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

#[test]
fn every_room_uses_only_rooms_below_it() {
    let mut wrong = Vec::new();
    for source in sources() {
        let room = room_of(&source.path);
        if matches!(room, "lib" | "main") {
            continue;
        }
        let own = floor_of(room).unwrap_or_else(|| panic!("{room} has no floor: add it to FLOORS and docs/architecture.md"));
        for (at, _) in source.code.match_indices("crate::") {
            let used: String = source.code[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            match floor_of(&used) {
                Some(floor) if floor < own || used == room => {}
                Some(floor) if floor == own && own == 0 => {}
                Some(_) => wrong.push(format!("{} uses crate::{used}", source.path)),
                None => wrong.push(format!("{} uses crate::{used}, which is no room", source.path)),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_in_one_file() {
    let found: Vec<_> =
        sources().into_iter().filter(|source| source.code.contains("unsafe ")).map(|source| source.path).collect();
    assert_eq!(found, ["kerberos/acquire/gss/ffi.rs"]);
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kerberos/acquire/gss/ffi.rs")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let blocks = lines.iter().enumerate().filter(|(_, line)| line.contains("unsafe {") && !line.trim_start().starts_with("//"));
    for (number, _) in blocks {
        let before = &lines[number.saturating_sub(4)..number];
        assert!(before.iter().any(|line| line.contains("SAFETY:")), "line {}", number + 1);
    }
}

/// Library, and the only places that may name it.
#[test]
fn libraries_are_named_only_behind_their_doors() {
    let doors: BTreeMap<&str, &[&str]> = [
        ("libgssapi", &["kerberos/acquire/gss/"][..]),
        ("x509_parser", &["certificate/", "x509/", "tls/", "cli/check", "proxy/"]),
        ("hickory_resolver", &["dns/"]),
        ("clap", &["cli/"]),
        ("moka", &["kerberos/", "identity/", "revocation/"]),
        ("ldap3", &["directory/"]),
        ("tracing_subscriber", &["cli/", "config/build/"]),
    ]
    .into();
    for source in sources() {
        for (library, places) in &doors {
            let named = source.code.contains(&format!("{library}::")) || source.code.contains(&format!("use {library}"));
            let allowed = places.iter().any(|place| source.path.starts_with(place));
            assert!(!named || allowed, "{} names {library}", source.path);
        }
    }
}

#[test]
fn only_the_command_line_prints() {
    for source in sources() {
        let prints = ["println!", "print!", "stdout()", "stderr()"].iter().any(|word| source.code.contains(word));
        let allowed = source.path.starts_with("cli/") || source.path == "audit/log.rs";
        assert!(!prints || allowed, "{} prints", source.path);
    }
}

#[test]
fn a_principal_without_a_certificate_is_made_only_for_diagnosis_self_tests_and_canaries() {
    for source in sources() {
        let made = source.code.contains("Principal::for_diagnosis");
        let allowed = source.path.starts_with("cli/doctor") || source.path.starts_with("identity/");
        assert!(!made || allowed, "{} makes a principal without a certificate", source.path);
        let probes = source.code.contains("Principal::for_self_test");
        assert!(!probes || source.path == "proxy/self_test.rs", "{} makes a probe of a self-test", source.path);
        let canary = source.code.contains("Principal::for_canary");
        assert!(!canary || source.path == "kerberos/canary.rs", "{} makes a canary", source.path);
    }
}

#[test]
fn certificates_that_were_not_admitted_are_mapped_only_to_explain_them() {
    for source in sources() {
        let allowed = source.path.starts_with("cli/explain") || source.path.starts_with("identity/");
        assert!(!source.code.contains(".rehearse(") || allowed, "{} maps without admission", source.path);
    }
}

#[test]
fn files_and_functions_stay_short() {
    let mut long = Vec::new();
    for source in sources() {
        let lines = source.code.lines().count();
        if lines > FILE_LIMIT {
            long.push(format!("{}: {lines} lines", source.path));
        }
        let mut start = None;
        for (number, line) in source.code.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let opens = line.trim_start().split(' ').take(4).any(|word| word == "fn") && !line.trim_end().ends_with(';');
            match start {
                None if opens => start = Some((number, indent)),
                Some((first, depth)) if line.trim() == "}" && indent == depth => {
                    if number - first > FUNCTION_LIMIT {
                        long.push(format!("{} line {}: a function of {} lines", source.path, first + 1, number - first));
                    }
                    start = None;
                }
                _ => {}
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}
