//! The end of an attempt's output, in bytes from its beginning. It is stored in chunks of one size, as a ring: the
//! newest replaces the oldest, so nothing has to be removed while a job prints.

use std::collections::BTreeMap;

use protocol::log::MAX_KEPT_BYTES;

use super::text::{is_continued, is_end};

/// The size of a stored chunk, in bytes. The last one may be smaller.
pub(super) const CHUNK: usize = 4096;
/// This many chunks hold all that is kept and the byte before it, at any offset.
pub(super) const CHUNKS: u64 = MAX_KEPT_BYTES.div_ceil(CHUNK) as u64 + 2;

/// Keeps the end of a cut line if there is room for more than this many bytes of it; otherwise what is kept begins with
/// a whole line.
const MAX_UNTOLD: usize = 1024;

/// The known output of one attempt.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Where `text` begins: at the start of a chunk.
    start: u64,
    text: Vec<u8>,
    /// Everything before this is stored.
    stored: u64,
}

/// A part of an attempt's output.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// How many bytes after the requested position are no longer kept.
    pub missed: u64,
    /// Lines; the first may be cut at its start.
    pub text: Vec<u8>,
    /// Where it ends.
    pub end: u64,
}

impl Tail {
    /// Builds the tail from chunks by number. Some may be left from an earlier round of the ring.
    pub(super) fn of_chunks(mut chunks: BTreeMap<u64, Vec<u8>>) -> Self {
        let Some((last, bytes)) = chunks.pop_last() else { return Self::default() };
        let (mut first, mut parts) = (last, vec![bytes]);
        while let Some((number, bytes)) = chunks.pop_last()
            && number + 1 == first
            && bytes.len() == CHUNK
        {
            first = number;
            parts.push(bytes);
        }
        let text: Vec<u8> = parts.into_iter().rev().flatten().collect();
        let start = first * CHUNK as u64;
        Self { start, stored: start + text.len() as u64, text }
    }

    /// Where the output ends.
    pub(super) const fn end(&self) -> u64 {
        self.start + self.text.len() as u64
    }

    /// Its memory, in bytes.
    pub(super) const fn weight(&self) -> usize {
        self.text.len()
    }

    /// Whether some of it is not stored yet.
    pub(super) const fn is_new(&self) -> bool {
        self.stored < self.end()
    }

    /// Whether none of it is stored.
    pub(super) const fn is_all_new(&self) -> bool {
        self.stored == 0
    }

    pub(super) fn push(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
        let last = self.end() / CHUNK as u64;
        let first = (last + 1).saturating_sub(CHUNKS) * CHUNK as u64;
        if let Ok(surplus @ 1..) = usize::try_from(first.saturating_sub(self.start)) {
            self.text.drain(..surplus.min(self.text.len()));
            self.start = first;
        }
    }

    /// The chunks that changed since they were stored, by number.
    pub(super) fn new_chunks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let first = self.start / CHUNK as u64;
        let chunks = (first..).zip(self.text.chunks(CHUNK));
        let is_new = |number: u64| (number + 1) * CHUNK as u64 > self.stored;
        chunks.filter(move |(number, _)| self.is_new() && is_new(*number))
    }

    /// Marks all new chunks as stored.
    pub(super) const fn set_stored(&mut self) {
        self.stored = self.end();
    }

    /// What is kept after `from`. A position past the end starts over.
    pub(super) fn part(&self, from: u64) -> Part {
        let end = self.end();
        let kept = self.kept_from();
        let from = if from > end { kept } else { from };
        let begin = from.max(kept);
        let text = usize::try_from(begin - self.start).ok().and_then(|at| self.text.get(at..));
        Part { missed: begin - from, text: text.unwrap_or_default().to_vec(), end }
    }

    /// Where the first kept line begins: whole, or cut if much would be lost otherwise.
    fn kept_from(&self) -> u64 {
        let limit = self.end().saturating_sub(MAX_KEPT_BYTES as u64);
        if limit == 0 && self.start == 0 {
            return 0;
        }
        // A line begins after the end of another.
        let before = limit.saturating_sub(1).max(self.start);
        let at = usize::try_from(before - self.start).unwrap_or(usize::MAX);
        let rest = self.text.get(at..).unwrap_or_default();
        let line = rest.iter().position(|&byte| is_end(byte)).map_or(rest.len(), |end| end + 1);
        if line > MAX_UNTOLD {
            // Do not cut within a character.
            let within = rest.iter().skip(1).take_while(|&&byte| is_continued(byte)).count();
            return before + 1 + within as u64;
        }
        before + line as u64
    }
}

#[cfg(test)]
mod tests {
    use protocol::log::Output;

    use super::super::text;
    use super::*;

    fn stored(tail: &mut Tail, ring: &mut BTreeMap<u64, (u64, Vec<u8>)>) {
        for (number, bytes) in tail.new_chunks() {
            ring.insert(number % CHUNKS, (number, bytes.to_vec()));
        }
        tail.set_stored();
    }

