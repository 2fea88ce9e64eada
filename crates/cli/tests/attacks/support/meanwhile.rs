//! An attack that takes its time, and how everybody else fares while it lasts.

use std::fmt;
use std::time::{Duration, Instant};

use protocol::sandbox::Consequence;
use sandbox::{Backend as _, Exceeded};

use super::sandbox::{Said, Sandbox};
use super::world::World;

/// Everybody else is asked so often.
const EVERY: Duration = Duration::from_millis(250);
/// Longer than it takes until the kernel's counters are looked at again.
const COUNTED: Duration = Duration::from_millis(2500);

/// What came of it.
#[derive(Debug)]
pub(crate) struct Lasted {
    /// What the attacker's command said.
    pub(crate) said: Said,
    /// The limits it hit, as the server is told of them.
    pub(crate) exceeded: Vec<Exceeded>,
    /// Who else did not answer, and when.
    pub(crate) unanswered: Option<String>,
    /// The longest that everybody else took together to answer.
    pub(crate) slowest: Duration,
}

impl fmt::Display for Lasted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; the others took at most {:?}", self.said, self.slowest)?;
        for it in &self.exceeded {
            write!(formatter, "; {}: {}", it.limit, it.what)?;
        }
        match &self.unanswered {
            Some(who) => write!(formatter, "; did not answer: {who}"),
            None => Ok(()),
        }
    }
}

impl Lasted {
    /// Whether a limit ended the sandbox.
    pub(crate) fn was_ended(&self) -> bool {
        self.exceeded.iter().any(|it| it.consequence == Consequence::Ended)
    }
}

impl World {
    /// Runs a command in a sandbox as the agent would. Until it is over, and as often as a server
    /// does, looks which limits were hit and stops what is over one; and asks the neighbour, its
    /// gateway and a whole server beside them whether they still answer.
    pub(crate) fn meanwhile(&self, sandbox: &Sandbox, argv: &[&str], time: Duration) -> Lasted {
        // There from now on, so that it is asked as well.
        let _started = self.server();
        let mut lasted = Lasted {
            said: Said::default(),
            exceeded: Vec::new(),
            unanswered: None,
            slowest: Duration::ZERO,
        };
        std::thread::scope(|scope| {
            let attack = scope.spawn(|| sandbox.run_with(argv, "", time));
            while !attack.is_finished() {
                self.look(sandbox, &mut lasted);
                std::thread::sleep(EVERY);
            }
            lasted.said = attack.join().expect("no panic");
        });
        // What the kernel counted in the last moment is looked at with the next look at counters.
        let ended = Instant::now();
        while ended.elapsed() < COUNTED {
            self.look(sandbox, &mut lasted);
            std::thread::sleep(EVERY);
        }
        lasted
    }

    fn look(&self, sandbox: &Sandbox, lasted: &mut Lasted) {
        let begun = Instant::now();
        if let Err(who) = self.others_go_on() {
            lasted.unanswered.get_or_insert(who);
        }
        lasted.slowest = lasted.slowest.max(begun.elapsed());
        let all = self.block_on(self.backend.exceeded()).expect("the backend looks");
        let ours = all.into_iter().filter(|it| it.sandbox == sandbox.id);
        for exceeded in ours {
            if exceeded.consequence == Consequence::Ended {
                self.block_on(self.backend.stop(sandbox.id)).expect("it stops");
            }
            lasted.exceeded.push(exceeded);
        }
    }
}
