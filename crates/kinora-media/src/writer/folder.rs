//! A folder of numbered PNG frames.

use crate::error::Result;
use crate::image::Rgb8Image;
use crate::metadata::side_file;
use crate::unfinished::{UnfinishedFolder, check_folder, write_whole};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Folder {
    unfinished: UnfinishedFolder,
    path: PathBuf,
    text: String,
    frames: usize,
}

impl Folder {
    pub fn create(path: &Path, text: String) -> Result<Folder> {
        // Without the slash that may end it, so that its parent is its parent.
        let path: PathBuf = path.components().collect();
        Ok(Folder {
            unfinished: UnfinishedFolder::create(&path, is_frame)?,
            path,
            text,
            frames: 0,
        })
    }

    pub fn push(&mut self, frame: &Rgb8Image) -> Result<()> {
        let name = format!("frame_{:05}.png", self.frames);
        let path = self.path.join(&name);
        frame
            .save(&self.unfinished.path().join(name))
            .map_err(|failure| failure.about(&path))?;
        self.frames += 1;
        Ok(())
    }

    pub fn finish(self) -> Result<()> {
        self.unfinished.finish()?;
        write_whole(&side_file(&self.path), self.text.as_bytes())
    }
}

/// Refuses a place where no folder of frames can be.
pub(super) fn check(path: &Path) -> Result<()> {
    let path: PathBuf = path.components().collect();
    check_folder(&path, is_frame)
}

/// Whether a file is a frame that an earlier run may have written here.
fn is_frame(name: &OsStr) -> bool {
    let number = name
        .to_str()
        .and_then(|name| name.strip_prefix("frame_")?.strip_suffix(".png"));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}
