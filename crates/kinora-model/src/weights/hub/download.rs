//! One file after another, each taken up where an earlier run or a broken connection left it.

use super::cache::{self, Cache};
use super::client::{Announced, Client, Listing, Refusal};
use super::{Progress, Report, hub_error};
use crate::weights::fingerprint::hash_of_file;
use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;
use ureq::Body;
use ureq::http::Response;

/// How often in a row nothing may arrive.
const TRIES: u32 = 5;
const BUFFER_BYTES: usize = 1 << 18;

/// The downloading of a model's files.
pub(super) struct Download<'a, 'b> {
    pub(super) client: &'a Client<'a>,
    pub(super) cache: &'a Cache,
    pub(super) listing: &'a Listing,
    pub(super) retry_wait: Duration,
    pub(super) report: &'a mut Report<'b>,
    pub(super) done_bytes: u64,
    pub(super) total_bytes: u64,
}

impl Download<'_, '_> {
    /// Sees that every one of `files` is in the cache.
    pub(super) fn all(&mut self, files: &[String]) -> Result<()> {
        let wanted: Vec<&String> = files
            .iter()
            .filter(|file| !self.snapshot().join(file).exists())
            .collect();
        self.total_bytes += files
            .iter()
            .map(|file| self.listing.size(file))
            .sum::<u64>();
        let here = files.iter().filter(|file| !wanted.contains(file));
        self.done_bytes += here.map(|file| self.listing.size(file)).sum::<u64>();
        for file in wanted {
            self.one(file)?;
            self.done_bytes += self.listing.size(file);
        }
        Ok(())
    }

    fn snapshot(&self) -> std::path::PathBuf {
        self.cache.snapshot(&self.listing.commit)
    }

    fn one(&mut self, file: &str) -> Result<()> {
        if !file.split('/').all(cache::is_plain) {
            return Err(hub_error(
                self.client.id(),
                format!("`{file}` is no name for a file"),
            ));
        }
        let commit = &self.listing.commit;
        let announced = self.insist(file, |this| this.client.announced(commit, file), || 0)?;
        let (blob, incomplete) = self.cache.blob(&announced.etag)?;
        let _lock = self.cache.lock(&announced.etag)?;
        if !blob.exists() {
            self.gather(file, &announced, &incomplete)?;
            self.verify(file, &announced, &incomplete)?;
            fs::rename(&incomplete, &blob).map_err(|error| Error::io(&blob, "write", error))?;
        }
        self.cache.link(&self.snapshot(), file, &announced.etag)
    }

    /// Asks until all bytes are in `incomplete`.
    fn gather(&mut self, file: &str, announced: &Announced, incomplete: &Path) -> Result<()> {
        let length = || fs::metadata(incomplete).map_or(0, |found| found.len());
        while length() != announced.size_bytes || !incomplete.exists() {
            let attempt = |this: &mut Self| this.stream(file, announced, incomplete);
            self.insist(file, attempt, length)?;
        }
        Ok(())
    }

