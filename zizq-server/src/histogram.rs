//! Histograms of lengths of time, cheap enough for every job and every request.
//!
//! The unit is the caller's. Buckets end at round decimal numbers, fourteen in each power of ten: fine enough for
//! percentiles, and each limit can be that of a coarser bucket.

/// The limits of the buckets between 10 and 99, in units of their power of ten.
const STEPS: [u64; 14] = [10, 12, 15, 18, 20, 25, 30, 36, 40, 50, 60, 72, 80, 90];
/// Powers of ten that have these steps: the last limit is 9 × 10^9.
const DECADES: usize = 9;
/// The limits 1 to 9, then the steps.
const LIMITS: usize = 9 + STEPS.len() * DECADES;

/// The largest value of each bucket but the last, which has none.
const LIMIT: [u64; LIMITS] = limits();
/// The first bucket that a value may belong to, by its position from [`place`].
static FIRST: [u8; 64 * 8] = first_buckets();

#[expect(clippy::indexing_slicing, reason = "checked when the program is built")]
const fn limits() -> [u64; LIMITS] {
    let mut limits = [0; LIMITS];
    let (mut at, mut power) = (0, 1);
    while at < 9 {
        limits[at] = at as u64 + 1;
        at += 1;
    }
    while at < LIMITS {
        let mut step = 0;
        while step < STEPS.len() {
            limits[at] = STEPS[step] * power;
            (step, at) = (step + 1, at + 1);
        }
        power *= 10;
    }
    limits
}

/// Where a value of at least 8 stands by its highest bit and the three bits behind it.
#[expect(clippy::cast_possible_truncation, reason = "these are four bits")]
const fn place(value: u64) -> usize {
    let highest = value.ilog2();
    highest as usize * 8 + (value >> (highest - 3)) as usize - 8
}

#[expect(clippy::indexing_slicing, reason = "checked when the program is built")]
const fn first_buckets() -> [u8; 64 * 8] {
    let mut first = [0; 64 * 8];
    let (mut at, mut bucket) = (3 * 8, 0);
    while at < first.len() {
        let least = (8 + at as u64 % 8) << (at / 8 - 3);
        while bucket < LIMITS && LIMIT[bucket] < least {
            bucket += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 256 buckets")]
        let small = bucket as u8;
        first[at] = small;
        at += 1;
    }
    first
}

/// How often values occurred, by size, and their sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; LIMITS + 1],
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; LIMITS + 1], sum: 0 }
    }
}

impl Histogram {
    /// Counts a value.
    pub(crate) fn add(&mut self, value: u64) {
        let mut bucket = if value < 8 {
            usize::try_from(value.saturating_sub(1)).unwrap_or_default()
        } else {
            FIRST.get(place(value)).map_or(LIMITS, |first| usize::from(*first))
        };
        while LIMIT.get(bucket).is_some_and(|limit| *limit < value) {
            bucket += 1;
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds the values of another histogram.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The number of values.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all values.
    pub(crate) const fn sum(&self) -> u64 {
        self.sum
    }

    /// The number of values up to this limit, which must be the limit of a bucket.
    pub(crate) fn up_to(&self, limit: u64) -> u64 {
        let buckets = LIMIT.partition_point(|other| *other <= limit);
        self.counts.iter().take(buckets).sum()
    }

    /// Estimates the value that this share of all values (from 0 to 1) does not exceed; none without values. Between
    /// the limits of a bucket it is interpolated; above the last one, the last one is returned.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    pub(crate) fn quantile(&self, share: f64) -> Option<u64> {
        let total = self.count();
        let wanted = share.clamp(0.0, 1.0) * total as f64;
        let (mut below, mut least) = (0, 0);
        for (count, limit) in self.counts.iter().zip(LIMIT.iter().chain(LIMIT.last())) {
            if *count > 0 && (below + count) as f64 >= wanted {
                let part = (wanted - below as f64) / *count as f64;
                return Some(least + ((limit - least) as f64 * part.max(0.0)).round() as u64);
            }
            below += count;
            least = *limit;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_first_bucket_that_holds_it() {
        let around = |limit: u64| [limit.saturating_sub(1), limit, limit + 1, limit + limit / 9];
        for value in LIMIT.into_iter().flat_map(around).chain([0, u64::MAX, 1 << 62]) {
            let mut histogram = Histogram::default();
            histogram.add(value);
            let right = LIMIT.partition_point(|limit| *limit < value);
            assert_eq!(histogram.counts[right], 1, "{value}");
            assert_eq!((histogram.count(), histogram.sum()), (1, value));
        }
        assert!(LIMIT.is_sorted());
        for limit in [1, 10, 50, 100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000]
        {
            assert!(LIMIT.contains(&limit), "{limit} is the limit of a bucket in the metrics");
        }
    }

    #[test]
    fn quantiles_are_close() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=1_000).for_each(|value| histogram.add(value));
        for (share, right) in [(0.0, 0), (0.5, 500), (0.95, 950), (0.99, 990), (1.0, 1_000)] {
            let found = histogram.quantile(share).unwrap();
            assert!(found.abs_diff(right) <= 10, "{share}: {found} is not {right}");
        }
        assert_eq!((histogram.up_to(10), histogram.up_to(900), histogram.up_to(5_000)), (10, 900, 1_000));
        let earlier = histogram.clone();
        histogram.add(20_000_000_000);
        assert_eq!(histogram.quantile(1.0), LIMIT.last().copied());
        let mut news = Histogram::default();
        news.add(20_000_000_000);
        let mut both = earlier;
        both.merge(&news);
        assert_eq!(both, histogram);
    }
}
