//! XML-RPC, as Supervisor's clients speak it: `POST /RPC2`.
//!
//! Owns HTTP here: which requests are read, how much of them and for how long. `decode` reads a call, `calls` knows what
//! it means, `dispatch` asks the driver, `encode` and `describe` write the answer, `fault` has Supervisor's errors.

pub mod calls;
pub mod decode;
mod describe;
mod dispatch;
mod encode;
pub mod fault;
mod logs;
pub mod value;

use std::{sync::Arc, time::Duration};

use axum::{
    body::{self, Body, Bytes},
    extract::Request,
    response::Response,
};
use dispatch::Dispatcher;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::Semaphore;

use super::budget::Budget;
use crate::request::Handle;

/// Bytes of a request at most: more than any client sends, as a process's stdin takes less at once.
const MAX_BODY: usize = 4 << 20;
/// Bytes of a request that may be read by any number of clients at once.
const SMALL_BODY: usize = 64 << 10;
/// Larger requests that are read at once; further ones wait for their turn.
const LARGE_AT_ONCE: usize = 8;
/// Time for a client to send its request.
const PATIENCE: Duration = Duration::from_secs(30);

/// What Supervisor calls itself; some tools look for it.
pub(super) const SERVER: HeaderValue = HeaderValue::from_static("Medusa/1.12");

/// Answers XML-RPC requests.
#[derive(Debug, Clone)]
pub struct Service {
    dispatcher: Dispatcher,
    large: Arc<Semaphore>,
}

impl Service {
    /// A service that asks this driver and has large answers in this room.
    pub fn new(driver: Handle, budget: Budget) -> Self {
        Self { dispatcher: Dispatcher::new(driver, budget), large: Arc::new(Semaphore::new(LARGE_AT_ONCE)) }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request) -> Response {
        if request.method() != Method::POST {
            return error_page(StatusCode::BAD_REQUEST);
        }
        let (head, body) = request.into_parts();
        let read = tokio::time::timeout(PATIENCE, self.read(&head.headers, body)).await;
        let body = match read.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)) {
            Ok(body) => body,
            Err(status) => return error_page(status),
        };
        match decode::method_call_in_pieces(&body, tokio::task::yield_now).await {
            Ok(call) => {
                drop(body);
                document(match self.dispatcher.call(call).await {
                    Ok(answer) => answer,
                    Err(fault) => Body::from(encode::fault(&fault)),
                })
            }
            Err(malformed) => {
                tracing::error!("XML-RPC request of {} bytes is invalid: {malformed}", body.len());
                error_page(StatusCode::BAD_REQUEST)
            }
        }
    }

    /// Reads the body of a request.
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, StatusCode> {
        let length = headers.get(header::CONTENT_LENGTH).map(|length| {
            length.to_str().ok().and_then(|text| text.trim().parse().ok()).unwrap_or(usize::MAX)
        });
        if length.is_none() && !headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(StatusCode::LENGTH_REQUIRED);
        }
        let length = length.unwrap_or(MAX_BODY);
        if length > MAX_BODY {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let _turn = if length > SMALL_BODY {
            Some(self.large.acquire().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?)
        } else {
            None
        };
        body::to_bytes(body, MAX_BODY).await.map_err(|_| StatusCode::BAD_REQUEST)
    }
}

/// A response with this document.
fn document(text: Body) -> Response {
    let mut response = Response::new(text);
    let headers = response.headers_mut();
    headers.insert(header::SERVER, SERVER);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}

/// The page with which Supervisor refuses a request that it does not understand.
pub(super) fn error_page(status: StatusCode) -> Response {
    let code = status.as_u16();
    let reason = status.canonical_reason().unwrap_or_default();
    let text = format!(
        "<head>\r\n<title>Error response</title>\r\n</head>\r\n<body>\r\n<h1>Error response</h1>\r\n\
         <p>Error code {code}.\r\n<p>Message: {reason}.\r\n</body>\r\n"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, SERVER);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}
