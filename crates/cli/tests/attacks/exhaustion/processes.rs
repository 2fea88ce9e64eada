//! Processes, threads, memory, processor time, descriptors, sockets, output.

use protocol::sandbox::{Isolation, LimitName};

use super::{attempt, goes_on_or_ended, is_counted, judge, perl};
use crate::support::attempt::{Attempt, Outcome};
use crate::support::sandbox::Sandbox;
use crate::support::world::World;

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt(
            "fork-bomb",
            "starts processes until no more can be started",
            "it is stopped at its limit of processes, which is told where the kernel counts it; at gvisor the limit is on what its kernel needs of the host, and the whole sandbox ends",
            fork_bomb,
        ),
        attempt(
            "thread-bomb",
            "starts threads until no more can be started",
            "threads count as processes: it is stopped at the same limit; at gvisor they are memory, and none is the host's",
            thread_bomb,
        ),
        attempt(
            "zombie-flood",
            "leaves 2,000 orphans, 400 at gvisor, that have ended to PID 1",
            "PID 1 buries them: new processes can be started afterwards",
            zombie_flood,
        ),
        attempt(
            "memory-bomb",
            "fills twice the memory it may use",
            "the kernel kills the process that did, which is told, and the sandbox goes on; at gvisor that process is the whole sandbox",
            memory_bomb,
        ),
        attempt(
            "tmpfs-bomb",
            "fills the memory behind /tmp and /dev/shm",
            "each is full before the sandbox's memory is, and the sandbox goes on",
            tmpfs_bomb,
        ),
        attempt(
            "cpu-spin",
            "spins on eight processes at once",
            "they share its processor time, and everybody else answers meanwhile",
            cpu_spin,
        ),
        attempt(
            "descriptor-flood",
            "opens files until no more can be opened",
            "it has a limit of its own; the sandbox and everybody else go on",
            descriptor_flood,
        ),
        attempt(
            "socket-flood",
            "opens pairs of sockets and fills each of their buffers",
            "it ends at its descriptors or its memory; everybody else goes on",
            socket_flood,
        ),
        attempt(
            "output-flood",
            "prints two gigabytes",
            "what is read of it is bounded, and the sandbox still answers",
            output_flood,
        ),
        attempt(
            "slow-relay",
            "holds 300 connections to the gateway's relay open with one byte each",
            "everybody else is answered meanwhile, and the sandbox itself as soon as it lets go",
            slow_relay,
        ),
    ]
}

/// Another kernel's processes are held by groups alone, which an ordinary user may lack; doctor and
/// the session say so. Everywhere else it is a breach.
fn unheld(world: &World, reason: &str) -> Outcome {
    let ordinary = !rustix::process::geteuid().is_root();
    if world.level == Isolation::Gvisor && ordinary {
        return Outcome::not_tried(format!("nothing holds processes here: {reason}"));
    }
    Outcome::breach(format!("nothing holds the limit: {reason}"))
}

fn fork_bomb(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.pids = 100);
    if let Err(reason) = sandbox.holds(LimitName::Pids) {
        return unheld(world, &reason);
    }
    // Each of them lives on, so that the limit stays reached while the others are asked.
    let bomb = "$n = 0; while ($n < 1000) { my $pid = fork(); last unless defined $pid; \
                if (!$pid) { sleep 5; exit } $n++ } print \"started $n\\n\"; sleep 3";
    let lasted = perl(world, &sandbox, bomb);
    let text = lasted.said.stdout.trim().strip_prefix("started ").map(str::parse::<u32>);
    let is_gvisor = world.level == Isolation::Gvisor;
    let bounded = matches!(text, Some(Ok(count)) if count < 100)
        || (is_gvisor && sandbox.answers().is_err() && sandbox.ended().is_ok());
    let told = lasted.exceeded.iter().any(|it| it.limit == LimitName::Pids);
    judge(bounded && (told || !is_counted(&sandbox, LimitName::Pids)), &lasted)
}

fn thread_bomb(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.pids = 100);
    if let Err(reason) = sandbox.holds(LimitName::Pids) {
        return unheld(world, &reason);
    }
    let bomb = "import threading, time\nn = 0\ntry:\n  while n < 1000:\n    \
                threading.Thread(target=time.sleep, args=(3,), daemon=True).start()\n    n += 1\n\
                except RuntimeError: pass\nprint('started', n, flush=True)\ntime.sleep(2)";
    let lasted = world.meanwhile(&sandbox, &["python3", "-c", bomb], super::TIME);
    let text = lasted.said.stdout.trim().strip_prefix("started ").map(str::parse::<u32>);
    let bounded = matches!(text, Some(Ok(count)) if count < 100);
    // The kernel holds the group of processes that gVisor's own is in.
    let is_not_the_hosts =
        || world.level == Isolation::Gvisor && is_counted(&sandbox, LimitName::Pids);
    judge(bounded || is_not_the_hosts(), &lasted)
}

fn zombie_flood(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.pids = 100);
    // The middle one ends at once, so that its child is an orphan.
    // Still several times the limit, where starting one takes long.
    let count = if world.level == Isolation::Gvisor { 400 } else { 2000 };
    let flood = "for (1..COUNT) { my $pid = fork(); select(undef, undef, undef, 0.01), redo unless \
                 defined $pid; if (!$pid) { fork() || exit 0; exit 0 } waitpid $pid, 0 } print 1";
    let lasted = perl(world, &sandbox, &flood.replace("COUNT", &count.to_string()));
    let answers = sandbox.answers();
    judge(lasted.said.stdout == "1" && answers.is_ok(), &lasted)
}

