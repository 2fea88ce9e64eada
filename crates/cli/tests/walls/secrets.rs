//! No credential is in a sandbox, nor in anything that is written down about it.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::Event;
use protocol::session::PromptOutcome;

use super::{files_below, finished, outputs, rehearse, repository};
use crate::support::Server;

/// A complete answer in Anthropic's dialect.
const ANSWER: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Nothing to do."}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}}

event: message_stop
data: {"type":"message_stop"}

"#;

/// A model provider that answers always the same and keeps the heads of its requests.
struct Provider {
    address: String,
    heads: mpsc::Receiver<String>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, heads) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that says nothing is none of its business.
                let Some(head) = answer(stream) else { continue };
                if sender.send(head).is_err() {
                    return;
                }
            }
        });
        Self { address, heads }
    }

    /// The heads so far.
    fn heads(&self) -> Vec<String> {
        self.heads.try_iter().collect()
    }
}

fn answer(mut stream: TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    io::Write::write_fmt(&mut stream, format_args!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\nconnection: \
         close\r\n\r\n{ANSWER}",
        ANSWER.len()
    ))
    .ok()?;
    Some(head)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    text
}

#[tokio::test]
async fn no_credential_is_inside_or_written_down() {
    let (anthropic, openai) = (Provider::start(), Provider::start());
    // Made for this run, so that no older file can hold them.
    let made = hex(protocol::RequestId::new().as_bytes());
    let keys = [format!("sk-ant-{made}"), format!("sk-oai-{made}")];
    let canary = format!("canary-{made}");
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let server = Server::start_with(|command| {
        command.env("ANTHROPIC_API_KEY", &keys[0]).env("ANTHROPIC_BASE_URL", &anthropic.address);
        command.env("OPENAI_API_KEY", &keys[1]).env("OPENAI_BASE_URL", &openai.address);
    });
    let token = std::fs::read_to_string(server.data().join("token")).expect("a token");
    let token = token.trim().to_owned();
    let repository = repository(&server).await;

    // A session with the real provider: the key is added on the way.
    let asked = server.session(&repository, "Say hello").await.summary.id;
    let asked = server.until(asked, 0, finished).await;
    let completed = |event: &Event| {
        matches!(event, Event::PromptFinished { outcome: PromptOutcome::Completed, .. })
    };
    assert!(asked.iter().any(|one| completed(&one.event)), "{asked:#?}");
    let heads = anthropic.heads();
    assert!(!heads.is_empty(), "the provider was asked");
    assert!(
        heads.iter().all(|head| head.contains(&format!("x-api-key: {}", keys[0]))),
        "{heads:?}"
    );

    // Then everything inside is read; what is planted is found, and nothing else.
    let secrets: Vec<String> = [&canary, &keys[0], &keys[1], &token]
        .into_iter()
        .map(|secret| hex(secret.as_bytes()))
        .collect();
    let plant = format!(
        "perl -e 'print pack \"H*\", \"{0}\"' > /home/agent/planted; PLANTED=$(cat /home/agent/planted) \
         setsid sleep 600 > /dev/null 2>&1 & sleep 0.1; git config --global --list; git config --list",
        secrets[0]
    );
    let ask = "curl -sS -H 'authorization: Bearer forged' -H 'x-api-key: forged' \
               -H 'content-type: application/json' -d '{\"model\":\"m\",\"messages\":[]}' \
               $HANGAR_GATEWAY/model/openai/v1/chat/completions";
    let scan = format!("perl scan.pl {since} {}", secrets.join(" "));
    let session = rehearse(&server, &repository, &[plant, ask.to_owned(), scan]).await;
    let events = server.until(session, 0, finished).await;
    let printed = outputs(&events);
    let found: Vec<&str> = printed[2].lines().filter(|line| line.starts_with("FOUND")).collect();
    let planted = |place: &str| found.iter().any(|line| line.starts_with(place));
    assert!(planted("FOUND 0 in /home/agent/planted"), "{printed:?}");
    assert!(planted("FOUND 0 in /proc/"), "{printed:?}");
    assert!(found.iter().all(|line| line.starts_with("FOUND 0 ")), "{found:#?}");
    assert!(printed[2].contains("scanned "), "{printed:?}");
    let heads = openai.heads();
    assert_eq!(heads.len(), 1, "{heads:?} {printed:?}");
    assert!(heads[0].contains(&format!("authorization: bearer {}", keys[1])), "{heads:?}");
    assert!(!heads[0].contains("forged"), "{heads:?}");

    // And everything written outside.
    let secrets = [&keys[0], &keys[1], &token];
    let told = serde_json::to_string(&(asked, events)).expect("JSON");
    let mut places = vec![("events".to_owned(), told), ("server log".to_owned(), server.said())];
    for path in files_below(server.data()) {
        if path != server.data().join("token") {
            let content = std::fs::read(&path).unwrap_or_default();
            let text = content.into_iter().map(char::from).collect();
            places.push((path.display().to_string(), text));
        }
    }
    assert!(places.iter().any(|(name, _)| name.contains("/audit/")), "there is an audit file");
    assert!(
        places.iter().any(|(name, _)| name.ends_with("/home/agent/planted")),
        "and a sandbox's files"
    );
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        places.push((entry.path().display().to_string(), String::from_utf8_lossy(&line).into()));
    }
    for (name, text) in &places {
        for (number, secret) in secrets.iter().enumerate() {
            assert!(!text.contains(secret.as_str()), "secret {number} is in {name}");
        }
    }
}
