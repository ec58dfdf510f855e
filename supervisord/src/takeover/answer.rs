//! Reads what another daemon answers. ◆

use crate::api::xmlrpc::{
    decode::{self, Malformed, MethodResponse},
    value::Value,
};

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
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
    Malformed(#[from] Malformed),
    /// A refusal that does not say why.
    #[error("unexpected answer: a fault without its members")]
    NoFault,
}

/// The value in a `methodResponse`.
///
/// # Errors
/// See [`AnswerError`].
pub fn parse(document: &[u8]) -> Result<Value, AnswerError> {
    match decode::method_response(document)? {
        MethodResponse::Value(value) => Ok(value),
        MethodResponse::Fault(fault) => {
            let code = fault.member("faultCode").and_then(Value::as_int);
            let text = fault.member("faultString").and_then(Value::as_text);
            Err(code
                .zip(text)
                .map_or(AnswerError::NoFault, |(code, text)| AnswerError::Fault { code, text: text.into() }))
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

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn values_as_python_writes_them_are_read() {
        let table = [
            ("<string>a&lt;b&gt;&amp;&#233;&#x20AC;</string>", text("a<b>&é€")),
            ("<string></string>", text("")),
            ("<int>-1</int>", Value::Int(-1)),
            ("<array><data>\n</data></array>", Value::Array(vec![])),
            (
                "<array><data>\n<value><int>1</int></value>\n<value>x</value>\n</data></array>",
                Value::Array(vec![Value::Int(1), text("x")]),
            ),
            (
                "<struct>\n<member>\n<name>pid</name>\n<value><int>4</int></value>\n</member>\n</struct>",
                Value::Struct(vec![("pid".to_owned(), Value::Int(4))]),
            ),
        ];
        for (source, value) in table {
            assert_eq!(parse(response(source).as_bytes()).unwrap(), value, "{source}");
        }
    }

    #[test]
    fn what_a_program_has_written_is_read_whatever_it_is() {
        // Python escapes none of these, though XML knows them not.
        let answer = response("<string>\x1b[1m\u{7}</string>");
        assert_eq!(parse(answer.as_bytes()).unwrap(), text("\x1b[1m\u{7}"));
    }

    #[test]
    fn fault_keeps_its_code_and_text() {
        let fault = |members: &str| {
            format!(
                "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n{members}</struct></value>\n\
                 </fault>\n</methodResponse>\n"
            )
        };
        let whole = fault(
            "<member>\n<name>faultCode</name>\n<value><int>6</int></value>\n</member>\n<member>\n\
             <name>faultString</name>\n<value><string>SHUTDOWN_STATE</string></value>\n</member>\n",
        );
        let error = parse(whole.as_bytes()).unwrap_err();
        assert!(
            matches!(&error, AnswerError::Fault { code: 6, text } if text == "SHUTDOWN_STATE"),
            "{error}"
        );
        assert!(matches!(parse(fault("").as_bytes()), Err(AnswerError::NoFault)));
    }

    proptest! {
        #[test]
        fn cut_answers_are_refused(cut in 0_usize..400) {
            let whole = response("<array><data>\n<value><struct>\n<member>\n<name>n</name>\n<value>x</value>\n\
                                  </member>\n</struct></value>\n</data></array>");
            prop_assert!(parse(&whole.as_bytes()[..cut.min(whole.len() - 2)]).is_err());
        }
    }
}
