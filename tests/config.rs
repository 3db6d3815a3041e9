//! The configuration as an administrator meets it: the shipped files, and what is said about wrong ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests, also their helpers")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kcd_bridge::config::schema::{self, Kind, Presence};
use kcd_bridge::config::{self, Config, Problem};
use kcd_bridge::identity::{RequestedName, RuleConfig, RuleSettings};
use kcd_bridge::kerberos::config::KdcSource;
use kcd_bridge::proxy::Transport;
use proptest::prelude::*;
use toml::{Table, Value};

const MINIMAL: &str = include_str!("../config/examples/exchange-2003.toml");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The reference and every example, by name.
fn shipped() -> Vec<(PathBuf, String)> {
    let examples = std::fs::read_dir(root().join("config/examples")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = examples.chain([root().join("config/kcd-bridge.toml")]).collect();
    assert!(files.len() >= 4 && files.iter().all(|file| file.extension().is_some_and(|ending| ending == "toml")), "{files:?}");
    files.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    config::parse(text, Path::new("/etc/kcd-bridge")).map_err(|problems| problems.list)
}

fn problems(text: &str) -> Vec<Problem> {
    parse(text).expect_err("the text is wrong")
}

/// The smallest file with one line exchanged.
fn with(from: &str, to: &str) -> String {
    assert_eq!(MINIMAL.matches(from).count(), 1, "{from}");
    MINIMAL.replace(from, to)
}

/// The one problem that this change makes.
fn problem_with(from: &str, to: &str) -> Problem {
    let found = problems(&with(from, to));
    let [problem] = &found[..] else { panic!("{to}: {found:#?}") };
    problem.clone()
}

/// Calls `visit` with every table of a file: its place as steps, its path as the parser writes it.
fn every_table(value: &Value, steps: &[Step], path: &str, visit: &mut impl FnMut(&[Step], &str, &Table)) {
    match value {
        Value::Table(table) => {
            if path != "kerberos.realms" {
                visit(steps, path, table);
            }
            for (name, inner) in table {
                let shown = if name.contains('.') { format!("{name:?}") } else { name.clone() };
                let inner_path = if path.is_empty() { shown } else { format!("{path}.{shown}") };
                every_table(inner, &[steps, &[Step::Key(name.clone())]].concat(), &inner_path, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                every_table(item, &[steps, &[Step::Index(index)]].concat(), &format!("{path}[{index}]"), visit);
            }
        }
        _ => {}
    }
}

#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

fn table_at<'a>(mut value: &'a mut Value, steps: &[Step]) -> &'a mut Table {
    for step in steps {
        value = match step {
            Step::Key(name) => &mut value[name.as_str()],
            Step::Index(index) => &mut value[*index],
        };
    }
    value.as_table_mut().unwrap()
}

/// `backend[0].spn` as the schema writes it: `backend[].spn`.
fn schema_path(path: &str) -> String {
    let mut plain = String::new();
    let mut in_brackets = false;
    for c in path.chars() {
        in_brackets = (in_brackets || c == '[') && c != ']';
        if !in_brackets || c == '[' {
            plain.push(c);
        }
    }
    plain.replace("\"USERS.EXAMPLE\"", "\"REALM\"")
}

#[test]
fn every_shipped_file_is_valid() {
    for (file, text) in shipped() {
        parse(&text).unwrap_or_else(|problems| panic!("{}: {problems:#?}", file.display()));
    }
}

#[test]
fn every_key_stands_in_the_reference_configuration_and_in_the_documentation() {
    let reference: Value = Value::Table(include_str!("../config/kcd-bridge.toml").parse().unwrap());
    let mut written = BTreeSet::new();
    every_table(&reference, &[], "", &mut |_, path, table| {
        let here = table
            .iter()
            .filter(|(_, value)| !value.is_table() && !value.as_array().is_some_and(|items| items.iter().any(Value::is_table)));
        written.extend(here.map(|(name, _)| schema_path(&format!("{path}.{name}"))));
    });
    let known: BTreeSet<_> = schema::keys().into_iter().map(|(path, _)| path).collect();
    assert_eq!(written, known);

    let documentation = include_str!("../docs/configuration.md");
    for (path, key) in schema::keys() {
        assert!(documentation.contains(&format!("\n| `{}` | ", key.name)), "{path}");
    }
}

