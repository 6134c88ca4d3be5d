//! What a file is and says of itself, before a frame is decoded.

use super::Work;
use crate::cache::Maker;
use crate::content::{hash, remembered_hash};
use crate::sources::{Local, identity};
use crate::{Error, Result};
use kinora_media::{Packet, VideoInfo, probe_packets, probe_within};
use std::path::Path;
use std::time::Duration;

/// How long ffprobe may look at a file, where it need not read all of it.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// A video that is known by its bytes and can be read here.
pub(super) struct Opened {
    pub local: Local,
    pub content: String,
}

/// What a video says of itself.
pub(super) struct Probed {
    pub info: VideoInfo,
    /// Its coded pictures, for what is cut without encoding; none where they carry no times or all is
    /// encoded.
    pub packets: Vec<Packet>,
}

impl Opened {
    pub fn path(&self) -> &Path {
        self.local.path()
    }
}

impl Work<'_> {
    /// The hash of an object's bytes where an earlier run has fetched it as it still is: so that a run
    /// with nothing to do fetches nothing.
    pub(super) fn known_content(&mut self) -> Result<Option<String>> {
        let (name, stores) = (self.name, &self.workshop.stores);
        let state = self.costs.of("ingest", 0, || identity(name, stores))?;
        let cache = self.workshop.ledger.cache();
        Ok(state.and_then(|state| cache.get(&fetched(), &state)))
    }

    /// Fetches the video where it lies elsewhere, and hashes its bytes.
    pub(super) fn open(&mut self) -> Result<Opened> {
        let (name, workshop) = (self.name, self.workshop);
        let (ledger, cache) = (&workshop.ledger, workshop.ledger.cache());
        let place = &mut self.place;
        let opened = self.costs.of("ingest", 1, || {
            let local = Local::open(name, &workshop.stores, &ledger.fetched(), workshop.stop)?;
            *place = local.path().display().to_string();
            let about = std::fs::metadata(local.path()).map_err(Error::file(local.path()))?;
            let content = match local.state() {
                Some(state) => {
                    let content = hash(local.path())?;
                    cache.put(&fetched(), state, &content)?;
                    content
                }
                None => remembered_hash(local.path(), &cache)?,
            };
            Ok::<_, Error>((about.len(), Opened { local, content }))
        });
        let (bytes, opened) = opened?;
        self.annotation.source.bytes = bytes;
        self.annotation.source.content.clone_from(&opened.content);
        Ok(opened)
    }

    /// Asks ffprobe, once, and writes down what it says.
    pub(super) fn probe(&mut self, opened: &Opened) -> Result<Probed> {
        let (path, config) = (opened.path(), &self.workshop.config);
        let limit = Duration::try_from_secs_f64(config.ingest.time_limit_s).unwrap_or(PROBE_LIMIT);
        let (info, packets) = self.costs.of("ingest", 0, || match config.clips.encode {
            true => probe_within(path, PROBE_LIMIT).map(|info| (info, Vec::new())),
            false => probe_packets(path, limit),
        })?;
        let row = &mut self.annotation.source;
        row.duration_s = info.duration_secs.unwrap_or(0.0);
        row.fps = info.fps.map_or(0.0, |fps| fps.as_f64());
        row.width = info.width as u32;
        row.height = info.height as u32;
        row.codec.clone_from(&info.codec);
        Ok(Probed { info, packets })
    }
}

/// Who knows the hash of an object by what its store says of it.
fn fetched() -> Maker {
    Maker::new("content", "store", "1", "")
}
