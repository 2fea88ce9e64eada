//! The loopback relay: whatever speaks HTTP in the sandbox reaches the gateway's socket through it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::doorstep::Held;

/// How long a connection waits for a gateway that is away: a server that is being restarted.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Binds the relay's address.
pub(crate) async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Relays every connection, raw bytes both ways, until the process ends.
pub(crate) async fn serve(listener: TcpListener, gateway: PathBuf, held: Arc<Held>) {
    let gateway: Arc<std::path::Path> = gateway.into();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                held.hold(relay(client, Arc::clone(&gateway)));
            }
            // Out of descriptors, most likely: those of ending connections come back.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn relay(client: TcpStream, gateway: Arc<std::path::Path>) {
    // Without it each small piece of a model's answer would wait for an acknowledgement.
    let _ = client.set_nodelay(true);
    let Ok(Some(upstream)) = tokio::time::timeout(PATIENCE, dial(&client, &gateway)).await else {
        return;
    };
    carry(client, upstream).await;
}

/// Bytes both ways. What the gateway says arrives even where it listened to no more than the start.
async fn carry(client: TcpStream, upstream: UnixStream) {
    let (mut from_client, mut to_client) = client.into_split();
    let (from_gateway, mut to_gateway) = upstream.into_split();
    let there = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_gateway).await;
        let _ = to_gateway.shutdown().await;
    };
    let back = async {
        let all = read_all(&from_gateway, &mut to_client).await;
        let _ = to_client.shutdown().await;
        all
    };
    let (mut there, mut back) = (std::pin::pin!(there), std::pin::pin!(back));
    tokio::select! {
        all = &mut back => {
            if all.is_ok() {
                there.await;
            }
        }
        () = &mut there => drop(back.await),
    }
}

/// Reads until there is nothing more to read *now*, and only then waits.
///
/// Tokio's own copy waits after every short read, which misses an end that came together with the
/// last bytes where the kernel does not tell of it apart. gVisor's does not for the host's sockets.
async fn read_all(from: &OwnedReadHalf, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match from.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(buffer.get(..count).unwrap_or_default()).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => from.readable().await?,
            Err(error) => return Err(error),
        }
    }
}

/// Tries until the gateway answers; none when the client gave up meanwhile.
async fn dial(client: &TcpStream, gateway: &std::path::Path) -> Option<UnixStream> {
    loop {
        if let Ok(stream) = UnixStream::connect(gateway).await {
            return Some(stream);
        }
        tokio::time::sleep(PAUSE).await;
        client.take_error().ok().filter(Option::is_none)?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_gateway_that_comes_late_is_reached() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("gateway.sock");
        let listener = bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(serve(listener, socket.clone(), Arc::default()));
        let mut client = TcpStream::connect(address).await.expect("the relay listens");
        client.write_all(b"ping").await.expect("taken");
        let gateway = UnixListener::bind(&socket).expect("the gateway is back");
        let (mut upstream, _) = gateway.accept().await.expect("the relay dials");
        let mut bytes = [0; 4];
        upstream.read_exact(&mut bytes).await.expect("what was sent before");
        upstream.write_all(b"pong").await.expect("taken");
        client.read_exact(&mut bytes).await.expect("the answer");
        assert_eq!(&bytes, b"pong");
    }

    #[tokio::test]
    async fn an_answer_to_the_start_of_a_request_arrives() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("gateway.sock");
        let gateway = UnixListener::bind(&socket).expect("a socket");
        let listener = bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(serve(listener, socket, Arc::default()));
        let mut client = TcpStream::connect(address).await.expect("the relay listens");
        client.write_all(&vec![b'x'; 100_000]).await.expect("taken");
        let (mut upstream, _) = gateway.accept().await.expect("the relay dials");
        upstream.read_exact(&mut [0; 10]).await.expect("the start");
        upstream.write_all(b"no").await.expect("taken");
        drop(upstream);
        let mut answer = [0; 2];
        client.read_exact(&mut answer).await.expect("the answer");
        assert_eq!(&answer, b"no");
    }
}