fn memory_bomb(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.memory_bytes = 192 << 20);
    if let Err(reason) = sandbox.holds(LimitName::Memory) {
        return Outcome::not_tried(format!("nothing holds memory here: {reason}"));
    }
    let lasted = perl(world, &sandbox, "my $x = 'x' x (400 << 20); print length $x; sleep 2");
    let told = lasted.exceeded.iter().any(|it| it.limit == LimitName::Memory);
    let killed = lasted.said.signal == Some(9) || world.level == Isolation::Gvisor;
    judge(killed && told && goes_on_or_ended(world, &sandbox), &lasted)
}

fn tmpfs_bomb(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.memory_bytes = 192 << 20);
    let line = "head -c 400M /dev/zero > /tmp/x; head -c 400M /dev/zero > /dev/shm/x; \
                stat -c %s /tmp/x /dev/shm/x";
    let lasted = world.meanwhile(&sandbox, &["bash", "-c", line], super::TIME);
    let sizes = lasted.said.stdout.split_whitespace().map(str::parse::<u64>);
    let bounded = sizes.flatten().all(|size| size <= 96 << 20);
    let refused = lasted.said.text().contains("No space left")
        || lasted.exceeded.iter().any(|it| it.limit == LimitName::Memory);
    let answers = sandbox.answers();
    judge(bounded && refused && answers.is_ok(), &lasted)
}

fn cpu_spin(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.cpu_millicores = 500);
    let spin = "for (1..8) { fork() || do { alarm 6; 1 while 1 } } 1 while wait() > 0; \
                my @t = times; printf '%d', 10 * ($t[2] + $t[3])";
    let lasted = perl(world, &sandbox, spin);
    let tenths = lasted.said.stdout.trim().parse::<u32>();
    let ran = matches!(tenths, Ok(tenths) if tenths > 0);
    // Half a core for six seconds; what is not held is at least no trouble to others.
    let held = sandbox.holds(LimitName::Cpu).is_err()
        || match world.level {
            // gVisor's clocks go on while the host lets it wait, so the host is asked.
            Isolation::Gvisor => was_throttled(&sandbox),
            _ => matches!(tenths, Ok(tenths) if tenths < 50),
        };
    judge(ran && held, &lasted)
}

/// Whether the kernel made a sandbox's group of processes wait for its share.
fn was_throttled(sandbox: &Sandbox) -> bool {
    let count = |text: &str| {
        let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
        count.parse::<u64>().ok()
    };
    let groups = sandbox.groups().into_iter();
    let mut told = groups.filter_map(|group| std::fs::read_to_string(group.join("cpu.stat")).ok());
    told.any(|text| count(&text).is_some_and(|count| count > 20))
}

fn descriptor_flood(world: &World) -> Outcome {
    let sandbox = world.sandbox();
    let flood = "my @f; while (@f < 2_000_000) { open(my $f, '<', '/dev/null') or last; \
                 push @f, $f } print scalar(@f), \" $!\"; sleep 2";
    let lasted = perl(world, &sandbox, flood);
    let answers = sandbox.answers();
    let ended = lasted.said.stdout.contains("Too many open files") || lasted.said.signal == Some(9);
    judge(ended && answers.is_ok(), &lasted)
}

fn socket_flood(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.memory_bytes = 192 << 20);
    let flood = "use Socket; my @s; my $full = 'x' x 65536; while (@s < 200_000) { \
                 socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or last; \
                 $a->blocking(0); 1 while syswrite($a, $full); push @s, $a, $b } \
                 print scalar(@s), \" $!\"; sleep 2";
    let lasted = perl(world, &sandbox, &format!("use IO::Handle; {flood}"));
    let ended = lasted.said.stdout.contains("Too many open files")
        || lasted.said.signal == Some(9)
        || (world.level == Isolation::Gvisor && lasted.said.broken.is_some());
    judge(ended && goes_on_or_ended(world, &sandbox), &lasted)
}

fn output_flood(world: &World) -> Outcome {
    let sandbox = world.sandbox();
    let lasted = world.meanwhile(&sandbox, &["head", "-c", "2G", "/dev/zero"], super::TIME);
    let answers = sandbox.answers();
    let bounded = lasted.said.stdout.len() <= 2 << 20;
    judge(bounded && answers.is_ok(), &lasted)
}

fn slow_relay(world: &World) -> Outcome {
    let sandbox = world.sandbox();
    let slow = "use IO::Socket::INET; my @held; for (1..300) { my $s = IO::Socket::INET->new( \
                PeerAddr => '127.0.0.1:7070', Timeout => 5) or last; syswrite $s, 'G'; \
                push @held, $s } print scalar(@held); sleep 5";
    let lasted = perl(world, &sandbox, slow);
    let held = lasted.said.stdout.parse::<u32>().is_ok_and(|count| count > 0);
    let ask = "use IO::Socket::INET; my $s = IO::Socket::INET->new( \
               PeerAddr => '127.0.0.1:7070', Timeout => 10) or die \"no relay: $!\"; \
               syswrite $s, \"GET /nothing HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n\"; \
               alarm 20; print scalar <$s>";
    let again = sandbox.perl(ask, &[]);
    if !again.stdout.starts_with("HTTP/1.1 4") {
        return Outcome::breach(format!("afterwards its own relay: {again}; {lasted}"));
    }
    judge(held, &lasted)
}
