//! The servers behind, and which requests go where.

use super::Kind::{Bool, Choice, Count, Paths, Size, Text, Texts};
use super::Presence::{Default, Optional, Required};
use super::{GIB, Kind, Table, hours, key, ms, table};

pub(super) static BACKEND: Table = Table {
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
        key("max_idle_per_principal", Count(0, 1024), Default("4"), "connections kept for one certificate of a user"),
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
        table("self_test", &SELF_TEST, Optional("devices are served without it")),
    ],
};

static SELF_TEST: Table = Table {
    about: "Proves that the back end keeps users apart: at start and at SIGHUP. Devices get 503 until it did.",
    keys: &[
        key(
            "users",
            Texts("user@suffix or account@REALM"),
            Required,
            "two accounts that nobody works with; the name of none is part of the other's",
        ),
        key(
            "path",
            Text("/path"),
            Required,
            "a page of this back end, by one of its routes, that names the user who asks for it",
        ),
    ],
};

pub(super) static ROUTE: Table = Table {
    about: "Which requests go to which back end: longest path first, then routes with a host before routes without.",
    keys: &[
        key("host", Text("host"), Optional("any host"), "exact host of the request, without port"),
        key("path", Text("/path"), Required, "the path itself and everything below it, letter case ignored as IIS does"),
        key("backend", Text("name"), Required, "the back end's name"),
    ],
};
