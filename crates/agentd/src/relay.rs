//! The loopback relay: whatever speaks HTTP in the sandbox reaches the gateway's socket through it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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

async fn relay(mut client: TcpStream, gateway: Arc<std::path::Path>) {
    // Without it each small piece of a model's answer would wait for an acknowledgement.
    let _ = client.set_nodelay(true);
    let Ok(Some(mut upstream)) = tokio::time::timeout(PATIENCE, dial(&client, &gateway)).await
    else {
        return;
    };
    let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
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
}
