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

    /// `cpu`, `cuda` for the first card, or `cuda:1` for the second and so on.
    fn from_str(text: &str) -> Result<Self, String> {
        let ordinal = match text {
            "cpu" => return Ok(Device::Cpu),
            "cuda" => Some(0),
            other => other.strip_prefix("cuda:").and_then(|n| n.parse().ok()),
        };
        ordinal.map(Device::Cuda).ok_or_else(|| {
            format!("device: expected `cpu`, `cuda`, or `cuda:` and a number, found `{text}`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for odd in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda1"] {
            let error = odd.parse::<Device>().unwrap_err();
            assert!(error.ends_with(&format!("found `{odd}`")), "{error}");
        }
    }
}
