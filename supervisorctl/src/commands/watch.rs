//! `watch`, an addition to Supervisor's commands.

use supervisor_proto::v1::ListProcessesRequest;

use crate::{
    client::Failure,
    render::{Format, Item as _, Row, name_width},
    session::Session,
};

/// Shows processes as they are, then a row whenever one changes its state, until Ctrl-C or the end of the daemon.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    let names: Vec<String> =
        arg.split_whitespace().filter(|name| *name != "all").map(str::to_owned).collect();
    let mut rpc = session.rpc().await?;
    let mut changes = rpc.watch_processes(ListProcessesRequest { names }).await?.into_inner();
    let width = name_width(&[]);
    // One for all rounds: a Ctrl-C between two of them must not be missed.
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let change = tokio::select! {
            change = changes.message() => change?,
            _interrupt = &mut interrupt => {
                session.print("");
                return Ok(());
            }
        };
        let Some(process) = change else { return Ok(()) };
        let row = Row { process: &process, width };
        let line = match session.format {
            Format::Text => row.text(),
            Format::Json => row.json().to_string(),
        };
        session.print(&line);
        if !session.flush() {
            return Ok(());
        }
    }
}