#[test]
fn the_documentation_is_written_from_the_schema() {
    let file = include_str!("../docs/configuration.md");
    assert!(file == config::markdown(), "docs/configuration.md is stale: kcd-bridge docs configuration > docs/configuration.md");
}

#[test]
fn the_reference_configuration_shows_the_defaults() {
    let reference = include_str!("../config/kcd-bridge.toml");
    for (path, key) in schema::keys() {
        let Presence::Default(default) = key.presence else { continue };
        let literal = match key.kind {
            Kind::Bool | Kind::Count(..) | Kind::Paths => default.to_owned(),
            Kind::Rids => format!("[{default}]"),
            _ => format!("{default:?}"),
        };
        let line = format!("{} = {literal} ", key.name);
        let stands = reference.lines().any(|text| text.starts_with(&line) && text.contains("# default"));
        assert!(stands, "{path}: no line starts with {line:?} and is marked as default");
    }
}

#[test]
fn leaving_the_defaults_out_of_the_reference_changes_nothing() {
    let reference = include_str!("../config/kcd-bridge.toml");
    let short = reference.lines().filter(|line| !line.contains("# default")).collect::<Vec<_>>().join("\n");
    assert!(short.len() < reference.len());
    assert_eq!(parse(&short).unwrap(), parse(reference).unwrap());
}

#[test]
fn an_unknown_key_in_any_table_is_refused_with_its_path() {
    for (file, text) in shipped() {
        let whole = Value::Table(text.parse().unwrap());
        let mut tables = 0;
        every_table(&whole, &[], "", &mut |steps, path, _| {
            let mut changed = whole.clone();
            table_at(&mut changed, steps).insert("bogus".into(), Value::Boolean(true));
            let expected = if path.is_empty() { "bogus".to_owned() } else { format!("{path}.bogus") };
            let found = problems(&toml::to_string(&changed).unwrap());
            let right = matches!(&found[..], [only] if only.key == expected && only.message == "unknown key");
            assert!(right, "{}: {expected}: {found:#?}", file.display());
            tables += 1;
        });
        assert!(tables >= 7, "{}", file.display());
    }
}

#[test]
fn leaving_a_required_key_out_is_reported_with_its_path() {
    let reference = Value::Table(include_str!("../config/kcd-bridge.toml").parse().unwrap());
    let mut removed = BTreeSet::new();
    every_table(&reference, &[], "", &mut |steps, path, table| {
        for (name, _) in table {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let table = schema::tables().into_iter().find(|(known, _)| *known == schema_path(path)).unwrap().1;
            if table.key(name).unwrap().presence != Presence::Required {
                continue;
            }
            let mut changed = reference.clone();
            table_at(&mut changed, steps).remove(name);
            let found = problems(&toml::to_string(&changed).unwrap());
            assert!(
                found.iter().any(|problem| problem.key == key && problem.message.starts_with("missing")),
                "{key}: {found:#?}"
            );
            removed.insert(schema_path(&key));
        }
    });
    let required = schema::tables().into_iter().flat_map(|(path, table)| {
        let keys = table.keys.iter().filter(|key| key.presence == Presence::Required);
        keys.map(move |key| if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) })
            .collect::<Vec<_>>()
    });
    assert_eq!(removed, required.collect());
}

