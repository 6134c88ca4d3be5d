//! The parameters of a network: where they come from, how they lie in memory and in files, and the
//! list of them by name.

mod init;
mod layout;
mod list;
mod source;

pub use init::Init;
pub use layout::Layout;
pub(crate) use layout::transpose_each;
pub use list::{NamedParam, Params};
pub use source::Source;
