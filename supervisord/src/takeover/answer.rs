//! Reads what an XML-RPC server answers. ◆
//!
//! Only what Supervisor writes and its relatives may write: values, structures, arrays, faults. Whatever else is in
//! the document is skipped or refused, never guessed.

use std::collections::BTreeMap;

/// Values within values. An answer of Supervisor has three levels.
const DEEPEST: u32 = 16;

/// A value of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `int`, `i4`, `i8`.
    Int(i64),
    /// `boolean`.
    Bool(bool),
    /// `string`, untyped text, and types that are of no use here.
    Text(String),
    /// `array`.
    List(Vec<Self>),
    /// `struct`.
    Members(BTreeMap<String, Self>),
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The server refuses.
    #[error("{text}")]
    Fault {
        /// `faultCode`.
        code: i64,
        /// `faultString`.
        text: String,
    },
    /// It is not what XML-RPC says.
    #[error("unexpected answer: {0}")]
    Malformed(&'static str),
}

impl Value {
    /// A member of a structure.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Members(members) => members.get(name),
            Self::Int(_) | Self::Bool(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The number that it is.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Members(_) => None,
        }
    }

    /// The text that it is.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Int(_) | Self::Bool(_) | Self::List(_) | Self::Members(_) => None,
        }
    }

    /// The elements that it has.
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(elements) => Some(elements),
            Self::Int(_) | Self::Bool(_) | Self::Text(_) | Self::Members(_) => None,
        }
    }
}

/// The value in a `methodResponse`.
///
/// # Errors
/// See [`AnswerError`].
pub fn parse(document: &str) -> Result<Value, AnswerError> {
    let mut reader = Reader { rest: document };
    reader.expect("methodResponse")?;
    match reader.tag()? {
        "params" => {
            reader.expect("param")?;
            reader.expect("value")?;
            reader.value(0)
        }
        "fault" => {
            reader.expect("value")?;
            let fault = reader.value(0)?;
            let code = fault.get("faultCode").and_then(Value::int);
            let text = fault.get("faultString").and_then(Value::text);
            let malformed = AnswerError::Malformed("a fault without its members");
            Err(code
                .zip(text)
                .map_or(malformed, |(code, text)| AnswerError::Fault { code, text: text.into() }))
        }
        _ => Err(AnswerError::Malformed("neither params nor fault")),
    }
}

/// What is left of a document.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// The inside of the next tag; text before it, declarations and comments are skipped.
    fn tag(&mut self) -> Result<&'a str, AnswerError> {
        loop {
            let tag = self.text_and_tag()?.1;
            if !tag.starts_with(['?', '!']) {
                return Ok(tag);
            }
        }
    }

    /// The text up to the next tag, and the inside of that tag.
    fn text_and_tag(&mut self) -> Result<(&'a str, &'a str), AnswerError> {
        let cut = || AnswerError::Malformed("it ends too early");
        let (text, tail) = self.rest.split_once('<').ok_or_else(cut)?;
        let (tag, rest) = tail.split_once('>').ok_or_else(cut)?;
        self.rest = rest;
        Ok((text, tag.trim()))
    }

    fn expect(&mut self, name: &'static str) -> Result<(), AnswerError> {
        if self.tag()? == name { Ok(()) } else { Err(AnswerError::Malformed(name)) }
    }

    /// A value, after `<value>`; takes `</value>` too.
    fn value(&mut self, depth: u32) -> Result<Value, AnswerError> {
        if depth == DEEPEST {
            return Err(AnswerError::Malformed("too many levels"));
        }
        let (untyped, tag) = self.text_and_tag()?;
        let value = match tag {
            "/value" => return unescape(untyped).map(Value::Text),
            "array" => self.array(depth)?,
            "struct" => self.members(depth)?,
            _ => self.scalar(tag)?,
        };
        self.expect("/value")?;
        Ok(value)
    }

    /// The rest of a simple value whose type is `tag`.
    fn scalar(&mut self, tag: &str) -> Result<Value, AnswerError> {
        if let Some(empty) = tag.strip_suffix('/') {
            let is_text = matches!(empty.trim(), "string" | "nil");
            return is_text
                .then(|| Value::Text(String::new()))
                .ok_or(AnswerError::Malformed("an empty value"));
        }
        let (text, end) = self.text_and_tag()?;
        if end.strip_prefix('/') != Some(tag) {
            return Err(AnswerError::Malformed("a value that does not end"));
        }
        let number = || text.trim().parse().map_err(|_| AnswerError::Malformed("a number that is none"));
        match tag {
            "int" | "i4" | "i8" => number().map(Value::Int),
            "boolean" => Ok(Value::Bool(number()? != 0)),
            _ => unescape(text).map(Value::Text),
        }
    }

    fn array(&mut self, depth: u32) -> Result<Value, AnswerError> {
        let mut elements = Vec::new();
        let open = self.tag()?;
        if open == "data" {
            loop {
                match self.tag()? {
                    "value" => elements.push(self.value(depth + 1)?),
                    "/data" => break,
                    _ => return Err(AnswerError::Malformed("an array of something else than values")),
                }
            }
        } else if open != "data/" {
            return Err(AnswerError::Malformed("an array without data"));
        }
        self.expect("/array")?;
        Ok(Value::List(elements))
    }

    fn members(&mut self, depth: u32) -> Result<Value, AnswerError> {
        let mut members = BTreeMap::new();
        loop {
            match self.tag()? {
                "member" => {}
                "/struct" => return Ok(Value::Members(members)),
                _ => return Err(AnswerError::Malformed("a structure of something else than members")),
            }
            self.expect("name")?;
            let name = unescape(self.text_and_tag()?.0)?;
            self.expect("value")?;
            members.insert(name, self.value(depth + 1)?);
            self.expect("/member")?;
        }
    }
}

