//! Where arrays live and work is done.

/// The machine part that holds an array and computes with it, chosen at run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The processor's cores and main memory: always there.
    #[default]
    Cpu,
    /// An NVIDIA card, by its number.
    Cuda(usize),
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl std::str::FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Device::Cpu),
            cuda if cuda == "cuda" || cuda.starts_with("cuda:") => Err(
                "device: no whole model runs on a card yet, only single operations do; take `cpu`"
                    .to_owned(),
            ),
            other => Err(format!("device: expected `cpu`, found `{other}`")),
        }
    }
}
