//! From the body of a request to the name of a method and its arguments, and from that of an answer to its value.
//!
//! As liberal as Supervisor: missing `<params>`, values without a type, unknown types. No document types, so no
//! entities but the five of XML itself; nesting is bounded.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use quick_xml::{Reader, events::Event};

use super::value::{Value, integer};

/// Elements inside each other at most; a `multicall` of structures needs less than 20.
const MAX_DEPTH: usize = 64;

/// Elements, texts and references in a document at most: a `multicall` for a thousand processes has some ten thousand.
const MAX_PARTS: usize = 1 << 17;

/// A method call.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodCall {
    /// `namespace.method`.
    pub method: String,
    /// Its arguments.
    pub params: Vec<Value>,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub enum MethodResponse {
    /// What the method returned.
    Value(Value),
    /// A structure that says why it was not obeyed.
    Fault(Value),
}

/// Why a body is no method call, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is no XML.
    #[error("{0}")]
    Xml(#[from] quick_xml::Error),
    /// Its bytes are no text in UTF-8 or the encoding that it declares.
    #[error("the text is neither UTF-8 nor declared as ISO-8859-1")]
    Encoding,
    /// It has a document type, which could define entities.
    #[error("a document type is not accepted")]
    DocType,
    /// A reference that only a document type could define.
    #[error("unknown entity {0:?}")]
    Entity(String),
    /// Too many elements inside each other.
    #[error("more than {MAX_DEPTH} elements inside each other")]
    TooDeep,
    /// Too many elements, texts and references.
    #[error("more than {MAX_PARTS} elements and texts")]
    TooMany,
    /// Something outside of the one element that a document is.
    #[error("text or elements around the document")]
    Outside,
    /// It ends too early.
    #[error("the document ends inside of <{0}>")]
    Unfinished(String),
    /// There is no element at all.
    #[error("no method name")]
    NoMethod,
    /// An answer without an answer.
    #[error("neither a value nor a fault")]
    NoValue,
    /// A value that its type does not allow.
    #[error("<{tag}> = {text:?}")]
    Value {
        /// Its type.
        tag: &'static str,
        /// What was sent.
        text: String,
    },
}

/// Reads a body at once.
///
/// # Errors
/// [`Malformed`], which for clients is status 400.
pub fn method_call(body: &[u8]) -> Result<MethodCall, Malformed> {
    call_in(read(body, MAX_PARTS)?)
}

/// Reads a body piece by piece, so that others get their turn: `pause` lets them.
///
/// # Errors
/// [`Malformed`].
pub async fn method_call_in_pieces<P: Future<Output = ()>>(
    body: &[u8],
    pause: impl Fn() -> P,
) -> Result<MethodCall, Malformed> {
    let text = text_of(body)?;
    let mut reading = Reading::of(&text, MAX_PARTS);
    while !reading.read(PIECE)? {
        pause().await;
    }
    call_in(reading.tree.finish()?)
}

fn call_in(tree: Tree) -> Result<MethodCall, Malformed> {
    let method = tree.method.filter(|method| !method.is_empty()).ok_or(Malformed::NoMethod)?;
    Ok(MethodCall { method, params: tree.params })
}

/// Reads an answer.
///
/// # Errors
/// [`Malformed`].
pub fn method_response(body: &[u8]) -> Result<MethodResponse, Malformed> {
    // We trust who answers us, with how much it may be.
    let tree = read(body, usize::MAX)?;
    match (tree.fault, tree.params.into_iter().next()) {
        (Some(fault), _) => Ok(MethodResponse::Fault(fault)),
        (None, Some(value)) => Ok(MethodResponse::Value(value)),
        (None, None) => Err(Malformed::NoValue),
    }
}

/// Reads a whole document of so many parts at most.
fn read(body: &[u8], most: usize) -> Result<Tree, Malformed> {
    let text = text_of(body)?;
    let mut reading = Reading::of(&text, most);
    while !reading.read(PIECE)? {}
    reading.tree.finish()
}

/// Parts that are read at once: a fraction of a millisecond.
const PIECE: usize = 1 << 10;

/// A document that is being read.
struct Reading<'text> {
    reader: Reader<&'text [u8]>,
    tree: Tree,
    /// How many more parts there may be.
    left: usize,
}

impl<'text> Reading<'text> {
    fn of(text: &'text str, most: usize) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self { reader, tree: Tree::default(), left: most }
    }

