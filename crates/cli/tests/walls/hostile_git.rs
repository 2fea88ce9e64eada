//! What an agent leaves in `.git` runs nothing when the platform commits and pushes.

use protocol::Event;

use super::{finished, outputs, rehearse, repository, script};
use crate::support::Server;

/// Lays every trap git has for whoever uses a repository, and shows that they spring.
const TRAPS: &str = r#"
cat > .git/trap <<'TRAP'
#!/bin/sh
{ echo "sprung $0 $*"; id -u; grep CapEff /proc/self/status; cat /proc/1/environ; } >> /home/agent/sprung 2>&1
exit 0
TRAP
chmod +x .git/trap
mkdir -p .git/hooks
for hook in applypatch-msg pre-commit prepare-commit-msg commit-msg post-commit post-checkout post-merge \
  pre-push pre-rebase pre-auto-gc post-rewrite post-index-change reference-transaction push-to-checkout fsmonitor-watchman; do
  ln -sf ../trap .git/hooks/$hook
done
trap_path=$PWD/.git/trap
for key in core.fsmonitor core.sshCommand core.gitProxy core.askPass core.editor core.pager \
  credential.helper gpg.program gpg.ssh.program diff.external sequence.editor uploadpack.packObjectsHook \
  filter.trap.clean filter.trap.smudge filter.trap.process diff.trap.textconv diff.trap.command merge.trap.driver \
  remote.origin.uploadpack remote.origin.receivepack remote.origin.vcs; do
  git config $key "$trap_path"
done
git config commit.gpgSign true
git config protocol.ext.allow always
git config core.hooksPath "$PWD/.git/hooks"
git config core.alternateRefsCommand "$trap_path"
git config include.path "$PWD/.git/more"
git config --file .git/more alias.commit "!$trap_path"
git config --global core.fsmonitor "$trap_path"
printf '* filter=trap diff=trap merge=trap\n' > .gitattributes
echo changed >> README.md
git status > /dev/null 2>&1
wc -l < /home/agent/sprung
rm /home/agent/sprung
"#;

/// Has the platform's own push go through a program.
const REWRITE: &str =
    r#"git config url."ext::$PWD/.git/trap ".insteadOf http://127.0.0.1; echo more >> README.md"#;
const REWRITE_BACK: &str =
    r#"git config --remove-section url."ext::$PWD/.git/trap " && echo again >> README.md"#;
const LOOK: &str = "cat /home/agent/sprung 2>/dev/null || echo quiet";

#[tokio::test]
async fn hooks_and_settings_of_the_agent_run_nothing() {
    let mut server = Server::start();
    let repository = repository(&server).await;
    let session = rehearse(&server, &repository, &[TRAPS.trim().to_owned()]).await;
    let first = server.until(session, 0, finished).await;
    let printed = outputs(&first);
    let sprung: u32 = printed[0].trim().lines().last().unwrap_or_default().parse().unwrap_or(0);
    assert!(sprung > 0, "the traps do not even spring for the agent: {printed:?}");
    let is_pushed = |event: &Event| matches!(event, Event::Pushed { .. });
    assert!(first.iter().any(|one| is_pushed(&one.event)), "committed and pushed: {first:#?}");

    server.send(session, &script(&[LOOK.to_owned(), REWRITE.to_owned()])).await;
    let second = server.until(session, first.last().expect("some").sequence, finished).await;
    assert_eq!(outputs(&second)[0], "quiet\n", "at the commit or the push");
    let refused = second.iter().any(|one| {
        matches!(&one.event,
        Event::PublishFailed { reason, .. } if reason.contains("'ext' not allowed"))
    });
    assert!(refused, "{second:#?}");

    server.send(session, &script(&[LOOK.to_owned(), REWRITE_BACK.to_owned()])).await;
    let third = server.until(session, second.last().expect("some").sequence, finished).await;
    assert_eq!(outputs(&third)[0], "quiet\n", "at the rewritten push");
    assert!(third.iter().any(|one| is_pushed(&one.event)), "what was kept goes out: {third:#?}");

    // A new sandbox on the same files: the sync, which may write before the gate is open.
    let last = third.last().expect("some").sequence;
    server.end();
    server.start_again();
    server.send(session, &script(&[LOOK.to_owned()])).await;
    let fourth = server.until(session, last, finished).await;
    assert_eq!(outputs(&fourth), ["quiet\n"], "at the sync");
    assert!(!std::path::Path::new("/home/agent/sprung").exists(), "nor anything outside");
}
