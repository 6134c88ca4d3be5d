//! From cuts to clips that begin on keyframes and never cross a cut (paper, App. C).
