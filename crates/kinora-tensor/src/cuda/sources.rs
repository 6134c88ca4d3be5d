//! The kernels' sources, part of the program.

use crate::DType;

/// What every source begins with.
const COMMON: &str = include_str!("../../kernels/common.cuh");

/// A file of kernels; each is compiled by itself, once for each storage type in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Attention,
    Elementwise,
    FusedAttention,
    Layout,
    Norm,
    Optim,
    Reduce,
}

impl Source {
    #[cfg(any(test, feature = "host-machine"))]
    pub(super) const ALL: [Source; 7] = [
        Source::Attention,
        Source::Elementwise,
        Source::FusedAttention,
        Source::Layout,
        Source::Norm,
        Source::Optim,
        Source::Reduce,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Source::Attention => "attention",
            Source::Elementwise => "elementwise",
            Source::FusedAttention => "fused_attention",
            Source::Layout => "layout",
            Source::Norm => "norm",
            Source::Optim => "optim",
            Source::Reduce => "reduce",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Source::Attention => include_str!("../../kernels/attention.cu"),
            Source::Elementwise => include_str!("../../kernels/elementwise.cu"),
            Source::FusedAttention => include_str!("../../kernels/fused_attention.cu"),
            Source::Layout => include_str!("../../kernels/layout.cu"),
            Source::Norm => include_str!("../../kernels/norm.cu"),
            Source::Optim => include_str!("../../kernels/optim.cu"),
            Source::Reduce => include_str!("../../kernels/reduce.cu"),
        }
    }

    /// The source as a compiler takes it, for arrays stored as `dtype`.
    pub(super) fn whole(self, dtype: DType) -> String {
        let (define, text) = (define(dtype), self.text());
        format!("{define}\n{COMMON}\n#line 1 \"{}.cu\"\n{text}", self.name())
    }
}

/// All sources as one, behind what stands in for a card on the processor.
#[cfg(any(test, feature = "host-machine"))]
pub(super) fn for_host(dtype: DType) -> String {
    const HOST: &str = include_str!("../../kernels/host.hpp");
    let define = define(dtype);
    let texts = Source::ALL.map(|s| format!("#line 1 \"{}.cu\"\n{}\n", s.name(), s.text()));
    let texts = texts.concat();
    format!("{define}\n{HOST}\n#line 1 \"common.cuh\"\n{COMMON}\n{texts}")
}

fn define(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "#define STORE_F32",
        DType::F16 => "#define STORE_F16",
        DType::BF16 => "#define STORE_BF16",
    }
}
