//! Puts an answer together from pieces that belong to numbered blocks.

use std::collections::HashSet;

use crate::conversation::{Answer, Call, Input, Part, Stop};

/// A part in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    Text(String),
    Thinking { text: String, signature: String },
    Sealed(String),
    Call { id: String, name: String, arguments: String },
}

/// Blocks in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    blocks: Vec<(u64, Block)>,
}

impl Assembly {
    /// The block of this number, begun now if it is new.
    pub(super) fn block(&mut self, number: u64, begin: impl FnOnce() -> Block) -> &mut Block {
        let position = self.blocks.iter().position(|(known, _)| *known == number);
        let position = position.unwrap_or_else(|| {
            self.blocks.push((number, begin()));
            self.blocks.len() - 1
        });
        &mut self.blocks[position].1
    }

    /// The block of this number, if it has begun.
    pub(super) fn existing(&mut self, number: u64) -> Option<&mut Block> {
        self.blocks.iter_mut().find(|(known, _)| *known == number).map(|(_, block)| block)
    }

    /// The complete answer. Calls get ids that are there and differ.
    pub(super) fn answer(self, stop: Stop) -> Answer {
        let mut ids = HashSet::new();
        let parts = self
            .blocks
            .into_iter()
            .filter_map(|(number, block)| match block {
                // Servers refuse a history with blank text.
                Block::Text(text) => (!text.trim().is_empty()).then_some(Part::Text { text }),
                Block::Thinking { text, signature } => Some(Part::Thinking { text, signature }),
                Block::Sealed(data) => Some(Part::SealedThinking { data }),
                Block::Call { mut id, name, arguments } => {
                    if id.is_empty() {
                        id = format!("call_{number}");
                    }
                    while !ids.insert(id.clone()) {
                        id.push('_');
                    }
                    Some(Part::Call(Call { id, name, input: Input::parse(&arguments) }))
                }
            })
            .collect();
        Answer { parts, stop }
    }

    /// The text so far.
    pub(super) fn text(self) -> String {
        self.blocks
            .into_iter()
            .filter_map(|(_, block)| match block {
                Block::Text(text) => Some(text),
                _ => None,
            })
            .collect::<Vec<_>>()
            .join("\n")
    }
}
