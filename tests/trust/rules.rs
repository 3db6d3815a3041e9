//! What certificates are held to by the CAs above them: usages, templates, policies, pinning, NTAuth; and what devices try in order
//! to be judged by other rules.

use kcd_bridge::failure::{Cause, Failure};
use kcd_bridge::tls::{NtAuth, Trust, Usage};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose as Eku, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;

use crate::forge::{element, extension, policies};
use crate::pki::{AtOnce as _, Ca, Files, params, pem, upn, year};

const CLIENT_AUTH: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
const SERVER_AUTH: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const SMART_CARD: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x02];
const ANY_APPLICATION: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0A, 0x0C, 0x01];
const ANY_USAGE: &[u8] = &[0x55, 0x1D, 0x25, 0x00];
/// 1.2.3.4, 1.2.3.5 and anyPolicy
const HIGH: &[u8] = &[0x2A, 0x03, 0x04];
const LOW: &[u8] = &[0x2A, 0x03, 0x05];
const ANY_POLICY: &[u8] = &[0x55, 0x1D, 0x20, 0x00];

fn certificate_policies(listed: &[&[u8]]) -> CustomExtension {
    policies(&[2, 5, 29, 32], false, listed)
}

fn application_policies(listed: &[&[u8]]) -> CustomExtension {
    policies(&[1, 3, 6, 1, 4, 1, 311, 21, 10], false, listed)
}

/// szOID_ENROLL_CERTTYPE_EXTENSION, a BMPString
fn template_name(name: &str) -> CustomExtension {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_be_bytes).collect();
    extension(&[1, 3, 6, 1, 4, 1, 311, 20, 2], false, element(0x1E, &[&units]))
}

/// szOID_CERTIFICATE_TEMPLATE with its versions
fn template_oid(oid: &[u8]) -> CustomExtension {
    let content = element(0x30, &[&element(0x06, &[oid]), &[2, 1, 100], &[2, 1, 3]]);
    extension(&[1, 3, 6, 1, 4, 1, 311, 21, 7], false, content)
}

fn smart_card() -> Eku {
    Eku::Other(vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 2])
}

