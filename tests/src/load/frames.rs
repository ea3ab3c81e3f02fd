//! Deliveries out of the bytes of a stream, looking at no more of them than needed.

use anyhow::{Context, Result, bail};
use memchr::{memchr, memmem};

use super::args::Format;
use super::template::DIGITS;

/// A job that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Its number, out of its payload.
    pub(super) n: u32,
    /// Its id.
    pub(super) id: [u8; 25],
    /// Its lease, where the server has such a thing.
    pub(super) lease: Option<[u8; 16]>,
}

/// Reads every whole frame of `bytes` and says how many bytes that were.
pub(super) fn read(format: Format, bytes: &[u8], mut on_job: impl FnMut(Delivery)) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..)
        && let Some(frame) = next(format, rest)?
    {
        done += frame.len;
        if let Some(body) = frame.job {
            let job = delivery(format, body);
            on_job(job.with_context(|| format!("not a job of ours: {}", String::from_utf8_lossy(body)))?);
        }
    }
    Ok(done)
}

struct Frame<'a> {
    len: usize,
    /// What there is to read, unless it is a heartbeat or a control event.
    job: Option<&'a [u8]>,
}

fn next(format: Format, bytes: &[u8]) -> Result<Option<Frame<'_>>> {
    Ok(match format {
        Format::Ndjson => memchr(b'\n', bytes).map(|end| {
            let line = &bytes[..end];
            Frame { len: end + 1, job: (line.len() > 1).then_some(line) }
        }),
        Format::Msgpack => bytes.split_first_chunk().and_then(|(&len, rest)| {
            let len = u32::from_be_bytes(len) as usize;
            rest.get(..len).map(|body| Frame { len: 4 + len, job: (len > 0).then_some(body) })
        }),
        Format::Sse => {
            memmem::find(bytes, b"\n\n").map(|end| Frame { len: end + 2, job: event(&bytes[..end]) })
        }
    })
    .and_then(|frame| match frame {
        None if bytes.len() > 64 << 20 => bail!("a frame of more than 64 MiB"),
        frame => Ok(frame),
    })
}

/// The data of an unnamed event. Only our own server is asked for events, and it ends lines in LF.
fn event(bytes: &[u8]) -> Option<&[u8]> {
    let mut data = None;
    for line in bytes.split(|&byte| byte == b'\n') {
        if line.starts_with(b"event:") {
            return None;
        }
        data = data.or(line.strip_prefix(b"data: "));
    }
    data
}

fn delivery(format: Format, frame: &[u8]) -> Option<Delivery> {
    let [id, lease, n]: [&[u8]; 3] = match format {
        Format::Ndjson | Format::Sse => [b"\"id\":\"", b"\"lease\":\"", NUMBER],
        // Strings of 25, 16 and 10 bytes behind their keys.
        Format::Msgpack => [b"\xa2id\xb9", b"\xa5lease\xb0", b"\xa1n\xaa"],
    };
    let n = number(frame, n)?;
    Some(Delivery { n, id: *after(frame, id)?, lease: after(frame, lease).copied() })
}

/// What stands before the number in a payload of JSON.
pub(super) const NUMBER: &[u8] = b"\"n\":\"";

/// The number of a job, behind a mark.
pub(super) fn number(bytes: &[u8], mark: &[u8]) -> Option<u32> {
    let digits: &[u8; DIGITS] = after(bytes, mark)?;
    digits.iter().try_fold(0_u32, |n, &digit| {
        let digit = char::from(digit).to_digit(10)?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// The bytes behind a mark, which mostly stands near the start.
fn after<'a, const N: usize>(frame: &'a [u8], mark: &[u8]) -> Option<&'a [u8; N]> {
    let at = memmem::find(frame, mark)? + mark.len();
    frame.get(at..)?.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = concat!(
        r#"{"id":"0123456789abcdefghijklmno","type":"load","queue":"q","lease":"00000000000000ff","#,
        r#""payload":{"n":"0000000042","pad":"xx"}}"#
    );

    fn all(format: Format, bytes: &[u8]) -> (usize, Vec<u32>) {
        let mut numbers = Vec::new();
        let read = read(format, bytes, |job| {
            assert_eq!(&job.id, b"0123456789abcdefghijklmno");
            assert_eq!(job.lease, Some(*b"00000000000000ff"));
            numbers.push(job.n);
        });
        (read.unwrap(), numbers)
    }

    #[test]
    fn lines_and_events() {
        let lines = format!("\n{JSON}\n\n{JSON}\n{{\"id");
        assert_eq!(all(Format::Ndjson, lines.as_bytes()), (lines.len() - 4, vec![42, 42]));
        let events =
            format!("retry: 1\nevent: hello\ndata: {{}}\n\n: heartbeat\nid: s:1\ndata: {JSON}\n\nid: s");
        assert_eq!(all(Format::Sse, events.as_bytes()), (events.len() - 5, vec![42]));
    }

    #[test]
    fn messagepack() {
        let value: serde_json::Value = serde_json::from_str(JSON).unwrap();
        let body = rmp_serde::to_vec_named(&value).unwrap();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let stream = [&[0; 4][..], &length, &body, &length, &body[1..]].concat();
        assert_eq!(all(Format::Msgpack, &stream), (8 + body.len(), vec![42]));
    }

    #[test]
    fn a_job_of_somebody_else_is_an_error() {
        assert!(read(Format::Ndjson, b"{\"id\":\"0123456789abcdefghijklmno\"}\n", |_| ()).is_err());
    }
}
