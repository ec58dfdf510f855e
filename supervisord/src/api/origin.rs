//! Whether an HTTP request comes from a script, from our own page, or from a page of somebody else. Pure.
//!
//! A browser sends requests to us on behalf of any page that its user looks at, with the user's password. It says so in
//! headers that such a page cannot remove. Scripts (curl, XML-RPC clients) send none of these headers and are nobody's
//! tool; they pass. Forms of our page carry a secret besides, which `web` checks.
//!
//! The other danger is a foreign name that its owner makes point to 127.0.0.1: for the browser its page is then ours.
//! Where no password stands in the way and the client is on this machine, names that anybody may own are refused.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName, Method, header};

/// Headers of which every browser sends at least one, and scripts none unless they pretend.
const BROWSER_HEADERS: [HeaderName; 6] = [
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
    header::ORIGIN,
    header::REFERER,
    header::ACCEPT_LANGUAGE,
    header::UPGRADE_INSECURE_REQUESTS,
];

/// Who sent a request; an extension of every HTTP request that is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A program that is no browser.
    Script,
    /// A browser, for our own page or because its user typed the address.
    Browser,
    /// A browser, and the headers do not tell for which page, by its age or by what a proxy made of them: only a form's
    /// secret can.
    Doubtful,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// It was caused by another site.
    #[error(
        "refused: a page of another site caused this request. If a proxy stands between, let it pass on the \
         header Host, or set X-Forwarded-Host"
    )]
    Site,
    /// It came by a name that may not be ours.
    #[error(
        "refused: this server has no password and was asked by a name that anybody could have pointed here. \
         Use localhost, an IP address or the name of this machine, set username and password, or use https in \
         front of it"
    )]
    Name,
}

/// The way on which a request came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Whether the client is on this machine and came by TCP.
    pub is_loopback: bool,
    /// Whether a password is asked for.
    pub has_password: bool,
    /// Tells the name of this machine. Scripts need not wait for it.
    pub own_name: fn() -> String,
}

/// Judges a request by its headers.
///
/// # Errors
/// When it must not be answered.
pub(super) fn judge(method: &Method, headers: &HeaderMap, way: Way) -> Result<Sender, Foreign> {
    if !is_browser(headers) {
        return Ok(Sender::Script);
    }
    let host = text(headers, &header::HOST).unwrap_or_default();
    if let Some(site) = headers.get("sec-fetch-site") {
        return match site.as_bytes() {
            b"same-origin" | b"none" => Ok(Sender::Browser),
            // Following a link from elsewhere shows a page and does nothing.
            _ if is_reading(method) && is_visit(headers) => Ok(Sender::Browser),
            _ => Err(Foreign::Site),
        };
    }
    if way.is_loopback && !way.has_password && !is_private_name(host, &(way.own_name)()) {
        return Err(Foreign::Name);
    }
    let source = text(headers, &header::ORIGIN).or_else(|| text(headers, &header::REFERER));
    match source {
        // Old browsers leave both headers out when another site's page asks them to.
        None if !is_reading(method) && is_form(headers) => Ok(Sender::Doubtful),
        None => Ok(Sender::Browser),
        Some(source) if is_ours(source, host, headers) => Ok(Sender::Browser),
        // A link from elsewhere; images and scripts of other sites cannot be told from it, and read nothing.
        Some(_) if is_reading(method) && !headers.contains_key(header::ORIGIN) => Ok(Sender::Browser),
        // Browsers tell the site to a loopback address: this one did not see it, so there is a proxy.
        Some(_) if is_loopback_host(host) => Ok(Sender::Doubtful),
        Some(_) => Err(Foreign::Site),
    }
}

/// Whether a browser sent this, as far as that can be told.
fn is_browser(headers: &HeaderMap) -> bool {
    let agent = text(headers, &header::USER_AGENT).unwrap_or_default();
    agent.starts_with("Mozilla/") || BROWSER_HEADERS.iter().any(|name| headers.contains_key(name))
}

