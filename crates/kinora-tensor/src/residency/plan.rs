//! Which weights stay on a card, and how large the window for the others is.

use crate::cuda::rounded;
use crate::{Error, Result};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// For each weight, whether it stays.
    pub stays: Vec<bool>,
    /// Nothing where all stay.
    pub window_bytes: usize,
}

impl Plan {
    /// `bytes` are those of each weight, in the order of their use.
    ///
    /// # Errors
    /// When not even the two largest fit.
    pub(super) fn new(bytes: &[usize], budget_bytes: usize) -> Result<Self> {
        let all: usize = bytes.iter().sum();
        if all <= budget_bytes {
            return Ok(Plan {
                stays: vec![true; bytes.len()],
                window_bytes: 0,
            });
        }
        // One is used while the next is on its way.
        let least = rounded(2 * bytes.iter().max().copied().unwrap_or(0));
        if least > budget_bytes {
            let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
            let message = format!(
                "weights of {:.1} MiB do not fit into {:.1} MiB, and to bring them as they are used \
                 takes {:.1} MiB at least: twice the largest; allow that much",
                mib(all),
                mib(budget_bytes),
                mib(least)
            );
            return Err(Error::argument("residency", message));
        }
        let window_bytes = least.max(rounded(budget_bytes / 4)).min(budget_bytes);
        let mut room = budget_bytes - window_bytes;
        let mut stays = vec![false; bytes.len()];
        // A copy takes some microseconds however short it is: the smallest stay.
        let mut by_size: Vec<usize> = (0..bytes.len()).collect();
        by_size.sort_by_key(|number| bytes[*number]);
        let mut for_small = room / 8;
        for number in by_size {
            if bytes[number] > for_small {
                break;
            }
            for_small -= bytes[number];
            room -= bytes[number];
            stays[number] = true;
        }
        // Of the others an even share of every stretch stays, so that there is work beside the copies
        // everywhere.
        let others: usize = bytes
            .iter()
            .zip(&stays)
            .map(|(b, s)| if *s { 0 } else { *b })
            .sum();
        let (share, mut due) = (room as f64 / others.max(1) as f64, 0.0);
        for (bytes, stays) in bytes.iter().zip(&mut stays).filter(|(_, stays)| !**stays) {
            due += *bytes as f64 * share;
            if due >= *bytes as f64 && *bytes <= room {
                due -= *bytes as f64;
                room -= bytes;
                *stays = true;
            }
        }
        Ok(Plan {
            stays,
            window_bytes,
        })
    }

    #[cfg(test)]
    fn peak_bytes(&self, bytes: &[usize]) -> usize {
        let kept = bytes.iter().zip(&self.stays).filter(|(_, stays)| **stays);
        self.window_bytes + kept.map(|(bytes, _)| bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays() {
        let plan = Plan::new(&[100, 200], 300).unwrap();
        assert_eq!(plan.stays, [true, true]);
        assert_eq!(plan.window_bytes, 0);
        assert!(Plan::new(&[], 0).unwrap().stays.is_empty());
    }

    #[test]
    fn every_budget_is_kept_and_used() {
        let bytes: Vec<usize> = (0..40).map(|k| [1000, 10, 300][k % 3]).collect();
        let all: usize = bytes.iter().sum();
        for budget in [2048, 2500, 5000, 10_000, all - 1] {
            let plan = Plan::new(&bytes, budget).unwrap();
            let peak = plan.peak_bytes(&bytes);
            assert!(peak <= budget, "{peak} of {budget}");
            assert!(peak + 2300 > budget, "{peak} of {budget}");
            assert!(plan.window_bytes >= 2000);
        }
        let plan = Plan::new(&bytes, 10_000).unwrap();
        let streamed = |part: &[bool]| part.iter().filter(|stays| !**stays).count();
        // Both halves of the network have some of each.
        let halves = [&plan.stays[..20], &plan.stays[20..]].map(streamed);
        assert!(
            halves.iter().all(|count| (3..17).contains(count)),
            "{halves:?}"
        );
    }

    #[test]
    fn a_budget_below_twice_the_largest_is_refused_with_what_would_do() {
        let mib = 1 << 20;
        let error = Plan::new(&[4 * mib, mib], 4 * mib).unwrap_err().to_string();
        assert_eq!(
            error,
            "residency: weights of 5.0 MiB do not fit into 4.0 MiB, and to bring them as they are \
             used takes 8.0 MiB at least: twice the largest; allow that much"
        );
    }
}
