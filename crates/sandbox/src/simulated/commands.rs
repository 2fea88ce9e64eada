//! The commands of a simulated sandbox: `true`, `false`, `echo`, `cat` and `sleep`.

use std::time::Duration;

use protocol::agentd::{ExecExit, ExecRequest};

use super::world::World;

/// What a simulated command printed and how it ended.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) exit: ExecExit,
}

pub(super) async fn run(world: &World, request: &ExecRequest) -> Ran {
    let Some(limit) = request.timeout_milliseconds else { return command(world, request).await };
    let limit = Duration::from_millis(limit);
    tokio::time::timeout(limit, command(world, request)).await.unwrap_or_else(|_| Ran {
        exit: ExecExit { signal: Some(9), timed_out: true, ..ExecExit::default() },
        ..Ran::default()
    })
}

async fn command(world: &World, request: &ExecRequest) -> Ran {
    let mut words = request.argv.iter().map(String::as_str);
    let program = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    match program {
        "true" => exited(0),
        "false" => exited(1),
        "echo" => Ran { stdout: format!("{}\n", words.join(" ")).into_bytes(), ..exited(0) },
        "cat" if words.is_empty() => Ran { stdout: request.stdin.clone().into(), ..exited(0) },
        "cat" => concatenate(world, &words),
        "sleep" => {
            let seconds = words.first().and_then(|word| word.parse().ok()).unwrap_or(0.0);
            tokio::time::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default()).await;
            exited(0)
        }
        other => Ran {
            exit: ExecExit {
                error: Some(format!("a simulated sandbox has no program `{other}`")),
                ..ExecExit::default()
            },
            ..Ran::default()
        },
    }
}

fn concatenate(world: &World, paths: &[&str]) -> Ran {
    let mut ran = exited(0);
    for path in paths {
        if let Some(content) = world.read(path) {
            ran.stdout.extend_from_slice(&content);
        } else {
            let text = format!("cat: {path}: No such file or directory\n");
            ran.stderr.extend_from_slice(text.as_bytes());
            ran.exit.code = Some(1);
        }
    }
    ran
}

fn exited(code: i32) -> Ran {
    Ran { exit: ExecExit { code: Some(code), ..ExecExit::default() }, ..Ran::default() }
}
