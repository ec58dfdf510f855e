//! Supervisor's INI dialect: text → sections of (key, value, file, line).
//!
//! The dialect is that of Python's non-strict `RawConfigParser` with inline comments. [`Reader`] resolves it (comments,
//! continuation lines, case of keys, delimiters, duplicates, `[DEFAULT]`) into plain text with one line per key, which
//! crate `rust-ini` reads; the place that each key came from is kept beside. Leaves `%(name)s` to `expand`, except for
//! the textual `%(here)s` that Supervisor replaces file by file.

use std::{borrow::Cow, collections::HashMap, fmt::Write, sync::Arc};

use ini::{Ini, ParseOption};

use super::python::{is_space, repr, rstrip, strip};

/// One section, merged from all its appearances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, blanks included.
    pub name: String,
    /// File in which it first appears, as named to [`Reader::read`].
    pub file: Arc<str>,
    /// Line of its first header.
    pub line: u32,
    /// Its keys in order of first appearance, those of `[DEFAULT]` last.
    pub entries: Vec<Entry>,
}

impl Section {
    /// The entry of `key` (lower case).
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// One key of a section with its last value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Lower-case key.
    pub key: String,
    /// Value, lines joined by `\n`.
    pub value: String,
    /// File of the value.
    pub file: Arc<str>,
    /// Line of the key.
    pub line: u32,
    /// Whether an inline comment ended one of its lines.
    pub is_cut: bool,
    /// Whether it comes from `[DEFAULT]`.
    pub is_inherited: bool,
}

/// Why a file is not in the dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// Something other than a comment stands before the first section.
    #[error("File contains no section headers.\nfile: {}, line: {line}\n{}", repr(file), repr(text))]
    NoSectionHeader {
        /// File, as named to [`Reader::read`].
        file: String,
        /// Its line.
        line: u32,
        /// The whole line.
        text: String,
    },
    /// Lines that are neither a section, nor a key with `=` or `:`, nor a continuation.
    #[error("Source contains parsing errors: {}{}", repr(file), bad_lines(lines))]
    BadLines {
        /// File, as named to [`Reader::read`].
        file: String,
        /// Number and text of each.
        lines: Vec<(u32, String)>,
    },
}

fn bad_lines(lines: &[(u32, String)]) -> String {
    lines.iter().fold(String::new(), |mut out, (number, text)| {
        out.push_str(&format!("\n\t[line {number:>2}]: {}", repr(text)));
        out
    })
}

/// Collects files; later ones override earlier ones key by key.
#[derive(Debug, Default)]
pub struct Reader {
    sections: Vec<RawSection>,
    /// Position of each name in `sections`.
    index: HashMap<String, usize>,
    defaults: RawSection,
    /// The sections that are kept; all, if none.
    only: Option<&'static [&'static str]>,
}

#[derive(Debug, Default)]
struct RawSection {
    name: String,
    file: Arc<str>,
    line: u32,
    entries: Vec<RawEntry>,
    /// Position of each key in `entries`.
    index: HashMap<String, usize>,
}

#[derive(Debug, Clone)]
struct RawEntry {
    key: String,
    lines: Vec<String>,
    file: Arc<str>,
    line: u32,
    is_cut: bool,
}

/// Where the section being read is kept.
#[derive(Debug, Clone, Copy)]
enum Place {
    Defaults,
    Section(usize),
    /// Nowhere: it is not wanted.
    Nowhere,
}

/// One physical line with its comment taken off.
struct Line<'a> {
    number: u32,
    /// The line with its `\n`.
    raw: &'a str,
    /// What is left of it, without surrounding blanks.
    value: &'a str,
    comment: Comment,
    /// Number of leading blanks.
    indent: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comment {
    None,
    Inline,
    WholeLine,
}

