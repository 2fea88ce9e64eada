//! Disk space, inodes, trees and files of odd shapes.

use std::time::{Duration, Instant};

use protocol::sandbox::LimitName;
use sandbox::Backend as _;

use super::{TIME, attempt, judge, perl};
use crate::support::attempt::{Attempt, Outcome};
use crate::support::world::World;

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt(
            "disk-fill",
            "writes without end to its disk",
            "it is told of and stopped soon after its limit",
            disk_fill,
        ),
        attempt(
            "disk-fill-hidden",
            "writes without end into a directory that nobody may look into",
            "it is measured all the same, told of and stopped",
            disk_fill_hidden,
        ),
        attempt(
            "disk-fill-unlinked",
            "writes without end to a file that has no name any more",
            "it ends at what the machine keeps for itself, or at its own limit",
            disk_fill_unlinked,
        ),
        attempt(
            "inode-fill",
            "makes empty files without end",
            "each counts as a block: it is told of and stopped",
            inode_fill,
        ),
        attempt(
            "many-small-files",
            "makes 20,000 small files",
            "they fit into its limit, and are removed with it while everybody else goes on",
            many_small_files,
        ),
        attempt(
            "deep-directories",
            "nests 8,000 directories",
            "they are measured, or refused as too deep, and removed with it",
            deep_directories,
        ),
        attempt(
            "bushy-directories",
            "nests 2,000 directories with another beside each",
            "they are measured, or refused as too deep, and removed with it",
            bushy_directories,
        ),
        attempt(
            "sparse-file",
            "makes a file of a terabyte with nothing in it",
            "it counts as what it takes: nothing is stopped and nothing is filled",
            sparse_file,
        ),
    ]
}

/// In pieces, so that it takes a while on a fast disk as well; 512 MiB at most, whatever happens.
const FILL: &str = "my $piece = 'x' x (4 << 20); for (1..128) { syswrite $f, $piece or last; \
                    select(undef, undef, undef, 0.05) } sleep 30";

fn fill(world: &World, open: &str) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.disk_bytes = 48 << 20);
    if let Err(reason) = sandbox.holds(LimitName::Disk) {
        return Outcome::breach(format!("nothing holds the disk: {reason}"));
    }
    let lasted = perl(world, &sandbox, &format!("{open} {FILL}"));
    let usage = lasted.exceeded.iter().find(|it| it.limit == LimitName::Disk).map(|it| it.usage);
    // A look takes place a few times a second; a loaded machine may miss some.
    let soon = usage.is_some_and(|usage| usage < 400 << 20);
    judge(lasted.was_ended() && soon, &lasted)
}

fn disk_fill(world: &World) -> Outcome {
    fill(world, "open(our $f, '>', '/home/agent/x') or die;")
}

fn disk_fill_hidden(world: &World) -> Outcome {
    let open = "mkdir '/home/agent/h'; mkdir '/home/agent/h/h'; \
                open(our $f, '>', '/home/agent/h/h/x') or die; \
                chmod 0, '/home/agent/h/h', '/home/agent/h';";
    fill(world, open)
}

fn disk_fill_unlinked(world: &World) -> Outcome {
    fill(world, "open(our $f, '>', '/home/agent/x') or die; unlink '/home/agent/x';")
}

fn inode_fill(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.disk_bytes = 32 << 20);
    let flood = "mkdir '/home/agent/i'; for (1..60_000) { open(my $f, '>', \"/home/agent/i/$_\") \
                 or last } sleep 30";
    let lasted = perl(world, &sandbox, flood);
    judge(lasted.was_ended(), &lasted)
}

fn many_small_files(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.disk_bytes = 2 << 30);
    let flood = "for my $d (1..20) { mkdir \"/home/agent/$d\"; for (1..1000) { \
                 open(my $f, '>', \"/home/agent/$d/$_\") or die; print $f 'small' } } print 1";
    let lasted = perl(world, &sandbox, flood);
    removed(world, sandbox, lasted.said.stdout == "1", &lasted)
}

/// A disk that is slow at forgetting takes this long, and nobody waits for it.
const PATIENCE: Duration = Duration::from_mins(5);

/// Discards the sandbox; the suite asks everybody else afterwards.
fn removed(
    world: &World,
    sandbox: crate::support::sandbox::Sandbox,
    held: bool,
    lasted: &crate::support::meanwhile::Lasted,
) -> Outcome {
    let begun = Instant::now();
    let gone = world.block_on(async {
        tokio::time::timeout(PATIENCE, world.backend.discard(sandbox.id)).await
    });
    let gone = matches!(gone, Ok(Ok(())));
    drop(sandbox);
    match judge(held && gone, lasted) {
        Outcome::Held { seen } => Outcome::held(format!("{seen}; gone in {:?}", begun.elapsed())),
        other => other,
    }
}

fn deep_directories(world: &World) -> Outcome {
    let sandbox = world.another(|_| {});
    let nest = "chdir '/home/agent'; for (1..8_000) { mkdir 'd' or last; chdir 'd' or last; $n++ } \
                print $n";
    let lasted = world.meanwhile(&sandbox, &["perl", "-e", nest], TIME);
    let made = lasted.said.stdout.trim().parse::<u32>().is_ok_and(|count| count >= 1000);
    removed(world, sandbox, made, &lasted)
}

fn bushy_directories(world: &World) -> Outcome {
    let sandbox = world.another(|_| {});
    let nest = "chdir '/home/agent'; for (1..2000) { mkdir 'a'; mkdir 'z'; chdir 'm' if mkdir 'm'; \
                $n++ } print $n";
    let lasted = world.meanwhile(&sandbox, &["perl", "-e", nest], TIME);
    let made = lasted.was_ended() || lasted.said.stdout.trim() == "2000";
    removed(world, sandbox, made, &lasted)
}

fn sparse_file(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.disk_bytes = 48 << 20);
    let line = "truncate -s 1T /home/agent/hole && stat -c %s /home/agent/hole; sleep 2";
    let lasted = world.meanwhile(&sandbox, &["bash", "-c", line], TIME);
    let made = lasted.said.stdout.trim() == "1099511627776" || lasted.said.text().contains("large");
    let quiet = !lasted.was_ended() && sandbox.answers().is_ok();
    judge(made && quiet, &lasted)
}
