//! Beginning a session.

use protocol::session::Actor;
use protocol::{Event, Refusal};

use crate::command::Create;
use crate::draft::Draft;
use crate::title::shorten;

pub(super) fn decide(draft: &mut Draft, create: Create) -> Result<(), Refusal> {
    if draft.facts.is_some() {
        return Err(Refusal::AlreadyCreated);
    }
    let Create {
        by,
        title,
        repository,
        agent,
        model,
        base_branch,
        base_commit,
        branch,
        limits,
        isolation,
    } = create;
    let title = shorten(&title);
    draft.record(
        Actor::User(by),
        Event::SessionCreated {
            title,
            repository,
            agent,
            model,
            base_branch,
            base_commit,
            branch,
            limits,
            isolation,
        },
    );
    Ok(())
}
