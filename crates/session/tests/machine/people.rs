//! What people may say: create, send, edit, withdraw, stop, park.

use protocol::agentd::Ending;
use protocol::limits::{PROMPT_BYTES, QUEUE_LENGTH, TITLE_BYTES};
use protocol::session::Delivery;
use protocol::{Event, Refusal, RequestId, Timestamp};
use session::{Command, Create, Policy, State, decide};

use super::support::{
    Story, ada, bob, cancelled, committed, create, delivered, edit, ended, ends, insert, lines,
    lost, not_started, nothing_to_commit, prm, prompt, pushed, ready, send, session, started, stop,
    stopped, synced, withdraw,
};

// === create ===

#[test]
fn a_session_is_created_once() {
    let mut story = Story::new();
    story.expect(
        create(),
        &["Ada session_created agent=built-in base_branch=main base_commit=c0ffee \
           branch=hangar/5e5510ff-try title=Try it"],
    );
    assert_eq!(story.refusal(create()), Refusal::AlreadyCreated);
}

#[test]
fn nothing_else_is_possible_before() {
    let story = Story::new();
    for command in [send(1), edit(1, "x"), withdraw(1), stop(), Command::Park, Command::Wake] {
        assert_eq!(story.refusal(command), Refusal::NotCreated);
    }
    for command in [started(1), synced(1), delivered(1, 1), ended(1, 1), lost(1), stopped(1)] {
        assert_eq!(story.refusal(command), Refusal::NotCreated);
    }
}

#[test]
fn a_long_title_is_shortened() {
    let Command::Create(create) = create() else { unreachable!("create makes a Create") };
    let long = Create { title: "é".repeat(300), ..create };
    let mut story = Story::new();
    let decision = story.say(Command::Create(long));
    let Event::SessionCreated { title, .. } = &decision.events[0].1 else {
        panic!("{decision:?}");
    };
    assert!(title.len() <= TITLE_BYTES && title.ends_with("é…"), "{title}");
}

// === send ===

#[test]
fn a_first_prompt_asks_for_a_sandbox() {
    Story::created().expect(
        send(1),
        &[
            "Ada prompt_accepted delivery=queue prompt=p1 text=do it",
            "system sandbox_requested sandbox=s1",
            "> start s1",
        ],
    );
}

#[test]
fn a_second_prompt_waits() {
    let mut story = Story::running();
    story.expect(send(2), &["Ada prompt_accepted delivery=queue prompt=p2 text=do it"]);
    story.expect(send(3), &["Ada prompt_accepted delivery=queue prompt=p3 text=do it"]);
    assert_eq!(story.state.queue().collect::<Vec<_>>(), [prm(2), prm(3)]);
}

#[test]
fn a_prompt_to_an_idle_sandbox_is_delivered_at_once() {
    let mut story = Story::published();
    story.expect(
        send(2),
        &["Ada prompt_accepted delivery=queue prompt=p2 text=do it", "> deliver p2 s1"],
    );
}

#[test]
fn a_retry_is_told_what_it_was_before() {
    let mut story = Story::running();
    for (again, what) in [(send(1), "the same request"), (send(1), "and again")] {
        let decision = story.say(again);
        assert_eq!(decision.already, Some(prm(1)), "{what}");
        assert!(decision.events.is_empty() && decision.effects.is_empty(), "{what}");
    }
    let other_id = Command::SendPrompt {
        prompt: prm(9),
        request: RequestId::from_bytes([1; 16]),
        author: ada(),
        text: "do it".to_owned(),
        delivery: Delivery::Queue,
    };
    assert_eq!(story.say(other_id).already, Some(prm(1)), "the request counts");
    let other_request = Command::SendPrompt {
        prompt: prm(1),
        request: RequestId::from_bytes([9; 16]),
        author: ada(),
        text: "do it".to_owned(),
        delivery: Delivery::Queue,
    };
    assert_eq!(story.say(other_request).already, Some(prm(1)), "an id is never used twice");
    assert_eq!(story.state.prompt_of_request(RequestId::from_bytes([1; 16])), Some(prm(1)));
}

