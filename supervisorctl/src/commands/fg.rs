//! `fg`.

use supervisor_proto::v1::{
    Channel, ListProcessesRequest, LogSource, Process, ProcessState, Reason, WriteStdinRequest,
};
use tonic::Streaming;

use super::{Verb, tail::Following};
use crate::{
    client::{Failure, Rpc},
    help,
    render::{Plain, exit},
    session::Session,
};

/// Connects the terminal with a process: shows its output, sends it what is typed. Ends when the process does, at
/// the end of the input and at Ctrl-C.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    let names: Vec<&str> = arg.split_whitespace().collect();
    let name = match names.as_slice() {
        [] => {
            let text = format!("ERROR: no process name supplied\n{}", help::topic(Verb::Fg));
            session.say(&Plain::error(text, "USAGE", "no process name supplied", Some(exit::GENERIC)));
            return Ok(());
        }
        [name] => *name,
        _several => {
            refuse(session, "USAGE", "too many process names supplied");
            return Ok(());
        }
    };
    let mut rpc = session.rpc().await?;
    let reply = rpc.list_processes(ListProcessesRequest { names: vec![name.to_owned()] }).await?.into_inner();
    match reply.processes.as_slice() {
        [process] if process.state() == ProcessState::Running => {
            let outcome = tokio::select! {
                // Ctrl-C first, so that it counts from the moment that the user is told about it.
                biased;
                _interrupt = tokio::signal::ctrl_c() => {
                    session.print("");
                    Ok(())
                }
                outcome = connect(session, &mut rpc, name) => outcome,
            };
            session.print("Exiting foreground");
            outcome
        }
        [_down] => {
            refuse(session, "NOT_RUNNING", "process not running");
            Ok(())
        }
        _none_or_several => {
            refuse(session, "BAD_NAME", "bad process name supplied");
            Ok(())
        }
    }
}

/// Says why there is nothing to connect with.
fn refuse(session: &mut Session, reason: &str, message: &str) {
    session.say(&Plain::error(format!("ERROR: {message}"), reason, message, Some(exit::GENERIC)));
}

/// What happens while the terminal is connected.
enum Event {
    /// The process wrote this.
    Output(Vec<u8>),
    /// The process changed its state.
    State(ProcessState),
    /// The user typed this line.
    Typed(String),
    /// The user has enough.
    Left,
}

/// The streams that a process sends while it is in the foreground.
struct Foreground {
    stdout: Option<Following>,
    stderr: Option<Following>,
    states: Streaming<Process>,
}

/// Carries output, input and the news of the process's end until one of them ends it.
async fn connect(session: &mut Session, rpc: &mut Rpc, name: &str) -> Result<(), Failure> {
    session.print("==> Press Ctrl-C to exit <==");
    let mut foreground = Foreground {
        stdout: follow(rpc, name, Channel::Stdout).await?,
        stderr: follow(rpc, name, Channel::Stderr).await?,
        states: states(rpc, name).await?,
    };
    loop {
        session.flush();
        let event = match foreground.next(session).await {
            Err(failure) if failure.is_upgrade() => {
                session.disconnect();
                *rpc = session.rpc().await?;
                foreground.go_on(rpc, name).await?;
                continue;
            }
            event => event?,
        };
        match event {
            Event::Output(data) => session.write(&data),
            Event::State(ProcessState::Running) => {}
            Event::State(_ended) => {
                foreground.drain(session).await;
                session.print("Process got killed");
                return Ok(());
            }
            Event::Typed(line) => {
                let data = format!("{line}\n").into_bytes();
                let request = WriteStdinRequest { process: name.to_owned(), data };
                match rpc.write_stdin(request).await.map_err(Failure::from) {
                    Ok(_) => {}
                    Err(Failure::Refused { reason: Reason::NotRunning, .. }) => {
                        session.print("Process got killed");
                        return Ok(());
                    }
                    Err(Failure::Refused { message, .. }) => {
                        session.print(&format!("ERROR: {message}"));
                        return Ok(());
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Event::Left => return Ok(()),
        }
    }
}

/// The news of the process.
async fn states(rpc: &mut Rpc, name: &str) -> Result<Streaming<Process>, Failure> {
    let request = ListProcessesRequest { names: vec![name.to_owned()] };
    Ok(rpc.watch_processes(request).await?.into_inner())
}

/// The output of one stream; `None` when it is not kept in a file.
async fn follow(rpc: &mut Rpc, name: &str, channel: Channel) -> Result<Option<Following>, Failure> {
    let source = LogSource { process: name.to_owned(), channel: channel.into() };
    match Following::begin(rpc, source).await {
        Ok(following) => Ok(Some(following)),
        Err(Failure::Refused { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl Foreground {
    /// Goes on with the next image of the daemon.
    async fn go_on(&mut self, rpc: &mut Rpc, name: &str) -> Result<(), Failure> {
        for following in self.stdout.iter_mut().chain(&mut self.stderr) {
            following.go_on(rpc).await?;
        }
        self.states = states(rpc, name).await?;
        Ok(())
    }

    /// The next event. Each branch is cancel-safe: a message or line that was not delivered stays.
    async fn next(&mut self, session: &mut Session) -> Result<Event, Failure> {
        loop {
            tokio::select! {
                chunk = next_chunk(&mut self.stdout) => match chunk? {
                    Some(chunk) => return Ok(Event::Output(chunk)),
                    None => self.stdout = None,
                },
                chunk = next_chunk(&mut self.stderr) => match chunk? {
                    Some(chunk) => return Ok(Event::Output(chunk)),
                    None => self.stderr = None,
                },
                process = self.states.message() => {
                    return Ok(process?.map_or(Event::Left, |process| Event::State(process.state())));
                }
                line = session.input.line() => return Ok(line.map_or(Event::Left, Event::Typed)),
            }
        }
    }

    /// Shows what the process wrote last and has already reached us.
    async fn drain(&mut self, session: &mut Session) {
        const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(50);
        loop {
            let chunk = tokio::select! {
                chunk = next_chunk(&mut self.stdout) => chunk,
                chunk = next_chunk(&mut self.stderr) => chunk,
                () = tokio::time::sleep(LAST_WORDS) => return,
            };
            match chunk {
                Ok(Some(data)) => session.write(&data),
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// The next chunk of a stream; waits for ever when there is no stream.
async fn next_chunk(stream: &mut Option<Following>) -> Result<Option<Vec<u8>>, Failure> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}
