//! `status`.

use supervisor_proto::v1::{GetInfoRequest, ListProcessesRequest};

use crate::{
    client::Failure,
    render::{Details, Row, name_width},
    session::Session,
};

/// Shows processes: a row each, or with `--long` all that is known.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    let is_long = arg.split_whitespace().any(|word| word == "--long");
    let mut names: Vec<String> =
        arg.split_whitespace().filter(|word| *word != "--long").map(str::to_owned).collect();
    if names.iter().any(|name| name == "all") {
        names.clear();
    }
    let mut rpc = session.rpc().await?;
    let reply = rpc.list_processes(ListProcessesRequest { names }).await?.into_inner();
    session.begin_list();
    for unmatched in &reply.unmatched {
        session.say(unmatched);
    }
    let width = name_width(&reply.processes);
    for process in &reply.processes {
        if is_long {
            session.say(&Details(process));
        } else {
            session.say(&Row { process, width });
        }
    }
    // Scripts compare the plain form; a person is always told.
    if is_long || Session::hints() {
        for warning in rpc.get_info(GetInfoRequest {}).await?.into_inner().warnings {
            session.add(&format!("supervisord: {warning}"));
        }
    }
    Ok(())
}
