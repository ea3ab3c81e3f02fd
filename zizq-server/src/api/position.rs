//! Positions in lists: any text has a place in the lexical order of the items.

use protocol::id::JobId;

const RADIX: u128 = 36;

/// The place of a text among numbers.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// At this number.
    At(u128),
    /// After this number and before the next.
    Behind(u128),
    /// Before all of them.
    First,
}

/// Returns the id after which (in descending order: before which) a list continues; `None` starts at the beginning.
pub(super) fn among_jobs(text: &str, descending: bool) -> Option<JobId> {
    let id = match (place(text, JobId::TEXT_LEN), descending) {
        (Place::At(id) | Place::Behind(id), false) | (Place::At(id), true) => id,
        (Place::Behind(id), true) => id.saturating_add(1),
        (Place::First, true) => 0,
        (Place::First, false) => return None,
    };
    Some(JobId::from_u128(id))
}

/// Whether an attempt comes after the text, or before it in descending order.
pub(super) fn is_behind_attempt(attempt: u32, text: &str, descending: bool) -> bool {
    let attempt = u128::from(attempt);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text.get(..digits).unwrap_or_default();
    let place = match text.as_bytes().get(digits) {
        None => Place::At(number.parse().unwrap_or(u128::MAX)),
        Some(b'0'..) if digits == 0 => Place::Behind(u128::MAX),
        Some(_) if digits == 0 => Place::First,
        Some(_) => Place::Behind(number.parse().unwrap_or(u128::MAX)),
    };
    match place {
        Place::At(n) => {
            if descending {
                attempt < n
            } else {
                attempt > n
            }
        }
        Place::Behind(n) => {
            if descending {
                attempt <= n
            } else {
                attempt > n
            }
        }
        Place::First => !descending,
    }
}

/// Returns the place of a text among numbers that are written with this number of digits `[0-9a-z]`.
fn place(text: &str, digits: usize) -> Place {
    const LAST: u128 = RADIX - 1;
    let before = |n: u128| n.checked_sub(1).map_or(Place::First, Place::Behind);
    let append = |n: u128, digit: u128| n.saturating_mul(RADIX).saturating_add(digit);
    // Fills up the text so far with the lowest or the highest digits.
    let filled = |n: u128, done: usize, digit: u128| (done..digits).fold(n, |n, _| append(n, digit));
    let mut n = 0;
    let mut bytes = text.bytes();
    for done in 0..digits {
        let digit = match bytes.next() {
            Some(digit @ b'0'..=b'9') => digit - b'0',
            Some(digit @ b'a'..=b'z') => digit - b'a' + 10,
            // The text ends here, or continues with a character that sorts before every digit.
            None | Some(..b'0') => return before(filled(n, done, 0)),
            Some(..b'a') => return Place::Behind(filled(append(n, 9), done + 1, LAST)),
            Some(_) => return Place::Behind(filled(n, done, LAST)),
        };
        n = append(n, u128::from(digit));
    }
    if bytes.next().is_none() { Place::At(n) } else { Place::Behind(n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares positions of few digits with the lexical order.
    #[test]
    fn every_text_has_the_place_that_its_letters_give_it() {
        let written = |n: u128| {
            let digit = |d: u128| char::from_digit(u32::try_from(d).unwrap(), 36).unwrap();
            String::from_iter([digit(n / RADIX), digit(n % RADIX)])
        };
        let texts = [
            "", " ", "!", "0", "00", "000", "0A", "1-", "9", "9z", "9zz", "A", "Az", "_", "a", "a0", "az",
            "b9\0",
        ];
        for text in texts.into_iter().chain(["m~", "z", "zz", "zz0", "z{", "{", "ä", "😀"]) {
            let place = place(text, 2);
            for n in 0..RADIX * RADIX {
                let behind = match place {
                    Place::At(at) | Place::Behind(at) => n > at,
                    Place::First => true,
                };
                assert_eq!(behind, *written(n) > *text, "{} and {text:?}: {place:?}", written(n));
                assert_eq!(place == Place::At(n), written(n) == text, "{text:?}");
            }
        }
    }

    #[test]
    fn a_position_among_jobs_excludes_itself_in_both_directions() {
        let id = JobId::from_u128(1 << 100);
        assert_eq!(among_jobs(&id.to_string(), false), Some(id));
        assert_eq!(among_jobs(&id.to_string(), true), Some(id));
        assert_eq!(among_jobs("~", true), Some(JobId::from_u128(u128::MAX)));
        assert_eq!(among_jobs("!", true), Some(JobId::from_u128(0)));
        assert_eq!(among_jobs("!", false), None);
    }

    #[test]
    fn a_position_among_attempts_is_a_number_or_before_or_behind_them() {
        for (text, ascending, descending) in [
            ("0", vec![1, 2, 3], vec![]),
            ("2", vec![3], vec![1]),
            ("2.5", vec![3], vec![1, 2]),
            ("-1", vec![1, 2, 3], vec![]),
            ("x", vec![], vec![1, 2, 3]),
            ("99999999999999999999999999999999999999999999", vec![], vec![1, 2, 3]),
        ] {
            let behind =
                |descending| (1..=3).filter(|n| is_behind_attempt(*n, text, descending)).collect::<Vec<_>>();
            assert_eq!((behind(false), behind(true)), (ascending, descending), "{text}");
        }
    }
}
