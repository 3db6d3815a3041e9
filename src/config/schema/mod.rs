//! Every table and key there is, once: the reader takes types, ranges and defaults from here, the suggestions their spelling,
//! and `docs/configuration.md` its text.

use std::time::Duration;

mod accounts;
mod back;
mod front;

use accounts::{DIRECTORY, KERBEROS, MAPPING};
use back::{BACKEND, ROUTE};
use front::{CLIENT_CERTIFICATES, LISTENER};

/// A table of the file.
#[derive(Debug)]
pub struct Table {
    /// What it is about, for the documentation.
    pub about: &'static str,
    /// Its keys, in the order of the documentation.
    pub keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it may be left out, and what that means.
    pub presence: Presence,
    /// What it does, in a line.
    pub about: &'static str,
}

/// What a key takes.
#[derive(Debug)]
pub enum Kind {
    /// Text of the described form.
    Text(&'static str),
    /// A list of texts of the described form.
    Texts(&'static str),
    /// A file or directory.
    Path,
    /// A list of files.
    Paths,
    /// `true` or `false`.
    Bool,
    /// A duration within these bounds.
    Duration(Duration, Duration),
    /// A number of bytes within these bounds.
    Size(u64, u64),
    /// A number within these bounds.
    Count(u64, u64),
    /// A list of relative identifiers.
    Rids,
    /// One of these words; the second list holds words that a later version will know.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// One table.
    Table(&'static Table),
    /// A list of tables, `[[key]]`.
    Tables(&'static Table),
    /// Tables by a name of the administrator's choice, described by the text.
    Named(&'static str, &'static Table),
    /// Known by name only: of a later version.
    Unknown,
}

/// Whether a key may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It may not.
    Required,
    /// It may, and then this value stands.
    Default(&'static str),
    /// It may, and then this is what happens; or, for a key that some tables need, when it is needed.
    Optional(&'static str),
    /// It may not be written yet: of a later version. The text says what to do until then.
    Later(&'static str),
}

use Kind::{Choice, Named, Path, Tables, Text, Unknown};
use Presence::{Default, Later, Optional, Required};

const fn key(name: &'static str, kind: Kind, presence: Presence, about: &'static str) -> Key {
    Key { name, kind, presence, about }
}

const fn table(name: &'static str, table: &'static Table, presence: Presence) -> Key {
    key(name, Kind::Table(table), presence, table.about)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The whole file.
pub static ROOT: Table = Table {
    about: "",
    keys: &[
        table("listener", &LISTENER, Required),
        table("client_certificates", &CLIENT_CERTIFICATES, Required),
        table("kerberos", &KERBEROS, Required),
        key("mapping", Tables(&MAPPING), Required, MAPPING.about),
        key("backend", Tables(&BACKEND), Required, BACKEND.about),
        key("route", Tables(&ROUTE), Required, ROUTE.about),
        table("server", &SERVER, Optional("its defaults")),
        table("audit", &AUDIT, Optional("its defaults")),
        table("log", &LOG, Optional("its defaults")),
        table("directory", &DIRECTORY, Optional("no LDAP at all: the upn-with-sid and static rules need none")),
        table("metrics", &METRICS, Optional("no metrics are written")),
        key("admin", Unknown, Later("leave it out: [metrics], the log and the audit events say what happens"), "status page"),
    ],
};

static METRICS: Table = Table {
    about: "Figures for Prometheus, as a file for the node exporter's textfile collector.",
    keys: &[
        key("file", Path, Required, "file that is written anew each time, in its directory"),
        key("interval", Kind::Duration(ms(1000), hours(1)), Default("15s"), "how often"),
    ],
};

static SERVER: Table = Table {
    about: "The process itself.",
    keys: &[key(
        "runtime_directory",
        Path,
        Default("/run/kcd-bridge"),
        "private directory (0700, ours) for the generated krb5.conf",
    )],
};

static AUDIT: Table = Table {
    about: "One JSON line per request, per refused handshake, and per connection that is no longer let in.",
    keys: &[key("file", Path, Optional("standard output"), "file the lines are appended to, created 0600")],
};

static LOG: Table = Table {
    about: "What the bridge says about itself.",
    keys: &[
        key("format", Choice(&["text", "json"], &[]), Default("text"), "how a line of the log looks"),
        key(
            "level",
            Text("level or filter"),
            Default("info"),
            "`error`, `warn`, `info`, `debug`, `trace`, or a filter: `info,kcd_bridge::proxy=debug`",
        ),
    ],
};

/// Defaults that a profile sets in place of the table's own: profile, key, value.
pub static PROFILE_DEFAULTS: &[(&str, &str, &str)] = &[("iis", "response_timeout", "5m")];

impl Table {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    /// The table or tables this key holds.
    pub fn table(&self) -> Option<&'static Table> {
        match self.kind {
            Kind::Table(table) | Tables(table) | Named(_, table) => Some(table),
            _ => None,
        }
    }

    /// How the key stands in the path of the keys below it: `backend[]`, `kerberos.realms."REALM"`.
    fn segment(&self) -> String {
        match self.kind {
            Tables(_) => format!("{}[]", self.name),
            Named(example, _) => format!("{}.\"{example}\"", self.name),
            _ => self.name.to_owned(),
        }
    }
}

/// Every table with its path (`""`, `listener`, `backend[]`, `kerberos.realms."REALM"`), parents first.
pub fn tables() -> Vec<(String, &'static Table)> {
    fn below(path: &str, table: &'static Table, all: &mut Vec<(String, &'static Table)>) {
        all.push((path.to_owned(), table));
        for key in table.keys {
            if let Some(inner) = key.table() {
                below(&join(path, &key.segment()), inner, all);
            }
        }
    }
    let mut all = Vec::new();
    below("", &ROOT, &mut all);
    all
}

/// Every key that can be written in this version, with its path; tables are not keys.
pub fn keys() -> Vec<(String, &'static Key)> {
    let values = |(path, table): (String, &'static Table)| {
        let here = table.keys.iter().filter(|key| key.table().is_none() && !matches!(key.presence, Later(_)));
        here.map(move |key| (join(&path, key.name), key)).collect::<Vec<_>>()
    };
    tables().into_iter().flat_map(values).collect()
}

/// A path and one more segment.
pub(super) fn join(path: &str, segment: &str) -> String {
    if path.is_empty() { segment.to_owned() } else { format!("{path}.{segment}") }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_of_a_table_is_named_once_and_explained() {
        for (path, table) in tables() {
            let names: HashSet<_> = table.keys.iter().map(|key| key.name).collect();
            assert_eq!(names.len(), table.keys.len(), "{path}");
            assert!(table.keys.iter().all(|key| !key.about.is_empty()), "{path}");
        }
    }

    #[test]
    fn a_profile_sets_only_keys_and_profiles_that_exist() {
        let Choice(profiles, _) = BACKEND.key("profile").unwrap().kind else { panic!("profile is a choice") };
        for (profile, key, _) in PROFILE_DEFAULTS {
            assert!(profiles.contains(profile) && BACKEND.key(key).is_some(), "{profile} {key}");
        }
    }
}