#[test]
fn a_key_that_another_key_asks_for_is_missed() {
    let missing = |text: &str| {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{found:#?}");
        (found[0].key.clone(), found[0].message.clone())
    };
    let crl = with(r#", crl_files = ["/etc/kcd-bridge/tls/device-ca.crl"]"#, "");
    assert_eq!(missing(&crl).0, "client_certificates.revocation.crl_files");
    let anchors = MINIMAL.replace("http://", "https://").replace("transport = \"http\" ", "");
    assert_eq!(missing(&anchors).0, "backend[0].trust_anchors");
    assert_eq!(missing(&with("\"upn-with-sid\"", "\"static\"")).0, "mapping[0].entry");
    assert_eq!(missing(&with("\"upn-with-sid\"", "\"upn\"")).0, "mapping[0].issuer");
    let row = |keys: &str| {
        with(
            "rule = \"upn-with-sid\"",
            &format!("rule = \"static\"\n[[mapping.entry]]\ncertificate_sha256 = \"{}\"\n{keys}\n", "ab".repeat(32)),
        )
    };
    assert_eq!(missing(&row("sid = \"S-1-5-21-1-2-3-1105\"")).0, "mapping[0].entry[0].principal");
    assert_eq!(missing(&row("upn = \"alice@corp.example\"")).0, "mapping[0].entry[0].sid");
    assert!(parse(&row("upn = \"alice@corp.example\"\nsid = \"S-1-5-21-1-2-3-1105\"")).is_ok());
    let both = "upn = \"alice@corp.example\"\nsid = \"S-1-5-21-1-2-3-1105\"\npin = \"first-use\"";
    assert!(missing(&row(both)).1.contains("both sid and pin"));
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once_in_the_order_of_the_file() {
    let text = r#"
[listener]
address = "443"
certificate = "/etc/kcd-bridge/tls/server.pem"
keys = "/etc/kcd-bridge/tls/server.key"
key = "/etc/kcd-bridge/tls/server.key"
idle_timeout = 120

[client_certificates]
trust_anchors = []
revocation = { policy = "perhaps", crl_files = ["/etc/kcd-bridge/tls/ca.crl"] }

[kerberos]
principal = "svc-bridge@corp.example"
keytab = "/etc/kcd-bridge/bridge.keytab"
kdcs = ["dc1.corp.example", "ldap://dc2"]

[[mapping]]
rule = "upn-with-sid"

[[backend]]
name = "mbx2003"
url = "http://mbx1.corp.example"
spn = "mbx1.corp.example"

[[route]]
path = "Microsoft-Server-ActiveSync"
backend = "mbx203"
"#;
    let found: Vec<_> = problems(text).into_iter().map(|problem| (problem.line.unwrap(), problem.key)).collect();
    let expected = [
        (3, "listener.address"),
        (5, "listener.keys"),
        (7, "listener.idle_timeout"),
        (10, "client_certificates.trust_anchors"),
        (11, "client_certificates.revocation.policy"),
        (14, "kerberos.principal"),
        (16, "kerberos.kdcs[1]"),
        (21, "backend[0].transport"),
        (24, "backend[0].spn"),
        (27, "route[0].path"),
        (28, "route[0].backend"),
    ];
    assert_eq!(found, expected.map(|(line, key)| (line, key.to_owned())));
}

#[test]
fn the_smallest_file_has_safe_defaults() {
    let config = parse(MINIMAL).unwrap();
    let backend = &config.backends[0];
    assert_eq!(config.listener.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.kerberos.max_ride_through, Duration::from_hours(4));
    assert_eq!(config.kerberos.cache_bytes, 512 << 20);
    assert_eq!(config.kerberos.denied_groups, [512, 516, 518, 519, 521, 525]);
    assert_eq!(config.kerberos.runtime_directory, Path::new("/run/kcd-bridge"));
    assert_eq!(config.kerberos.realms.len(), 1);
    assert_eq!((backend.authority.port, backend.host_header.as_str()), (80, "mbx1.corp.example"));
    assert_eq!(backend.transport, Transport::Http);
    assert_eq!(backend.response_timeout, Duration::from_hours(1));
    assert_eq!((backend.max_body_bytes, backend.replay_buffer_bytes), (30 << 20, 1 << 20));
    assert!(!backend.channel_binding && !backend.identity_bound && config.audit.file.is_none() && !config.log.json);
    assert!(
        matches!(&config.mapping[..], [RuleConfig { rule: RuleSettings::UpnWithSid { san_uri_sid_issuers }, .. }] if san_uri_sid_issuers.is_empty())
    );
}

#[test]
fn without_a_list_of_kdcs_they_are_found_by_dns() {
    let config = parse(&with("kdcs      = [\"dc1.corp.example\", \"dc2.corp.example\"]", "")).unwrap();
    assert!(config.kerberos.realms.values().all(|source| *source == KdcSource::Dns));
}

#[test]
fn a_profile_sets_defaults_and_a_written_key_wins() {
    let timeout = |text: &str| parse(text).unwrap().backends[0].response_timeout.as_secs();
    assert_eq!(timeout(&with("\"exchange-2003\"", "\"iis\"")), 300);
    assert_eq!(timeout(&with("\"exchange-2003\"", "\"iis\"\nresponse_timeout = \"10m\"")), 600);
    for profile in ["generic", "exchange-2007", "exchange-2010"] {
        assert_eq!(timeout(&with("exchange-2003", profile)), 3600, "{profile}");
    }
}

#[test]
fn what_a_later_version_will_know_is_refused_as_not_available() {
    for (from, to, key) in [
        ("[listener]", "[admin]\naddress = \"127.0.0.1:9443\"\n[listener]", "admin"),
        ("[listener]", "[listener]\nproxy_protocol = true", "listener.proxy_protocol"),
        ("transport = \"http\"", "transport = \"legacy-tls\"", "backend[0].transport"),
        ("allow_rc4 = true", "channel_binding = \"/etc/balancer.pem\"", "backend[0].channel_binding"),
    ] {
        let problem = problem_with(from, to);
        assert_eq!(problem.key, key);
        assert!(problem.message.contains("not available in this version"), "{problem:?}");
    }
}

#[test]
fn a_wrong_value_is_told_the_right_one() {
    for (from, to, key, said) in [
        ("keytab    =", "key_tab =", "kerberos.key_tab", "did you mean keytab?"),
        ("[[route]]", "[[route]]\nkeytab = \"x\"", "route[0].keytab", "belongs to kerberos"),
        ("svc-bridge@CORP.EXAMPLE", "svc-bridge@corp.example", "kerberos.principal", "CORP.EXAMPLE"),
        ("backend = \"mbx2003\"", "backend = \"mbx203\"", "route[0].backend", "did you mean \"mbx2003\"?"),
        ("transport = \"http\" ", "transport = \"https\" ", "backend[0].transport", "write \"tls\""),
        ("\"exchange-2003\"", "\"exchange2003\"", "backend[0].profile", "did you mean \"exchange-2003\"?"),
        ("transport = \"http\" ", "", "backend[0].transport", "write transport = \"http\""),
        ("url       = \"http://", "url       = \"https://", "backend[0].transport", "leave transport out"),
        (
            "spn       = \"HTTP/mbx1.corp.example\"",
            "spn = \"HTTP/mbx1.corp.example@CORP.EXAMPLE\"",
            "backend[0].spn",
            "without realm",
        ),
        ("allow_rc4 = true", "allow_rc4 = \"true\"", "backend[0].allow_rc4", "true or false"),
        ("allow_rc4 = true", "channel_binding = \"auto\"", "backend[0].channel_binding", "no TLS session"),
        ("allow_rc4 = true", "connect_timeout = \"10\"", "backend[0].connect_timeout", "10s"),
        ("allow_rc4 = true", "connect_timeout = \"2h\"", "backend[0].connect_timeout", "from 100ms to 1h"),
        ("allow_rc4 = true", "max_connections = 0", "backend[0].max_connections", "from 1 to 1000000"),
        ("allow_rc4 = true", "max_connections = -1", "backend[0].max_connections", "negative"),
        ("allow_rc4 = true", "max_body_bytes = \"30MB\"", "backend[0].max_body_bytes", "30MiB"),
        ("allow_rc4 = true", "trust_anchors = [\"/x.pem\"]", "backend[0].trust_anchors", "not used"),
        ("[[mapping]]", "[kerberos.realms.USERS.EXAMPLE]\n[[mapping]]", "kerberos.realms.\"USERS\".EXAMPLE", "in quotes"),
        ("[[mapping]]", "[kerberos.realms.\"users.example\"]\n[[mapping]]", "kerberos.realms.\"users.example\"", "USERS.EXAMPLE"),
        ("[[mapping]]", "[kerberos.realms.\"CORP.EXAMPLE\"]\n[[mapping]]", "kerberos.realms.\"CORP.EXAMPLE\"", "kerberos.kdcs"),
        ("[[mapping]]", "[log]\nlevel = \"a=b=c\"\n[[mapping]]", "log.level", "is not a level"),
        ("[[mapping]]", "[[mapping]]\nrule = \"upn-with-sid\"\n[[mapping]]", "mapping[1].rule", "put both into one"),
        ("rule = \"upn-with-sid\"", "rule = \"upn-with-sid\"\nentry = [{}]", "mapping[0].entry", "belongs to rule \"static\""),
        ("kdcs      = [\"dc1.corp.example\", \"dc2", "kdcs = [\"dc2.corp.example\", \"dc2", "kerberos.kdcs[1]", "listed twice"),
        ("[kerberos]", "[kerberos]\nkdc_timeout = \"10s\"", "kerberos.kdc_timeout", "longer than acquire_timeout"),
        ("[kerberos]", "[kerberos]\ndenied_groups = [-1]", "kerberos.denied_groups[0]", "negative"),
    ] {
        let found = problems(&with(from, to));
        let problem = found.iter().find(|problem| problem.key == key).unwrap_or_else(|| panic!("{to}: {found:#?}"));
        assert!(problem.to_string().contains(said), "{to}: {problem}");
    }
}

#[test]
fn names_and_routes_that_stand_twice_are_refused() {
    let twice = "[[backend]]\nname = \"mbx2003\"\nurl = \"http://b\"\ntransport = \"http\"\nspn = \"HTTP/b\"\n";
    let problem = problem_with("[[route]]", &format!("{twice}[[route]]"));
    assert_eq!((problem.key.as_str(), problem.message.contains("another back end")), ("backend[1].name", true));

    let route = "[[route]]\npath = \"/microsoft-server-activesync\"\nbackend = \"mbx2003\"\n[[route]]";
    assert_eq!(problem_with("[[route]]", route).key, "route[1].path");
    assert!(parse(&with("[[route]]", &route.replacen("path", "host = \"a.example\"\npath", 1))).is_ok());

    let row = format!("[[mapping.entry]]\ncertificate_sha256 = \"{}\"\nupn = \"a@b.c\"\npin = \"first-use\"\n", "ab".repeat(32));
    let rows = format!("rule = \"static\"\n{row}{}", row.replace("ab", "AB"));
    assert_eq!(problem_with("rule = \"upn-with-sid\"", &rows).key, "mapping[0].entry[1].certificate_sha256");
}

#[test]
fn routes_are_sorted_longest_path_first_and_with_a_host_before_without() {
    let more = "[[route]]\npath = \"/\"\nbackend = \"mbx2003\"\n[[route]]\nhost = \"Mail.Corp.Example\"\npath = \"/\"\nbackend = \"mbx2003\"\n[[route]]\npath = \"/Microsoft-Server-ActiveSync/deeper\"\nbackend = \"mbx2003\"\n[[route]]";
    let routes: Vec<_> =
        parse(&with("[[route]]", more)).unwrap().routes.into_iter().map(|route| (route.path, route.host)).collect();
    let expected = [
        ("/Microsoft-Server-ActiveSync/deeper", None),
        ("/Microsoft-Server-ActiveSync", None),
        ("/", Some("mail.corp.example")),
        ("/", None),
    ];
    assert_eq!(routes, expected.map(|(path, host)| (path.to_owned(), host.map(str::to_owned))));
}

#[test]
fn a_static_row_of_an_unlisted_realm_is_refused() {
    let rows = |principal| {
        let digest = "ab".repeat(32);
        format!(
            "rule = \"static\"\n[[mapping.entry]]\ncertificate_sha256 = \"{digest}\"\nprincipal = \"{principal}\"\nsid = \"S-1-5-21-1-2-3-1105\"\n"
        )
    };
    let problem = problem_with("rule = \"upn-with-sid\"", &rows("alice@USERS.EXAMPLE"));
    assert_eq!(problem.key, "mapping[0].entry[0].principal");
    assert!(parse(&with("rule = \"upn-with-sid\"", &rows("alice@CORP.EXAMPLE"))).is_ok());
}

#[test]
fn relative_paths_are_taken_from_the_files_directory() {
    let config = parse(&with("\"/etc/kcd-bridge/bridge.keytab\"", "\"bridge.keytab\"")).unwrap();
    assert_eq!(config.kerberos.keytab, Path::new("/etc/kcd-bridge/bridge.keytab"));
    assert_eq!(config.client_certificates.revocation.crl_files, [Path::new("/etc/kcd-bridge/tls/device-ca.crl")]);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bridge.toml");
    std::fs::write(&file, MINIMAL.replace("/etc/kcd-bridge/", "")).unwrap();
    assert_eq!(config::load(&file).unwrap().kerberos.keytab, directory.path().join("bridge.keytab"));
}

#[test]
fn a_syntax_error_names_its_line_and_column_and_shows_nothing_of_the_file() {
    let text = "[listener]\naddress = \"0.0.0.0:443\"\npassword = hunter2secret\n";
    let found = problems(text);
    assert_eq!(found[0].line, Some(3));
    assert!(found[0].message.contains("column 12"), "{found:?}");
    assert!(!format!("{found:?}").contains("hunter2secret"), "{found:?}");
    assert!(problems("[listener]\naddress = 1\naddress = 2\n")[0].message.contains("duplicate key"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let secret = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC";
    for (from, to) in [
        ("[listener]", format!("password = \"{secret}\"\n[listener]")),
        ("keytab    =", format!("password = \"{secret}\"\nkeytab =")),
        ("\"/etc/kcd-bridge/tls/server.key\"", format!("\"\"\"-----BEGIN PRIVATE KEY-----\n{secret}\n\"\"\"")),
        ("\"/etc/kcd-bridge/bridge.keytab\"", format!("{{ inline = \"{secret}\" }}")),
        ("allow_rc4 = true", format!("allow_rc4 = \"{secret}\"")),
        ("\"http://mbx1.corp.example\"", format!("\"http://svc:{secret}@mbx1.corp.example\"")),
        ("[[mapping]]", format!("[directory]\nbind_password = \"{secret}\"\n[[mapping]]")),
    ] {
        let found = problems(&with(from, &to));
        assert!(!format!("{found:?}").contains(&secret[4..]), "{found:#?}");
    }
}

#[test]
fn an_unreadable_file_is_named_with_its_cause() {
    let directory = tempfile::tempdir().unwrap();
    let missing = config::load(&directory.path().join("missing.toml")).unwrap_err();
    assert!(!missing.readable && missing.to_string().contains("missing.toml: cannot be read: No such file"), "{missing}");
    let not_a_file = config::load(directory.path()).unwrap_err();
    assert!(!not_a_file.readable, "{not_a_file}");
    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, b"[listener]\n\xff\xfe").unwrap();
    let binary = config::load(&binary).unwrap_err();
    assert!(binary.readable && binary.list[0].line == Some(2), "{binary}");
}

proptest! {
    #[test]
    fn a_damaged_file_is_judged_without_a_panic(at in 0..10_000_usize, length in 0..40_usize, put in "[\\[\\]{}=\"'#.,\\-\n é0-9a-z]{0,20}") {
        let text = include_str!("../config/kcd-bridge.toml");
        let border = |index: usize| (index.min(text.len())..=text.len()).find(|index| text.is_char_boundary(*index)).unwrap();
        let (start, end) = (border(at), border(at + length));
        if let Err(found) = parse(&[&text[..start], &put, &text[end..]].concat()) {
            prop_assert!(!found.is_empty());
            prop_assert!(found.iter().all(|problem| !problem.message.is_empty() && !problem.remedy.is_empty()));
        }
    }
}

/// The smallest file with this `[backend.self_test]`.
fn with_self_test(users: &str, path: &str) -> String {
    with("[[route]]", &format!("[backend.self_test]\nusers = {users}\npath = \"{path}\"\n[[route]]"))
}

#[test]
fn a_self_test_takes_two_users_in_either_form_and_a_path_of_its_back_end() {
    let text = with_self_test(r#"["probe1@corp.example", "Probe2@CORP.EXAMPLE"]"#, "/Microsoft-Server-ActiveSync/whoami?x=y");
    let config = parse(&text).unwrap();
    let users = &config.backends[0].self_test.as_ref().unwrap().users;
    assert_eq!(users.each_ref().map(ToString::to_string), ["probe1@corp.example", "Probe2@CORP.EXAMPLE"]);
    assert_eq!(users.each_ref().map(RequestedName::account), ["probe1", "Probe2"]);
    assert!(parse(MINIMAL).unwrap().backends[0].self_test.is_none());
}

#[test]
fn a_self_test_that_could_prove_nothing_is_refused() {
    let good = r#"["probe1@corp.example", "probe2@corp.example"]"#;
    let path = "/Microsoft-Server-ActiveSync";
    for (users, path, key, said) in [
        (r#"["probe1@corp.example"]"#, path, "users", "not exactly two"),
        (r#"["a@corp.example", "b@corp.example", "c@corp.example"]"#, path, "users", "not exactly two"),
        (r#"["probe@corp.example", "Probe1@corp.example"]"#, path, "users", "cannot be told"),
        (r#"["probe1@corp.example", "probe1@CORP.EXAMPLE"]"#, path, "users", "cannot be told"),
        (r#"["probe1@corp.example", "probe2"]"#, path, "users[1]", "not a user principal name"),
        (r#"["probe1@corp.example", "probe2$@corp.example"]"#, path, "users[1]", "computer"),
        (r#"["probe1@corp.example", "probe2@OTHER.EXAMPLE"]"#, path, "users", "OTHER.EXAMPLE is not configured"),
        (good, "/owa", "path", "not routed"),
        (good, "/Microsoft-Server-ActiveSync/../owa", "path", "not routed"),
        (good, "Microsoft-Server-ActiveSync", "path", "not a path"),
        (good, "http://mbx1/Microsoft-Server-ActiveSync", "path", "not a path"),
    ] {
        let found = problems(&with_self_test(users, path));
        let right = found.iter().any(|problem| {
            problem.key == format!("backend[0].self_test.{key}") && problem.message.contains(said) && problem.line.is_some()
        });
        assert!(right, "{users} {path}: {found:#?}");
    }
}

#[test]
fn a_canary_belongs_to_a_realm_and_has_an_interval() {
    let kdcs = "kdcs      = [\"dc1.corp.example\", \"dc2.corp.example\"]";
    let with_canary = |lines: &str| with(kdcs, &format!("{kdcs}\n{lines}"));
    assert!(parse(MINIMAL).unwrap().kerberos.canaries.is_empty());
    let others = "canary = \"canary@corp.example\"\n[kerberos.realms.\"USERS.EXAMPLE\"]\ncanary = \"canary@USERS.EXAMPLE\"\ncanary_interval = \"1s\"";
    let canaries = parse(&with_canary(others)).unwrap().kerberos.canaries;
    let shown: Vec<_> =
        canaries.iter().map(|(realm, canary)| (realm.to_string(), canary.user.to_string(), canary.interval.as_secs())).collect();
    let expected = [("CORP.EXAMPLE", "canary@corp.example", 300), ("USERS.EXAMPLE", "canary@USERS.EXAMPLE", 1)];
    assert_eq!(shown, expected.map(|(realm, user, seconds)| (realm.to_owned(), user.to_owned(), seconds)));

    for (lines, key, said) in [
        ("canary = \"canary\"", "kerberos.canary", "not a user principal name"),
        ("canary = \"canary@USERS.EXAMPLE\"", "kerberos.canary", "not of CORP.EXAMPLE"),
        ("canary_interval = \"1m\"", "kerberos.canary_interval", "there is no canary"),
        ("canary = \"canary@corp.example\"\ncanary_interval = \"500ms\"", "kerberos.canary_interval", "out of range"),
    ] {
        let found = problems(&with_canary(lines));
        let right = matches!(&found[..], [only] if only.key == key && only.message.contains(said));
        assert!(right, "{lines}: {found:#?}");
    }
}
