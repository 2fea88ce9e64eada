//! agentd as the first process of real namespaces: confinement, the write gate, strays.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use protocol::agentd::ExecExit;
use serde_json::json;

use crate::harness::{AGENTD, connect, frames, request};

/// agentd as PID 1 of its own user, mount, PID, network and IPC namespaces.
struct Sandbox {
    process: Child,
    directory: tempfile::TempDir,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // `unshare --kill-child` takes the namespace's first process along.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes the fixed layout out of mounts, then becomes agentd.
const SET_UP: &str = r#"
set -e
mount -t tmpfs none /mnt
mkdir -p /mnt/workspace /mnt/home
mount --bind /mnt/workspace /mnt/workspace
mount -o remount,bind,ro /mnt/workspace
ip link set lo up 2>/dev/null || true
exec "$AGENTD" --workspace /mnt/workspace --home /mnt/home --toolkit /mnt/none --gateway file:///mnt/remotes
"#;

impl Sandbox {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("agentd.sock")).expect("bound");
        let listener: OwnedFd = listener.into();
        // The shell moves the socket, which it has as its standard input, to its place.
        let process = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--net", "--ipc", "--mount-proc", "sh", "-c"])
            .arg(format!("exec 3<&0 0</dev/null\n{SET_UP}"))
            .env("AGENTD", AGENTD)
            .stdin(Stdio::from(listener.as_fd().try_clone_to_owned().expect("copied")))
            .spawn()
            .expect("unshare is there and allowed");
        Self { process, directory }
    }

    fn shell(&self, script: &str) -> (String, ExecExit) {
        let body = json!({"argv": ["sh", "-c", script], "directory": "/"}).to_string();
        let stream = connect(&self.directory.path().join("agentd.sock"));
        let answer = request(stream, "POST", "/v1/exec", body.as_bytes());
        let (out, err, exit) = frames(&answer.body);
        (String::from_utf8_lossy(&[out, err].concat()).into_owned(), exit)
    }
}

#[test]
fn a_command_has_no_capability_and_no_way_to_one() {
    let sandbox = Sandbox::start();
    let (status, _) = sandbox.shell("cat /proc/self/status; echo pid1; cat /proc/1/status");
    let (mine, first) = status.split_once("pid1").expect("two");
    let line = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect("a line");
        line.rsplit('\t').next().expect("a value").to_owned()
    };
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line(mine, name), "0000000000000000", "{name}");
    }
    assert_eq!(line(mine, "NoNewPrivs"), "1");
    assert_eq!(line(mine, "Seccomp:"), "2");
    assert_ne!(line(first, "CapEff"), "0000000000000000", "agentd keeps what it needs");
    for script in [
        "unshare --user true",
        "unshare --mount true",
        "mount -t tmpfs none /tmp",
        "mount -o remount,bind,rw /mnt/workspace",
        "cat /proc/1/environ",
        "readlink /proc/1/fd/3",
        "ls /proc/1/root/",
    ] {
        let (out, exit) = sandbox.shell(script);
        assert_ne!(exit.code, Some(0), "{script}: {out}");
    }
    let (_, exit) = sandbox.shell("kill -9 1; kill -STOP 1; kill -TERM 1; true");
    assert_eq!(exit.code, Some(0));
    assert_eq!(sandbox.shell("echo still").0, "still\n", "agentd cannot be killed from inside");
}

#[test]
fn the_workspace_is_read_only_before_the_sync() {
    let sandbox = Sandbox::start();
    let (out, exit) = sandbox.shell("touch /mnt/workspace/early");
    assert_ne!(exit.code, Some(0));
    assert!(out.contains("Read-only file system"), "{out}");
}

#[test]
fn the_sync_writes_through_the_gate_and_opens_it() {
    let sandbox = Sandbox::start();
    let script = "set -e; cd /mnt; mkdir source remotes; cd source; git init -q; echo hi > a; \
                  git add a; git -c user.name=a -c user.email=a@b commit -qm first; \
                  git clone -q --bare . /mnt/remotes/one.git; git rev-parse HEAD";
    let (commit, exit) = sandbox.shell(script);
    assert_eq!(exit.code, Some(0), "{commit}");
    let commit = commit.lines().last().expect("a commit");
    let body = json!({"remote": "/one.git", "branch": "hangar/x", "commit": commit,
        "identity": {"user": protocol::UserId::new(), "name": "Ada", "email": "a@b"}});
    let stream = connect(&sandbox.directory.path().join("agentd.sock"));
    let answer = request(stream, "POST", "/v1/workspace/sync", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let (out, exit) = sandbox.shell("cat /mnt/workspace/a; touch /mnt/workspace/b");
    assert_eq!((out.as_str(), exit.code), ("hi\n", Some(0)));
}

#[test]
fn the_agent_cannot_reach_gits_view_of_the_workspace() {
    let script = r#"
set -e
mount -t tmpfs none /mnt
"$AGENTD" confined --directory / -- sleep 60 & plain=$!
mkdir /mnt/workspace; mount --bind /mnt/workspace /mnt/workspace
mount -o remount,bind,ro /mnt/workspace
"$AGENTD" confined --directory / --writable /mnt/workspace -- sleep 60 & git=$!
until [ "$(cat /proc/$plain/comm /proc/$git/comm)" = "sleep
sleep" ]; do :; done
"$AGENTD" confined --directory / -- sh -c "
  ls /proc/$plain/root/ >/dev/null && echo its own are open
  ls /proc/$git/root/ 2>/dev/null || echo git is out of reach
  cat /proc/$git/environ 2>/dev/null || echo and cannot be read"
kill $plain $git
"#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "sh", "-c", script])
        .env("AGENTD", AGENTD)
        .output()
        .expect("unshare is there and allowed");
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told, "its own are open\ngit is out of reach\nand cannot be read\n", "{complaint}");
}
