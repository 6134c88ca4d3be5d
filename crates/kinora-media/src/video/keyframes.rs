//! Where a video can be cut without decoding: the times and kinds of its packets.

use super::probe::VideoInfo;
use super::process::{Process, file_url, split};
use crate::error::{Error, Result};
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

/// One coded picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When its picture is shown, in microseconds, as the file counts them.
    pub micros: i64,
    /// Whether decoding can start here.
    pub key: bool,
}

/// The pictures of a video in the order in which they are coded, without decoding any. Those that an
/// edit list hides are left out. Empty where the container gives no times of presentation (raw
/// streams): such a video can be cut only by encoding it again.
///
/// # Errors
/// When ffprobe is not installed, fails, or takes longer than `time_limit`.
pub fn read_packets(path: &Path, info: &VideoInfo, time_limit: Duration) -> Result<Vec<Packet>> {
    let mut words = split("-hide_banner -v error -protocol_whitelist file,pipe -select_streams");
    words.push(info.stream.to_string().into());
    words.extend(split("-show_entries packet=pts_time,flags -of csv=p=0"));
    words.push(file_url(path));
    let mut process = Process::spawn("ffprobe", path, &words, false, time_limit)?;
    let output = process.take_output().expect("the output was not taken yet");
    let packets = process
        .within_limit(|| packets_of(BufReader::new(output)))
        .map_err(Error::io("read ffprobe's list of packets of", path))?;
    process.finish()?;
    Ok(packets)
}

fn packets_of(lines: impl std::io::BufRead) -> std::io::Result<Vec<Packet>> {
    let mut packets = Vec::new();
    let mut untimed = false;
    for line in lines.lines() {
        let line = line?;
        let mut fields = line.trim().split(',');
        let (Some(secs), Some(flags)) = (fields.next(), fields.next()) else {
            continue;
        };
        if flags.contains('D') {
            continue;
        }
        match secs.parse::<f64>() {
            Ok(secs) if secs.is_finite() => packets.push(Packet {
                micros: (secs * 1e6).round() as i64,
                key: flags.starts_with('K'),
            }),
            _ => untimed = true,
        }
    }
    if untimed {
        packets.clear();
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_pictures_are_left_out_and_times_are_exact() {
        let list = "0.083333,K_\n0.250000,__\n-0.041667,KD\n0.166667,__,\n\n";
        let packet = |micros, key| Packet { micros, key };
        let expected = [
            packet(83_333, true),
            packet(250_000, false),
            packet(166_667, false),
        ];
        assert_eq!(packets_of(list.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn without_times_there_is_nothing_to_cut_on() {
        assert!(
            packets_of("0.0,K_\nN/A,__\n".as_bytes())
                .unwrap()
                .is_empty()
        );
    }
}
