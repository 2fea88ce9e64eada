//! An internet of the suite's own: names whose addresses attempts choose, and servers on loopback
//! that stand at the public ones. Nothing of it reaches further than this machine.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway::{Connector, Names, Unresolved};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Where every public address of this internet answers.
pub(crate) const PUBLIC: &str = "1.1.1.1";

/// What the gateway of a world takes for the outside.
#[derive(Debug)]
pub(crate) struct Outside {
    names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    server: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

/// What reached the outside since it was last asked.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Addresses that were connected to.
    pub(crate) connected: Vec<SocketAddr>,
    /// Bytes that arrived, of all connections.
    pub(crate) bytes: Vec<u8>,
    answer: Vec<u8>,
}

impl Outside {
    /// Opens the server that stands at [`PUBLIC`]; it reads, and answers what it is told to.
    pub(crate) async fn open() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = listener.local_addr().expect("an address");
        let seen = Arc::<Mutex<Seen>>::default();
        tokio::spawn(serve(listener, Arc::clone(&seen)));
        Arc::new(Self { names: Mutex::default(), server, seen })
    }

    /// The answers about a name, in order; the last one stays.
    pub(crate) fn name(&self, host: &str, answers: &[&[&str]]) {
        let parse = |one: &&str| one.parse().expect("an address");
        let answers = answers.iter().map(|answer| answer.iter().map(parse).collect()).collect();
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), answers);
    }

    /// What the server says to whoever sends it a line.
    pub(crate) fn answers(&self, answer: &str) {
        self.seen().answer = answer.as_bytes().to_vec();
    }

    /// What was seen so far.
    pub(crate) fn peek(&self) -> Seen {
        self.seen().clone()
    }

    /// Takes what was seen, so that what comes next begins with nothing.
    pub(crate) fn take(&self) -> Seen {
        let mut seen = self.seen();
        let answer = seen.answer.clone();
        std::mem::replace(&mut *seen, Seen { answer, ..Seen::default() })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, seen: Arc<Mutex<Seen>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&seen)));
    }
}

async fn answer(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) -> io::Result<()> {
    let mut piece = vec![0; 4096];
    loop {
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        let answer = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.bytes.extend_from_slice(&piece[..read]);
            seen.answer.clone()
        };
        stream.write_all(&answer).await?;
    }
}

#[async_trait::async_trait]
impl Names for Outside {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = names.get_mut(host).ok_or_else(|| Unresolved::NoAddress(host.to_owned()))?;
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }
}

#[async_trait::async_trait]
impl Connector for Outside {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.seen().connected.push(address);
        if address.ip().to_string() == PUBLIC {
            return TcpStream::connect(self.server).await;
        }
        // Whatever the gateway lets through is let through: an attempt that gets here must show.
        TcpStream::connect(address).await
    }
}