impl Reader {
    /// A reader that keeps only the sections of these names, `x:` for all `x:name`. The syntax of the others is checked all the same.
    pub fn only(names: &'static [&'static str]) -> Self {
        Self { only: Some(names), ..Self::default() }
    }

    /// Adds the text of `file`.
    ///
    /// # Errors
    /// [`SyntaxError`] with every bad line; what could be read has been added.
    pub fn read(&mut self, file: &str, text: &str) -> Result<(), SyntaxError> {
        let text = match text.contains('\r') {
            true => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
            false => Cow::Borrowed(text),
        };
        let file: Arc<str> = Arc::from(file);
        let mut place: Option<Place> = None;
        let mut entry: Option<usize> = None;
        let mut indent = 0;
        let mut bad = Vec::new();
        for (number, raw) in (1..).zip(text.split_inclusive('\n')) {
            if matches!(place, Some(Place::Nowhere)) && is_plain_key(raw) {
                (entry, indent) = (Some(0), 0);
                continue;
            }
            let line = Line::new(number, raw);
            if line.value.is_empty() {
                if let (Comment::None, Some(place), Some(entry)) = (line.comment, place, entry)
                    && let Some(section) = self.section(place)
                {
                    section.entries[entry].lines.push(String::new());
                }
                continue;
            }
            if let (Some(place), Some(entry)) = (place, entry)
                && line.indent > indent
            {
                if let Some(section) = self.section(place) {
                    section.entries[entry].continue_with(&line);
                }
                continue;
            }
            indent = line.indent;
            if let Some(name) = header(line.value) {
                place = Some(self.open(name, &file, line.number));
                entry = None;
            } else if let Some(place) = place {
                match key_and_value(line.value) {
                    Some(("", _)) => {
                        // Python has no key now that an indented line could continue.
                        entry = None;
                        bad.push((line.number, line.raw.to_owned()));
                    }
                    Some((key, value)) => {
                        let section = self.section(place);
                        entry = Some(section.map_or(0, |section| section.set(key, value, &file, &line)));
                    }
                    None => bad.push((line.number, line.raw.to_owned())),
                }
            } else {
                let (file, text) = (file.to_string(), line.raw.to_owned());
                return Err(SyntaxError::NoSectionHeader { file, line: line.number, text });
            }
        }
        if bad.is_empty() {
            Ok(())
        } else {
            Err(SyntaxError::BadLines { file: file.to_string(), lines: bad })
        }
    }

    /// Whether a section of this name has been read.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Replaces `%(here)s` in everything read so far.
    pub fn expand_here(&mut self, here: &str) {
        let defaults: Vec<RawEntry> =
            self.defaults.entries.iter().filter(|entry| entry.value().contains(HERE)).cloned().collect();
        for section in &mut self.sections {
            for entry in &mut section.entries {
                for line in &mut entry.lines {
                    *line = line.replace(HERE, here);
                }
            }
            for entry in &defaults {
                if !section.index.contains_key(&entry.key) {
                    let mut entry = entry.clone();
                    entry.lines = entry.lines.iter().map(|line| line.replace(HERE, here)).collect();
                    section.index.insert(entry.key.clone(), section.entries.len());
                    section.entries.push(entry);
                }
            }
        }
    }

    /// The sections in order of first appearance.
    ///
    /// # Errors
    /// When `rust-ini` refuses the normalised text, which it must not.
    pub fn sections(&self) -> Result<Vec<Section>, ini::ParseError> {
        let options = ParseOption {
            enabled_quote: false,
            enabled_escape: true,
            enabled_indented_mutiline_value: false,
            enabled_preserve_key_leading_whitespace: false,
        };
        let ini = Ini::load_from_str_opt(&self.normalised(), options)?;
        let found = ini.iter().filter_map(|(name, properties)| name.map(|name| (unwrap(name), properties)));
        Ok(self
            .sections
            .iter()
            .zip(found)
            .map(|(raw, (name, properties))| {
                let origins = raw.entries.iter().map(|entry| (entry, false));
                let origins = origins.chain(self.inherited(raw).map(|entry| (entry, true)));
                let entries =
                    origins.zip(properties.iter()).map(|((raw, is_inherited), (key, value))| Entry {
                        key: unwrap(key).to_owned(),
                        value: unwrap(value).to_owned(),
                        file: raw.file.clone(),
                        line: raw.line,
                        is_cut: raw.is_cut,
                        is_inherited,
                    });
                Section {
                    name: name.to_owned(),
                    file: raw.file.clone(),
                    line: raw.line,
                    entries: entries.collect(),
                }
            })
            .collect())
    }

    /// The dialect resolved: `["name"]` and `"key"="value"`, one line each, in `rust-ini`'s escapes.
    pub fn normalised(&self) -> String {
        let mut out = String::new();
        for section in &self.sections {
            out.push_str("[\"");
            escape(&section.name, &mut out);
            out.push_str("\"]\n");
            for entry in section.entries.iter().chain(self.inherited(section)) {
                out.push('"');
                escape(&entry.key, &mut out);
                out.push_str("\"=\"");
                escape(&entry.value(), &mut out);
                out.push_str("\"\n");
            }
        }
        out
    }

    fn inherited<'a>(&'a self, section: &'a RawSection) -> impl Iterator<Item = &'a RawEntry> {
        self.defaults.entries.iter().filter(|entry| !section.index.contains_key(&entry.key))
    }

    fn section(&mut self, place: Place) -> Option<&mut RawSection> {
        match place {
            Place::Defaults => Some(&mut self.defaults),
            Place::Section(at) => Some(&mut self.sections[at]),
            Place::Nowhere => None,
        }
    }

    fn open(&mut self, name: &str, file: &Arc<str>, line: u32) -> Place {
        if name == "DEFAULT" {
            return Place::Defaults;
        }
        if self.only.is_some_and(|names| !names.iter().any(|wanted| is_kind(name, wanted))) {
            return Place::Nowhere;
        }
        if let Some(at) = self.index.get(name) {
            return Place::Section(*at);
        }
        let at = self.sections.len();
        self.index.insert(name.to_owned(), at);
        self.sections.push(RawSection {
            name: name.to_owned(),
            file: file.clone(),
            line,
            ..RawSection::default()
        });
        Place::Section(at)
    }
}

