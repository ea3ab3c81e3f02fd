//! The headers of a call that describe its job (CloudEvents, binary mode) and sign it (Standard Webhooks).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use protocol::job::DeliveredJob;
use sha2::Sha256;

use crate::clock::iso_time;

/// The characters that CloudEvents encodes in a header: all but printable ASCII, and the space, the quote and the percent
/// sign.
const CLOUD_EVENTS: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The attributes of CloudEvents 1.0. The source is the queue, and the time is when the job became ready.
pub(super) fn cloud_event(job: &DeliveredJob) -> [(&'static str, String); 5] {
    let text = |text: &str| utf8_percent_encode(text, CLOUD_EVENTS).to_string();
    // Encoded, so that it is a URI-reference for every queue name.
    let source = utf8_percent_encode(&job.queue, percent_encoding::NON_ALPHANUMERIC);
    [
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", job.id.to_string()),
        ("ce-type", text(&job.job_type)),
        ("ce-source", format!("/queues/{source}")),
        ("ce-time", iso_time(job.ready_at)),
    ]
}

/// The signatures of Standard Webhooks: one per key, so that keys can be rotated while both ends run.
pub(super) fn signature(secrets: &[Vec<u8>], id: &str, timestamp: u64, body: &[u8]) -> String {
    let mut header = String::new();
    for secret in secrets {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { continue };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        let space = if header.is_empty() { "" } else { " " };
        let encoded = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        if write!(header, "{space}v1,{encoded}").is_err() {
            tracing::debug!("cannot write a signature");
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference implementation.
    #[test]
    fn the_signature_of_the_specification() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let sign = |secrets: &[Vec<u8>]| {
            signature(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#)
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(std::slice::from_ref(&secret)), expected);
        let both = sign(&[vec![1; 24], secret]);
        assert!(both.starts_with("v1,") && both.ends_with(&format!(" {expected}")), "{both}");
    }
}
