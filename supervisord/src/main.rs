//! supervisord.
fn main() {}
