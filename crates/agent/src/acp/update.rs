//! Reports as session updates.

use agent_client_protocol::Client;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    ContentBlock, ContentChunk, Diff, SessionId, SessionNotification, SessionUpdate, TextContent,
    ToolCall, ToolCallContent, ToolCallId, ToolCallLocation, ToolCallStatus, ToolCallUpdate,
    ToolCallUpdateFields, ToolKind,
};

use crate::report::{Kind, Report, Reporter};

/// Sends one session's updates to the client.
#[derive(Debug)]
pub(super) struct Updates {
    connection: ConnectionTo<Client>,
    session: SessionId,
}

impl Updates {
    pub(super) fn new(connection: ConnectionTo<Client>, session: SessionId) -> Self {
        Self { connection, session }
    }
}

impl Reporter for Updates {
    fn report(&self, report: Report) {
        let notification = SessionNotification::new(self.session.clone(), update(report));
        // Fails only when the client has gone; then the session is about to be stopped.
        let _ = self.connection.send_notification(notification);
    }
}

fn update(report: Report) -> SessionUpdate {
    match report {
        Report::Prompt(text) => SessionUpdate::UserMessageChunk(chunk(text)),
        Report::Text(text) => SessionUpdate::AgentMessageChunk(chunk(text)),
        Report::Thought(text) => SessionUpdate::AgentThoughtChunk(chunk(text)),
        Report::ToolStarted { call, tool, title, kind, paths, input } => SessionUpdate::ToolCall(
            ToolCall::new(ToolCallId::new(call), title)
                .name(tool)
                .kind(tool_kind(kind))
                .status(ToolCallStatus::InProgress)
                .locations(paths.into_iter().map(ToolCallLocation::new).collect())
                .raw_input(input),
        ),
        Report::ToolProgress { call, text } => {
            let fields = ToolCallUpdateFields::new()
                .status(ToolCallStatus::InProgress)
                .content(vec![content(text)]);
            SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(ToolCallId::new(call), fields))
        }
        Report::ToolFinished { call, failed, text, change } => {
            let mut contents = vec![content(text)];
            contents.extend(change.map(|change| {
                ToolCallContent::Diff(Diff::new(change.path, change.after).old_text(change.before))
            }));
            let status = if failed { ToolCallStatus::Failed } else { ToolCallStatus::Completed };
            let fields = ToolCallUpdateFields::new().status(status).content(contents);
            SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(ToolCallId::new(call), fields))
        }
    }
}

fn chunk(text: String) -> ContentChunk {
    ContentChunk::new(ContentBlock::Text(TextContent::new(text)))
}

fn content(text: String) -> ToolCallContent {
    ContentBlock::Text(TextContent::new(text)).into()
}

fn tool_kind(kind: Kind) -> ToolKind {
    match kind {
        Kind::Read => ToolKind::Read,
        Kind::Edit => ToolKind::Edit,
        Kind::Search => ToolKind::Search,
        Kind::Execute => ToolKind::Execute,
        Kind::Other => ToolKind::Other,
    }
}
