//! The page of a log as text. Pure.

use std::fmt::{self, Display};

use super::{assets::Asset, form::Fields, form::encode, html::Escaped, page::Head};
use crate::request::{Channel, LogSource};

/// Fewest bytes shown. Source: Supervisor.
const LEAST: u64 = 1024;
/// Most bytes shown.
const MOST: u64 = 1 << 20;
/// Bytes shown when the user says nothing; Supervisor's 1024 are less than a screen.
const USUAL: u64 = 16 << 10;

/// Which log to show, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The log; `None` when no process is named.
    pub source: Option<LogSource>,
    /// Bytes.
    pub limit: u64,
}

impl Wanted {
    /// What a query asks for. A limit that is no number or too small is the smallest, as in Supervisor.
    pub(super) fn parse(fields: &Fields) -> Self {
        let limit = fields
            .get("limit")
            .map_or(USUAL, |text| text.parse::<u64>().unwrap_or_default().clamp(LEAST, MOST));
        let channel = fields.get("channel").unwrap_or("stdout");
        let name = fields.get("processname").map(ToOwned::to_owned);
        let source = match channel {
            "main" => Some(LogSource::Daemon),
            "stderr" => name.map(|name| LogSource::Process(name, Channel::Stderr)),
            _ => name.map(|name| LogSource::Process(name, Channel::Stdout)),
        };
        Self { source, limit }
    }

    /// The query that asks for this.
    fn query(&self) -> String {
        let limit = self.limit;
        match &self.source {
            None => format!("limit={limit}"),
            Some(LogSource::Daemon) => format!("channel=main&limit={limit}"),
            Some(LogSource::Process(name, Channel::Stdout)) => {
                format!("processname={}&limit={limit}", encode(name))
            }
            Some(LogSource::Process(name, Channel::Stderr)) => {
                format!("processname={}&channel=stderr&limit={limit}", encode(name))
            }
        }
    }

    fn title(&self) -> String {
        match &self.source {
            None => "Supervisor tail of process None".to_owned(),
            Some(LogSource::Daemon) => "Supervisor tail of the main log".to_owned(),
            Some(LogSource::Process(name, Channel::Stdout)) => format!("Supervisor tail of process {name}"),
            Some(LogSource::Process(name, Channel::Stderr)) => {
                format!("Supervisor tail of process {name} (stderr)")
            }
        }
    }

    /// Links to the other views of this log: words, query, whether it is this one.
    fn views(&self) -> Vec<(&'static str, String, bool)> {
        let of = |source, limit| Self { source: Some(source), limit }.query();
        let mut views = Vec::new();
        if let Some(LogSource::Process(name, shown)) = &self.source {
            for (word, channel) in [("stdout", Channel::Stdout), ("stderr", Channel::Stderr)] {
                views.push((
                    word,
                    of(LogSource::Process(name.clone(), channel), self.limit),
                    channel == *shown,
                ));
            }
        }
        if let Some(source) = &self.source {
            for (word, limit) in [("16 KB", USUAL), ("256 KB", 256 << 10), ("1 MB", MOST)] {
                views.push((word, of(source.clone(), limit), limit == self.limit));
            }
        }
        views
    }

    /// Where the log is without a page around it.
    fn plain(&self) -> Option<String> {
        Some(match self.source.as_ref()? {
            LogSource::Daemon => "mainlogtail".to_owned(),
            LogSource::Process(name, Channel::Stdout) => format!("logtail/{}", encode(name)),
            LogSource::Process(name, Channel::Stderr) => format!("logtail/{}/stderr", encode(name)),
        })
    }
}

/// What there is to show.
#[derive(Debug)]
pub(super) enum Content {
    /// The end of the log.
    Log(Vec<u8>),
    /// Why there is none.
    Problem(String),
}

/// The page of a log.
#[derive(Debug)]
pub(super) struct TailPage<'a> {
    /// What was asked for.
    pub wanted: &'a Wanted,
    /// What there is.
    pub content: &'a Content,
}

