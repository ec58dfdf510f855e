//! `events`, an addition to Supervisor's commands.

use supervisor_proto::v1::StreamEventsRequest;

use crate::{
    client::Failure,
    render::{EventLine, Format, Item as _},
    session::Session,
};

/// Prints events as they happen, until Ctrl-C or the end of the daemon.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    tokio::select! {
        biased;
        _interrupt = tokio::signal::ctrl_c() => {
            session.print("");
            Ok(())
        }
        outcome = pump(session, arg) => outcome,
    }
}

/// Prints the lines.
async fn pump(session: &mut Session, arg: &str) -> Result<(), Failure> {
    let types = arg.split_whitespace().map(str::to_owned).collect();
    let mut rpc = session.rpc().await?;
    let mut events = rpc.stream_events(StreamEventsRequest { types }).await?.into_inner();
    while let Some(event) = events.message().await? {
        let line = match session.format {
            Format::Text => EventLine(&event).text(),
            Format::Json => EventLine(&event).json().to_string(),
        };
        session.print(&line);
        if !session.flush() {
            break;
        }
    }
    Ok(())
}
