//! What the user typed. No work is done here.

use crate::device::DeviceWish;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kinora_curate::sources::Slice;
use kinora_curate::step::Step;
use kinora_model::weights::Variant;
use kinora_tensor::{DType, Device};
use std::path::PathBuf;

/// Stable Video Diffusion in one binary: train, generate, inspect, measure.
#[derive(Debug, Parser)]
#[command(
    name = "kinora",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Turn a still picture into a moving one.
    Generate(GenerateArgs),
    /// Turn long videos into a curated set of clips: cuts, scores, captions, thresholds, shards.
    Curate(CurateArgs),
    /// Train a model from a configuration and a folder of videos.
    Train(TrainArgs),
    /// Render footage to train on: short videos of moving, turning, panning and zooming subjects.
    Footage(FootageArgs),
    /// Tell what a weights file, a model folder or a generated video is.
    Inspect(InspectArgs),
    /// Measure this machine, then every stage of the model against it.
    Bench(BenchArgs),
    /// Lay videos and pictures out as one contact sheet, a row each.
    Sheet(SheetArgs),
    /// Tell what is installed, what is missing, and what that disables; on a card, check its operations.
    Doctor(DoctorArgs),
    /// Compute every operation and every block on a card, forward and backward, and the frames of a whole
    /// small model, and hold them against the processor.
    Selfcheck(SelfcheckArgs),
}

/// How to walk from noise to a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SamplerName {
    /// First order, one evaluation a step: the paper's sampler.
    Euler,
    /// Second order, two evaluations a step.
    Heun,
    /// DPM-Solver++(2M): second order from the last two steps, one evaluation a step.
    Dpmpp,
}

/// `kinora generate`
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The still: png, jpeg, webp, gif, bmp, tiff, tga, pnm, qoi or ico.
    pub image: PathBuf,
    /// A model folder, an original single file, or a hub id such as
    /// stabilityai/stable-video-diffusion-img2vid-xt.
    #[arg(long)]
    pub model: String,
    /// Where the video goes; the ending chooses: .mp4 .webm .gif .png (animated) .npy, or a folder
    /// of PNG frames.
    #[arg(long)]
    pub out: PathBuf,
    /// Frames to make [default: what the model was trained for].
    #[arg(long)]
    pub frames: Option<usize>,
    /// Width in pixels [default: what the model was trained for, 1024 for SVD].
    #[arg(long, requires = "height")]
    pub width: Option<usize>,
    /// Height in pixels [default: what the model was trained for, 576 for SVD].
    #[arg(long, requires = "width")]
    pub height: Option<usize>,
    /// Sampling steps [default: 25, or what the model's folder says].
    #[arg(long)]
    pub steps: Option<usize>,
    /// Frames a second: a condition of the model, and the speed of the file [default: 7, or what the
    /// model's folder says].
    #[arg(long)]
    pub fps: Option<u32>,
    /// How much motion to ask for, 0 to 255 [default: 127, or what the model's folder says].
    #[arg(long, allow_negative_numbers = true)]
    pub motion_bucket: Option<f32>,
    /// Noise added to the still before it is encoded, as a standard deviation; more frees the motion
    /// [default: 0.02, or what the model's folder says].
    #[arg(long, allow_negative_numbers = true)]
    pub noise_aug: Option<f32>,
    /// Guidance at the first frame [default: 1, or what the model's folder says].
    #[arg(long, allow_negative_numbers = true)]
    pub guidance_min: Option<f32>,
    /// Guidance at the last frame [default: 3, or what the model's folder says].
    #[arg(long, allow_negative_numbers = true)]
    pub guidance_max: Option<f32>,
    /// The sampler.
    #[arg(long, value_enum, default_value_t = SamplerName::Euler)]
    pub sampler: SamplerName,
    /// Seed of the noise; the same numbers as PyTorch's CPU generator draws.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
    /// Decode this many frames at a time as diffusers does: an approximation, for comparison. Without
    /// it the decode is exact in bounded memory.
    #[arg(long)]
    pub decode_chunk: Option<usize>,
    /// Most memory to use, in GiB [default: what is free]. On a card, weights that do not fit are brought
    /// as they are used.
    #[arg(long, visible_alias = "max-memory", allow_negative_numbers = true)]
    pub max_memory_gib: Option<f64>,
    /// Write the first, the middle and the last frame of the denoised estimate to this picture after
    /// every step.
    #[arg(long)]
    pub preview: Option<PathBuf>,
    /// Weights variant of a diffusers folder: fp32, fp16 or bf16 [default: the first that is there].
    #[arg(long)]
    pub variant: Option<Variant>,
    /// Where to compute: cpu; cuda, or cuda:1 for the second card and so on; or auto, the first card
    /// that can be used and has room, else cpu.
    #[arg(long, default_value_t = DeviceWish::On(Device::Cpu))]
    pub device: DeviceWish,
    /// Type of weights and activations on a card: bf16, f16 or f32 [default: bf16]. Sums are f32 in
    /// each; the processor computes in f32.
    #[arg(long)]
    pub dtype: Option<DType>,
    /// Print the plan and stop.
    #[arg(long)]
    pub plan: bool,
    /// Report in JSON lines on standard output, without a bar.
    #[arg(long)]
    pub json: bool,
}