impl RawSection {
    fn set(&mut self, key: &str, value: &str, file: &Arc<str>, line: &Line<'_>) -> usize {
        let key = key.to_lowercase();
        let at = *self.index.entry(key.clone()).or_insert(self.entries.len());
        let is_cut = line.comment == Comment::Inline;
        let entry =
            RawEntry { key, lines: vec![value.to_owned()], file: file.clone(), line: line.number, is_cut };
        if at == self.entries.len() {
            self.entries.push(entry);
        } else {
            self.entries[at] = entry;
        }
        at
    }
}

impl RawEntry {
    fn continue_with(&mut self, line: &Line<'_>) {
        self.lines.push(line.value.to_owned());
        self.is_cut |= line.comment == Comment::Inline;
    }

    fn value(&self) -> String {
        rstrip(&self.lines.join("\n")).to_owned()
    }
}

impl<'a> Line<'a> {
    fn new(number: u32, raw: &'a str) -> Self {
        let stripped = strip(raw);
        let indent = raw.chars().take_while(|c| is_space(*c)).count();
        let (value, comment) = if stripped.starts_with(['#', ';']) {
            ("", Comment::WholeLine)
        } else {
            inline_comment(raw).map_or((raw, Comment::None), |at| (&raw[..at], Comment::Inline))
        };
        Self {
            number,
            raw,
            value: strip(value),
            comment,
            indent: if stripped.is_empty() { 0 } else { indent },
        }
    }
}

/// Where an inline comment starts: at a `;` or `#` after a blank, whatever the quotes say.
fn inline_comment(line: &str) -> Option<usize> {
    if !line.bytes().any(|byte| matches!(byte, b';' | b'#')) {
        return None;
    }
    let mut before = None;
    for (at, c) in line.char_indices() {
        if matches!(c, ';' | '#') && before.is_none_or(is_space) {
            return Some(at);
        }
        before = Some(c);
    }
    None
}

/// The name in `[name]`, up to the last bracket.
fn header(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('[')?;
    let end = rest.rfind(']')?;
    (end > 0).then(|| &rest[..end])
}

/// Whether a line is certainly a key with a value and without a comment; most lines are.
fn is_plain_key(line: &str) -> bool {
    let bytes = line.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.contains(&b'=')
        && !bytes.iter().any(|byte| matches!(byte, b';' | b'#'))
}

/// Splits at the first `=` or `:`.
fn key_and_value(line: &str) -> Option<(&str, &str)> {
    let at = line.find(['=', ':'])?;
    Some((rstrip(&line[..at]), strip(&line[at + 1..])))
}

/// Writes `text` so that `rust-ini` gives it back whatever is in it: everything with a meaning there, now or with
/// other features of that crate, becomes `\xHHHH`.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        let is_special = matches!(c, '\\' | '[' | ']' | '=' | ':' | ';' | '#' | '"' | '\'');
        let code = u32::from(c);
        if code < 0x1_0000 && (is_special || c.is_control() || (is_space(c) && c != ' ')) {
            // Writing to a String cannot fail.
            write!(out, "\\x{code:04x}").unwrap_or_default();
        } else {
            out.push(c);
        }
    }
}

