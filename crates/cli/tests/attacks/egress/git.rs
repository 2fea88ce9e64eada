//! Through git: to what is not this session's.

use super::{attempt, head, speak};
use crate::support::attempt::{Attempt, Outcome};
use crate::support::sandbox::Said;
use crate::support::world::{OWN_BRANCH, World};

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt(
            "git-other-repository",
            "clones a repository that is not the session's",
            "403 with the reason, in git's own output",
            other_repository,
        ),
        attempt(
            "git-other-host",
            "clones from another git host, by route and by proxy",
            "403, and nobody is connected to",
            other_host,
        ),
        attempt(
            "git-other-branch",
            "pushes to the main branch, to a tag and to branches that look like its own",
            "each is refused, and no such ref appears",
            other_branches,
        ),
        attempt(
            "git-force-push",
            "rewrites its own branch on the forge",
            "refused: what was pushed stays",
            force,
        ),
        attempt(
            "git-delete-branch",
            "deletes the main branch and its own",
            "refused, and both stay",
            delete,
        ),
    ]
}

const OWN: &str = "http://127.0.0.1:7070/git/local/local/own.git";

/// Clones the session's repository anew and runs a script in it.
fn in_clone(world: &World, script: &str) -> Said {
    let set_up = format!(
        "set -e; cd; rm -rf attacked; git clone --quiet {OWN} attacked; cd attacked; \
         git config user.name Mallory; git config user.email mallory@example.org; \
         echo attack > attack; git add attack; git commit --quiet --message=Attack; set +e; "
    );
    world.sandbox().shell(&format!("{set_up}{script}"))
}

fn refs(world: &World) -> String {
    crate::server::git(&world.repository("own"), &["for-each-ref"])
}

fn other_repository(world: &World) -> Outcome {
    let said = world
        .sandbox()
        .shell("cd; git clone http://127.0.0.1:7070/git/local/local/other.git stolen 2>&1");
    Outcome::refused(&said, &["does not belong to this session"])
}

fn other_host(world: &World) -> Outcome {
    super::allow(world, &["listed.example"]);
    let route = head(&[
        "GET /git/git.example/a/b.git/info/refs?service=git-upload-pack HTTP/1.1",
        "host: 127.0.0.1:7070",
        "connection: close",
    ]);
    let refused = super::all_refused(world, &[("by route", route)]);
    let said = world.sandbox().shell(
        "cd; git -c http.proxy=http://127.0.0.1:7070 clone https://git.example/a/b.git x 2>&1",
    );
    let connected = world.outside.take().connected;
    match refused {
        Outcome::Held { .. } if connected.is_empty() => Outcome::refused(&said, &["403"]),
        Outcome::Held { .. } => Outcome::breach(format!("connected to {connected:?}")),
        breach => breach,
    }
}

fn other_branches(world: &World) -> Outcome {
    let before = refs(world);
    let mut last = String::new();
    for target in [
        "refs/heads/main",
        "refs/heads/other",
        "refs/tags/attack",
        "refs/heads/hangar/attacked",
        "refs/heads/hangar/attac",
        "refs/heads/hangar/attack/../main",
        "refs/notes/commits",
        "HEAD",
    ] {
        let said = in_clone(world, &format!("git push origin HEAD:{target} 2>&1"));
        let clean = said.code.is_some_and(|code| code != 0) && refs(world) == before;
        if !clean {
            return Outcome::breach(format!("{target}: {said}"));
        }
        last = said.to_string();
    }
    Outcome::check(last.contains("may not be pushed") || last.contains("fatal"), last)
}

fn force(world: &World) -> Outcome {
    let said = in_clone(
        world,
        &format!(
            "git push --quiet origin HEAD:{OWN_BRANCH}-force || exit 90; \
             git commit --quiet --amend --message=Rewritten; \
             git push --force origin HEAD:{OWN_BRANCH}-force 2>&1"
        ),
    );
    let kept = crate::server::git(
        &world.repository("own"),
        &["log", "-1", "--format=%s", &format!("{OWN_BRANCH}-force")],
    );
    let refused = said.code.is_some_and(|code| code != 0 && code != 90);
    Outcome::check(refused && kept == "Attack", said.to_string())
}

fn delete(world: &World) -> Outcome {
    let pushed = in_clone(world, &format!("git push --quiet origin HEAD:{OWN_BRANCH}-gone"));
    let before = refs(world);
    if !pushed.succeeded() || !before.contains("attack-gone") {
        return Outcome::breach(format!("its own branch could not be pushed: {pushed}"));
    }
    for target in [format!("{OWN_BRANCH}-gone"), "refs/heads/main".to_owned()] {
        let said = in_clone(world, &format!("git push origin :{target} 2>&1"));
        if said.succeeded() || refs(world) != before {
            return Outcome::breach(said.to_string());
        }
    }
    // What git does not send by itself, written by hand: a push without a readable list.
    let body = "0000";
    let by_hand = format!(
        "POST /git/local/local/own.git/git-receive-pack HTTP/1.1\r\nhost: a\r\n\
         content-type: application/x-git-receive-pack-request\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    let said = speak(world, by_hand.as_bytes());
    Outcome::check(refs(world) == before, format!("both stay; by hand: {said}"))
}
