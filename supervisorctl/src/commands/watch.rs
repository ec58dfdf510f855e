//! `watch`, an addition to Supervisor's commands.

use std::collections::HashMap;

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
    let request = ListProcessesRequest { names };
    let mut changes = session.rpc().await?.watch_processes(request.clone()).await?.into_inner();
    let width = name_width(&[]);
    // What was shown last of each: the next image of the daemon tells everything anew.
    let mut shown = HashMap::new();
    loop {
        let process = match changes.message().await.map_err(Failure::from) {
            Ok(Some(process)) => process,
            Ok(None) => break,
            Err(failure) if failure.is_upgrade() => {
                session.disconnect();
                changes = session.rpc().await?.watch_processes(request.clone()).await?.into_inner();
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let news = (process.state, process.pid, process.start, process.stop);
        if shown.insert((process.group.clone(), process.name.clone()), news) == Some(news) {
            continue;
        }
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
