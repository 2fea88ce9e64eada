//! A model that fails.

use std::time::Duration;

use agent_client_protocol::v1::schema::StopReason;

use crate::client::{Process, ended, environment, failed};
use crate::model::{BOTH, Dialect, Model, Reply, Say};

fn done() -> Reply {
    Reply::Answer(vec![Say::Text("Done.")])
}

#[tokio::test]
async fn passing_failures_are_retried() {
    for dialect in BOTH {
        for failure in [
            Reply::Status(429, "retry-after: 0.01\r\n", "{}"),
            Reply::Status(529, "", r#"{"error":{"message":"overloaded"}}"#),
            Reply::Status(500, "", "oops"),
            Reply::Nothing,
            Reply::Cut(vec![]),
        ] {
            let model = Model::start(dialect, vec![failure.clone(), done()]).await;
            let mut agent = Process::start(&model).await;
            assert_eq!(ended(agent.prompt("Go.")).await, StopReason::EndTurn, "{failure:?}");
            assert_eq!(agent.text(), "Done.");
            assert!(agent.thoughts().contains("Asking again"), "people see why it takes longer");
            let asked = model.asked();
            assert_eq!(asked[0].body, asked[1].body, "the same request");
        }
    }
}

#[tokio::test]
async fn the_server_says_how_long_to_wait() {
    let script = vec![Reply::Status(429, "retry-after: 1\r\n", "{}"), done()];
    let model = Model::start(Dialect::Anthropic, script).await;
    let agent = Process::start(&model).await;
    assert_eq!(ended(agent.prompt("Go.")).await, StopReason::EndTurn);
    let asked = model.asked();
    let pause = asked[1].at - asked[0].at;
    assert!(pause >= Duration::from_secs(1) && pause < Duration::from_secs(10), "{pause:?}");
}

#[tokio::test]
async fn a_stream_dropped_in_its_middle_begins_again_with_a_note() {
    for dialect in BOTH {
        let script = vec![Reply::Cut(vec![Say::Text("Half a sen")]), done()];
        let model = Model::start(dialect, script).await;
        let mut agent = Process::start(&model).await;
        assert_eq!(ended(agent.prompt("Go.")).await, StopReason::EndTurn);
        let text = agent.text();
        assert!(text.starts_with("Half a sen\n\n[The answer broke off:"), "{text}");
        assert!(text.ends_with("]\n\nDone."), "{text}");
        assert_eq!(model.asked()[0].body, model.asked()[1].body, "half an answer is no history");
    }
}

#[tokio::test]
async fn a_silent_model_counts_as_dropped() {
    let model = Model::start(Dialect::OpenAi, vec![Reply::Hang(vec![]), done()]).await;
    let mut settings = environment(&model);
    settings.push(("HANGAR_MODEL_IDLE_MILLISECONDS", "300".to_owned()));
    let mut agent = Process::with(settings).await;
    assert_eq!(ended(agent.prompt("Go.")).await, StopReason::EndTurn);
    assert!(agent.thoughts().contains("sent nothing"), "{}", agent.thoughts());
}

#[tokio::test]
async fn lasting_failures_end_the_prompt_with_a_reason_and_the_next_one_works() {
    let script = [vec![Reply::Status(503, "", "down for repair"); 7], vec![done()]].concat();
    let model = Model::start(Dialect::Anthropic, script).await;
    let mut agent = Process::start(&model).await;
    let message = failed(agent.prompt("Go.")).await;
    assert!(message.contains("503") && message.contains("down for repair"), "{message}");
    assert_eq!(ended(agent.prompt("Again.")).await, StopReason::EndTurn);
    assert_eq!(agent.text(), "Done.");
}

#[tokio::test]
async fn refusals_are_told_at_once_in_the_servers_words() {
    for (code, body, expected) in [
        (401, r#"{"error":{"message":"invalid x-api-key"}}"#, "invalid x-api-key"),
        (400, r#"{"error":{"message":"prompt is too long"}}"#, "prompt is too long"),
        (
            403,
            r#"{"denied":"no such model","hint":"ask Ada"}"#,
            "denied by the gateway: no such model (ask Ada)",
        ),
    ] {
        let model = Model::start(Dialect::OpenAi, vec![Reply::Status(code, "", body)]).await;
        let agent = Process::start(&model).await;
        let message = failed(agent.prompt("Go.")).await;
        assert!(message.contains(expected) && message.contains(&code.to_string()), "{message}");
        assert_eq!(model.asked().len(), 1, "no retry");
    }
}

#[tokio::test]
async fn missing_settings_are_named_at_the_first_prompt() {
    let agent = Process::with(vec![("HANGAR_MODEL_URL", "http://127.0.0.1:1".to_owned())]).await;
    let message = failed(agent.prompt("Go.")).await;
    assert!(message.contains("HANGAR_MODEL_NAME is not set"), "{message}");
    let message = failed(agent.prompt(" ")).await;
    assert_eq!(message, "the prompt is empty");
}
