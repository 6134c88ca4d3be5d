//! Clips with captions and scores in tar files, as WebDataset has them, and an index.
