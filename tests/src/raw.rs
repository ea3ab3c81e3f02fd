//! HTTP/1.1 by the byte, for requests that no client library would send.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Answer;
use crate::wait::within;

/// Opens a connection and sends these bytes.
pub async fn send(address: &str, bytes: &[u8]) -> TcpStream {
    let mut connection = within("a connection", TcpStream::connect(address)).await.unwrap();
    within("the request to be taken", connection.write_all(bytes)).await.unwrap();
    connection
}

/// Sends more bytes. The other side may have closed the connection.
pub async fn send_more(connection: &mut TcpStream, bytes: &[u8]) {
    drop(within("more bytes to be taken", connection.write_all(bytes)).await);
}

/// Reads until `enough` says so of everything that was read, or to the end.
pub async fn read_until(connection: &mut TcpStream, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut received = Vec::new();
    while !enough(&received) {
        let read = within("bytes on a connection", connection.read_buf(&mut received)).await;
        if matches!(read, Ok(0) | Err(_)) {
            break;
        }
    }
    received
}

/// The body of an answer that came in chunks, as far as it was read.
///
/// # Panics
/// When it is no such answer.
#[must_use]
pub fn body_of_chunks(received: &[u8]) -> Vec<u8> {
    let mut rest = after(received, b"\r\n\r\n").expect("the end of the head");
    let mut body = Vec::new();
    while let Some(data) = after(rest, b"\r\n") {
        let length = std::str::from_utf8(&rest[..rest.len() - data.len() - 2]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        body.extend_from_slice(&data[..length.min(data.len())]);
        rest = data.get(length + 2..).unwrap_or_default();
    }
    body
}

/// What comes after the first `mark`.
fn after<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some(&bytes[at + mark.len()..])
}

/// Sends one request on a connection of its own. `head` is the request line and the headers, each with its CRLF.
pub async fn exchange(address: &str, head: &[u8], body: &[u8]) -> Answer {
    let fixed = format!("host: {address}\r\nconnection: close\r\n\r\n");
    let bytes = [head, fixed.as_bytes(), body].concat();
    let mut connection = within("a connection", TcpStream::connect(address)).await.unwrap();
    let (mut reader, mut writer) = connection.split();
    let mut received = Vec::new();
    // The answer may come before the request has gone out in full, and then nobody reads the rest of it.
    let (_, read) = within("an answer", async {
        tokio::join!(writer.write_all(&bytes), reader.read_to_end(&mut received))
    })
    .await;
    let request = String::from_utf8_lossy(head.split(|&byte| byte == b'\r').next().unwrap()).into_owned();
    assert!(read.is_ok() || !received.is_empty(), "{request}: {read:?}");
    parse(request, &received)
}

fn parse(request: String, bytes: &[u8]) -> Answer {
    let body = after(bytes, b"\r\n\r\n");
    let body = body.unwrap_or_else(|| panic!("{request}: no answer in {:?}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..bytes.len() - body.len() - 4]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value.trim()).unwrap());
    }
    assert!(!headers.contains_key("transfer-encoding"), "{request}: a short answer should state its length");
    Answer { request, status, headers, body: Bytes::copy_from_slice(body) }
}
