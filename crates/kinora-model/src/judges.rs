//! Networks that judge pictures and never learn here: aesthetics, text, captions.

pub mod aesthetic;
pub mod coca;
pub mod craft;
