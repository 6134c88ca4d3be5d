//! The binary as a black box: each test types a command in a fresh folder and looks at what is there
//! afterwards, at the exit code, and at what was said.

// A test that cannot set itself up has failed.
#![allow(clippy::unwrap_used)]

mod device;
mod generate;
mod interrupted;
mod looking;
mod models;
mod pictures;
mod place;
mod resume;
mod shards;
mod train;
