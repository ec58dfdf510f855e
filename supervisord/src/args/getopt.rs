//! Splits a command line the way Python's `getopt` does, because Supervisor's users rely on it: `-c val`, `-cval`,
//! clustered flags, `--long val`, `--long=val`, unique prefixes of long options. The first word that is no option
//! ends the options.
//!
//! Owns the splitting and its error texts; what an option means is for `args`.

use super::{Name, Opt};

/// One option as found on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// Which option.
    pub(super) option: &'static Opt,
    /// Its name in messages: `-c`, or `--configuration` also when it was abbreviated.
    pub(super) spelling: String,
    /// Its argument; `None` where there is none.
    pub(super) value: Option<&'a str>,
}

impl<'a> Found<'a> {
    /// Its argument; empty where there is none.
    pub(super) fn text(&self) -> &'a str {
        self.value.unwrap_or_default()
    }
}

/// Splits `args` (without the program's name) into options and the remaining words.
///
/// # Errors
/// The text that Supervisor prints after `Error: `.
pub(super) fn split<'a>(
    table: &'static [Opt],
    args: &'a [String],
) -> Result<(Vec<Found<'a>>, &'a [String]), String> {
    let mut found = Vec::new();
    let mut rest = args;
    while let Some((word, tail)) = rest.split_first() {
        if !word.starts_with('-') || word == "-" {
            break;
        }
        rest = tail;
        if word == "--" {
            break;
        }
        match word.strip_prefix("--") {
            Some(long) => found.push(split_long(table, long, &mut rest)?),
            None => split_short(table, &word[1..], &mut rest, &mut found)?,
        }
    }
    Ok((found, rest))
}

/// One `--long`, `--long=val` or `--long val`; takes the value from `rest` in the last case.
fn split_long<'a>(
    table: &'static [Opt],
    text: &'a str,
    rest: &mut &'a [String],
) -> Result<Found<'a>, String> {
    let (name, inline) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let option = find_long(table, name)?;
    let value = match (option.argument.is_some(), inline) {
        (true, Some(value)) => Some(value),
        (true, None) if option.optional => None,
        (true, None) => {
            let value = next(rest);
            Some(value.ok_or_else(|| format!("option --{} requires argument", option.name.long_text()))?)
        }
        (false, Some(_)) => {
            return Err(format!("option --{} must not have an argument", option.name.long_text()));
        }
        (false, None) => None,
    };
    Ok(Found { option, spelling: format!("--{}", option.name.long_text()), value })
}

/// The option called `name`, or the only one that starts with it. Supervisor's own options are looked at first, so
/// that an abbreviation which was unique there stays unique.
fn find_long(table: &'static [Opt], name: &str) -> Result<&'static Opt, String> {
    if let Some(exact) = table.iter().find(|option| option.name.long() == Some(name)) {
        return Ok(exact);
    }
    for extension in [false, true] {
        let mut candidates = table
            .iter()
            .filter(|option| option.extension == extension)
            .filter(|option| option.name.long().is_some_and(|long| long.starts_with(name)));
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => return Ok(only),
            (Some(_), Some(_)) => return Err(format!("option --{name} not a unique prefix")),
            (None, _) => {}
        }
    }
    Err(format!("option --{name} not recognized"))
}

/// A word of clustered short options (without its dash); the last may take the rest of the word, or the next one.
fn split_short<'a>(
    table: &'static [Opt],
    word: &'a str,
    rest: &mut &'a [String],
    found: &mut Vec<Found<'a>>,
) -> Result<(), String> {
    let mut chars = word.chars();
    while let Some(letter) = chars.next() {
        let option = table
            .iter()
            .find(|option| option.name.short() == Some(letter))
            .ok_or_else(|| format!("option -{letter} not recognized"))?;
        let value = if option.argument.is_none() {
            None
        } else if chars.as_str().is_empty() {
            Some(next(rest).ok_or_else(|| format!("option -{letter} requires argument"))?)
        } else {
            Some(std::mem::replace(&mut chars, "".chars()).as_str())
        };
        found.push(Found { option, spelling: format!("-{letter}"), value });
    }
    Ok(())
}

/// Takes the next word.
fn next<'a>(rest: &mut &'a [String]) -> Option<&'a str> {
    let (word, tail) = rest.split_first()?;
    *rest = tail;
    Some(word)
}

impl Name {
    /// The letter, if it has one.
    fn short(self) -> Option<char> {
        match self {
            Self::Short(letter) | Self::Both(letter, _) => Some(letter),
            Self::Long(_) => None,
        }
    }

    /// The word, if it has one.
    fn long(self) -> Option<&'static str> {
        match self {
            Self::Long(word) | Self::Both(_, word) => Some(word),
            Self::Short(_) => None,
        }
    }

    /// The word for messages; options found by their word have one.
    fn long_text(self) -> &'static str {
        self.long().unwrap_or_default()
    }
}
