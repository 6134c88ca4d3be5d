//! What CLIP says of a clip: embeddings, likeness to captions, aesthetics (paper, §3.1, App. C).
