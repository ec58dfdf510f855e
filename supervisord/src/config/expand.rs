//! `%(name)s` expressions: Python's `text % names`, with Supervisor's messages.

use std::collections::{BTreeMap, BTreeSet};

use super::python::{ascii, repr};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number: `process_num`, `numprocs`.
    Number(i64),
}

/// Names and what they stand for.
pub type Names = BTreeMap<String, Value>;

/// Expands `text`; a name in a later layer hides that of an earlier one. `what` is how messages call the text.
///
/// # Errors
/// Supervisor's message for an unknown name or a bad format.
pub fn expand(text: &str, layers: &[&Names], what: &str) -> Result<String, String> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    Formatter { text: text.chars().collect(), at: 0, layers, is_spent: false }.run().map_err(|error| {
        match error {
            FormatError::UnknownName(name) => format!(
                "Format string {} for {} contains names ({}) which cannot be expanded. Available names: {}",
                repr(text),
                repr(what),
                repr(&name),
                available(layers)
            ),
            FormatError::Bad(problem) => {
                format!("Format string {} for {} is badly formatted: {problem}", repr(text), repr(what))
            }
        }
    })
}

fn available(layers: &[&Names]) -> String {
    let names: BTreeSet<&str> = layers.iter().flat_map(|names| names.keys()).map(String::as_str).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

enum FormatError {
    UnknownName(String),
    Bad(String),
}

/// What a conversion is applied to.
enum Argument<'a> {
    Value(&'a Value),
    /// All the names: what Python takes for a `%s` without a name.
    Names,
}

#[derive(Default)]
struct Flags {
    left: bool,
    plus: bool,
    blank: bool,
    alternate: bool,
    zero: bool,
}

struct Formatter<'a> {
    text: Vec<char>,
    at: usize,
    layers: &'a [&'a Names],
    /// Whether the argument was used; only a `%(name)` gives a new one.
    is_spent: bool,
}

impl<'a> Formatter<'a> {
    fn run(mut self) -> Result<String, FormatError> {
        let mut out = String::with_capacity(self.text.len());
        while let Some(c) = self.next() {
            if c == '%' {
                self.conversion(&mut out)?;
            } else {
                out.push(c);
            }
        }
        Ok(out)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.text.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn conversion(&mut self, out: &mut String) -> Result<(), FormatError> {
        if self.peek() == Some('%') {
            self.at += 1;
            out.push('%');
            return Ok(());
        }
        let mut argument = Argument::Names;
        if self.peek() == Some('(') {
            argument = Argument::Value(self.named()?);
            self.is_spent = false;
        }
        let mut flags = self.flags();
        let width = self.size(&argument, "width too big")?;
        let width = width.map(|width| {
            flags.left |= width < 0;
            usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX)
        });
        let mut precision = None;
        if self.peek() == Some('.') {
            self.at += 1;
            precision = Some(self.size(&argument, "precision too big")?.unwrap_or(0));
        }
        if matches!(self.peek(), Some('h' | 'l' | 'L')) {
            self.at += 1;
        }
        let kind = self.next().ok_or_else(|| bad("incomplete format"))?;
        self.take()?;
        let precision = precision.map(|precision| usize::try_from(precision).unwrap_or(0));
        let (sign, body) = self.convert(kind, &argument, &flags, precision)?;
        pad(out, &sign, &body, &flags, width.unwrap_or(0), !matches!(kind, 's' | 'r' | 'a' | 'c'));
        Ok(())
    }

