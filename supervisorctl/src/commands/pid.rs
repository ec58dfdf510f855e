//! `pid`.

use serde_json::json;
use supervisor_proto::v1::{GetInfoRequest, ListProcessesRequest};

use crate::{
    client::Failure,
    render::{Pid, Plain, exit},
    session::Session,
};

/// Shows the pid of the daemon, or those of processes.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    let mut rpc = session.rpc().await?;
    let names: Vec<&str> = arg.split_whitespace().collect();
    if names.is_empty() {
        let info = rpc.get_info(GetInfoRequest {}).await?.into_inner();
        session.say(&Plain::new(info.pid.to_string(), json!({"pid": info.pid})));
        return Ok(());
    }
    session.begin_list();
    if names.contains(&"all") {
        let reply = rpc.list_processes(ListProcessesRequest::default()).await?.into_inner();
        for process in &reply.processes {
            session.say(&Pid { process, is_named: false });
        }
        return Ok(());
    }
    for name in names {
        let reply =
            rpc.list_processes(ListProcessesRequest { names: vec![name.to_owned()] }).await?.into_inner();
        for process in &reply.processes {
            session.say(&Pid { process, is_named: true });
        }
        if !reply.unmatched.is_empty() {
            let text = format!("No such process {name}");
            session.say(&Plain::error(text.clone(), "BAD_NAME", &text, Some(exit::GENERIC)));
        }
    }
    Ok(())
}
