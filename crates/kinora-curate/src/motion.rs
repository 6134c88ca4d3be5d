//! How much moves in a clip: the mean length of its flow (paper, App. C), and its bucket.
