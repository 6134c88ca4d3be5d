//! What the user's picture and numbers become before the UNet sees them.

mod antialias;
mod lanczos;

pub use antialias::antialiased;
pub use lanczos::lanczos;