/// `kinora curate`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CurateArgs {
    /// One part of the work alone.
    #[command(subcommand)]
    pub part: Option<CuratePart>,
    /// All of it.
    #[command(flatten)]
    pub all: Option<CurateAllArgs>,
}

/// The parts of `kinora curate` that can be done alone. (A video that is called as one of them is
/// given as ./merge.)
#[derive(Debug, Subcommand)]
pub enum CuratePart {
    /// Check that every input has its result, whoever made it, and publish the tables.
    Merge(CurateFolderArgs),
    /// Choose the clips again by thresholds: kept.parquet, dropped.parquet, filter.json. Reads the
    /// table of clips, and no video.
    Filter(CurateSelectArgs),
    /// Write the kept clips into shards for training.
    Shards(CurateSelectArgs),
    /// Choose again, and write report.html.
    Report(CurateSelectArgs),
}

/// `kinora curate VIDEOS...`
#[derive(Debug, Args)]
pub struct CurateAllArgs {
    /// Videos: files, folders, text lists (.txt, a path a line), and s3:// or gs:// addresses in a
    /// build with the feature `cloud`.
    #[arg(required = true)]
    pub videos: Vec<String>,
    /// What to do and how (TOML); see configs/curate.toml.
    #[arg(long)]
    pub config: PathBuf,
    /// The folder of the curation. One found there goes on.
    #[arg(long)]
    pub out: PathBuf,
    /// Videos at work at a time [default: one a core].
    #[arg(long)]
    pub workers: Option<usize>,
    /// Do one step alone, with those it stands on, and keep what the others made: cuts, clips,
    /// motion, text, clip or captions.
    #[arg(long, value_name = "STEP")]
    pub only: Option<Step>,
    /// Do one slice of the inputs, i from 0 to n − 1, and publish nothing; `kinora curate merge`
    /// publishes when all slices are done.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Slice>,
    /// Report in JSON lines on standard output, without a bar.
    #[arg(long)]
    pub json: bool,
}

/// `kinora curate merge`
#[derive(Debug, Args)]
pub struct CurateFolderArgs {
    /// The folder of the curation.
    pub folder: PathBuf,
    /// Report in JSON lines on standard output, without a bar.
    #[arg(long)]
    pub json: bool,
}

/// `kinora curate filter`, `shards` and `report`
#[derive(Debug, Args)]
pub struct CurateSelectArgs {
    /// The folder of the curation.
    pub folder: PathBuf,
    /// Take `filter` and `shards` from this configuration, now and from now on [default: those of
    /// the folder].
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Report in JSON lines on standard output, without a bar.
    #[arg(long)]
    pub json: bool,
}

/// `kinora train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The run's configuration (TOML); see configs/.
    pub config: PathBuf,
    /// A folder of video files, a folder of shards, or a curated folder that has shards.
    #[arg(long)]
    pub data: PathBuf,
    /// The run's folder: checkpoints, log, loss curve, samples. A run found there goes on.
    #[arg(long)]
    pub run: PathBuf,
    /// Where to compute. A run may stop on one device and go on on another.
    #[arg(long, default_value_t = Device::Cpu)]
    pub device: Device,
    /// Type of activations: bf16 or f32 [default: bf16 on a card, f32 on the processor]. Weights, their
    /// moments and average, gradients and losses are f32 in both.
    #[arg(long)]
    pub dtype: Option<DType>,
    /// Report in JSON lines on standard output, without a bar.
    #[arg(long)]
    pub json: bool,
}

