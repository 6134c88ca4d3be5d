//! Dense optical flow by Farnebäck's polynomial expansion (paper, App. C).
