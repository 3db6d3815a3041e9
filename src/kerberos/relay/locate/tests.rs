use std::net::Ipv4Addr;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::*;

fn service(priority: u16, weight: u16, host: &str) -> Service {
    Service { priority, weight, target: KdcAddress { host: host.into(), port: 88 } }
}

fn hosts(ordered: &[KdcAddress]) -> Vec<&str> {
    ordered.iter().map(|kdc| kdc.host.as_str()).collect()
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

#[test]
fn a_target_of_the_root_means_no_service_and_no_number_of_records_overflows() {
    assert_eq!(in_order(vec![service(0, 0, "")], |_| 0), []);
    assert_eq!(in_order(vec![service(0, u16::MAX, "kdc"); 70_000], |_| 0).len(), MAX_RECORDS);
}

/// Answers what it has, and NXDOMAIN otherwise.
struct NameServer {
    port: u16,
    _task: JoinSet<()>,
}

const SRV: u16 = 33;
const A: u16 = 1;

fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

fn srv(priority: u16, port: u16, target: &str) -> Vec<u8> {
    [&priority.to_be_bytes()[..], &[0, 0], &port.to_be_bytes(), &wire_name(target)].concat()
}

impl NameServer {
    async fn start(zone: Vec<(&'static str, u16, Vec<u8>)>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                socket.send_to(&respond(&zone, &buffer[..length]), client).await.unwrap();
            }
        });
        Self { port, _task: task }
    }

    fn locator(&self) -> Locator {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.port;
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        Locator::with(move || {
            let builder = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
            Ok(builder.build().unwrap())
        })
    }
}

fn respond(zone: &[(&str, u16, Vec<u8>)], query: &[u8]) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|octet| *octet == 0).unwrap() + 1;
    let question = &query[12..name_end + 4];
    let kind = u16::from_be_bytes([query[name_end], query[name_end + 1]]);
    let asked = query[12..name_end].to_ascii_lowercase();
    let named = |name: &str| wire_name(name).to_ascii_lowercase() == asked;
    let known = zone.iter().any(|(name, ..)| named(name));
    let answers: Vec<_> = zone.iter().filter(|(name, record, _)| named(name) && *record == kind).collect();
    let mut out = query[..2].to_vec();
    out.extend([0x84, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::try_from(answers.len()).unwrap(), 0, 0, 0, 0]);
    out.extend(question);
    for (_, record, data) in answers {
        out.extend([0xC0, 12]);
        out.extend(record.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]);
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    out
}

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
    let located = server.locator().locate(&realm(), &KdcSource::Dns).await.unwrap();
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
    let located = server.locator().locate(&realm(), &KdcSource::Dns).await.unwrap();
    assert_eq!(addresses(&located), ["192.0.2.1:88"]);
    let until = located.until.unwrap();
    assert!(until > before + Duration::from_secs(50) && until < before + Duration::from_secs(70), "the record lives 60 s");
}

#[tokio::test]
async fn a_realm_without_records_is_an_error_that_names_the_query() {
    let server = NameServer::start(Vec::new()).await;
    let trouble = server.locator().locate(&realm(), &KdcSource::Dns).await.unwrap_err();
    assert!(trouble.contains("_kerberos._udp.CORP.EXAMPLE"), "{trouble}");
}

#[tokio::test]
async fn host_names_in_the_list_are_looked_up_and_addresses_are_not() {
    let server = NameServer::start(vec![("dc1.corp.example", A, vec![192, 0, 2, 1])]).await;
    let list = |hosts: &[&str]| KdcSource::List(hosts.iter().map(|host| KdcAddress { host: (*host).into(), port: 88 }).collect());
    let located = server.locator().locate(&realm(), &list(&["2001:db8::1", "dc1.corp.example"])).await.unwrap();
    assert_eq!(addresses(&located), ["[2001:db8::1]:88", "192.0.2.1:88"]);
    assert!(located.until.is_some());

    let locator = Locator::with(|| Err("nothing may be looked up".into()));
    let located = locator.locate(&realm(), &list(&["192.0.2.9", "2001:db8::1"])).await.unwrap();
    assert_eq!((addresses(&located).len(), located.until), (2, None));
    let located = locator.locate(&realm(), &list(&["192.0.2.9", "dc1.corp.example"])).await.unwrap();
    assert_eq!(addresses(&located), ["192.0.2.9:88"], "an address serves where names cannot be looked up");
    assert!(locator.locate(&realm(), &list(&["dc1.corp.example"])).await.unwrap_err().contains("nothing may be"));
    assert!(locator.locate(&realm(), &list(&[])).await.is_err());
}
