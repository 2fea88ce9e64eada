//! The lines of each kind of event.

use protocol::event::PlanStep;
use protocol::sandbox::{Consequence, Enforcement, LimitName, SandboxDescription, StartPath};
use protocol::session::{
    Author, Delivery, FileChange, FileChangeKind, Phase, PromptOutcome, PullRequestState,
    PullRequestSummary,
};
use protocol::{Envelope, Event, PromptId, Timestamp};

use super::Watch;
use super::tools::{self, End};
use crate::style::Tone;
use crate::{escape, format};

/// Lines of a prompt, a thought or a plan that are shown.
const TEXT_LINES: usize = 10;
/// Files of a commit that are shown.
const FILES: usize = 20;

impl Watch {
    /// Dispatches on the kind of event: first what people do, then the sandbox, the agent's work,
    /// and what becomes of it.
    pub(super) fn lines_of(&mut self, envelope: &Envelope) -> Vec<String> {
        let at = envelope.at;
        match &envelope.event {
            Event::SessionCreated { .. } => self.session_created(envelope),
            Event::PromptAccepted { prompt, author, text, delivery, .. } => {
                self.prompt_accepted(*prompt, author, text, *delivery, at)
            }
            Event::PromptEdited { text, .. } => quote("· a waiting prompt now says:", text),
            Event::PromptWithdrawn { prompt } => {
                self.prompts.remove(prompt);
                vec![self.note("a waiting prompt was withdrawn", None)]
            }
            Event::PromptStarted { attempt, .. } => {
                self.wait_for_agent(at);
                let again = format!("the prompt is given to the agent again, attempt {attempt}");
                if *attempt > 1 { vec![self.warning(&again)] } else { Vec::new() }
            }
            Event::StopRequested { by, .. } => {
                self.wait_for("the agent to stop", at);
                vec![self.warning(&format!("{} asked to stop", escape::line(&by.name)))]
            }
            Event::AgentEnded { .. } => {
                self.tools.clear();
                self.wait_for("the commit", at);
                self.rest_of_message()
            }
            Event::PromptFinished { prompt, outcome } => self.prompt_finished(*prompt, outcome, at),
            other => self.sandbox_event(other, at),
        }
    }

    fn sandbox_event(&mut self, event: &Event, at: Timestamp) -> Vec<String> {
        match event {
            Event::SandboxRequested { continues, .. } => {
                self.agent_ready = false;
                let restored = "a sandbox with the files of the one before";
                let what = if continues.is_some() { restored } else { "a sandbox" };
                self.wait_for(what, at);
                Vec::new()
            }
            Event::SandboxStarted { description, milliseconds } => {
                self.wait_for("the repository in the sandbox", at);
                self.sandbox_started(description, *milliseconds)
            }
            Event::SandboxFailed { reason, .. } => {
                vec![self.bad(&format!("no sandbox: {}", escape::line(reason)))]
            }
            Event::SandboxLost { reason, .. } => {
                self.tools.clear();
                let reason = escape::line(reason);
                vec![self.warning(&format!("the sandbox is gone, its files are kept: {reason}"))]
            }
            Event::SandboxStopRequested { reason, .. } => {
                vec![self.note(&format!("stopping the sandbox: {}", escape::line(reason)), None)]
            }
            Event::SandboxStopped { reason, .. } => {
                vec![self.note(&format!("sandbox stopped: {}", escape::line(reason)), None)]
            }
            Event::WorkspaceSynced { commit, milliseconds, .. } => {
                self.wait_for_agent(at);
                let text = format!("repository at {}", format::commit(commit));
                vec![self.good(&text, Some(*milliseconds))]
            }
            Event::WorkspaceSyncFailed { reason, .. } => {
                vec![self.bad(&format!("repository not in the sandbox: {}", escape::line(reason)))]
            }
            Event::AgentReady { agent, milliseconds, .. } => {
                self.agent_ready = true;
                self.wait_for_agent(at);
                let text = format!("agent {}", escape::line(agent));
                vec![self.good(&text, Some(*milliseconds))]
            }
            other => self.work_event(other, at),
        }
    }

    fn work_event(&mut self, event: &Event, at: Timestamp) -> Vec<String> {
        match event {
            Event::AgentMessage { text, .. } => self.message.finish(text),
            Event::AgentThought { text, .. } => {
                let lines = bounded(text, TEXT_LINES);
                lines
                    .iter()
                    .map(|line| self.style.paint(Tone::Faint, &format!("~ {line}")))
                    .collect()
            }
            Event::PlanUpdated { steps, .. } => self.plan(steps),
            Event::ToolCallStarted { call, title, kind, input, .. } => {
                self.tools.start(*call, tools::title(title, input), *kind, at);
                self.rest_of_message()
            }
            Event::ToolCallFinished { call, status, output, paths, .. } => {
                let end = End { call: *call, at, status: *status, output, paths };
                self.tools.finish(self.style, &end)
            }
            Event::Notice { text, .. } => vec![self.warning(&escape::line(text))],
            Event::Denied { what, reason } => {
                let (what, reason) = (escape::line(what), escape::line(reason));
                vec![self.warning(&format!("the gateway refused {what}: {reason}"))]
            }
            Event::LimitExceeded { limit, usage, maximum, consequence, .. } => {
                vec![self.limit_exceeded(*limit, *usage, *maximum, *consequence)]
            }
            Event::PhaseFinished { phase, milliseconds, .. } => self.phase(*phase, *milliseconds),
            other => self.result_event(other, at),
        }
    }

