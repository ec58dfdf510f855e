//! Answers as text, in the layout of Python's `xmlrpc` with its line breaks, written in one pass.

use super::fault::Fault;
use crate::api::budget::Room;

/// The largest and smallest `<int>` of XML-RPC.
const INT: std::ops::RangeInclusive<i64> = i32::MIN as i64..=i32::MAX as i64;

/// What stands before the value of an answer, and after it.
const HEAD: &str = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n";
const TAIL: &str = "</param>\n</params>\n</methodResponse>\n";

/// Writes an answer: values one after the other.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    /// Room that the answer has, if it is large.
    pub(super) room: Option<Room>,
    /// Whether more values may follow than the one that is being written.
    pub(super) is_of_many: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Self::with_capacity(1024)
    }
}

impl Writer {
    /// A writer of an answer that is expected to have this many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes);
        text.push_str(HEAD);
        Self { text, room: None, is_of_many: false }
    }

    /// The whole answer.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str(TAIL);
        self.text
    }

    /// The value of an answer that another writer has finished.
    pub(super) fn value_of(&mut self, answer: &str) {
        let value = answer.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(TAIL));
        self.text.push_str(value.expect("a finished answer begins and ends so"));
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Takes back what was written after the text had this length.
    pub(super) fn truncate(&mut self, length: usize) {
        self.text.truncate(length);
    }

    /// A string. Characters that XML cannot carry become U+FFFD.
    pub(super) fn string(&mut self, value: &str) {
        self.text.push_str("<value><string>");
        escape(&mut self.text, value);
        self.text.push_str("</string></value>\n");
    }

    /// Makes room for a string of this many bytes, so that it is not moved while it grows.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.text.reserve(bytes + bytes / 16 + 1024);
    }

    /// Begins a string; pieces follow, then [`Writer::end_string`].
    pub(super) fn begin_string(&mut self) {
        self.text.push_str("<value><string>");
    }

    /// A piece of a string of bytes that should be UTF-8. What is not becomes U+FFFD. `cut`: the beginning of a character
    /// whose rest is in the next piece.
    pub(super) fn piece(&mut self, cut: &mut Vec<u8>, piece: &[u8]) {
        cut.extend_from_slice(piece);
        let bytes = std::mem::take(cut);
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            escape(&mut self.text, chunk.valid());
            let invalid = chunk.invalid();
            let may_go_on = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if chunks.peek().is_none() && may_go_on {
                invalid.clone_into(cut);
            } else if !invalid.is_empty() {
                self.text.push('\u{fffd}');
            }
        }
    }

    /// Ends a string, of which `cut` is left.
    pub(super) fn end_string(&mut self, cut: &[u8]) {
        if !cut.is_empty() {
            self.text.push('\u{fffd}');
        }
        self.text.push_str("</string></value>\n");
    }

    /// An integer; what 32 bits cannot hold becomes the nearest that they can.
    pub(super) fn int(&mut self, value: i64) {
        self.text.push_str("<value><int>");
        decimal(&mut self.text, value.clamp(*INT.start(), *INT.end()));
        self.text.push_str("</int></value>\n");
    }

    /// A boolean.
    pub(super) fn boolean(&mut self, value: bool) {
        self.text.push_str(if value {
            "<value><boolean>1</boolean></value>\n"
        } else {
            "<value><boolean>0</boolean></value>\n"
        });
    }

    /// Begins an array; values follow, then [`Writer::end_array`].
    pub(super) fn begin_array(&mut self) {
        self.text.push_str("<value><array><data>\n");
    }

    /// Ends an array.
    pub(super) fn end_array(&mut self) {
        self.text.push_str("</data></array></value>\n");
    }

    /// An array of strings.
    pub(super) fn strings<S: AsRef<str>>(&mut self, values: impl IntoIterator<Item = S>) {
        self.begin_array();
        for value in values {
            self.string(value.as_ref());
        }
        self.end_array();
    }

    /// Begins a structure; members follow, then [`Writer::end_struct`].
    pub(super) fn begin_struct(&mut self) {
        self.text.push_str("<value><struct>\n");
    }

    /// Ends a structure.
    pub(super) fn end_struct(&mut self) {
        self.text.push_str("</struct></value>\n");
    }

    /// One member; `value` writes its value. Names need no escaping.
    pub(super) fn member(&mut self, name: &'static str, value: impl FnOnce(&mut Self)) {
        self.text.push_str("<member>\n<name>");
        self.text.push_str(name);
        self.text.push_str("</name>\n");
        value(self);
        self.text.push_str("</member>\n");
    }

    /// A fault, as a structure.
    pub(super) fn fault(&mut self, fault: &Fault) {
        self.begin_struct();
        self.member("faultCode", |w| w.int(fault.code));
        self.member("faultString", |w| w.string(&fault.text));
        self.end_struct();
    }
}

/// A whole response with a fault.
pub(super) fn fault(fault: &Fault) -> String {
    let mut writer = Writer {
        text: "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n".to_owned(),
        room: None,
        is_of_many: false,
    };
    writer.fault(fault);
    writer.text.push_str("</fault>\n</methodResponse>\n");
    writer.text
}

