//! `kinora doctor`: what is installed, what is missing, and what that disables.

use crate::Outcome;
use crate::args::DoctorArgs;
use kinora_tensor::{DType, Device, ready_card, selfcheck};
use serde_json::json;
use std::borrow::Cow;
use std::io::Write as _;
use std::process::Command;

/// One thing that was looked for.
struct Finding {
    name: &'static str,
    found: Option<String>,
    disables: &'static str,
    remedy: Cow<'static, str>,
    /// Whether the main road is closed without it.
    needed: bool,
}

/// Looks, and tells.
///
/// # Errors
/// When standard output is closed.
pub fn run(args: &DoctorArgs) -> anyhow::Result<Outcome> {
    let findings = findings();
    let mut out = std::io::stdout().lock();
    if args.json {
        let rows: Vec<_> = findings
            .iter()
            .map(|f| {
                json!({
                    "name": f.name, "found": f.found, "disables": f.disables,
                    "remedy": f.remedy, "needed": f.needed,
                })
            })
            .collect();
        writeln!(
            out,
            "{}",
            json!({ "version": env!("CARGO_PKG_VERSION"), "findings": rows })
        )?;
    } else {
        writeln!(out, "kinora {}", env!("CARGO_PKG_VERSION"))?;
        for finding in &findings {
            match &finding.found {
                Some(what) => writeln!(out, "  ok       {:<10} {what}", finding.name)?,
                None => {
                    writeln!(
                        out,
                        "  missing  {:<10} without it: {}",
                        finding.name, finding.disables
                    )?;
                    writeln!(out, "           {:<10} {}", "", finding.remedy)?;
                }
            }
        }
    }
    let whole = findings.iter().all(|f| f.found.is_some() || !f.needed);
    Ok(if whole {
        Outcome::Done
    } else {
        Outcome::DoneWithFailures
    })
}

fn findings() -> Vec<Finding> {
    let mut findings = vec![
        Finding {
            name: "processor",
            found: Some(processor()),
            disables: "",
            remedy: "".into(),
            needed: true,
        },
        Finding {
            name: "memory",
            found: memory(),
            disables: "the plan cannot tell what fits",
            remedy: "give --max-memory-gib to generate".into(),
            needed: false,
        },
        Finding {
            name: "ffmpeg",
            found: first_line("ffmpeg", "-version"),
            disables: "writing .mp4 and .webm, reading videos, curating, training",
            remedy:
                "apt-get install ffmpeg, or ffmpeg.org; .gif, .png, folders and .npy work without"
                    .into(),
            needed: true,
        },
        Finding {
            name: "ffprobe",
            found: first_line("ffprobe", "-version"),
            disables: "reading videos, curating, training",
            remedy: "it comes with ffmpeg".into(),
            needed: true,
        },
        Finding {
            name: "tesseract",
            found: first_line("tesseract", "--version"),
            disables: "judging how much of a clip is written text (curate, `[text] judge = \"tesseract\"`)",
            remedy: "apt-get install tesseract-ocr, or set `judge = \"none\"`".into(),
            needed: false,
        },
        Finding {
            name: "hub token",
            found: hub_token(),
            disables: "downloading models whose licence must be accepted first",
            remedy: "set HF_TOKEN, or log in with the hub's own command".into(),
            needed: false,
        },
        cards(),
    ];
    let cards = kinora_tensor::cards().map_or(0, |cards| cards.len());
    // A card without its libraries was told above.
    if cards > 0 && kinora_tensor::missing_libraries().is_empty() {
        findings.extend((0..cards).map(|ordinal| check(Device::Cuda(ordinal))));
    }
    findings
}

/// Every operation on a card in the type it computes in, against the processor.
fn check(device: Device) -> Finding {
    let (found, fault) = match checked(device) {
        Ok(told) => (Some(told), String::new()),
        Err(fault) => (None, fault),
    };
    Finding {
        name: "cuda check",
        found,
        disables: "trust in what this card computes",
        remedy: fault.into(),
        needed: true,
    }
}

/// What is free on a card whose operations all agree with the processor.
///
/// # Errors
/// A sentence: the card cannot be used, or operations that do not agree, by name.
fn checked(device: Device) -> Result<String, String> {
    let memory = ready_card(device).map_err(|error| error.to_string())?;
    let free_gib = memory.free_bytes as f64 / f64::from(1 << 30);
    let mut cases = 0;
    let mut missed = Vec::new();
    selfcheck::check(device, DType::BF16, |outcome| {
        cases += 1;
        if !outcome.holds() {
            missed.push(outcome.name);
        }
    })
    .map_err(|error| error.to_string())?;
    verdict(device, free_gib, cases, &missed)
}

