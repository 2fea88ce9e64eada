//! Where children are born: a thread of agentd that stands in their Landlock domain already.
//!
//! A domain belongs to a thread and is inherited by what the thread starts. So one is made for the
//! whole sandbox, at no cost to the commands, and agentd itself stays outside of it.

use std::io;
use std::sync::mpsc;

use tokio::process::Child;
use tokio::runtime::Handle;

use crate::confine;
use crate::settings::Settings;

type Birth = Box<dyn FnOnce() + Send>;

/// The thread, which ends with its last order.
#[derive(Debug)]
pub(crate) struct Nursery(mpsc::Sender<Birth>);

impl Nursery {
    /// Starts the thread; its domain is ready before its first child.
    pub(crate) fn open(settings: &Settings) -> io::Result<Self> {
        let (sender, orders) = mpsc::channel::<Birth>();
        let (toolkit, workspace) = (settings.toolkit.clone(), settings.workspace.clone());
        std::thread::Builder::new().name("nursery".to_owned()).stack_size(STACK).spawn(
            move || {
                // Without its domain it starts nothing: whoever asks is told that it is gone.
                match confine::enter_domain(&toolkit, &workspace) {
                    Ok(()) => orders.into_iter().for_each(|birth| birth()),
                    Err(error) => tracing::error!(%error, "making the domain of the children"),
                }
            },
        )?;
        Ok(Self(sender))
    }

    /// Starts a child there, and waits until it is started.
    ///
    /// The caller's thread does nothing else meanwhile, as if it had started the child itself.
    pub(crate) fn start(
        &self,
        spawn: impl FnOnce() -> io::Result<Child> + Send + 'static,
    ) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts children could not confine itself");
        let runtime = Handle::current();
        let (sender, started) = mpsc::sync_channel(1);
        let birth: Birth = Box::new(move || {
            let _entered = runtime.enter();
            // Nobody is left to tell when agentd ends meanwhile.
            let _ = sender.send(spawn());
        });
        self.0.send(birth).map_err(|_| gone())?;
        started.recv().map_err(|_| gone())?
    }
}

/// Enough for starting a program, and little of each sandbox's memory.
const STACK: usize = 256 * 1024;