/// `kinora footage`
#[derive(Debug, Args)]
pub struct FootageArgs {
    /// Folder for the videos.
    pub out: PathBuf,
    /// How many videos.
    #[arg(long, default_value_t = 48)]
    pub videos: usize,
    /// Width in pixels.
    #[arg(long, default_value_t = 96)]
    pub width: usize,
    /// Height in pixels.
    #[arg(long, default_value_t = 96)]
    pub height: usize,
    /// Seed of the scenes.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Edit it as a broadcast is, with titles, captions, dissolves, fades and shots held still: what
    /// `kinora curate` is to find.
    #[arg(long)]
    pub edited: bool,
    /// Also write one scene no video holds: its first frame as a picture here, and its continuation
    /// as a folder of frames beside it.
    #[arg(long)]
    pub held_out: Option<PathBuf>,
    /// What that scene shows: car, fish, plane, pinwheel, balloon or planet.
    #[arg(long, default_value = "car")]
    pub subject: String,
    /// Which of that subject's scenes.
    #[arg(long, default_value_t = 0)]
    pub held_out_index: u64,
    /// Frames of its continuation, the still included.
    #[arg(long, default_value_t = 8)]
    pub held_out_frames: usize,
    /// Frames a second of its continuation.
    #[arg(long, default_value_t = 8)]
    pub held_out_fps: u32,
    /// Report in JSON lines on standard output, without a bar.
    #[arg(long)]
    pub json: bool,
}

/// `kinora inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A weights file, a model folder, a checkpoint, or a video that kinora made.
    pub path: PathBuf,
    /// Report in JSON.
    #[arg(long)]
    pub json: bool,
}

/// `kinora bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A model folder or single file [default: random weights of the preset].
    #[arg(long)]
    pub model: Option<String>,
    /// Preset for random weights: svd, svd-xt, small or tiny.
    #[arg(long, default_value = "svd")]
    pub preset: String,
    /// Frames of the video.
    #[arg(long, default_value_t = 14)]
    pub frames: usize,
    /// Width in pixels.
    #[arg(long, default_value_t = 320)]
    pub width: usize,
    /// Height in pixels.
    #[arg(long, default_value_t = 192)]
    pub height: usize,
    /// Measure this stage alone (may be given several times).
    #[arg(long, value_enum)]
    pub stage: Vec<BenchStage>,
    /// Runs of each stage; the median is told.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Where to compute: cpu; cuda, or cuda:1 for the second card and so on; or auto, the first card
    /// that can be used and has room, else cpu.
    #[arg(long, default_value_t = DeviceWish::On(Device::Cpu))]
    pub device: DeviceWish,
    /// Type of weights and activations on a card: bf16, f16 or f32 [default: bf16]. Sums are f32 in
    /// each; the processor computes in f32.
    #[arg(long)]
    pub dtype: Option<DType>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What `kinora bench` can measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchStage {
    /// The machine: multiply-add rate and memory bandwidth.
    Peak,
    /// The CLIP vision tower on one picture.
    Clip,
    /// The VAE encoder on one picture.
    VaeEncode,
    /// One UNet evaluation: one branch, batch one.
    UnetStep,
    /// The temporal VAE decoder on the whole video.
    VaeDecode,
    /// One training step of the small preset.
    TrainStep,
}

/// `kinora selfcheck`
#[derive(Debug, Args)]
pub struct SelfcheckArgs {
    /// The card: `cuda`, or `cuda:1` for the second.
    #[arg(long, default_value = "cuda", value_parser = card)]
    pub device: Device,
    /// Print JSON objects: for each element type one for the operations, one for the blocks and one for the
    /// frames.
    #[arg(long)]
    pub json: bool,
}

/// A card by its number.
fn card(text: &str) -> Result<Device, String> {
    match text.parse() {
        Ok(device @ Device::Cuda(_)) => Ok(device),
        _ => Err(format!(
            "expected `cuda` or `cuda:` and a number, found `{text}`"
        )),
    }
}

/// `kinora sheet`
#[derive(Debug, Args)]
pub struct SheetArgs {
    /// Rows: a video, a picture or a folder of frames each, with an optional caption: `caption=path`.
    #[arg(required = true)]
    pub rows: Vec<String>,
    /// The picture to write.
    #[arg(long)]
    pub out: PathBuf,
    /// A line above it all.
    #[arg(long, default_value = "")]
    pub title: String,
    /// Frames of a row, spread evenly.
    #[arg(long, default_value_t = 8)]
    pub columns: usize,
}

/// `kinora doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Report in JSON.
    #[arg(long)]
    pub json: bool,
}
