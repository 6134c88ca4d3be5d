//! When to ask again.

use kinora_tensor::random::Philox;
use std::time::Duration;

/// How long waits grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first_s: f64,
    pub(super) longest_s: f64,
}

impl Backoff {
    /// The wait before attempt `attempt` + 1, attempts counted from 1: doubling, never longer than
    /// the longest, and by chance between half and all of that, so that many who were refused
    /// together do not come back together.
    ///
    /// `asked_for` is what the server asks for. It is a least, stretched by up to a tenth; a server
    /// that asks for more than the longest wait is not waited for, which is `None`.
    pub(super) fn wait(
        self,
        attempt: u32,
        asked_for: Option<Duration>,
        random: &mut Philox,
    ) -> Option<Duration> {
        let chance = f64::from(random.next_f32());
        if let Some(asked_for) = asked_for {
            let asked_s = asked_for.as_secs_f64();
            return (asked_s <= self.longest_s)
                .then(|| Duration::from_secs_f64(asked_s * (1.0 + 0.1 * chance)));
        }
        let doubled = self.first_s * 2f64.powi(attempt.min(64) as i32 - 1);
        let bound = doubled.min(self.longest_s);
        Some(Duration::from_secs_f64(bound * (0.5 + 0.5 * chance)))
    }
}

/// The wait that a header `Retry-After` asks for: seconds, or a date, which is taken from the
/// answer's own `Date` so that no clock of ours is needed.
pub(super) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<f64>() {
        // Further than any wait; the bound keeps the conversion from overflowing.
        return (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(1e9)));
    }
    let then = seconds_of_date(value)?;
    let now = seconds_of_date(date?)?;
    Some(Duration::from_secs(then.saturating_sub(now).max(0) as u64))
}

/// Seconds from 1970 of a date as HTTP writes it, `Sun, 06 Nov 1994 08:49:37 GMT`.
fn seconds_of_date(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text
        .trim()
        .strip_suffix(" GMT")?
        .split_once(", ")?
        .1
        .split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next().filter(|name| name.len() == 3)?;
    let month = (MONTHS.find(month)? / 3 + 1) as i64;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words
        .next()?
        .split(':')
        .map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    // Days since 1970 with the year beginning in March, so that the leap day comes last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first_s: 1.0,
        longest_s: 20.0,
    };

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut random = Philox::new(1, 0);
        for attempt in 1..200 {
            let bound = 2f64.powi(attempt.min(30) - 1).min(20.0);
            let wait = BACKOFF.wait(attempt as u32, None, &mut random).unwrap();
            let share = wait.as_secs_f64() / bound;
            assert!((0.5..=1.0).contains(&share), "attempt {attempt}: {wait:?}");
        }
    }

    #[test]
    fn chance_comes_from_the_generator() {
        let waits = |seed| {
            let mut random = Philox::new(seed, 0);
            [1, 2, 3].map(|attempt| BACKOFF.wait(attempt, None, &mut random))
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn what_the_server_asks_for_is_a_least() {
        let mut random = Philox::new(1, 0);
        let asked = Duration::from_secs(7);
        let wait = BACKOFF.wait(1, Some(asked), &mut random).unwrap();
        assert!(wait >= asked && wait <= asked.mul_f64(1.1));
        assert_eq!(
            BACKOFF.wait(1, Some(Duration::from_secs(21)), &mut random),
            None
        );
    }

    #[test]
    fn seconds_and_dates_are_read() {
        let seconds = |s| Some(Duration::from_secs(s));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(seconds_of_date(date), Some(784_111_777));
        assert_eq!(seconds_of_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(
            seconds_of_date("Thu, 29 Feb 2024 23:59:59 GMT"),
            Some(1_709_251_199)
        );
        assert_eq!(retry_after("12", None), seconds(12));
        assert_eq!(retry_after("0.5", None), Some(Duration::from_millis(500)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:50:07 GMT", Some(date)),
            seconds(30)
        );
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:00:00 GMT", Some(date)),
            seconds(0)
        );
        assert_eq!(retry_after(date, None), None);
        for nonsense in ["", "soon", "-3", "NaN", "Sun, 06 Xyz 1994 08:49:37 GMT"] {
            assert_eq!(retry_after(nonsense, Some(date)), None, "{nonsense}");
        }
    }
}
