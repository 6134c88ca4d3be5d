//! Where letters stand on a picture: CRAFT, Baek et al. 2019 (paper, App. C).
