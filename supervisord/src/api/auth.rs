//! HTTP Basic authentication, the same for gRPC, XML-RPC and the web page.
//!
//! Owns the decision; who is told how (gRPC status 16 or HTTP 401) is for `accept`.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};
use sha1::{Digest, Sha1};
use subtle::{Choice, ConstantTimeEq};

use crate::config::Credentials;

/// Whether these headers may pass. `required` = `None` lets everybody in, whatever they present.
pub(super) fn is_allowed(required: Option<&Credentials>, headers: &HeaderMap) -> bool {
    let Some(required) = required else { return true };
    let Some(presented) = headers.get(AUTHORIZATION).and_then(|value| decode(value.as_bytes())) else {
        return false;
    };
    matches(required, &presented)
}

/// The `user:password` of a `Basic` header; the scheme in any case, any number of blanks after it.
fn decode(header: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = header.split_at_checked(b"basic".len())?;
    if !scheme.eq_ignore_ascii_case(b"basic") || !rest.first()?.is_ascii_whitespace() {
        return None;
    }
    STANDARD.decode(rest.trim_ascii()).ok()
}

/// Compares in a time that depends on lengths only. The password is what follows the first colon.
fn matches(required: &Credentials, presented: &[u8]) -> bool {
    let Some(colon) = presented.iter().position(|byte| *byte == b':') else { return false };
    let (user, password) = (&presented[..colon], &presented[colon + 1..]);
    let password_matches = match required.password.strip_prefix("{SHA}") {
        Some(digest) => hex(&Sha1::digest(password)).as_bytes().ct_eq(digest.as_bytes()),
        None => password.ct_eq(required.password.as_bytes()),
    };
    let user_matches: Choice = user.ct_eq(required.username.as_bytes());
    (user_matches & password_matches).into()
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn basic(pair: &str) -> HeaderMap {
        headers(&format!("Basic {}", STANDARD.encode(pair)))
    }

    fn required(password: &str) -> Credentials {
        Credentials { username: "user".to_owned(), password: password.to_owned() }
    }

    #[test]
    fn accepts_only_the_configured_pair() {
        let plain = required("pass:word");
        // SHA-1 of "pass:word".
        let hashed = required(&format!("{{SHA}}{}", hex(&Sha1::digest(b"pass:word"))));
        for required in [&plain, &hashed] {
            assert!(is_allowed(Some(required), &basic("user:pass:word")));
            for wrong in ["user:", "user:pass", "user:pass:words", "User:pass:word", ":pass:word", "user", ""]
            {
                assert!(!is_allowed(Some(required), &basic(wrong)), "{wrong}");
            }
        }
    }

    #[test]
    fn hashed_password_is_sha1_in_hexadecimal() {
        let required = required("{SHA}5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8");
        assert!(is_allowed(Some(&required), &basic("user:password")));
        assert!(!is_allowed(Some(&required), &basic("user:{SHA}5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8")));
    }

    #[test]
    fn scheme_is_read_liberally_and_garbage_is_refused() {
        let required = required("p");
        let code = STANDARD.encode("user:p");
        for good in [format!("basic {code}"), format!("BASIC   {code} "), format!("Basic\t{code}")] {
            assert!(is_allowed(Some(&required), &headers(&good)), "{good}");
        }
        for bad in [format!("Basic{code}"), format!("Digest {code}"), "Basic".into(), "Basic !!".into(), code]
        {
            assert!(!is_allowed(Some(&required), &headers(&bad)), "{bad}");
        }
        assert!(!is_allowed(Some(&required), &HeaderMap::new()));
    }

    #[test]
    fn server_without_credentials_ignores_the_header() {
        assert!(is_allowed(None, &HeaderMap::new()));
        assert!(is_allowed(None, &basic("x:y")));
        assert!(is_allowed(None, &headers("Bearer z")));
    }
}
