//! Secrets in every usual form, looked for all at once; made without the product's own code.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Being put together.
#[derive(Default)]
pub(crate) struct Known {
    patterns: Vec<Vec<u8>>,
    names: Vec<String>,
}

/// Ready.
pub(crate) struct Finder {
    automaton: AhoCorasick,
    names: Vec<String>,
    pub(crate) longest: usize,
}

impl Known {
    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        for form in forms(value) {
            self.patterns.push(form);
            self.names.push(name.to_owned());
        }
    }

    pub(crate) fn finish(self) -> Finder {
        let longest = self.patterns.iter().map(Vec::len).max().expect("some");
        let automaton = AhoCorasick::new(&self.patterns).expect("few patterns");
        Finder { automaton, names: self.names, longest }
    }
}

impl Finder {
    /// The names of what is in these bytes.
    pub(crate) fn find<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a str> {
        let found: BTreeSet<usize> = self
            .automaton
            .find_overlapping_iter(bytes)
            .map(|found| found.pattern().as_usize())
            .collect();
        let names: BTreeSet<&str> = found.into_iter().map(|at| self.names[at].as_str()).collect();
        names.into_iter()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    })
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("base64")
}

fn forms(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::from([value.to_vec()]);
    forms.insert(hex(value).into_bytes());
    forms.insert(hex(value).to_uppercase().into_bytes());
    for before in 0..3 {
        let padded = [&vec![0; before], value].concat();
        // Without the digits that depend on what stands around it.
        let (first, last) = ([0, 2, 3][before], padded.len() * 4 / 3);
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            forms.insert(text.as_bytes()[first..last].to_vec());
        }
    }
    let percent = value.iter().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) => {
            char::from(*byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    let percent: String = percent.collect();
    forms.insert(percent.to_lowercase().into_bytes());
    forms.insert(percent.into_bytes());
    forms
}