    /// `(name)`; parentheses may nest.
    fn named(&mut self) -> Result<&'a Value, FormatError> {
        self.at += 1;
        let mut depth = 1;
        let mut name = String::new();
        loop {
            match self.next() {
                Some('(') => depth += 1,
                Some(')') => depth -= 1,
                Some(_) => {}
                None => return Err(bad("incomplete format key")),
            }
            if depth == 0 {
                break;
            }
            name.push(self.text[self.at - 1]);
        }
        let layers = self.layers;
        layers.iter().rev().find_map(|names| names.get(&name)).ok_or(FormatError::UnknownName(name))
    }

    fn flags(&mut self) -> Flags {
        let mut flags = Flags::default();
        loop {
            match self.peek() {
                Some('-') => flags.left = true,
                Some('+') => flags.plus = true,
                Some(' ') => flags.blank = true,
                Some('#') => flags.alternate = true,
                Some('0') => flags.zero = true,
                _ => return flags,
            }
            self.at += 1;
        }
    }

    /// A width or precision: digits, or `*` for the argument.
    fn size(&mut self, argument: &Argument<'_>, too_big: &str) -> Result<Option<i64>, FormatError> {
        if self.peek() == Some('*') {
            self.at += 1;
            self.take()?;
            return match argument {
                Argument::Value(Value::Number(number)) => Ok(Some(*number)),
                Argument::Value(Value::Text(_)) | Argument::Names => Err(bad("* wants int")),
            };
        }
        let start = self.at;
        let mut size = 0;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            size = size * 10 + i64::from(digit);
            if size > SIZE_MAX {
                return Err(bad(too_big));
            }
            self.at += 1;
        }
        Ok((self.at > start).then_some(size))
    }

    fn take(&mut self) -> Result<(), FormatError> {
        if self.is_spent {
            return Err(bad("not enough arguments for format string"));
        }
        self.is_spent = true;
        Ok(())
    }

    /// Sign (with prefix) and digits, or an empty sign and the text.
    fn convert(
        &self,
        kind: char,
        argument: &Argument<'_>,
        flags: &Flags,
        precision: Option<usize>,
    ) -> Result<(String, String), FormatError> {
        let (number, of) = match argument {
            Argument::Value(Value::Number(number)) => (Some(*number), "int"),
            Argument::Value(Value::Text(_)) => (None, "str"),
            Argument::Names => (None, "dict"),
        };
        match kind {
            's' | 'r' | 'a' => Ok((String::new(), cut(text(kind, argument)?, precision))),
            'd' | 'i' | 'u' => number
                .map(|number| integer(number, 10, flags, precision, kind))
                .ok_or_else(|| bad(&format!("%{kind} format: a real number is required, not {of}"))),
            'o' | 'x' | 'X' => number
                .map(|number| integer(number, if kind == 'o' { 8 } else { 16 }, flags, precision, kind))
                .ok_or_else(|| bad(&format!("%{kind} format: an integer is required, not {of}"))),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => number
                .map(|number| float(number, kind, flags, precision.unwrap_or(6)))
                .ok_or_else(|| bad(&format!("must be real number, not {of}"))),
            'c' => character(argument).map(|c| (String::new(), c)),
            kind => Err(bad(&format!(
                "unsupported format character '{}' (0x{:x}) at index {}",
                if (' '..='~').contains(&kind) { kind } else { '?' },
                u32::from(kind),
                self.at - 1
            ))),
        }
    }
}

fn bad(problem: &str) -> FormatError {
    FormatError::Bad(problem.to_owned())
}

fn text(kind: char, argument: &Argument<'_>) -> Result<String, FormatError> {
    match argument {
        Argument::Value(Value::Number(number)) => Ok(number.to_string()),
        Argument::Value(Value::Text(text)) => Ok(match kind {
            'r' => repr(text),
            'a' => ascii(text),
            _ => text.clone(),
        }),
        // Python would insert all names with their values, the whole environment among them.
        Argument::Names => {
            Err(bad(&format!("%{kind} needs a name: %(name){kind}; a literal percent sign is written %%")))
        }
    }
}

fn cut(text: String, precision: Option<usize>) -> String {
    match precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text,
    }
}

fn character(argument: &Argument<'_>) -> Result<String, FormatError> {
    match argument {
        Argument::Value(Value::Number(number)) => u32::try_from(*number)
            .ok()
            .and_then(char::from_u32)
            .map(String::from)
            .ok_or_else(|| bad("%c arg not in range(0x110000)")),
        Argument::Value(Value::Text(text)) if text.chars().count() == 1 => Ok(text.clone()),
        Argument::Value(Value::Text(_)) | Argument::Names => Err(bad("%c requires int or char")),
    }
}

fn sign(is_negative: bool, flags: &Flags) -> &'static str {
    match (is_negative, flags.plus, flags.blank) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    }
}

fn integer(number: i64, base: u32, flags: &Flags, precision: Option<usize>, kind: char) -> (String, String) {
    let digits = match (base, kind) {
        (8, _) => format!("{:o}", number.unsigned_abs()),
        (16, 'X') => format!("{:X}", number.unsigned_abs()),
        (16, _) => format!("{:x}", number.unsigned_abs()),
        _ => number.unsigned_abs().to_string(),
    };
    let prefix = match (flags.alternate, kind) {
        (true, 'o') => "0o",
        (true, 'x') => "0x",
        (true, 'X') => "0X",
        _ => "",
    };
    let digits = format!("{digits:0>width$}", width = precision.unwrap_or(0));
    (format!("{}{prefix}", sign(number < 0, flags)), digits)
}

