//! The forge behind a real HTTP server on loopback, as the gateway would serve it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of this")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use forge::{Access, Local};
use hyper_util::rt::TokioIo;
use protocol::repository::RepositoryName;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server that ends when dropped.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    /// The `Content-Encoding` of requests that had one.
    pub encodings: Arc<Mutex<Vec<String>>>,
    /// The `Git-Protocol` of requests that had one.
    pub protocols: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(local: Local, access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let encodings = Arc::new(Mutex::new(Vec::new()));
        let protocols = Arc::new(Mutex::new(Vec::new()));
        let seen = (Arc::clone(&encodings), Arc::clone(&protocols));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                let (local, seen) = (local.clone(), seen.clone());
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        answer(local.clone(), access, request, seen.clone())
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    // An error here is a client that went away, which some tests want.
                    drop(connection.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, encodings, protocols, task }
    }

    pub fn url(&self, name: &RepositoryName) -> String {
        format!("http://{}/git/local/{name}.git", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Seen = (Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<String>>>);

async fn answer(
    local: Local,
    access: Access,
    request: http::Request<hyper::body::Incoming>,
    seen: Seen,
) -> Result<http::Response<forge::Body>, Infallible> {
    for (header, list) in [("content-encoding", &seen.0), ("git-protocol", &seen.1)] {
        if let Some(value) = request.headers().get(header) {
            let value = value.to_str().expect("text").to_owned();
            list.lock().expect("not poisoned").push(value);
        }
    }
    let path = request.uri().path().trim_start_matches("/git/local/").to_owned();
    let end = path.find(".git/").unwrap_or(path.len());
    let name = path[..end].parse().expect("tests use proper names");
    Ok(local.serve(&name, access, request).await)
}
