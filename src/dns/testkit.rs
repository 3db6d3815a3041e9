//! A name server on loopback for the tests of every room that looks names up.

use std::net::Ipv4Addr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::Dns;

pub(crate) const SRV: u16 = 33;
pub(crate) const A: u16 = 1;

/// Answers what it has, and NXDOMAIN otherwise.
pub(crate) struct NameServer {
    port: u16,
    _task: JoinSet<()>,
}

pub(crate) fn srv(priority: u16, port: u16, target: &str) -> Vec<u8> {
    [&priority.to_be_bytes()[..], &[0, 0], &port.to_be_bytes(), &wire_name(target)].concat()
}

impl NameServer {
    pub(crate) async fn start(zone: Vec<(&'static str, u16, Vec<u8>)>) -> Self {
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

    /// Looks names up here and nowhere else.
    pub(crate) fn dns(&self) -> Dns {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.port;
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        Dns::with(move || {
            let builder = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
            Ok(builder.build().unwrap())
        })
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
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