#[test]
fn a_retry_is_answered_even_when_it_would_be_refused_now() {
    let mut story = Story::running();
    for number in 2..2 + u8::try_from(QUEUE_LENGTH).expect("the queue is short") {
        story.say(send(number));
    }
    assert_eq!(story.refusal(send(55)), Refusal::QueueFull { limit: QUEUE_LENGTH });
    assert_eq!(story.say(send(3)).already, Some(prm(3)));
}

#[test]
fn what_is_no_prompt_is_refused() {
    let story = Story::created();
    for text in ["", "  \n\t", "\u{200b}\u{feff}", "\u{0}\u{7}\u{1b}", "\u{202e}\u{2060}"] {
        assert_eq!(
            story.refusal(prompt(1, Delivery::Queue, text)),
            Refusal::EmptyPrompt,
            "{text:?}"
        );
    }
    let long = "x".repeat(PROMPT_BYTES + 1);
    let refusal = Refusal::PromptTooLong { bytes: PROMPT_BYTES + 1, limit: PROMPT_BYTES };
    assert_eq!(story.refusal(prompt(1, Delivery::Queue, &long)), refusal);
}

#[test]
fn a_prompt_is_kept_to_the_last_byte() {
    let mut story = Story::created();
    let text = format!("{}\u{0}\u{1b}ü", "x".repeat(PROMPT_BYTES - 4));
    story.say(prompt(1, Delivery::Queue, &text));
    assert_eq!(story.state.prompt(prm(1)).map(|prompt| prompt.text), Some(text.as_str()));
    assert_eq!(story.state.prompt(prm(1)).map(|prompt| prompt.author), Some(&ada()));
    assert_eq!(story.state.prompt(prm(2)), None);
}

// === insert ===

#[test]
fn an_insert_ends_the_running_prompt() {
    let mut story = Story::running().then([send(2)]);
    story.expect(
        insert(3),
        &["Ada prompt_accepted delivery=insert prompt=p3 text=do it", "> cancel p1 s1"],
    );
    assert_eq!(story.state.queue().collect::<Vec<_>>(), [prm(3), prm(2)]);
}

#[test]
fn inserts_keep_their_own_order() {
    let story = Story::running().then([send(2), insert(3), insert(4), send(5), insert(6)]);
    let queue: Vec<_> = story.state.queue().collect();
    assert_eq!(queue, [prm(3), prm(4), prm(6), prm(2), prm(5)]);
}

#[test]
fn an_insert_waits_until_the_agent_knows_the_prompt_it_interrupts() {
    let mut story = Story::created().then([send(1), started(1), ready(1), insert(2)]);
    assert!(story.outstanding().contains(&"> deliver p1 s1".to_owned()));
    story.expect(
        delivered(1, 1),
        &["system prompt_started attempt=1 prompt=p1 sandbox=s1", "> cancel p1 s1"],
    );
}

#[test]
fn an_insert_goes_first_while_nothing_is_delivered() {
    let story = Story::created().then([send(1), insert(2), started(1)]);
    assert_eq!(story.state.current_prompt(), Some(prm(2)));
}

#[test]
fn an_insert_while_publishing_just_waits_in_front() {
    let mut story = Story::committing().then([send(2)]);
    story.expect(insert(3), &["Ada prompt_accepted delivery=insert prompt=p3 text=do it"]);
    assert_eq!(story.state.queue().collect::<Vec<_>>(), [prm(3), prm(2)]);
}

#[test]
fn an_insert_beside_a_stop_leaves_the_stop_alone() {
    let mut story = Story::running().then([stop(), insert(2)]);
    story.expect(
        cancelled(1, 1),
        &[
            "system agent_ended outcome=stopped:Bob prompt=p1",
            "system phase_finished milliseconds=0 phase=agent prompt=p1",
            "> commit p1 s1",
        ],
    );
}

// === edit ===