impl Display for TailPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, query) = (self.wanted.title(), self.wanted.query());
        let query = Escaped(&query);
        let scripts: &[Asset] = match self.content {
            Content::Log(_) => &[Asset::LiveScript, Asset::TailScript],
            Content::Problem(_) => &[],
        };
        let head = Head { title: &title, scripts };
        let heading = title.strip_prefix("Supervisor tail of ").unwrap_or(&title);
        write!(
            f,
            "{head}<body class=\"tail\"><header><a class=\"back\" href=\"./\" aria-label=\"Back to the status\">←</a>\
             <h1>{}</h1><nav>",
            Escaped(heading.strip_prefix("process ").unwrap_or(heading))
        )?;
        for (word, query, is_shown) in self.wanted.views() {
            let current = if is_shown { " aria-current=\"page\"" } else { "" };
            write!(f, "<a href=\"tail.html?{}\"{current}>{word}</a>", Escaped(&query))?;
        }
        write!(f, "<a href=\"tail.html?{query}\">Refresh</a>")?;
        if let Some(plain) = self.wanted.plain() {
            write!(f, "<a href=\"{}\">Plain</a>", Escaped(&plain))?;
        }
        f.write_str(
            "</nav><div id=\"controls\" hidden><label><input type=\"checkbox\" id=\"follow\" checked> Follow</label>\
             <label><input type=\"checkbox\" id=\"wrap\" checked> Wrap</label>\
             <button type=\"button\" id=\"pause\" aria-pressed=\"false\">Pause</button>\
             <span id=\"state\" role=\"status\"></span></div></header>\n",
        )?;
        match self.content {
            Content::Log(bytes) => {
                let text = readable(bytes);
                write!(
                    f,
                    "<pre id=\"log\" tabindex=\"0\" role=\"region\" aria-label=\"Log\" data-follow=\"ui/follow?{query}\">{}</pre>",
                    Escaped(&text)
                )?;
            }
            Content::Problem(problem) => write!(f, "<pre id=\"log\">{}</pre>", Escaped(problem))?,
        }
        f.write_str("</body></html>\n")
    }
}

/// A log as text: what is no UTF-8 replaced, line ends of other systems made ours, and colours left out.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let mut plain = String::with_capacity(text.len());
    let mut pieces = text.split("\u{1b}[");
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let end = piece.find(|c: char| !matches!(c, ' '..='?'));
        match end.and_then(|end| piece.get(end..)) {
            Some(rest) if rest.starts_with(|c: char| matches!(c, '@'..='~')) => plain.push_str(&rest[1..]),
            // No sequence after all: it is shown as it stands.
            Some(_) => {
                plain.push_str("\u{1b}[");
                plain.push_str(piece);
            }
            // The end of the log cuts it.
            None => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(query: &str) -> Wanted {
        let mut fields = Fields::default();
        fields.read(query);
        Wanted::parse(&fields)
    }

    #[test]
    fn limits_are_bounded_as_in_supervisor() {
        for (text, limit) in
            [("1", 1024), ("x", 1024), ("-5", 1024), ("4096", 4096), ("99999999999", 1 << 20)]
        {
            assert_eq!(wanted(&format!("processname=p&limit={text}")).limit, limit, "{text}");
        }
        assert_eq!(wanted("processname=p").limit, USUAL);
    }

    #[test]
    fn titles_and_refresh_links_are_supervisors() {
        let page = |query: &str, content: Content| {
            TailPage { wanted: &wanted(query), content: &content }.to_string()
        };
        let html = page(
            "processname=g%3Ap&limit=2048",
            Content::Log(b"<b>\x1b[31mred\x1b[0m \x1b]0;x\x07".to_vec()),
        );
        assert!(html.contains("<title>Supervisor tail of process g:p</title>"), "{html}");
        assert!(html.contains("href=\"tail.html?processname=g%3Ap&amp;limit=2048\">Refresh</a>"), "{html}");
        assert!(html.contains(">&lt;b&gt;red ␛]0;x␇</pre>"), "{html}");
        assert!(html.contains("href=\"logtail/g%3Ap\""), "{html}");
        let none = page("", Content::Problem("No process name found".to_owned()));
        assert!(none.contains("<title>Supervisor tail of process None</title>"), "{none}");
        assert!(none.contains("No process name found") && !none.contains("<script"), "{none}");
        let main = page("channel=main", Content::Log(Vec::new()));
        assert!(main.contains("data-follow=\"ui/follow?channel=main&amp;limit=16384\""), "{main}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_readable(bytes in prop::collection::vec(prop_oneof![Just(0x1b), Just(b'['), any::<u8>()], 0..60)) {
            readable(&bytes);
        }
    }
}
