//! Steers supervisord.
fn main() {}
