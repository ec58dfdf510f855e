//! What clients connect to: listening sockets, one accept loop for gRPC and HTTP/1.1, authentication.
//!
//! `accept` takes connections and sends each request to one of two routers; `auth` decides who may pass. What the
//! gRPC calls do is in the service given to [`grpc_router`]; this module adds the standard health and reflection
//! services to it. The HTTP/1.1 side says for now that it is not part of this version.

mod accept;
mod auth;
pub mod convert;
pub mod grpc;

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

pub use accept::{Endpoint, Listener, Peer, Routers, Servers};

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

/// The HTTP/1.1 router: each part adds its own routes, all of which ask `driver`.
pub fn http_router(driver: Handle) -> Router {
    Router::new()
        .route("/", axum::routing::any(missing))
        .route("/index.html", axum::routing::any(missing))
        .fallback(move |request| by_prefix(driver.clone(), request))
}

/// Paths that Supervisor matches by their beginning only; 404 for everything else.
async fn by_prefix(_driver: Handle, request: Request) -> Response {
    if request.uri().path().starts_with("/RPC2") {
        return missing().await.into_response();
    }
    (StatusCode::NOT_FOUND, "no such page\n").into_response()
}

/// What this version does not have.
async fn missing() -> (StatusCode, &'static str) {
    let text =
        "XML-RPC and the web page are not part of this version; use supervisorctl or gRPC on this socket\n";
    (StatusCode::NOT_IMPLEMENTED, text)
}
