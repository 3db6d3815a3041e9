use proptest::prelude::*;

use super::*;

fn list(prefixes: &[&str]) -> AllowList {
    AllowList::parse(&prefixes.iter().map(|&prefix| prefix.to_owned()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn urls_below_a_prefix_are_allowed() {
    let rows = [
        ("http://pki.example/crl", "http://pki.example/crl"),
        ("http://pki.example/crl", "http://pki.example/crl/ca.crl"),
        ("http://pki.example/crl", "HTTP://PKI.example:80/crl/ca.crl"),
        ("http://pki.example/crl", "http://pki.example/crl?ca=3"),
        ("http://pki.example/crl/", "http://pki.example/crl/Contoso%20CA(1)+.crl"),
        ("http://pki.example/crl/a.crl", "http://pki.example/crl/a.crl"),
        ("http://PKI.example", "http://pki.example"),
        ("http://pki.example", "http://pki.example/anything"),
        ("http://pki.example/", "http://pki.example/..a/.b/c..d"),
        ("http://10.0.0.7:8080/crl", "http://10.0.0.7:8080/crl/x"),
        ("https://[FD00::1]:8443/", "https://[fd00:0:0::1]:8443/x"),
        ("https://pki.example/", "https://pki.example:443/x"),
        ("ldap:///", "ldap:///CN=CA,CN=CDP,DC=corp,DC=example?certificateRevocationList?base?objectClass=cRLDistributionPoint"),
        ("ldap:///", "LDAP:///CN=CA,DC=corp?deltaRevocationList;binary"),
        ("ldap:///CN=CDP,DC=corp", "ldap:///CN=My%20CA,cn=cdp,dc=Corp?certificateRevocationList?base?(objectClass=*)"),
        ("ldap:///CN=CDP,DC=corp", "ldap:///CN=CDP,DC=corp?certificateRevocationList"),
        ("ldap:///DC=corp", "ldap:///CN=a%5C%5C,DC=corp?certificateRevocationList"),
    ];
    for (prefix, url) in rows {
        let parsed = Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert!(list(&[prefix]).allows(&parsed), "{url} below {prefix}");
    }
}

#[test]
fn well_formed_urls_elsewhere_are_not_allowed() {
    let rows = [
        // other scheme, host, port
        ("http://pki.example/crl", "https://pki.example/crl/x"),
        ("https://pki.example/crl", "http://pki.example:443/crl/x"),
        ("http://pki.example/crl", "http://pki.example:8080/crl/x"),
        ("http://pki.example/crl", "http://pki.example.attacker.test/crl/x"),
        ("http://pki.example/crl", "http://notpki.example/crl/x"),
        ("http://pki.example/crl", "http://169.254.169.254/crl/x"),
        ("http://pki.example", "http://pki.example.attacker.test"),
        ("http://127.0.0.1/crl", "http://127.1/crl"),
        ("http://127.0.0.1/crl", "http://2130706433/crl"),
        ("http://127.0.0.1/crl", "http://0x7f.0.0.1/crl"),
        ("http://127.0.0.1/crl", "http://[::ffff:127.0.0.1]/crl"),
        // beside the path
        ("http://pki.example/crl", "http://pki.example/crl-private/x"),
        ("http://pki.example/crl", "http://pki.example/crl.old"),
        ("http://pki.example/crl", "http://pki.example/"),
        ("http://pki.example/crl", "http://pki.example/?/crl/x"),
        ("http://pki.example/crl", "http://pki.example/CRL/x"),
        ("http://pki.example/crl", "http://pki.example/%63rl/x"),
        ("http://pki.example/crl", "http://pki.example//crl/x"),
        ("http://pki.example/crl/", "http://pki.example/crl"),
        ("http://pki.example/crl/a.crl", "http://pki.example/crl/a.crl.bak"),
        // other kinds
        ("ldap:///", "http://pki.example/"),
        ("http://pki.example", "ldap:///CN=a,DC=b?certificateRevocationList"),
        ("ldap:///CN=CDP,DC=corp", "ldap:///CN=Users,DC=corp?certificateRevocationList"),
        ("ldap:///DC=corp", "ldap:///CN=x,ADC=corp?certificateRevocationList"),
        ("ldap:///DC=corp", "ldap:///CN=x%5C,DC=corp?certificateRevocationList"),
        ("ldap:///CN=CDP,DC=corp", "ldap:///DC=corp?certificateRevocationList"),
    ];
    for (prefix, url) in rows {
        let parsed = Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert!(!list(&[prefix]).allows(&parsed), "{url} below {prefix}");
        assert!(!list(&[]).allows(&parsed), "{url} with an empty list");
    }
}

#[test]
fn urls_that_could_be_read_in_two_ways_are_refused() {
    let long = format!("http://pki.example/{}", "a".repeat(MAX_LENGTH));
    let long_host = format!("http://{}.example/", "a.".repeat(130));
    let rows = [
        (long.as_str(), UrlError::TooLong),
        (&long_host, UrlError::Host),
        ("http://pki.example@attacker.test/crl", UrlError::UserInfo),
        ("http://pki.example:80@attacker.test/crl", UrlError::UserInfo),
        ("http://@pki.example/crl", UrlError::UserInfo),
        ("http://pki.example#@attacker.test/crl", UrlError::Fragment),
        ("http://pki.example/crl#x", UrlError::Fragment),
        ("http://attacker.test\\@pki.example/crl", UrlError::Character),
        ("http://pki.example\\attacker.test/crl", UrlError::Character),
        ("http://pki.example/crl\r\nX: y", UrlError::Character),
        ("http://pki.example/crl\t", UrlError::Character),
        ("http://pki.example/c rl", UrlError::Character),
        ("http://pki.example/\0", UrlError::Character),
        ("http://pkı.example/", UrlError::Character),
        ("http://pki。example/", UrlError::Character),
        ("http:///crl", UrlError::Host),
        ("http://", UrlError::Host),
        ("http://:80/crl", UrlError::Host),
        ("http://%70ki.example/crl", UrlError::Host),
        ("http://pki.example%00.attacker.test/crl", UrlError::Host),
        ("http://pki.example./crl", UrlError::Host),
        ("http://.pki.example/crl", UrlError::Host),
        ("http://pki..example/crl", UrlError::Host),
        ("http://pki.example,attacker.test/crl", UrlError::Host),
        ("http://[::1/crl", UrlError::Host),
        ("http://[fe80::1%25eth0]/crl", UrlError::Host),
        ("http://[pki.example]/crl", UrlError::Host),
        ("http://[::1]80/crl", UrlError::Port),
        ("http://pki.example:/crl", UrlError::Port),
        ("http://pki.example:0/crl", UrlError::Port),
        ("http://pki.example:080/crl", UrlError::Port),
        ("http://pki.example:+80/crl", UrlError::Port),
        ("http://pki.example:65536/crl", UrlError::Port),
        ("http://pki.example:80:80/crl", UrlError::Port),
        ("http://pki.example/crl/../private", UrlError::Path),
        ("http://pki.example/crl/..", UrlError::Path),
        ("http://pki.example/crl/./x", UrlError::Path),
        ("http://pki.example/crl/..;a=b/private", UrlError::Path),
        ("http://pki.example/crl/%2e%2e/private", UrlError::Path),
        ("http://pki.example/crl/.%2E/private", UrlError::Path),
        ("http://pki.example/crl/..%2fprivate", UrlError::Path),
        ("http://pki.example/crl/..%5cprivate", UrlError::Path),
        ("http://pki.example/crl/%252e%252e/private", UrlError::Path),
        ("http://pki.example/crl/%00", UrlError::Path),
        ("http://pki.example/crl/%0d%0aX:y", UrlError::Path),
        ("http://pki.example/crl/%", UrlError::Encoding),
        ("http://pki.example/crl/%4", UrlError::Encoding),
        ("http://pki.example/crl/%zz", UrlError::Encoding),
        ("", UrlError::Scheme),
        ("//pki.example/crl", UrlError::Scheme),
        ("http:/pki.example/crl", UrlError::Scheme),
        ("http:pki.example", UrlError::Scheme),
        (" http://pki.example/crl", UrlError::Character),
        ("file:///etc/passwd", UrlError::Scheme),
        ("ftp://pki.example/crl", UrlError::Scheme),
        ("gopher://pki.example/_GET", UrlError::Scheme),
        ("ldaps:///CN=a?certificateRevocationList", UrlError::Scheme),
        ("ldap://attacker.test/CN=a,DC=b?certificateRevocationList", UrlError::LdapHost),
        ("ldap://:389/CN=a,DC=b?certificateRevocationList", UrlError::LdapHost),
        ("ldap://", UrlError::LdapHost),
        ("ldap:///?certificateRevocationList", UrlError::LdapName),
        ("ldap:///CN=a%00,DC=b?certificateRevocationList", UrlError::LdapName),
        ("ldap:///CN=a%ff,DC=b?certificateRevocationList", UrlError::LdapName),
        ("ldap:///CN=%22a,DC=b%22?certificateRevocationList", UrlError::LdapName),
        ("ldap:///CN=a,DC=b", UrlError::LdapAttribute),
        ("ldap:///CN=a,DC=b?userPassword", UrlError::LdapAttribute),
        ("ldap:///CN=a,DC=b?*", UrlError::LdapAttribute),
        ("ldap:///CN=a,DC=b?certificateRevocationList,userPassword", UrlError::LdapAttribute),
        ("ldap:///CN=a,DC=b?certificateRevocationList;range=0-1", UrlError::LdapAttribute),
        ("ldap:///CN=a,DC=b?certificateRevocationList?sub", UrlError::LdapScope),
        ("ldap:///CN=a,DC=b?certificateRevocationList?one", UrlError::LdapScope),
        ("ldap:///CN=a,DC=b?certificateRevocationList?base?(&(objectClass=*)(cn=*))", UrlError::LdapFilter),
        ("ldap:///CN=a,DC=b?certificateRevocationList?base?(userPassword=a*)", UrlError::LdapFilter),
        ("ldap:///CN=a,DC=b?certificateRevocationList?base?objectClass=*?bindname=x", UrlError::LdapFilter),
    ];
    for (url, error) in rows {
        assert_eq!(Url::parse(url), Err(error), "{url:?}");
    }
}

#[test]
fn prefixes_are_urls_without_a_query() {
    let rows = [
        ("http://pki.example/crl?x", UrlError::PrefixQuery),
        ("pki.example", UrlError::Scheme),
        ("http://u:p@pki.example/", UrlError::UserInfo),
        ("ldap://dc1.corp.example/", UrlError::LdapHost),
        ("ldap:///CN=a?certificateRevocationList", UrlError::LdapName),
        ("ldap:///x", UrlError::LdapName),
        ("http://pki.example/a/../", UrlError::Path),
        ("", UrlError::Scheme),
    ];
    for (prefix, error) in rows {
        assert_eq!(AllowList::parse(&[prefix.to_owned()]).unwrap_err(), (prefix.to_owned(), error));
    }
    assert!(list(&["http://a", "https://b"]).needs_tls() && !list(&["http://a", "ldap:///"]).needs_tls());
}

#[test]
fn what_goes_into_the_request_is_what_was_compared() {
    let url = HttpUrl::parse("HTTP://[FD00::0:1]:8080/a%20b;c?d=/../e").unwrap();
    assert_eq!(url.origin.to_string(), "[fd00::1]:8080");
    assert_eq!(url.target(), "/a%20b;c?d=/../e");
    let url = HttpUrl::parse("https://Pki.Example:443").unwrap();
    assert_eq!((url.origin.to_string(), url.target()), ("pki.example".into(), "/".into()));
    assert_eq!(HttpUrl::parse("ldap:///CN=a,DC=b?certificateRevocationList"), Err(UrlError::Scheme));
}

#[test]
fn what_a_stranger_wrote_is_shown_printable_and_short() {
    assert_eq!(shown("http://a/\n\u{202e}\x1b[m"), "http://a/???[m");
    assert_eq!(shown(&"x".repeat(161)), format!("{}...", "x".repeat(160)));
    assert_eq!(shown(&"x".repeat(160)), "x".repeat(160));
}

proptest! {
    #[test]
    fn the_url_reader_is_total(text in "\\PC{0,80}", tail in "[a-z0-9%./:@?#\\[\\]=,;()\\\\-]{0,60}", scheme in 0..4_usize) {
        let scheme = ["", "http://", "https://", "ldap:///"][scheme];
        for url in [format!("{scheme}{text}"), format!("{scheme}{tail}")] {
            let _ = (Url::parse(&url), AllowList::parse(std::slice::from_ref(&url)), shown(&url));
        }
    }

    #[test]
    fn whatever_is_allowed_goes_to_the_allowed_host_and_stays_below_the_path(tail in "[a-z0-9%./:@?#;\\\\-]{0,40}") {
        let url = format!("http://pki.example/crl{tail}");
        if let Ok(parsed) = Url::parse(&url) && list(&["http://pki.example/crl"]).allows(&parsed) {
            let Url::Http(http) = parsed else { panic!("{url}") };
            prop_assert_eq!(http.origin.to_string(), "pki.example");
            let target = http.target();
            let path = target.split('?').next().unwrap();
            prop_assert!(path == "/crl" || path.starts_with("/crl/"));
            prop_assert!(!path.split('/').any(|segment| segment == ".." || segment == "."));
        }
    }
}
