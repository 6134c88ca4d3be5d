//! Weights as files: what is opened, what is written, and what is refused.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod files;
mod tiny;

mod describe;
mod folder;
mod hostile;
mod original;
