use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;

use crate::directory::testkit::{
    ALICE, Asked, Authority, DOMAIN, FakeServer, Reply, account, controller, deadline, done, entry, load, message_of, reference,
    result, sid, sound,
};
use crate::directory::{Accounts as _, Attribute};

use super::*;

fn alice() -> Filter {
    Filter::equals(Attribute::UserPrincipalName, "alice@corp.example")
}

async fn find(directory: &Directory) -> Result<Vec<Account>, Failure> {
    directory.find(&alice(), deadline()).await
}

async fn names(directory: &Directory) -> Vec<String> {
    find(directory).await.unwrap().into_iter().map(|account| account.dn).collect()
}

fn bases(server: &FakeServer) -> Vec<(String, i64)> {
    let asked = server.asked().into_iter().filter_map(|asked| match asked {
        Asked::Search { base, scope, attributes, .. } if !attributes.contains(&"rootDomainNamingContext".to_owned()) => {
            Some((base, scope))
        }
        _ => None,
    });
    asked.collect()
}

#[tokio::test]
async fn an_account_is_searched_in_the_domain_and_read_again_by_its_sid() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    let found = find(&authority.directory(&[&server])).await.unwrap();
    let [account] = found.try_into().unwrap();
    assert_eq!((account.dn.as_str(), &account.sid, account.domain().as_str()), (ALICE, &Some(sid(1104)), "corp.example"));
    assert_eq!(bases(&server), [(DOMAIN.to_owned(), 2), (format!("<SID={}>", sid(1104)), 0)]);
    let Some(Asked::Search { limit, attributes, .. }) = server.searches().into_iter().next() else { panic!() };
    assert_eq!((limit, attributes), (2, vec!["objectSid".to_owned()]));
}

