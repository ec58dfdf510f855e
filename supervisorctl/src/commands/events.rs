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
    let request = StreamEventsRequest { types: arg.split_whitespace().map(str::to_owned).collect() };
    let mut events = session.rpc().await?.stream_events(request.clone()).await?.into_inner();
    loop {
        let event = match events.message().await.map_err(Failure::from) {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(failure) if failure.is_upgrade() => {
                session.disconnect();
                events = session.rpc().await?.stream_events(request.clone()).await?.into_inner();
                continue;
            }
            Err(failure) => return Err(failure),
        };
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
