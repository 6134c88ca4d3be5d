//! One video in, its rows and clips out: the unit of work that never panics and can be repeated.