/// `directory.base` is where people are; service accounts stand where administrators keep them.
#[tokio::test]
async fn a_service_account_is_searched_in_the_whole_domain_and_read_by_its_own_attributes() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    let base = Some("OU=Staff,DC=corp,DC=example".to_owned());
    let directory = load(&DirectoryConfig { base, ..authority.config(&[&server]) });
    let filter = Filter::equals(Attribute::ServicePrincipalName, "HTTP/mbx1");
    let found = directory.service_accounts(&filter, deadline()).await.unwrap();
    let [account] = found.try_into().unwrap();
    assert_eq!((&account.sid, account.domain()), (&sid(1104), "corp.example".to_owned()));
    assert_eq!(bases(&server), [(DOMAIN.to_owned(), 2), (format!("<SID={}>", sid(1104)), 0)]);
    let Some(Asked::Search { attributes, .. }) = server.searches().into_iter().last() else { panic!() };
    assert!(attributes.iter().any(|name| name == "msDS-AllowedToDelegateTo"), "{attributes:?}");
    // Nothing is asked about nothing.
    assert_eq!(directory.service_accounts(&Filter::equals(Attribute::AccountName, ""), deadline()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn the_value_reaches_the_server_as_one_assertion_among_accounts_only() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    let filter = Filter::equals(Attribute::Mail, "x)(|(mail=*");
    authority.directory(&[&server]).find(&filter, deadline()).await.unwrap();
    let Some(Asked::Search { filter, .. }) = server.searches().into_iter().next() else { panic!() };
    let mut and = crate::der::Reader::new(&filter).nested(0xA0).unwrap();
    let mut kinds = and.nested(0xA1).unwrap();
    let mut count = 0;
    while !kinds.is_empty() {
        let mut assertion = kinds.nested(0xA3).unwrap();
        assert_eq!(assertion.read(4), Ok(&b"sAMAccountType"[..]));
        count += 1;
    }
    assert_eq!(count, 3);
    let mut assertion = and.nested(0xA3).unwrap();
    assert_eq!((assertion.read(4), assertion.read(4)), (Ok(&b"mail"[..]), Ok(&b"x)(|(mail=*"[..])));
    assert!(and.is_empty());
}

#[tokio::test]
async fn nobody_and_two_are_told_apart_and_more_than_two_are_two() {
    const BOB: &str = "CN=Bob,DC=corp,DC=example";
    let authority = Authority::new();
    let nobody = authority.server(|asked| controller(asked, DOMAIN, &[])).await;
    assert_eq!(names(&authority.directory(&[&nobody])).await, [""; 0]);
    let two = authority.server(|asked| controller(asked, DOMAIN, &[(ALICE, 1104), (BOB, 1105)])).await;
    assert_eq!(names(&authority.directory(&[&two])).await, [ALICE, BOB]);
    let more = authority
        .server(|asked| match controller(asked, DOMAIN, &[(ALICE, 1104), (BOB, 1105)]) {
            Reply::Say(mut said) if matches!(asked, Asked::Search { scope: 2, .. }) => {
                said.pop();
                said.push(done(4));
                Reply::Say(said)
            }
            reply => reply,
        })
        .await;
    assert_eq!(names(&authority.directory(&[&more])).await, [ALICE, BOB]);
}

#[tokio::test]
async fn a_size_limit_that_leaves_one_hit_alone_is_no_unique_answer() {
    let authority = Authority::new();
    let server = authority
        .server(|asked| match asked {
            Asked::Search { scope: 2, .. } => {
                Reply::Say(vec![entry(ALICE, &[("objectSid", vec![sid(1104).to_binary()])]), done(4)])
            }
            other => sound(other),
        })
        .await;
    assert_eq!(find(&authority.directory(&[&server])).await.unwrap_err().cause, Cause::DirectoryRefused);
}

#[tokio::test]
async fn a_reference_to_another_server_is_no_account() {
    let authority = Authority::new();
    let server = authority
        .server(|asked| match sound(asked) {
            Reply::Say(mut said) if matches!(asked, Asked::Search { scope: 2, .. }) => {
                said.insert(0, reference("ldap://elsewhere.example/DC=x"));
                Reply::Say(said)
            }
            reply => reply,
        })
        .await;
    assert_eq!(names(&authority.directory(&[&server])).await, [ALICE]);
    assert!(server.asked().iter().all(|asked| !matches!(asked, Asked::Other(_))));
}

#[tokio::test]
async fn a_catalogue_is_searched_first_and_a_domain_controller_believed() {
    const BASES: i64 = 2;
    let authority = Authority::new();
    let controller = authority.server(sound).await;
    let catalogue = authority
        .server(|asked| match asked {
            // A catalogue's own values are not looked at.
            Asked::Search { base, scope: BASES, .. } if base.is_empty() => Reply::Say(vec![
                entry(ALICE, &[("objectSid", vec![sid(1104).to_binary()]), ("mail", vec![b"old".to_vec()])]),
                done(0),
            ]),
            other => sound(other),
        })
        .await;
    let config = DirectoryConfig { global_catalog: true, ..authority.config(&[&controller]) };
    let directory = load(&config).with_catalog(&[catalogue.address()]);
    let found = find(&directory).await.unwrap();
    assert_eq!(found[0].mail, ["alice@corp.example"]);
    assert_eq!(bases(&catalogue), [(String::new(), 2)]);
    assert_eq!(bases(&controller), [(format!("<SID={}>", sid(1104)), 0)]);
    let roles: Vec<_> = directory.health().into_iter().map(|health| health.role).collect();
    assert_eq!(roles, [ServerRole::DomainController, ServerRole::GlobalCatalog]);
}

#[test]
fn catalogues_are_the_same_servers_on_their_other_port() {
    let server = |security, port| DirectoryServer { host: "dc1.corp.example".into(), port, security };
    assert_eq!(catalog_of(&server(DirectorySecurity::Ldaps, 636)).port, 3269);
    assert_eq!(catalog_of(&server(DirectorySecurity::StartTls, 389)).port, 3268);
}

#[tokio::test]
async fn an_account_that_is_gone_or_another_one_when_it_is_read_again_is_refused() {
    let authority = Authority::new();
    let reread: [fn() -> Reply; 2] =
        [|| Reply::Say(vec![done(32)]), || Reply::Say(vec![entry(ALICE, &account(&sid(500))), done(0)])];
    for answer in reread {
        let server = authority
            .server(move |asked| match asked {
                Asked::Search { base, .. } if base.starts_with('<') => answer(),
                other => sound(other),
            })
            .await;
        assert_eq!(find(&authority.directory(&[&server])).await.unwrap_err().cause, Cause::DirectoryInvalid);
    }
}

#[tokio::test]
async fn a_base_that_does_not_exist_is_not_an_account_that_is_missing() {
    let authority = Authority::new();
    let server = authority
        .server(|asked| match asked {
            Asked::Search { scope: 2, .. } => Reply::Say(vec![done(32)]),
            other => sound(other),
        })
        .await;
    for base in [None, Some("OU=Gone,DC=corp,DC=example".to_owned())] {
        let directory = load(&DirectoryConfig { base, ..authority.config(&[&server]) });
        let failure = find(&directory).await.unwrap_err();
        assert!(failure.cause == Cause::DirectoryRefused && failure.detail.contains("directory.base"), "{failure}");
    }
}

#[tokio::test]
async fn a_question_that_is_refused_is_not_asked_again_elsewhere() {
    let authority = Authority::new();
    let refuse = |asked: &Asked| match asked {
        Asked::Search { scope: 2, .. } => Reply::Say(vec![result(0x65, 50, "you may not")]),
        other => sound(other),
    };
    let (one, two) = (authority.server(refuse).await, authority.server(refuse).await);
    let directory = authority.directory(&[&one, &two]);
    let failure = find(&directory).await.unwrap_err();
    assert_eq!(failure.cause, Cause::DirectoryRefused);
    assert!(failure.detail.contains("insufficientAccessRights (50): you may not"), "{failure}");
    assert_eq!((two.connections(), directory.health()[0].failures), (0, 0));
}

#[tokio::test]
async fn a_question_about_nothing_or_everything_is_not_asked() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    let directory = authority.directory(&[&server]);
    let empty = Filter::equals(Attribute::Mail, "");
    assert_eq!(directory.find(&empty, deadline()).await, Ok(Vec::new()));
    assert_eq!(directory.find(&Filter::And(Vec::new()), deadline()).await.unwrap_err().cause, Cause::DirectoryInvalid);
    assert_eq!(server.connections(), 0);
}

