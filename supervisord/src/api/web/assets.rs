//! Style, scripts and icon: part of the binary, served with the digest of their content in the address.

use std::sync::LazyLock;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha1::{Digest, Sha1};

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asset {
    /// How all pages look.
    Style,
    /// Which tabs move.
    LiveScript,
    /// What moves on the status page.
    PageScript,
    /// When a question may be answered.
    ConfirmScript,
    /// What moves on the page of a log.
    TailScript,
    /// The icon.
    Icon,
}

impl Asset {
    const ALL: [Self; 6] =
        [Self::Style, Self::LiveScript, Self::PageScript, Self::ConfirmScript, Self::TailScript, Self::Icon];

    /// The asset of this file name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|asset| asset.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Style => "style.css",
            Self::LiveScript => "live.js",
            Self::PageScript => "page.js",
            Self::ConfirmScript => "confirm.js",
            Self::TailScript => "tail.js",
            Self::Icon => "icon.svg",
        }
    }

    fn content(self) -> &'static str {
        match self {
            Self::Style => include_str!("style.css"),
            Self::LiveScript => include_str!("live.js"),
            Self::PageScript => include_str!("page.js"),
            Self::ConfirmScript => include_str!("confirm.js"),
            Self::TailScript => include_str!("tail.js"),
            Self::Icon => include_str!("icon.svg"),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Style => "text/css; charset=utf-8",
            Self::LiveScript | Self::PageScript | Self::ConfirmScript | Self::TailScript => {
                "text/javascript; charset=utf-8"
            }
            Self::Icon => "image/svg+xml",
        }
    }

    /// The digest of all files: it changes with the binary, which is when browsers must ask again.
    fn version() -> &'static str {
        static VERSION: LazyLock<String> = LazyLock::new(|| {
            let mut digest = Sha1::new();
            for asset in Asset::ALL {
                digest.update(asset.content());
            }
            digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        });
        &VERSION
    }

    /// Its address, relative to a page.
    pub(super) fn url(self) -> String {
        format!("ui/{}?v={}", self.name(), Self::version())
    }

    /// The answer to a request for it.
    pub(super) fn response(self, query: &str, headers: &HeaderMap) -> Response<Body> {
        let version = Self::version();
        let tag = format!("\"{version}\"");
        let is_known = headers
            .get(header::IF_NONE_MATCH)
            .and_then(|tags| tags.to_str().ok())
            .is_some_and(|tags| tags.contains(&tag));
        let body = if is_known { Body::empty() } else { Body::from(self.content()) };
        let mut response = Response::new(body);
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let is_exact = query.strip_prefix("v=") == Some(version);
        let cache = if is_exact { "public, max-age=31536000, immutable" } else { "no-cache" };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        headers.insert(header::ETAG, HeaderValue::try_from(tag).expect("a quoted digest is a header value"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_keep_what_they_asked_for_by_its_digest() {
        let url = Asset::Style.url();
        let query = url.split_once('?').unwrap().1;
        let fresh = Asset::Style.response(query, &HeaderMap::new());
        assert!(fresh.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let other = Asset::Style.response("v=old", &HeaderMap::new());
        assert_eq!(other.headers()[header::CACHE_CONTROL], "no-cache");
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, fresh.headers()[header::ETAG].clone());
        assert_eq!(Asset::Style.response("", &headers).status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn every_file_is_found_by_its_name() {
        for asset in Asset::ALL {
            assert_eq!(Asset::named(asset.name()), Some(asset));
        }
        assert_eq!(Asset::named("../mod.rs"), None);
    }
}
