//! Linux: everything that needs more than the standard library offers. All `unsafe` of the project is below here.
//!
//! Nothing in this module decides anything: it performs, and returns typed results. What to do about them is decided by
//! `process`, `supervisor` and `driver`.

pub mod births;
mod child;
pub mod environment;
pub mod family;
pub mod foreign;
pub mod group;
pub mod guard;
pub mod handover;
pub mod interpreter;
pub mod limits;
pub mod listen;
pub mod lock;
pub mod memory;
pub mod passing;
pub mod pipe;
pub mod random;
pub mod reap;
pub mod search;
pub mod signal;
pub mod spawn;
pub mod users;
pub mod watch;

pub use nix::errno::Errno;
pub use nix::unistd::Pid;
