//! Cancelling, and prompts sent while one is worked on.

use std::sync::Arc;

use agent_client_protocol::v1::schema::{SessionUpdate, StopReason};
use serde_json::json;
use tokio::sync::Notify;

use crate::client::{Process, content, ended, gone, limited};
use crate::model::{BOTH, Dialect, Model, Reply, Say};

#[tokio::test]
async fn cancelling_a_stream_closes_it_and_the_next_prompt_knows_what_was_said() {
    for dialect in BOTH {
        let script = vec![
            Reply::Hang(vec![Say::Text("I begin")]),
            Reply::Answer(vec![Say::Text("Something else.")]),
        ];
        let mut model = Model::start(dialect, script).await;
        let mut agent = Process::start(&model).await;
        let prompted = agent.prompt("First wish.");
        agent.until(|update| matches!(update, SessionUpdate::AgentMessageChunk(_))).await;
        agent.cancel();
        assert_eq!(ended(prompted).await, StopReason::Cancelled);
        limited(model.leaving()).await;

        assert_eq!(ended(agent.prompt("Second wish.")).await, StopReason::EndTurn);
        let request = model.asked()[1].body["messages"].to_string();
        let at = |text: &str| request.find(text).unwrap_or_else(|| panic!("{text}: {request}"));
        assert!(at("First wish.") < at("I begin") && at("I begin") < at("Second wish."));
    }
}

#[tokio::test]
async fn cancelling_a_command_kills_it_and_leaves_the_history_whole() {
    for dialect in BOTH {
        let script = vec![
            Reply::Answer(vec![
                Say::Call("shell", json!({ "command": "sleep 1000 & echo $! > child; wait" })),
                Say::Call("write", json!({ "path": "never", "content": "" })),
            ]),
            Reply::Answer(vec![Say::Text("Fine.")]),
        ];
        let model = Model::start(dialect, script).await;
        let agent = Process::start(&model).await;
        let prompted = agent.prompt("Go.");
        let child = content(&agent.workspace().join("child")).await;
        agent.cancel();
        assert_eq!(ended(prompted).await, StopReason::Cancelled);
        gone(&child).await;
        assert!(!agent.workspace().join("never").exists(), "nothing begins after a cancel");

        assert_eq!(ended(agent.prompt("Go on.")).await, StopReason::EndTurn);
        let results = model.results();
        assert_eq!(results.len(), 2, "each call has its result");
        assert!(results.iter().all(|result| result.contains("stopped by the person")));
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_running() {
    let script = vec![Reply::Answer(vec![Say::Call(
        "shell",
        json!({ "command": "echo $$ > child; sleep 1000" }),
    )])];
    let model = Model::start(Dialect::OpenAi, script).await;
    let mut agent = Process::start(&model).await;
    let _prompted = agent.prompt("Go.");
    let child = content(&agent.workspace().join("child")).await;
    let agent_id = agent.child.id().expect("running").to_string();
    agent.hang_up();
    limited(agent.child.wait()).await.expect("ended");
    gone(&agent_id).await;
    gone(&child).await;
}

#[tokio::test]
async fn a_second_prompt_is_put_in_at_the_next_step_and_both_answer_together() {
    for dialect in BOTH {
        let script = vec![
            Reply::Answer(vec![Say::Call(
                "shell",
                json!({ "command": "echo begun > mark; while [ ! -e go ]; do sleep 0.01; done" }),
            )]),
            Reply::Answer(vec![Say::Text("Both done.")]),
        ];
        let model = Model::start(dialect, script).await;
        let agent = Process::start(&model).await;
        let first = agent.prompt("First wish.");
        content(&agent.workspace().join("mark")).await;
        let second = agent.prompt("Second wish.");
        // An answered request shows that the agent has taken in the prompt before it.
        let other = agent.workspace();
        let probe = agent_client_protocol::v1::schema::NewSessionRequest::new(other);
        limited(agent.connection.send_request(probe).block_task()).await.expect("answered");
        assert!(!first.is_finished() && !second.is_finished());
        std::fs::write(agent.workspace().join("go"), "").expect("written");
        assert_eq!(ended(first).await, StopReason::EndTurn);
        assert_eq!(ended(second).await, StopReason::EndTurn);
        let asked = model.asked();
        assert_eq!(asked.len(), 2, "one run for both");
        assert!(asked[1].body.to_string().contains("Second wish."));
    }
}

#[tokio::test]
async fn a_prompt_sent_during_the_last_answer_is_still_heard() {
    let go_on = Arc::new(Notify::new());
    let script = vec![
        Reply::Answer(vec![Say::Text("One."), Say::Wait(go_on.clone())]),
        Reply::Answer(vec![Say::Text("Two.")]),
    ];
    let model = Model::start(Dialect::Anthropic, script).await;
    let mut agent = Process::start(&model).await;
    let first = agent.prompt("First wish.");
    agent.until(|update| matches!(update, SessionUpdate::AgentMessageChunk(_))).await;
    let second = agent.prompt("Second wish.");
    let probe = agent_client_protocol::v1::schema::NewSessionRequest::new(agent.workspace());
    limited(agent.connection.send_request(probe).block_task()).await.expect("answered");
    go_on.notify_one();
    assert_eq!(ended(first).await, StopReason::EndTurn);
    assert_eq!(ended(second).await, StopReason::EndTurn);
    assert_eq!(agent.text(), "One.Two.");
}
