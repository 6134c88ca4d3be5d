//! The packets of files without decoding: the times and kinds of coded pictures.

use super::process::{Process, file_url, split};
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer};
use std::io::{BufRead, BufReader};
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

/// A packet as ffprobe tells of it, in as little memory as it takes.
#[derive(Deserialize)]
pub(super) struct PacketReport {
    stream_index: usize,
    /// Microseconds; none where the container gives no time of presentation.
    #[serde(default, deserialize_with = "micros_of", rename = "pts_time")]
    micros: Option<i64>,
    #[serde(default, rename = "flags")]
    kind: PacketKind,
}

/// `K` for a picture where decoding can start, `D` for one that is not shown.
#[derive(Default, Deserialize)]
#[serde(from = "String")]
struct PacketKind {
    key: bool,
    hidden: bool,
}

impl From<String> for PacketKind {
    fn from(flags: String) -> PacketKind {
        PacketKind {
            key: flags.starts_with('K'),
            hidden: flags.contains('D'),
        }
    }
}

fn micros_of<'de, D: Deserializer<'de>>(secs: D) -> std::result::Result<Option<i64>, D::Error> {
    let secs = String::deserialize(secs)?.parse::<f64>().ok();
    let secs = secs.filter(|secs| secs.is_finite());
    Ok(secs.map(|secs| (secs * 1e6).round() as i64))
}

/// The pictures of a stream that are shown; none where one of them has no time.
pub(super) fn shown(packets: &[PacketReport], stream: usize) -> Vec<Packet> {
    let packets = packets
        .iter()
        .filter(|packet| packet.stream_index == stream);
    let shown = packets.filter(|packet| !packet.kind.hidden);
    let shown: Option<Vec<Packet>> = shown
        .map(|packet| {
            Some(Packet {
                micros: packet.micros?,
                key: packet.kind.key,
            })
        })
        .collect();
    shown.unwrap_or_default()
}

/// Bits of a packet's flags as ffmpeg prints them: decoding can start here; the picture is not shown.
const KEY: u32 = 1;
const HIDDEN: u32 = 4;

/// The packets of the first video streams of several files, file by file, in the order of coding and in
/// one run of ffmpeg: starting it costs more than listing a short clip. Pictures that an edit list hides
/// are left out. Times count from the start of each file, in the unit of its container.
///
/// # Errors
/// When ffmpeg is not installed, takes longer than `time_limit`, or cannot read one of the files: it
/// then does not say of the others what it found.
pub fn list_packets(paths: &[&Path], time_limit: Duration) -> Result<Vec<Vec<Packet>>> {
    let Some(first) = paths.first() else {
        return Ok(Vec::new());
    };
    let mut words = split("-nostdin -hide_banner -v error -protocol_whitelist file,pipe");
    for path in paths {
        words.extend(["-i".into(), file_url(path)]);
    }
    for number in 0..paths.len() {
        words.extend(split(&format!("-map {number}:v:0")));
    }
    words.extend(split("-c copy -copyinkf -f framecrc pipe:1"));
    let mut process = Process::spawn("ffmpeg", first, &words, false, time_limit)?;
    let output = process.take_output().expect("the output was not taken yet");
    let found = process
        .within_limit(|| packets_of(BufReader::new(output), paths.len()))
        .map_err(Error::io("read ffmpeg's list of packets of", first))?;
    process.finish()?;
    Ok(found)
}

