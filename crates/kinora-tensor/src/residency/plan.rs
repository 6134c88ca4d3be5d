//! Which weights stay on a card, and how large the window for the others is.

use crate::cuda::rounded;
use crate::{DType, Error, Result};

/// What one weight takes of a card's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightBytes {
    /// Where it stays, in the type it is worked with.
    pub staying: usize,
    /// Where it is brought as it is used, in the type it is stored in.
    pub passing: usize,
}

impl WeightBytes {
    /// Of a weight of so many values that is stored in one type and stays in another.
    pub fn new(values: usize, stored: DType, staying: DType) -> Self {
        let bytes = |dtype: DType| rounded(values * dtype.size_bytes());
        WeightBytes {
            staying: bytes(staying),
            passing: bytes(stored),
        }
    }
}

/// Which weights stay on a card within a budget, and which pass through a window of its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidencyPlan {
    /// For each weight, whether it stays.
    pub stays: Vec<bool>,
    /// Nothing where all stay.
    pub window_bytes: usize,
    /// What those that stay take.
    pub resident_bytes: usize,
}

impl ResidencyPlan {
    /// For weights in the order of their use. Of the last `once`, which are used once in a whole run,
    /// only the small ones stay where not all do: to stay would save no copy.
    ///
    /// # Errors
    /// When the budget has no room for twice the largest.
    pub fn new(weights: &[WeightBytes], once: usize, budget_bytes: usize) -> Result<Self> {
        let (kept, _) = weights.split_at(weights.len() - once);
        let staying = |weights: &[WeightBytes]| weights.iter().map(|w| w.staying).sum::<usize>();
        let all = staying(weights);
        if all <= budget_bytes {
            return Ok(ResidencyPlan {
                stays: vec![true; weights.len()],
                window_bytes: 0,
                resident_bytes: all,
            });
        }
        let least = Self::least_bytes(weights);
        if least > budget_bytes {
            return Err(too_small(all, budget_bytes, least));
        }
        let window_bytes = match staying(kept) <= budget_bytes - least {
            // What is used again and again fits beside the smallest window.
            true => least,
            false => least.max(rounded(budget_bytes / 4)).min(budget_bytes),
        };
        let mut plan = ResidencyPlan {
            stays: vec![false; weights.len()],
            window_bytes,
            resident_bytes: 0,
        };
        let room = budget_bytes - window_bytes;
        plan.keep_small(weights, room / 8);
        plan.keep_share(kept, room - plan.resident_bytes);
        Ok(plan)
    }

    /// The least budget for weights that do not all fit: one is used while the next is on its way.
    pub fn least_bytes(weights: &[WeightBytes]) -> usize {
        rounded(2 * weights.iter().map(|w| w.passing).max().unwrap_or(0))
    }

    /// A copy takes some microseconds however short it is: the smallest stay.
    fn keep_small(&mut self, weights: &[WeightBytes], mut room: usize) {
        let mut by_size: Vec<usize> = (0..weights.len()).collect();
        by_size.sort_by_key(|number| weights[*number].staying);
        for number in by_size {
            let bytes = weights[number].staying;
            if bytes > room {
                break;
            }
            room -= bytes;
            self.resident_bytes += bytes;
            self.stays[number] = true;
        }
    }

    /// Of the others an even share of every stretch stays, so that there is work beside the copies
    /// everywhere.
    fn keep_share(&mut self, kept: &[WeightBytes], mut room: usize) {
        let others = kept.iter().zip(&self.stays).filter(|(_, stays)| !**stays);
        let others: usize = others.map(|(w, _)| w.staying).sum();
        let (share, mut due) = (room as f64 / others.max(1) as f64, 0.0);
        let all_stay = others <= room;
        let pairs = kept.iter().zip(&mut self.stays);
        for (weight, stays) in pairs.filter(|(_, stays)| !**stays) {
            let bytes = weight.staying;
            due += bytes as f64 * share;
            if all_stay || due >= bytes as f64 && bytes <= room {
                due -= bytes as f64;
                room -= bytes;
                self.resident_bytes += bytes;
                *stays = true;
            }
        }
    }
}

