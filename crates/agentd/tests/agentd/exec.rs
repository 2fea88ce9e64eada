//! Commands for the host.

use std::time::Instant;

use protocol::agentd::Health;
use serde_json::json;

use crate::harness::{Agentd, alive, eventually, resident_kib};

#[test]
fn agentd_answers() {
    let agentd = Agentd::start();
    let health: Health = agentd.get("/v1/health").json();
    assert_eq!(health.version, protocol::VERSION);
}

#[test]
fn output_input_environment_and_exit_code_pass() {
    let agentd = Agentd::start();
    let (out, err, exit) = agentd.exec(&json!({
        "argv": ["sh", "-c", "cat; echo $COLOUR; pwd; echo oops >&2; exit 3"],
        "environment": {"COLOUR": "blue"},
        "directory": "/",
        "stdin": "given\n",
    }));
    assert_eq!(String::from_utf8_lossy(&out), "given\nblue\n/\n");
    assert_eq!(String::from_utf8_lossy(&err), "oops\n");
    assert_eq!((exit.code, exit.signal, exit.timed_out), (Some(3), None, false));
}

#[test]
fn what_cannot_start_says_why() {
    let agentd = Agentd::start();
    let (_, _, exit) = agentd.exec(&json!({"argv": ["no-such-program"]}));
    let error = exit.error.expect("an error");
    assert!(error.contains("starting no-such-program"), "{error}");
    let (_, _, exit) = agentd.exec(&json!({"argv": ["true"], "directory": "/nowhere"}));
    assert!(exit.error.expect("an error").contains("entering /nowhere"));
    let (_, _, exit) = agentd.exec(&json!({"argv": []}));
    assert!(exit.error.is_some());
}

#[test]
fn a_time_limit_kills_everything_the_command_started() {
    let agentd = Agentd::start();
    let start = Instant::now();
    let (out, _, exit) = agentd.exec(&json!({
        "argv": ["sh", "-c", "setsid sleep 600 & echo $!; sleep 600"],
        "timeout_milliseconds": 300,
    }));
    assert!(exit.timed_out);
    assert!(start.elapsed().as_secs() < 30);
    let pid = String::from_utf8(out).expect("a process id");
    assert!(!alive(pid.trim()), "the daemon {pid} lives on");
}

#[test]
fn a_client_that_goes_away_takes_its_command_along() {
    let agentd = Agentd::start();
    let body = json!({"argv": ["sh", "-c", "echo $$; setsid sleep 600"]}).to_string();
    let mut stream = agentd.stream("POST", "/v1/exec", body.as_bytes());
    let first = stream.chunk().expect("the first output");
    let pid = String::from_utf8_lossy(&first[5..]).trim().to_owned();
    assert!(alive(&pid));
    drop(stream);
    eventually("the command is gone", || !alive(&pid));
}

#[test]
fn a_background_process_does_not_hold_up_the_end() {
    let agentd = Agentd::start();
    let start = Instant::now();
    let (out, exit) = agentd.shell("sleep 600 & echo $!");
    assert_eq!(exit.code, Some(0));
    assert!(start.elapsed().as_secs() < 30);
    assert!(alive(out.trim()), "it was to live on");
    let (_, exit) = agentd.shell(&format!("kill {out}"));
    assert_eq!(exit.code, Some(0));
}

#[test]
fn a_flood_streams_through_in_flat_memory() {
    let agentd = Agentd::start();
    let body = json!({"argv": ["head", "-c", "1000000000", "/dev/zero"]}).to_string();
    let mut stream = agentd.stream("POST", "/v1/exec", body.as_bytes());
    let (mut total, mut most) = (0, 0);
    while let Some(chunk) = stream.chunk() {
        if total / 50_000_000 != (total + chunk.len()) / 50_000_000 {
            most = most.max(resident_kib(agentd.pid()));
        }
        total += chunk.len();
    }
    assert!(total > 1_000_000_000, "{total}");
    assert!(most < 40 * 1024, "{most} KiB");
}

#[test]
fn orphans_are_collected_and_exit_codes_are_not_stolen() {
    let agentd = Agentd::start();
    for code in 0..20 {
        let (_, exit) = agentd.shell(&format!("(sh -c 'sleep 0.01 & exit 0' &); exit {code}"));
        assert_eq!(exit.code, Some(code));
    }
    let zombies = || {
        let path = format!("/proc/{0}/task/{0}/children", agentd.pid());
        let children = std::fs::read_to_string(path).expect("agentd runs");
        children.split_ascii_whitespace().filter(|pid| !alive(pid)).count()
    };
    eventually("no zombie is left", || zombies() == 0);
}