#[test]
fn a_waiting_prompt_is_rewritten() {
    let mut story = Story::running().then([send(2)]);
    story.expect(edit(2, "do that"), &["Ada prompt_edited prompt=p2 text=do that"]);
    assert_eq!(story.state.prompt(prm(2)).map(|prompt| prompt.text), Some("do that"));
    story.expect(edit(2, "do that"), &[""]);
}

#[test]
fn a_prompt_may_be_rewritten_until_a_sandbox_is_there() {
    let story = Story::created().then([send(1), edit(1, "better"), started(1)]);
    let refusal = Refusal::PromptNotQueued { prompt: prm(1) };
    assert_eq!(story.refusal(edit(1, "too late")), refusal);
    assert_eq!(story.refusal(withdraw(1)), refusal);
}

#[test]
fn editing_is_refused_by_name() {
    let story = Story::running().then([send(2), send(3), withdraw(3)]);
    let bobs = Command::EditPrompt { prompt: prm(2), by: bob(), text: "mine".to_owned() };
    let table = [
        (edit(7, "x"), Refusal::UnknownPrompt { prompt: prm(7) }),
        (bobs, Refusal::NotTheAuthor { prompt: prm(2) }),
        (edit(1, "x"), Refusal::PromptNotQueued { prompt: prm(1) }),
        (edit(3, "x"), Refusal::PromptNotQueued { prompt: prm(3) }),
        (edit(2, " "), Refusal::EmptyPrompt),
    ];
    for (command, refusal) in table {
        assert_eq!(story.refusal(command), refusal);
    }
}

// === withdraw ===

#[test]
fn a_waiting_prompt_is_taken_back() {
    let mut story = Story::running().then([send(2), send(3)]);
    story.expect(withdraw(2), &["Ada prompt_withdrawn prompt=p2"]);
    assert_eq!(story.state.queue().collect::<Vec<_>>(), [prm(3)]);
    assert_eq!(story.refusal(withdraw(2)), Refusal::PromptNotQueued { prompt: prm(2) });
}

#[test]
fn withdrawing_is_refused_by_name() {
    let story = Story::running().then([send(2)]);
    let bobs = Command::WithdrawPrompt { prompt: prm(2), by: bob() };
    assert_eq!(story.refusal(bobs), Refusal::NotTheAuthor { prompt: prm(2) });
    assert_eq!(story.refusal(withdraw(1)), Refusal::PromptNotQueued { prompt: prm(1) });
    assert_eq!(story.refusal(withdraw(5)), Refusal::UnknownPrompt { prompt: prm(5) });
}

#[test]
fn without_a_prompt_no_further_sandbox_is_tried() {
    let mut story = Story::created().then([send(1), not_started(1)]);
    story.expect(withdraw(1), &["Ada prompt_withdrawn prompt=p1"]);
    assert_eq!(story.outstanding(), [""; 0]);
    story.expect(
        send(2),
        &[
            "Ada prompt_accepted delivery=queue prompt=p2 text=do it",
            "system sandbox_requested sandbox=s2",
            "> start s2",
        ],
    );
}

// === stop ===

#[test]
fn a_running_prompt_is_cancelled() {
    let mut story = Story::running();
    story.expect(stop(), &["Bob stop_requested by=Bob prompt=p1", "> cancel p1 s1"]);
    assert_eq!(story.refusal(stop()), Refusal::AlreadyStopping);
}

#[test]
fn a_stop_before_there_is_a_sandbox_ends_the_prompt_undelivered() {
    let mut story = Story::created().then([send(1), send(2)]);
    let said = lines(&story.say(stop()));
    assert!(said.ends_with("system prompt_finished outcome=stopped:Bob prompt=p1"), "{said}");
    story.say(started(1));
    let said = lines(&story.say(ready(1)));
    assert!(said.contains("> deliver p2 s1") && !said.contains("p1"), "{said}");
}