/// Whether a user goes to a page, as opposed to a page loading something.
fn is_visit(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
    is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

fn is_reading(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Whether the body is of a kind that a page may send without permission (source: the Fetch standard, CORS-safelisted
/// request headers): of a form, or of none, which is how a browser sends bytes.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]
        .iter()
        .any(|form| kind.eq_ignore_ascii_case(form))
}

/// A header that is text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether `source`, an `Origin` or `Referer`, names the host that was asked: by `Host`, or by what a proxy says it was.
fn is_ours(source: &str, host: &str, headers: &HeaderMap) -> bool {
    let Some((_, rest)) = source.split_once("://") else { return false };
    let source = rest.split('/').next().unwrap_or_default();
    // A page of another site cannot set this header without our permission.
    let forwarded = headers.get("x-forwarded-host").and_then(|value| value.to_str().ok()).unwrap_or_default();
    std::iter::once(host)
        .chain(forwarded.split(','))
        .map(str::trim)
        .any(|host| !host.is_empty() && is_same_host(source, host))
}

/// Whether these are the same host and port. Proxies often leave the port out of `host`: then it does not matter.
fn is_same_host(source: &str, host: &str) -> bool {
    match split_port(host) {
        (_, Some(_)) => source.eq_ignore_ascii_case(host),
        (name, None) => split_port(source).0.eq_ignore_ascii_case(name),
    }
}

/// Name and port of `name:port`, `name`, `[::1]:port` or `[::1]`.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && (name.ends_with(']') || !name.contains(':')) => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// The address that a host is, if it is one.
fn address(host: &str) -> Option<IpAddr> {
    let name = split_port(host).0;
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => name.parse().ok(),
    }
}

fn is_loopback_host(host: &str) -> bool {
    split_port(host).0.eq_ignore_ascii_case("localhost") || address(host).is_some_and(|ip| ip.is_loopback())
}

/// Whether nobody outside can make this name point here: an address, a name without dots, one under a domain that
/// public name servers do not have, or the name of this machine (with any domain).
fn is_private_name(host: &str, own_name: &str) -> bool {
    let name = split_port(host).0.trim_end_matches('.').to_ascii_lowercase();
    let own = own_name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    address(host).is_some()
        || !name.contains('.')
        || [".localhost", ".local", ".internal"].iter().any(|end| name.ends_with(end))
        || (!own.is_empty() && name.split('.').next() == Some(own.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Way = Way { is_loopback: true, has_password: false, own_name: || "box".to_owned() };
    const CHROME: (&str, &str) = ("user-agent", "Mozilla/5.0 Chrome");

    fn judged(method: &Method, way: Way, pairs: &[(&str, &str)]) -> Result<Sender, Foreign> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        judge(method, &headers, way)
    }

    #[test]
    fn programs_that_are_no_browser_pass_by_any_name() {
        for pairs in [
            &[("host", "any.example")][..],
            &[("host", "x.example"), ("user-agent", "curl/8.5"), ("accept", "*/*")],
            &[("host", "localhost"), ("user-agent", "Python-xmlrpc/3.11"), ("content-type", "text/xml")],
            &[],
        ] {
            assert_eq!(judged(&Method::POST, OPEN, pairs), Ok(Sender::Script), "{pairs:?}");
        }
    }

    #[test]
    fn the_browsers_word_about_the_site_decides() {
        let site = |method: &Method, site, more: &[(&str, &str)]| {
            let mut pairs = vec![CHROME, ("host", "sup.example"), ("sec-fetch-site", site)];
            pairs.extend_from_slice(more);
            judged(method, OPEN, &pairs)
        };
        assert_eq!(site(&Method::POST, "same-origin", &[]), Ok(Sender::Browser));
        assert_eq!(site(&Method::GET, "none", &[]), Ok(Sender::Browser));
        // A proxy rewrote Host: no matter.
        let origin = [("origin", "https://other.example")];
        assert_eq!(site(&Method::POST, "same-origin", &origin), Ok(Sender::Browser));
        let visit = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let frame = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        for foreign in ["cross-site", "same-site", "nonsense", ""] {
            assert_eq!(site(&Method::POST, foreign, &visit), Err(Foreign::Site), "{foreign}");
            assert_eq!(site(&Method::GET, foreign, &[("sec-fetch-mode", "no-cors")]), Err(Foreign::Site));
            assert_eq!(site(&Method::GET, foreign, &frame), Err(Foreign::Site));
            assert_eq!(site(&Method::GET, foreign, &visit), Ok(Sender::Browser));
        }
    }

    #[test]
    fn without_it_origin_and_referer_must_name_the_host() {
        let post = |host, more: &[(&str, &str)]| {
            let mut pairs = vec![CHROME, ("host", host)];
            pairs.extend_from_slice(more);
            judged(&Method::POST, Way { has_password: true, ..OPEN }, &pairs)
        };
        let origin = |value| [("origin", value)];
        assert_eq!(post("10.0.0.1:9001", &origin("http://10.0.0.1:9001")), Ok(Sender::Browser));
        assert_eq!(post("Sup.example", &origin("http://sup.example:8080")), Ok(Sender::Browser));
        assert_eq!(post("[fe80::1]:9001", &origin("http://[fe80::1]:9001")), Ok(Sender::Browser));
        assert_eq!(post("10.0.0.1:9001", &[("referer", "http://10.0.0.1:9001/x?y")]), Ok(Sender::Browser));
        assert_eq!(post("10.0.0.1:9001", &[("content-type", "text/xml")]), Ok(Sender::Browser));
        for foreign in ["http://evil.example", "null", "http://10.0.0.1", "http://10.0.0.1:9001.evil.example"]
        {
            assert_eq!(post("10.0.0.1:9001", &origin(foreign)), Err(Foreign::Site), "{foreign}");
        }
        assert_eq!(post("10.0.0.1:9001", &[("referer", "http://evil.example/")]), Err(Foreign::Site));
        let proxied = [("origin", "http://sup.example"), ("x-forwarded-host", "sup.example")];
        assert_eq!(post("10.0.0.1:9001", &proxied), Ok(Sender::Browser));
        assert_eq!(post("127.0.0.1:9001", &origin("http://sup.example")), Ok(Sender::Doubtful));
        assert_eq!(post("localhost:9001", &origin("http://sup.example")), Ok(Sender::Doubtful));
    }

    #[test]
    fn a_form_that_does_not_tell_where_it_comes_from_needs_the_secret() {
        let post = |kind| {
            let pairs = [CHROME, ("host", "10.0.0.1:9001"), ("content-type", kind)];
            judged(&Method::POST, OPEN, &pairs)
        };
        for form in ["text/plain", "Text/Plain;charset=UTF-8", "multipart/form-data; boundary=x"] {
            assert_eq!(post(form), Ok(Sender::Doubtful), "{form}");
        }
        for other in ["text/xml", "application/json", "text/plainer"] {
            assert_eq!(post(other), Ok(Sender::Browser), "{other}");
        }
    }

    #[test]
    fn so_does_a_body_of_no_kind() {
        for kind in ["", " ", ";charset=UTF-8"] {
            let pairs = [CHROME, ("host", "10.0.0.1:9001"), ("content-type", kind)];
            assert_eq!(judged(&Method::POST, OPEN, &pairs), Ok(Sender::Doubtful), "{kind:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "10.0.0.1:9001".parse().unwrap());
        assert_eq!(judge(&Method::POST, &headers, OPEN), Ok(Sender::Script));
        headers.insert(header::USER_AGENT, "Mozilla/5.0 Firefox/60.0".parse().unwrap());
        assert_eq!(judge(&Method::POST, &headers, OPEN), Ok(Sender::Doubtful));
        assert_eq!(judge(&Method::GET, &headers, OPEN), Ok(Sender::Browser));
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_bytes(b"text/xml\xff").unwrap());
        assert_eq!(judge(&Method::POST, &headers, OPEN), Ok(Sender::Doubtful));
    }

    #[test]
    fn names_that_anybody_may_own_do_not_lead_past_a_missing_password() {
        let get = |host, way| judged(&Method::GET, way, &[CHROME, ("host", host)]);
        for own in [
            "localhost:9001",
            "127.0.0.1:9001",
            "[::1]:9001",
            "10.1.2.3",
            "box:9001",
            "box.corp.example:9001",
            "intranet",
            "a.localhost",
            "box.local.",
        ] {
            assert_eq!(get(own, OPEN), Ok(Sender::Browser), "{own}");
        }
        for foreign in ["evil.example:9001", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert_eq!(get(foreign, OPEN), Err(Foreign::Name), "{foreign}");
            assert_eq!(get(foreign, Way { has_password: true, ..OPEN }), Ok(Sender::Browser));
            assert_eq!(get(foreign, Way { is_loopback: false, ..OPEN }), Ok(Sender::Browser));
        }
        let https = [CHROME, ("host", "sup.example"), ("sec-fetch-site", "none")];
        assert_eq!(judged(&Method::GET, OPEN, &https), Ok(Sender::Browser));
    }
}
