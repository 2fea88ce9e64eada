//! Everything of one sandbox, put together.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;

use protocol::layout;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::children::Children;
use crate::doorstep::{Doorstep, Held};
use crate::driver::{Driver, Surroundings};
use crate::gate::Gate;
use crate::git::Git;
use crate::nursery::Nursery;
use crate::reports::Reports;
use crate::settings::{Listen, Settings};
use crate::{confine, own_kernel, processes, relay, server};

/// agentd could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no socket to serve.
    #[error("taking over the API's listening socket ({what})")]
    Listener {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody started it by hand.
    #[error(
        "`--listen` is for the first process of a sandbox; elsewhere nothing can be confined, which a \
         test says with `--unconfined-for-tests`"
    )]
    NotFirst,
    /// The relay has no address.
    #[error("listening on {address} for the gateway; is the loopback interface up?")]
    Relay {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refuses something any process may do.
    #[error("{doing}")]
    System {
        /// What.
        doing: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The parts of one sandbox.
#[derive(Debug)]
pub(crate) struct Agentd {
    pub(crate) children: Arc<Children>,
    pub(crate) git: Arc<Git>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) driver: Driver,
    pub(crate) held: Arc<Held>,
    /// Where the socket is agentd's own.
    pub(crate) doorstep: Option<Doorstep>,
}

/// Serves until the process is killed.
pub fn run(settings: Settings) -> Result<(), Error> {
    let inherited = match settings.listen {
        // First of all, while no other descriptor can have its number.
        Listen::Inherited => Some(adopt_listener()?),
        Listen::Path(_) if settings.confined() && !processes::am_first() => {
            return Err(Error::NotFirst);
        }
        Listen::Path(_) => None,
    };
    // One thread: agentd waits for most of its time, starts in a moment, and starting a child
    // depends on nothing else starting one meanwhile.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::System { doing: "starting the event loop", source })?;
    runtime.block_on(serve(settings, inherited))
}

fn adopt_listener() -> Result<OwnedFd, Error> {
    let descriptor = layout::AGENTD_LISTENER_FD;
    confine::adopt(descriptor)
        .map_err(|source| Error::Listener { what: format!("file descriptor {descriptor}"), source })
}

async fn serve(settings: Settings, inherited: Option<OwnedFd>) -> Result<(), Error> {
    let (listener, doorstep) = listener(&settings, inherited)?;
    if !processes::am_first() {
        // A test's agentd collects orphans as the first process of a sandbox does.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|error| {
            Error::System { doing: "becoming the collector of orphans", source: error.into() }
        })?;
    }
    let held = Arc::new(Held::default());
    if let Some(gateway) = settings.gateway_socket.clone() {
        let address = settings.relay_address.clone();
        let bound = relay::bind(&address).await;
        let bound = bound.map_err(|source| Error::Relay { address, source })?;
        tokio::spawn(relay::serve(bound, gateway, Arc::clone(&held)));
    }
    let settings = Arc::new(settings);
    let nursery = settings.confined().then(|| Nursery::open(&settings)).transpose();
    let nursery = nursery.map_err(|source| Error::System { doing: "starting a thread", source })?;
    let children = Children::new(settings, nursery);
    collect_orphans(Arc::clone(&children))?;
    let reports = Arc::new(Reports::default());
    let gate = Arc::new(Gate::default());
    let git = Arc::new(Git::new(Arc::clone(&children), Arc::clone(&reports)));
    let driver = Driver::new(Surroundings {
        children: Arc::clone(&children),
        git: Arc::clone(&git),
        reports: Arc::clone(&reports),
        gate: Arc::clone(&gate),
    });
    let agentd = Agentd { children, git, gate, reports, driver, held, doorstep };
    server::serve(listener, Arc::new(agentd))
        .await
        .map_err(|source| Error::System { doing: "waking on the doorstep", source })
}

fn listener(
    settings: &Settings,
    inherited: Option<OwnedFd>,
) -> Result<(UnixListener, Option<Doorstep>), Error> {
    let what = format!("{:?}", settings.listen);
    let made = || match (inherited, &settings.listen) {
        (Some(descriptor), _) => {
            let listener = StdListener::from(descriptor);
            listener.set_nonblocking(true)?;
            Ok((UnixListener::from_std(listener)?, None))
        }
        (None, Listen::Path(path)) => {
            let doorstep = Doorstep::open(path, settings.confined())?;
            Ok((doorstep.listen()?, Some(doorstep)))
        }
        (None, Listen::Inherited) => Err(std::io::ErrorKind::NotConnected.into()),
    };
    let made = made().map_err(|source| Error::Listener { what, source })?;
    if let Listen::Path(path) = &settings.listen
        && settings.confined()
    {
        let failed = |doing| move |source| Error::System { doing, source };
        own_kernel::close_gate(&settings.workspace).map_err(failed("closing the write gate"))?;
        own_kernel::hide(path.parent().unwrap_or(path))
            .map_err(failed("hiding the API's socket"))?;
        confine::leave_streams().map_err(failed("leaving the standard streams"))?;
    }
    Ok(made)
}

/// The kernel discards SIGTERM for a first process without a handler, so none is set: a sandbox is
/// ended by ending its first process from outside.
fn collect_orphans(children: Arc<Children>) -> Result<(), Error> {
    let mut ended = signal(SignalKind::child())
        .map_err(|source| Error::System { doing: "watching for ended processes", source })?;
    tokio::spawn(async move {
        while ended.recv().await.is_some() {
            children.collect_orphans();
        }
    });
    Ok(())
}
