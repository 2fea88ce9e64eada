//! PID 1 for the attack suite: speaks agentd's API well enough to be believed, and lies.
//!
//! What it does follows from what it is asked: the program of an exec, the path of a file, or the
//! word after `@hostile` in a prompt name the trick.

use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};

use serde_json::{Value, json};

/// Prompts that were delivered: their ids and the tricks they ask for.
static PROMPTS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
static DELIVERED: Condvar = Condvar::new();
/// How many times the host has asked for reports; only the last one is answered.
static ASKED: AtomicU32 = AtomicU32::new(0);
/// How many prompts were lied about, and the number of the last report.
static TOLD: Mutex<(usize, u64)> = Mutex::new((0, 0));
/// Whether bytes that are no report were sent before.
static NONSENSE: AtomicBool = AtomicBool::new(false);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let listener = match (arguments.next().as_deref(), arguments.next()) {
        // Beneath a kernel of its own nothing is inherited.
        (Some("--listen"), Some(path)) => UnixListener::bind(path).expect("a socket"),
        _ => inherited(),
    };
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let _the_host_went_away = serve(stream);
        });
    }
}

fn inherited() -> UnixListener {
    #[expect(unsafe_code, reason = "the launcher hands the listener over by number")]
    // SAFETY: descriptor 3 is the listening socket, and nothing else here owns it.
    unsafe {
        UnixListener::from_raw_fd(3)
    }
}

fn serve(mut stream: UnixStream) -> std::io::Result<()> {
    let (head, body) = request(&mut stream)?;
    let line = head.lines().next().unwrap_or_default();
    let target = line.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    match path {
        "/v1/health" => answer(&mut stream, &json!({"version": 1, "release": "hostile"})),
        "/v1/exec" => exec(stream, asked["argv"][0].as_str().unwrap_or_default()),
        "/v1/files" => file(stream, query),
        "/v1/workspace/sync" => {
            answer(&mut stream, &json!({"commit": asked["commit"], "changed": true}))
        }
        "/v1/agent/start" => answer(&mut stream, &json!({"agent": "hostile 1", "milliseconds": 1})),
        "/v1/agent/prompt" => {
            let text = asked["text"].as_str().unwrap_or_default();
            let trick = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
            let prompt = asked["prompt"].as_str().unwrap_or_default().to_owned();
            PROMPTS.lock().expect("whole").push((prompt, trick));
            DELIVERED.notify_all();
            answer(&mut stream, &json!({"already": false}))
        }
        "/v1/agent/cancel" => answer(&mut stream, &json!({"killed": false})),
        "/v1/workspace/commit" => commit(&mut stream),
        "/v1/workspace/push" => answer(&mut stream, &json!({"commit": asked["commit"]})),
        "/v1/reports" => reports(stream),
        _ => answer(&mut stream, &json!({})),
    }
}

fn request(stream: &mut UnixStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&piece[..count]);
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = read.split_off(end);
    while body.len() < length.unwrap_or(0) {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            break;
        }
        body.extend_from_slice(&piece[..count]);
    }
    Ok((head, body))
}

const OPEN_ENDED: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
const JSON: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";

fn answer(stream: &mut UnixStream, body: &Value) -> std::io::Result<()> {
    stream.write_all(JSON)?;
    stream.write_all(body.to_string().as_bytes())
}

/// Writes the same until the host has enough.
fn endlessly(mut stream: UnixStream, piece: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(piece)?;
    }
}

fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}

fn exec(mut stream: UnixStream, trick: &str) -> std::io::Result<()> {
    let exit = framed(3, br#"{"code":0,"signal":null}"#);
    match trick {
        "endless-head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            return endlessly(stream, &[b"x-more: ", &[b'y'; 1000][..], b"\r\n"].concat());
        }
        "two-answers" => {
            return stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                  HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsmuggled!",
            );
        }
        _ => stream.write_all(OPEN_ENDED)?,
    }
    match trick {
        "oversized-frame" => stream.write_all(&[1, 0x7f, 0xff, 0xff, 0xff]),
        "endless-output" => endlessly(stream, &framed(1, &vec![b'a'; 64 * 1024])),
        "cut-frame" => stream.write_all(&[1, 0, 0, 1, 0, b'h', b'a', b'l', b'f']),
        "odd-exit" => stream.write_all(&framed(3, &[0xff, 0xfe, b'{'])),
        "unknown-frames" => {
            stream.write_all(&framed(200, b"?").repeat(1000))?;
            stream.write_all(&exit)
        }
        "after-exit" => {
            stream.write_all(&exit)?;
            stream.write_all(&framed(1, b"more"))
        }
        _ => stream.write_all(&exit),
    }
}

