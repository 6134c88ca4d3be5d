//! A report of made-up clips with pictures from Kinora's own footage, to look at while changing it:
//!
//!     cargo run --release -p kinora-curate --example report_page -- report.html
//!
//! The clips are not real; their scores follow the shapes of the paper's figures.

use kinora_curate::filter::{FilterSettings, filter};
use kinora_curate::report::{Report, StepCost, Tally, report_html};
use kinora_media::{ClipRow, Rgb8Image, SourceRow, Status};
use std::f32::consts::TAU;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("give the name of the page")?;
    let clips: Vec<ClipRow> = (0..6000).map(clip).collect();
    let sources: Vec<SourceRow> = (0..560).map(source).collect();
    let filtered = filter(&clips, &FilterSettings::default())?;
    let tally = Tally::of(&clips, &sources, &filtered);
    let report = Report {
        title: "Harbour footage, autumn",
        tally: &tally,
        costs: &costs(),
        decode_cpu_s: Some(5120.0),
        thumbnail: &picture,
    };
    std::fs::write(path, report_html(&report))?;
    Ok(())
}

fn draw(index: u64, stream: u64) -> f32 {
    let mixed = (index * 16 + stream + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u32 << 24) as f32
}

/// A normal number by the method of Box and Muller.
fn normal(index: u64, stream: u64) -> f32 {
    (-2.0 * (1.0 - draw(index, stream)).ln()).sqrt() * (TAU * draw(index, stream + 1)).cos()
}

fn clip(index: u64) -> ClipRow {
    let seconds = f64::from(2.0 + 18.0 * draw(index, 0).powi(2));
    let still = draw(index, 1) < 0.17;
    let failed = draw(index, 2) < 0.004;
    let mut clip = ClipRow {
        clip_id: format!("{:016x}", index.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        source: format!("harbour/day {:02}/GX{:06}.MP4", index / 220, index / 11),
        end_frame: (seconds * 29.97) as u64,
        end_s: seconds,
        fps: if (index / 11).is_multiple_of(3) {
            24.0
        } else {
            29.97
        },
        width: if (index / 11).is_multiple_of(5) {
            3840
        } else {
            1920
        },
        height: if (index / 11).is_multiple_of(5) {
            2160
        } else {
            1080
        },
        motion_score: Some(if still {
            0.05 * draw(index, 3)
        } else {
            -0.38 * (1.0 - draw(index, 3)).ln()
        }),
        text_area: Some((0.35 * (draw(index, 4) - 0.72)).max(0.0)),
        clip_similarity: Some(0.27 + 0.045 * normal(index, 5)),
        caption_image: Some("a small red boat on calm water in front of a harbour wall".to_owned()),
        status: if failed { Status::Failed } else { Status::Ok },
        reason: failed.then(|| "decoding stopped at frame 12: invalid data found".to_owned()),
        ..ClipRow::default()
    };
    clip.versions.cuts = "cascade 1: 24/8/2 frames a second".to_owned();
    clip.versions.motion = "farneback 1".to_owned();
    clip.versions.text = "tesseract 5.3.0".to_owned();
    clip.versions.clip = "openai ViT-L/14, sha256 3f1c0a".to_owned();
    clip
}

fn source(index: u64) -> SourceRow {
    let failed = index % 80 == 79;
    SourceRow {
        status: if failed { Status::Failed } else { Status::Ok },
        reason: failed.then(|| {
            [
                "no video stream",
                "0 bytes",
                "moov atom not found; the file is truncated",
            ][(index / 80 % 3) as usize]
                .to_owned()
        }),
        ..SourceRow::default()
    }
}

fn costs() -> Vec<StepCost> {
    let rows = [
        ("probe", 560, 31.0),
        ("decode", 560, 5120.0),
        ("cuts", 2_000_000, 610.0),
        ("clips", 6000, 44.0),
        ("motion", 6000, 890.0),
        ("text", 18_000, 1460.0),
        ("clip", 18_000, 8210.0),
    ];
    rows.map(|(step, items, cpu_s)| StepCost {
        step: step.to_owned(),
        items,
        cpu_s,
        wall_s: cpu_s * 1.1,
    })
    .to_vec()
}

/// A sky, water and a few hills in colours of the clip's own.
fn picture(id: &str) -> Option<Rgb8Image> {
    let seed = u64::from_str_radix(id, 16).ok()? >> 8;
    let (horizon, phase) = (0.4 + 0.25 * draw(seed, 0), TAU * draw(seed, 1));
    let hue = draw(seed, 2);
    Some(Rgb8Image::from_fn(640, 360, |x, y| {
        let (u, v) = (x as f32 / 640.0, y as f32 / 360.0);
        let hill = horizon - 0.12 * (1.0 + (u * 7.0 + phase).sin() * (u * 3.0 - phase).cos());
        let shade = if v > horizon {
            let wave = 0.06 * ((v - horizon) * 220.0 + (u * 40.0 + phase).sin() * 3.0).sin();
            [0.16 + wave, 0.34 + 0.2 * hue + wave, 0.5 + wave]
        } else if v > hill {
            [0.2 + 0.2 * hue, 0.34, 0.28 - 0.1 * hue]
        } else {
            [0.62 + 0.35 * hue * v, 0.72, 0.9 - 0.3 * hue * v]
        };
        shade.map(|value| (255.0 * value.clamp(0.0, 1.0)) as u8)
    }))
}
