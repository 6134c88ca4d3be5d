//! The gated feed-forward layer of a transformer.

use super::Linear;
use crate::Result;
use crate::params::Source;
use kinora_tensor::{Device, Tensor, is_recording, ops};

/// How many tokens are widened at once on a card where nothing is recorded: all at once, the widened ones
/// would be the largest array of the whole network. In runs this long the weights are still read seldom
/// enough to cost nothing.
const RUN_ON_A_CARD: usize = 4096;
/// The processor gates tokens as it widens them, so that a run can be longer, and fewer are copied in and out.
const RUN_ON_THE_PROCESSOR: usize = 16384;

fn run_on(device: Device) -> usize {
    match device {
        Device::Cpu => RUN_ON_THE_PROCESSOR,
        _ => RUN_ON_A_CARD,
    }
}

/// Values a layer holds for each channel, beside its input and its result, when it is given so many tokens:
/// four for each token of a run that is gated as it is widened, twelve where both steps are apart.
pub(crate) fn values_held(tokens: usize) -> usize {
    (4 * tokens.min(RUN_ON_THE_PROCESSOR)).max(12 * tokens.min(RUN_ON_A_CARD))
}

/// Widens four times, gates by GELU, and narrows again: GEGLU, Shazeer 2020.
#[derive(Clone, Debug)]
pub struct FeedForward {
    widen: Linear,
    narrow: Linear,
}

impl FeedForward {
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn new(source: &Source, channels: usize) -> Result<Self> {
        let source = source.at("net");
        let inner = 4 * channels;
        Ok(FeedForward {
            widen: Linear::new(&source.at(0).at("proj"), channels, 2 * inner)?,
            narrow: Linear::new(&source.at(2), inner, channels)?,
        })
    }

    /// `onto` + what it makes of `x`.
    ///
    /// # Shapes
    /// `x` `[.., c]`, `onto` likewise; so is the result.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's, or `onto` is not like `x`.
    pub fn forward_onto(&self, onto: &Tensor, x: &Tensor) -> Result<Tensor> {
        let channels = x.shape().last();
        let tokens = x.elements() / channels.max(1);
        let run = run_on(x.device());
        if is_recording() || tokens <= run {
            return self.at_once(onto, x);
        }
        let [x_rows, onto_rows] = [x, onto].map(|x| x.reshape([tokens, channels]));
        let (x_rows, onto_rows) = (x_rows?, onto_rows?);
        let runs = (0..tokens).step_by(run).map(|first| {
            let len = run.min(tokens - first);
            let rows_of = |rows| ops::narrow(rows, 0, first, len);
            self.at_once(&rows_of(&onto_rows)?, &rows_of(&x_rows)?)
        });
        let runs = runs.collect::<Result<Vec<_>>>()?;
        let joined = ops::concat(&runs.iter().collect::<Vec<_>>(), 0)?;
        Ok(joined.reshape(onto.shape())?)
    }

    fn at_once(&self, onto: &Tensor, x: &Tensor) -> Result<Tensor> {
        let gated = self.widen.forward_gated(x)?;
        self.narrow.forward_onto(onto, &gated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::no_grad;
    use kinora_tensor::testing::{assert_close, numbers};

    #[test]
    fn in_runs_it_gives_what_it_gives_at_once() -> Result<()> {
        let layer = FeedForward::new(&Source::fresh(1), 6)?;
        let tokens = run_on(Device::Cpu) - 3;
        let x = numbers([2, tokens, 6], 2);
        let onto = numbers([2, tokens, 6], 3);
        let at_once = layer.forward_onto(&onto, &x)?;
        let in_runs = no_grad(|| layer.forward_onto(&onto, &x))?;
        assert_eq!(in_runs.dims(), x.dims());
        assert_close(&in_runs.to_vec(), &at_once.to_vec(), 1e-7);
        Ok(())
    }
}
