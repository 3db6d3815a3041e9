//! A way to the lab's KDC, by TCP and UDP, on which things go wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// The lab's own.
const KDC: &str = "127.0.0.1:88";
/// RFC 4120 section 5.10: the first byte of an AS-REP and of a TGS-REP.
const AS_REP: u8 = 0x6b;
const TGS_REP: u8 = 0x6d;

/// What becomes of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Takes so much longer.
    Slow(Duration),
    /// One at a time, each for so long: what such a KDC can do is known exactly.
    Busy(Duration),
    /// Answers with bytes that mean nothing.
    Noise,
    /// Answers with the first half of the answer, as if it were all.
    Truncated,
    /// Answers with what another request of the same kind was answered before.
    OfAnotherExchange,
    /// Answers with the first half and no more, and keeps the connection.
    HalfOpen,
    Silent,
}

pub struct Way {
    pub address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    fault: Mutex<Fault>,
    exchanges: AtomicUsize,
    /// The first AS-REP and TGS-REP that went by.
    seen: Mutex<[Option<Vec<u8>>; 2]>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

/// What is sent instead of an answer: a whole message of the transport, or a part of one.
enum Sent {
    Whole(Vec<u8>),
    Part(Vec<u8>),
    Nothing,
}

impl Way {
    pub async fn open() -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, Arc::new(udp));
            }
        };
        let address = tcp.local_addr().unwrap();
        let state = Arc::new(State {
            fault: Mutex::new(Fault::None),
            exchanges: AtomicUsize::new(0),
            seen: Mutex::default(),
            one_at_a_time: tokio::sync::Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let by_stream = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = tcp.accept().await {
                let state = Arc::clone(&by_stream);
                connections.spawn(async move { drop(state.connection(client).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        let by_datagram = Arc::clone(&state);
        tasks.spawn(async move {
            let mut exchanges = JoinSet::new();
            let mut buffer = vec![0; 65_536];
            while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
                let (state, udp, request) = (Arc::clone(&by_datagram), Arc::clone(&udp), buffer[..length].to_vec());
                exchanges.spawn(async move { drop(state.datagram(&udp, client, &request).await) });
                while exchanges.try_join_next().is_some() {}
            }
        });
        Self { address, state, _tasks: tasks }
    }

    pub fn set(&self, fault: Fault) {
        *self.state.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// How many were begun.
    pub fn exchanges(&self) -> usize {
        self.state.exchanges.load(Ordering::Relaxed)
    }
}

impl State {
    async fn connection(&self, mut client: TcpStream) -> std::io::Result<()> {
        let request = message(&mut client).await?;
        let sent = self
            .answered(async {
                let mut kdc = TcpStream::connect(KDC).await?;
                kdc.write_all(&framed(&request)).await?;
                message(&mut kdc).await
            })
            .await?;
        match sent {
            Sent::Whole(answer) => client.write_all(&framed(&answer)).await,
            Sent::Part(answer) => {
                client.write_all(&framed(&answer)[..4 + answer.len() / 2]).await?;
                closed(&mut client).await
            }
            Sent::Nothing => closed(&mut client).await,
        }
    }

    async fn datagram(&self, udp: &UdpSocket, client: SocketAddr, request: &[u8]) -> std::io::Result<()> {
        let sent = self
            .answered(async {
                let kdc = UdpSocket::bind("127.0.0.1:0").await?;
                kdc.connect(KDC).await?;
                kdc.send(request).await?;
                let mut answer = vec![0; 65_536];
                let length = kdc.recv(&mut answer).await?;
                answer.truncate(length);
                Ok(answer)
            })
            .await?;
        match sent {
            Sent::Whole(answer) => udp.send_to(&answer, client).await.map(drop),
            // There is no such thing as half a datagram.
            Sent::Part(_) | Sent::Nothing => Ok(()),
        }
    }

    async fn answered(&self, ask: impl Future<Output = std::io::Result<Vec<u8>>>) -> std::io::Result<Sent> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = match fault {
            Fault::None => {
                let answer = ask.await?;
                self.remember(&answer);
                Sent::Whole(answer)
            }
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                Sent::Whole(ask.await?)
            }
            Fault::Busy(time) => {
                let _turn = self.one_at_a_time.lock().await;
                let done = tokio::time::Instant::now() + time;
                let answer = ask.await?;
                tokio::time::sleep_until(done).await;
                Sent::Whole(answer)
            }
            Fault::Noise => Sent::Whole((0..200).map(|_| getrandom::u32().unwrap_or(0).to_le_bytes()[0]).collect()),
            Fault::Truncated => {
                let answer = ask.await?;
                Sent::Whole(answer[..answer.len() / 2].to_vec())
            }
            Fault::OfAnotherExchange => {
                let answer = ask.await?;
                Sent::Whole(self.of_another(&answer).unwrap_or(answer))
            }
            Fault::HalfOpen => Sent::Part(ask.await?),
            Fault::Silent => Sent::Nothing,
        };
        Ok(sent)
    }

    fn remember(&self, answer: &[u8]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = kind(answer).map(|kind| &mut seen[kind]) {
            place.get_or_insert_with(|| answer.to_vec());
        }
    }

    fn of_another(&self, answer: &[u8]) -> Option<Vec<u8>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)[kind(answer)?].clone()
    }
}

fn kind(answer: &[u8]) -> Option<usize> {
    [AS_REP, TGS_REP].iter().position(|kind| answer.first() == Some(kind))
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&length.to_be_bytes(), message].concat()
}

async fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut message = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Waits until the other side gives up.
async fn closed(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_u8().await.map(drop)
}
