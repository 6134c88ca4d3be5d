//! What each step costs in processor time, our own and that of the programs it runs.

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one step cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Processor seconds of this program, on the thread that did the step.
    pub own_s: f64,
    /// Processor seconds of the programs the step ran, which the system counts in hundredths.
    pub children_s: f64,
    /// Seconds that passed.
    pub wall_s: f64,
    /// What it was done to: videos, frames or clips.
    pub items: u64,
}

impl Cost {
    /// Adds another.
    pub fn add(&mut self, other: Cost) {
        self.own_s += other.own_s;
        self.children_s += other.children_s;
        self.wall_s += other.wall_s;
        self.items += other.items;
    }

    /// All processor seconds.
    pub fn cpu_s(self) -> f64 {
        self.own_s + self.children_s
    }
}

/// A moment, in the time of the wall and of the processors.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    own_s: f64,
    children_s: f64,
    wall_s: f64,
}

impl Moment {
    /// Now, on this thread.
    pub fn now() -> Moment {
        Moment {
            own_s: seconds(clock_gettime(ClockId::ThreadCPUTime)),
            children_s: kinora_media::children_cpu_secs(),
            wall_s: seconds(clock_gettime(ClockId::Monotonic)),
        }
    }

    /// What was spent from this moment to a later one, on some items.
    pub fn until(self, later: Moment, items: u64) -> Cost {
        Cost {
            own_s: later.own_s - self.own_s,
            children_s: later.children_s - self.children_s,
            wall_s: later.wall_s - self.wall_s,
            items,
        }
    }
}

fn seconds(time: Timespec) -> f64 {
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Costs by the name of the step. They differ from run to run, so that no table holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Costs {
    /// In the order of the names.
    pub steps: BTreeMap<String, Cost>,
}

impl Costs {
    /// Does something to some items and counts what it costs.
    pub fn of<T>(&mut self, step: &str, items: u64, work: impl FnOnce() -> T) -> T {
        let began = Moment::now();
        let value = work();
        self.add(step, began.until(Moment::now(), items));
        value
    }

    /// Adds a cost to a step.
    pub fn add(&mut self, step: &str, cost: Cost) {
        self.steps.entry(step.to_owned()).or_default().add(cost);
    }

    /// Adds all of another's.
    pub fn add_all(&mut self, other: &Costs) {
        for (step, cost) in &other.steps {
            self.add(step, *cost);
        }
    }

    /// Puts the steps that were done now in the place of what they cost an earlier time.
    pub fn replace(&mut self, newer: &Costs) {
        for (step, cost) in &newer.steps {
            self.steps.insert(step.clone(), *cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_add_up_and_are_replaced_step_by_step() {
        let cost = |own_s| Cost {
            own_s,
            children_s: 1.0,
            wall_s: 2.0,
            items: 3,
        };
        let mut all = Costs::default();
        all.add("cuts", cost(1.0));
        all.add("cuts", cost(2.0));
        all.add("decode", cost(5.0));
        assert_eq!(all.steps["cuts"].cpu_s(), 5.0);
        assert_eq!(all.steps["cuts"].items, 6);
        let mut newer = Costs::default();
        newer.add("cuts", cost(0.5));
        all.replace(&newer);
        assert_eq!(all.steps["cuts"], cost(0.5));
        assert_eq!(all.steps["decode"], cost(5.0));
    }

    #[test]
    fn work_is_counted_and_its_value_handed_on() {
        let mut costs = Costs::default();
        let sum = costs.of("sum", 1, || {
            (0..1_000_000u64).map(std::hint::black_box).sum::<u64>()
        });
        assert_eq!(sum, 499_999_500_000);
        assert!(costs.steps["sum"].own_s > 0.0);
        assert_eq!(costs.steps["sum"].children_s, 0.0);
    }
}
