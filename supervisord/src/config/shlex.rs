//! Splitting of command lines: what Python's `shlex.split` does in POSIX mode.
//!
//! The non-POSIX lexer of `environment=` lives in `environment`.

/// Why a command line cannot be split; the words are Python's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShlexError {
    /// A quote is never closed.
    #[error("No closing quotation")]
    NoClosingQuotation,
    /// The text ends after a backslash.
    #[error("No escaped character")]
    NoEscapedCharacter,
}

/// Splits a command line into words.
///
/// # Errors
/// [`ShlexError`] for an open quote or a trailing backslash.
pub fn split(text: &str) -> Result<Vec<String>, ShlexError> {
    let mut words = Vec::new();
    let mut chars = text.chars();
    let mut word: Option<String> = None;
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' | '"' => quoted(c, &mut chars, word.get_or_insert_default())?,
            '\\' => {
                let escaped = chars.next().ok_or(ShlexError::NoEscapedCharacter)?;
                word.get_or_insert_default().push(escaped);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads up to the closing `quote`. Only within double quotes, and only before `"` or itself, a backslash escapes.
fn quoted(quote: char, chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), ShlexError> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => {
                let escaped = chars.next().ok_or(ShlexError::NoEscapedCharacter)?;
                if escaped != '\\' && escaped != quote {
                    word.push('\\');
                }
                word.push(escaped);
            }
            c => word.push(c),
        }
    }
    Err(ShlexError::NoClosingQuotation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_like_pythons() {
        for (text, expected) in [
            ("", &[][..]),
            ("a b\tc\nd", &["a", "b", "c", "d"]),
            ("echo '' \"\"", &["echo", "", ""]),
            ("a'b c'd", &["ab cd"]),
            (r#""\$x \" \\ \n""#, &[r#"\$x " \ \n"#]),
            (r"'\'", &["\\"]),
            ("a\\\nb", &["a\nb"]),
            ("echo # x", &["echo", "#", "x"]),
            (r"a\ b", &["a b"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn open_quotes_and_trailing_backslashes_are_refused() {
        assert_eq!(split("bash -c 'foo"), Err(ShlexError::NoClosingQuotation));
        assert_eq!(split("a \\"), Err(ShlexError::NoEscapedCharacter));
        assert_eq!(split("\"a\\"), Err(ShlexError::NoEscapedCharacter));
    }
}
