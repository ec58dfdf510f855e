//! The web page: status, actions, logs, live without reloading.
//!
//! Owns `/`, `/index.html`, `/tail.html`, `/ok.html` and everything below `/ui/`. What is shown is made by `page`, `row`
//! and `tail`, which are pure; `action` performs, `live` streams, `assets` are the files. Whether a request may come in
//! at all is decided in [`origin`](super::origin); here its forms are checked for the secret of this daemon.
//! Links are relative, so that a proxy may put the page below a path of its own.

mod action;
mod assets;
mod form;
mod html;
mod live;
mod page;
mod row;
mod tail;

use std::sync::Arc;

use axum::{Router, body::Body, extract::Request, routing};
use form::Fields;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use jiff::tz::TimeZone;
use subtle::ConstantTimeEq as _;
use tail::{Content, Wanted};
use tokio::sync::Semaphore;

use self::{
    action::Action,
    assets::Asset,
    page::{Confirmation, Page, Refused},
};
use super::origin::Sender;
use crate::{
    clock,
    os::random,
    output::tail::read_range,
    request::{Handle, ListQuery, LogSource, Reason, Refusal, Request as Ask},
};

/// Bytes of a form at most.
const LARGEST_FORM: usize = 64 << 10;

/// Headers of every answer: nothing but our own files may run, load, or frame a page.
const GUARDS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not `no-referrer`: with it a browser leaves out the origin of our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What all requests share.
#[derive(Debug)]
struct Web {
    driver: Handle,
    zone: TimeZone,
    /// Names this daemon among those that had its address before.
    boot: String,
    /// What forms must carry. Pages of other sites cannot read it.
    token: String,
    streams: Arc<Semaphore>,
}

/// The routes of the page.
pub(super) fn router(driver: Handle) -> Router {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let web = Arc::new(Web {
        driver,
        zone: TimeZone::system(),
        boot: hex(&random::bytes::<8>()),
        token: hex(&random::bytes::<16>()),
        streams: Arc::new(Semaphore::new(live::MOST_STREAMS)),
    });
    let paths = ["/", "/index.html", "/tail.html", "/ok.html", "/ui/{file}"];
    paths.into_iter().fold(Router::new(), |router, path| {
        let web = Arc::clone(&web);
        router.route(
            path,
            routing::any(move |request: Request| {
                let web = Arc::clone(&web);
                async move { guarded(web.answer(request).await) }
            }),
        )
    })
}