    fn lines(text: &[u8]) -> Vec<String> {
        text::lines(text).map(|(_, line)| line.into_owned()).collect()
    }

    /// The last lines that fit.
    fn expected(all: &[String]) -> Vec<String> {
        let mut room = MAX_KEPT_BYTES;
        let mut kept = Vec::new();
        for line in all.iter().rev() {
            if let Some(left) = room.checked_sub(line.len() + 1) {
                room = left;
                kept.push(line.clone());
                continue;
            }
            if room >= MAX_UNTOLD {
                kept.push(line[line.len() + 1 - room..].to_owned());
            }
            break;
        }
        kept.reverse();
        kept
    }

    #[test]
    fn the_last_lines_of_any_output_are_kept() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut tail, mut ring) = (Tail::default(), BTreeMap::new());
            let (mut all, mut seen, mut at) = (Vec::new(), Vec::new(), 0);
            for n in 0..random.usize(1..400) {
                let length =
                    [0, 3, 90, 5_000, MAX_KEPT_BYTES - 1][random.usize(0..5).min(random.usize(0..5))];
                let line: String = format!("{n} ").chars().cycle().take(length).collect();
                let mut printed = Vec::new();
                text::push(&mut printed, Output::Stdout, &line);
                all.push(line);
                tail.push(&printed);
                assert!(tail.weight() as u64 <= CHUNK as u64 * CHUNKS);
                if random.u8(..) < 30 {
                    stored(&mut tail, &mut ring);
                }
                if random.u8(..) < 10 {
                    // Dropped and loaded again.
                    stored(&mut tail, &mut ring);
                    let again = Tail::of_chunks(ring.values().cloned().collect());
                    assert_eq!(again.part(0), tail.part(0), "seed {seed}");
                    tail = again;
                }
                if random.u8(..) < 60 {
                    let part = tail.part(at);
                    if part.missed > 0 {
                        seen.clear();
                    }
                    seen.extend(lines(&part.text));
                    at = part.end;
                }
            }
            let part = tail.part(0);
            assert_eq!(part.end, all.iter().map(|line| line.len() as u64 + 1).sum::<u64>(), "seed {seed}");
            assert_eq!(part.missed + part.text.len() as u64, part.end, "seed {seed}");
            assert_eq!(lines(&part.text), expected(&all), "seed {seed}");
            let last = tail.part(at);
            if last.missed > 0 {
                seen.clear();
            }
            seen.extend(lines(&last.text));
            if let Some((first, rest)) = seen.split_first() {
                let (before, last) = all.split_at(all.len() - rest.len());
                assert_eq!(rest, last, "seed {seed}: what follows is what was printed");
                assert!(before.last().is_some_and(|line| line.ends_with(first)), "seed {seed}");
            }
        }
    }

    #[test]
    fn the_end_of_a_long_line_before_the_last_is_kept() {
        let mut printed = Vec::new();
        text::push(&mut printed, Output::Stdout, &"ä".repeat(32_000));
        text::push(&mut printed, Output::Stdout, &"y".repeat(2_000));
        let mut tail = Tail::default();
        tail.push(&printed);
        let part = tail.part(0);
        let [cut, whole] = &lines(&part.text)[..] else { panic!("{}", lines(&part.text).len()) };
        assert_eq!(
            (cut.len(), whole.len()),
            (63_534, 2_000),
            "one byte less than fits, to keep characters whole"
        );
        assert!(cut.chars().all(|letter| letter == 'ä'));
        assert_eq!(part.missed + part.text.len() as u64, part.end);
    }

    #[test]
    fn a_position_that_was_lost_in_a_crash_starts_over() {
        let mut tail = Tail::default();
        tail.push(b"a\xffb\xff");
        assert_eq!(tail.part(2), Part { missed: 0, text: b"b\xff".to_vec(), end: 4 });
        assert_eq!(tail.part(4), Part { missed: 0, text: Vec::new(), end: 4 });
        assert_eq!(tail.part(9), Part { missed: 0, text: b"a\xffb\xff".to_vec(), end: 4 });
    }

    #[test]
    fn chunks_that_do_not_fit_together_are_skipped() {
        let chunk = |byte: u8, len: usize| vec![byte; len];
        let chunks =
            BTreeMap::from([(7, chunk(b'a', CHUNK)), (9, chunk(b'b', CHUNK)), (10, b"c\xffd\xff".to_vec())]);
        let tail = Tail::of_chunks(chunks);
        assert_eq!((tail.start, tail.end()), (9 * CHUNK as u64, 10 * CHUNK as u64 + 4));
        let text = tail.part(0).text;
        assert!(text.ends_with(b"bc\xffd\xff") && text.len() == CHUNK + 3, "also the end of the first line");
        assert_eq!(Tail::of_chunks(BTreeMap::new()), Tail::default());
    }
}
