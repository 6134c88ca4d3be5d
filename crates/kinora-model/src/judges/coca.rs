//! A picture in words: CoCa, Yu et al. 2022, in open_clip's layout (paper, §3.1).
