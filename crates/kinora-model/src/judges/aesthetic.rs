//! How pleasing a picture is, from its CLIP embedding (LAION's heads; paper, §3.1).