fn verdict(
    device: Device,
    free_gib: f64,
    cases: usize,
    missed: &[String],
) -> Result<String, String> {
    let everything =
        format!("`kinora selfcheck --device {device}` holds everything against the processor");
    match missed {
        [] => Ok(format!(
            "{device}, {free_gib:.1} GiB free: {cases} operations agree with the processor in bf16; \
             {everything}"
        )),
        missed => Err(format!(
            "{device}: of {cases} operations in bf16 these do not agree with the processor: {}; {everything}",
            missed.join("; ")
        )),
    }
}

/// The cards, and what their libraries lack.
fn cards() -> Finding {
    let (found, fault) = match kinora_tensor::cards() {
        Err(fault) => (None, fault),
        Ok(cards) if cards.is_empty() => (None, "the driver knows no card".to_owned()),
        Ok(cards) => {
            let told = cards.iter().enumerate().map(|(k, card)| {
                let gib = card.memory_bytes as f64 / f64::from(1 << 30);
                let (major, minor) = card.capability;
                format!(
                    "cuda:{k} {}, {gib:.1} GiB, capability {major}.{minor}",
                    card.name
                )
            });
            let told = told.collect::<Vec<_>>().join("; ");
            match kinora_tensor::missing_libraries() {
                faults if faults.is_empty() => (
                    Some(format!("{told}; with NVRTC, cuBLASLt and cuDNN")),
                    String::new(),
                ),
                faults => (None, format!("{told}, but {}", faults.join("; "))),
            }
        }
    };
    Finding {
        name: "cuda",
        found,
        disables: "--device cuda; models compute on the processor",
        remedy: fault.into(),
        needed: false,
    }
}

fn processor() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut vectors = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        for (name, there) in [
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("FMA", is_x86_feature_detected!("fma")),
            ("AVX-512", is_x86_feature_detected!("avx512f")),
        ] {
            if there {
                vectors.push(name);
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    vectors.push("NEON");
    format!(
        "{threads} threads, {} ({})",
        std::env::consts::ARCH,
        vectors.join(", ")
    )
}

fn memory() -> Option<String> {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let (free, total) = (
        crate::memory::available_bytes()?,
        crate::memory::total_bytes()?,
    );
    Some(format!(
        "{:.1} GiB free of {:.1} GiB",
        gib(free),
        gib(total)
    ))
}

/// The first line a program prints of its version when given `option`.
fn first_line(program: &str, option: &str) -> Option<String> {
    let output = Command::new(program).arg(option).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()?
        .to_owned();
    output.status.success().then_some(text)
}

/// Where a token for the hub comes from; never the token.
fn hub_token() -> Option<String> {
    if std::env::var_os("HF_TOKEN").is_some_and(|token| !token.is_empty()) {
        return Some("from HF_TOKEN".to_owned());
    }
    let home = std::env::var_os("HF_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| {
            Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cache/huggingface"))
        })?;
    let file = home.join("token");
    file.exists().then(|| format!("from {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_checked_against_the_processor() {
        let Some(card) = kinora_tensor::host_device(1 << 30) else {
            return;
        };
        let found = check(card).found.unwrap();
        let beginning = format!("{card}, 1.0 GiB free: ");
        assert!(found.starts_with(&beginning), "{found}");
        assert!(
            found.contains("operations agree with the processor"),
            "{found}"
        );
    }

    #[test]
    fn a_card_that_computes_wrong_or_not_at_all_is_named_and_is_a_failure() {
        let missed = ["first".to_owned(), "second".to_owned()];
        let fault = verdict(Device::Cuda(1), 1.0, 9, &missed).unwrap_err();
        assert!(fault.starts_with("cuda:1: of 9 operations"), "{fault}");
        assert!(
            fault.contains("first; second; `kinora selfcheck --device cuda:1`"),
            "{fault}"
        );
        // Where there is no room for an operation's arrays.
        let Some(card) = kinora_tensor::host_device(1 << 10) else {
            return;
        };
        let finding = check(card);
        assert!(finding.needed && finding.found.is_none());
        assert!(
            finding.remedy.contains("out of memory"),
            "{}",
            finding.remedy
        );
    }
}
