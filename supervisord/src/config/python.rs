//! How Python reads and writes text: `repr`, `int`, `strip`, and the path functions of `os.path`.
//!
//! Supervisor's messages and accepted forms follow from these, so the parsers above build on them.

/// Whether Python's `str.isspace` holds: Unicode white space and the four separators U+001C–U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.rstrip()`.
pub fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `repr(text)`.
pub fn repr(text: &str) -> String {
    quoted(text, is_printable)
}

/// `ascii(text)`.
pub fn ascii(text: &str) -> String {
    quoted(text, |c| c.is_ascii() && is_printable(c))
}

/// `repr(data)` of bytes.
pub fn repr_bytes(data: &[u8]) -> String {
    let text: String = data.iter().map(|byte| char::from(*byte)).collect();
    format!("b{}", ascii(&text))
}

fn quoted(text: &str, plain: impl Fn(char) -> bool) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if plain(c) => out.push(c),
            c if u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push(quote);
    out
}

/// `str.isprintable`, without the unassigned code points.
fn is_printable(c: char) -> bool {
    let invisible = matches!(u32::from(c),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
        | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff9..=0xfffb | 0xfffe | 0xffff | 0xe_0000..=0x10_ffff);
    c == ' ' || !(c.is_control() || is_space(c) || invisible)
}

/// `int(text, base)`, kept within `i64`: larger numbers become the nearest one.
pub fn int(text: &str, base: u32) -> Option<i64> {
    let text = strip(text);
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefixed =
        if base == 8 { digits.strip_prefix("0o").or_else(|| digits.strip_prefix("0O")) } else { None };
    let digits = prefixed.map_or(digits, |rest| rest.strip_prefix('_').unwrap_or(rest));
    let mut value: i64 = 0;
    let mut after_digit = false;
    for c in digits.chars() {
        match c.to_digit(base) {
            Some(digit) => {
                value = value.saturating_mul(i64::from(base)).saturating_add(i64::from(digit));
                after_digit = true;
            }
            None if c == '_' && after_digit => after_digit = false,
            None => return None,
        }
    }
    after_digit.then_some(if negative { -value } else { value })
}

/// `repr(number)` of a float.
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    // Both languages write the fewest digits that lead back to the number.
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').expect("what `{:e}` writes has an exponent");
    let exponent: i32 = exponent.parse().expect("what `{:e}` writes there is a number");
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = number.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// `os.path.dirname(path)`.
pub fn dirname(path: &str) -> &str {
    let head = &path[..path.rfind('/').map_or(0, |at| at + 1)];
    let trimmed = head.trim_end_matches('/');
    if trimmed.is_empty() { head } else { trimmed }
}

/// `os.path.join(base, path)`.
pub fn join(base: &str, path: &str) -> String {
    if path.starts_with('/') || base.is_empty() {
        path.to_owned()
    } else if base.ends_with('/') {
        format!("{base}{path}")
    } else {
        format!("{base}/{path}")
    }
}

/// `os.path.normpath(path)`.
pub fn normpath(path: &str) -> String {
    // POSIX gives exactly two leading slashes a meaning of their own, so Python keeps them.
    let slashes = path.len() - path.trim_start_matches('/').len();
    let root = match slashes {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if !root.is_empty() => {}
            part => parts.push(part),
        }
    }
    let normal = format!("{root}{}", parts.join("/"));
    if normal.is_empty() { ".".to_owned() } else { normal }
}

/// `os.path.abspath(path)` in the working directory `cwd`.
pub fn abspath(cwd: &str, path: &str) -> String {
    normpath(&join(cwd, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repr_quotes_and_escapes_like_python() {
        for (text, expected) in [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            ("a\\b\n\t", "'a\\\\b\\n\\t'"),
            ("\u{feff}x", "'\\ufeffx'"),
            ("é", "'é'"),
            ("\u{1}", "'\\x01'"),
        ] {
            assert_eq!(repr(text), expected);
        }
        assert_eq!(ascii("é\u{1f600}"), "'\\xe9\\U0001f600'");
    }

    #[test]
    fn int_accepts_what_python_accepts() {
        for (text, base, expected) in [
            ("1", 10, Some(1)),
            (" -7 ", 10, Some(-7)),
            ("+1_000", 10, Some(1000)),
            ("007", 10, Some(7)),
            ("1__0", 10, None),
            ("_1", 10, None),
            ("1_", 10, None),
            ("", 10, None),
            ("-", 10, None),
            ("1.5", 10, None),
            ("0x10", 10, None),
            ("022", 8, Some(18)),
            ("0o22", 8, Some(18)),
            ("0o_22", 8, Some(18)),
            ("9", 8, None),
            ("99999999999999999999", 10, Some(i64::MAX)),
        ] {
            assert_eq!(int(text, base), expected, "{text:?}");
        }
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, expected) in [
            (1.5, "1.5"),
            (3.0, "3.0"),
            (-0.0, "-0.0"),
            (1e300, "1e+300"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(number), expected);
        }
    }

    #[test]
    fn paths_are_taken_apart_like_os_path() {
        for (path, expected) in
            [("a", ""), ("/a", "/"), ("/a/b", "/a"), ("a//b", "a"), ("//", "//"), ("a/", "a")]
        {
            assert_eq!(dirname(path), expected);
        }
        for (path, expected) in [
            ("", "."),
            ("/../a", "/a"),
            ("a/../..", ".."),
            ("//a", "//a"),
            ("///a", "/a"),
            ("./x/./y", "x/y"),
        ] {
            assert_eq!(normpath(path), expected);
        }
        assert_eq!(abspath("/w", "../x"), "/x");
    }
}
