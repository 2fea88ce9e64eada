//! Requests and streams of Anthropic's dialect, as tables.

use serde_json::{Value, json};

use super::*;
use crate::conversation::{Call, Conversation, Input, ToolResult};
use crate::dialect::Definition;

fn decode(events: &[Value]) -> (Vec<Delta>, Result<Answer, Error>) {
    let mut decoder = Decoder::default();
    let mut deltas = Vec::new();
    for event in events {
        match decoder.event(&event.to_string()) {
            Ok(more) => deltas.extend(more),
            Err(error) => return (deltas, Err(error)),
        }
    }
    (deltas, decoder.finish())
}

fn begin(index: u64, block: &Value) -> Value {
    json!({ "type": "content_block_start", "index": index, "content_block": block })
}

fn delta(index: u64, delta: &Value) -> Value {
    json!({ "type": "content_block_delta", "index": index, "delta": delta })
}

fn end(reason: &str) -> [Value; 2] {
    [
        json!({ "type": "message_delta", "delta": { "stop_reason": reason } }),
        json!({ "type": "message_stop" }),
    ]
}

#[test]
fn thinking_text_and_fragmented_calls_come_out_whole() {
    let mut events = vec![
        json!({ "type": "message_start", "message": { "id": "m" } }),
        json!({ "type": "ping" }),
        begin(0, &json!({ "type": "thinking", "thinking": "", "signature": "" })),
        delta(0, &json!({ "type": "thinking_delta", "thinking": "Let me " })),
        delta(0, &json!({ "type": "thinking_delta", "thinking": "see." })),
        delta(0, &json!({ "type": "signature_delta", "signature": "ab" })),
        delta(0, &json!({ "type": "signature_delta", "signature": "cd" })),
        begin(1, &json!({ "type": "redacted_thinking", "data": "xyz" })),
        begin(2, &json!({ "type": "text", "text": "" })),
        delta(2, &json!({ "type": "text_delta", "text": "I " })),
        delta(2, &json!({ "type": "text_delta", "text": "read." })),
        begin(3, &json!({ "type": "tool_use", "id": "a", "name": "read", "input": {} })),
        delta(3, &json!({ "type": "input_json_delta", "partial_json": "" })),
        delta(3, &json!({ "type": "input_json_delta", "partial_json": "{\"pa" })),
        delta(3, &json!({ "type": "input_json_delta", "partial_json": "th\": \"x\"}" })),
        begin(4, &json!({ "type": "tool_use", "id": "b", "name": "list", "input": {} })),
        begin(5, &json!({ "type": "from_the_future" })),
    ];
    events.extend(end("tool_use"));
    let (deltas, answer) = decode(&events);
    assert_eq!(
        deltas,
        [
            Delta::Thought("Let me ".into()),
            Delta::Thought("see.".into()),
            Delta::Text("I ".into()),
            Delta::Text("read.".into()),
        ]
    );
    let call = |id: &str, name: &str, arguments: &str| {
        Part::Call(Call { id: id.into(), name: name.into(), input: Input::parse(arguments) })
    };
    assert_eq!(
        answer.expect("complete").parts,
        [
            Part::Thinking { text: "Let me see.".into(), signature: "abcd".into() },
            Part::SealedThinking { data: "xyz".into() },
            Part::Text { text: "I read.".into() },
            call("a", "read", r#"{"path":"x"}"#),
            call("b", "list", ""),
        ]
    );
}

#[test]
fn stop_reasons_are_told_apart() {
    for (reason, stop) in [
        ("end_turn", Stop::Done),
        ("tool_use", Stop::Done),
        ("max_tokens", Stop::Length),
        ("refusal", Stop::Refusal),
    ] {
        assert_eq!(decode(&end(reason)).1.expect("complete").stop, stop, "{reason}");
    }
}

#[test]
fn broken_streams_are_errors() {
    let text = begin(0, &json!({ "type": "text", "text": "half" }));
    assert_eq!(decode(std::slice::from_ref(&text)).1, Err(Error::Incomplete));
    let error =
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "busy" } });
    assert_eq!(decode(&[text, error]).1, Err(Error::Reported { message: "busy".into() }));
    assert!(matches!(Decoder::default().event("{oops"), Err(Error::Unreadable { .. })));
}

#[test]
fn ids_are_made_where_the_model_forgot_or_repeated_them() {
    let tool = |id: &str| json!({ "type": "tool_use", "id": id, "name": "x", "input": { "a": 1 } });
    let mut events = vec![begin(0, &tool("")), begin(1, &tool("same")), begin(2, &tool("same"))];
    events.extend(end("tool_use"));
    let answer = decode(&events).1.expect("complete");
    let ids: Vec<_> = answer.calls().into_iter().map(|call| call.id).collect();
    assert_eq!(ids, ["call_0", "same", "same_"]);
    assert_eq!(answer.calls()[0].input.as_object(), json!({ "a": 1 }), "input given at once");
}

#[test]
fn a_request_sends_back_what_came_and_merges_roles() {
    let result = |call: &str, text: &str, failed| ToolResult {
        call: call.into(),
        tool: "read".into(),
        text: text.into(),
        failed,
    };
    let call = |id: &str, input: &str| {
        Part::Call(Call { id: id.into(), name: "re ad".into(), input: Input::parse(input) })
    };
    let conversation = Conversation::restored(vec![
        Entry::User { text: "one".into() },
        Entry::User { text: "two".into() },
        Entry::Assistant {
            parts: vec![
                Part::Thinking { text: "hm".into(), signature: "seal".into() },
                Part::SealedThinking { data: "dark".into() },
                call("a", r#"{"path":"x"}"#),
                call("b", "{oops"),
            ],
        },
        Entry::Results { results: vec![result("a", "text", false), result("b", "", true)] },
        Entry::User { text: "three".into() },
    ]);
    let schema = json!({ "type": "object" });
    let tools = [Definition { name: "read", description: "reads", schema: schema.clone() }];
    let body = encode(&Request {
        model: "m",
        system: "be good",
        conversation: &conversation,
        tools: &tools,
    });
    assert_eq!(body["stream"], true);
    assert_eq!(body["max_tokens"], MAX_TOKENS);
    assert_eq!(body["system"][0]["text"], "be good");
    assert_eq!(
        body["tools"],
        json!([{ "name": "read", "description": "reads", "input_schema": schema }])
    );
    assert_eq!(
        body["messages"],
        json!([
            { "role": "user", "content": [
                { "type": "text", "text": "one" },
                { "type": "text", "text": "two" },
            ]},
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": "seal" },
                { "type": "redacted_thinking", "data": "dark" },
                { "type": "tool_use", "id": "a", "name": "re_ad", "input": { "path": "x" } },
                { "type": "tool_use", "id": "b", "name": "re_ad",
                  "input": { "unreadable_arguments": "{oops" } },
            ]},
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "a", "content": "text", "is_error": false },
                { "type": "tool_result", "tool_use_id": "b", "content": "(no output)", "is_error": true },
                { "type": "text", "text": "three", "cache_control": { "type": "ephemeral" } },
            ]},
        ])
    );
}
