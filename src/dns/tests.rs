use super::testkit::{A, NameServer, SRV, srv};
use super::*;

fn service(priority: u16, weight: u16, host: &str) -> Service {
    Service { priority, weight, target: Target { host: host.into(), port: 88 } }
}

fn hosts(ordered: &[Target]) -> Vec<&str> {
    ordered.iter().map(|target| target.host.as_str()).collect()
}

#[test]
fn lower_priorities_come_first_whatever_the_weights() {
    let records = vec![service(20, 100, "far"), service(10, 1, "near"), service(30, 0, "last")];
    for drawn in [0, u32::MAX] {
        assert_eq!(hosts(&in_order(records.clone(), |bound| drawn.min(bound - 1))), ["near", "far", "last"]);
    }
}

#[test]
fn within_a_priority_the_draw_is_by_weight() {
    let records = vec![service(0, 60, "heavy"), service(0, 0, "zero"), service(0, 40, "light")];
    let first = |drawn: u32| {
        let mut bounds = Vec::new();
        let ordered = in_order(records.clone(), |bound| {
            bounds.push(bound);
            drawn.min(bound - 1)
        });
        assert_eq!(ordered.len(), 3);
        assert_eq!(bounds[0], 101);
        ordered[0].host.clone()
    };
    assert_eq!([first(0), first(1), first(40), first(41), first(100)], ["zero", "light", "light", "heavy", "heavy"]);
}

/// What RFC 2782 promises: over many draws each is first as often as its weight says.
#[test]
fn over_many_draws_each_target_is_first_in_proportion_to_its_weight() {
    const DRAWS: u32 = 20_000;
    let records = [service(0, 600, "heavy"), service(0, 300, "middle"), service(0, 100, "light"), service(0, 0, "zero")];
    let mut first = std::collections::HashMap::<String, u32>::new();
    for _ in 0..DRAWS {
        let ordered = in_order(records.to_vec(), random_below);
        *first.entry(ordered[0].host.clone()).or_default() += 1;
    }
    // Six standard deviations of the least even of them are 420.
    for (host, expected) in [("heavy", 12_000), ("middle", 6000), ("light", 2000), ("zero", 20)] {
        let seen = first.get(host).copied().unwrap_or(0);
        assert!(seen.abs_diff(expected) < 450, "{host}: {seen} instead of {expected}");
    }
    assert!(first["heavy"] > first["middle"] && first["middle"] > first["light"]);
}

#[test]
fn a_target_of_the_root_means_no_service_and_no_number_of_records_overflows() {
    assert_eq!(in_order(vec![service(0, 0, "")], |_| 0), []);
    assert_eq!(in_order(vec![service(0, u16::MAX, "kdc"); 70_000], |_| 0).len(), MAX_RECORDS);
}

#[tokio::test]
async fn services_come_in_their_order_with_their_ports_and_lifetime() {
    let server = NameServer::start(vec![
        ("_ldap._tcp.corp.example", SRV, srv(20, 389, "DC2.corp.example")),
        ("_ldap._tcp.corp.example", SRV, srv(10, 1389, "dc1.corp.example")),
        ("dc1.corp.example", A, vec![192, 0, 2, 1]),
    ])
    .await;
    let lookup = server.dns().open().unwrap();
    let before = Instant::now();
    let found = lookup.services("_ldap._tcp.corp.example").await.unwrap();
    let shown: Vec<_> = found.what.iter().map(|target| (target.host.as_str(), target.port)).collect();
    assert_eq!(shown, [("dc1.corp.example", 1389), ("dc2.corp.example", 389)]);
    let until = found.until.unwrap();
    assert!(until > before + Duration::from_secs(50) && until < before + Duration::from_secs(70), "the record lives 60 s");
    assert_eq!(lookup.addresses("dc1.corp.example").await.unwrap().what, [IpAddr::from([192, 0, 2, 1])]);
}

#[tokio::test]
async fn a_service_nobody_offers_is_an_error_that_names_it() {
    let server = NameServer::start(vec![("_gc._tcp.corp.example", SRV, srv(0, 3268, "."))]).await;
    let lookup = server.dns().open().unwrap();
    for name in ["_ldap._tcp.corp.example", "_gc._tcp.corp.example"] {
        let trouble = lookup.services(name).await.unwrap_err();
        assert!(trouble.contains(name), "{trouble}");
    }
}
