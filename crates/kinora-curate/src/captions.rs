//! Three captions for a clip: of its middle frame, of the clip, and of both (paper, §3.1, App. C).
