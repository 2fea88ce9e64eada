//! The sandbox wanted more than one of its limits gives.

use protocol::sandbox::{Consequence, LimitName};
use protocol::{Event, Refusal};

use crate::bounds::cut_text;
use crate::command::LimitHit;
use crate::draft::Draft;
use crate::state::Stage;

/// What repeats is told of ever less often: how often it happens is for the sandbox to decide.
pub(super) fn decide(draft: &mut Draft, hit: &LimitHit) -> Result<(), Refusal> {
    let sandbox = hit.sandbox;
    let reason = cut_text(limit_reason(hit));
    let LimitHit { limit, usage, maximum, consequence, .. } = *hit;
    let event = Event::LimitExceeded { sandbox, limit, usage, maximum, consequence };
    let stage = draft.sandbox.as_ref().filter(|known| known.id == sandbox).map(|it| &it.stage);
    match (stage, consequence) {
        (Some(Stage::Up), Consequence::Throttled) => {
            if draft.tells_of(limit) {
                draft.system(event);
            }
            Ok(())
        }
        (Some(Stage::Up), Consequence::Ended) => {
            draft.system(event);
            draft.system(Event::SandboxStopRequested { sandbox, reason });
            Ok(())
        }
        // It is on its way out, or was heard of only after its end: people still want to know why.
        (Some(Stage::Stopping { .. }), Consequence::Ended) => Ok(()),
        (None, Consequence::Ended) if draft.files == Some(sandbox) => {
            draft.system(event);
            Ok(())
        }
        _ => Err(Refusal::Stale { about: format!("sandbox {sandbox}") }),
    }
}

/// Why a sandbox cannot go on, for people.
pub fn limit_reason(hit: &LimitHit) -> String {
    let LimitHit { limit, usage, maximum, what, .. } = hit;
    let maximum_text = limit.show(*maximum);
    if *limit == LimitName::Disk && usage <= maximum {
        return format!("{what}; its files are kept: free room there, and try again");
    }
    format!(
        "it exceeded its {limit} limit of {maximum_text}: {what}; its files are kept: have the limit \
         raised, or ask for less"
    )
}
