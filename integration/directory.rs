//! The directory client against the real domain: every way in, what it refuses, and what accounts look like from there.

use kcd_bridge::directory::{Account, Attribute, Directory, DirectoryConfig, DirectorySecurity, DirectorySource, Filter};
use kcd_bridge::failure::{Cause, Failure};
use kcd_bridge::x509::alt_security::{self, Form};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::support::Lab;
use crate::support::domain::{deadline, find};

const CDP: &str = "CN=Corp Issuing CA(1),CN=dc1,CN=CDP,CN=Public Key Services,CN=Services,CN=Configuration,DC=corp,DC=example";

fn by_name(name: &str) -> Filter {
    Filter::equals(Attribute::AccountName, name)
}

async fn account(directory: &Directory, name: &str) -> Account {
    let mut found = find(directory, &by_name(name)).await.expect("an answer");
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

async fn ask_alice(config: &DirectoryConfig) -> Result<Vec<Account>, Failure> {
    find(
        &Directory::load(config).expect("the configuration"),
        &Filter::equals(Attribute::UserPrincipalName, "alice@corp.example"),
    )
    .await
}

#[tokio::test]
async fn ldaps_starttls_srv_and_the_global_catalogue_tell_the_same_of_an_account() {
    let lab = Lab::get();
    let plain = lab.directory_config();
    let start_tls = lab.directory_server(DirectorySecurity::StartTls);
    let sources = [
        plain.source.clone(),
        DirectorySource::Servers(vec![start_tls]),
        DirectorySource::Domain(lab.variable("KCD_LDAP_DOMAIN")),
    ];
    let mut answers = Vec::new();
    for source in sources {
        for global_catalog in [true, false] {
            let config = DirectoryConfig { source: source.clone(), global_catalog, ..plain.clone() };
            answers.push((format!("{source:?} {global_catalog}"), ask_alice(&config).await.expect("an answer")));
        }
    }
    for (way, found) in &answers {
        let [alice] = &found[..] else { panic!("{way}: {found:?}") };
        assert_eq!(alice.sid.as_ref().map(ToString::to_string), Some(lab.sid("alice")), "{way}");
        assert_eq!(found, &answers[0].1, "{way}");
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_a_wrong_password_and_a_wrong_name_are_refused() {
    let lab = Lab::get();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let password = directory.path().join("password");
    std::fs::write(&password, "not-the-password\n").expect("the file is written");
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("the mode");
    let good = lab.directory_config();
    let server = |host: &str| {
        let mut server = lab.directory_server(DirectorySecurity::Ldaps);
        host.clone_into(&mut server.host);
        DirectorySource::Servers(vec![server])
    };
    for (what, config, cause) in [
        (
            "foreign CA",
            DirectoryConfig { trust_anchors: vec![lab.pki("server-ca.pem")], ..good.clone() },
            Cause::DirectoryUnreachable,
        ),
        ("address", DirectoryConfig { source: server("127.0.0.1"), ..good.clone() }, Cause::DirectoryUnreachable),
        ("password", DirectoryConfig { bind_password_file: password, ..good.clone() }, Cause::DirectoryRefused),
    ] {
        let failure = ask_alice(&config).await.expect_err(what);
        assert_eq!(failure.cause, cause, "{what}: {failure}");
    }
    assert_eq!(ask_alice(&good).await.map(|found| found.len()), Ok(1));
}

#[tokio::test]
async fn each_account_shows_the_one_thing_it_is_refused_for() {
    let lab = Lab::get();
    let directory = lab.directory();
    let domain = |rid: u32| format!("{}-{rid}", lab.sid("alice").rsplit_once('-').expect("a SID").0);
    let in_group = |account: &Account, rid: u32| account.groups.iter().any(|sid| sid.to_string() == domain(rid));
    let checks: [(&str, &dyn Fn(&Account) -> bool); 10] = [
        ("dave", &|account| account.control & 0x2 != 0),
        ("locked", &|account| account.computed_control & 0x10 != 0),
        ("expired", &|account| account.expires.is_some()),
        ("mustchange", &|account| account.must_change_password && account.computed_control & 0x80_0000 != 0),
        ("carol", &|account| account.control & 0x10_0000 != 0),
        ("protected", &|account| in_group(account, 525)),
        ("nestedprotected", &|account| in_group(account, 525)),
        ("nestedadmin", &|account| in_group(account, 512)),
        ("formeradmin", &|account| account.admin_count),
        ("nohours", &|account| account.logon_hours == Some([0; 21])),
    ];
    let alice = account(&directory, "alice").await;
    for (name, check) in checks {
        assert!(check(&account(&directory, name).await), "{name}");
        assert!(!check(&alice), "{name}: alice too");
    }
    let computer = account(&directory, "pc1$").await;
    assert_eq!(computer.dns_host_name.as_deref(), Some("pc1.corp.example"));
    assert_eq!((computer.account_type, alice.account_type), (805_306_369, 805_306_368));
}

#[tokio::test]
async fn two_accounts_that_answer_to_one_name_are_both_returned() {
    let lab = Lab::get();
    let directory = lab.directory();
    let twin = lab.identities().into_iter().find(|[_, account, _]| account == "twin1").expect("twin1");
    let victim = "victim@corp.example";
    for (what, filter) in [
        ("altSecurityIdentities", Filter::equals(Attribute::AltSecurityIdentities, &twin[2])),
        ("mail", Filter::equals(Attribute::Mail, "shared@corp.example")),
        ("UPN", Filter::Or(vec![Filter::equals(Attribute::UserPrincipalName, victim), by_name("victim")])),
    ] {
        assert_eq!(find(&directory, &filter).await.map(|found| found.len()), Ok(2), "{what}");
    }
}

/// Why every answer is compared again.
#[tokio::test]
async fn the_directory_takes_a_name_for_one_with_a_space_behind_it() {
    let lab = Lab::get();
    let found = find(&lab.directory(), &Filter::equals(Attribute::UserPrincipalName, "trail@corp.example")).await.unwrap();
    let names: Vec<_> = found.iter().map(|account| account.user_principal_name.as_deref()).collect();
    assert_eq!(names, [Some("trail@corp.example ")]);
}

#[tokio::test]
async fn a_value_that_looks_like_a_filter_is_only_a_value() {
    let directory = Lab::get().directory();
    for value in ["*", "alice*", "alice)(objectClass=*", "*)(|(sAMAccountName=alice"] {
        assert_eq!(find(&directory, &by_name(value)).await, Ok(Vec::new()), "{value:?}");
    }
}

/// The strings are computed twice: by the lab in Python for the directory, and here.
#[tokio::test]
async fn every_string_that_the_lab_wrote_is_computed_alike_and_finds_its_account() {
    let lab = Lab::get();
    let directory = lab.directory();
    let identities = lab.identities();
    let mut compared = 0;
    for [certificate, name, text] in &identities {
        let computed = alt_security::computed(&lab.claims(certificate), &Form::ALL);
        let is_computed = computed.iter().any(|computed| &computed.value == text);
        // Reversed wrongly, and an issuer without anything else: both are never right.
        let never = ["asi-sr-forward", "asi-i"].contains(&certificate.as_str());
        assert_ne!(is_computed, never, "{certificate}: {text} of {computed:#?}");
        let found = find(&directory, &Filter::equals(Attribute::AltSecurityIdentities, text)).await.unwrap();
        assert!(found.iter().any(|account| &account.account_name == name), "{name}: {found:?}");
        compared += usize::from(is_computed);
    }
    assert_eq!(compared, identities.len() - 2);
}

#[tokio::test]
async fn lists_and_the_ntauth_store_are_read_as_they_were_published() {
    let lab = Lab::get();
    let directory = lab.directory();
    let crl = rustls::pki_types::CertificateRevocationListDer::from_pem_file(lab.pki("issuing-ca-renewed.crl")).unwrap();
    for attribute in ["certificateRevocationList", "certificateRevocationList;binary"] {
        let values = directory.values(CDP, attribute, deadline()).await;
        assert_eq!(values, Ok(vec![crl.to_vec()]), "{attribute}");
    }
    let delta = directory.values(CDP, "deltaRevocationList", deadline()).await;
    assert_eq!(delta, Ok(Vec::new()), "it has none yet");
    let missing = directory.values(&CDP.replace("(1)", "(2)"), "certificateRevocationList", deadline()).await;
    assert_eq!(missing.map_err(|failure| failure.cause), Err(Cause::DirectoryRefused));
    let issuing = CertificateDer::from_pem_file(lab.pki("issuing-ca.pem")).unwrap();
    assert_eq!(directory.nt_auth(deadline()).await, Ok(vec![issuing]));
    let suffixes = directory.upn_suffixes(deadline()).await.unwrap();
    assert_eq!(suffixes, ["corp.example", "mail.example"]);
}
