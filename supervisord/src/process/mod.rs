//! Stub.

pub mod exit;