    /// Reads so many parts; whether that was all.
    fn read(&mut self, parts: usize) -> Result<bool, Malformed> {
        let tree = &mut self.tree;
        for _ in 0..parts {
            match self.reader.read_event()? {
                Event::Start(start) => tree.open(start.name().into_inner())?,
                Event::End(_) => tree.close()?,
                Event::Text(text) => tree.add(&text.xml10_content())?,
                Event::CData(text) => tree.add(&text.xml10_content())?,
                Event::GeneralRef(reference) => match reference.resolve_char_ref()? {
                    Some(character) => tree.add(character.encode_utf8(&mut [0; 4]))?,
                    None => tree.add(entity(&reference)?)?,
                },
                Event::DocType(_) => return Err(Malformed::DocType),
                Event::Eof => return Ok(true),
                // `Empty` does not come: empty elements are expanded.
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
        self.left = self.left.checked_sub(parts).ok_or(Malformed::TooMany)?;
        Ok(false)
    }
}

/// The text of a body. PHP declares ISO-8859-1 unless told otherwise.
fn text_of(body: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Ok(text) = std::str::from_utf8(body) {
        return Ok(Cow::Borrowed(text));
    }
    let declaration = body.split(|byte| *byte == b'>').next().unwrap_or_default().to_ascii_lowercase();
    let is_latin = declaration.windows(10).any(|window| window == b"iso-8859-1");
    if !is_latin {
        return Err(Malformed::Encoding);
    }
    Ok(body.iter().copied().map(char::from).collect::<String>().into())
}

/// What one of the entities of XML itself stands for.
fn entity(name: &str) -> Result<&'static str, Malformed> {
    match name {
        "amp" => Ok("&"),
        "lt" => Ok("<"),
        "gt" => Ok(">"),
        "quot" => Ok("\""),
        "apos" => Ok("'"),
        unknown => Err(Malformed::Entity(unknown.to_owned())),
    }
}

/// The elements that are open, innermost last, and what has been found.
#[derive(Debug, Default)]
struct Tree {
    open: Vec<Element>,
    method: Option<String>,
    params: Vec<Value>,
    fault: Option<Value>,
    is_complete: bool,
}

/// An element while it is read.
#[derive(Debug)]
struct Element {
    tag: Tag,
    name: String,
    text: String,
    children: Vec<Value>,
    members: Vec<(String, Value)>,
}

/// Elements that mean something; each unknown one is its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    MethodName,
    Params,
    Fault,
    /// `<param>`, `<array>`: their only child.
    Wrapper,
    Value,
    Int,
    Boolean,
    Double,
    Base64,
    Nil,
    Data,
    Struct,
    Member,
    Other,
}

impl Tag {
    fn of(name: &str) -> Self {
        match name {
            "methodName" => Self::MethodName,
            "params" => Self::Params,
            "fault" => Self::Fault,
            "param" | "array" => Self::Wrapper,
            "value" => Self::Value,
            "int" | "i4" | "i8" => Self::Int,
            "boolean" => Self::Boolean,
            "double" => Self::Double,
            "base64" => Self::Base64,
            "nil" => Self::Nil,
            "data" => Self::Data,
            "struct" => Self::Struct,
            "member" => Self::Member,
            _ => Self::Other,
        }
    }
}

impl Tree {
    fn open(&mut self, name: &str) -> Result<(), Malformed> {
        if self.is_complete {
            return Err(Malformed::Outside);
        }
        if self.open.len() == MAX_DEPTH {
            return Err(Malformed::TooDeep);
        }
        self.open.push(Element {
            tag: Tag::of(name),
            // Only for the message about a document that ends too early.
            name: name.chars().take(40).collect(),
            text: String::new(),
            children: Vec::new(),
            members: Vec::new(),
        });
        Ok(())
    }

