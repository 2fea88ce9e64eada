//! The write gate on a real read-only mount, and floods of output.

use agent_client_protocol::v1::schema::{StopReason, ToolCallStatus};
use serde_json::json;
use tokio::process::Command;

use crate::client::{Process, ended, environment, tool_text};
use crate::model::{Dialect, Model, Reply, Say};

/// Makes the workspace a read-only mount, as before the sync, until a file `open` appears.
const MOUNTED: &str = r#"
set -e
mount --bind "$1/workspace" "$1/workspace"
mount -o remount,bind,ro "$1/workspace"
(while [ ! -e "$1/open" ]; do sleep 0.01; done; mount -o remount,bind,rw "$1/workspace") <&- >&- &
exec "$2"
"#;

#[tokio::test]
async fn reading_works_at_once_and_writing_waits_for_the_sync() {
    let script = vec![
        Reply::Answer(vec![
            Say::Call("read", json!({ "path": "old.txt" })),
            Say::Call(
                "edit",
                json!({ "path": "old.txt", "old_string": "old", "new_string": "new" }),
            ),
            Say::Call("shell", json!({ "command": "echo more >> old.txt" })),
        ]),
        Reply::Answer(vec![Say::Text("Done.")]),
    ];
    let model = Model::start(Dialect::Anthropic, script).await;
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("workspace")).expect("made");
    std::fs::write(directory.path().join("workspace/old.txt"), "old\n").expect("written");
    let mut program = Command::new("unshare");
    program.args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh"]);
    program.arg(directory.path()).arg(env!("CARGO_BIN_EXE_hangar-agent"));
    let mut agent = Process::run(program, directory, environment(&model)).await;

    let prompted = agent.prompt("Go.");
    let waits = |update: &_| tool_text(update).is_some_and(|(_, text)| text.starts_with("Waiting"));
    agent.until(waits).await;
    let read = agent.seen.iter().find_map(tool_text).expect("the read");
    assert_eq!(read, (Some(ToolCallStatus::Completed), "     1\told".to_owned()));
    assert_eq!(std::fs::read_to_string(agent.workspace().join("old.txt")).expect("there"), "old\n");
    assert!(!prompted.is_finished());

    std::fs::write(agent.directory.path().join("open"), "").expect("written");
    assert_eq!(ended(prompted).await, StopReason::EndTurn);
    let after = std::fs::read_to_string(agent.workspace().join("old.txt")).expect("there");
    assert_eq!(after, "new\nmore\n");
}

#[tokio::test]
async fn a_gigabyte_of_output_costs_little_memory() {
    let script = vec![
        Reply::Answer(vec![Say::Call(
            "shell",
            json!({ "command": "echo first; head -c 1000000000 /dev/zero; echo last; exit 3" }),
        )]),
        Reply::Answer(vec![Say::Text("Done.")]),
    ];
    let model = Model::start(Dialect::OpenAi, script).await;
    let agent = Process::start(&model).await;
    assert_eq!(ended(agent.prompt("Go.")).await, StopReason::EndTurn);
    let result = model.results().remove(0);
    assert!(result.starts_with("first\n") && result.ends_with("last\n[exit code 3]"));
    assert!(result.len() < 64 * 1024, "{}", result.len());
    let id = agent.child.id().expect("running");
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("there");
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.split_whitespace().next())
        .expect("a peak")
        .parse()
        .expect("a number");
    assert!(peak < 100 * 1024, "{peak} kB");
}
