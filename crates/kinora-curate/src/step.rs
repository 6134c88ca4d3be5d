//! The steps of a curation. Each is a pass over the clips that can be done alone, added later, or
//! done again when its version changes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A step. Reading what a file says of itself comes before all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Where one shot ends and the next begins, and so which clips there are.
    Cuts,
    /// The clips as files.
    Clips,
    /// How much moves.
    Motion,
    /// How much of the picture is text.
    Text,
    /// Embeddings, likeness to the captions, aesthetics.
    Clip,
    /// What is seen and what happens, in words.
    Captions,
}

impl Step {
    /// In the order of the paper.
    pub const ALL: [Step; 6] = [
        Step::Cuts,
        Step::Clips,
        Step::Motion,
        Step::Text,
        Step::Clip,
        Step::Captions,
    ];

    /// As it is typed and written.
    pub fn name(self) -> &'static str {
        match self {
            Step::Cuts => "cuts",
            Step::Clips => "clips",
            Step::Motion => "motion",
            Step::Text => "text",
            Step::Clip => "clip",
            Step::Captions => "captions",
        }
    }

    /// Whether this step needs what `other` makes. The judges of pictures look at the clips' files.
    fn stands_on(self, other: Step) -> bool {
        match self {
            Step::Cuts => false,
            Step::Clips | Step::Motion => other == Step::Cuts,
            Step::Text | Step::Clip | Step::Captions => {
                matches!(other, Step::Cuts | Step::Clips)
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Step, String> {
        let wanted = match text {
            "flow" => "motion",
            other => other,
        };
        let step = Step::ALL.into_iter().find(|step| step.name() == wanted);
        step.ok_or_else(|| {
            let names: Vec<_> = Step::ALL.iter().map(|step| step.name()).collect();
            format!("expected one of {}, found {text:?}", names.join(", "))
        })
    }
}

/// Which steps are to be done. The others keep what an earlier run made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// One step, with the steps it stands on; all where there is none.
    pub only: Option<Step>,
}

impl Asked {
    /// Whether a step is to be done.
    pub fn includes(self, step: Step) -> bool {
        self.only
            .is_none_or(|only| only == step || only.stands_on(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_brings_those_it_stands_on() {
        let of = |only| {
            let asked = Asked { only };
            let included = Step::ALL.into_iter().filter(|&step| asked.includes(step));
            included.collect::<Vec<_>>()
        };
        assert_eq!(of(None), Step::ALL);
        assert_eq!(of(Some(Step::Cuts)), [Step::Cuts]);
        assert_eq!(of(Some(Step::Motion)), [Step::Cuts, Step::Motion]);
        assert_eq!(of(Some(Step::Text)), [Step::Cuts, Step::Clips, Step::Text]);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for step in Step::ALL {
            assert_eq!(step.name().parse(), Ok(step));
        }
        assert_eq!("flow".parse(), Ok(Step::Motion));
        assert!("Flow".parse::<Step>().unwrap_err().contains("motion"));
    }
}
