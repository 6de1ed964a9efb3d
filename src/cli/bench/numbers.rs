//! Numbers of a measurement: whole ones are far below 2^52.

use std::time::Duration;

use hdrhistogram::Histogram;

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) const fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and nothing here is negative"
)]
pub(super) const fn whole(number: f64) -> u64 {
    number.round() as u64
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The middle one; of an even number, the mean of the two in the middle. None of nothing.
pub(super) fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let (lower, upper) = (numbers.len().checked_sub(1)? / 2, numbers.len() / 2);
    Some(numbers.get(lower)?.midpoint(*numbers.get(upper)?))
}

/// Steps of a curve for each nine that a percentile has.
const STEPS: u32 = 8;

/// Times by percentile, as far as there are calls for it: each nine has as many points, so that what one call in a thousand
/// meets is seen as well as what every second one does.
pub(super) fn percentiles(times: &Histogram<u64>) -> Vec<(f64, u64)> {
    if times.is_empty() {
        return Vec::new();
    }
    let reached = float(times.len()).log10();
    let nines =
        (0..).map(|step: u32| f64::from(step) / f64::from(STEPS)).take_while(|nines| *nines <= reached);
    nines
        .map(|nines| {
            let share = 1.0 - 10_f64.powf(-nines);
            (float(whole(share * 1e8)) / 1e6, times.value_at_quantile(share))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_goes_as_far_as_there_are_calls() {
        let mut times = Histogram::<u64>::new(3).unwrap();
        assert_eq!(percentiles(&times), []);
        (1..=1_000).for_each(|micros| times.record(micros).unwrap());
        let curve = percentiles(&times);
        assert_eq!((curve.len(), curve[0]), (25, (0.0, 1)));
        assert_eq!((curve[8], curve[16], curve[24]), ((90.0, 900), (99.0, 990), (99.9, 999)));
        assert!(curve.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{curve:?}");
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn counts_go_there_and_back() {
        assert_eq!(whole(float(12_345_678)), 12_345_678);
        assert_eq!(micros(Duration::from_millis(3)), 3_000);
    }
}