fn admit(trust: &Trust, chain: &[CertificateDer<'_>]) -> Result<(), Failure> {
    trust.admit_now(chain, year(2026)).map(drop)
}

#[track_caller]
fn refused(result: Result<(), Failure>, cause: Cause, detail: &str) {
    let failure = result.unwrap_err();
    assert_eq!(failure.cause, cause, "{failure}");
    assert!(failure.detail.contains(detail), "{failure}");
}

#[test]
fn what_one_ca_may_issue_another_may_not() {
    let (cards, devices) = (Ca::root("Card CA"), Ca::root("Device CA"));
    let trust = Files::trusting(&[&cards, &devices]).issuer(&cards, &[Usage::SmartCardLogon], |_| {}).trust();
    let card = |ca: &Ca| ca.device(|params| params.extended_key_usages = vec![smart_card()]).chain();
    let device = |ca: &Ca| ca.device(|_| {}).chain();
    assert!(admit(&trust, &card(&cards)).is_ok() && admit(&trust, &device(&devices)).is_ok());
    refused(admit(&trust, &card(&devices)), Cause::CertificateUnsuitable, "accepted for its issuer: client-auth");
    refused(admit(&trust, &device(&cards)), Cause::CertificateUnsuitable, "accepted for its issuer: smart-card-logon");
}

#[test]
fn the_entry_of_the_ca_nearest_to_the_leaf_counts() {
    let root = Ca::root("Root");
    let (policy, other) = (root.subordinate("Policy CA", |_| {}), root.subordinate("Other CA", |_| {}));
    let issuing = policy.subordinate("Issuing CA", |_| {});
    let below = |ca: &Ca| vec![ca.device(|params| params.extended_key_usages = vec![smart_card()]).der];
    let files = || Files::trusting(&[&root]).intermediate(&policy).intermediate(&other).intermediate(&issuing);
    let (smart, client): (&[Usage], &[Usage]) = (&[Usage::SmartCardLogon], &[Usage::ClientAuth]);
    let from_root = files().issuer(&root, smart, |_| {}).trust();
    assert!(admit(&from_root, &below(&issuing)).is_ok() && admit(&from_root, &below(&other)).is_ok());
    let narrowed = files().issuer(&root, smart, |_| {}).issuer(&policy, client, |_| {}).trust();
    refused(admit(&narrowed, &below(&issuing)), Cause::CertificateUnsuitable, "accepted for its issuer: client-auth");
    assert!(admit(&narrowed, &below(&other)).is_ok());
    let widened = files().issuer(&policy, client, |_| {}).issuer(&issuing, smart, |_| {}).trust();
    assert!(admit(&widened, &below(&issuing)).is_ok());
    refused(admit(&widened, &below(&policy)), Cause::CertificateUnsuitable, "accepted for its issuer: client-auth");
}

#[test]
fn an_entry_is_about_a_key_whatever_the_certificate_that_names_it() {
    let root = Ca::root("Root");
    let issuing = root.subordinate("Issuing CA", |_| {});
    let renewed = renewed(&issuing, "Issuing CA", &root, |_| {});
    let named = Ca { pem: pem("CERTIFICATE", &renewed), ..Ca::root("unused") };
    let trust = Files::trusting(&[&root]).intermediate(&issuing).issuer(&named, &[Usage::SmartCardLogon], |_| {}).trust();
    refused(admit(&trust, &issuing.device(|_| {}).chain()), Cause::CertificateUnsuitable, "smart-card-logon");
}

/// Another certificate for the key of a CA.
fn renewed(ca: &Ca, name: &str, by: &Ca, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    params.signed_by(ca.issuer.key(), &by.issuer).unwrap().der().clone()
}

#[test]
fn every_ca_with_a_usage_must_allow_one_that_the_leaf_is_accepted_for() {
    let chain = |cas: &[Vec<Eku>], leaf: Vec<Eku>| {
        let mut authorities = vec![Ca::root("Root")];
        for (index, usages) in cas.iter().enumerate() {
            let above = authorities.last().unwrap();
            let next = above.subordinate(&format!("CA {index}"), |params| params.extended_key_usages.clone_from(usages));
            authorities.push(next);
        }
        let mut chain = vec![authorities.last().unwrap().device(|params| params.extended_key_usages = leaf).der];
        chain.extend(authorities[1..].iter().rev().map(|ca| ca.der.clone()));
        let root = authorities.remove(0);
        let named = [Usage::ClientAuth, Usage::SmartCardLogon, Usage::Any, Usage::None];
        admit(&Files::trusting(&[&root]).issuer(&root, &named, |_| {}).trust(), &chain)
    };
    let (client, server, card, any) = (Eku::ClientAuth, Eku::ServerAuth, smart_card(), Eku::Any);
    let one = |usage: &Eku| vec![usage.clone()];
    for (cas, leaf) in [
        (vec![one(&client)], one(&client)),
        (vec![vec![server.clone(), card.clone()]], vec![client.clone(), card.clone()]),
        (vec![one(&any)], one(&card)),
        (vec![vec![], one(&card)], one(&card)),
        (vec![one(&client)], vec![]),
        (vec![one(&client)], one(&any)),
        (vec![vec![client.clone(), card.clone()], one(&card)], vec![]),
    ] {
        assert!(chain(&cas, leaf.clone()).is_ok(), "{cas:?} {leaf:?}");
    }
    for (cas, leaf) in [
        (vec![one(&server)], one(&client)),
        (vec![one(&card)], one(&client)),
        (vec![one(&client)], one(&card)),
        (vec![one(&client), vec![]], one(&card)),
        (vec![one(&server)], vec![]),
        (vec![one(&server)], one(&any)),
        // Each allows one of them, and no usage is allowed by both.
        (vec![one(&client), one(&card)], vec![client.clone(), card.clone()]),
        (vec![one(&client), one(&card)], vec![]),
    ] {
        refused(chain(&cas, leaf), Cause::CertificateUnsuitable, "may issue only for");
    }
}

#[test]
fn a_usage_that_was_not_named_is_not_had_by_way_of_an_unrestricted_leaf() {
    let root = Ca::root("Root");
    let cards = root.subordinate("Card CA", |params| params.extended_key_usages = vec![smart_card()]);
    let chain = [cards.device(|params| params.extended_key_usages = vec![]).der, cards.der.clone()];
    let trust = |usages: &[Usage]| Files::trusting(&[&root]).issuer(&root, usages, |_| {}).trust();
    refused(admit(&trust(&[Usage::None]), &chain), Cause::CertificateUnsuitable, "may issue only for 1.3.6.1.4.1.311.20.2.2");
    assert!(admit(&trust(&[Usage::None, Usage::SmartCardLogon]), &chain).is_ok());
}

#[test]
fn the_anchors_own_usages_bind_it_too() {
    let servers = Ca::root("Root").subordinate("Server CA", |params| params.extended_key_usages = vec![Eku::ServerAuth]);
    let trust = Files::trusting(&[&servers]).trust();
    refused(admit(&trust, &servers.device(|_| {}).chain()), Cause::CertificateUnsuitable, "CN=Server CA may issue only for");
}

#[test]
fn application_policies_grant_nothing_and_narrow_what_is_granted() {
    let with = |usages: Vec<Eku>, listed: &[&[u8]], named: &[Usage]| {
        let ca = Ca::root("Device CA");
        let device = ca.device(|params| {
            params.extended_key_usages = usages;
            params.custom_extensions = vec![application_policies(listed)];
        });
        admit(&Files::trusting(&[&ca]).issuer(&ca, named, |_| {}).trust(), &device.chain())
    };
    let client = &[Usage::ClientAuth][..];
    assert!(with(vec![Eku::ClientAuth], &[CLIENT_AUTH], client).is_ok());
    assert!(with(vec![Eku::ClientAuth], &[SERVER_AUTH, CLIENT_AUTH], client).is_ok());
    // ESC15: a requester adds application policies to a template without clientAuth.
    refused(
        with(vec![Eku::ServerAuth], &[CLIENT_AUTH], client),
        Cause::CertificateUnsuitable,
        "extended key usage is 1.3.6.1.5.5.7.3.1",
    );
    refused(with(vec![], &[CLIENT_AUTH], client), Cause::CertificateUnsuitable, "it has no extended key usage");
    let narrowed = "its application policies are";
    refused(with(vec![Eku::ClientAuth], &[SERVER_AUTH], client), Cause::CertificateUnsuitable, narrowed);
    refused(with(vec![Eku::ClientAuth], &[ANY_APPLICATION], client), Cause::CertificateUnsuitable, narrowed);
    refused(with(vec![Eku::ClientAuth], &[ANY_USAGE], client), Cause::CertificateUnsuitable, narrowed);
    assert!(with(vec![Eku::ClientAuth], &[ANY_APPLICATION], &[Usage::ClientAuth, Usage::Any]).is_ok());
    // The usage of one list and the policy of the other do not add up.
    let both = &[Usage::ClientAuth, Usage::SmartCardLogon];
    refused(with(vec![Eku::ClientAuth], &[SMART_CARD], both), Cause::CertificateUnsuitable, narrowed);
    refused(with(vec![Eku::ClientAuth], &[], client), Cause::CertificateUnsuitable, "application policies: ");
}

#[test]
fn application_policies_of_a_ca_bind_what_it_issues() {
    let root = Ca::root("Root");
    let trust = Files::trusting(&[&root]).trust();
    for (listed, let_in) in [(&[CLIENT_AUTH][..], true), (&[ANY_APPLICATION], true), (&[SERVER_AUTH], false)] {
        let issuing = root.subordinate("Issuing CA", |params| params.custom_extensions = vec![application_policies(listed)]);
        let admitted = admit(&trust, &[issuing.device(|_| {}).der, issuing.der]);
        if let_in {
            admitted.unwrap();
        } else {
            refused(admitted, Cause::CertificateUnsuitable, "CN=Issuing CA may issue only for");
        }
    }
}

#[test]
fn a_template_must_be_named_by_the_leaf_and_allowed_for_its_ca() {
    let (strict, free) = (Ca::root("Strict CA"), Ca::root("Free CA"));
    let allowed = |templates: &[&str]| templates.iter().map(|&template| template.to_owned()).collect::<Vec<_>>();
    let trust = Files::trusting(&[&strict, &free])
        .issuer(&strict, &[Usage::ClientAuth], |issuer| issuer.templates = allowed(&["Device", "1.2.3.4"]))
        .trust();
    let from = |ca: &Ca, extensions: Vec<CustomExtension>| {
        admit(&trust, &ca.device(|params| params.custom_extensions = extensions).chain())
    };
    for named in [vec![template_name("Device")], vec![template_oid(HIGH)], vec![template_name("Device"), template_oid(HIGH)]] {
        assert!(from(&strict, named).is_ok());
    }
    let other = Cause::TemplateNotAllowed;
    refused(from(&strict, vec![]), other, "it names no template");
    refused(from(&strict, vec![template_name("User")]), other, "User");
    refused(from(&strict, vec![template_name("device")]), other, "device");
    refused(from(&strict, vec![template_oid(LOW)]), other, "1.2.3.5");
    refused(from(&strict, vec![template_name("1.2.3.4")]), other, "1.2.3.4");
    refused(from(&strict, vec![template_name("Device"), template_oid(LOW)]), other, "1.2.3.5");
    let malformed = extension(&[1, 3, 6, 1, 4, 1, 311, 20, 2], false, vec![0x1E, 1, b'D']);
    refused(from(&strict, vec![malformed]), Cause::CertificateUnsuitable, "certificate template: ");
    assert!(from(&free, vec![]).is_ok() && from(&free, vec![template_name("User")]).is_ok());
}

#[test]
fn a_policy_must_be_asserted_by_the_leaf_and_by_every_ca_below_the_one_that_requires_it() {
    let root = Ca::root("Root");
    let required = |ca: &Ca| {
        let files = Files::trusting(&[&root]);
        files.issuer(ca, &[Usage::ClientAuth], |issuer| issuer.policies = vec!["1.2.3.4".into(), "1.2.3.9".into()]).trust()
    };
    let issuing = |extensions| root.subordinate("Issuing CA", |params| params.custom_extensions = extensions);
    let chain = |ca: &Ca, extensions| [ca.device(|params| params.custom_extensions = extensions).der, ca.der.clone()];
    let high = || vec![certificate_policies(&[LOW, HIGH])];

    let silent = issuing(vec![]);
    assert!(admit(&required(&silent), &chain(&silent, high())).is_ok(), "the CA itself is trusted by name");
    refused(admit(&required(&root), &chain(&silent, high())), Cause::PolicyNotAsserted, "CN=Issuing CA may not issue under");
    for own in [&[HIGH][..], &[ANY_POLICY]] {
        let asserting = issuing(vec![certificate_policies(own)]);
        assert!(admit(&required(&root), &chain(&asserting, high())).is_ok());
    }
    let other = issuing(vec![certificate_policies(&[LOW])]);
    refused(admit(&required(&root), &chain(&other, high())), Cause::PolicyNotAsserted, "CN=Issuing CA may not issue under");

    for (extensions, detail) in [
        (vec![], "it asserts none"),
        (vec![certificate_policies(&[LOW])], "it asserts 1.2.3.5"),
        (vec![certificate_policies(&[ANY_POLICY])], "it asserts 2.5.29.32.0"),
    ] {
        refused(admit(&required(&silent), &chain(&silent, extensions)), Cause::PolicyNotAsserted, detail);
    }
    let malformed = vec![extension(&[2, 5, 29, 32], false, vec![0x30, 0])];
    refused(admit(&required(&silent), &chain(&silent, malformed)), Cause::CertificateUnsuitable, "certificate policies: ");
}

#[test]
fn only_a_pinned_key_may_sign_a_leaf() {
    let root = Ca::root("Root");
    let (pinned, other) = (root.subordinate("Issuing CA", |_| {}), root.subordinate("Other CA", |_| {}));
    let trust = Files::trusting(&[&root]).intermediate(&pinned).intermediate(&other).pinned(&[&pinned]).trust();
    assert!(admit(&trust, &pinned.device(|_| {}).chain()).is_ok());
    refused(admit(&trust, &other.device(|_| {}).chain()), Cause::IssuerNotAllowed, "CN=Other CA with key ");
    refused(admit(&trust, &root.device(|_| {}).chain()), Cause::IssuerNotAllowed, "CN=Root with key ");
    // Not above the leaf: signing it.
    let below = pinned.subordinate("Sub CA", |_| {});
    refused(admit(&trust, &[below.device(|_| {}).der, below.der]), Cause::IssuerNotAllowed, "CN=Sub CA with key ");
    // Another key under the pinned name.
    let namesake = root.subordinate("Issuing CA", |_| {});
    refused(admit(&trust, &[namesake.device(|_| {}).der, namesake.der]), Cause::IssuerNotAllowed, "CN=Issuing CA with key ");
    // The same key in a renewed certificate.
    let renewed = renewed(&pinned, "Issuing CA", &root, |_| {});
    let bare = Files::trusting(&[&root]).pinned(&[&pinned]).trust();
    assert!(admit(&bare, &[pinned.device(|_| {}).der, renewed]).is_ok());
}

#[test]
fn the_issuing_ca_must_be_in_the_ntauth_store_by_key_and_name() {
    let root = Ca::root("Root");
    let (listed, other) = (root.subordinate("Issuing CA", |_| {}), root.subordinate("Other CA", |_| {}));
    let files = || Files::trusting(&[&root]).intermediate(&listed).intermediate(&other);
    let by_file = files().nt_auth(&[&listed]).trust();
    let directory = files().with(|config| config.nt_auth = NtAuth::Directory);
    let by_directory = directory.trust_with_directory(Some(std::slice::from_ref(&listed.der)));
    for trust in [by_file, by_directory] {
        assert!(admit(&trust, &listed.device(|_| {}).chain()).is_ok());
        refused(admit(&trust, &other.device(|_| {}).chain()), Cause::NotInNtAuth, "CN=Other CA with key ");
        refused(admit(&trust, &root.device(|_| {}).chain()), Cause::NotInNtAuth, "CN=Root with key ");
        // The key of a listed CA under another name, and its name with another key.
        let renamed = renewed(&listed, "Renamed CA", &root, |_| {});
        let mut leaf = params("alice");
        leaf.extended_key_usages = vec![Eku::ClientAuth];
        let renamed_issuer = Issuer::new(
            {
                let mut issuer = params("Renamed CA");
                issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                issuer
            },
            listed.issuer.key(),
        );
        let by_renamed = leaf.signed_by(&KeyPair::generate().unwrap(), &renamed_issuer).unwrap().der().clone();
        refused(admit(&trust, &[by_renamed, renamed]), Cause::NotInNtAuth, "CN=Renamed CA with key ");
        let namesake = root.subordinate("Issuing CA", |_| {});
        refused(admit(&trust, &[namesake.device(|_| {}).der, namesake.der]), Cause::NotInNtAuth, "CN=Issuing CA with key ");
    }
    // The anchor listed is not its subordinates listed.
    let anchor = files().nt_auth(&[&root]).trust();
    refused(admit(&anchor, &listed.device(|_| {}).chain()), Cause::NotInNtAuth, "not among its 1 CAs");
}

#[test]
fn a_ntauth_store_that_was_not_read_or_is_empty_lets_nobody_in() {
    let ca = Ca::root("Device CA");
    let files = Files::trusting(&[&ca]).with(|config| config.nt_auth = NtAuth::Directory);
    let chain = ca.device(|_| {}).chain();
    refused(admit(&files.trust_with_directory(None), &chain), Cause::NotInNtAuth, "has not been read");
    refused(admit(&files.trust_with_directory(Some(&[])), &chain), Cause::NotInNtAuth, "not among its 0 CAs");
    let junk = [CertificateDer::from(vec![0x30, 0x00])];
    refused(admit(&files.trust_with_directory(Some(&junk)), &chain), Cause::NotInNtAuth, "not among its 0 CAs");
}

#[test]
fn a_path_that_the_rules_refuse_gives_way_to_one_that_they_do_not() {
    // The issuing CA is certified twice: by a root whose rules refuse the leaf, and by one whose rules do not.
    let (strict, lenient) = (Ca::root("Strict Root"), Ca::root("Lenient Root"));
    let issuing = strict.subordinate("Issuing CA", |_| {});
    let cross = renewed(&issuing, "Issuing CA", &lenient, |_| {});
    let device = issuing.device(|_| {}).der;
    let cards = [Usage::SmartCardLogon];
    let both = Files::trusting(&[&strict, &lenient]).issuer(&strict, &cards, |_| {}).trust();
    assert!(admit(&both, &[device.clone(), issuing.der.clone(), cross.clone()]).is_ok());
    assert!(admit(&both, &[device.clone(), cross.clone(), issuing.der.clone()]).is_ok());
    let detail = "accepted for its issuer: smart-card-logon";
    refused(admit(&both, &[device.clone(), issuing.der.clone()]), Cause::CertificateUnsuitable, detail);
    // A rule about the CA itself holds on either path.
    let bound = Files::trusting(&[&strict, &lenient]).issuer(&issuing, &cards, |_| {}).trust();
    refused(admit(&bound, &[device, cross, issuing.der.clone()]), Cause::CertificateUnsuitable, detail);
}

#[test]
fn a_device_cannot_put_a_worse_ca_certificate_before_the_configured_one() {
    let root = Ca::root("Root");
    let issuing = root.subordinate("Issuing CA", |_| {});
    let old = renewed(&issuing, "Issuing CA", &root, |params| params.not_after = rcgen::date_time_ymd(2027, 1, 1));
    let trust = Files::trusting(&[&root]).intermediate(&issuing).trust();
    let admitted = trust.admit_now(&[issuing.device(|_| {}).der, old], year(2026)).unwrap();
    assert_eq!(admitted.path()[1], issuing.der);
}

#[test]
fn a_presented_certificate_with_a_doubled_extension_is_refused_even_where_it_is_not_needed() {
    let ca = Ca::root("Device CA");
    let twice = |params: &mut CertificateParams| {
        params.custom_extensions = vec![extension(&[1, 2, 3], false, vec![5, 0]); 2];
    };
    let unrelated = Ca::root("Other").subordinate("Unrelated", twice);
    let trust = Files::trusting(&[&ca]).trust();
    let chain = [ca.device(|_| {}).der, unrelated.der];
    refused(admit(&trust, &chain), Cause::CertificateUnsuitable, "a presented certificate: extension 1.2.3 occurs twice");
}

#[test]
fn a_thicket_of_presented_cas_is_judged_without_trying_every_order() {
    // Nine CAs of one name that all seem to certify each other: hundreds of thousands of paths.
    let leaf_ca = Ca::root("Thicket");
    let thicket: Vec<_> = (0..9).map(|_| Ca::root("Thicket").der).collect();
    let chain: Vec<_> = std::iter::once(leaf_ca.device(|_| {}).der).chain(thicket).collect();
    let trust = Files::trusting(&[&Ca::root("Device CA")]).trust();
    let begun = std::time::Instant::now();
    refused(admit(&trust, &chain), Cause::UnknownIssuer, "issued by CN=Thicket");
    // Cross-certified in pairs they are tried, within bounds.
    let (one, two) = (Ca::root("One"), Ca::root("Two"));
    let pairs =
        (0..9).map(|index| if index % 2 == 0 { one.subordinate("Two", |_| {}).der } else { two.subordinate("One", |_| {}).der });
    let chain: Vec<_> = std::iter::once(two.device(|_| {}).der).chain(pairs).collect();
    refused(admit(&trust, &chain), Cause::CertificateUnsuitable, "the chain is too deep or too branched");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn no_bit_of_a_presented_chain_can_be_changed() {
    let root = Ca::root("Root");
    let issuing = root.subordinate("Issuing CA", |_| {});
    let trust = Files::trusting(&[&root]).trust();
    let chain = [issuing.device(|_| {}).der, issuing.der.clone()];
    trust.verify(&chain, year(2026)).unwrap();
    for (index, der) in chain.iter().enumerate() {
        for at in 0..der.len() {
            let mut changed = chain.to_vec();
            let mut bytes = der.to_vec();
            bytes[at] ^= 1 << (at % 8);
            changed[index] = bytes.into();
            assert!(trust.verify(&changed, year(2026)).is_err(), "certificate {index}, byte {at}");
        }
    }
}

#[test]
fn an_extension_that_decides_and_cannot_be_read_is_a_refusal() {
    let ca = Ca::root("Device CA");
    let trust = Files::trusting(&[&ca]).trust();
    let with = |oid: &[u64], content: &[u8]| {
        let device = ca.device(|params| {
            params.extended_key_usages = if oid == [2, 5, 29, 37] { vec![] } else { vec![Eku::ClientAuth] };
            params.key_usages = vec![];
            params.custom_extensions = vec![extension(oid, false, content.to_vec())];
        });
        admit(&trust, &device.chain())
    };
    let usage_with_more = [&element(0x30, &[&element(6, &[CLIENT_AUTH])]), &[5, 0][..]].concat();
    for (oid, content) in [
        (&[2, 5, 29, 37][..], &[0x31, 0x00][..]),
        (&[2, 5, 29, 37], &usage_with_more),
        (&[2, 5, 29, 37], &[0x30, 0x03, 0x02, 0x01, 0x01]),
        (&[2, 5, 29, 15], &[0x03, 0x01, 0x00]),
        (&[2, 5, 29, 15], &[0x04, 0x02, 0x07, 0x80]),
        (&[2, 5, 29, 19], &[0x31, 0x00]),
        (&[2, 5, 29, 19], &[0x30, 0x03, 0x02, 0x01, 0x01, 0x00]),
        (&[1, 3, 6, 1, 4, 1, 311, 21, 10], &[0x30, 0x80]),
    ] {
        let failure = with(oid, content).unwrap_err();
        assert_eq!(failure.cause, Cause::CertificateUnsuitable, "{oid:?} {content:02x?}: {failure}");
    }
    assert!(with(&[2, 5, 29, 15], &[0x03, 0x02, 0x07, 0x80]).is_ok());
    assert!(with(&[2, 5, 29, 37], &element(0x30, &[&element(6, &[CLIENT_AUTH])])).is_ok());
}

#[test]
fn a_path_length_and_an_issuer_that_is_no_ca_are_named() {
    let root = Ca::root("Root");
    let short = root.subordinate("Short CA", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = short.subordinate("Sub CA", |_| {});
    let trust = Files::trusting(&[&root]).trust();
    let chain = [below.device(|_| {}).der, below.der.clone(), short.der.clone()];
    refused(admit(&trust, &chain), Cause::CertificateUnsuitable, "path length constraint");
    let device = root.subordinate("Not a CA", |params| params.is_ca = IsCa::ExplicitNoCa);
    refused(admit(&trust, &[device.device(|_| {}).der, device.der]), Cause::CertificateUnsuitable, "its issuer is not a CA");
}

#[test]
fn an_admitted_certificate_knows_its_issuer() {
    let root = Ca::root("Root");
    let issuing = root.subordinate("Issuing CA", |_| {});
    let trust = Files::trusting(&[&root]).intermediate(&issuing).trust();
    let device = issuing.device(|params| params.subject_alt_names = vec![upn("alice@corp.example")]);
    let admitted = trust.admit_now(&device.chain(), year(2026)).unwrap();
    assert_eq!((admitted.issuer().subject.as_str(), admitted.issuer().issuer.as_str()), ("CN=Issuing CA", "CN=Root"));
    let by_root = trust.admit_now(&root.device(|_| {}).chain(), year(2026)).unwrap();
    assert_ne!(admitted.issuer_key(), by_root.issuer_key());
    assert_eq!(admitted.path(), [device.der, issuing.der, root.der]);
}

#[test]
fn entries_that_cannot_mean_anything_are_refused_when_they_are_loaded() {
    let ca = Ca::root("Device CA");
    let problem = |files: Files| files.load().unwrap_err().to_string();
    let client = &[Usage::ClientAuth];
    let twice = Files::trusting(&[&ca]).issuer(&ca, client, |_| {}).issuer(&ca, client, |_| {});
    let error = problem(twice);
    assert!(error.contains("issuer-1.pem: has the same key as another client_certificates.issuer"), "{error}");
    let with = |change: fn(&mut kcd_bridge::tls::IssuerConfig)| problem(Files::trusting(&[&ca]).issuer(&ca, client, change));
    for (error, expected) in [
        (with(|issuer| issuer.usages = vec![]), "allows no usage"),
        (with(|issuer| issuer.templates = vec![" User".into()]), "a template without a name"),
        (with(|issuer| issuer.policies = vec!["high".into()]), "policy \"high\", which is no OID"),
    ] {
        assert!(error.contains("issuer-0.pem") && error.contains(expected), "{error}");
    }
    let device = Ca { pem: pem("CERTIFICATE", &ca.device(|_| {}).der), ..Ca::root("unused") };
    for files in [
        Files::trusting(&[&ca]).pinned(&[&device]),
        Files::trusting(&[&ca]).nt_auth(&[&device]),
        Files::trusting(&[&ca]).issuer(&device, client, |_| {}),
        Files::trusting(&[&ca]).intermediate(&device),
    ] {
        let error = problem(files);
        assert!(error.contains("CA"), "{error}");
    }
}

#[test]
fn a_configured_ca_that_may_not_sign_certificates_is_refused_when_it_is_loaded() {
    let root = Ca::root("Root");
    let only_crls = root.subordinate("CRL CA", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    for files in [Files::trusting(&[&only_crls]), Files::trusting(&[&root]).intermediate(&only_crls)] {
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains("the key usage of CN=CRL CA lacks keyCertSign"), "{error}");
    }
}