fn file(mut stream: UnixStream, query: &str) -> std::io::Result<()> {
    if query.contains("deep") {
        stream.write_all(JSON)?;
        stream.write_all(br#"{"unheard-of":"#)?;
        return stream.write_all(&b"[".repeat(1 << 20));
    }
    if query.contains("not-utf8") {
        stream.write_all(JSON)?;
        return stream
            .write_all(b"{\"entries\":[{\"name\":\"\xff\xfe\",\"kind\":\"file\",\"size\":1}]}");
    }
    if query.contains("wrong-type") {
        return answer(&mut stream, &json!({"entries": "none", "size": -1}));
    }
    stream.write_all(OPEN_ENDED)?;
    endlessly(stream, &vec![b'z'; 64 * 1024])
}

fn commit(stream: &mut UnixStream) -> std::io::Result<()> {
    let trick = PROMPTS.lock().expect("whole").last().map(|(_, trick)| trick.clone());
    let commit = match trick.as_deref() {
        Some("false-commit") => {
            let files =
                [json!({"path": "../../etc/passwd", "kind": "modified", "added": 1, "removed": 0})];
            json!({"id": "1".repeat(40), "subject": "never made", "files": files})
        }
        Some("odd-commit") => {
            json!({"id": "--upload-pack=touch /tmp/x", "subject": "\u{1b}[2J", "files": []})
        }
        _ => Value::Null,
    };
    answer(stream, &json!({"commit": commit}))
}

/// A lie for each prompt, as they come.
fn reports(mut stream: UnixStream) -> std::io::Result<()> {
    let turn = ASKED.fetch_add(1, Ordering::SeqCst) + 1;
    DELIVERED.notify_all();
    stream.write_all(OPEN_ENDED)?;
    loop {
        let (prompt, trick) = {
            let mut prompts = PROMPTS.lock().expect("whole");
            loop {
                if ASKED.load(Ordering::SeqCst) != turn {
                    return Ok(());
                }
                let told = TOLD.lock().expect("whole").0;
                if let Some(next) = prompts.get(told) {
                    break next.clone();
                }
                prompts = DELIVERED.wait(prompts).expect("whole");
            }
        };
        let mut told = TOLD.lock().expect("whole");
        lie(&mut stream, &mut told.1, &prompt, &trick)?;
        told.0 += 1;
    }
}

fn message(prompt: &str, text: &str) -> Value {
    json!({"kind": "message", "prompt": prompt, "text": text})
}

fn ended(prompt: &str) -> Value {
    json!({"kind": "prompt_ended", "prompt": prompt, "ending": {"kind": "completed"}})
}

fn report(stream: &mut UnixStream, number: u64, report: &Value) -> std::io::Result<()> {
    let line = json!({"type": "report", "number": number, "report": report});
    stream.write_all(format!("{line}\n").as_bytes())
}

fn lie(
    stream: &mut UnixStream,
    number: &mut u64,
    prompt: &str,
    trick: &str,
) -> std::io::Result<()> {
    let other = format!("prm_{}", "0".repeat(31) + "7");
    let mut next = |stream: &mut UnixStream, what: &Value| {
        *number += 1;
        report(stream, *number, what)
    };
    match trick {
        "other-prompts" => {
            next(stream, &message(&other, "forged for another"))?;
            next(stream, &ended(&other))?;
        }
        "numbers" => {
            for number in [u64::MAX, 1 << 40, 0] {
                report(stream, number, &message(prompt, "forged by number"))?;
            }
            next(stream, &message(prompt, "said once"))?;
            let same = *number;
            for _ in 0..100 {
                report(stream, same, &message(prompt, "said once"))?;
            }
            report(stream, *number + 2, &message(prompt, "forged by number"))?;
            *number += 1;
            return report(stream, *number, &ended(prompt));
        }
        "end-twice" => {
            next(stream, &ended(prompt))?;
            next(stream, &message(prompt, "forged after the end"))?;
            next(stream, &ended(prompt))?;
        }
        "large" => {
            for _ in 0..50 {
                next(stream, &message(prompt, &"large ".repeat(170_000)))?;
            }
        }
        "no-json" if !NONSENSE.swap(true, Ordering::SeqCst) => {
            stream.write_all(b"\xff\xfe\x00 no line of JSON\n")?;
            return Err(std::io::ErrorKind::Other.into());
        }
        _ => {}
    }
    next(stream, &ended(prompt))
}
