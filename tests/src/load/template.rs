//! Requests that are built once and stamped with the numbers of other jobs each time.

use memchr::memmem;

/// Where the number of a job is put, in its payload and maybe elsewhere. Digits take as much room.
pub(super) const MARK: &str = "@@@@@@@@@@";
/// Digits of a job's number.
pub(super) const DIGITS: usize = MARK.len();
/// What a payload is around its filling.
const AROUND: (&str, &str) = (r#"{"n":"@@@@@@@@@@","pad":""#, r#""}"#);
/// The shortest payload.
pub(super) const MIN_PAYLOAD_BYTES: usize = AROUND.0.len() + AROUND.1.len();

/// A payload of so many bytes, with a mark for its number.
pub(super) fn payload(bytes: usize) -> String {
    format!("{}{}{}", AROUND.0, "x".repeat(bytes - MIN_PAYLOAD_BYTES), AROUND.1)
}

/// A request for some jobs.
#[derive(Debug, Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where the numbers of each job stand.
    marks: Vec<Vec<usize>>,
}

impl Template {
    /// The text of a job so many times, between a head and a tail.
    pub(super) fn new(head: &[u8], job: &[u8], between: &[u8], tail: &[u8], jobs: u32) -> Self {
        let places: Vec<usize> = memmem::find_iter(job, MARK).collect();
        let mut bytes = head.to_vec();
        let mut marks = Vec::with_capacity(jobs as usize);
        for i in 0..jobs {
            if i > 0 {
                bytes.extend_from_slice(between);
            }
            marks.push(places.iter().map(|place| bytes.len() + place).collect());
            bytes.extend_from_slice(job);
        }
        bytes.extend_from_slice(tail);
        Self { bytes, marks }
    }

    /// How many jobs it is for.
    pub(super) fn jobs(&self) -> usize {
        self.marks.len()
    }

    /// The request, for the jobs `first` and following.
    pub(super) fn stamp(&mut self, first: u32) -> &[u8] {
        for (n, places) in (first..).zip(&self.marks) {
            for &at in places {
                let mut rest = n;
                for digit in self.bytes[at..at + DIGITS].iter_mut().rev() {
                    *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
                    rest /= 10;
                }
            }
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamped() {
        assert_eq!(payload(100).len(), 100);
        let mut template = Template::new(b"[", payload(MIN_PAYLOAD_BYTES).as_bytes(), b",", b"]", 3);
        for first in [0, 4_294_967_290] {
            let list: serde_json::Value = serde_json::from_slice(template.stamp(first)).unwrap();
            for (payload, n) in list.as_array().unwrap().iter().zip(first..) {
                assert_eq!(payload["n"].as_str().unwrap().parse(), Ok(n));
            }
        }
        assert_eq!(
            Template::new(b"", b"q-@@@@@@@@@@ @@@@@@@@@@;", b"", b"", 1).stamp(7),
            b"q-0000000007 0000000007;"
        );
    }
}