fn too_small(all: usize, budget_bytes: usize, least: usize) -> Error {
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let message = format!(
        "weights of {:.1} MiB do not fit into {:.1} MiB, and to bring them as they are used takes \
         {:.1} MiB at least: twice the largest; allow that much",
        mib(all),
        mib(budget_bytes),
        mib(least)
    );
    Error::argument("residency", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(bytes: usize) -> WeightBytes {
        WeightBytes {
            staying: bytes,
            passing: bytes,
        }
    }

    fn plan(bytes: &[usize], once: usize, budget_bytes: usize) -> Result<ResidencyPlan> {
        let weights: Vec<WeightBytes> = bytes.iter().map(|bytes| same(*bytes)).collect();
        ResidencyPlan::new(&weights, once, budget_bytes)
    }

    #[test]
    fn what_fits_stays() {
        let fits = plan(&[100, 200], 0, 300).unwrap();
        assert_eq!(fits.stays, [true, true]);
        assert_eq!((fits.window_bytes, fits.resident_bytes), (0, 300));
        assert!(plan(&[], 0, 0).unwrap().stays.is_empty());
    }

    #[test]
    fn every_budget_is_kept_and_used() {
        let bytes: Vec<usize> = (0..40).map(|k| [1000, 10, 300][k % 3]).collect();
        let all: usize = bytes.iter().sum();
        for budget in [2048, 2500, 5000, 10_000, all - 1] {
            let plan = plan(&bytes, 0, budget).unwrap();
            let kept = bytes.iter().zip(&plan.stays).filter(|(_, stays)| **stays);
            assert_eq!(kept.map(|(b, _)| b).sum::<usize>(), plan.resident_bytes);
            let peak = plan.window_bytes + plan.resident_bytes;
            assert!(peak <= budget, "{peak} of {budget}");
            assert!(peak + 2300 > budget, "{peak} of {budget}");
            assert!(plan.window_bytes >= 2000);
        }
        let plan = plan(&bytes, 0, 10_000).unwrap();
        let streamed = |part: &[bool]| part.iter().filter(|stays| !**stays).count();
        // Both halves of the network have some of each.
        let halves = [&plan.stays[..20], &plan.stays[20..]].map(streamed);
        assert!(
            halves.iter().all(|count| (3..17).contains(count)),
            "{halves:?}"
        );
    }

    #[test]
    fn what_is_used_once_passes_before_anything_else_does() {
        // A network of 20 · 512 bytes, and one of as many that is used once.
        let bytes = vec![512; 40];
        for (budget, of_network) in [(12_000, 20), (6000, 6)] {
            let plan = plan(&bytes, 20, budget).unwrap();
            assert!(plan.window_bytes + plan.resident_bytes <= budget);
            let kept = |part: &[bool]| part.iter().filter(|stays| **stays).count();
            assert!(kept(&plan.stays[..20]) >= of_network, "{plan:?}");
            // Only what counts as small.
            assert!(kept(&plan.stays[20..]) <= budget / 8 / 512, "{plan:?}");
        }
    }

    #[test]
    fn what_stays_is_counted_in_its_own_type_and_what_passes_in_the_files() {
        let weight = WeightBytes::new(1000, DType::F32, DType::BF16);
        assert_eq!((weight.staying, weight.passing), (2048, 4096));
        let weights = [weight; 10];
        let fits = ResidencyPlan::new(&weights, 0, 20_480).unwrap();
        assert_eq!((fits.window_bytes, fits.resident_bytes), (0, 20_480));
        let tight = ResidencyPlan::new(&weights, 0, 20_479).unwrap();
        assert_eq!(tight.window_bytes, 8192);
        assert_eq!(tight.resident_bytes, 5 * 2048);
        let error = ResidencyPlan::new(&weights, 0, 8191).unwrap_err();
        assert!(error.to_string().contains("twice the largest"), "{error}");
    }

    #[test]
    fn a_budget_below_twice_the_largest_is_refused_with_what_would_do() {
        let mib = 1 << 20;
        let error = plan(&[4 * mib, mib], 0, 4 * mib).unwrap_err().to_string();
        assert_eq!(
            error,
            "residency: weights of 5.0 MiB do not fit into 4.0 MiB, and to bring them as they are \
             used takes 8.0 MiB at least: twice the largest; allow that much"
        );
    }
}