    /// Tries until it works, or until nothing new has come several times in a row.
    fn insist<T>(
        &mut self,
        file: &str,
        mut attempt: impl FnMut(&mut Self) -> std::result::Result<T, Refusal>,
        arrived_bytes: impl Fn() -> u64,
    ) -> Result<T> {
        let (mut fruitless, mut wait) = (0, self.retry_wait);
        loop {
            let before = arrived_bytes();
            let reason = match attempt(self) {
                Ok(done) => return Ok(done),
                Err(Refusal::Told(error)) => return Err(error),
                Err(Refusal::Unreachable(reason)) => reason,
            };
            if arrived_bytes() > before {
                (fruitless, wait) = (0, self.retry_wait);
            } else {
                fruitless += 1;
            }
            if fruitless == TRIES {
                return Err(hub_error(
                    self.client.id(),
                    format!(
                        "{file} could not be downloaded ({reason}), tried {TRIES} times; what has \
                         arrived is kept, run the same command again to go on from there"
                    ),
                ));
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
    }

    /// Appends to `incomplete` what one connection gives.
    fn stream(
        &mut self,
        file: &str,
        announced: &Announced,
        incomplete: &Path,
    ) -> std::result::Result<(), Refusal> {
        let size = announced.size_bytes;
        let mut start = fs::metadata(incomplete).map_or(0, |found| found.len());
        if start > size {
            start = 0;
        }
        let response = self.client.bytes(&self.listing.commit, file, start)?;
        let start = self.first_byte(file, &response, start, size)?;
        let mut out = open_at(incomplete, start).map_err(Refusal::Told)?;
        if response.status().as_u16() == 416 {
            return Err(Refusal::Unreachable(
                "the server has no such part".to_owned(),
            ));
        }
        self.copy(
            file,
            response.into_body().into_reader(),
            &mut out,
            incomplete,
            start,
            size,
        )
    }

    /// Where in the file an answer's bytes begin, if they are of the file that was announced.
    fn first_byte(
        &self,
        file: &str,
        response: &Response<Body>,
        start: u64,
        size: u64,
    ) -> std::result::Result<u64, Refusal> {
        let header = |name| response.headers().get(name)?.to_str().ok();
        let (promised, start) = match response.status().as_u16() {
            206 => match header("content-range").and_then(read_content_range) {
                Some((from, total)) if from == start => (Some(total), start),
                _ => return Err(self.wrong(file, "another part than was asked for".to_owned())),
            },
            // Nothing is left to send, yet not all is here: begin again.
            416 => (None, 0),
            // The server does not know parts.
            _ => (
                header("content-length").and_then(|length| length.parse().ok()),
                0,
            ),
        };
        match promised {
            Some(promised) if promised != size => {
                Err(self.wrong(file, format!("{promised} bytes, announced were {size}")))
            }
            _ => Ok(start),
        }
    }

    fn copy(
        &mut self,
        file: &str,
        mut body: impl Read,
        out: &mut File,
        path: &Path,
        start: u64,
        size: u64,
    ) -> std::result::Result<(), Refusal> {
        let mut arrived = start;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let progress = Progress {
                file,
                done_bytes: self.done_bytes + arrived,
                total_bytes: self.total_bytes,
            };
            if (self.report)(progress).is_break() {
                let during = "downloading";
                return Err(Refusal::Told(Error::Stopped { during }));
            }
            let count = match body.read(&mut buffer) {
                Ok(0) if arrived == size => return Ok(()),
                Ok(0) => return Err(Refusal::Unreachable(cut(arrived, size))),
                Ok(count) => count,
                Err(error) => {
                    return Err(Refusal::Unreachable(format!(
                        "{error}, {}",
                        cut(arrived, size)
                    )));
                }
            };
            arrived += count as u64;
            if arrived > size {
                return Err(self.wrong(file, format!("more than the {size} bytes announced")));
            }
            let written = out.write_all(&buffer[..count]);
            written.map_err(|error| Refusal::Told(Error::io(path, "write", error)))?;
        }
    }

    /// The etag of a large file is the SHA-256 of its bytes.
    fn verify(&self, file: &str, announced: &Announced, incomplete: &Path) -> Result<()> {
        let etag = announced.etag.to_ascii_lowercase();
        if etag.len() != 64 || !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        let found = hash_of_file(incomplete)?;
        if found == etag {
            return Ok(());
        }
        // Going on from wrong bytes would not mend them.
        fs::remove_file(incomplete).map_err(|error| Error::io(incomplete, "remove", error))?;
        Err(hub_error(
            self.client.id(),
            format!(
                "what arrived of {file} is not what the hub announced (SHA-256 {found}, expected \
                 {etag}); it was thrown away, run the same command again"
            ),
        ))
    }

    fn wrong(&self, file: &str, what: String) -> Refusal {
        Refusal::Told(hub_error(
            self.client.id(),
            format!("the server sends of {file} {what}; try again later, or check HF_ENDPOINT"),
        ))
    }
}

fn cut(arrived: u64, size: u64) -> String {
    format!("the connection ended after {arrived} of {size} bytes")
}

/// The file, cut to `length` and to be written from there.
fn open_at(path: &Path, length: u64) -> Result<File> {
    let refused = |error| Error::io(path, "write", error);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(refused)?;
    file.set_len(length).map_err(refused)?;
    Ok(file)
}

/// `bytes 5-9/10` as 5 and 10.
fn read_content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, total.trim().parse().ok()?))
}
