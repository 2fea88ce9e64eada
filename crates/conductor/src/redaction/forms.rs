//! The forms in which a value turns up by accident: as it is, encoded, one line of several.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use protocol::limits::REDACTED_BYTES;

/// Bytes a value, or one line of it, needs for its encoded forms to be told from chance.
const ENCODED_BYTES: usize = 8;
/// Longer values are looked for as they are: the machine that finds them grows with every form.
const ENCODED_MOST: usize = 4096;

/// Every form of a value; none if it is too short to be looked for.
pub(super) fn of(value: &str) -> BTreeSet<String> {
    let value = value.trim();
    let mut forms = BTreeSet::new();
    if value.len() < REDACTED_BYTES {
        return forms;
    }
    forms.insert(value.to_owned());
    if value.contains('\n') {
        // A tool that prints a key with margins prints its lines. Their first and last one say only
        // that it is a key.
        let lines = value.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        forms.extend(lines.filter(|line| line.len() >= 2 * ENCODED_BYTES).map(str::to_owned));
    }
    if (ENCODED_BYTES..=ENCODED_MOST).contains(&value.len()) {
        forms.extend(base64(value.as_bytes()));
        let upper = percent(value, "%20", |byte| format!("%{byte:02X}"));
        forms.insert(percent(value, "%20", |byte| format!("%{byte:02x}")));
        forms.insert(percent(value, "+", |byte| format!("%{byte:02X}")));
        forms.insert(upper);
        let hex = hex(value.as_bytes());
        forms.insert(hex.to_uppercase());
        forms.insert(hex);
        if let Ok(quoted) = serde_json::to_string(value) {
            forms.insert(quoted[1..quoted.len() - 1].to_owned());
        }
    }
    forms
}

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

/// The digits that a value has in base64 wherever it begins: those that also depend on what stands
/// before or behind it are left out.
fn base64(value: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let padded = [&[0; 2][..before], value].concat();
        let first = (before * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            forms.push(encoded[first..last].to_owned());
        }
    }
    forms
}

fn percent(value: &str, space: &str, escape: impl Fn(u8) -> String) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b' ' => text.push_str(space),
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&escape(byte)),
        }
        text
    })
}
