//! One request to one KDC: UDP for small AS requests, TCP for everything else (RFC 4120 section 7.2).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::kerberos::relay::request::{Exchange, reply_kind};

/// Requests above this go to TCP at once: a datagram of that size still fits one frame.
const MAX_DATAGRAM_REQUEST: usize = 1400;
/// No reply is larger: tickets are bounded by Windows' MaxTokenSize of 64 KiB.
pub(super) const MAX_REPLY: usize = 256 * 1024;

/// Why one KDC gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptError {
    /// No connection: nothing listens there.
    Refused,
    /// Nothing came within `kdc_timeout`.
    TimedOut,
    /// The connection ended before a whole reply was there.
    Closed,
    /// What came is no reply to the request, or larger than any reply may be.
    NotAReply,
    /// KDC_ERR_SVC_UNAVAILABLE: it answered that it cannot answer.
    ServiceUnavailable,
    /// Another network error.
    Network(io::ErrorKind),
}

impl AttemptError {
    /// Word in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut => "timeout",
            Self::Closed => "closed",
            Self::NotAReply => "no-reply",
            Self::ServiceUnavailable => "unavailable",
            Self::Network(_) => "network",
        }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Closed => f.write_str("connection closed without a reply"),
            Self::NotAReply => f.write_str("what it sent is no Kerberos reply"),
            Self::ServiceUnavailable => f.write_str("answered that its service is unavailable"),
            Self::Network(kind) => write!(f, "{kind}"),
        }
    }
}

impl From<io::Error> for AttemptError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            io::ErrorKind::TimedOut => Self::TimedOut,
            kind => Self::Network(kind),
        }
    }
}

/// What came back.
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    /// A datagram got no answer, and TCP did.
    pub(super) lost_datagram: bool,
}

/// Asks one KDC and waits for at most `limit`. What comes by TCP is not looked at. `datagrams` says whether it is worth while to send one;
/// `too_big` says whether a datagram is KRB_ERR_RESPONSE_TOO_BIG.
pub(super) async fn ask(
    kdc: SocketAddr,
    exchange: Exchange,
    request: &[u8],
    limit: Duration,
    datagrams: bool,
    too_big: impl Fn(&[u8]) -> bool,
) -> Result<Reply, AttemptError> {
    let whole = async {
        let mut lost_datagram = false;
        if datagrams && exchange == Exchange::As && request.len() <= MAX_DATAGRAM_REQUEST {
            // Half of the time at most: a firewall that drops UDP 88 must not cost the exchange.
            match timeout(limit / 2, by_datagram(kdc, exchange, request)).await {
                Ok(Ok(bytes)) if !too_big(&bytes) => return Ok(Reply { bytes, lost_datagram }),
                Ok(_) => {}
                Err(_elapsed) => lost_datagram = true,
            }
        }
        by_stream(kdc, request).await.map(|bytes| Reply { bytes, lost_datagram })
    };
    timeout(limit, whole).await.unwrap_or(Err(AttemptError::TimedOut))
}

async fn by_stream(kdc: SocketAddr, request: &[u8]) -> Result<Vec<u8>, AttemptError> {
    let mut stream = TcpStream::connect(kdc).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&framed(request)).await?;
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_REPLY).ok_or(AttemptError::NotAReply)?;
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// The socket is connected, so the kernel passes on this KDC's datagrams only; those that are no reply are skipped.
async fn by_datagram(kdc: SocketAddr, exchange: Exchange, request: &[u8]) -> Result<Vec<u8>, AttemptError> {
    let any: SocketAddr = if kdc.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(kdc).await?;
    socket.send(request).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let datagram = buffer.get(..length).unwrap_or_default();
        if reply_kind(exchange, datagram).is_some() {
            return Ok(datagram.to_vec());
        }
    }
}

/// RFC 4120 section 7.2.2: four octets of length before the message.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), message].concat()
}
