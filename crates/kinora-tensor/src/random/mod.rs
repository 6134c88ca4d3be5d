//! Random numbers. Nothing here reads a clock or a global state: a generator is made from a seed and
//! passed to whoever draws.

mod box_muller;
mod philox;
mod torch_cpu;

pub use philox::Philox;
pub use torch_cpu::TorchCpu;