/// Reads what the muxer `framecrc` writes: `#tb 0: 1/12800` for each stream, then `stream, dts, pts,
/// duration, size, checksum` for each packet, and its flags where they are others than those of a key
/// frame.
fn packets_of(lines: impl BufRead, files: usize) -> std::io::Result<Vec<Vec<Packet>>> {
    let mut ticks_secs = vec![0.0; files];
    let mut packets = vec![Vec::new(); files];
    for line in lines.lines() {
        let line = line?;
        if let Some(told) = line.strip_prefix("#tb ") {
            if let Some((stream, secs)) = time_base(told)
                && let Some(tick_secs) = ticks_secs.get_mut(stream)
            {
                *tick_secs = secs;
            }
        } else if let Some((stream, ticks, flags)) = packet_line(&line)
            && let (Some(list), Some(tick_secs)) = (packets.get_mut(stream), ticks_secs.get(stream))
            && flags & HIDDEN == 0
        {
            list.push(Packet {
                micros: (ticks as f64 * tick_secs * 1e6).round() as i64,
                key: flags & KEY != 0,
            });
        }
    }
    Ok(packets)
}

/// Stream and seconds a tick from `0: 1/12800`.
fn time_base(told: &str) -> Option<(usize, f64)> {
    let (stream, base) = told.split_once(':')?;
    let (above, below) = base.trim().split_once('/')?;
    let secs = above.parse::<f64>().ok()? / below.parse::<f64>().ok()?;
    Some((stream.trim().parse().ok()?, secs))
}

/// Stream, time in ticks and flags of a packet.
fn packet_line(line: &str) -> Option<(usize, i64, u32)> {
    let mut fields = line.split(',').map(str::trim);
    let stream = fields.next()?.parse().ok()?;
    let ticks = fields.nth(1)?.parse().ok()?;
    let flags = fields.nth(3).and_then(|field| field.strip_prefix("F=0x"));
    let flags = flags.map_or(Some(KEY), |text| u32::from_str_radix(text, 16).ok())?;
    Some((stream, ticks, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pictures shown of stream 1, from ffprobe's words.
    fn shown_of(packets: &str) -> Vec<Packet> {
        let packets: Vec<PacketReport> = serde_json::from_str(packets).unwrap();
        shown(&packets, 1)
    }

    #[test]
    fn hidden_pictures_are_left_out_and_times_are_exact() {
        let list = r#"[{"stream_index":1,"pts_time":"0.083333","flags":"K_"},
            {"stream_index":0,"pts_time":"9.0","flags":"K_"},
            {"stream_index":1,"pts_time":"0.250000","flags":"__"},
            {"stream_index":1,"pts_time":"-0.041667","flags":"KD"}]"#;
        let packet = |micros, key| Packet { micros, key };
        assert_eq!(
            shown_of(list),
            [packet(83_333, true), packet(250_000, false)]
        );
    }

    #[test]
    fn without_times_there_is_nothing_to_cut_on() {
        let timed = r#"{"stream_index":1,"pts_time":"0.0","flags":"K_"}"#;
        assert_eq!(shown_of(&format!("[{timed}]")).len(), 1);
        for untimed in [
            r#"{"stream_index":1,"flags":"__"}"#,
            r#"{"stream_index":1,"pts_time":"N/A","flags":"__"}"#,
        ] {
            assert!(shown_of(&format!("[{timed},{untimed}]")).is_empty());
        }
    }

    #[test]
    fn packets_of_several_files_come_apart_and_hidden_ones_are_left_out() {
        let list = "#software: Lavf59.27.100\n#tb 0: 1/12800\n#tb 1: 1/1000\n#sar 1: 1/1\n\
            0,  -512,     0,  512,  905, 0x5d1f\n\
            1,     0,     0,   41,  300, 0x11aa, S=1,  8, 0x0\n\
            0,     0,  1024,  512,   80, 0x0d1f, F=0x0\n\
            1,    41,    42,   41,   70, 0x01aa, F=0x5\n";
        let packet = |micros, key| Packet { micros, key };
        let expected = [
            vec![packet(0, true), packet(80_000, false)],
            vec![packet(0, true)],
        ];
        assert_eq!(packets_of(list.as_bytes(), 2).unwrap(), expected);
        let nothing: [Vec<Packet>; 1] = [vec![]];
        assert_eq!(
            packets_of("0, no, packet\n".as_bytes(), 1).unwrap(),
            nothing
        );
    }
}
