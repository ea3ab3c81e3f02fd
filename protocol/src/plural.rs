//! Nouns behind numbers.

/// The form of a noun behind a number: `1 job`, but `0 jobs` and `2 jobs`.
pub fn plural<'a, N: PartialEq + From<u8>>(n: N, one: &'a str, many: &'a str) -> &'a str {
    if n == N::from(1) { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        let shown = |n: u64| format!("{n} {}", plural(n, "entry", "entries"));
        assert_eq!([0, 1, 2, 21].map(shown), ["0 entries", "1 entry", "2 entries", "21 entries"]);
    }
}
