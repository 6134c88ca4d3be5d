//! Which device does the work: the one that was asked for, or, for `auto`, the first card that can be
//! used and has room, and the processor where there is none.

use crate::memory;
use anyhow::Context as _;
use kinora_model::compute::Compute;
use kinora_tensor::{DType, Device};

/// What `--device` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceWish {
    /// The first card that can be used and has room, else the processor.
    Auto,
    /// This one, or a refusal.
    On(Device),
}

impl std::fmt::Display for DeviceWish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceWish::Auto => f.write_str("auto"),
            DeviceWish::On(device) => device.fmt(f),
        }
    }
}

impl std::str::FromStr for DeviceWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(DeviceWish::Auto),
            other => other.parse().map(DeviceWish::On).map_err(|error: String| {
                // What a `Device` may be, and `auto`.
                error.replacen("`cpu`", "`auto`, `cpu`", 1)
            }),
        }
    }
}

/// A device that is ready, and the memory that is free there.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The device and its element type.
    pub compute: Compute,
    /// Bytes, where they can be told.
    pub free_bytes: Option<usize>,
}

impl Place {
    /// Makes a device ready. Every card that can be used has bf16, which keeps the range of f32: it is
    /// the default there.
    ///
    /// # Errors
    /// When the driver, a library or the card is missing, in a sentence that says what was looked for
    /// and where; when the processor is asked for another type than f32.
    pub fn on(device: Device, dtype: Option<DType>) -> anyhow::Result<Self> {
        let (dtype, free_bytes) = match device {
            Device::Cpu => {
                let free = memory::available_bytes().map(|bytes| bytes as usize);
                (dtype.unwrap_or(DType::F32), free)
            }
            _ => {
                let card = kinora_tensor::ready_card(device)?;
                (dtype.unwrap_or(DType::BF16), Some(card.free_bytes))
            }
        };
        Ok(Place {
            compute: Compute::new(device, dtype)?,
            free_bytes,
        })
    }
}

/// Refuses a card that cannot be used, for work that has much to do before it needs it.
///
/// # Errors
/// As [`Place::on`].
pub fn check(wish: DeviceWish) -> anyhow::Result<()> {
    match wish {
        DeviceWish::On(device @ Device::Cuda(_)) => {
            kinora_tensor::ready_card(device)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The device for work that `fit` plans, what it planned, and for `auto` a line that says which was
/// taken and why.
///
/// # Errors
/// When the device that was asked for cannot be used, or the work does not fit; for `auto`, when it
/// does not even fit on the processor.
pub fn choose<T>(
    wish: DeviceWish,
    dtype: Option<DType>,
    fit: impl Fn(&Place) -> anyhow::Result<T>,
) -> anyhow::Result<(Place, T, Option<String>)> {
    match wish {
        DeviceWish::On(device) => {
            let place = Place::on(device, dtype)?;
            let planned = fit(&place)?;
            Ok((place, planned, None))
        }
        DeviceWish::Auto => {
            let cards = kinora_tensor::cards().map(|cards| {
                let names = cards.into_iter().map(|card| card.name).enumerate();
                names.map(|(k, name)| (Device::Cuda(k), name)).collect()
            });
            first_that_fits(cards, dtype, fit)
        }
    }
}

fn first_that_fits<T>(
    cards: Result<Vec<(Device, String)>, String>,
    dtype: Option<DType>,
    fit: impl Fn(&Place) -> anyhow::Result<T>,
) -> anyhow::Result<(Place, T, Option<String>)> {
    let mut passed = Vec::new();
    match cards {
        Err(fault) => passed.push(fault),
        Ok(cards) if cards.is_empty() => passed.push("the driver knows no card".to_owned()),
        Ok(cards) => {
            for (device, name) in cards {
                let tried = Place::on(device, dtype).and_then(|place| Ok((place, fit(&place)?)));
                match tried {
                    Ok((place, planned)) => {
                        let text = format!("device: {}, {name}: {}", place.compute, room(&place));
                        return Ok((place, planned, Some(text)));
                    }
                    Err(error) => passed.push(format!("{name}: {}", crate::in_words(&error))),
                }
            }
        }
    }
    // The type that was asked for was a card's.
    let place = Place::on(Device::Cpu, None)?;
    let passed = passed.join("; ");
    let planned = fit(&place).with_context(|| format!("no card was taken ({passed}), and cpu"))?;
    let text = format!("device: {}, as no card was taken: {passed}", place.compute);
    Ok((place, planned, Some(text)))
}

fn room(place: &Place) -> String {
    let gib = place.free_bytes.unwrap_or(0) as f64 / f64::from(1 << 30);
    format!("the first that can be used and has room, {gib:.1} GiB free")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn a_wish_is_read_as_it_is_written() {
        for wish in [
            DeviceWish::Auto,
            DeviceWish::On(Device::Cpu),
            DeviceWish::On(Device::Cuda(2)),
        ] {
            assert_eq!(wish.to_string().parse(), Ok(wish));
        }
        let error = "gpu".parse::<DeviceWish>().unwrap_err();
        assert!(error.contains("expected `auto`, `cpu`, `cuda`"), "{error}");
    }

    #[test]
    fn auto_takes_the_first_card_with_room_and_else_the_processor() {
        let sizes = [1 << 10, 1 << 20, 1 << 21];
        let cards: Vec<Device> = sizes
            .iter()
            .filter_map(|b| kinora_tensor::host_device(*b))
            .collect();
        let named = |cards: &[Device]| {
            let names = cards.iter().map(|device| (*device, format!("a {device}")));
            Ok(names.collect::<Vec<_>>())
        };
        let fit = |place: &Place| match place.compute.is_on_card() {
            true if place.free_bytes < Some(1 << 20) => bail!("this needs 1.0 MiB"),
            _ => Ok(place.compute.dtype()),
        };
        if let [small, middle, _] = cards[..] {
            let (place, planned, text) = first_that_fits(named(&cards), None, fit).unwrap();
            assert_eq!((place.compute.device(), planned), (middle, DType::BF16));
            let text = text.unwrap();
            assert!(
                text.starts_with(&format!("device: {middle} in bf16")),
                "{text}"
            );
            let half = Some(DType::F16);
            let (place, planned, text) = first_that_fits(named(&[small]), half, fit).unwrap();
            assert_eq!((place.compute, planned), (Compute::PROCESSOR, DType::F32));
            let text = text.unwrap();
            assert!(
                text.contains(&format!("a {small}: this needs 1.0 MiB")),
                "{text}"
            );
        }
        let (place, _, text) = first_that_fits(Err("no driver".into()), None, fit).unwrap();
        assert_eq!(place.compute, Compute::PROCESSOR);
        assert_eq!(
            text.unwrap(),
            "device: cpu in f32, as no card was taken: no driver"
        );
    }
}
