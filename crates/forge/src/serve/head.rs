//! The head of a CGI answer: `Name: value` lines up to an empty one.

use std::io;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the longest head that is accepted; git's have a few hundred.
const LONGEST: usize = 16 * 1024;

/// Status and headers of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// Reads a head, and whatever of the body came with it.
pub(super) async fn read(output: &mut (impl AsyncRead + Unpin)) -> io::Result<(Head, Bytes)> {
    let mut read = BytesMut::with_capacity(4096);
    loop {
        if let Some((end, body)) = find_end(&read) {
            let head = parse(&read[..end])?;
            return Ok((head, read.split_off(body).freeze()));
        }
        if read.len() > LONGEST {
            return Err(io::Error::other("the head of git's answer is too long"));
        }
        if output.read_buf(&mut read).await? == 0 {
            return Err(io::Error::other("git ended without an answer"));
        }
    }
}

/// Where the head ends and where the body begins.
fn find_end(read: &[u8]) -> Option<(usize, usize)> {
    let find = |needle: &[u8]| read.windows(needle.len()).position(|window| window == needle);
    let windows = find(b"\r\n\r\n").map(|at| (at, at + 4));
    let unix = find(b"\n\n").map(|at| (at, at + 2));
    windows.into_iter().chain(unix).min()
}

fn parse(head: &[u8]) -> io::Result<Head> {
    let strange = || io::Error::other("the head of git's answer is malformed");
    let mut status = StatusCode::OK;
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(strange)?;
        let value = line[colon + 1..].trim_ascii();
        if line[..colon].eq_ignore_ascii_case(b"status") {
            status = StatusCode::from_bytes(value.get(..3).ok_or_else(strange)?)
                .map_err(|_| strange())?;
        } else {
            let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| strange())?;
            headers.append(name, HeaderValue::from_bytes(value).map_err(|_| strange())?);
        }
    }
    // The length of what git writes and how it is framed are the server's to say.
    headers.remove(http::header::TRANSFER_ENCODING);
    headers.remove(http::header::CONNECTION);
    Ok(Head { status, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(mut answer: &[u8]) -> io::Result<(Head, Bytes)> {
        read(&mut answer).await
    }

    #[tokio::test]
    async fn status_headers_and_the_beginning_of_the_body_are_told_apart() {
        let (head, body) =
            of(b"Status: 403 Forbidden\r\nX-Y: z\r\n\r\nbody\n\nmore").await.expect("a head");
        assert_eq!(head.status, StatusCode::FORBIDDEN);
        assert_eq!(head.headers["x-y"], "z");
        assert_eq!(head.headers.len(), 1);
        assert_eq!(&body[..], b"body\n\nmore");
    }

    #[tokio::test]
    async fn a_head_without_status_is_a_success() {
        let (head, body) = of(b"Content-Type: a/b\n\n").await.expect("a head");
        assert_eq!((head.status, body.len()), (StatusCode::OK, 0));
    }

    #[tokio::test]
    async fn what_is_no_head_is_an_error() {
        let long = vec![b'x'; LONGEST + 10];
        for answer in
            [b"".as_slice(), b"Status: 200", b"no colon\r\n\r\n", b"Status: 2\r\n\r\n", &long]
        {
            assert!(of(answer).await.is_err());
        }
    }
}
