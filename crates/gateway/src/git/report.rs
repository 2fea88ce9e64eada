//! A refused push in git's own words, so that the reason stands where people and agents look.

use super::commands::{Commands, printable};
use crate::Denial;

/// Longest text of one side-band packet, well under git's own 65,515.
const BAND_BYTES: usize = 60_000;

/// The body of the answer: each ref `ng` with the reason, and the hint as a remote message.
pub(crate) fn write(denial: &Denial, commands: &Commands) -> Vec<u8> {
    let understands = |word: &str| commands.capabilities.iter().any(|known| known == word);
    let mut report = Vec::new();
    if understands("report-status") || understands("report-status-v2") {
        packet(&mut report, b"unpack ok\n");
        for update in &commands.updates {
            let line = format!("ng {} {denial}\n", printable(&update.reference));
            packet(&mut report, line.as_bytes());
        }
        report.extend_from_slice(b"0000");
    }
    if !understands("side-band-64k") {
        return report;
    }
    let mut answer = Vec::new();
    band(&mut answer, 2, format!("denied: {denial}\nhint: {}\n", denial.hint()).as_bytes());
    for piece in report.chunks(BAND_BYTES) {
        band(&mut answer, 1, piece);
    }
    answer.extend_from_slice(b"0000");
    answer
}

fn band(answer: &mut Vec<u8>, number: u8, text: &[u8]) {
    let mut packet_text = vec![number];
    packet_text.extend_from_slice(text);
    packet(answer, &packet_text);
}

fn packet(answer: &mut Vec<u8>, text: &[u8]) {
    answer.extend_from_slice(format!("{:04x}", text.len() + 4).as_bytes());
    answer.extend_from_slice(text);
}
