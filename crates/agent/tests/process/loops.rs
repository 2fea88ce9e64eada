//! Prompts that go well.

use agent_client_protocol::v1::schema::{SessionUpdate, StopReason, ToolCallContent, ToolKind};
use serde_json::json;

use crate::client::{Process, ended, plain, tool_text};
use crate::model::{BOTH, Dialect, Model, Reply, Say};

#[tokio::test]
async fn a_prompt_is_worked_off_with_tools_in_both_dialects() {
    for dialect in BOTH {
        let mut model = Model::start(
            dialect,
            vec![
                Reply::Answer(vec![
                    Say::Thought("A file is needed."),
                    Say::Text("I write it."),
                    Say::Call("write", json!({ "path": "src/new.txt", "content": "one\n" })),
                    Say::Call("shell", json!({ "command": "cat src/new.txt; echo $((40 + 2))" })),
                ]),
                Reply::Answer(vec![Say::Call(
                    "edit",
                    json!({ "path": "src/new.txt", "old_string": "one", "new_string": "two" }),
                )]),
                Reply::Answer(vec![Say::Text("All "), Say::Text("done.")]),
            ],
        )
        .await;
        let mut agent = Process::start(&model).await;
        std::fs::write(agent.workspace().join("AGENTS.md"), "Use tabs.").expect("written");
        assert_eq!(ended(agent.prompt("Do it.")).await, StopReason::EndTurn);

        let written = agent.workspace().join("src/new.txt");
        assert_eq!(std::fs::read_to_string(&written).expect("there"), "two\n");
        assert_eq!(agent.text(), "I write it.All done.");
        assert_eq!(agent.thoughts(), "A file is needed.");
        assert_tool_updates(&agent, &written);

        for _ in 0..3 {
            model.arrival().await;
        }
        let asked = model.asked();
        let path = match dialect {
            Dialect::Anthropic => "/model/test/v1/messages",
            Dialect::OpenAi => "/model/test/v1/chat/completions",
        };
        assert!(asked.iter().all(|asked| asked.path == path));
        let first = asked[0].body.to_string();
        for part in ["Use tabs.", "Extra words.", "/opt/hangar/docs", "Do it."] {
            assert!(first.contains(part), "{part}");
        }
        let results = model.results();
        assert_eq!(results[1], "one\n42\n");
        assert_eq!(results[2], "Edited src/new.txt at line 1.");
        if dialect == Dialect::Anthropic {
            let thinking = &asked[1].body["messages"][1]["content"][0];
            assert_eq!(
                thinking,
                &json!({ "type": "thinking", "thinking": "A file is needed.", "signature": "seal" })
            );
        }
    }
}

fn assert_tool_updates(agent: &Process, written: &std::path::Path) {
    let calls: Vec<_> = agent
        .seen
        .iter()
        .filter_map(|update| match update {
            SessionUpdate::ToolCall(call) => Some(call),
            _ => None,
        })
        .collect();
    let kinds: Vec<_> = calls.iter().map(|call| call.kind).collect();
    assert_eq!(kinds, [ToolKind::Edit, ToolKind::Execute, ToolKind::Edit]);
    assert_eq!(calls[0].title, "Write src/new.txt");
    assert_eq!(calls[0].locations[0].path, written);
    assert_eq!(calls[0].raw_input.as_ref().expect("input")["content"], "one\n");
    let diffs: Vec<_> = agent
        .seen
        .iter()
        .filter_map(|update| match update {
            SessionUpdate::ToolCallUpdate(update) => update.fields.content.as_ref(),
            _ => None,
        })
        .flatten()
        .filter_map(|content| match content {
            ToolCallContent::Diff(diff) => Some((diff.old_text.as_deref(), diff.new_text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(diffs, [(None, "one\n"), (Some("one\n"), "two\n")]);
}

#[tokio::test]
async fn text_is_shown_before_the_answer_ends() {
    for dialect in BOTH {
        let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
        let answer = vec![Say::Text("first"), Say::Wait(go_on.clone()), Say::Text("second")];
        let model = Model::start(dialect, vec![Reply::Answer(answer)]).await;
        let mut agent = Process::start(&model).await;
        let prompted = agent.prompt("Go.");
        agent
            .until(|update| {
                matches!(update, SessionUpdate::AgentMessageChunk(chunk) if plain(&chunk.content) == "first")
            })
            .await;
        go_on.notify_one();
        assert_eq!(ended(prompted).await, StopReason::EndTurn);
        assert_eq!(agent.text(), "firstsecond");
    }
}

#[tokio::test]
async fn nonsense_of_the_model_is_answered_and_borne_a_few_times() {
    for dialect in BOTH {
        let model = Model::start(
            dialect,
            vec![
                Reply::Answer(vec![Say::Call("teleport", json!({}))]),
                Reply::Answer(vec![Say::RawCall("write", "{\"path\": \"a\", \"conte")]),
                Reply::Answer(vec![]),
                Reply::Answer(vec![
                    Say::Call("read", json!({ "path": 7 })),
                    Say::Call("read", json!({ "path": "no-such-file" })),
                ]),
                Reply::Answer(vec![Say::Text("Sorry.")]),
            ],
        )
        .await;
        let mut agent = Process::start(&model).await;
        assert_eq!(ended(agent.prompt("Go.")).await, StopReason::EndTurn);
        let results = model.results();
        assert!(results[0].contains("there is no tool \"teleport\""), "{results:?}");
        assert!(results[1].contains("not a JSON object"), "{results:?}");
        assert!(results[2].contains("invalid type"), "{results:?}");
        assert!(results[3].contains("does not exist"), "{results:?}");
        assert!(model.asked()[3].body.to_string().contains("Your last answer was empty"));
        agent.catch_up();
        let finished = agent.seen.iter().filter_map(tool_text).count();
        assert_eq!(finished, 4);
    }
}

#[tokio::test]
async fn a_model_that_never_makes_sense_fails_the_prompt_and_not_the_session() {
    let senseless = Reply::Answer(vec![Say::Call("teleport", json!({}))]);
    let mut script = vec![senseless; 4];
    script.push(Reply::Answer(vec![Say::Text("Better.")]));
    let model = Model::start(Dialect::OpenAi, script).await;
    let agent = Process::start(&model).await;
    let message = crate::client::failed(agent.prompt("Go.")).await;
    assert!(message.contains("made no sense"), "{message}");
    assert_eq!(ended(agent.prompt("Again.")).await, StopReason::EndTurn);
    assert_eq!(model.results().len(), 4, "the history is whole");
}
