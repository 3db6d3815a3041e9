//! A server on loopback that answers as it is told, also wrongly.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What is answered.
pub(crate) enum Reply {
    /// These bytes; then the connection ends.
    Bytes(Vec<u8>),
    /// The head, then the chunk again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// These bytes, then nothing, for as long as the client stays.
    Silence(Vec<u8>),
    /// After the signal.
    Later(Arc<Notify>, Box<Reply>),
}

type Handler = Arc<dyn Fn(&[u8]) -> Reply + Send + Sync>;

pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(reply: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(reply), None).await
    }

    pub(crate) async fn start_tls(acceptor: TlsAcceptor, reply: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(reply), Some(acceptor)).await
    }

    /// Everything that was asked, head and body.
    pub(crate) fn requests(&self) -> Vec<Vec<u8>> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn listen(handler: Handler, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (handler, seen, tls) = (Arc::clone(&handler), Arc::clone(&seen), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, handler, seen).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, handler, seen).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { port, requests, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// The body of a request or an answer.
pub(crate) fn body(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    &message[end + 4..]
}

async fn serve<IO: AsyncRead + AsyncWrite + Unpin>(
    mut stream: IO,
    handler: Handler,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
) -> Option<()> {
    let request = read(&mut stream).await?;
    let mut reply = handler(&request);
    seen.lock().unwrap().push(request);
    loop {
        match reply {
            Reply::Bytes(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.shutdown().await.ok()?;
                return Some(());
            }
            Reply::Endless(head, chunk) => {
                stream.write_all(&head).await.ok()?;
                loop {
                    stream.write_all(&chunk).await.ok()?;
                }
            }
            Reply::Silence(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.flush().await.ok()?;
                stream.read_u8().await.ok()?;
                return None;
            }
            Reply::Later(signal, then) => {
                signal.notified().await;
                reply = *then;
            }
        }
    }
}

async fn read<IO: AsyncRead + Unpin>(stream: &mut IO) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        let byte = stream.read_u8().await.ok()?;
        request.push(byte);
        if request.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8(request.clone()).unwrap().to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")).map_or(0, |value| value.trim().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.extend(body);
    Some(request)
}
