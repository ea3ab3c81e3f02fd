//! What the server was asked and what it answered, out of the bytes of its connections in a trace.

use std::collections::HashMap;

use serde_json::Value;

use super::trace::Call;

/// A request and its answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// In small letters, as the path.
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) request: Value,
    /// Where the request began to arrive: from here on it may have been done.
    pub(crate) asked: usize,
    /// Where the answer began to leave, its status and its body: before this it must have been done.
    pub(crate) answered: Option<(usize, u16, Value)>,
}

#[derive(Debug, Default)]
struct Connection {
    received: Bytes,
    sent: Bytes,
}

/// The bytes of one direction, and where in the trace they begin.
#[derive(Debug, Default)]
struct Bytes {
    bytes: Vec<u8>,
    /// Length so far, and the place where what follows it begins.
    pieces: Vec<(usize, usize)>,
}

/// Every exchange on every connection. The connections speak HTTP/1.1 and JSON.
pub(crate) fn exchanges(calls: &[Call]) -> Vec<Exchange> {
    let mut open: HashMap<i64, Connection> = HashMap::new();
    let mut closed = Vec::new();
    for call in calls {
        let fd = call.args.first().and_then(|arg| arg.text.parse().ok()).unwrap_or(-1);
        match call.name.as_str() {
            "accept4" => closed.extend(open.insert(call.result, Connection::default())),
            "close" => closed.extend(open.remove(&fd)),
            "recvfrom" | "read" | "readv" => {
                if let Some(connection) = open.get_mut(&fd) {
                    connection.received.push(call);
                }
            }
            "sendto" | "write" | "writev" => {
                if let Some(connection) = open.get_mut(&fd) {
                    connection.sent.push(call);
                }
            }
            _ => {}
        }
    }
    closed.into_iter().chain(open.into_values()).flat_map(Connection::exchanges).collect()
}

impl Connection {
    fn exchanges(self) -> Vec<Exchange> {
        let mut answers = self.sent.messages().into_iter();
        let requests = self.received.messages().into_iter();
        requests
            .map(|request| Exchange {
                method: request.head.split(' ').next().unwrap().to_owned(),
                path: request.head.split(' ').nth(1).unwrap().to_owned(),
                request: request.body,
                asked: request.first,
                answered: answers.next().map(|answer| {
                    (answer.last, answer.head.split(' ').nth(1).unwrap().parse().unwrap(), answer.body)
                }),
            })
            .collect()
    }
}

struct Message {
    head: String,
    body: Value,
    /// Where the calls begin that its first and its last byte went through.
    first: usize,
    last: usize,
}

impl Bytes {
    fn push(&mut self, call: &Call) {
        self.pieces.push((self.bytes.len(), call.begin));
        self.bytes.extend_from_slice(&call.args[1].bytes[..usize::try_from(call.result).unwrap()]);
    }

    /// Where the call begins that a byte went through.
    fn place(&self, byte: usize) -> usize {
        self.pieces[self.pieces.partition_point(|(start, _)| *start <= byte) - 1].1
    }

    fn messages(&self) -> Vec<Message> {
        let (mut messages, mut at) = (Vec::new(), 0);
        while let Some(end) = self.bytes[at..].windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(self.bytes[at..at + end].to_vec()).unwrap().to_ascii_lowercase();
            assert!(!head.contains("transfer-encoding"), "a message without a length: {head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            let (start, stop) = (at + end + 4, at + end + 4 + length);
            let Some(body) = self.bytes.get(start..stop) else { break };
            let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap() };
            messages.push(Message { head, body, first: self.place(at), last: self.place(stop - 1) });
            at = stop;
        }
        messages
    }
}
