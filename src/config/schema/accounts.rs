//! Whom certificates stand for, and who says so.

use super::Kind::{Bool, Choice, Count, Named, Path, Paths, Rids, Size, Tables, Text, Texts};
use super::Presence::{Default, Optional, Required};
use super::{GIB, Kind, MIB, Table, hours, key, ms, table};

pub(super) static KERBEROS: Table = Table {
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
        key("workers", Count(1, 256), Default("8"), "ticket acquisitions at a time, of all realms together"),
        key("max_concurrent", Count(1, 256), Optional("`workers`"), MAX_CONCURRENT),
        key("max_rate", Count(1, 1_000_000), Optional("as fast as its KDCs answer"), MAX_RATE),
        key("canary", Text("user@suffix or account@REALM"), Optional("none"), CANARY),
        key("canary_interval", Kind::Duration(ms(1000), hours(24)), Default("5m"), CANARY_INTERVAL),
        key("queue", Count(1, 1_000_000), Default("65536"), "ticket acquisitions waiting at most"),
        key(
            "acquire_timeout",
            Kind::Duration(ms(100), hours(1)),
            Default("5s"),
            "time for both tickets of one user, all exchanges with KDCs together",
        ),
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
        key(
            "clock_skew",
            Kind::Duration(ms(0), hours(1)),
            Default("5m"),
            "taken off the end of every ticket; a KDC's clock that is off by a fifth of it is reported",
        ),
        key("cache_bytes", Size(MIB, 1024 * GIB), Default("512MiB"), "tickets kept at most"),
        key(
            "denied_groups",
            Rids,
            Default("512, 516, 518, 519, 521, 525"),
            "RIDs of groups whose members are never delegated; 525 is Protected Users",
        ),
        key("denied_accounts", Rids, Default("500"), "RIDs of accounts never delegated; krbtgt (502) never is"),
    ],
};

const MAX_CONCURRENT: &str = "ticket acquisitions at a time for users of this realm";
const MAX_RATE: &str = "ticket acquisitions a second for users of this realm";

const CANARY: &str = "an account of this realm that nobody works with, asked for by way of each of its KDCs in turn";
const CANARY_INTERVAL: &str = "from one such round to the next";

static REALM: Table = Table {
    about: "Other realms on a trust path, named in upper case and quotes.",
    keys: &[
        key(
            "kdcs",
            Texts("host or host:port"),
            Optional("found by DNS SRV"),
            "that realm's domain controllers, tried in this order",
        ),
        key("max_concurrent", Count(1, 256), Optional("half of `workers`"), MAX_CONCURRENT),
        key("max_rate", Count(1, 1_000_000), Optional("as fast as its KDCs answer"), MAX_RATE),
        key("canary", Text("user@suffix or account@REALM"), Optional("none"), CANARY),
        key("canary_interval", Kind::Duration(ms(1000), hours(24)), Default("5m"), CANARY_INTERVAL),
    ],
};

pub(super) static DIRECTORY: Table = Table {
    about: "Active Directory by LDAP, always over TLS: for the rules that look accounts up, for the state of accounts, and for CRLs and \
            the NTAuth store.",
    keys: &[
        key(
            "servers",
            Texts("ldaps://host, ldap://host (StartTLS), or dns:domain"),
            Required,
            "domain controllers, tried in this order; or one dns:corp.example, for those that DNS SRV names",
        ),
        key("trust_anchors", Paths, Required, "PEM files: the CAs that the servers' certificates must chain to"),
        key(
            "bind_user",
            Text("user principal name or distinguished name"),
            Required,
            "account for the simple bind; it needs to read only",
        ),
        key("bind_password_file", Path, Required, "file whose first line is its password; read again when it is refused"),
        key("base", Text("distinguished name"), Optional("the server's default naming context"), "where accounts are searched"),
        key(
            "global_catalog",
            Bool,
            Default("true"),
            "search the whole forest, so that an account is unique in it; then read it again from a domain controller",
        ),
        key("connections", Count(1, 64), Default("4"), "connections to one server at most"),
        key("connect_timeout", Kind::Duration(ms(100), hours(1)), Default("3s"), "time to connect and bind"),
        key("operation_timeout", Kind::Duration(ms(100), hours(1)), Default("3s"), "time for one question to one server"),
        key(
            "cache_ttl",
            Kind::Duration(ms(1000), ms(300_000)),
            Default("120s"),
            "how long an account is believed; then the next request asks again: a disabled account is refused after it at the latest",
        ),
        key("negative_ttl", Kind::Duration(ms(0), ms(30_000)), Default("30s"), "how long a refusal is remembered"),
        key(
            "max_ride_through",
            Kind::Duration(ms(0), hours(24 * 7)),
            Default("4h"),
            "how long past `cache_ttl` an account is believed while no server answers; `0s`: not at all",
        ),
        key("deny_expired_passwords", Bool, Default("false"), "refuse accounts whose password has expired or must be changed"),
        key("enforce_logon_hours", Bool, Default("false"), "refuse accounts outside their logon hours"),
        key("deny_admin_count", Bool, Default("false"), "refuse accounts that AdminSDHolder protects or once did (adminCount 1)"),
        key("denied_accounts", Texts("SID, or RID in quotes"), Optional("none"), "accounts that are refused"),
        key(
            "denied_groups",
            Texts("SID, or RID in quotes"),
            Optional("none"),
            "groups whose members, nested ones too, are refused",
        ),
        key(
            "required_groups",
            Texts("SID, or RID in quotes"),
            Optional("none required"),
            "groups in one of which an account must be",
        ),
        key(
            "backdating",
            Kind::Duration(ms(0), hours(24 * 366 * 50)),
            Default("10m"),
            "how much older than its account a weakly mapped certificate may be",
        ),
    ],
};