/// Appends a number; a listing has thousands, and the way through `fmt` takes several times as long.
fn decimal(out: &mut String, value: i64) {
    if value < 0 {
        out.push('-');
    }
    let (mut rest, mut digits, mut at) = (value.unsigned_abs(), [0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
}

/// Appends `text` so that every XML parser gives it back, but for characters that XML forbids.
fn escape(out: &mut String, text: &str) {
    // Without an early end, so that it is done for many bytes at once; most text needs nothing more.
    let needs_care = |byte: u8| byte < 0x20 || matches!(byte, b'&' | b'<' | b'>' | 0xef);
    if !text.bytes().fold(false, |found, byte| found | needs_care(byte)) {
        return out.push_str(text);
    }
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let (replacement, length) = match byte {
            b'&' => ("&amp;", 1),
            b'<' => ("&lt;", 1),
            b'>' => ("&gt;", 1),
            // A parser makes a line feed of it otherwise.
            b'\r' => ("&#13;", 1),
            b'\t' | b'\n' => continue,
            0..=0x1f => ("\u{fffd}", 1),
            // U+FFFE and U+FFFF.
            0xef if text[at..].starts_with(['\u{fffe}', '\u{ffff}']) => ("\u{fffd}", 3),
            _ => continue,
        };
        out.push_str(&text[written..at]);
        out.push_str(replacement);
        written = at + length;
    }
    out.push_str(&text[written..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces<'a>(writer: &mut Writer, pieces: impl IntoIterator<Item = &'a [u8]>) {
        let mut cut = Vec::new();
        writer.begin_string();
        pieces.into_iter().for_each(|piece| writer.piece(&mut cut, piece));
        writer.end_string(&cut);
    }

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.finish()
    }

    #[test]
    fn layout_is_that_of_pythons_library() {
        let expected = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><struct>\n<member>\n\
            <name>a</name>\n<value><array><data>\n<value><int>-1</int></value>\n<value><string>x</string></value>\n\
            </data></array></value>\n</member>\n<member>\n<name>b</name>\n<value><boolean>1</boolean></value>\n\
            </member>\n</struct></value>\n</param>\n</params>\n</methodResponse>\n";
        let text = written(|w| {
            w.begin_struct();
            w.member("a", |w| {
                w.begin_array();
                w.int(-1);
                w.string("x");
                w.end_array();
            });
            w.member("b", |w| w.boolean(true));
            w.end_struct();
        });
        assert_eq!(text, expected);
        assert_eq!(
            fault(&Fault::bad_name("<x>")),
            "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n\
             <value><int>10</int></value>\n</member>\n<member>\n<name>faultString</name>\n\
             <value><string>BAD_NAME: &lt;x&gt;</string></value>\n</member>\n</struct></value>\n</fault>\n\
             </methodResponse>\n"
        );
    }

    #[test]
    fn integers_stay_within_32_bits() {
        for (value, text) in [
            (i64::MAX, "2147483647"),
            (i64::MIN, "-2147483648"),
            (7, "7"),
            (0, "0"),
            (-10, "-10"),
            (1234, "1234"),
        ] {
            assert!(written(|w| w.int(value)).contains(&format!("<int>{text}</int>")));
        }
    }

    #[test]
    fn what_xml_cannot_carry_is_replaced() {
        for (bytes, text) in [
            (b"\x1b[31mred\x1b[0m".as_slice(), "\u{fffd}[31mred\u{fffd}[0m"),
            (b"cut \xc3", "cut \u{fffd}"),
            (b"\xff\x00x", "\u{fffd}\u{fffd}x"),
            (b"a\r\n\tb", "a&#13;\n\tb"),
            ("\u{ffff}x\u{fffe}\u{fffd}é".as_bytes(), "\u{fffd}x\u{fffd}\u{fffd}é"),
            (b"1 < 2 && 3 > 2", "1 &lt; 2 &amp;&amp; 3 &gt; 2"),
        ] {
            let expected = format!("<string>{text}</string>");
            assert!(written(|w| in_pieces(w, [bytes])).contains(&expected), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn where_text_is_cut_does_not_show(
            parts in proptest::collection::vec("[a-zé漢\u{10348}<\t]{0,4}", 0..8),
            spoilt in proptest::option::of((any::<usize>(), any::<u8>())),
            size in 1..5_usize,
        ) {
            let mut bytes = parts.concat().into_bytes();
            if let Some((at, byte)) = spoilt
                && !bytes.is_empty()
            {
                let length = bytes.len();
                bytes[at % length] = byte;
            }
            let whole = written(|w| in_pieces(w, [&*bytes]));
            prop_assert_eq!(&written(|w| in_pieces(w, bytes.chunks(size))), &whole);
            let lossy = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(&written(|w| w.string(&lossy)), &whole);
        }

        #[test]
        fn any_bytes_make_a_document_that_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut writer = Writer::default();
            in_pieces(&mut writer, [&*bytes]);
            let value = &writer.text[HEAD.len()..];
            let body = format!("<c><methodName>m</methodName><params><param>{value}</param></params></c>");
            let call = super::super::decode::method_call(body.as_bytes()).unwrap();
            let expected: String = String::from_utf8_lossy(&bytes)
                .chars()
                .map(|c| if (c < ' ' && !"\t\n\r".contains(c)) || c == '\u{ffff}' || c == '\u{fffe}' { '\u{fffd}' } else { c })
                .collect();
            prop_assert_eq!(call.params, [super::super::value::Value::Text(expected)]);
        }
    }
}
