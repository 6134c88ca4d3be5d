//! `kinora selfcheck`: every operation on a card against the same on the processor.

use crate::Outcome;
use crate::args::SelfcheckArgs;
use kinora_tensor::{DType, selfcheck};
use serde_json::json;
use std::io::Write as _;

/// Runs every case in every element type and tells the misses; fails when there is one.
///
/// # Errors
/// When the card cannot be used, an operation refuses, or standard output is closed.
pub fn run(args: &SelfcheckArgs) -> anyhow::Result<Outcome> {
    let mut out = std::io::stdout().lock();
    let mut missed = false;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let mut outcomes = Vec::new();
        selfcheck::check(args.device, dtype, |outcome| outcomes.push(outcome))?;
        let worst = |of: fn(&selfcheck::Outcome) -> f64| {
            outcomes.iter().map(of).fold(0.0, selfcheck::worse)
        };
        let (forward, backward) = (worst(|o| o.forward), worst(|o| o.backward));
        let misses: Vec<_> = outcomes.iter().filter(|outcome| !outcome.holds()).collect();
        missed |= !misses.is_empty();
        if args.json {
            let misses = misses.iter().map(|o| {
                json!({ "name": o.name, "forward": o.forward, "backward": o.backward, "limit": o.limit })
            });
            let line = json!({
                "device": args.device.to_string(), "dtype": dtype.to_string(),
                "cases": outcomes.len(), "forward": forward, "backward": backward,
                "misses": misses.collect::<Vec<_>>(),
            });
            writeln!(out, "{line}")?;
            continue;
        }
        writeln!(
            out,
            "{dtype:<5} {} cases, {} missed; largest relative distance {forward:.1e} forward, \
             {backward:.1e} backward",
            outcomes.len(),
            misses.len()
        )?;
        for o in misses {
            writeln!(
                out,
                "  missed {}: {:.1e} forward, {:.1e} backward, allowed {:.1e}",
                o.name, o.forward, o.backward, o.limit
            )?;
        }
    }
    Ok(match missed {
        false => Outcome::Done,
        true => Outcome::DoneWithFailures,
    })
}