pub(super) static MAPPING: Table = Table {
    about: "How a certificate becomes exactly one account. Every rule whose `match` fits is asked, and those that find an account must \
            agree; the strongest speaks, of equally strong ones the first.",
    keys: &[
        key(
            "rule",
            Choice(
                &[
                    "upn-with-sid",
                    "sid",
                    "alt-security-identities",
                    "user-certificate",
                    "static",
                    "strong-name-match",
                    "upn",
                    "rfc822",
                    "subject-cn",
                    "issuer-subject",
                    "subject",
                    "dns-name",
                ],
                &[],
            ),
            Required,
            "strong: `upn-with-sid`: the UPN, proved by the certificate's SID; `sid`: the SID alone, looked up; \
             `alt-security-identities`: what an administrator wrote there; `user-certificate`: the account's userCertificate; \
             `static`: rows of this file; `strong-name-match`: names that Windows' own policy calls strong. \
             Weak, each for named issuers only: `upn`, `rfc822`, `subject-cn`, `issuer-subject`, `subject`, and `dns-name` for computers",
        ),
        table("match", &MATCH, Optional("every certificate")),
        key(
            "san_uri_sid_issuers",
            Paths,
            Optional("none; rules `upn-with-sid` and `sid` only"),
            "PEM files of issuing CAs whose SIDs in a SAN URI are believed",
        ),
        key(
            "forms",
            Texts("`issuer-serial`, `subject-key-identifier`, `sha1-public-key`, `issuer-sid`"),
            Optional("all of them; rule `alt-security-identities` only"),
            "which forms of altSecurityIdentities are looked for",
        ),
        key(
            "policy_file",
            Path,
            Optional("required by rule `strong-name-match`"),
            "the policy, a line an issuer, as in Windows' group policy",
        ),
        key(
            "policy_issuers",
            Paths,
            Optional("required by rule `strong-name-match`"),
            "PEM files: the CAs that the policy names by thumbprint",
        ),
        key("entry", Tables(&ENTRY), Optional("required by rule `static`"), ENTRY.about),
        key("issuer", Tables(&ISSUER), Optional("required by weak rules"), ISSUER.about),
    ],
};

static MATCH: Table = Table {
    about: "Which certificates a rule is for. Of each list one must fit, of the lists all.",
    keys: &[
        key("issuers", Paths, Optional("any"), "PEM files: issuing CAs, by their keys"),
        key("usages", Texts("OID"), Optional("any"), "extended key usages"),
        key(
            "key_usages",
            Texts("`digital-signature`, `non-repudiation`, `key-encipherment`, `data-encipherment`, `key-agreement`"),
            Optional("any"),
            "key usages",
        ),
        key("templates", Texts("template OID or name"), Optional("any"), "AD CS templates"),
        key("policies", Texts("OID"), Optional("any"), "certificate policies"),
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
    about: "One CA of a weak rule and the names it may speak for.",
    keys: &[
        key("certificate", Path, Required, "PEM file: the issuing CA"),
        key(
            "allowed_suffixes",
            Texts("domain name"),
            Required,
            "what its certificates may speak for: UPN suffixes, mail domains, or DNS domains of the accounts",
        ),
    ],
};
