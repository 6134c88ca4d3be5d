//! How much of a picture is written text (paper, App. C, Fig. 15).
