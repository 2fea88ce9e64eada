//! The agent's driver, with an agent that does what its prompt says.

use std::time::Instant;

use protocol::agentd::{
    AgentStarted, CancelPrompt, DeliverPrompt, Ending, PromptCancelled, PromptDelivered, Report,
    ReportLine, StartAgent,
};
use protocol::event::ToolStatus;
use protocol::session::{Author, Dialect, ModelChoice};
use protocol::{PromptId, UserId};

use crate::harness::{Agentd, Answer, alive, eventually, resident_kib};

fn order(model: &str) -> StartAgent {
    StartAgent {
        agent: "built-in".to_owned(),
        model: ModelChoice {
            provider: "rehearsal".to_owned(),
            name: model.to_owned(),
            dialect: Dialect::Anthropic,
        },
        instructions: "Be brief.".to_owned(),
    }
}

fn started() -> Agentd {
    let agentd = Agentd::start();
    let _: AgentStarted = agentd.post("/v1/agent/start", &order("m")).json();
    agentd
}

fn deliver(agentd: &Agentd, prompt: PromptId, text: &str) -> PromptDelivered {
    let author =
        Author { user: UserId::new(), name: "Ada".into(), email: "ada@example.org".into() };
    agentd.post("/v1/agent/prompt", &DeliverPrompt { prompt, author, text: text.into() }).json()
}

fn cancel(agentd: &Agentd, prompt: PromptId, grace_milliseconds: u64) -> PromptCancelled {
    agentd.post("/v1/agent/cancel", &CancelPrompt { prompt, grace_milliseconds }).json()
}

/// Delivers and returns everything reported until the prompt's end, and the end.
fn perform(agentd: &Agentd, after: u64, text: &str) -> (Vec<Report>, Ending, u64) {
    let prompt = PromptId::new();
    assert!(!deliver(agentd, prompt, text).already);
    ended(agentd, after, prompt)
}

fn ended(agentd: &Agentd, after: u64, wanted: PromptId) -> (Vec<Report>, Ending, u64) {
    let is_end =
        |report: &Report| matches!(report, Report::PromptEnded { prompt, .. } if *prompt == wanted);
    let mut reports = agentd.reports_until(after, is_end);
    let (last, end) = reports.pop().expect("an end");
    let Report::PromptEnded { ending, .. } = end else { panic!("an end: {end:?}") };
    (reports.into_iter().map(|(_, report)| report).collect(), ending, last)
}