/// One object with one attribute; the rest is sound.
fn holding(
    dn: &'static str,
    attribute: &'static str,
    values: &'static [&'static [u8]],
) -> impl Fn(&Asked) -> Reply + Send + Sync {
    move |asked| match asked {
        Asked::Search { base, attributes, .. } if base == dn => {
            let values: Vec<_> = values.iter().map(|value| value.to_vec()).collect();
            let shown = if attributes[0].eq_ignore_ascii_case(attribute) { vec![(attribute, values)] } else { Vec::new() };
            Reply::Say(vec![entry(dn, &shown), done(0)])
        }
        Asked::Search { base, .. } if !base.is_empty() => Reply::Say(vec![done(32)]),
        other => sound(other),
    }
}

const CDP: &str = "CN=ca,CN=CDP,DC=corp,DC=example";

#[tokio::test]
async fn values_are_asked_for_as_binary_and_then_plainly() {
    let authority = Authority::new();
    for shown in ["certificateRevocationList;binary", "certificateRevocationList"] {
        let server = authority.server(holding(CDP, shown, &[b"\x30\x01", b"\xff"])).await;
        let directory = authority.directory(&[&server]);
        for asked in ["certificateRevocationList", "CERTIFICATErevocationlist;binary"] {
            let values = directory.values(CDP, asked, deadline()).await.unwrap();
            assert_eq!(values, [vec![0x30, 1], vec![0xFF]], "{shown} {asked}");
        }
        assert_eq!(directory.values(CDP, "deltaRevocationList", deadline()).await, Ok(Vec::new()));
        let failure = directory.values("CN=other", "certificateRevocationList", deadline()).await.unwrap_err();
        assert!(failure.cause == Cause::DirectoryRefused && failure.detail.contains("CN=other: no such object"), "{failure}");
    }
}

#[tokio::test]
async fn no_attribute_that_is_none_is_asked_for() {
    let authority = Authority::new();
    let server = authority.server(sound).await;
    let directory = authority.directory(&[&server]);
    for (dn, attribute) in
        [("", "cACertificate"), (CDP, ""), (CDP, "a b"), (CDP, "*"), (CDP, "a;b"), (CDP, "a,b"), (CDP, ";binary")]
    {
        assert_eq!(directory.values(dn, attribute, deadline()).await.unwrap_err().cause, Cause::DirectoryInvalid, "{attribute}");
    }
    assert_eq!(server.connections(), 0);
}

const STORE: &str = "CN=NTAuthCertificates,CN=Public Key Services,CN=Services,CN=Configuration,DC=corp,DC=example";

