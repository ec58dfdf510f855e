//! The scripted child.
fn main() {}
