//! See `bodies.rs`: the property tests have the same bodies.
#![no_main]

#[path = "../../supervisord/tests/inputs/bodies.rs"]
#[allow(dead_code, reason = "each target has one of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::grpc_request(data));
