//! Where devices connect, and which certificates are let in.

use super::Kind::{Bool, Choice, Count, Path, Paths, Size, Tables, Text, Texts, Unknown};
use super::Presence::{Default, Later, Optional, Required};
use super::{GIB, KIB, Kind, Table, hours, key, ms, table};

pub(super) static LISTENER: Table = Table {
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

pub(super) static CLIENT_CERTIFICATES: Table = Table {
    about: "Which client certificates are let in.",
    keys: &[
        key("trust_anchors", Paths, Required, "PEM files: the CAs that devices' certificates must chain to"),
        key("intermediates", Paths, Default("[]"), "PEM files: issuing CAs, for devices that send only their own certificate"),
        key(
            "issuing_cas",
            Paths,
            Default("[]"),
            "PEM files: the only CAs, by their keys, that may have issued a device's certificate; empty: any below the trust anchors",
        ),
        key(
            "nt_auth",
            Choice(&["off", "directory"], &[]),
            Default("off"),
            "`directory`: the issuing CA must be in the forest's NTAuth store, as Windows asks of certificates for logon; read by [directory]",
        ),
        key("nt_auth_files", Paths, Optional("none"), "PEM files: the same without a directory, the CAs of the NTAuth store"),
        key("send_ca_names", Bool, Default("true"), "name the accepted CAs to devices, so that they offer the right certificate"),
        key(
            "recheck_interval",
            Kind::Duration(ms(1000), hours(1)),
            Default("60s"),
            "how often the certificate of an open connection is judged again, also while a request waits for its answer",
        ),
        key(
            "expiry_forecast",
            Kind::Duration(hours(24), hours(24 * 366)),
            Default("720h"),
            "certificates in use that end within it are reported, once a day and by the metrics",
        ),
        key("issuer", Tables(&TRUSTED_ISSUER), Optional("every CA by the defaults"), TRUSTED_ISSUER.about),
        table("revocation", &REVOCATION, Required),
    ],
};

static TRUSTED_ISSUER: Table = Table {
    about: "Rules for the certificates below one CA; of several CAs on a path with rules, those of the one nearest to the device's \
            certificate hold. Where a CA is certified by several others a device chooses the path: only the entry of the issuing CA itself \
            holds on each.",
    keys: &[
        key("certificate", Path, Required, "PEM file: the CA, a trust anchor or one below it"),
        key(
            "usages",
            Texts("`client-auth`, `smart-card-logon`, `kp-client-auth`, `any`, `none`"),
            Optional("`client-auth`"),
            "extended key usages, one of which a certificate must have; `any` (weak): anyExtendedKeyUsage; `none` (weak): no such extension",
        ),
        key("templates", Texts("template OID or name"), Optional("any"), "AD CS templates its certificates must be issued from"),
        key("policies", Texts("OID"), Optional("any, or none"), "certificate policies, one of which must be asserted"),
        key(
            "revocation",
            Choice(&["require", "prefer", "off"], &[]),
            Optional("`revocation.policy`"),
            "the revocation policy for its certificates",
        ),
    ],
};

static REVOCATION: Table = Table {
    about: "How revoked certificates are found. It has to be said, and it fails closed.",
    keys: &[
        key(
            "policy",
            Choice(&["require", "prefer", "off"], &[]),
            Required,
            "`require`: something must vouch for every certificate of the chain; `prefer` (weak): it is let in where nothing says \
             whether it is revoked; `off` (weak): nobody is asked",
        ),
        key("crl_files", Paths, Optional("none"), "CRL files, PEM or DER, base and delta; read again when they change"),
        key("crl_directories", Paths, Optional("none"), "directories of such files"),
        key("scan_interval", Kind::Duration(ms(100), hours(1)), Default("10s"), "how often files and directories are looked at"),
        key(
            "distribution_points",
            Texts("URL prefix: http://host/path/, https://host/path/ or ldap:///"),
            Optional("none"),
            "URLs in certificates from which CRLs may be fetched; `ldap:///` asks the servers of [directory]",
        ),
        key("fetch_trust_anchors", Paths, Optional("none"), "PEM files: the CAs of https distribution points"),
        key("fetch_timeout", Kind::Duration(ms(100), hours(1)), Default("10s"), "time for one CRL"),
        key("max_crl_bytes", Size(KIB, GIB), Default("64MiB"), "size of one CRL"),
        key(
            "grace",
            Kind::Duration(ms(0), hours(24 * 31)),
            Default("0s"),
            "how long past its nextUpdate a CRL is still believed (weak unless `0s`)",
        ),
        key(
            "order",
            Choice(&["ocsp-first", "crl-first"], &[]),
            Default("ocsp-first"),
            "what is asked first where both are configured; the other one is asked where the first does not know",
        ),
        table("ocsp", &OCSP, Optional("no responder is asked")),
    ],
};

static OCSP: Table = Table {
    about: "Online revocation checks (RFC 6960).",
    keys: &[
        key(
            "responders",
            Texts("URL prefix: http://host/path/"),
            Optional("none"),
            "responders named in certificates that may be asked",
        ),
        key("url", Text("http://host/path"), Optional("what certificates name"), "the responder for every certificate"),
        key("timeout", Kind::Duration(ms(100), hours(1)), Default("3s"), "time for one answer"),
        key("nonce", Bool, Default("false"), "send a nonce; an answer with another one is refused, one without is not"),
        key(
            "max_age",
            Kind::Duration(ms(1000), hours(24)),
            Default("1h"),
            "how long a good answer is believed at most; a revocation stays until nextUpdate at least",
        ),
    ],
};