#[tokio::test]
async fn the_ntauth_store_is_read_and_its_absence_and_emptiness_told() {
    let authority = Authority::new();
    let full = authority.server(holding(STORE, "cACertificate", &[b"\x30\x01a", b"\x30\x01b"])).await;
    let store = authority.directory(&[&full]).nt_auth(deadline()).await.unwrap();
    assert_eq!(store.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>(), [b"\x30\x01a", b"\x30\x01b"]);

    let absent = authority.server(sound).await;
    let failure = authority.directory(&[&absent]).nt_auth(deadline()).await.unwrap_err();
    assert!(failure.cause == Cause::DirectoryRefused && failure.detail.contains("certutil -dspublish"), "{failure}");
    let empty = authority.server(holding(STORE, "cACertificate", &[])).await;
    let failure = authority.directory(&[&empty]).nt_auth(deadline()).await.unwrap_err();
    assert!(failure.detail.contains("holds no certificate"), "{failure}");
}

#[tokio::test]
async fn the_suffixes_are_those_added_by_hand_and_the_domains() {
    let text = |text: &str| text.as_bytes().to_vec();
    let authority = Authority::new();
    let server = authority
        .server(move |asked| match asked {
            Asked::Search { base, scope: 2, .. } if base == "CN=Partitions,CN=Configuration,DC=corp,DC=example" => {
                Reply::Say(vec![
                    entry("CN=Partitions", &[("uPNSuffixes", vec![text("Users.Example"), text("corp.example")])]),
                    entry("CN=CORP", &[("dnsRoot", vec![text("corp.example")])]),
                    entry("CN=SUB", &[("dnsRoot", vec![text("sub.corp.example")])]),
                    done(0),
                ])
            }
            other => sound(other),
        })
        .await;
    let suffixes = authority.directory(&[&server]).upn_suffixes(deadline()).await.unwrap();
    assert_eq!(suffixes, ["corp.example", "sub.corp.example", "users.example"]);
}

#[test]
fn a_configuration_that_cannot_bind_is_refused_with_its_file() {
    let authority = Authority::new();
    let config = authority.config(&[]);
    let file = |name: &str, contents: &[u8]| -> PathBuf {
        let path = authority.directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    };
    let table = [
        DirectoryConfig { bind_user: String::new(), ..config.clone() },
        DirectoryConfig { bind_password_file: file("empty", b""), ..config.clone() },
        DirectoryConfig { bind_password_file: file("empty-line", b"\r\nsecond\n"), ..config.clone() },
        DirectoryConfig { bind_password_file: file("long", &[b'x'; 5000]), ..config.clone() },
        DirectoryConfig { bind_password_file: authority.directory.path().join("missing"), ..config.clone() },
        DirectoryConfig { trust_anchors: vec![file("none.pem", b"nothing")], ..config.clone() },
        DirectoryConfig { trust_anchors: vec![authority.directory.path().join("missing")], ..config.clone() },
        DirectoryConfig { trust_anchors: Vec::new(), ..config.clone() },
    ];
    for config in table {
        assert!(Directory::load(&config).is_err(), "{config:?}");
    }
    assert!(Directory::load(&config).is_ok());
}

/// One server for all cases: its key is what takes the time.
static SERVER: LazyLock<(tokio::runtime::Runtime, Authority, FakeServer)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let authority = Authority::new();
    let server = runtime.block_on(authority.server(sound));
    (runtime, authority, server)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_answer_breaks_more_than_itself(bytes in prop::collection::vec(any::<u8>(), 1..5), at in any::<prop::sample::Index>(), cut in any::<bool>()) {
        // A good answer with a part overwritten.
        let mut answer: Vec<u8> = message_of(2, &entry(ALICE, &[("objectSid", vec![sid(1104).to_binary()])]));
        let start = at.index(answer.len());
        for (slot, byte) in answer.iter_mut().skip(start).zip(bytes.iter()) {
            *slot = *byte;
        }
        answer.extend(message_of(2, &done(0)));
        if cut {
            answer.truncate(start + 1);
        }
        let (runtime, authority, server) = &*SERVER;
        server.now(move |asked| match asked {
            Asked::Search { scope: 2, .. } => Reply::Last(answer.clone()),
            other => sound(other),
        });
        let directory = authority.directory(&[server]);
        let found = runtime.block_on(find(&directory));
        if let Ok(found) = &found {
            prop_assert!(found.iter().all(|account| account.sid == Some(sid(1104))));
        }
        prop_assert!(directory.health().iter().all(|health| health.busy == 0));
    }
}
