//! The list of ref updates at the start of a push, as `git-receive-pack` defines it.

use crate::Denial;

/// What a push wants to do to refs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Commands {
    pub(crate) updates: Vec<Update>,
    /// What the client understands, such as `report-status` and `side-band-64k`.
    pub(crate) capabilities: Vec<String>,
}

/// One ref and its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    /// As sent; `None` of it is trusted to be text.
    pub(crate) reference: Vec<u8>,
    pub(crate) deletes: bool,
}

/// How far a list could be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// More bytes are needed.
    Incomplete,
    /// To its end; what follows is the pack.
    Complete(Commands),
    /// It is none, or one that cannot be judged.
    Refused(&'static str),
}

/// Reads the list from the first bytes of a push.
pub(crate) fn read(mut bytes: &[u8]) -> Reading {
    let mut commands = Commands::default();
    loop {
        let Some((length, rest)) = bytes.split_at_checked(4) else { return Reading::Incomplete };
        let length = match packet_length(length) {
            Some(0) => return Reading::Complete(commands),
            Some(length) if length > 4 => length,
            _ => return Reading::Refused("it does not begin with a list of refs"),
        };
        let Some((packet, rest)) = rest.split_at_checked(length - 4) else {
            return Reading::Incomplete;
        };
        bytes = rest;
        if let Err(what) = commands.take(packet) {
            return Reading::Refused(what);
        }
    }
}

fn packet_length(digits: &[u8]) -> Option<usize> {
    // `from_str_radix` also takes a sign, which git does not.
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
    usize::from_str_radix(digits, 16).ok()
}

impl Commands {
    fn take(&mut self, packet: &[u8]) -> Result<(), &'static str> {
        if packet.starts_with(b"push-cert") {
            return Err("signed pushes hide their list of refs in a certificate");
        }
        if packet.starts_with(b"shallow ") {
            return Ok(());
        }
        let mut parts = packet.splitn(2, |byte| *byte == 0);
        let command = parts.next().unwrap_or_default();
        if let Some(capabilities) = parts.next()
            && self.updates.is_empty()
        {
            let words = String::from_utf8_lossy(capabilities);
            self.capabilities = words.split_whitespace().map(str::to_owned).collect();
        }
        let command = command.strip_suffix(b"\n").unwrap_or(command);
        let mut words = command.splitn(3, |byte| *byte == b' ');
        let (old, new, reference) = (words.next(), words.next(), words.next());
        let (Some(old), Some(new), Some(reference)) = (old, new, reference) else {
            return Err("a line of its list names no ref");
        };
        if !is_object_id(old) || !is_object_id(new) {
            return Err("a line of its list names no objects");
        }
        let deletes = new.iter().all(|digit| *digit == b'0');
        self.updates.push(Update { reference: reference.to_vec(), deletes });
        Ok(())
    }

    /// The first reason why these updates may not happen.
    pub(crate) fn judge(&self, prefix: &str) -> Result<(), Denial> {
        for update in &self.updates {
            if !within(&update.reference, prefix) {
                return Err(Denial::GitReference {
                    reference: printable(&update.reference),
                    prefix: prefix.to_owned(),
                });
            }
            if update.deletes {
                return Err(Denial::GitDeletion { reference: printable(&update.reference) });
            }
        }
        Ok(())
    }
}

fn is_object_id(text: &[u8]) -> bool {
    matches!(text.len(), 40 | 64) && text.iter().all(u8::is_ascii_hexdigit)
}

/// Whether a ref is the prefix itself or continues it at a word's end: the prefix for session
/// `1a2b` must not open the branches of `1a2b3c`.
fn within(reference: &[u8], prefix: &str) -> bool {
    let clean = !reference.windows(2).any(|pair| pair == b"..")
        && reference.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    let continues = reference
        .strip_prefix(prefix.as_bytes())
        .is_some_and(|rest| rest.first().is_none_or(|byte| matches!(byte, b'-' | b'/')));
    clean && continues && prefix.starts_with("refs/heads/")
}

