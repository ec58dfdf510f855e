//! `watch`, an addition to Supervisor's commands.

use supervisor_proto::v1::ListProcessesRequest;

use crate::{
    client::Failure,
    render::{Format, Item as _, Row, name_width},
    session::Session,
};

/// Shows processes as they are, then a row whenever one changes its state, until Ctrl-C or the end of the daemon.
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

/// Prints the rows.
async fn pump(session: &mut Session, arg: &str) -> Result<(), Failure> {
    let names: Vec<String> =
        arg.split_whitespace().filter(|name| *name != "all").map(str::to_owned).collect();
    let mut rpc = session.rpc().await?;
    let mut changes = rpc.watch_processes(ListProcessesRequest { names }).await?.into_inner();
    let width = name_width(&[]);
    while let Some(process) = changes.message().await? {
        let row = Row { process: &process, width };
        let line = match session.format {
            Format::Text => row.text(),
            Format::Json => row.json().to_string(),
        };
        session.print(&line);
        if !session.flush() {
            break;
        }
    }
    Ok(())
}
