use super::*;

#[test]
fn durations_need_their_unit() {
    for (text, milliseconds) in [("500ms", 500), ("10s", 10_000), ("15m", 900_000), ("4h", 14_400_000), ("0s", 0)] {
        assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        assert_eq!(show_duration(Duration::from_millis(milliseconds)), text);
    }
    for bad in ["10", "s", "", "1.5s", "-1s", "10 s", "10S", "1d", "99999999999999999999s", "18446744073709551615h"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn sizes_are_binary() {
    for (text, bytes) in [("64KiB", 65536), ("30MiB", 31_457_280), ("1GiB", 1 << 30), ("1000", 1000)] {
        assert_eq!(size(text), Ok(bytes), "{text}");
        assert_eq!(show_size(bytes), text);
    }
    for bad in ["64KB", "64k", "MiB", "-1", "1.5MiB", "18446744073709551615KiB"] {
        assert!(size(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_fingerprint_may_have_colons_between_all_its_bytes_or_none() {
    let plain = "ab".repeat(32);
    let colons = vec!["AB"; 32].join(":");
    assert_eq!(sha256(&plain), Ok([0xab; 32]));
    assert_eq!(sha256(&colons), Ok([0xab; 32]));
    let shifted = format!("a:{}", colons.replacen("AB:", "B", 1));
    for bad in ["", "ab", &plain[1..], &plain.replacen('a', "g", 1), &colons[1..], &shifted, &"é".repeat(32)] {
        assert!(sha256(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_kdc_is_a_host_with_or_without_a_port() {
    let kdc = |host: &str, port| Ok(KdcAddress { host: host.into(), port });
    assert_eq!(kdc_address("dc1.corp.example"), kdc("dc1.corp.example", 88));
    assert_eq!(kdc_address("dc1:8888"), kdc("dc1", 8888));
    assert_eq!(kdc_address("10.0.0.1"), kdc("10.0.0.1", 88));
    assert_eq!(kdc_address("[fd00::1]:99"), kdc("fd00::1", 99));
    assert_eq!(kdc_address("fd00::1"), kdc("fd00::1", 88));
    for bad in ["", "dc1:", "dc1:0", "dc1:70000", "dc1:+88", "tcp/dc1", "ldap://dc1", "dc 1", "10.0.0.256", "[dc1]:88", "a..b"] {
        assert!(kdc_address(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_back_end_url_is_scheme_and_authority_only() {
    let url = backend_url("https://mbx1.corp.example").unwrap();
    assert_eq!((url.https, url.authority.port, url.written.as_str()), (true, 443, "mbx1.corp.example"));
    let url = backend_url("http://[fd00::1]:8080/").unwrap();
    assert_eq!((url.https, url.authority.host.as_str(), url.written.as_str()), (false, "fd00::1", "[fd00::1]:8080"));
    for bad in [
        "mbx1",
        "ftp://mbx1",
        "http://",
        "http://u:p@mbx1",
        "http://mbx1/exchange",
        "http://mbx1/?x",
        "http://mbx1:x",
        "http://mbx1/#f",
    ] {
        assert!(backend_url(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let complaint = backend_url("http://user:hunter2@mbx1").unwrap_err();
    assert!(!complaint.to_string().contains("hunter2"), "{complaint}");
}

#[test]
fn a_computer_account_cannot_stand_in_the_static_table() {
    assert!(account("DC1$@CORP.EXAMPLE").unwrap_err().message.contains("computer"));
    assert!(upn("dc1$@corp.example").unwrap_err().message.contains("computer"));
}

#[test]
fn an_account_is_one_name_in_an_upper_case_realm() {
    assert!(account("alice@CORP.EXAMPLE").is_ok());
    assert!(account("alice@corp.example").unwrap_err().remedy.contains("CORP.EXAMPLE"));
    for bad in ["alice", "@CORP.EXAMPLE", "HTTP/host@CORP.EXAMPLE", "a@b@CORP.EXAMPLE", "a\\b@CORP.EXAMPLE"] {
        assert!(account(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_upn_is_kept_in_lower_case() {
    assert_eq!(upn("Alice@Corp.Example"), Ok(RequestedName::Enterprise("alice@corp.example".into())));
    for bad in ["alice", "@corp.example", "alice@", "alice@corp..example", "a@b@c", "a b@corp.example", "a/b@corp.example"] {
        assert!(upn(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_suffix_is_a_domain_name_without_at_sign_or_wildcard() {
    assert_eq!(upn_suffix("Corp.Example"), Ok("corp.example".into()));
    assert!(upn_suffix("@corp.example").unwrap_err().remedy.contains("\"corp.example\""));
    for bad in ["", "*", "*.corp.example", ".corp.example", "corp.example.", "corp example"] {
        assert!(upn_suffix(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_route_path_is_plain() {
    for good in ["/", "/Microsoft-Server-ActiveSync", "/a/b"] {
        assert_eq!(route_path(good).as_deref(), Ok(good));
    }
    for bad in ["", "a", "/a/", "//", "/a//b", "/a/../b", "/a?b", "/a%20b", "/a b", "/a\\b", "/*", "/ä"] {
        assert!(route_path(bad).is_err(), "{bad}");
    }
}

#[test]
fn paths_are_resolved_against_the_file_and_never_quoted() {
    let base = Path::new("/etc/kcd-bridge");
    assert_eq!(path("tls/server.pem", base), Ok("/etc/kcd-bridge/tls/server.pem".into()));
    assert_eq!(path("/srv/x.pem", base), Ok("/srv/x.pem".into()));
    for bad in ["", "-----BEGIN PRIVATE KEY-----\nMIIE", "~/x.pem"] {
        let complaint = path(bad, base).unwrap_err();
        assert!(bad.is_empty() || !complaint.to_string().contains("MIIE"), "{complaint}");
    }
}
