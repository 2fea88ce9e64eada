//! Terminals for people.

use std::io::{Read as _, Write as _};

use protocol::agentd::{ExecExit, frame};

use crate::harness::{Agentd, connect};

fn encoded(text: &str) -> String {
    text.bytes().flat_map(|byte| format!("%{byte:02X}").into_bytes()).map(char::from).collect()
}

fn frame_of(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}

#[test]
fn a_terminal_is_typed_into_resized_and_ends() {
    let agentd = Agentd::start();
    let order = r#"{"argv":["sh"],"size":{"columns":80,"rows":24}}"#;
    let mut stream = connect(&agentd.path("agentd.sock"));
    let request = format!(
        "POST /v1/pty?request={} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
         upgrade: hangar-frames\r\n\r\n",
        encoded(order)
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(&frame_of(frame::RESIZE, br#"{"columns":111,"rows":22}"#)).expect("sent");
    stream.write_all(&frame_of(frame::STDIN, b"stty size; exit 5\n")).expect("sent");
    let mut shown = Vec::new();
    let exit: ExecExit = loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).expect("a payload");
        match head[0] {
            frame::STDOUT => shown.extend(payload),
            frame::EXIT => break serde_json::from_slice(&payload).expect("an exit"),
            other => panic!("a frame of kind {other}"),
        }
    };
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("22 111"), "{shown}");
    assert_eq!(exit.code, Some(5));
}

#[test]
fn a_terminal_without_an_upgrade_is_refused() {
    let agentd = Agentd::start();
    let order = encoded(r#"{"size":{"columns":80,"rows":24}}"#);
    let answer = agentd.request("POST", &format!("/v1/pty?request={order}"), b"");
    assert!(answer.failure().contains("Upgrade: hangar-frames"));
}
