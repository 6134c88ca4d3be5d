//! `kinora selfcheck`: every operation, every block and a whole small model on a card against the same on
//! the processor.

use crate::Outcome;
use crate::args::SelfcheckArgs;
use kinora_model::selfcheck::{self as blocks, PipelineOutcome};
use kinora_tensor::selfcheck::{self as operations, Outcome as Compared, worse};
use kinora_tensor::{DType, Device};
use serde_json::json;
use std::io::{self, Write};

/// Runs every case in every element type and tells the distances; fails when one is over its limit.
///
/// # Errors
/// When the card cannot be used, an operation or a block refuses, or standard output is closed.
pub fn run(args: &SelfcheckArgs) -> anyhow::Result<Outcome> {
    let mut out = io::stdout().lock();
    let mut missed = false;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let mut of_operations = Section::new("operations", args.device, dtype);
        operations::check(args.device, dtype, |o| of_operations.compared.push(o))?;
        of_operations.tell(&mut out, args.json)?;
        let mut of_blocks = Section::new("blocks", args.device, dtype);
        blocks::check(args.device, dtype, |o| of_blocks.compared.push(o))?;
        of_blocks.tell(&mut out, args.json)?;
        missed |= of_operations.misses() + of_blocks.misses() > 0;
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let outcome = blocks::pipeline(args.device, dtype)?;
        tell_pipeline(&outcome, args.device, &mut out, args.json)?;
        missed |= !outcome.holds();
    }
    Ok(match missed {
        false => Outcome::Done,
        true => Outcome::DoneWithFailures,
    })
}

/// What was compared in one element type.
struct Section {
    title: &'static str,
    device: Device,
    dtype: DType,
    compared: Vec<Compared>,
}

impl Section {
    fn new(title: &'static str, device: Device, dtype: DType) -> Self {
        Section {
            title,
            device,
            dtype,
            compared: Vec::new(),
        }
    }

    fn misses(&self) -> usize {
        self.compared.iter().filter(|c| !c.holds()).count()
    }

    /// The largest distances, forward and backward.
    fn worst(&self) -> [f64; 2] {
        let largest = |of: fn(&Compared) -> f64| self.compared.iter().map(of).fold(0.0, worse);
        [largest(|c| c.forward), largest(|c| c.backward)]
    }

    fn tell(&self, out: &mut impl Write, as_json: bool) -> io::Result<()> {
        match as_json {
            true => writeln!(out, "{}", self.json()),
            false => self.tell_in_words(out),
        }
    }

    fn json(&self) -> serde_json::Value {
        let [forward, backward] = self.worst();
        let each = self.compared.iter().map(|c| {
            json!({
                "name": c.name, "holds": c.holds(), "forward": c.forward, "backward": c.backward,
                "forward_limit": c.forward_limit, "backward_limit": c.backward_limit,
            })
        });
        json!({
            "device": self.device.to_string(), "dtype": self.dtype.to_string(), "of": self.title,
            "cases": self.compared.len(), "missed": self.misses(),
            "forward": forward, "backward": backward, "each": each.collect::<Vec<_>>(),
        })
    }

    /// A line for all, one for each block, and of the operations, which are many, those that are missed.
    fn tell_in_words(&self, out: &mut impl Write) -> io::Result<()> {
        let [forward, backward] = self.worst();
        writeln!(
            out,
            "{:<5} {} {}, {} missed; largest relative distance {forward:.1e} forward, \
             {backward:.1e} backward",
            self.dtype.to_string(),
            self.compared.len(),
            self.title,
            self.misses()
        )?;
        let many = self.title == "operations";
        for c in self.compared.iter().filter(|c| !(many && c.holds())) {
            writeln!(
                out,
                "  {:<6} {}: {:.1e} forward of {:.1e} allowed, {:.1e} backward of {:.1e}",
                if c.holds() { "holds" } else { "MISSED" },
                c.name,
                c.forward,
                c.forward_limit,
                c.backward,
                c.backward_limit
            )?;
        }
        Ok(())
    }
}

