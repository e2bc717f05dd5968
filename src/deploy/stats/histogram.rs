//! Lengths of time in fixed buckets, eight to a doubling, so that a percentile is off by 7 % at the most.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// The first bucket is all that is shorter than 2^6 µs = 64 µs.
const SHORTEST_LOG2: u32 = 6;

/// Up to 2^27 µs = 134 s, past which there is one bucket more.
const DOUBLINGS: u32 = 21;

/// 2^3 buckets to a doubling.
const PARTS_LOG2: u32 = 3;

const COUNT: usize = ((DOUBLINGS << PARTS_LOG2) + 2) as usize;

/// Counted by all threads at once.
#[derive(Debug)]
pub(super) struct Histogram([AtomicU64; COUNT]);

impl Default for Histogram {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Histogram {
    pub fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket_of(micros)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn buckets(&self) -> Buckets {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Buckets(counts.collect())
    }
}

fn bucket_of(micros: u64) -> usize {
    let Some(log2) = micros.checked_ilog2().filter(|log2| *log2 >= SHORTEST_LOG2) else {
        return 0;
    };
    let doubling = log2 - SHORTEST_LOG2;
    if doubling >= DOUBLINGS {
        return COUNT - 1;
    }
    // The bits right behind the highest one.
    let part = (micros >> (log2 - PARTS_LOG2)) as usize & ((1 << PARTS_LOG2) - 1);
    1 + ((doubling as usize) << PARTS_LOG2) + part
}

/// The shortest time of a bucket, in microseconds; of the one past the last, that of the last.
fn begin_of(bucket: usize) -> u64 {
    let Some(bucket) = bucket.checked_sub(1) else {
        return 0;
    };
    let bucket = bucket.min(COUNT - 2);
    let (doubling, part) = (bucket >> PARTS_LOG2, bucket & ((1 << PARTS_LOG2) - 1));
    let begin = 1_u64 << (SHORTEST_LOG2 as usize + doubling);
    begin + part as u64 * (begin >> PARTS_LOG2)
}

/// What was counted up to a moment, or between two.
///
/// Serialized as those that are not empty: `{"from_ms", "below_ms", "requests"}`, the last one
/// without an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets(Box<[u64]>);

impl Default for Buckets {
    fn default() -> Self {
        Self([0; COUNT].into())
    }
}

impl Buckets {
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time that so much of all (0 to 1) is not longer than, in milliseconds: the middle of its
    /// bucket. `None`: nothing was counted.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let total = self.total();
        let rank = ((share * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        let (begin, end) = (begin_of(bucket), begin_of(bucket + 1));
        Some((begin + end) as f64 / 2.0 / 1_000.0)
    }

    /// What was counted here and there.
    pub fn plus(&self, other: &Self) -> Self {
        let counts = self.0.iter().zip(&other.0);
        Self(counts.map(|(one, other)| one + other).collect())
    }

    /// What was counted since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.0.iter().zip(&before.0);
        Self(
            counts
                .map(|(now, before)| now.saturating_sub(*before))
                .collect(),
        )
    }
}

#[derive(serde::Serialize)]
struct Bucket {
    from_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    below_ms: Option<f64>,
    requests: u64,
}

impl Serialize for Buckets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for (bucket, requests) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let ms = |bucket| begin_of(bucket) as f64 / 1_000.0;
            list.serialize_element(&Bucket {
                from_ms: ms(bucket),
                below_ms: (bucket + 1 < COUNT).then(|| ms(bucket + 1)),
                requests: *requests,
            })?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(micros: impl IntoIterator<Item = u64>) -> Buckets {
        let histogram = Histogram::default();
        for micros in micros {
            histogram.record(Duration::from_micros(micros));
        }
        histogram.buckets()
    }

    #[test]
    fn buckets_join_without_gaps_from_nothing_to_134_seconds() {
        assert_eq!((begin_of(0), begin_of(1), begin_of(2)), (0, 64, 72));
        assert_eq!(begin_of(COUNT - 1), 1 << 27);
        for bucket in 0..COUNT - 1 {
            let (begin, end) = (begin_of(bucket), begin_of(bucket + 1));
            assert!(begin < end);
            assert_eq!((bucket_of(begin), bucket_of(end - 1)), (bucket, bucket));
            if bucket > 0 {
                assert!((end - begin) * 8 <= begin, "{begin} to {end}");
            }
        }
        assert_eq!(bucket_of(1 << 27), COUNT - 1);
        assert_eq!(bucket_of(u64::MAX), COUNT - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times_within_a_tenth() {
        let mut rng = fastrand::Rng::with_seed(7);
        for sample in [1_usize, 2, 3, 10, 1_000, 20_000] {
            // Evenly on a scale of logarithms: 0.1 ms to 100 s.
            let mut times: Vec<u64> = (0..sample)
                .map(|_| (100.0 * 10_f64.powf(rng.f64() * 6.0)) as u64)
                .collect();
            let buckets = counted(times.iter().copied());
            times.sort_unstable();
            for share in [0.5, 0.9, 0.99] {
                let rank = (share * sample as f64).ceil() as usize;
                let exact = times[rank - 1] as f64 / 1_000.0;
                let told = buckets.quantile_ms(share).unwrap();
                let off = (told - exact).abs() / exact;
                assert!(off < 0.1, "{sample}: {share}: {told} for {exact}");
            }
        }
    }

    #[test]
    fn a_percentile_is_the_middle_of_the_bucket_that_its_rank_falls_into() {
        assert_eq!(counted([]).quantile_ms(0.5), None);
        // 64 to 72 µs, 1024 to 1152 µs, and past the last.
        let few = counted([64, 1_030, 1_100, 200_000_000]);
        assert_eq!(few.quantile_ms(0.25), Some(0.068));
        assert_eq!(few.quantile_ms(0.26), Some(1.088));
        assert_eq!(few.quantile_ms(0.75), Some(1.088));
        assert_eq!(few.quantile_ms(0.99), Some(134_217.728));
        assert_eq!(few.quantile_ms(0.0), Some(0.068));
        assert_eq!(counted([0, 10]).quantile_ms(1.0), Some(0.032));
    }

    #[test]
    fn it_is_shown_without_what_is_empty() {
        let shown = serde_json::to_value(counted([64, 70, 200_000_000])).unwrap();
        assert_eq!(
            shown,
            serde_json::json!([
                { "from_ms": 0.064, "below_ms": 0.072, "requests": 2 },
                { "from_ms": 134_217.728, "requests": 1 },
            ])
        );
    }
}