/// Takes off the quotes that protected blanks at the ends.
fn unwrap(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

const HERE: &str = "%(here)s";

/// Whether `name` is `wanted`, or begins with it where that ends with a colon.
fn is_kind(name: &str, wanted: &str) -> bool {
    name == wanted || (wanted.ends_with(':') && name.starts_with(wanted))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(files: &[(&str, &str)]) -> Vec<Section> {
        let mut reader = Reader::default();
        for (file, text) in files {
            reader.read(file, text).unwrap();
        }
        reader.sections().unwrap()
    }

    fn places(section: &Section) -> Vec<(&str, &str, &str, u32)> {
        let entries = section.entries.iter();
        entries.map(|entry| (entry.key.as_str(), entry.value.as_str(), &*entry.file, entry.line)).collect()
    }

    #[test]
    fn keys_keep_the_place_of_their_last_value() {
        let sections = read(&[("main", "[a]\nx=1\ny=2\n\n[b]\n"), ("more", "; c\n[a]\ny=3\n  4\nz=5\n")]);
        assert_eq!(sections.len(), 2);
        assert_eq!((&*sections[0].file, sections[0].line), ("main", 1));
        let expected = [("x", "1", "main", 2), ("y", "3\n4", "more", 3), ("z", "5", "more", 5)];
        assert_eq!(places(&sections[0]), expected);
    }

    #[test]
    fn defaults_reach_every_section_with_their_place() {
        let sections = read(&[("f", "[DEFAULT]\nx=1\n[a]\n[b]\nx=2\n")]);
        assert_eq!(places(&sections[0]), [("x", "1", "f", 2)]);
        assert!(sections[0].entries[0].is_inherited);
        assert_eq!(places(&sections[1]), [("x", "2", "f", 5)]);
    }

    #[test]
    fn inline_comments_are_remembered() {
        let sections = read(&[("f", "[a]\nx='a ; b'\ny=1\n  2 ; c\nz=3\n")]);
        let cut: Vec<bool> = sections[0].entries.iter().map(|entry| entry.is_cut).collect();
        assert_eq!(cut, [true, true, false]);
    }

    #[test]
    fn here_is_replaced_file_by_file() {
        let mut reader = Reader::default();
        reader.read("a", "[DEFAULT]\nd=%(here)s\n[a]\nx=%(here)s/x\n").unwrap();
        reader.expand_here("/a");
        reader.read("b", "[b]\nx=%(here)s/x\n").unwrap();
        reader.expand_here("/b");
        let sections = reader.sections().unwrap();
        let value = |at: usize, key| sections[at].get(key).unwrap().value.as_str();
        assert_eq!(
            [value(0, "x"), value(0, "d"), value(1, "x"), value(1, "d")],
            ["/a/x", "/a", "/b/x", "/b"]
        );
    }

    #[test]
    fn sections_that_are_not_wanted_are_checked_and_not_kept() {
        let mut reader = Reader::only(&["b"]);
        reader.read("f", "[a]\nx=1\n  2\n\n[b]\ny=1\n[a]\nx=3\n").unwrap();
        let sections = reader.sections().unwrap();
        assert_eq!(sections.len(), 1);
        assert_eq!(places(&sections[0]), [("y", "1", "f", 6)]);
        assert!(reader.contains("b") && !reader.contains("a"));
        assert!(Reader::only(&["b"]).read("f", "[a]\njunk\n").is_err());
    }

    #[test]
    fn every_bad_line_is_told() {
        let error = Reader::default().read("f", "[a]\njunk\nx=1\n=2\n").unwrap_err();
        let text = "Source contains parsing errors: 'f'\n\t[line  2]: 'junk\\n'\n\t[line  4]: '=2\\n'";
        assert_eq!(error.to_string(), text);
    }

    proptest! {
        /// Whatever the text: no panic, and `rust-ini` gives back exactly what the dialect found.
        #[test]
        fn normalised_text_survives_rust_ini(text in "(\\[[^\n]{0,6}\\]\n|[^\n]{0,12}[=:][^\n]{0,12}\n|[ \t]{0,3}[^\n]{0,8}\n|\\PC{0,9}){0,20}") {
            let mut reader = Reader::default();
            let _ = reader.read("f", &text);
            let sections = reader.sections().unwrap();
            prop_assert_eq!(sections.len(), reader.sections.len());
            for (section, raw) in sections.iter().zip(&reader.sections) {
                prop_assert_eq!(&section.name, &raw.name);
                let expected: Vec<_> = raw.entries.iter().chain(reader.inherited(raw)).map(|e| (e.key.clone(), e.value())).collect();
                let found: Vec<_> = section.entries.iter().map(|e| (e.key.clone(), e.value.clone())).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