    fn result_event(&mut self, event: &Event, at: Timestamp) -> Vec<String> {
        match event {
            Event::Committed { commit, subject, files, .. } => {
                self.wait_for("the push", at);
                let text = format!("commit {} {}", format::commit(commit), escape::line(subject));
                let mut lines = vec![self.good(&text, None)];
                lines.extend(file_changes(files));
                lines
            }
            Event::NothingToCommit { .. } => vec![self.note("no file was changed", None)],
            Event::Pushed { branch, .. } => {
                self.wait_for("the pull request", at);
                vec![self.good(&format!("pushed {}", escape::line(branch)), None)]
            }
            Event::PublishFailed { reason, .. } => {
                let reason = escape::line(reason);
                vec![
                    self.bad(&format!(
                        "not published, the changes stay in the workspace: {reason}"
                    )),
                ]
            }
            Event::PullRequestOffered { pull_request, .. } => {
                vec![self.good(&offered(pull_request), None)]
            }
            Event::PullRequestChanged { number, state } => {
                let state = match state {
                    PullRequestState::Open => "open again",
                    PullRequestState::Merged => "merged",
                    PullRequestState::Closed => "closed",
                };
                vec![self.note(&format!("pull request #{number} is {state}"), None)]
            }
            Event::Unknown(value) => {
                let kind = value.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
                let kind = escape::line(kind);
                vec![self.note(&format!("something this version does not know: {kind}"), None)]
            }
            _ => Vec::new(),
        }
    }

    fn session_created(&mut self, envelope: &Envelope) -> Vec<String> {
        let Event::SessionCreated { title, repository, agent, model, base_branch, .. } =
            &envelope.event
        else {
            return Vec::new();
        };
        let Event::SessionCreated { base_commit, branch, .. } = &envelope.event else {
            return Vec::new();
        };
        self.wait_for("the first prompt", envelope.at);
        let title = self.style.paint(Tone::Strong, &escape::line(title));
        let mut lines = vec![
            format!("{title}"),
            format!("  session    {}", envelope.session),
            format!(
                "  repository {repository}, from {} at {}",
                escape::line(base_branch),
                format::commit(base_commit)
            ),
            format!("  branch     {}", escape::line(branch)),
            format!(
                "  agent      {}, model {}",
                escape::line(agent),
                crate::summary::model_name(model)
            ),
        ];
        if model.provider == "rehearsal" {
            lines.push(self.warning(
                "this is a rehearsal: a built-in script answers in place of a model, and its \
                 edits show the way, not skill",
            ));
        }
        lines
    }

    fn prompt_accepted(
        &mut self,
        prompt: PromptId,
        author: &Author,
        text: &str,
        delivery: Delivery,
        at: Timestamp,
    ) -> Vec<String> {
        let follows = !self.is_idle();
        self.prompts.insert(prompt, (at, None));
        if !follows {
            self.wait_for("the session", at);
        }
        let place = match delivery {
            Delivery::Insert if follows => " (inserted at the next step)",
            Delivery::Queue if follows => " (waits its turn)",
            Delivery::Insert | Delivery::Queue => "",
        };
        let name = self.style.paint(Tone::Strong, &escape::line(&author.name));
        quote(&format!("{name}{place}:"), text)
    }

    fn prompt_finished(
        &mut self,
        prompt: PromptId,
        outcome: &PromptOutcome,
        at: Timestamp,
    ) -> Vec<String> {
        let entry = self.prompts.entry(prompt).or_insert((at, None));
        entry.1 = Some(outcome.clone());
        let time = format::between(entry.0, at);
        self.tools.clear();
        if self.is_idle() {
            self.stage = None;
        } else {
            self.wait_for("the next prompt", at);
        }
        let mut lines = self.rest_of_message();
        lines.push(match outcome {
            PromptOutcome::Completed => self.good("done", Some(time)),
            PromptOutcome::Stopped { by } => {
                self.warning(&format!("stopped by {}", escape::line(&by.name)))
            }
            PromptOutcome::Superseded => self.note("ended for an inserted prompt", None),
            PromptOutcome::Failed { reason } => {
                self.bad(&format!("failed: {}", escape::line(reason)))
            }
        });
        lines
    }

