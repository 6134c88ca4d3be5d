//! Frame rates as the exact fractions that files hold.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Frames a second, as a fraction in lowest terms: 30000/1001 is not 29.97.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fps {
    frames: u32,
    secs: u32,
}

impl Fps {
    /// `frames` in `secs` seconds; nothing when either is zero.
    pub fn new(frames: u32, secs: u32) -> Option<Fps> {
        if frames == 0 || secs == 0 {
            return None;
        }
        let shared = greatest_common_divisor(frames, secs);
        Some(Fps {
            frames: frames / shared,
            secs: secs / shared,
        })
    }

    /// A whole number of frames a second; nothing for zero.
    pub fn whole(frames_per_sec: u32) -> Option<Fps> {
        Fps::new(frames_per_sec, 1)
    }

    /// The frames of the fraction.
    pub fn numerator(self) -> u32 {
        self.frames
    }

    /// The seconds of the fraction.
    pub fn denominator(self) -> u32 {
        self.secs
    }

    /// As a number, for arithmetic that need not be exact.
    pub fn as_f64(self) -> f64 {
        f64::from(self.frames) / f64::from(self.secs)
    }

    /// When frame `index` is shown, in seconds after the first.
    pub fn secs_of(self, index: usize) -> f64 {
        index as f64 * f64::from(self.secs) / f64::from(self.frames)
    }
}

impl fmt::Display for Fps {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secs == 1 {
            write!(out, "{}", self.frames)
        } else {
            write!(out, "{}/{}", self.frames, self.secs)
        }
    }
}

impl FromStr for Fps {
    type Err = Error;

    /// Reads `24`, `30000/1001` or `12.5`.
    fn from_str(text: &str) -> Result<Fps> {
        let refusal = || {
            Error::argument(
                "frames a second",
                format!(
                    "expected a positive number such as 24, 12.5 or 30000/1001, found {text:?}"
                ),
            )
        };
        if let Some((frames, secs)) = text.split_once('/') {
            let frames = frames.parse().map_err(|_| refusal())?;
            let secs = secs.parse().map_err(|_| refusal())?;
            return Fps::new(frames, secs).ok_or_else(refusal);
        }
        let value: f64 = text.parse().map_err(|_| refusal())?;
        let thousandths = (value * 1000.0).round();
        if !(1.0..=f64::from(u32::MAX)).contains(&thousandths) {
            return Err(refusal());
        }
        Fps::new(thousandths as u32, 1000).ok_or_else(refusal)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_stay_exact() {
        assert_eq!("48/2".parse::<Fps>().unwrap(), Fps::whole(24).unwrap());
        assert_eq!("12.5".parse::<Fps>().unwrap(), Fps::new(25, 2).unwrap());
        let ntsc: Fps = "30000/1001".parse().unwrap();
        assert_eq!(ntsc.to_string(), "30000/1001");
        assert_eq!(ntsc.secs_of(30000), 1001.0);
    }

    #[test]
    fn nonsense_is_refused_with_examples() {
        for text in ["0", "0/0", "24/0", "-3", "nan", "inf", "1e99", "", "24/x"] {
            let refusal = text.parse::<Fps>().unwrap_err().to_string();
            assert!(refusal.contains("30000/1001"), "{text}: {refusal}");
        }
    }
}
