//! `kinora doctor`: what is installed, what is missing, and what that disables.

use crate::Outcome;
use crate::args::DoctorArgs;
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
    vec![
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
    ]
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
                faults if faults.is_empty() => (Some(told), String::new()),
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
