//! What clients connect to: listening sockets, one accept loop for gRPC and HTTP/1.1, authentication.
//!
//! `accept` takes connections from each `socket`; their requests go through a `gate` to one of two routers, and `auth`
//! and `origin` decide who may pass. What the gRPC calls do is in the service given to [`grpc_router`]; this module adds
//! the standard health and reflection services to it. Over HTTP/1.1 there are `xmlrpc`, the log streams of `logtail`, and `web`, the page.

mod accept;
mod answers;
mod auth;
mod budget;
pub mod convert;
mod gate;
pub mod grpc;
mod logtail;
mod origin;
mod places;
mod socket;
mod stall;
mod web;
pub mod xmlrpc;

use std::borrow::Cow;

use axum::{Router, extract::Request, response::Response};
use http::StatusCode;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

pub use accept::Servers;
pub use budget::Budget;
pub use gate::Routers;
pub use socket::{Endpoint, Listener, Peer};

use crate::request::Handle;

/// The gRPC router: the calls of `routes`, `grpc.health.v1` and server reflection.
///
/// The reporter answers health checks; its overall status (`""`) is SERVING until it is told otherwise.
///
/// # Errors
/// When the compiled-in descriptors cannot be decoded, which is an error of the build.
pub fn grpc_router(routes: Routes) -> Result<(Router, HealthReporter), tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(supervisor_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = routes
        .add_service(health)
        .add_service(described().build_v1()?)
        // Many clients still ask for the older name of the same service.
        .add_service(described().build_v1alpha()?);
    Ok((routes.prepare().into_axum_router(), reporter))
}

/// The HTTP/1.1 router: each part adds its own routes, all of which ask `driver`. Large answers are in `budget`.
pub fn http_router(driver: Handle, budget: Budget) -> Router {
    let rpc = xmlrpc::Service::new(driver.clone(), budget);
    web::router(driver.clone()).fallback(move |request| by_prefix(rpc.clone(), driver.clone(), request))
}

/// Paths that Supervisor matches by their beginning only; for everything else its refusals.
async fn by_prefix(rpc: xmlrpc::Service, driver: Handle, request: Request) -> Response {
    let path = percent_decoded(request.uri().path());
    if path.starts_with("/RPC2") {
        rpc.answer(request).await
    } else if path.starts_with("/logtail") || path.starts_with("/mainlogtail") {
        logtail::answer(&driver, request.method(), &path).await
    } else {
        let is_read = matches!(*request.method(), http::Method::GET | http::Method::HEAD);
        xmlrpc::error_page(if is_read { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST })
    }
}

/// `text` with each `%xx` replaced by the byte that it stands for; bytes that are no UTF-8 become U+FFFD.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) if *byte == b'%' => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            Some(_) | None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_codes_are_decoded_and_others_kept() {
        for (text, expected) in [
            ("/RPC2", "/RPC2"),
            ("/%52PC2", "/RPC2"),
            ("/a%3Ab%c3%a9", "/a:b\u{e9}"),
            ("/%zz%4%", "/%zz%4%"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(percent_decoded(text), expected);
        }
    }
}
