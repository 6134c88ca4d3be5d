//! Weights as files: what is opened, what is written, and what is refused.

mod files;
mod tiny;

mod describe;
mod folder;
mod hostile;
mod original;
