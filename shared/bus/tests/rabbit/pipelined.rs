//! Messages that are published together wait for their confirms together: seen from between client and broker.
use std::net::SocketAddr;
use std::sync::Arc;

use sexton_bus::rabbit::{Rabbit, RabbitOptions};
use sexton_bus::{Bus, Outgoing, Queue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::broker::Keeper;
use crate::suite::{SOON, message, messages};

const TOGETHER: usize = 200;

/// What the id of each of them begins with, which is said once on its way.
const MARK: &[u8] = b"id-together-";

/// More than a client has channels to publish on.
const CHANNELS: usize = 8;

/// Read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Whoever stands between the client and the broker.
struct Between {
    address: SocketAddr,
    /// Whether what the broker answers is kept until it is not.
    kept: watch::Sender<bool>,
    /// How many of the messages have passed.
    passed: watch::Receiver<usize>,
}

impl Between {
    async fn start(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (kept, keeps) = watch::channel(false);
        let (count, passed) = watch::channel(0);
        let count = Arc::new(count);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let broker = TcpStream::connect(&broker).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_broker, to_broker) = broker.into_split();
                tokio::spawn(there(from_client, to_broker, count.clone()));
                tokio::spawn(back(from_broker, to_client, keeps.clone()));
            }
        });
        Self { address, kept, passed }
    }
}

/// What the client says passes, and is looked at. It publishes through one connection.
async fn there(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: Arc<watch::Sender<usize>>) {
    let (mut said, mut piece) = (Vec::new(), vec![0; PIECE_BYTES]);
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        said.extend_from_slice(&piece[..read]);
        count.send_replace(said.windows(MARK.len()).filter(|part| *part == MARK).count());
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut kept: watch::Receiver<bool>) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        // An error says that the test is over.
        let goes_on = kept.wait_for(|kept| !*kept).await.is_ok();
        if !goes_on || to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}

/// While the broker seems to answer nothing: whoever waited for each confirm before the next message would send one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_published_together_is_sent_before_the_first_confirm_has_come() {
    let keeper = Keeper::from_environment().await;
    let between = Between::start(keeper.host.clone()).await;
    let url = keeper.url("hypervisor.main").replace(&keeper.host, &between.address.to_string());
    let rabbit = Rabbit::connect(RabbitOptions { timeout: SOON, ..RabbitOptions::new(url) }).await.unwrap();
    // To open a channel takes answers, too.
    for number in 0..CHANNELS {
        assert_eq!(rabbit.publish(messages(&Queue::Outcomes, number..number + 1)).await, [Ok(())]);
    }
    between.kept.send_replace(true);
    let together: Vec<Outgoing> =
        (0..TOGETHER).map(|number| message(Queue::Outcomes, &format!("together-{number}"))).collect();
    let publisher = rabbit.clone();
    let publishing = tokio::spawn(async move { publisher.publish(together).await });
    let mut passed = between.passed.clone();
    let all = tokio::time::timeout(SOON, passed.wait_for(|passed| *passed == TOGETHER)).await.is_ok();
    assert!(all, "without a confirm {} were sent", *between.passed.borrow());
    assert!(!publishing.is_finished(), "nothing was confirmed yet");
    between.kept.send_replace(false);
    assert_eq!(publishing.await.unwrap(), vec![Ok(()); TOGETHER]);
    rabbit.close();
    keeper.end().await;
}
