//! Text inside HTML: nothing that a name, a message or a log says can become markup. Pure.

use std::fmt;

/// Displays text so that it is only text, inside elements and quoted attributes.
///
/// Control characters, and those that turn the direction of the text around them, are shown by a visible sign.
#[derive(Debug, Clone, Copy)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain = 0;
        for (at, character) in self.0.char_indices() {
            let shown = match character {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\'' => "&#39;",
                '\n' | '\t' => continue,
                _ => match visible(character) {
                    Some(sign) => {
                        f.write_str(&self.0[plain..at])?;
                        write!(f, "{sign}")?;
                        plain = at + character.len_utf8();
                        continue;
                    }
                    None => continue,
                },
            };
            f.write_str(&self.0[plain..at])?;
            f.write_str(shown)?;
            plain = at + character.len_utf8();
        }
        f.write_str(&self.0[plain..])
    }
}

/// The sign for a character that would not be seen, or would change how others are.
fn visible(character: char) -> Option<char> {
    match character {
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)),
        '\u{7f}' => Some('\u{2421}'),
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some('\u{fffd}')
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_controls_and_direction_marks_are_only_seen() {
        let hostile = "<b a=\"1\" c='2'>&amp;\u{1b}[31m\u{202e}\u{7f}\r\n\tü";
        let shown = "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;␛[31m\u{fffd}␡␍\n\tü";
        assert_eq!(Escaped(hostile).to_string(), shown);
    }

    proptest! {
        #[test]
        fn nothing_can_end_an_attribute_or_begin_an_element(text in ".*") {
            let shown = Escaped(&text).to_string();
            prop_assert!(!shown.contains(['<', '>', '"', '\'']));
        }
    }
}
