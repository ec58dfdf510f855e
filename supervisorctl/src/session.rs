//! What lasts from command to command: the daemon's address, the connection, the output and the exit status.
//!
//! Owns how an [`Item`] reaches the user: as text at once, or collected as JSON until the command ends.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use serde_json::{Value, json};
use supervisord::config::Credentials;

use crate::{
    args::Settings,
    client::{Client, ConnectError, Failure, Rpc},
    input::Input,
    render::{Format, Item, exit},
};

/// Output that is kept back at most before it is written.
const BUFFER: usize = 64 << 10;

/// Which daemon, and what to present to it.
#[derive(Clone)]
pub struct Daemon {
    /// Where it listens.
    pub url: String,
    /// Presented to it, if any.
    pub credentials: Option<Credentials>,
}

/// A user's dealings with one daemon after another.
pub struct Session {
    daemon: Daemon,
    configuration: Option<PathBuf>,
    client: Option<Client>,
    /// Whether anything was asked over it.
    is_in_use: bool,
    status: u8,
    output: Output,
    answer: Answer,
    /// May questions be asked?
    pub interactive: bool,
    /// Form of the output.
    pub format: Format,
    /// What the user types.
    pub input: Input,
}

/// The JSON answer of a command as far as it is known.
enum Answer {
    /// Each item is an answer of its own.
    Single,
    /// The items are elements of one array.
    List(Vec<Value>),
}

impl Session {
    /// A session that has not yet connected.
    pub fn new(settings: Settings) -> Self {
        Self {
            daemon: Daemon { url: settings.serverurl, credentials: settings.credentials },
            configuration: settings.configuration,
            client: None,
            is_in_use: false,
            status: exit::OK,
            output: Output { buffer: Vec::new(), is_closed: false },
            answer: Answer::Single,
            interactive: settings.interactive,
            format: settings.format,
            input: Input::default(),
        }
    }

    /// Where the daemon listens.
    pub fn url(&self) -> &str {
        &self.daemon.url
    }

    /// The daemon of the next command.
    pub fn daemon(&self) -> Daemon {
        self.daemon.clone()
    }

    /// Turns to another daemon.
    pub fn open(&mut self, url: String) {
        self.client = None;
        self.daemon.url = url;
    }

    /// Presents these credentials from now on.
    pub fn log_in(&mut self, credentials: Credentials) {
        self.client = None;
        self.daemon.credentials = Some(credentials);
    }

    /// Forgets the connection: the daemon may be another one when the next command comes.
    pub fn disconnect(&mut self) {
        self.client = None;
    }

    /// The calls to the daemon, connecting first if necessary.
    ///
    /// # Errors
    /// When there is no connection to be had.
    pub async fn rpc(&mut self) -> Result<Rpc, ConnectError> {
        if let Some(client) = &self.client
            && self.is_in_use
        {
            // What the daemon said meanwhile is read now; it may have been replaced and have sent us off.
            tokio::task::yield_now().await;
            if client.has_ended() {
                self.client = None;
            }
        }
        self.connect().await?;
        self.is_in_use = true;
        let client = self.client.as_ref().expect("it was just set");
        Ok(client.rpc.clone())
    }

    /// Connects to the daemon unless that has been done, and asks nothing yet.
    ///
    /// # Errors
    /// When there is no connection to be had.
    pub async fn connect(&mut self) -> Result<(), ConnectError> {
        if self.client.is_none() {
            self.client = Some(Client::connect(&self.daemon.url, self.daemon.credentials.as_ref()).await?);
            self.is_in_use = false;
        }
        Ok(())
    }

    /// What a failure really was, as far as the connection knows.
    pub async fn explain(&mut self, failure: Failure) -> Failure {
        match &mut self.client {
            Some(client) => client.explain(failure).await,
            None => failure,
        }
    }

    /// The exit status so far: the last that was not a success.
    pub fn exit_status(&self) -> u8 {
        self.status
    }

    /// Puts the exit status back to what it was before a command.
    pub fn restore_exit_status(&mut self, status: u8) {
        self.status = status;
    }

    /// Declares that the items to come are a list, even if there is none.
    pub fn begin_list(&mut self) {
        if matches!(self.answer, Answer::Single) {
            self.answer = Answer::List(Vec::new());
        }
    }

    /// Tells the user about `item`, and lets it decide the exit status.
    pub fn say(&mut self, item: &impl Item) {
        if let Some(status) = item.status() {
            self.status = status;
        }
        match (self.format, &mut self.answer) {
            (Format::Text, _) => self.print(&item.text()),
            (Format::Json, Answer::List(items)) => items.push(item.json()),
            (Format::Json, Answer::Single) => self.print(&item.json().to_string()),
        }
    }

    /// Tells why the command failed. In JSON it is the last element of a list that has begun to fill.
    pub fn say_failure(&mut self, item: &impl Item) {
        if matches!(&self.answer, Answer::List(items) if items.is_empty()) {
            self.answer = Answer::Single;
        }
        self.say(item);
    }

    /// Gives advice that is no part of the answer: on stderr, and only to a person.
    pub fn hint(&mut self, text: &str) {
        if Self::hints() {
            self.add(text);
        }
    }

    /// Whether a person would see advice.
    pub fn hints() -> bool {
        io::stderr().is_terminal()
    }

    /// Tells more about an answer: on stderr, for what is compared stands on stdout.
    pub fn add(&mut self, text: &str) {
        self.output.flush();
        // The line on stdout says the essence to whom this does not reach.
        let _unheard = writeln!(io::stderr(), "{text}");
    }

    /// What to do about `error`.
    pub fn cure(&self, error: &ConnectError) -> Option<String> {
        error.cure(self.configuration.as_deref())
    }

    /// Writes a line.
    pub fn print(&mut self, line: &str) {
        self.write(line.as_bytes());
        self.write(b"\n");
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.output.buffer.extend_from_slice(bytes);
        if self.output.buffer.len() > BUFFER {
            self.output.flush();
        }
    }

    /// Lets the user see what was written so far; tells whether anybody still reads.
    pub fn flush(&mut self) -> bool {
        self.output.flush();
        !self.output.is_closed
    }

    /// Ends the answer of a command.
    pub fn end_answer(&mut self) {
        if let Answer::List(items) = std::mem::replace(&mut self.answer, Answer::Single)
            && self.format == Format::Json
        {
            self.print(&json!(items).to_string());
        }
        self.output.flush();
    }
}

/// Standard output, gathered into few writes.
struct Output {
    buffer: Vec<u8>,
    /// The reader has gone (`… | head -1`): the rest is for nobody.
    is_closed: bool,
}

impl Output {
    fn flush(&mut self) {
        if !self.is_closed && !self.buffer.is_empty() {
            let mut out = io::stdout().lock();
            self.is_closed = out.write_all(&self.buffer).and_then(|()| out.flush()).is_err();
        }
        self.buffer.clear();
    }
}
