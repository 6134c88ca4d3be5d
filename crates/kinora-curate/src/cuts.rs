//! Where one shot ends and the next begins (paper, §3.1 and App. C).