fn messages(reports: &[Report]) -> Vec<&str> {
    reports
        .iter()
        .filter_map(|report| match report {
            Report::Message { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

fn reason(ending: Ending) -> String {
    match ending {
        Ending::Failed { reason } => reason,
        other => panic!("a failure: {other:?}"),
    }
}

#[test]
fn a_prompt_runs_from_delivery_to_its_end() {
    let agentd = Agentd::start();
    let first: AgentStarted = agentd.post("/v1/agent/start", &order("m")).json();
    assert_eq!(first.agent, "scripted 1");
    let again: AgentStarted = agentd.post("/v1/agent/start", &order("m")).json();
    assert_eq!(first, again);
    let script = "think hm\nsay one \nsay two\nplan do it\nwrite a.txt hello\nsay done";
    let (reports, ending, _) = perform(&agentd, 0, script);
    assert_eq!(ending, Ending::Completed);
    assert!(matches!(&reports[0], Report::Thought { text, .. } if text == "hm"), "{reports:?}");
    assert_eq!(messages(&reports), ["one two", "done"]);
    assert!(matches!(&reports[2], Report::Plan { steps, .. } if steps[0].status == "in_progress"));
    assert!(matches!(&reports[3], Report::ToolCallStarted { title, .. } if title == "Write a.txt"));
    assert!(
        matches!(&reports[4], Report::ToolCallFinished { status: ToolStatus::Completed, output,
        paths, .. } if output == "written" && paths == &["a.txt"]),
        "{:?}",
        reports[4]
    );
    assert!(agentd.path("workspace/a.txt").exists());
}

#[test]
fn the_agent_finds_its_contract_in_the_environment() {
    let agentd = started();
    let (reports, _, _) = perform(
        &agentd,
        0,
        "environment HANGAR_MODEL_DIALECT\nthink x\n\
        environment HANGAR_INSTRUCTIONS\nthink x\nenvironment HOME\nthink x\nenvironment NO_PROXY",
    );
    let home = agentd.path("home").display().to_string();
    assert_eq!(messages(&reports), ["anthropic", "Be brief.", &home, "127.0.0.1,localhost,::1"]);
    let name = std::fs::read_to_string(agentd.path("home/.gitconfig")).expect("an identity");
    assert!(name.contains("Ada") && name.contains("ada@example.org"), "{name}");
}

#[test]
fn a_prompt_delivered_twice_runs_once() {
    let agentd = started();
    let prompt = PromptId::new();
    assert!(!deliver(&agentd, prompt, "say once").already);
    assert!(deliver(&agentd, prompt, "say once").already);
    let (reports, _, last) = ended(&agentd, 0, prompt);
    assert_eq!(messages(&reports), ["once"]);
    assert!(deliver(&agentd, prompt, "say once").already);
    let (reports, _, _) = perform(&agentd, last, "say next");
    assert_eq!(messages(&reports), ["next"]);
}

#[test]
fn prompts_run_one_after_the_other() {
    let agentd = started();
    let (first, second) = (PromptId::new(), PromptId::new());
    deliver(&agentd, first, "shell sleep 0.3\nsay first");
    deliver(&agentd, second, "say second");
    let (reports, _, _) = ended(&agentd, 0, second);
    assert_eq!(messages(&reports), ["first", "second"]);
}

#[test]
fn permissions_are_given() {
    let agentd = started();
    let (reports, ending, _) = perform(&agentd, 0, "ask");
    assert_eq!((messages(&reports), ending), (vec!["yes"], Ending::Completed));
}

#[test]
fn a_crash_fails_the_prompt_and_the_next_one_runs() {
    let agentd = started();
    let (reports, ending, last) = perform(&agentd, 0, "say before\ncrash line 7");
    assert_eq!(messages(&reports), ["before"]);
    let text = reason(ending);
    assert!(text.contains("exit status: 7") && text.contains("panicked at line 7"), "{text}");
    let (reports, ending, _) = perform(&agentd, last, "say after");
    assert_eq!((messages(&reports), ending), (vec!["after"], Ending::Completed));
}

#[test]
fn a_refusal_is_a_failure_with_a_reason() {
    let agentd = started();
    let (_, ending, _) = perform(&agentd, 0, "refuse");
    assert!(reason(ending).contains("refused"));
}

#[test]
fn an_agent_that_does_not_come_up_says_why() {
    let agentd = Agentd::start();
    let failure = agentd.post("/v1/agent/start", &order("stillborn")).failure();
    assert!(failure.contains("exit status: 3") && failure.contains("no model here"), "{failure}");
    let (_, ending, _) = perform(&agentd, 0, "say hello");
    assert!(reason(ending).contains("no model here"));
    let unknown = StartAgent { agent: "nobody".into(), ..order("m") };
    assert!(agentd.post("/v1/agent/start", &unknown).failure().contains("`built-in`, `opencode`"));
    let missing = StartAgent { agent: "opencode".into(), ..order("m") };
    let failure = agentd.post("/v1/agent/start", &missing).failure();
    assert!(failure.contains("is the agent installed"), "{failure}");
}

#[test]
fn an_agent_that_cannot_read_before_the_sync_gets_its_prompt_after_it() {
    let agentd = Agentd::start();
    let bin = agentd.path("toolkit/bin");
    std::fs::rename(bin.join("hangar-agent"), bin.join("opencode")).expect("renamed");
    let opencode = StartAgent { agent: "opencode".into(), ..order("m") };
    let _: AgentStarted = agentd.post("/v1/agent/start", &opencode).json();
    assert!(agentd.path("home/.config/opencode/node_modules").is_dir());
    let prompt = PromptId::new();
    deliver(&agentd, prompt, "shell git rev-parse --verify HEAD > seen\nsay done");
    let commit = crate::git::remote(&agentd);
    // Asked and answered meanwhile: the driver had every chance to give the prompt away.
    assert!(deliver(&agentd, prompt, "x").already);
    assert!(!agentd.path("workspace/seen").exists());
    crate::git::sync(&agentd, &commit).json::<protocol::agentd::SyncAnswer>();
    let (_, ending, _) = ended(&agentd, 0, prompt);
    assert_eq!(ending, Ending::Completed);
    let seen = std::fs::read_to_string(agentd.path("workspace/seen")).expect("written");
    assert_eq!(seen.trim(), commit);
}

#[test]
fn a_prompt_without_an_agent_is_refused() {
    let agentd = Agentd::start();
    let author = Author { user: UserId::new(), name: "A".into(), email: "a@b".into() };
    let prompt = DeliverPrompt { prompt: PromptId::new(), author, text: "x".into() };
    let answer: Answer = agentd.post("/v1/agent/prompt", &prompt);
    assert_eq!(answer.status, 409);
}

#[test]
fn a_willing_agent_is_cancelled_and_stays() {
    let agentd = started();
    let prompt = PromptId::new();
    deliver(
        &agentd,
        prompt,
        "background sleep 600 & echo $! > left.pid; wait\nsay working\nthink on\nwait",
    );
    agentd.reports_until(0, |report| matches!(report, Report::Message { .. }));
    let file = agentd.path("workspace/left.pid");
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually("what it started runs", || read().ends_with('\n'));
    let pid = read();
    assert_eq!(cancel(&agentd, prompt, 30_000), PromptCancelled { killed: false });
    let (_, ending, last) = ended(&agentd, 0, prompt);
    assert_eq!(ending, Ending::Cancelled);
    assert!(!alive(pid.trim()), "what the prompt started is gone");
    let (reports, _, _) = perform(&agentd, last, "say still here");
    assert_eq!(messages(&reports), ["still here"]);
    assert_eq!(cancel(&agentd, prompt, 0), PromptCancelled { killed: false });
}

#[test]
fn an_agent_that_hangs_is_killed_with_all_it_started() {
    let agentd = started();
    let prompt = PromptId::new();
    deliver(&agentd, prompt, "background sleep 600 & echo $! > left.pid; wait\nhang");
    let file = agentd.path("workspace/left.pid");
    let pid = || std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
    eventually("the daemon runs", || !pid().is_empty());
    let start = Instant::now();
    assert_eq!(cancel(&agentd, prompt, 100), PromptCancelled { killed: true });
    assert!(start.elapsed().as_secs() < 10);
    assert!(!alive(&pid()), "the daemon lives on");
    let (_, ending, last) = ended(&agentd, 0, prompt);
    assert_eq!(ending, Ending::Cancelled);
    let (reports, _, _) = perform(&agentd, last, "say again");
    assert_eq!(messages(&reports), ["again"]);
}

#[test]
fn a_waiting_prompt_is_cancelled_without_running() {
    let agentd = started();
    let (first, second) = (PromptId::new(), PromptId::new());
    deliver(&agentd, first, "wait");
    deliver(&agentd, second, "say never");
    assert_eq!(cancel(&agentd, second, 0), PromptCancelled { killed: false });
    cancel(&agentd, first, 30_000);
    let (reports, ending, _) = ended(&agentd, 0, first);
    assert_eq!(ending, Ending::Cancelled);
    assert_eq!(messages(&reports), [""; 0]);
}

#[test]
fn garbage_and_endless_lines_are_left_out_with_one_notice_each() {
    let agentd = started();
    let (reports, ending, _) =
        perform(&agentd, 0, "garbage 20000\nendless 300\ngarbage 5\nsay alive");
    assert_eq!(ending, Ending::Completed);
    assert_eq!(messages(&reports), ["alive"]);
    let notices = reports.iter().filter(|report| matches!(report, Report::Notice { .. })).count();
    assert_eq!(notices, 2);
    let memory = resident_kib(agentd.pid());
    assert!(memory < 60 * 1024, "{memory} KiB");
}

#[test]
fn a_host_that_does_not_record_makes_the_agent_wait() {
    let agentd = started();
    let prompt = PromptId::new();
    // Some 120 MB of reports: far more than are kept.
    deliver(&agentd, prompt, "calls 2000\nsay done");
    let mut after = 0;
    let mut calls = 0;
    let mut most = 0;
    'all: loop {
        // Each round is a host that comes back: it says what it has recorded and reads on.
        let mut stream = agentd.stream("GET", &format!("/v1/reports?after={after}"), b"");
        assert_eq!(stream.status, 200);
        for _ in 0..200 {
            let ReportLine::Report { number, report } = stream.line() else { continue };
            assert_eq!(number, after + 1, "no gap and nothing twice");
            after = number;
            match report {
                Report::ToolCallFinished { .. } => calls += 1,
                Report::PromptEnded { ending, .. } => {
                    assert_eq!(ending, Ending::Completed);
                    break 'all;
                }
                _ => {}
            }
        }
        most = most.max(resident_kib(agentd.pid()));
    }
    assert_eq!(calls, 2000);
    assert!(most < 110 * 1024, "{most} KiB");
}

#[test]
fn reports_wait_for_the_host_and_are_acknowledged() {
    let agentd = started();
    let (_, _, last) = perform(&agentd, 0, "say one\nthink two");
    let seen_twice = agentd.reports_until(0, |report| matches!(report, Report::PromptEnded { .. }));
    assert_eq!(seen_twice.len() as u64, last);
    let done = agentd.request("POST", &format!("/v1/reports/acknowledge?through={last}"), b"");
    assert_eq!(done.status, 204);
    assert_eq!(agentd.get("/v1/reports?after=0").status, 410);
    assert_eq!(agentd.get("/v1/reports?after=999").status, 409);
    let (reports, _, _) = perform(&agentd, last, "say three");
    assert_eq!(messages(&reports), ["three"]);
}
