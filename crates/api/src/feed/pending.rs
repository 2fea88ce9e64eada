//! Text in the making that waits for its turn.

use protocol::Event;
use protocol::client::{Delta, DeltaKind};

/// Bytes that wait at most for one session and client.
const MOST: usize = 64 * 1024;

/// Pieces of text, joined by what they belong to, in the order in which each began.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pieces: Vec<Delta>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.pieces.iter().map(|piece| piece.text.len()).sum::<usize>() >= MOST
    }

    pub(super) fn add(&mut self, delta: &Delta) {
        let same = |piece: &&mut Delta| piece.prompt == delta.prompt && piece.kind == delta.kind;
        match self.pieces.iter_mut().find(same) {
            Some(piece) => piece.text.push_str(&delta.text),
            None => self.pieces.push(delta.clone()),
        }
    }

    pub(super) fn take_first(&mut self) -> Option<Delta> {
        (!self.pieces.is_empty()).then(|| self.pieces.remove(0))
    }

    /// Drops what a recorded event says in whole.
    pub(super) fn forget_replaced(&mut self, event: &Event) {
        let (prompt, kind) = match event {
            Event::AgentMessage { prompt, .. } => (prompt, DeltaKind::Message),
            Event::AgentThought { prompt, .. } => (prompt, DeltaKind::Thought),
            Event::ToolCallFinished { prompt, .. } => (prompt, DeltaKind::ToolOutput),
            _ => return,
        };
        self.pieces.retain(|piece| piece.prompt != *prompt || piece.kind != kind);
    }
}
