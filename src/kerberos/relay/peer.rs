//! Whose socket is at the other end of a loopback TCP connection.
//!
//! Loopback is open to every local user, and the relay reaches KDCs that they may not reach themselves; so only connections whose
//! other end belongs to our own user are served. Linux answers that for one connection in a few microseconds through
//! `NETLINK_SOCK_DIAG`; where that is not to be had (`RestrictAddressFamilies=`) `/proc/self/net/tcp` says the same, slower.
//! If neither answers the connection is refused: the check fails closed.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;
/// Length of `nlmsghdr` and `inet_diag_req_v2`.
const REQUEST_LENGTH: u32 = 72;

/// The user who holds the connection's other end, `peer`; `None` if there is no such live socket.
pub(super) fn owner(peer: SocketAddrV4, local: SocketAddrV4) -> io::Result<Option<u32>> {
    match ask_kernel(peer, local) {
        Ok(owner) => Ok(owner),
        Err(_) => Ok(find_in_table(&std::fs::read("/proc/self/net/tcp")?, peer, local)),
    }
}

/// `sock_diag(7)`: owner of the TCP socket bound to `peer` and connected to `local`.
fn ask_kernel(peer: SocketAddrV4, local: SocketAddrV4) -> io::Result<Option<u32>> {
    let socket =
        net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(net::netlink::INET_DIAG))?;
    net::send(&socket, &diag_request(peer, local), SendFlags::empty())?;
    let mut reply = [0_u8; 1024];
    // The kernel has queued its answer when send returns.
    let (length, _) = net::recv(&socket, &mut reply[..], RecvFlags::DONTWAIT)?;
    owner_in_reply(reply.get(..length).unwrap_or_default(), peer, local)
}

fn diag_request(peer: SocketAddrV4, local: SocketAddrV4) -> Vec<u8> {
    let mut request = Vec::with_capacity(72);
    request.extend(REQUEST_LENGTH.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence, port id
    request.extend([AF_INET, IPPROTO_TCP, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes()); // any state
    request.extend(peer.port().to_be_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(peer.ip().octets());
    request.extend([0; 12]);
    request.extend(local.ip().octets());
    request.extend([0; 12]);
    request.extend([0; 4]); // any interface
    request.extend([0xFF; 8]); // no cookie
    request
}

/// `nlmsghdr` and `inet_diag_msg`. A lookup without a match falls back to a listener on that port, so the ports are compared.
fn owner_in_reply(reply: &[u8], peer: SocketAddrV4, local: SocketAddrV4) -> io::Result<Option<u32>> {
    let field = |at: usize| reply.get(at..).and_then(<[u8]>::first_chunk::<4>).copied().map(u32::from_ne_bytes);
    let kind = reply.get(4..6).and_then(|octets| <[u8; 2]>::try_from(octets).ok()).map(u16::from_ne_bytes);
    let no_such_socket = u32::from_ne_bytes((-Errno::NOENT.raw_os_error()).to_ne_bytes());
    let (uid, inode) = match (kind, field(16), field(80), field(84)) {
        (Some(NLMSG_ERROR), Some(error), ..) if error == no_such_socket => return Ok(None),
        (Some(SOCK_DIAG_BY_FAMILY), _, Some(uid), Some(inode)) => (uid, inode),
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let ports = [peer.port().to_be_bytes(), local.port().to_be_bytes()].concat();
    // A socket nobody holds any more is reported without an inode, and then its owner means nothing.
    Ok((reply.get(20..24) == Some(&ports[..]) && inode != 0).then_some(uid))
}

/// `/proc/net/tcp` (proc(5)): owner of the row with these two addresses.
fn find_in_table(table: &[u8], peer: SocketAddrV4, local: SocketAddrV4) -> Option<u32> {
    let (peer, local) = (table_address(peer), table_address(local));
    std::str::from_utf8(table).ok()?.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        match fields[..] {
            [_, from, to, _, _, _, _, uid, _, inode] if from == peer && to == local && inode != "0" => uid.parse().ok(),
            _ => None,
        }
    })
}

/// An address as the table shows it: the address in the machine's byte order, then the port.
fn table_address(address: SocketAddrV4) -> String {
    let ip: Ipv4Addr = *address.ip();
    format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    fn connection() -> (TcpListener, TcpStream, SocketAddrV4, SocketAddrV4) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, local) = (v4(client.local_addr().unwrap()), v4(listener.local_addr().unwrap()));
        (listener, client, peer, local)
    }

    #[test]
    fn a_connection_of_our_own_is_found_by_either_source() {
        let (_listener, _client, peer, local) = connection();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(ask_kernel(peer, local).unwrap(), Some(uid));
        assert_eq!(find_in_table(&std::fs::read("/proc/self/net/tcp").unwrap(), peer, local), Some(uid));
    }

    #[test]
    fn an_address_pair_without_a_connection_has_no_owner() {
        let (listener, client, peer, local) = connection();
        let table = std::fs::read("/proc/self/net/tcp").unwrap();
        let stranger = SocketAddrV4::new(*peer.ip(), peer.port() ^ 1);
        assert_eq!(ask_kernel(stranger, local).unwrap(), None);
        assert_eq!(find_in_table(&table, stranger, local), None);
        // The listener itself is a socket on `local`, but not one connected to anything.
        assert_eq!(ask_kernel(local, stranger).unwrap(), None);
        assert_eq!(owner(local, stranger).unwrap(), None);
        drop((listener, client));
    }

    #[test]
    fn a_row_of_another_user_names_that_user() {
        let table = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  1: 0100007F:C001 0100007F:0058 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0\n\
            \x20  2: 0100007F:C002 0100007F:0058 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0\n";
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        if cfg!(target_endian = "little") {
            assert_eq!(find_in_table(table, at(0xC001), at(0x58)), Some(1000));
            assert_eq!(find_in_table(table, at(0xC002), at(0x58)), None, "a socket nobody holds has no owner");
        }
    }

    #[test]
    fn an_error_or_a_truncated_answer_of_the_kernel_is_no_owner() {
        let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        for length in 0..88 {
            let mut reply = vec![0_u8; length];
            if let Some(kind) = reply.get_mut(4..6) {
                kind.copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
            }
            assert!(owner_in_reply(&reply, at, at).is_err());
        }
        assert!(owner_in_reply(&[2; 128], at, at).is_err());
    }
}
