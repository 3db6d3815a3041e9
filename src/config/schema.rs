//! Every table and key there is, once: the reader takes types, ranges and defaults from here, the suggestions their spelling,
//! and `docs/configuration.md` its text.

use std::time::Duration;

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

use Kind::{Bool, Choice, Count, Named, Path, Paths, Rids, Size, Tables, Text, Texts, Unknown};
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
        key("directory", Unknown, Later("leave it out: the upn-with-sid and static rules need no LDAP"), "LDAP lookups"),
        key("admin", Unknown, Later("leave it out: the log and the audit events say what happens"), "status page and metrics"),
    ],
};

static LISTENER: Table = Table {
    about: "Where devices connect, and the limits they are held to.",
    keys: &[
        key("address", Text("address:port"), Required, "address and port devices connect to"),
        key("certificate", Path, Required, "PEM file: the server's certificate, then its intermediates"),
        key("key", Path, Required, "PEM file: the private key of that certificate"),
        key("handshake_timeout", Kind::Duration(ms(100), hours(1)), Default("10s"), "time for a TLS handshake"),
        key(
            "header_timeout",
            Kind::Duration(ms(100), hours(1)),
            Default("30s"),
            "time for a request's headers once its first byte came",
        ),
        key("idle_timeout", Kind::Duration(ms(100), hours(24)), Default("120s"), "time between two requests on a connection"),
        key("max_connections", Count(1, 1_000_000), Default("16384"), "devices connected at a time"),
        key("max_header_bytes", Size(4 * KIB, 256 * KIB), Default("64KiB"), "request line and headers of one request"),
        key("drain_timeout", Kind::Duration(ms(0), hours(1)), Default("10s"), "how long a stop waits for requests in flight"),
        key(
            "proxy_protocol",
            Unknown,
            Later("leave it out, and let the balancer pass TCP through unchanged"),
            "client addresses from a balancer",
        ),
    ],
};

static CLIENT_CERTIFICATES: Table = Table {
    about: "Which client certificates are let in.",
    keys: &[
        key("trust_anchors", Paths, Required, "PEM files: the CAs that devices' certificates must chain to"),
        key("intermediates", Paths, Default("[]"), "PEM files: issuing CAs, for devices that send only their own certificate"),
        table("revocation", &REVOCATION, Required),
    ],
};

static REVOCATION: Table = Table {
    about: "How revoked certificates are found. It has to be said, and it fails closed.",
    keys: &[
        key(
            "policy",
            Choice(&["require", "off"], &["prefer"]),
            Required,
            "`require`: every certificate of the chain needs a current CRL; `off`: revoked certificates are let in (weak)",
        ),
        key("crl_files", Paths, Optional("required by policy `require`"), "CRL files, PEM or DER"),
        key("crl_directories", Unknown, Later("name the files in crl_files"), "directories of CRL files"),
        key("ocsp", Unknown, Later("use crl_files"), "online revocation checks"),
    ],
};

static KERBEROS: Table = Table {
    about: "The delegating account, its domain controllers and how tickets are kept.",
    keys: &[
        key("principal", Text("name@REALM"), Required, "the delegating account, realm in upper case"),
        key("keytab", Path, Required, "file with that account's keys"),
        key(
            "kdcs",
            Texts("host or host:port"),
            Optional("found by DNS SRV"),
            "domain controllers of our own realm, tried in this order",
        ),
        key("realms", Named("REALM", &REALM), Optional("our own realm only"), REALM.about),
        key(
            "engine",
            Choice(&["native", "gssapi"], &[]),
            Default("native"),
            "who makes the tokens; `gssapi` is slower and for comparison",
        ),
        key("workers", Count(1, 256), Default("4"), "ticket acquisitions at a time"),
        key("queue", Count(1, 1_000_000), Default("1024"), "ticket acquisitions waiting at most"),
        key("acquire_timeout", Kind::Duration(ms(100), hours(1)), Default("5s"), "time for both tickets of one user"),
        key("kdc_timeout", Kind::Duration(ms(50), hours(1)), Default("2s"), "time for one exchange with one KDC"),
        key(
            "soft_age",
            Kind::Duration(ms(1000), hours(10)),
            Default("15m"),
            "after it the KDC is asked again whether an active user may still be delegated",
        ),
        key(
            "max_ride_through",
            Kind::Duration(ms(0), hours(24 * 7)),
            Default("4h"),
            "how long past `soft_age` a ticket serves while no KDC answers; `0s`: not at all",
        ),
        key("clock_skew", Kind::Duration(ms(0), hours(1)), Default("5m"), "taken off the end of every ticket"),
        key("cache_bytes", Size(MIB, 1024 * GIB), Default("256MiB"), "tickets kept at most"),
        key("denied_groups", Rids, Default("512, 516, 518, 519, 521"), "RIDs of groups whose members are never delegated"),
        key("denied_accounts", Rids, Default("500"), "RIDs of accounts never delegated; krbtgt (502) never is"),
    ],
};

static REALM: Table = Table {
    about: "Other realms on a trust path, named in upper case and quotes.",
    keys: &[key(
        "kdcs",
        Texts("host or host:port"),
        Optional("found by DNS SRV"),
        "that realm's domain controllers, tried in this order",
    )],
};

