//! Fields of queries and forms, and text in URLs. Pure.

/// Fields in their order; of several with one name the last one counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Adds what `a=b&c=d` holds. Fields without a value are left out.
    pub(super) fn read(&mut self, encoded: &str) {
        for pair in encoded.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !value.is_empty() {
                self.0.push((decode(name), decode(value)));
            }
        }
    }

    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Undoes the encoding of forms. What is no UTF-8 is replaced, what is no code stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => match after.get(..2).and_then(hex) {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &after[2..];
                }
                None => bytes.push(b'%'),
            },
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u8::from_str_radix(text, 16).ok()
}

/// `text` as one segment of a path, or as the value of a field.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_read_as_forms_write_them() {
        let mut fields = Fields::default();
        fields.read("processname=g%3Aa+b%2Bc&action=stop&empty=&flag&&x=%zz%e2%82%AC%FF%4");
        assert_eq!(fields.get("processname"), Some("g:a b+c"));
        assert_eq!(fields.get("action"), Some("stop"));
        assert_eq!((fields.get("empty"), fields.get("flag"), fields.get("none")), (None, None, None));
        assert_eq!(fields.get("x"), Some("%zz€\u{fffd}%4"));
        fields.read("action=start");
        assert_eq!(fields.get("action"), Some("start"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(text in ".*") {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'<>&:/?#".contains(&byte)));
            prop_assert_eq!(decode(&encoded), text);
        }

        #[test]
        fn no_text_breaks_the_decoder(text in ".*") {
            decode(&text);
        }
    }
}
