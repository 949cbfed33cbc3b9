//! What stands between services and a server: it cuts connections, stalls them, or drops what is answered.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What it lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    Everything,
    /// What is said is kept until it passes.
    Nothing,
    /// What is answered is lost. A connection that has lost something is good for nothing any more: whoever lets
    /// everything pass again cuts it.
    Requests,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    passes: Passes,
    /// How often connections were cut: what is older than the last time is closed.
    cuts: u32,
}

/// The servers, any of which will do. They may be others each time.
type Servers = Arc<dyn Fn() -> Vec<SocketAddr> + Send + Sync>;

pub struct Proxy {
    pub address: SocketAddr,
    flow: Arc<watch::Sender<Flow>>,
    counts: Arc<Counts>,
    servers: Servers,
    runtime: tokio::runtime::Runtime,
}

/// What did not pass as it came.
#[derive(Debug, Default)]
struct Counts {
    /// Pieces of answers that were lost.
    lost: AtomicUsize,
    /// Connections, and pieces of either way, that came while nothing passed.
    kept: AtomicUsize,
}

/// Pause after a connection could not be accepted.
const AFTER_ERROR: Duration = Duration::from_millis(100);

impl Proxy {
    pub fn start(servers: impl Fn() -> Vec<SocketAddr> + Send + Sync + 'static) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (flow, _) = watch::channel(Flow { passes: Passes::Everything, cuts: 0 });
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let (flow, counts) = (Arc::new(flow), Arc::default());
        let mut this = Self { address, flow, counts, servers: Arc::new(servers), runtime };
        this.address = this.listen(Ipv4Addr::LOCALHOST);
        this
    }

    /// Listen at one more address.
    pub fn listen(&self, at: Ipv4Addr) -> SocketAddr {
        let listener = self.runtime.block_on(TcpListener::bind((IpAddr::V4(at), 0))).unwrap();
        let address = listener.local_addr().unwrap();
        self.runtime.spawn(accept(listener, self.flow.clone(), self.counts.clone(), self.servers.clone()));
        address
    }

    /// Close all connections. Whether there was one.
    pub fn cut(&self) -> bool {
        // Each of them listens.
        let connected = self.flow.receiver_count() > 0;
        self.flow.send_modify(|flow| flow.cuts += 1);
        connected
    }

    /// How many pieces of answers were lost until now.
    pub fn lost(&self) -> usize {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// How many connections and pieces had to wait until now, since nothing passed when they came.
    pub fn kept(&self) -> usize {
        self.counts.kept.load(Ordering::Relaxed)
    }

    pub fn let_pass(&self, passes: Passes) {
        self.flow.send_modify(|flow| {
            if flow.passes == Passes::Requests {
                flow.cuts += 1;
            }
            flow.passes = passes;
        });
    }
}

async fn accept(
    listener: TcpListener,
    flow: Arc<watch::Sender<Flow>>,
    counts: Arc<Counts>,
    servers: Servers,
) {
    for turn in 0_usize.. {
        match listener.accept().await {
            Ok((client, _)) => {
                let mut addresses = servers();
                if !addresses.is_empty() {
                    let first = turn % addresses.len();
                    addresses.rotate_left(first);
                }
                tokio::spawn(connect(client, addresses, flow.subscribe(), counts.clone()));
            }
            Err(_) => tokio::time::sleep(AFTER_ERROR).await,
        }
    }
}

async fn connect(
    client: TcpStream,
    servers: Vec<SocketAddr>,
    mut flow: watch::Receiver<Flow>,
    counts: Arc<Counts>,
) {
    let born = flow.borrow().cuts;
    keep(&mut flow, born, &counts).await;
    for address in servers {
        let Ok(server) = TcpStream::connect(address).await else { continue };
        if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
            return;
        }
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let there = Way { flow: flow.clone(), born, counts: counts.clone(), answers: false };
        let back = Way { flow, born, counts, answers: true };
        // Where one way has ended, both have.
        tokio::select! {
            () = there.pump(from_client, to_server) => {}
            () = back.pump(from_server, to_client) => {}
        }
        return;
    }
}

struct Way {
    flow: watch::Receiver<Flow>,
    born: u32,
    counts: Arc<Counts>,
    /// Whether it is answers that go this way.
    answers: bool,
}

impl Way {
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let born = self.born;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = tokio::select! {
                () = until(&mut self.flow, |now| now.cuts != born) => return,
                read = from.read(&mut buffer) => read,
            };
            let Ok(length @ 1..) = read else { return };
            keep(&mut self.flow, born, &self.counts).await;
            let now = *self.flow.borrow();
            if now.cuts != born {
                return;
            }
            if self.answers && now.passes == Passes::Requests {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            } else if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}

/// Wait while nothing passes, unless the connection is cut; and count what has to wait.
async fn keep(flow: &mut watch::Receiver<Flow>, born: u32, counts: &Counts) {
    let waits = flow.borrow().passes == Passes::Nothing;
    if waits {
        counts.kept.fetch_add(1, Ordering::Relaxed);
    }
    until(flow, |now| now.passes != Passes::Nothing || now.cuts != born).await;
}

/// Wait for that; also if the proxy has ended.
async fn until(flow: &mut watch::Receiver<Flow>, wanted: impl Fn(Flow) -> bool) {
    let _ = flow.wait_for(|now| wanted(*now)).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::{Passes, Proxy};
    use crate::waiting::wait_until;

    /// Answers each byte with itself.
    fn echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
        Proxy::start(move || vec![address])
    }

    fn client(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn is_answered(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok() && byte == *b"x"
    }

    #[test]
    fn what_passes_is_answered_and_what_is_cut_is_closed() {
        let proxy = echo();
        assert!(!proxy.cut(), "there is no connection yet");
        let mut stream = client(&proxy);
        assert!(is_answered(&mut stream));
        assert!(proxy.cut(), "there is a connection");
        assert!(!is_answered(&mut stream), "it was cut");
        assert!(is_answered(&mut client(&proxy)), "a new connection is good");
    }

    #[test]
    fn what_stalls_is_kept_and_what_is_dropped_is_lost_with_its_connection() {
        let proxy = echo();
        let mut stream = client(&proxy);
        assert!(is_answered(&mut stream));
        proxy.let_pass(Passes::Nothing);
        stream.write_all(b"y").unwrap();
        wait_until("a piece is kept", 30, || proxy.kept() == 1);
        proxy.let_pass(Passes::Everything);
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"y");
        proxy.let_pass(Passes::Requests);
        stream.write_all(b"z").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(stream.read_exact(&mut byte).is_err(), "the answer was lost");
        wait_until("an answer is lost", 30, || proxy.lost() == 1);
        proxy.let_pass(Passes::Everything);
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert!(!is_answered(&mut stream), "a connection that has lost something is closed");
    }
}
