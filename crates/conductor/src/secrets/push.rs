//! Looks for known values in what is pushed, for the forge, which knows no secrets.

use std::sync::Arc;

use crate::redaction::{Redaction, Redactor, Scanner};

/// The forge's way to ask.
#[derive(Debug)]
pub(crate) struct Inspector(pub(crate) Redaction);

impl forge::Inspector for Inspector {
    fn begin(&self) -> Option<Box<dyn forge::Inspection>> {
        let known = self.0.current();
        let looks_for_something = !known.is_empty();
        looks_for_something.then(|| Box::new(Inspection { known, kept: Vec::new() }) as Box<_>)
    }
}

struct Inspection {
    known: Arc<Redactor>,
    kept: Vec<u8>,
}

impl forge::Inspection for Inspection {
    fn start(&mut self) {
        self.kept.clear();
    }

    fn feed(&mut self, piece: &[u8]) -> Option<String> {
        let mut scanner = Scanner::resume(&self.known, std::mem::take(&mut self.kept));
        let found = scanner.feed(piece).map(|name| format!("the secret {name}"));
        self.kept = scanner.into_kept();
        found
    }
}
