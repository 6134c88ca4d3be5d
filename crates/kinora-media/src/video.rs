//! Videos: what a file holds ([`probe`]), and its frames one by one ([`Reader`]).
//!
//! ffmpeg does the decoding, as a child process and not as a library: a hostile file can then end a
//! child but not this program, and a time limit is a limit.

mod analysis;
mod packets;
mod probe;
mod process;
mod raw_frames;
mod reader;
mod stream_copy;
mod times;

pub use analysis::{AnalysisFrame, AnalysisOptions, AnalysisReader};
pub use packets::{Packet, list_packets};
pub use probe::{Rotation, VideoInfo, probe, probe_packets, probe_within};
pub use process::children_cpu_secs;
pub(crate) use process::{Process, end_all_processes, file_url, require_program, split};
pub use reader::{Frame, ReadOptions, Reader};
pub use stream_copy::{CopyOptions, PartCopy, stream_copy};
