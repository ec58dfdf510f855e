//! What clients send as arguments and how liberally it is read; what another daemon answers.

use std::{collections::HashMap, num::IntErrorKind};

use super::fault::Fault;
use crate::config::python;

/// A decoded argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `<nil/>`.
    Nil,
    /// `<boolean>`.
    Boolean(bool),
    /// `<int>`, `<i4>`, `<i8>`.
    Int(i64),
    /// `<double>`.
    Double(f64),
    /// `<string>`, no type at all, `<base64>`, and every type that is not known.
    Text(String),
    /// `<array>`.
    Array(Vec<Value>),
    /// `<struct>`, in order; a later member of the same name counts.
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// As the name of a process or group. PHP sends names of digits as integers.
    pub fn into_name(self) -> Result<String, Fault> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Int(number) => Ok(number.to_string()),
            Self::Nil | Self::Boolean(_) | Self::Double(_) | Self::Array(_) | Self::Struct(_) => {
                Err(Fault::incorrect_parameters())
            }
        }
    }

    /// As data; a number is none.
    pub fn into_text(self) -> Result<String, Fault> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Int(number) => Err(Fault::parameters(number)),
            Self::Nil | Self::Boolean(_) | Self::Double(_) | Self::Array(_) | Self::Struct(_) => {
                Err(Fault::incorrect_parameters())
            }
        }
    }

    /// As a message: of whatever type it is, as Python's `str` writes it.
    pub fn into_message(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Nil
            | Self::Boolean(_)
            | Self::Int(_)
            | Self::Double(_)
            | Self::Array(_)
            | Self::Struct(_) => self.repr(),
        }
    }

    /// As Python's `repr` writes it. What it nests was bounded when it was decoded.
    fn repr(&self) -> String {
        let joined = |parts: Vec<String>| parts.join(", ");
        match self {
            Self::Nil => "None".to_owned(),
            Self::Boolean(true) => "True".to_owned(),
            Self::Boolean(false) => "False".to_owned(),
            Self::Int(number) => number.to_string(),
            Self::Double(number) => python::float(*number),
            Self::Text(text) => python::repr(text),
            Self::Array(elements) => format!("[{}]", joined(elements.iter().map(Self::repr).collect())),
            Self::Struct(members) => {
                // A dictionary: a member has its first place and its last value.
                let mut last: HashMap<&str, &Self> = HashMap::new();
                for (name, value) in members {
                    last.insert(name, value);
                }
                let one = |(name, _): &(String, Self)| {
                    let value = last.remove(name.as_str())?;
                    Some(format!("{}: {}", python::repr(name), value.repr()))
                };
                format!("{{{}}}", joined(members.iter().filter_map(one).collect()))
            }
        }
    }

    /// As a number, which may come as a string.
    pub fn into_int(self) -> Result<i64, Fault> {
        match self {
            Self::Int(number) => Ok(number),
            Self::Boolean(flag) => Ok(i64::from(flag)),
            // Towards zero, as Python; what does not fit becomes the nearest that does.
            Self::Double(number) => Ok(number as i64),
            Self::Text(text) => integer(&text).ok_or_else(|| Fault::parameters(text)),
            Self::Nil | Self::Array(_) | Self::Struct(_) => Err(Fault::incorrect_parameters()),
        }
    }

    /// A member of a structure.
    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(members) => {
                members.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
            }
            Self::Nil
            | Self::Boolean(_)
            | Self::Int(_)
            | Self::Double(_)
            | Self::Text(_)
            | Self::Array(_) => None,
        }
    }

    /// The number that it is.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Nil
            | Self::Boolean(_)
            | Self::Double(_)
            | Self::Text(_)
            | Self::Array(_)
            | Self::Struct(_) => None,
        }
    }

    /// The text that it is.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nil
            | Self::Boolean(_)
            | Self::Int(_)
            | Self::Double(_)
            | Self::Array(_)
            | Self::Struct(_) => None,
        }
    }

    /// The elements that it has.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(elements) => Some(elements),
            Self::Nil
            | Self::Boolean(_)
            | Self::Int(_)
            | Self::Double(_)
            | Self::Text(_)
            | Self::Struct(_) => None,
        }
    }

    /// Python's idea of truth.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Boolean(flag) => *flag,
            Self::Int(number) => *number != 0,
            Self::Double(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Array(items) => !items.is_empty(),
            Self::Struct(members) => !members.is_empty(),
        }
    }
}

/// A decimal number; Python's have no bound, and what does not fit becomes the nearest that does.
pub(super) fn integer(text: &str) -> Option<i64> {
    match text.trim().parse::<i64>() {
        Ok(number) => Some(number),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(i64::MAX),
        Err(error) if *error.kind() == IntErrorKind::NegOverflow => Some(i64::MIN),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_come_as_strings_and_names_as_numbers() {
        for (value, number) in [
            (Value::Int(-5), Some(-5)),
            (Value::Text(" 12 ".to_owned()), Some(12)),
            (Value::Boolean(true), Some(1)),
            (Value::Double(-2.9), Some(-2)),
            (Value::Double(1e300), Some(i64::MAX)),
            (Value::Text("99999999999999999999".to_owned()), Some(i64::MAX)),
            (Value::Text("ten".to_owned()), None),
            (Value::Nil, None),
            (Value::Array(Vec::new()), None),
        ] {
            assert_eq!(value.clone().into_int().ok(), number, "{value:?}");
        }
        assert_eq!(Value::Int(7).into_name().ok().as_deref(), Some("7"));
        assert!(Value::Boolean(true).into_name().is_err());
        assert_eq!(Value::Int(5).into_text().unwrap_err().text, "INCORRECT_PARAMETERS: 5");
    }

    #[test]
    fn a_message_is_what_python_makes_of_a_value() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (value, message) in [
            (text("it's"), "it's"),
            (Value::Nil, "None"),
            (Value::Boolean(true), "True"),
            (Value::Int(-5), "-5"),
            (Value::Double(1e300), "1e+300"),
            (
                Value::Array(vec![
                    Value::Int(1),
                    text("it's"),
                    Value::Boolean(false),
                    Value::Array(Vec::new()),
                ]),
                "[1, \"it's\", False, []]",
            ),
            (
                Value::Struct(vec![
                    ("a".to_owned(), Value::Int(1)),
                    ("b".to_owned(), Value::Struct(Vec::new())),
                    ("a".to_owned(), Value::Nil),
                ]),
                "{'a': None, 'b': {}}",
            ),
        ] {
            assert_eq!(value.into_message(), message);
        }
    }

    #[test]
    fn truth_is_pythons() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (value, expected) in [
            (Value::Boolean(false), false),
            (Value::Int(0), false),
            (Value::Int(2), true),
            (text("0"), true),
            (text(""), false),
            (Value::Nil, false),
            (Value::Array(vec![Value::Nil]), true),
        ] {
            assert_eq!(value.is_true(), expected, "{value:?}");
        }
    }
}