/// Text without entities.
fn unescape(text: &str) -> Result<String, AnswerError> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('&') {
        let bad = AnswerError::Malformed("an unknown entity");
        let (entity, after) = tail.split_once(';').ok_or_else(|| bad.clone())?;
        plain.push_str(before);
        plain.push(character(entity).ok_or(bad)?);
        rest = after;
    }
    plain.push_str(rest);
    Ok(plain)
}

/// The character of an entity.
fn character(entity: &str) -> Option<char> {
    match entity {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(value: &str) -> String {
        format!(
            "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value>{value}</value>\n</param>\n\
             </params>\n</methodResponse>\n"
        )
    }

    #[test]
    fn values_as_python_writes_them_are_read() {
        let table = [
            ("<string>a&lt;b&gt;&amp;&#233;&#x20AC;</string>", Value::Text("a<b>&é€".into())),
            ("untyped", Value::Text("untyped".into())),
            ("", Value::Text(String::new())),
            ("<string></string>", Value::Text(String::new())),
            ("<string/>", Value::Text(String::new())),
            ("<int>-1</int>", Value::Int(-1)),
            ("<i4>7</i4>", Value::Int(7)),
            ("<boolean>1</boolean>", Value::Bool(true)),
            ("<array><data>\n</data></array>", Value::List(vec![])),
            (
                "<array><data>\n<value><int>1</int></value>\n<value>x</value>\n</data></array>",
                Value::List(vec![Value::Int(1), Value::Text("x".into())]),
            ),
            (
                "<struct>\n<member>\n<name>pid</name>\n<value><int>4</int></value>\n</member>\n</struct>",
                Value::Members([("pid".to_owned(), Value::Int(4))].into()),
            ),
        ];
        for (text, value) in table {
            assert_eq!(parse(&response(text)), Ok(value), "{text}");
        }
    }

    #[test]
    fn fault_keeps_its_code_and_text() {
        let fault = "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n\
                     <value><int>6</int></value>\n</member>\n<member>\n<name>faultString</name>\n\
                     <value><string>SHUTDOWN_STATE</string></value>\n</member>\n</struct></value>\n</fault>\n\
                     </methodResponse>\n";
        assert_eq!(parse(fault), Err(AnswerError::Fault { code: 6, text: "SHUTDOWN_STATE".into() }));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            let _ = parse(&text);
            let _ = parse(&response(&text));
        }

        #[test]
        fn cut_answers_are_refused(cut in 0_usize..200) {
            let whole = response("<array><data>\n<value><struct>\n<member>\n<name>n</name>\n<value>x</value>\n\
                                  </member>\n</struct></value>\n</data></array>");
            let end = whole.find("</value>\n</param>").unwrap();
            prop_assert!(parse(&whole[..cut.min(end)]).is_err());
        }
    }
}