    fn add(&mut self, text: &str) -> Result<(), Malformed> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(Malformed::Outside),
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Malformed> {
        let Some(element) = self.open.pop() else { return Err(Malformed::Outside) };
        self.is_complete = self.open.is_empty();
        match element.tag {
            Tag::MethodName => self.method = Some(element.text.trim().to_owned()),
            Tag::Params => self.params = element.children,
            Tag::Fault => self.fault = element.children.into_iter().next(),
            Tag::Member => {
                let mut parts = element.children.into_iter();
                let name = match parts.next() {
                    Some(Value::Text(name)) => name,
                    Some(_) | None => String::new(),
                };
                let value = parts.next().unwrap_or(Value::Nil);
                if let Some(outer) = self.open.last_mut() {
                    outer.members.push((name, value));
                }
            }
            Tag::Wrapper
            | Tag::Value
            | Tag::Int
            | Tag::Boolean
            | Tag::Double
            | Tag::Base64
            | Tag::Nil
            | Tag::Data
            | Tag::Struct
            | Tag::Other => {
                let value = element.into_value()?;
                if let Some(outer) = self.open.last_mut() {
                    outer.children.push(value);
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Self, Malformed> {
        match self.open.last() {
            Some(element) => Err(Malformed::Unfinished(element.name.clone())),
            None => Ok(self),
        }
    }
}

impl Element {
    fn into_value(mut self) -> Result<Value, Malformed> {
        Ok(match self.tag {
            Tag::Wrapper => self.children.into_iter().next().unwrap_or(Value::Array(Vec::new())),
            // A value without a type is a string; blanks around a type are nothing.
            Tag::Value if self.children.is_empty() => Value::Text(self.text),
            Tag::Value => self.children.swap_remove(0),
            Tag::Int => Value::Int(integer(&self.text).ok_or_else(|| wrong("int", &self.text))?),
            Tag::Boolean => Value::Boolean(self.text.trim() == "1"),
            Tag::Double => Value::Double(self.text.trim().parse().map_err(|_| wrong("double", &self.text))?),
            Tag::Base64 => Value::Text(base64(&self.text)?),
            Tag::Nil => Value::Nil,
            Tag::Data => Value::Array(self.children),
            Tag::Struct => Value::Struct(self.members),
            Tag::MethodName | Tag::Params | Tag::Fault | Tag::Member | Tag::Other => Value::Text(self.text),
        })
    }
}

fn wrong(tag: &'static str, text: &str) -> Malformed {
    Malformed::Value { tag, text: text.to_owned() }
}

/// The text in a `<base64>`; line breaks do not count, and neither does missing padding.
fn base64(text: &str) -> Result<String, Malformed> {
    let code: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, config).decode(code).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Malformed::Value { tag: "base64", text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(inner: &str) -> Result<Vec<Value>, Malformed> {
        let body = format!(
            "<?xml version='1.0'?>\n<methodCall>\n<methodName>a.b</methodName>\n<params>{inner}</params></methodCall>\n"
        );
        method_call(body.as_bytes()).map(|call| call.params)
    }

    fn one(value: &str) -> Value {
        params(&format!("<param>\n<value>{value}</value>\n</param>")).unwrap().remove(0)
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    /// The wake-ups of a caller that reads in pieces.
    fn pauses(body: &[u8]) -> (Result<MethodCall, Malformed>, usize) {
        let number = std::cell::Cell::new(0);
        let pause = || {
            number.set(number.get() + 1);
            std::future::ready(())
        };
        let mut reading = std::pin::pin!(method_call_in_pieces(body, pause));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match reading.as_mut().poll(&mut context) {
            std::task::Poll::Ready(call) => (call, number.get()),
            std::task::Poll::Pending => panic!("nothing to wait for"),
        }
    }

    #[test]
    fn large_requests_are_read_in_pieces_and_have_so_many_parts_at_most() {
        let body = |inner: String| format!("<c><methodName>a.b</methodName><params>{inner}</params></c>");
        let small = body("<param><value>1</value></param>".to_owned());
        assert_eq!(pauses(small.as_bytes()).1, 0);
        let large = body("<param><value>1</value></param>".repeat(20_000));
        let (call, number) = pauses(large.as_bytes());
        assert_eq!((call.unwrap().params.len(), number), (20_000, 5 * 20_000 / PIECE));
        for part in ["<a/>", "<!---->", "&amp;", "<value>1</value>"] {
            let body = body(format!("<param><value>{}</value></param>", part.repeat(MAX_PARTS + PIECE)));
            assert!(matches!(pauses(body.as_bytes()).0, Err(Malformed::TooMany)), "{part}");
            assert!(matches!(method_call(body.as_bytes()), Err(Malformed::TooMany)), "{part}");
            assert!(method_response(body.as_bytes()).is_ok(), "{part}");
        }
    }

    #[test]
    fn values_are_read_as_liberally_as_by_supervisor() {
        for (source, expected) in [
            ("x y ", text("x y ")),
            ("", text("")),
            ("<string/>", text("")),
            ("<string>a&lt;b&#x41;&amp;&#10;</string>", text("a<bA&\n")),
            ("<string><![CDATA[<x>]]></string>", text("<x>")),
            ("\n<int> -5 </int>\n", Value::Int(-5)),
            ("<i4>5</i4>", Value::Int(5)),
            ("<i8>5000000000</i8>", Value::Int(5_000_000_000)),
            ("<int>9223372036854775808</int>", Value::Int(i64::MAX)),
            ("<int>-1000000000000000000000000000000</int>", Value::Int(i64::MIN)),
            ("<boolean>1</boolean>", Value::Boolean(true)),
            ("<boolean>0</boolean>", Value::Boolean(false)),
            ("<double>1.5</double>", Value::Double(1.5)),
            ("<nil/>", Value::Nil),
            ("<ex:other>7</ex:other>", text("7")),
            ("<dateTime.iso8601>19980717T14:08:55</dateTime.iso8601>", text("19980717T14:08:55")),
            ("<base64>\naGVs\nbG8\n</base64>", text("hello")),
            (
                "<array><data><value>a</value><value><int>1</int></value></data></array>",
                Value::Array(vec![text("a"), Value::Int(1)]),
            ),
            ("<array><data/></array>", Value::Array(Vec::new())),
            (
                "<struct><member><name>k</name><value>v</value></member>\n<member><name>l</name></member></struct>",
                Value::Struct(vec![("k".to_owned(), text("v")), ("l".to_owned(), Value::Nil)]),
            ),
        ] {
            assert_eq!(one(source), expected, "{source}");
        }
    }

    #[test]
    fn params_may_be_missing_and_names_may_have_blanks_around() {
        let call = method_call(b"<methodCall><methodName> a.b\n</methodName></methodCall>").unwrap();
        assert_eq!(call, MethodCall { method: "a.b".to_owned(), params: Vec::new() });
        assert_eq!(params("").unwrap(), []);
    }

    #[test]
    fn latin_text_is_read_when_it_is_declared() {
        let body = b"<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><c><methodName>a.\xfc</methodName></c>";
        assert_eq!(method_call(body).unwrap().method, "a.\u{fc}");
        assert!(matches!(method_call(b"<c><methodName>a.\xfc</methodName></c>"), Err(Malformed::Encoding)));
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for body in [
            "",
            " ",
            "x",
            "<",
            "<a>",
            "<a></b>",
            "<a/>",
            "<a/><b/>",
            "<a/>x",
            "</a>",
            "&amp;",
            "<c><methodName></methodName></c>",
            "<c><methodName>a.b</methodName>&foo;</c>",
            "<c><methodName>a.b</methodName><params><param><value><int>x</int></value></param></params></c>",
            "<c><methodName>a.b</methodName><params><param><value><base64>!</base64></value></param></params></c>",
        ] {
            assert!(method_call(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn entities_cannot_be_defined() {
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>\
                    <c><methodName>&b;</methodName></c>";
        assert!(matches!(method_call(bomb.as_bytes()), Err(Malformed::DocType)));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |levels: usize| {
            format!("{}{}", "<array><data><value>".repeat(levels), "</value></data></array>".repeat(levels))
        };
        let value = |levels| params(&format!("<param><value>{}</value></param>", deep(levels)));
        assert!(value(20).is_ok());
        assert!(matches!(value(21), Err(Malformed::TooDeep)));
        assert!(matches!(method_call("<a>".repeat(100_000).as_bytes()), Err(Malformed::TooDeep)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(method_call(&body));
            drop(method_response(&body));
        }

        #[test]
        fn any_soup_of_elements_is_read_or_refused(parts in proptest::collection::vec(
            prop_oneof![
                Just("<methodCall>"), Just("</methodCall>"), Just("<methodName>"), Just("</methodName>"),
                Just("<params>"), Just("</params>"), Just("<value>"), Just("</value>"), Just("<array>"),
                Just("</array>"), Just("<data>"), Just("</data>"), Just("<struct>"), Just("</struct>"),
                Just("<member/>"), Just("&lt;"), Just("&#0;"), Just("&#xD800;"), Just("x"), Just("<![CDATA["),
                Just("]]>"), Just("<!--"), Just("-->"), Just("<!DOCTYPE"), Just("<?xml"), Just("?>"),
                Just("<int>"), Just("</int>"), Just("9"), Just("<nil/>"),
            ], 0..40)) {
            drop(method_call(parts.concat().as_bytes()));
        }

        #[test]
        fn every_text_arrives_as_it_was_sent(sent in "[\\PC\t\n]*") {
            let escaped = sent.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            prop_assert_eq!(one(&format!("<string>{escaped}</string>")), Value::Text(sent));
        }
    }
}
