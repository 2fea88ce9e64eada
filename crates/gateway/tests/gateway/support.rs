//! A running gateway, clients for its socket, a provider on loopback, and what was observed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gateway::{
    Binding, Body, Config, Gateway, GitUpstream, Observation, Observed, Observer, Provider,
    Service, full_body,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use protocol::repository::RepositoryName;
use protocol::{SandboxId, SessionId};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc;

/// The key that must never be seen inside or in a file.
pub(crate) const KEY: &str = "sk-real-5ec2e7";

/// Longest wait for something that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it happens soon")
}

#[derive(Debug)]
struct Told(mpsc::UnboundedSender<Observation>);

impl Observer for Told {
    fn observed(&self, observation: Observation) {
        // A test that ended does not listen any more.
        let _ = self.0.send(observation);
    }
}

/// A forge for tests that need none.
#[derive(Debug)]
pub(crate) struct NoForge;

#[async_trait]
impl GitUpstream for NoForge {
    async fn serve(&self, _: &RepositoryName, _: Service, _: Request<Body>) -> Response<Body> {
        let mut response = Response::new(full_body("no forge in this test"));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        response
    }
}

pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) gateway: Gateway,
    pub(crate) sandbox: SandboxId,
    pub(crate) session: SessionId,
    pub(crate) observations: mpsc::UnboundedReceiver<Observation>,
}

impl World {
    /// A gateway with one open sandbox and nothing bound.
    pub(crate) fn start(configure: impl FnOnce(&mut Config), forge: Arc<dyn GitUpstream>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::new(directory.path());
        configure(&mut config);
        let (sender, observations) = mpsc::unbounded_channel();
        let gateway = Gateway::new(config, forge, Arc::new(Told(sender))).expect("a gateway");
        let world = Self {
            gateway,
            directory,
            sandbox: SandboxId::new(),
            session: SessionId::new(),
            observations,
        };
        world.gateway.open(world.sandbox, &world.socket()).expect("opens");
        world
    }

    /// The same, bound to `local/hangar`.
    pub(crate) fn bound(configure: impl FnOnce(&mut Config), forge: Arc<dyn GitUpstream>) -> Self {
        let world = Self::start(configure, forge);
        world.gateway.bind(world.sandbox, world.binding()).expect("binds");
        world
    }

    pub(crate) fn binding(&self) -> Binding {
        Binding {
            session: self.session,
            repository: RepositoryName::new("local", "hangar").expect("a name"),
            push_prefix: "refs/heads/hangar/1a2b3c4d".to_owned(),
            egress: gateway::Egress::default(),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("gateway.sock")
    }

    pub(crate) fn audit(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("audit/gateway.jsonl"))
            .expect("an audit file")
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        send(&self.socket(), request).await
    }

    /// The next observation that the function takes.
    pub(crate) async fn observed<T>(&mut self, take: impl Fn(Observed) -> Option<T>) -> T {
        soon(async {
            loop {
                let observation = self.observations.recv().await.expect("the gateway lives");
                assert_eq!(observation.sandbox, self.sandbox);
                if let Some(found) = take(observation.what) {
                    return found;
                }
            }
        })
        .await
    }

    /// The audit file once it has so many lines.
    pub(crate) async fn audited(&self, lines: usize) -> Vec<serde_json::Value> {
        soon(async {
            loop {
                let text = self.audit();
                if text.lines().count() >= lines {
                    let read = |line| serde_json::from_str(line).expect("a JSON line");
                    return text.lines().map(read).collect();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }
}

pub(crate) async fn send(socket: &Path, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = UnixStream::connect(socket).await.expect("the gateway listens");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("speaks HTTP");
    tokio::spawn(connection);
    soon(sender.send_request(request)).await.expect("is answered")
}

/// Sends bytes as they are and reads until the gateway closes.
pub(crate) async fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).await.expect("the gateway listens");
    stream.write_all(bytes).await.expect("is taken");
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn request(method: &str, target: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "127.0.0.1:7070")
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a request")
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    let bytes = soon(response.into_body().collect()).await.expect("arrives whole").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("is text")
}

pub(crate) async fn json(response: Response<Incoming>) -> serde_json::Value {
    serde_json::from_str(&text(response).await).expect("is JSON")
}

/// A provider on loopback that answers with what the function says; gives its address.
pub(crate) async fn provider<F, A>(answer: F) -> String
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a TCP socket");
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

pub(crate) fn anthropic(base: &str) -> Provider {
    Provider::anthropic(KEY.to_owned().into(), Some(base.to_owned()))
}

pub(crate) fn openai(base: &str) -> Provider {
    Provider::openai(KEY.to_owned().into(), Some(format!("{base}/v1")))
}
