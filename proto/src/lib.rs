//! The wire contract of `supervisord`, package `supervisor.v1`: generated messages, client and server, re-exported.
//!
//! Owns no logic. The contract itself, with every rpc, field and status code described, is
//! `proto/supervisor/v1/supervisor.proto`.

/// Messages, client and server of package `supervisor.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from the documented .proto file")]
pub mod v1 {
    tonic::include_proto!("supervisor.v1");
}

/// The compiled descriptors of the contract, for the server-reflection service (`google.protobuf.FileDescriptorSet`).
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/supervisor.v1.bin"));
