use std::time::Duration;

use super::*;
use crate::dns::testkit::{A, NameServer, SRV, srv};

fn realm() -> Realm {
    Realm::parse("CORP.EXAMPLE").unwrap()
}

fn addresses(located: &Located) -> Vec<String> {
    located.kdcs.iter().map(|kdc| kdc.address.to_string()).collect()
}

#[tokio::test]
async fn kdcs_come_from_srv_records_in_their_order_with_their_ports_and_lifetime() {
    let server = NameServer::start(vec![
        ("_kerberos._tcp.CORP.EXAMPLE", SRV, srv(20, 88, "dc2.corp.example")),
        ("_kerberos._tcp.CORP.EXAMPLE", SRV, srv(10, 1088, "dc1.corp.example")),
        ("_kerberos._tcp.CORP.EXAMPLE", SRV, srv(30, 88, "gone.corp.example")),
        ("dc1.corp.example", A, vec![192, 0, 2, 1]),
        ("dc2.corp.example", A, vec![192, 0, 2, 2]),
    ])
    .await;
    let before = Instant::now();
    let located = Locator { dns: server.dns() }.locate(&realm(), &KdcSource::Dns).await.unwrap();
    assert_eq!(addresses(&located), ["192.0.2.1:1088", "192.0.2.2:88"], "one without an address does not hurt the others");
    assert_eq!(located.kdcs[0].to_string(), "dc1.corp.example (192.0.2.1:1088)");
    let until = located.until.unwrap();
    assert!(until > before && until <= Instant::now() + MIN_TTL, "and is looked up again soon");
}

#[tokio::test]
async fn udp_records_serve_where_there_are_none_for_tcp() {
    let server = NameServer::start(vec![
        ("_kerberos._udp.CORP.EXAMPLE", SRV, srv(0, 88, "dc1.corp.example")),
        ("dc1.corp.example", A, vec![192, 0, 2, 1]),
    ])
    .await;
    let before = Instant::now();
    let located = Locator { dns: server.dns() }.locate(&realm(), &KdcSource::Dns).await.unwrap();
    assert_eq!(addresses(&located), ["192.0.2.1:88"]);
    let until = located.until.unwrap();
    assert!(until > before + Duration::from_secs(50) && until < before + Duration::from_secs(70), "the record lives 60 s");
}

#[tokio::test]
async fn a_realm_without_records_is_an_error_that_names_the_query() {
    let server = NameServer::start(Vec::new()).await;
    let trouble = Locator { dns: server.dns() }.locate(&realm(), &KdcSource::Dns).await.unwrap_err();
    assert!(trouble.contains("_kerberos._udp.CORP.EXAMPLE"), "{trouble}");
}

#[tokio::test]
async fn host_names_in_the_list_are_looked_up_and_addresses_are_not() {
    let server = NameServer::start(vec![("dc1.corp.example", A, vec![192, 0, 2, 1])]).await;
    let list = |hosts: &[&str]| KdcSource::List(hosts.iter().map(|host| KdcAddress { host: (*host).into(), port: 88 }).collect());
    let located = Locator { dns: server.dns() }.locate(&realm(), &list(&["2001:db8::1", "dc1.corp.example"])).await.unwrap();
    assert_eq!(addresses(&located), ["[2001:db8::1]:88", "192.0.2.1:88"]);
    assert!(located.until.is_some());

    let locator = Locator { dns: Dns::with(|| Err("nothing may be looked up".into())) };
    let located = locator.locate(&realm(), &list(&["192.0.2.9", "2001:db8::1"])).await.unwrap();
    assert_eq!((addresses(&located).len(), located.until), (2, None));
    let located = locator.locate(&realm(), &list(&["192.0.2.9", "dc1.corp.example"])).await.unwrap();
    assert_eq!(addresses(&located), ["192.0.2.9:88"], "an address serves where names cannot be looked up");
    assert!(locator.locate(&realm(), &list(&["dc1.corp.example"])).await.unwrap_err().contains("nothing may be"));
    assert!(locator.locate(&realm(), &list(&[])).await.is_err());
}