/// A line about the frames of a whole model.
fn tell_pipeline(
    outcome: &PipelineOutcome,
    device: Device,
    out: &mut impl Write,
    as_json: bool,
) -> io::Result<()> {
    let PipelineOutcome {
        dtype,
        psnr_db,
        relative_l2,
    } = *outcome;
    if as_json {
        let line = json!({
            "device": device.to_string(), "dtype": dtype.to_string(), "of": "pipeline",
            "missed": usize::from(!outcome.holds()), "psnr_db": psnr_db, "relative_l2": relative_l2,
            "relative_l2_limit": PipelineOutcome::F32_RELATIVE_L2_LIMIT,
            "least_psnr_db": PipelineOutcome::LEAST_PSNR_DB,
        });
        return writeln!(out, "{line}");
    }
    let bar = match dtype {
        DType::F32 => format!("{:.0e} allowed", PipelineOutcome::F32_RELATIVE_L2_LIMIT),
        DType::F16 | DType::BF16 => format!("{} dB wanted", PipelineOutcome::LEAST_PSNR_DB),
    };
    writeln!(
        out,
        "{:<5} pipeline {}: frames at {psnr_db:.1} dB of the processor's f32, relative distance \
         {relative_l2:.1e}; {bar}",
        dtype.to_string(),
        if outcome.holds() { "holds" } else { "MISSED" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_has_a_line_with_its_decibels_and_what_is_wanted() {
        let told = |dtype, psnr_db, relative_l2, as_json| {
            let outcome = PipelineOutcome {
                dtype,
                psnr_db,
                relative_l2,
            };
            let mut out = Vec::new();
            tell_pipeline(&outcome, Device::Cuda(0), &mut out, as_json).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            told(DType::BF16, 51.2, 5e-3, false),
            "bf16  pipeline holds: frames at 51.2 dB of the processor's f32, relative distance \
             5.0e-3; 40 dB wanted\n"
        );
        assert_eq!(
            told(DType::F32, 55.0, 2e-3, false),
            "f32   pipeline MISSED: frames at 55.0 dB of the processor's f32, relative distance \
             2.0e-3; 1e-3 allowed\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&told(DType::F16, f64::NAN, f64::NAN, true)).unwrap();
        assert_eq!(
            (&json["missed"], &json["of"]),
            (&1.into(), &"pipeline".into())
        );
        assert_eq!(json["psnr_db"], serde_json::Value::Null);
    }

    fn section(forward: f64) -> Section {
        let compared = |name: &str, forward| Compared {
            name: name.to_owned(),
            dtype: DType::F16,
            forward,
            backward: 1e-4,
            forward_limit: 1e-3,
            backward_limit: 1e-2,
        };
        Section {
            compared: vec![compared("first", 2e-4), compared("second", forward)],
            ..Section::new("blocks", Device::Cuda(0), DType::F16)
        }
    }

    fn words(section: &Section) -> String {
        let mut out = Vec::new();
        section.tell(&mut out, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_block_has_a_line_with_its_distances_and_limits() {
        assert_eq!(
            words(&section(5e-3)),
            "f16   2 blocks, 1 missed; largest relative distance 5.0e-3 forward, 1.0e-4 backward\n  \
             holds  first: 2.0e-4 forward of 1.0e-3 allowed, 1.0e-4 backward of 1.0e-2\n  \
             MISSED second: 5.0e-3 forward of 1.0e-3 allowed, 1.0e-4 backward of 1.0e-2\n"
        );
    }

    #[test]
    fn no_number_is_a_miss_in_words_and_in_json() {
        let section = section(f64::NAN);
        assert!(
            words(&section).contains("MISSED second: NaN"),
            "{}",
            words(&section)
        );
        let json = section.json();
        assert_eq!(json["missed"], 1);
        assert_eq!(json["each"][1]["holds"], false);
        assert_eq!(json["each"][1]["forward"], serde_json::Value::Null);
    }
}