fn guarded(mut response: Response<Body>) -> Response<Body> {
    for (name, value) in GUARDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Web {
    async fn answer(self: Arc<Self>, request: Request) -> Response<Body> {
        let method = request.method().clone();
        if ![Method::GET, Method::HEAD, Method::POST].contains(&method) {
            let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "the page answers GET, HEAD and POST");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            return response;
        }
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/ok.html" => plain("OK"),
            "/" | "/index.html" => self.index(request).await,
            "/tail.html" => self.tail(&fields_in(request.uri())).await,
            _ => {
                let (parts, _) = request.into_parts();
                self.file(path.trim_start_matches("/ui/"), &parts).await
            }
        }
    }

    async fn file(self: Arc<Self>, name: &str, request: &Parts) -> Response<Body> {
        let (query, headers) = (request.uri.query().unwrap_or_default(), &request.headers);
        if let Some(asset) = Asset::named(name) {
            return asset.response(query, headers);
        }
        if request.method != Method::GET {
            return not_found();
        }
        match name {
            "changes" => {
                let fields = fields_in(&request.uri);
                let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
                let id = last.or(fields.get("since")).unwrap_or_default().to_owned();
                match fields.get("once") {
                    Some(_) => live::news(&self, &id).await,
                    None => live::changes(self, &id).await,
                }
            }
            "follow" => self.follow(&fields_in(&request.uri)).await,
            _ => not_found(),
        }
    }

    /// The status page, or what its forms and links ask for.
    async fn index(&self, request: Request) -> Response<Body> {
        let method = request.method().clone();
        // Without word of who sent it, only a form with the secret can act.
        let sender = request.extensions().get::<Sender>().copied().unwrap_or(Sender::Doubtful);
        let host =
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok().map(ToOwned::to_owned));
        let wants_text = accepts_text(request.headers());
        let is_led_here = is_led_here(request.headers());
        let mut fields = fields_in(request.uri());
        if method == Method::POST {
            match Limited::new(request.into_body(), LARGEST_FORM).collect().await {
                Ok(body) => fields.read(&String::from_utf8_lossy(&body.to_bytes())),
                Err(_) => return refused(StatusCode::PAYLOAD_TOO_LARGE, "the form is too large"),
            }
        }
        let action = match action::parse(&fields) {
            Ok(action) => action,
            Err(problem) => return refused(StatusCode::BAD_REQUEST, &problem),
        };
        let Some(action) = action.filter(|_| method != Method::HEAD) else {
            // What another site has to say is not to look like our words.
            return self.status(fields.get("message").filter(|_| !is_led_here)).await;
        };
        if sender != Sender::Script && action != Action::Refresh {
            if method == Method::GET {
                return self.confirmation(&fields);
            }
            if !self.has_token(&fields) {
                let why = "this form is not of the running supervisord: show the status and try again";
                return refused(StatusCode::FORBIDDEN, why);
            }
        }
        let message = action::perform(&self.driver, &action, clock::now(), &self.zone).await;
        if wants_text { plain(&message) } else { redirect(&message, sender, host.as_deref()) }
    }

    fn has_token(&self, fields: &Fields) -> bool {
        fields.get("token").is_some_and(|token| token.as_bytes().ct_eq(self.token.as_bytes()).into())
    }

    fn confirmation(&self, fields: &Fields) -> Response<Body> {
        let action = fields.get("action").unwrap_or_default();
        let of_all = ["restartall", "stopall"].contains(&action);
        let process = fields.get("processname").filter(|_| !of_all);
        page(&Confirmation { action, process, token: &self.token })
    }

    async fn status(&self, message: Option<&str>) -> Response<Body> {
        let listing = self.driver.ask(|reply| Ask::List(reply, ListQuery::default())).await;
        let (Ok(listing), Ok(info)) = (listing, self.driver.ask(Ask::Info).await) else {
            return live::ending();
        };
        page(&Page {
            info: &info,
            processes: &listing.processes,
            message,
            token: &self.token,
            since: &format!("{}.{}", self.boot, listing.generation),
            zone: &self.zone,
        })
    }

    async fn tail(&self, fields: &Fields) -> Response<Body> {
        let wanted = Wanted::parse(fields);
        let content = match &wanted.source {
            None => Content::Problem("No process name found".to_owned()),
            Some(source) => self.end_of(source, wanted.limit).await,
        };
        page(&tail::TailPage { wanted: &wanted, content: &content })
    }

    async fn end_of(&self, source: &LogSource, limit: u64) -> Content {
        let name = match source {
            LogSource::Daemon => "the main log",
            LogSource::Process(name, _) => name,
        };
        let no_file = || Content::Problem(format!("No file for {name}"));
        let path = match self.driver.ask_for(|reply| Ask::Log(reply, source.clone())).await {
            Ok(path) => path,
            Err(Refusal { reason: Reason::NoFile, .. }) => return no_file(),
            Err(Refusal { reason: Reason::BadName, .. }) => {
                return Content::Problem(format!("ERROR: unexpected rpc fault [10] BAD_NAME: {name}"));
            }
            Err(refusal) => return Content::Problem(format!("ERROR: {refusal}")),
        };
        match read_range(&path, -limit.cast_signed(), 0) {
            Ok(bytes) => Content::Log(bytes),
            Err(crate::output::tail::ReadError::NoFile(_)) => no_file(),
            Err(error) => Content::Problem(format!("ERROR: {error}")),
        }
    }

    async fn follow(&self, fields: &Fields) -> Response<Body> {
        let wanted = Wanted::parse(fields);
        let Some(source) = wanted.source else { return not_found() };
        // What is no position is none: the answer says where it begins.
        let from = fields.get("from").and_then(|text| text.parse().ok());
        match self.driver.ask_for(|reply| Ask::Follow(reply, source, wanted.limit)).await {
            Ok(follower) => match (live::Log::new(follower, from), fields.get("once")) {
                (log, Some(_)) => log.now(),
                (log, None) => log.stream(self),
            },
            Err(refusal) if refusal.reason == Reason::ShuttingDown => live::ending(),
            Err(_) => not_found(),
        }
    }
}

fn fields_in(uri: &Uri) -> Fields {
    let mut fields = Fields::default();
    fields.read(uri.query().unwrap_or_default());
    fields
}

/// Whether a link of another site led here.
fn is_led_here(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// Whether the client wants the words of an action and no page around them: our script does.
fn accepts_text(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"))
}

/// A page, as fresh as Supervisor's.
fn page(content: &dyn std::fmt::Display) -> Response<Body> {
    let mut response = Response::new(Body::from(content.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html;charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::EXPIRES, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
    response
}

fn refused(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = page(&Refused(why));
    *response.status_mut() = status;
    response
}

fn not_found() -> Response<Body> {
    let mut response = plain("no such page\n");
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn plain(text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(text.to_owned()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// To the page that shows `message`: for scripts as in Supervisor, for browsers so that a proxy's path is kept and a
/// reload does not act again.
fn redirect(message: &str, sender: Sender, host: Option<&str>) -> Response<Body> {
    let message = form::encode(message);
    let (status, location) = match (sender, host) {
        (Sender::Script, Some(host)) => {
            let host = host.strip_suffix(":80").unwrap_or(host);
            (StatusCode::MOVED_PERMANENTLY, format!("http://{host}/?message={message}"))
        }
        (Sender::Script, None) => (StatusCode::MOVED_PERMANENTLY, format!("/?message={message}")),
        (Sender::Browser | Sender::Doubtful, _) => (StatusCode::SEE_OTHER, format!("./?message={message}")),
    };
    let mut response = plain("");
    *response.status_mut() = status;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