static MAPPING: Table = Table {
    about: "How a certificate becomes exactly one account. Every rule may stand once; rules that disagree about a certificate refuse it.",
    keys: &[
        key(
            "rule",
            Choice(&["upn-with-sid", "static", "upn"], &["ldap", "alt-security-identities"]),
            Required,
            "`upn-with-sid`: the UPN, proved by the certificate's SID; `static`: rows of this file; `upn`: the UPN alone (weak)",
        ),
        key(
            "san_uri_sid_issuers",
            Paths,
            Optional("none; rule `upn-with-sid` only"),
            "PEM files of issuing CAs whose SIDs in a SAN URI are believed",
        ),
        key("entry", Tables(&ENTRY), Optional("required by rule `static`"), ENTRY.about),
        key("issuer", Tables(&ISSUER), Optional("required by rule `upn`"), ISSUER.about),
    ],
};

static ENTRY: Table = Table {
    about: "One certificate of the `static` rule and the account it stands for.",
    keys: &[
        key("certificate_sha256", Text("64 hexadecimal digits"), Required, "SHA-256 of the certificate, with or without colons"),
        key("principal", Text("name@REALM"), Optional("`upn` instead"), "the account, by its sAMAccountName"),
        key("upn", Text("name@suffix"), Optional("`principal` instead"), "the account, by its user principal name"),
        key(
            "sid",
            Text("S-1-5-21-..."),
            Optional("`pin` instead"),
            "the account's SID, compared with the KDC's word before first use",
        ),
        key(
            "pin",
            Choice(&["first-use"], &[]),
            Optional("`sid` instead"),
            "`first-use`: whatever SID the KDC names first, until a restart (weak)",
        ),
    ],
};

static ISSUER: Table = Table {
    about: "One CA of the weak `upn` rule and the names it may speak for.",
    keys: &[
        key("certificate", Path, Required, "PEM file: the issuing CA"),
        key("allowed_suffixes", Texts("domain name"), Required, "UPN suffixes its certificates may name"),
    ],
};

static BACKEND: Table = Table {
    about: "A server that accepts only Negotiate.",
    keys: &[
        key("name", Text("letters, digits, `.`, `-`, `_`"), Required, "its name in routes, log and audit"),
        key("url", Text("scheme://host or scheme://host:port"), Required, "where it is reached; requests keep their own path"),
        key(
            "spn",
            Text("service/host"),
            Required,
            "its service principal name: written here, never derived from DNS or a request",
        ),
        key(
            "profile",
            Choice(&["generic", "iis", "exchange-2003", "exchange-2007", "exchange-2010"], &[]),
            Default("generic"),
            "which server's habits to expect; sets defaults only, see below",
        ),
        key(
            "transport",
            Choice(&["tls", "http"], &["legacy-tls"]),
            Default("tls"),
            "`tls`: TLS 1.2 or 1.3, verified; `http`: in the clear (weak), must be said even with an http url",
        ),
        key(
            "trust_anchors",
            Paths,
            Optional("required by transport `tls`"),
            "PEM files: the CAs the back end's certificate must chain to",
        ),
        key("host", Text("host or host:port"), Optional("host and port of `url`"), "what the Host header says"),
        key(
            "channel_binding",
            Choice(&["auto", "off"], &["a certificate file"]),
            Optional("`auto` with transport `tls`, else `off`"),
            "`auto`: tokens are bound to the TLS session; `off` behind something that ends TLS in front of the server",
        ),
        key("allow_rc4", Bool, Default("false"), "let tickets and session keys be RC4 (weak): Windows 2003 knows nothing better"),
        key(
            "token",
            Choice(&["spnego", "spnego-microsoft", "kerberos"], &[]),
            Default("spnego"),
            "how the AP-REQ is wrapped: SPNEGO, SPNEGO with Microsoft's Kerberos OID first, or not at all",
        ),
        key(
            "mutual",
            Choice(&["required", "tolerate-absence"], &[]),
            Default("required"),
            "whether a successful answer must prove the server; `tolerate-absence` (weak) still refuses a wrong proof",
        ),
        key(
            "identity_bound",
            Bool,
            Default("false"),
            "the server authenticates the connection, so only the first answer on it carries a proof",
        ),
        key("connect_timeout", Kind::Duration(ms(100), hours(1)), Default("5s"), "time to connect"),
        key(
            "response_timeout",
            Kind::Duration(ms(100), hours(24)),
            Default("1h"),
            "time until the answer's headers; ActiveSync holds a Ping for up to 59 minutes",
        ),
        key(
            "idle_timeout",
            Kind::Duration(ms(100), hours(24)),
            Default("60s"),
            "kept connections are closed after it; IIS closes at 120 s",
        ),
        key("max_idle_per_principal", Count(0, 1024), Default("4"), "connections kept for one user"),
        key(
            "max_connections_per_principal",
            Count(1, 1_000_000),
            Default("32"),
            "connections of one user at a time, kept ones included; a waiting Ping holds one",
        ),
        key("max_connections", Count(1, 1_000_000), Default("4096"), "connections to this back end"),
        key("max_body_bytes", Size(1, 1024 * GIB), Default("30MiB"), "size of one request's body"),
        key(
            "replay_buffer_bytes",
            Size(0, GIB),
            Default("1MiB"),
            "how much of a body is kept to send it again after a first 401 (IIS 7 refuses the first request by design)",
        ),
    ],
};

static ROUTE: Table = Table {
    about: "Which requests go to which back end: longest path first, then routes with a host before routes without.",
    keys: &[
        key("host", Text("host"), Optional("any host"), "exact host of the request, without port"),
        key("path", Text("/path"), Required, "the path itself and everything below it, letter case ignored as IIS does"),
        key("backend", Text("name"), Required, "the back end's name"),
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
    about: "One JSON line per request and per refused handshake.",
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