#[test]
fn a_stop_while_the_delivery_is_under_way_makes_sure_of_it() {
    let mut story = Story::created().then([send(1), started(1), stop()]);
    assert_eq!(
        story.outstanding(),
        ["> agent s1", "> sync s1 hangar/5e5510ff-try c0ffee", "> cancel p1 s1"]
    );
    // Nothing can have been written before the sync, so there is nothing to commit.
    story.expect(
        cancelled(1, 1),
        &["system prompt_finished outcome=stopped:Bob prompt=p1", "> wake at +600000"],
    );
}

#[test]
fn a_stop_overtaken_by_the_delivery_is_still_a_stop() {
    let mut story = Story::created().then([send(1), started(1), stop()]);
    story.expect(delivered(1, 1), &["system prompt_started attempt=1 prompt=p1 sandbox=s1"]);
    story.expect(
        ends(1, 1, Ending::Cancelled),
        &[
            "agent agent_ended outcome=stopped:Bob prompt=p1",
            "system phase_finished milliseconds=0 phase=agent prompt=p1",
        ],
    );
}

#[test]
fn a_person_overrules_an_insert() {
    let mut story = Story::running().then([insert(2), stop()]);
    let said = lines(&story.say(cancelled(1, 1)));
    assert!(said.contains("outcome=stopped:Bob prompt=p1"), "{said}");
}

#[test]
fn nothing_is_stopped_where_nothing_runs() {
    for story in [Story::created(), Story::committing(), Story::published()] {
        assert_eq!(story.refusal(stop()), Refusal::NothingToStop);
    }
}

// === park ===

#[test]
fn an_idle_sandbox_is_put_away() {
    let mut story = Story::published();
    story.expect(
        Command::Park,
        &[
            "system sandbox_stop_requested reason=it was asked for sandbox=s1",
            "> stop s1: it was asked for",
        ],
    );
    story.expect(Command::Park, &[""]);
    story.expect(stopped(1), &["system sandbox_stopped reason=it was asked for sandbox=s1"]);
    assert_eq!(story.refusal(Command::Park), Refusal::NothingToStop);
}

#[test]
fn a_sandbox_at_work_is_not_put_away() {
    let busy = Refusal::Busy { prompt: prm(1) };
    for story in [
        Story::created().then([send(1)]),
        Story::created().then([send(1), started(1)]),
        Story::running(),
        Story::committing(),
    ] {
        assert_eq!(story.refusal(Command::Park), busy);
    }
    let starting = Story::created().then([send(1), withdraw(1)]);
    assert_eq!(starting.refusal(Command::Park), Refusal::NothingToStop);
}

// === the order of it all ===

#[test]
fn prompts_run_one_after_the_other() {
    let mut story = Story::running().then([send(2), send(3), ended(1, 1)]);
    story.expect(
        nothing_to_commit(1, 1),
        &[
            "system nothing_to_commit prompt=p1",
            "system phase_finished milliseconds=0 phase=commit prompt=p1",
            "system prompt_finished outcome=completed prompt=p1",
            "> deliver p2 s1",
        ],
    );
    let mut story = story.then([delivered(1, 2), ended(1, 2)]);
    let said = lines(&story.say(nothing_to_commit(1, 2)));
    assert!(said.ends_with("> deliver p3 s1"), "{said}");
}

#[test]
fn the_interrupting_prompt_follows_the_publishing_of_the_interrupted() {
    let mut story = Story::running().then([insert(2), cancelled(1, 1), committed(1, 1, "aaa")]);
    story.expect(
        pushed(1, 1, "aaa"),
        &[
            "system pushed branch=hangar/5e5510ff-try commit=aaa prompt=p1",
            "system phase_finished milliseconds=0 phase=push prompt=p1",
            "system prompt_finished outcome=superseded prompt=p1",
            "> deliver p2 s1",
        ],
    );
}

#[test]
fn a_decision_leaves_the_state_alone() {
    let state = State::new(session(), Policy::default());
    let before = state.clone();
    decide(&state, create(), Timestamp(1)).expect("a new session can be created");
    assert_eq!(state, before);
    assert_eq!(state.sequence(), 0);
}
