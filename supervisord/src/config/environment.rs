//! The mini-language of `environment=`: `KEY=value,KEY2="value 2"`.
//!
//! Supervisor reads it with Python's non-POSIX `shlex` in groups of four tokens, so text outside quotes can get lost
//! silently. This reads the same values, and tells what was lost.

use super::Environment;

/// Variables, and what a user should know about how they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The variables in order of first appearance.
    pub environment: Environment,
    /// One sentence for each piece of text that is not in `environment`.
    pub losses: Vec<String>,
}

/// Reads the variables of `text`.
///
/// # Errors
/// Supervisor's words: `No closing quotation`, `Unexpected end of key/value pairs in value '…'`.
pub fn parse(text: &str) -> Result<Parsed, String> {
    let tokens = tokens(text)?;
    let mut parsed = Parsed::default();
    for group in tokens.words.chunks(4) {
        let [key, equals, value, rest @ ..] = group else {
            return Err(format!("Unexpected end of key/value pairs in value '{text}'"));
        };
        if equals != "=" {
            return Err(format!("Unexpected end of key/value pairs in value '{text}'"));
        }
        let value = value.trim_matches(['\'', '"']);
        parsed.environment.set(key.clone(), value.to_owned());
        if let [separator] = rest
            && separator != ","
            && separator != ";"
        {
            parsed.losses.push(format!(
                "what follows the first word of {key}= is not part of its value: quote the value"
            ));
        }
    }
    for word in tokens.comments {
        // Of the text itself nothing is told: values are secrets.
        let key = tokens.words.get(word / 4 * 4).map_or("", String::as_str);
        parsed.losses.push(format!("what follows '#' after {key}= counts as a comment: quote the value"));
    }
    Ok(parsed)
}

/// What the lexer found.
#[derive(Default)]
struct Tokens {
    words: Vec<String>,
    /// For each comment, the number of the word in which or behind which it stands.
    comments: Vec<usize>,
}

/// What the lexer is in the middle of.
#[derive(Clone, Copy)]
enum State {
    Blank,
    Word,
    Quote(char),
}

/// `list(shlex.shlex(text))` with `/.+-():` as further word characters.
fn tokens(text: &str) -> Result<Tokens, String> {
    let mut found = Tokens::default();
    let mut token = String::new();
    let mut state = State::Blank;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (state, c) {
            (State::Quote(quote), c) => {
                token.push(c);
                if c == quote {
                    found.words.push(std::mem::take(&mut token));
                    state = State::Blank;
                }
            }
            (State::Blank | State::Word, ' ' | '\t' | '\r' | '\n') => {
                if !token.is_empty() {
                    found.words.push(std::mem::take(&mut token));
                }
                state = State::Blank;
            }
            // Python does not end the word here: it goes on behind the comment.
            (State::Blank | State::Word, '#') => {
                chars.by_ref().take_while(|c| *c != '\n').for_each(drop);
                let behind = found.words.len();
                found.comments.push(if token.is_empty() { behind.saturating_sub(1) } else { behind });
            }
            (State::Blank, '\'' | '"') => {
                token.push(c);
                state = State::Quote(c);
            }
            (State::Blank | State::Word, c)
                if is_word(c) || (matches!(state, State::Word) && matches!(c, '\'' | '"')) =>
            {
                token.push(c);
                state = State::Word;
            }
            (State::Blank | State::Word, c) => {
                if !token.is_empty() {
                    found.words.push(std::mem::take(&mut token));
                }
                found.words.push(c.to_string());
                state = State::Blank;
            }
        }
    }
    if matches!(state, State::Quote(_)) {
        return Err("No closing quotation".to_owned());
    }
    if !token.is_empty() {
        found.words.push(token);
    }
    Ok(found)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_/.+-():".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().environment.0
    }

    #[test]
    fn quoted_and_plain_values_are_read() {
        let expected = [("A", "it's"), ("B", "x,y#z"), ("C", "http://h:1/"), ("D", "")];
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(pairs("A=\"it's\", B='x,y#z',\nC=http://h:1/,D=\"\","), expected);
    }

    #[test]
    fn unquoted_specials_lose_data_and_say_so() {
        let parsed = parse("A=foo bar").unwrap();
        assert_eq!(parsed.environment.get("A"), Some("foo"));
        assert_eq!(
            parsed.losses,
            ["what follows the first word of A= is not part of its value: quote the value"]
        );
        let parsed = parse("A=foo#bar,B=2").unwrap();
        assert_eq!(parsed.environment.0.len(), 1);
        assert_eq!(parsed.losses, ["what follows '#' after A= counts as a comment: quote the value"]);
        let parsed = parse("A=1, KEY=abc#rest\n,C=foo #bar").unwrap();
        let told = ["KEY", "C"]
            .map(|key| format!("what follows '#' after {key}= counts as a comment: quote the value"));
        assert_eq!(parsed.losses, told);
        assert_eq!(parse("A=1;B=2").unwrap().losses, [""; 0]);
    }

    #[test]
    fn incomplete_pairs_are_refused() {
        for text in ["A", "A=", "A=1,B", "A=a@b", "A=1,,B=2", "A=[x]"] {
            assert_eq!(parse(text), Err(format!("Unexpected end of key/value pairs in value '{text}'")));
        }
        assert_eq!(parse("A='x"), Err("No closing quotation".to_owned()));
    }
}
