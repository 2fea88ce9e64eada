//! What every command has at hand: its output, the data directory, and the server it talks to.

use std::io::Read as _;

use anyhow::Context as _;
use protocol::SessionId;
use secrecy::SecretString;

use crate::arguments::{Common, SessionReference};
use crate::client::Client;
use crate::data::Data;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::programs;

/// Sessions that are looked through for an ending.
const SEARCHED_SESSIONS: usize = 2000;
/// Sessions asked for at once.
const PAGE: usize = 200;

/// Settings of one run of the program.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where lines and documents go.
    pub output: Output,
    /// Where Hangar keeps everything on this machine.
    pub data: Data,
    /// The program and options to write before a command that should do the same.
    pub(crate) program: String,
    server: Option<String>,
    token: Option<SecretString>,
}

impl Context {
    /// From the options every command takes.
    pub(crate) fn new(common: &Common) -> anyhow::Result<Self> {
        let data = Data::locate(common.data.as_deref())?;
        let output = Output::new(common.json);
        let named = common.data.as_deref().filter(|path| {
            std::env::var_os("HANGAR_DATA").is_none_or(|variable| path.as_os_str() != variable)
        });
        let program = programs::invocation(named);
        let (server, token) = (common.server.clone(), common.token.clone());
        Ok(Self { output, data, program, server, token })
    }

    /// A client of the named server, else of the one that runs on the data directory.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let address = match &self.server {
            Some(address) => address.clone(),
            None => self.data.running().ok_or_else(|| self.no_server())?.address,
        };
        let token = match &self.token {
            Some(token) => token.clone(),
            None => self.data.token()?.ok_or_else(|| {
                Failure::new(Exit::NoServer, format!("no token for {address}"))
                    .hint("give --token, or --data with the server's data directory")
            })?,
        };
        Client::new(&address, token)
    }

    /// A client of a server that runs already, if one does or one is named.
    pub(crate) fn running_client(&self) -> anyhow::Result<Option<Client>> {
        let runs = self.server.is_some() || self.data.running().is_some();
        runs.then(|| self.client()).transpose()
    }

    fn no_server(&self) -> Failure {
        let text = format!("no server runs on the data directory {}", self.data.root().display());
        Failure::new(Exit::NoServer, text)
            .hint("start one with `hangar serve`, or do a whole job with `hangar try`")
    }
}

/// The session a person means.
pub(crate) async fn find_session(
    client: &Client,
    reference: &SessionReference,
) -> anyhow::Result<SessionId> {
    let ending = match reference {
        SessionReference::Whole(session) => return Ok(*session),
        SessionReference::Ending(ending) => ending,
    };
    let mut found = Vec::new();
    let mut cursor = None;
    let mut searched = 0;
    loop {
        let page = client.sessions(cursor.as_deref(), PAGE).await?;
        searched += page.items.len();
        let ids = page.items.iter().map(|session| session.id);
        found.extend(ids.filter(|id| id.to_string().ends_with(ending)));
        cursor = page.next;
        if cursor.is_none() || searched >= SEARCHED_SESSIONS {
            break;
        }
    }
    match found[..] {
        [session] => Ok(session),
        [] => Err(Failure::new(Exit::Failed, format!("no session's id ends in {ending}"))
            .hint("hangar session list")
            .into()),
        _ => {
            let all: Vec<_> = found.iter().map(ToString::to_string).collect();
            let text = format!("{} sessions end in {ending}: {}", all.len(), all.join(", "));
            Err(Failure::new(Exit::Failed, text).hint("write more of its digits").into())
        }
    }
}

/// The text of a prompt: as written, or all of standard input for `-`.
pub(crate) fn prompt_text(written: &str) -> anyhow::Result<String> {
    if written != "-" {
        return Ok(written.to_owned());
    }
    let mut text = String::new();
    let limit = protocol::limits::PROMPT_BYTES as u64 + 1;
    std::io::stdin()
        .take(limit)
        .read_to_string(&mut text)
        .context("reading the prompt from standard input")?;
    Ok(text)
}
