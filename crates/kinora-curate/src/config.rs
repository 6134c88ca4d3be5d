//! What a curation does, as a TOML file in which no unknown key is let pass.
