//! Requests and streams of the chat dialect, as tables.

use serde_json::{Value, json};

use super::*;
use crate::conversation::{Call, Conversation, Input, ToolResult};
use crate::dialect::Definition;

fn decode(chunks: &[Value]) -> (Vec<Delta>, Decoder) {
    let mut decoder = Decoder::default();
    let mut deltas = Vec::new();
    for chunk in chunks {
        deltas.extend(decoder.event(&chunk.to_string()).expect("readable"));
    }
    (deltas, decoder)
}

fn delta(delta: &Value) -> Value {
    json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
}

fn finish(reason: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
}

fn piece(index: u64, id: Option<&str>, name: Option<&str>, arguments: &str) -> Value {
    delta(&json!({ "tool_calls": [{
        "index": index, "id": id, "function": { "name": name, "arguments": arguments },
    }]}))
}

fn call(id: &str, name: &str, arguments: &str) -> Call {
    Call { id: id.into(), name: name.into(), input: Input::parse(arguments) }
}

#[test]
fn text_and_interleaved_calls_come_out_whole() {
    let (deltas, mut decoder) = decode(&[
        delta(&json!({ "role": "assistant", "content": "" })),
        delta(&json!({ "reasoning_content": "hm" })),
        delta(&json!({ "content": "I " })),
        delta(&json!({ "content": "read." })),
        piece(0, Some("a"), Some("read"), ""),
        piece(0, None, None, "{\"pa"),
        piece(1, Some("b"), Some("list"), "{}"),
        piece(0, None, None, "th\":\"x\"}"),
        finish("tool_calls"),
        json!({ "choices": [], "usage": { "total_tokens": 3 } }),
    ]);
    assert!(!decoder.is_complete());
    decoder.event("[DONE]").expect("the end mark");
    assert!(decoder.is_complete());
    assert_eq!(
        deltas,
        [Delta::Thought("hm".into()), Delta::Text("I ".into()), Delta::Text("read.".into()),]
    );
    let answer = decoder.finish().expect("complete");
    assert_eq!(answer.parts[0], Part::Text { text: "I read.".into() });
    assert_eq!(answer.calls(), [call("a", "read", r#"{"path":"x"}"#), call("b", "list", "")]);
}

#[test]
fn calls_without_numbers_are_told_apart_by_their_ids() {
    let piece = |id: Option<&str>, name: Option<&str>, arguments: Value| {
        delta(&json!({ "tool_calls": [{
            "id": id, "function": { "name": name, "arguments": arguments },
        }]}))
    };
    let (_, decoder) = decode(&[
        piece(Some("a"), Some("read"), json!("{\"path\":")),
        piece(None, None, json!("\"x\"}")),
        piece(Some("b"), Some("read"), json!({ "path": "y" })),
        finish("tool_calls"),
    ]);
    assert_eq!(
        decoder.finish().expect("complete").calls(),
        [call("a", "read", r#"{"path":"x"}"#), call("b", "read", r#"{"path":"y"}"#)]
    );
}

#[test]
fn a_finish_reason_completes_an_answer_and_its_absence_does_not() {
    for (reason, stop) in [
        ("stop", Stop::Done),
        ("tool_calls", Stop::Done),
        ("length", Stop::Length),
        ("content_filter", Stop::Refusal),
    ] {
        assert_eq!(decode(&[finish(reason)]).1.finish().expect("complete").stop, stop);
    }
    let half = decode(&[delta(&json!({ "content": "half" }))]).1;
    assert_eq!(half.finish(), Err(Error::Incomplete));
}

#[test]
fn errors_within_the_stream_are_reported() {
    for (chunk, expected) in [
        (json!({ "error": { "message": "overloaded" } }), "overloaded"),
        (json!({ "error": "plain" }), "\"plain\""),
    ] {
        let error = Decoder::default().event(&chunk.to_string()).expect_err("an error");
        assert_eq!(error, Error::Reported { message: expected.into() });
    }
    assert!(matches!(Decoder::default().event("oops"), Err(Error::Unreadable { .. })));
}

#[test]
fn a_request_has_one_message_for_each_result() {
    let result = |call: &str, text: &str| ToolResult {
        call: call.into(),
        tool: "read".into(),
        text: text.into(),
        failed: false,
    };
    let conversation = Conversation::restored(vec![
        Entry::User { text: "go".into() },
        Entry::Assistant {
            parts: vec![
                Part::Thinking { text: "hm".into(), signature: String::new() },
                Part::Call(call("a", "read", r#"{"path":"x"}"#)),
                Part::Call(call("b", "", "{oops")),
            ],
        },
        Entry::Results { results: vec![result("a", "text"), result("b", "")] },
        Entry::Assistant { parts: vec![Part::Text { text: "done".into() }] },
    ]);
    let tools = [Definition { name: "read", description: "reads", schema: json!({}) }];
    let body = encode(&Request {
        model: "m",
        system: "be good",
        conversation: &conversation,
        tools: &tools,
    });
    assert_eq!(body["stream"], true);
    assert_eq!(body["tools"][0]["function"]["name"], "read");
    assert_eq!(
        body["messages"],
        json!([
            { "role": "system", "content": "be good" },
            { "role": "user", "content": "go" },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "a", "type": "function",
                  "function": { "name": "read", "arguments": "{\"path\":\"x\"}" } },
                { "id": "b", "type": "function",
                  "function": { "name": "unknown",
                                "arguments": "{\"unreadable_arguments\":\"{oops\"}" } },
            ]},
            { "role": "tool", "tool_call_id": "a", "content": "text" },
            { "role": "tool", "tool_call_id": "b", "content": "(no output)" },
            { "role": "assistant", "content": "done" },
        ])
    );
}
