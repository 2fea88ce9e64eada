//! The agent's side of the Agent Client Protocol, version 1: the only module that names it.
//!
//! Handlers run inside the connection's dispatch loop and must not wait; the work on a prompt is a
//! task of its own.

mod prompt;
mod update;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, CancelNotification, Implementation, InitializeRequest, InitializeResponse,
    LoadSessionRequest, LoadSessionResponse, McpServer, NewSessionRequest, NewSessionResponse,
    PromptCapabilities, PromptRequest, PromptResponse, SessionId, StopReason,
};
use agent_client_protocol::v1::{ConnectionTo, Responder};
use agent_client_protocol::{Agent, ByteStreams, Client, Error};
use futures_util::{AsyncRead, AsyncWrite};

use crate::conversation::Conversation;
use crate::history::{self, History};
use crate::model::chain;
use crate::session::{self, Ended, Session, replay};
use crate::settings::Settings;
use crate::tool::{Gate, Place};
use crate::turn::Finish;
use update::Updates;

/// How long killed commands are waited for when the client is gone.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// All sessions of one client.
#[derive(Debug)]
struct Sessions {
    settings: Arc<Settings>,
    open: Mutex<HashMap<SessionId, Arc<Session>>>,
}

/// Serves a client until it closes its side, then stops whatever still works.
pub async fn serve<I, O>(settings: Settings, input: I, output: O) -> Result<(), Error>
where
    I: AsyncRead + Send + 'static,
    O: AsyncWrite + Send + 'static,
{
    let sessions = Arc::new(Sessions { settings: Arc::new(settings), open: Mutex::default() });
    let [new, load, prompting, cancelling] = [(); 4].map(|()| Arc::clone(&sessions));
    let ended = Agent
        .v1()
        .name("hangar-agent")
        .on_receive_request(
            async move |_: InitializeRequest, responder: Responder<InitializeResponse>, _| {
                responder.respond(description())
            },
            agent_client_protocol::on_receive_request!(),
        )
        .on_receive_request(
            async move |request: NewSessionRequest,
                        responder: Responder<NewSessionResponse>,
                        connection: ConnectionTo<Client>| {
                responder.respond_with_result(new.new_session(&request, &connection))
            },
            agent_client_protocol::on_receive_request!(),
        )
        .on_receive_request(
            async move |request: LoadSessionRequest,
                        responder: Responder<LoadSessionResponse>,
                        connection: ConnectionTo<Client>| {
                responder.respond_with_result(load.load_session(&request, &connection))
            },
            agent_client_protocol::on_receive_request!(),
        )
        .on_receive_request(
            async move |request: PromptRequest, responder: Responder<PromptResponse>, _| {
                prompting.prompt(request, responder)
            },
            agent_client_protocol::on_receive_request!(),
        )
        .on_receive_notification(
            async move |notification: CancelNotification, _| {
                if let Some(session) = cancelling.table().get(&notification.session_id) {
                    session.cancel();
                }
                Ok(())
            },
            agent_client_protocol::on_receive_notification!(),
        )
        .connect_to(ByteStreams::new(output, input))
        .await;
    sessions.stop().await;
    ended
}

fn description() -> InitializeResponse {
    let capabilities = AgentCapabilities::new()
        .load_session(true)
        .prompt_capabilities(PromptCapabilities::new().embedded_context(true));
    InitializeResponse::new(ProtocolVersion::V1)
        .agent_capabilities(capabilities)
        .agent_info(Implementation::new("hangar-agent", env!("CARGO_PKG_VERSION")))
}

impl Sessions {
    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_session(
        &self,
        request: &NewSessionRequest,
        connection: &ConnectionTo<Client>,
    ) -> Result<NewSessionResponse, Error> {
        let place = place(&request.cwd, &request.mcp_servers)?;
        let id = SessionId::new(format!("agent-{}", uuid::Uuid::now_v7().simple()));
        let history = match &self.settings.sessions {
            Some(directory) => Some(History::new(directory, &id.0).map_err(|e| failed(&e))?),
            None => None,
        };
        let updates = Arc::new(Updates::new(connection.clone(), id.clone()));
        let settings = Arc::clone(&self.settings);
        let session = Session::new(settings, place, updates, Conversation::default(), history);
        self.table().insert(id.clone(), Arc::new(session));
        Ok(NewSessionResponse::new(id))
    }

