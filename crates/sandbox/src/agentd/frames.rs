//! The framing of streamed bytes, both ways: one byte kind, four bytes length, payload.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::agentd::frame;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// One of [`protocol::agentd::frame`]'s kinds.
    pub kind: u8,
    /// What it carries.
    pub payload: Bytes,
}

/// A frame that announces more than [`frame::MAXIMUM`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes, more than any may have")]
pub struct FrameError(pub usize);

/// Takes the first complete frame out of `buffer`; none while it is incomplete.
pub fn decode_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(header) = buffer.first_chunk::<5>() else { return Ok(None) };
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > frame::MAXIMUM {
        return Err(FrameError(length));
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    let kind = buffer.get_u8();
    buffer.advance(4);
    Ok(Some(Frame { kind, payload: buffer.split_to(length).freeze() }))
}

/// Appends a frame; a payload longer than [`frame::MAXIMUM`] becomes several.
pub fn encode_frame(kind: u8, payload: &[u8], into: &mut BytesMut) {
    let mut put = |piece: &[u8]| {
        into.reserve(5 + piece.len());
        into.put_u8(kind);
        into.put_u32(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        into.put_slice(piece);
    };
    if payload.is_empty() {
        put(payload);
    }
    payload.chunks(frame::MAXIMUM).for_each(put);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut wire = BytesMut::new();
        encode_frame(frame::STDOUT, b"hello", &mut wire);
        encode_frame(frame::STDERR, b"", &mut wire);
        encode_frame(frame::STDOUT, &vec![7; frame::MAXIMUM + 1], &mut wire);
        for cut in [1, 4, 5, 6, 9, 4096] {
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                buffer.put_slice(piece);
                while let Some(frame) = decode_frame(&mut buffer).expect("well-formed") {
                    seen.push((frame.kind, frame.payload.len()));
                }
            }
            let expected = [(1, 5), (2, 0), (1, frame::MAXIMUM), (1, 1)];
            assert_eq!(seen, expected, "cut every {cut} bytes");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_buffered() {
        let mut buffer = BytesMut::from(&[frame::STDOUT, 0xff, 0, 0, 0][..]);
        assert_eq!(decode_frame(&mut buffer), Err(FrameError(0xff00_0000)));
    }
}