#[expect(clippy::cast_precision_loss, reason = "Python converts the same way")]
fn float(number: i64, kind: char, flags: &Flags, precision: usize) -> (String, String) {
    let value = number.unsigned_abs() as f64;
    let mut body = match kind.to_ascii_lowercase() {
        'f' => format!("{value:.precision$}"),
        'e' => exponent(value, precision),
        _ => general(value, precision.max(1), flags.alternate),
    };
    if flags.alternate && !body.contains('.') {
        match body.find('e') {
            Some(at) => body.insert(at, '.'),
            None => body.push('.'),
        }
    }
    if kind.is_ascii_uppercase() {
        body.make_ascii_uppercase();
    }
    (sign(number < 0, flags).to_owned(), body)
}

/// `%e`: Rust's form with a sign and two digits in the exponent.
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.unsigned_abs())
}

/// `%g`: the shorter of both forms, without trailing zeros unless `keep_zeros`.
fn general(value: f64, precision: usize, keep_zeros: bool) -> String {
    let scientific = exponent(value, precision - 1);
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let strip = |text: &str| {
        if keep_zeros || !text.contains('.') {
            text.to_owned()
        } else {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    };
    let digits = i64::try_from(precision).unwrap_or(i64::MAX);
    if power >= digits {
        return format!("{}e{power:+03}", strip(mantissa));
    }
    let decimals = usize::try_from(digits - 1 - power).unwrap_or(0);
    strip(&format!("{value:.decimals$}"))
}

fn pad(out: &mut String, sign: &str, body: &str, flags: &Flags, width: usize, is_number: bool) {
    let fill = width.saturating_sub(sign.chars().count() + body.chars().count());
    if flags.left {
        out.extend([sign, body]);
        out.extend(std::iter::repeat_n(' ', fill));
    } else if flags.zero && is_number {
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', fill));
        out.push_str(body);
    } else {
        out.extend(std::iter::repeat_n(' ', fill));
        out.extend([sign, body]);
    }
}

/// Largest width and precision; Python allows more than any name or path can use.
const SIZE_MAX: i64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::from([
            ("here".to_owned(), Value::Text("/etc".to_owned())),
            ("process_num".to_owned(), Value::Number(7)),
        ])
    }

    fn ok(text: &str) -> String {
        expand(text, &[&names()], "program:x.command").unwrap()
    }

    fn problem(text: &str) -> String {
        expand(text, &[&names()], "program:x.command").unwrap_err()
    }

    #[test]
    fn names_and_formats_are_replaced() {
        for (text, expected) in [
            ("a", "a"),
            ("%(here)s/x", "/etc/x"),
            ("w%(process_num)02d", "w07"),
            ("%(process_num)s%%", "7%"),
            ("%(process_num)-3d|", "7  |"),
            ("%(process_num)+d", "+7"),
            ("%(process_num)#x", "0x7"),
            ("%(process_num)e", "7.000000e+00"),
            ("%(process_num)g", "7"),
            ("%(here).2s", "/e"),
            ("%(here)r", "'/etc'"),
        ] {
            assert_eq!(ok(text), expected, "{text:?}");
        }
    }

    #[test]
    fn unknown_names_list_what_is_available() {
        assert_eq!(
            problem("%(nosuch)s"),
            "Format string '%(nosuch)s' for 'program:x.command' contains names ('nosuch') which cannot be expanded. \
             Available names: here, process_num"
        );
    }

    #[test]
    fn bad_formats_are_explained() {
        for (text, expected) in [
            ("date +%Y", "unsupported format character 'Y' (0x59) at index 7"),
            ("50%", "incomplete format"),
            ("%(here", "incomplete format key"),
            ("%(here)d", "%d format: a real number is required, not str"),
            ("%(here)x", "%x format: an integer is required, not str"),
            ("%(here)s %d", "not enough arguments for format string"),
            ("100% done", "%d format: a real number is required, not dict"),
        ] {
            let whole = format!(
                "Format string {} for 'program:x.command' is badly formatted: {expected}",
                repr(text)
            );
            assert_eq!(problem(text), whole);
        }
    }
}