    fn load_session(
        &self,
        request: &LoadSessionRequest,
        connection: &ConnectionTo<Client>,
    ) -> Result<LoadSessionResponse, Error> {
        let place = place(&request.cwd, &request.mcp_servers)?;
        let id = request.session_id.clone();
        if self.table().get(&id).is_some_and(|session| session.is_working()) {
            return Err(invalid("the session is working on a prompt and cannot be loaded"));
        }
        let Some(directory) = &self.settings.sessions else {
            return Err(invalid("no sessions are kept: HOME is not set for the agent"));
        };
        let (history, entries) = History::load(directory, &id.0).map_err(|e| match e {
            history::Error::Unknown { .. } | history::Error::Name { .. } => invalid(e.to_string()),
            other => failed(&other),
        })?;
        let updates = Arc::new(Updates::new(connection.clone(), id.clone()));
        replay(&entries, &place, updates.as_ref());
        let settings = Arc::clone(&self.settings);
        let conversation = Conversation::restored(entries);
        let session = Session::new(settings, place, updates, conversation, Some(history));
        self.table().insert(id, Arc::new(session));
        Ok(LoadSessionResponse::new())
    }

    fn prompt(
        &self,
        request: PromptRequest,
        responder: Responder<PromptResponse>,
    ) -> Result<(), Error> {
        let session = self.table().get(&request.session_id).cloned();
        let Some(session) = session else {
            return responder.respond_with_error(invalid(format!(
                "there is no session {}; make one with session/new",
                request.session_id
            )));
        };
        let text = match prompt::text(request.prompt) {
            Ok(text) => text,
            Err(problem) => return responder.respond_with_error(invalid(problem.to_string())),
        };
        let ended = session.prompt(text);
        tokio::spawn(async move {
            let ended = ended.await.unwrap_or_else(|_| Err(Arc::new(session::Error::Broken)));
            // The client may have gone.
            let _ = responder.respond_with_result(answer(ended));
        });
        Ok(())
    }

    /// Stops all work and waits until nothing runs any more.
    async fn stop(&self) {
        let sessions: Vec<_> = self.table().values().cloned().collect();
        for session in &sessions {
            session.cancel();
        }
        let stopped = async {
            while sessions.iter().any(|session| session.is_working()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, stopped).await.is_err() {
            tracing::warn!("work was still going on when the agent ended");
        }
    }
}

/// Where a session works. MCP servers are refused rather than ignored: their tools would be missed.
fn place(directory: &Path, servers: &[McpServer]) -> Result<Place, Error> {
    if !directory.is_absolute() {
        return Err(invalid(format!("cwd must be an absolute path, not {}", directory.display())));
    }
    if !servers.is_empty() {
        return Err(invalid("this agent does not speak to MCP servers"));
    }
    Ok(Place::new(directory.to_owned(), Gate::default()))
}

fn answer(ended: Ended) -> Result<PromptResponse, Error> {
    let reason = match ended {
        Ok(Finish::Done) => StopReason::EndTurn,
        Ok(Finish::Length) => StopReason::MaxTokens,
        Ok(Finish::Steps) => StopReason::MaxTurnRequests,
        Ok(Finish::Refusal) => StopReason::Refusal,
        Ok(Finish::Cancelled) => StopReason::Cancelled,
        Err(error) => return Err(failed(error.as_ref())),
    };
    Ok(PromptResponse::new(reason))
}

fn invalid(message: impl Into<String>) -> Error {
    let mut error = Error::invalid_params();
    error.message = message.into();
    error
}

/// The message says everything: clients show it to people.
fn failed(error: &dyn std::error::Error) -> Error {
    let mut answer = Error::internal_error();
    answer.message = chain(error);
    answer
}
