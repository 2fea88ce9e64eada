//! Sessions that outlive their process.

use agent_client_protocol::v1::schema::{LoadSessionRequest, SessionUpdate, StopReason};
use serde_json::json;

use crate::client::{Process, content, ended, environment, limited, plain, tool_text};
use crate::model::{Dialect, Model, Reply, Say};

#[tokio::test]
async fn a_session_is_loaded_told_again_and_continued() {
    let script = vec![
        Reply::Answer(vec![
            Say::Thought("Hm."),
            Say::Text("I look."),
            Say::Call("shell", json!({ "command": "echo seen" })),
        ]),
        Reply::Answer(vec![Say::Text("Done.")]),
        Reply::Answer(vec![Say::Text("As I said.")]),
    ];
    let model = Model::start(Dialect::Anthropic, script).await;
    let agent = Process::start(&model).await;
    assert_eq!(ended(agent.prompt("Look.")).await, StopReason::EndTurn);
    let mut agent = agent.restart(environment(&model)).await;

    assert!(
        matches!(&agent.seen[0], SessionUpdate::UserMessageChunk(chunk) if plain(&chunk.content) == "Look.")
    );
    assert_eq!(agent.text(), "I look.Done.");
    assert_eq!(agent.thoughts(), "Hm.");
    let results: Vec<_> = agent.seen.iter().filter_map(tool_text).map(|(_, text)| text).collect();
    assert_eq!(results, ["seen\n"]);

    assert_eq!(ended(agent.prompt("And?")).await, StopReason::EndTurn);
    let messages = model.asked()[2].body["messages"].clone();
    assert_eq!(messages.as_array().map(Vec::len), Some(5), "{messages}");
    assert_eq!(messages[1]["content"][0]["signature"], "seal");
}

#[tokio::test]
async fn a_killed_agent_continues_with_every_call_answered() {
    let script = vec![
        Reply::Answer(vec![Say::Call(
            "shell",
            json!({ "command": "echo $$ > child; sleep 1000" }),
        )]),
        Reply::Answer(vec![Say::Text("I look again.")]),
    ];
    let model = Model::start(Dialect::OpenAi, script).await;
    let agent = Process::start(&model).await;
    let _lost = agent.prompt("Go.");
    let child = content(&agent.workspace().join("child")).await;
    let agent = agent.restart(environment(&model)).await;
    assert_eq!(ended(agent.prompt("Go on.")).await, StopReason::EndTurn);
    let results = model.results();
    assert_eq!(results.len(), 1);
    assert!(results[0].contains("restarted before"), "{results:?}");
    let id = child.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("an id");
    // The platform kills what a killed agent leaves; here the test does.
    let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
}

#[tokio::test]
async fn an_unknown_session_cannot_be_loaded() {
    let model = Model::start(Dialect::OpenAi, vec![]).await;
    let agent = Process::start(&model).await;
    for name in ["agent-0", "../../etc/passwd"] {
        let request = LoadSessionRequest::new(name, agent.workspace());
        let answer = limited(agent.connection.send_request(request).block_task()).await;
        let message = answer.expect_err("no such session").message;
        assert!(message.contains("session"), "{message}");
    }
}