/// A ref for people: bounded, without control characters.
pub(crate) fn printable(reference: &[u8]) -> String {
    String::from_utf8_lossy(reference)
        .chars()
        .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0000000000000000000000000000000000000000";
    const NEW: &str = "1111111111111111111111111111111111111111";

    fn packet(text: &str) -> String {
        format!("{:04x}{text}", text.len() + 4)
    }

    fn list(lines: &[String]) -> Vec<u8> {
        let mut text: String = lines.iter().map(|line| packet(line)).collect();
        text.push_str("0000PACK…");
        text.into_bytes()
    }

    fn judged(reference: &str, new: &str) -> Result<(), Denial> {
        let bytes = list(&[format!("{OLD} {new} {reference}\0 report-status side-band-64k")]);
        let Reading::Complete(commands) = read(&bytes) else { panic!("not read") };
        assert_eq!(commands.capabilities, ["report-status", "side-band-64k"]);
        commands.judge("refs/heads/hangar/1a2b3c4d")
    }

    #[test]
    fn only_refs_of_the_session_pass() {
        for good in ["", "-fix-it", "/two"] {
            assert_eq!(judged(&format!("refs/heads/hangar/1a2b3c4d{good}"), NEW), Ok(()), "{good}");
        }
        for bad in [
            "refs/heads/main",
            "refs/heads/hangar/1a2b3c4d5",
            "refs/heads/hangar/1a2b3c4",
            "refs/heads/hangar/1a2b3c4d/../main",
            "refs/heads/hangar/1a2b3c4d-x\u{1b}[2J",
            "refs/heads/hangar/1a2b3c4d-x refs/heads/main",
            "refs/tags/hangar/1a2b3c4d",
            "refs/heads/HANGAR/1a2b3c4d",
            "HEAD",
            "",
        ] {
            assert!(
                matches!(judged(bad, NEW), Err(Denial::GitReference { .. })),
                "{bad} was let through"
            );
        }
    }

    #[test]
    fn deletions_are_refused() {
        let denial = judged("refs/heads/hangar/1a2b3c4d-x", OLD).expect_err("deletes");
        assert!(matches!(denial, Denial::GitDeletion { .. }));
    }

    #[test]
    fn one_bad_ref_among_good_ones_is_found() {
        let bytes = list(&[
            format!("shallow {NEW}"),
            format!("{OLD} {NEW} refs/heads/hangar/1a2b3c4d\0atomic"),
            format!("{OLD} {NEW} refs/heads/main\n"),
        ]);
        let Reading::Complete(commands) = read(&bytes) else { panic!("not read") };
        assert_eq!(commands.updates.len(), 2);
        assert!(commands.judge("refs/heads/hangar/1a2b3c4d").is_err());
    }

    #[test]
    fn any_cut_is_incomplete_and_never_complete_too_early() {
        let bytes = list(&[format!("{OLD} {NEW} refs/heads/x\0atomic")]);
        let end = bytes.windows(4).rposition(|four| four == b"PACK").expect("the pack follows");
        for cut in 0..end {
            assert_eq!(read(&bytes[..cut]), Reading::Incomplete, "cut at {cut}");
        }
        assert!(matches!(read(&bytes[..end]), Reading::Complete(_)));
    }

    #[test]
    fn a_probe_without_updates_passes() {
        assert_eq!(read(b"0000"), Reading::Complete(Commands::default()));
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        for bytes in [
            b"PACK....".to_vec(),
            b"0001".to_vec(),
            b"0004".to_vec(),
            b"+00f".to_vec(),
            list(&["push-cert\0report-status".to_owned()]),
            list(&[format!("{OLD} {NEW}")]),
            list(&[format!("{OLD} nothex refs/heads/x")]),
        ] {
            assert!(matches!(read(&bytes), Reading::Refused(_)), "{bytes:?}");
        }
    }
}
