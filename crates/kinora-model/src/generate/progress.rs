//! What is told while a clip is made, and how it is stopped.

use crate::{Error, Result};
use kinora_diffusion::sampler::Step;
use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

/// The stages of making a clip, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking at the still with CLIP: one part.
    Look,
    /// Encoding the still: one part.
    Encode,
    /// Denoising: each run of the UNet is a part.
    Denoise,
    /// Decoding: each frame is a part, though several may be done at once.
    Decode,
}

impl Stage {
    fn during(self) -> &'static str {
        match self {
            Stage::Look => "looking at the still",
            Stage::Encode => "encoding the still",
            Stage::Denoise => "denoising",
            Stage::Decode => "decoding",
        }
    }
}

/// One piece of news.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// So many parts of a stage are done; none, when it begins.
    Progress {
        /// The stage.
        stage: Stage,
        /// Parts done.
        done: usize,
        /// Parts there are.
        parts: usize,
    },
    /// Denoising is done; how the repeated run of the UNet went on a card.
    Denoised {
        /// Whether it was captured and replayed.
        captured: bool,
        /// Why it could not be captured, where that was tried.
        refusal: Option<&'a str>,
    },
    /// A step of the sampler is done; its estimate can be decoded for a preview.
    Step(Step<'a>),
}

/// Hears all news as it comes; `Break` ends the work with `Error::Stopped`.
pub type Observer<'a> = dyn FnMut(&Event<'_>) -> ControlFlow<()> + 'a;

/// Counts parts and tells the observer.
pub(super) struct Progress<'a> {
    observer: RefCell<&'a mut Observer<'a>>,
    done: Cell<usize>,
    parts: Cell<usize>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(observer: &'a mut Observer<'a>) -> Self {
        Progress {
            observer: RefCell::new(observer),
            done: Cell::new(0),
            parts: Cell::new(0),
        }
    }

    /// Begins a stage of so many parts.
    pub(super) fn begin(&self, stage: Stage, parts: usize) -> Result<()> {
        self.done.set(0);
        self.parts.set(parts);
        self.tell(stage)
    }

    /// One more part is done.
    pub(super) fn advance(&self, stage: Stage) -> Result<()> {
        self.done.set(self.done.get() + 1);
        self.tell(stage)
    }

    /// All parts are done.
    pub(super) fn complete(&self, stage: Stage) -> Result<()> {
        self.done.set(self.parts.get());
        self.tell(stage)
    }

    pub(super) fn step(&self, step: &Step<'_>) -> ControlFlow<()> {
        self.observer.borrow_mut()(&Event::Step(*step))
    }

    pub(super) fn denoised(&self, captured: bool, refusal: Option<&str>) -> Result<()> {
        let event = Event::Denoised { captured, refusal };
        self.hear(Stage::Denoise, &event)
    }

    fn tell(&self, stage: Stage) -> Result<()> {
        let event = Event::Progress {
            stage,
            done: self.done.get(),
            parts: self.parts.get(),
        };
        self.hear(stage, &event)
    }

    fn hear(&self, stage: Stage, event: &Event<'_>) -> Result<()> {
        match self.observer.borrow_mut()(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped {
                during: stage.during(),
            }),
        }
    }
}
