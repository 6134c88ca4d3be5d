//! What became of the videos, as one page to look at.