    fn sandbox_started(&self, sandbox: &SandboxDescription, milliseconds: u64) -> Vec<String> {
        let path = match sandbox.path {
            StartPath::Pool => "from the pool",
            StartPath::Restore => "continued",
            StartPath::Image => "from the image",
        };
        let (id, isolation) = (sandbox.id.short(), sandbox.isolation.as_str());
        let text = format!("sandbox {id}, isolation {isolation}, {path}");
        let mut lines = vec![self.good(&text, Some(milliseconds))];
        if !sandbox.plain_secrets.is_empty() {
            let names: Vec<&str> =
                sandbox.plain_secrets.iter().map(protocol::secret::SecretName::as_str).collect();
            let text = format!("code in it can read these secrets: {}", names.join(", "));
            lines.push(format!("  {}", self.warning(&text)));
        }
        for report in &sandbox.enforcement {
            if let Enforcement::NotEnforced { reason } = &report.enforcement {
                let (limit, reason) = (escape::line(&report.limit), escape::line(reason));
                let text = format!("{limit} is not limited here: {reason}");
                lines.push(format!("  {}", self.warning(&text)));
            }
        }
        lines
    }

    fn limit_exceeded(
        &self,
        limit: LimitName,
        usage: u64,
        maximum: u64,
        consequence: Consequence,
    ) -> String {
        let (usage, maximum) = (limit.show(usage), limit.show(maximum));
        if consequence == Consequence::Ended {
            let text =
                format!("the sandbox is stopped: it used {usage} of {limit} and may use {maximum}");
            return self.bad(&text);
        }
        self.warning(&match limit {
            LimitName::Memory => {
                format!("a process was killed for want of memory: the sandbox may use {maximum}")
            }
            LimitName::Cpu => {
                format!("the sandbox has {maximum}, wants more and runs the slower for it")
            }
            LimitName::Pids => {
                format!("a process could not be started: the sandbox may have {maximum}")
            }
            LimitName::Disk => format!("a file could not grow: the sandbox may write {maximum}"),
            LimitName::RunTime => format!("the sandbox ran for {usage} and may for {maximum}"),
            LimitName::Egress => {
                format!("what leaves the sandbox is slowed down to {maximum}")
            }
        })
    }

    /// Only the phases that no other event tells about.
    fn phase(&self, phase: Phase, milliseconds: u64) -> Vec<String> {
        let text = match phase {
            Phase::Image => "image built",
            Phase::FirstModelRequest => "prompt accepted → first model request",
            Phase::FirstToken => "first model request → first token",
            Phase::FirstEdit => "prompt accepted → first edit",
            _ => return Vec::new(),
        };
        vec![self.note(text, Some(milliseconds))]
    }

    /// The steps whose status changed.
    fn plan(&mut self, steps: &[PlanStep]) -> Vec<String> {
        let mut lines = Vec::new();
        for step in steps.iter().take(TEXT_LINES) {
            let before = self.plan.insert(step.text.clone(), step.status.clone());
            if before.as_deref() == Some(step.status.as_str()) {
                continue;
            }
            let mark = match step.status.as_str() {
                "completed" => "[x]",
                "in_progress" => "[>]",
                _ => "[ ]",
            };
            lines.push(format!("  {mark} {}", escape::line(&step.text)));
        }
        lines
    }

    /// What the agent had begun to say when it turned to something else.
    fn rest_of_message(&mut self) -> Vec<String> {
        let rest = self.message.unfinished().trim_end().to_owned();
        if rest.is_empty() { Vec::new() } else { self.message.add("\n") }
    }
}

fn quote(heading: &str, text: &str) -> Vec<String> {
    let mut lines = vec![heading.to_owned()];
    lines.extend(bounded(text, TEXT_LINES).iter().map(|line| format!("  > {line}")));
    lines
}

fn bounded(text: &str, count: usize) -> Vec<String> {
    let escaped = escape::text(text.trim());
    let total = escaped.lines().count();
    let mut lines: Vec<String> =
        escaped.lines().take(count).map(|line| escape::cut(line, 200)).collect();
    if total > count {
        lines.push(format!("… {} more lines", total - count));
    }
    lines
}

fn file_changes(files: &[FileChange]) -> Vec<String> {
    let line = |file: &FileChange| {
        let letter = match file.kind {
            FileChangeKind::Added => 'A',
            FileChangeKind::Modified => 'M',
            FileChangeKind::Deleted => 'D',
            FileChangeKind::Renamed => 'R',
        };
        format!("    {letter} {} +{} -{}", escape::line(&file.path), file.added, file.removed)
    };
    let mut lines: Vec<String> = files.iter().take(FILES).map(line).collect();
    if files.len() > FILES {
        lines.push(format!("    … {} more files", files.len() - FILES));
    }
    lines
}

fn offered(pull_request: &PullRequestSummary) -> String {
    let stat = crate::summary::diff_stat(pull_request.diff_stat);
    let title = escape::line(&pull_request.title);
    format!("pull request #{} {title} ({stat})", pull_request.number)
}
