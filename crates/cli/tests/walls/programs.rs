//! What the walls must not break: the programs people work with, run as an agent runs them.

use crate::support::Server;
use crate::{finished, outputs, real_part, rehearse, repository};

/// A program that must be on the machine, and what it is tried with; the last line says `worked`.
const PROGRAMS: [(&str, &str); 11] = [
    (
        "git",
        "git init -q g && cd g && echo a > f && git add f && git commit -qm a && git mv f h && \
         git commit -qam b && git gc -q && git clone -q . ../g2 && git -C ../g2 fsck",
    ),
    (
        "gcc",
        "printf '#include <stdio.h>\\nint main(void) { puts(\"made\"); return 0; }\\n' > m.c && \
         gcc -g -O1 -pipe m.c -o m && ./m",
    ),
    (
        "gdb",
        "gdb -batch -ex 'break main' -ex run -ex bt -ex continue ./m | grep -q 'in main\\|main ()'",
    ),
    (
        "cargo",
        "cargo new --quiet --vcs none c && cd c && cargo test --quiet --offline && \
         cargo run --quiet --offline | grep -q Hello",
    ),
    (
        "node",
        "node -e \"const http = require('http'), { Worker } = require('worker_threads'); \
         new Worker('1', { eval: true }).on('exit', () => { \
         const server = http.createServer((_, answer) => answer.end('served')).listen(0, '127.0.0.1', () => \
         http.get(server.address(), (answer) => answer.on('data', (text) => { \
         require('child_process').execSync('cat', { input: 'x' }); server.close(); \
         if (String(text) !== 'served') process.exit(1); }))); });\"",
    ),
    (
        "npm",
        "mkdir p d && (cd p && npm init -y > /dev/null) && cd d && npm init -y > /dev/null && npm install --offline --no-audit ../p",
    ),
    (
        "python3",
        "python3 -c 'import multiprocessing, sqlite3, socket, subprocess, tempfile, threading; \
         multiprocessing.set_start_method(\"spawn\"); \
         assert multiprocessing.Pool(2).map(abs, [-1, 2]) == [1, 2]; \
         base = sqlite3.connect(\"b.db\"); base.execute(\"create table a (b)\"); base.commit(); \
         a, b = socket.socketpair(); a.send(b\"x\"); assert b.recv(1) == b\"x\"; \
         subprocess.check_call([\"true\"]); tempfile.TemporaryFile().write(b\"x\")'",
    ),
    (
        "chromium",
        "printf '<p id=a></p><script>a.textContent = 40 + 2</script>' > a.html && timeout 60 chromium --headless --no-sandbox --disable-gpu --dump-dom file:///tmp/a.html | grep 42",
    ),
    ("strace", "strace -f -o s true && grep -q exit_group s"),
    ("script", "script -qec 'test -t 0 && stty size' /dev/null"),
    (
        "perl",
        "sleep 60 & kill $! && perl -e 'use POSIX; my $pid = fork; exit 0 unless $pid; waitpid $pid, 0; exit $?'",
    ),
];

/// On every machine that builds this.
const ALWAYS: [&str; 5] = ["git", "gcc", "cargo", "python3", "perl"];

fn on_this_machine(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

#[expect(clippy::print_stderr, reason = "what was not tried is said to whoever runs this")]
#[tokio::test]
async fn the_programs_people_work_with_run_inside() {
    let server = Server::start();
    let repository = repository(&server).await;
    let (programs, missing): (Vec<_>, Vec<_>) =
        PROGRAMS.into_iter().partition(|(name, _)| on_this_machine(name));
    for (name, _) in missing {
        assert!(!ALWAYS.contains(&name), "{name} is not on this machine");
        eprintln!("NOT TRIED: {name} is not on this machine");
    }
    // In files, because the words of a prompt are not a shell's.
    let commands: Vec<String> = programs
        .iter()
        .map(|(name, line)| {
            let octets = line.bytes().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
            format!("cd /tmp && echo {octets} | perl -ne 'chomp; print pack(\"H*\", $_)' > {name}.sh && bash -e {name}.sh 2>&1 && echo worked {name}")
        })
        .collect();
    let session = rehearse(&server, &repository, &commands).await;
    let events = server.until(session, 0, finished).await;
    let all = outputs(&events).join("\n");
    let broken: Vec<&str> = programs
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !all.contains(&format!("worked {name}\n")))
        .collect();
    assert!(broken.is_empty(), "{broken:?} do not work:\n{all}");
    real_part::worked("programs", "inside a sandbox");
}
