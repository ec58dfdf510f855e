//! What is done with bytes from outside, one function for each kind: the bodies of the fuzz targets and of the property
//! tests. Whatever the bytes are, nothing may panic, and what was understood must hold together.

use prost::Message;
use supervisor_proto::v1;
use supervisord::{
    api::{
        convert,
        xmlrpc::{calls::Call, decode, value::Value},
    },
    config::{
        User,
        daemon::Overridden,
        evaluation::{Surroundings, evaluate},
        ini::Reader,
        parse::{self, Machine},
    },
    journal,
};

/// The body of an XML-RPC request: decoded, and every call in it understood or refused.
pub(crate) fn xmlrpc_request(body: &[u8]) {
    let Ok(call) = decode::method_call(body) else { return };
    for (method, params) in calls_of(&call.method, call.params) {
        if let Some(name) = method.strip_prefix("supervisor.") {
            // A refusal is an answer.
            drop(Call::parse(name, params));
        }
    }
}

/// The call itself, or those of a `multicall`.
fn calls_of(method: &str, params: Vec<Value>) -> Vec<(String, Vec<Value>)> {
    let mut calls = vec![(method.to_owned(), params.clone())];
    let Some(Value::Array(inner)) = params.into_iter().next() else { return calls };
    for value in inner {
        let Value::Struct(members) = value else { continue };
        let mut name = None;
        let mut arguments = Vec::new();
        for (key, value) in members {
            match (key.as_str(), value) {
                ("methodName", Value::Text(text)) => name = Some(text),
                ("params", Value::Array(values)) => arguments = values,
                _ => {}
            }
        }
        calls.extend(name.map(|name| (name, arguments)));
    }
    calls
}

/// The message of a gRPC request, read as that of each method.
pub(crate) fn grpc_request(message: &[u8]) {
    if let Ok(request) = v1::SignalRequest::decode(message)
        && parse::signal(&request.signal).is_err()
    {
        drop(convert::bad_signal(&request.signal));
    }
    if let Ok(request) = v1::ReadLogRequest::decode(message) {
        drop(convert::log_source(request.source));
    }
    if let Ok(request) = v1::FollowLogRequest::decode(message) {
        drop(convert::log_source(request.source));
        let _ = request.position.map(convert::position);
    }
    if let Ok(request) = v1::StreamEventsRequest::decode(message) {
        // A refusal is an answer.
        drop(convert::event_types(&request.types));
    }
    // These are taken as they are.
    drop(v1::GetInfoRequest::decode(message));
    drop(v1::ListProcessesRequest::decode(message));
    drop(v1::OperationRequest::decode(message));
    drop(v1::ListConfigurationRequest::decode(message));
    drop(v1::RereadRequest::decode(message));
    drop(v1::UpdateRequest::decode(message));
    drop(v1::GroupRequest::decode(message));
    drop(v1::ClearLogsRequest::decode(message));
    drop(v1::ClearDaemonLogRequest::decode(message));
    drop(v1::ReopenLogsRequest::decode(message));
    drop(v1::WriteStdinRequest::decode(message));
    drop(v1::SendRemoteEventRequest::decode(message));
    drop(v1::ShutdownRequest::decode(message));
    drop(v1::UpgradeRequest::decode(message));
    drop(v1::ReloadRequest::decode(message));
}

/// The text of a configuration file, without what it includes.
pub(crate) fn config_text(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut reader = Reader::default();
    let is_whole = reader.read("fuzz.conf", text).is_ok();
    reader.expand_here("/here");
    let Ok(sections) = reader.sections() else { return };
    let environment = [("HOME".to_owned(), "/root".to_owned())];
    let around = Surroundings {
        file: "fuzz.conf",
        here: "/here",
        cwd: "/here",
        host_node_name: "host",
        temporary_directory: "/tmp",
        environment: &environment,
        machine: &NoMachine,
    };
    let evaluated = evaluate(&sections, &around, Overridden { user: false });
    if is_whole && let Ok((config, _)) = evaluated {
        assert!(config.groups.iter().all(|group| !group.name.is_empty()), "a group without a name");
    }
}

/// A machine that has `root`, `/tmp` and nothing else.
struct NoMachine;

impl Machine for NoMachine {
    fn user_by_name(&self, name: &str) -> Option<User> {
        (name == "root").then(|| User { name: "root".to_owned(), uid: 0, gid: 0 })
    }

    fn user_by_id(&self, uid: u32) -> Option<User> {
        (uid == 0).then(|| User { name: "root".to_owned(), uid: 0, gid: 0 })
    }

    fn group_by_name(&self, name: &str) -> Option<u32> {
        (name == "root").then_some(0)
    }

    fn has_group(&self, gid: u32) -> bool {
        gid == 0
    }

    fn home(&self, _: Option<&str>) -> Option<String> {
        Some("/root".to_owned())
    }

    fn is_directory(&self, path: &str) -> bool {
        path == "/tmp"
    }

    fn own_uid(&self) -> u32 {
        0
    }
}

/// A journal: what was understood says the same when it is written again.
pub(crate) fn journal(text: &[u8]) {
    let Ok(snapshot) = journal::replay(text) else { return };
    let Some(header) = &snapshot.header else { return };
    let mut again = Vec::new();
    journal::encode(&journal::Line::Header(std::borrow::Cow::Borrowed(header)), &mut again);
    for record in snapshot.records.values() {
        journal::encode(&journal::Line::Process(std::borrow::Cow::Borrowed(record)), &mut again);
    }
    let replayed = journal::replay(&again).expect("we have just written it");
    assert_eq!((replayed.header, replayed.records), (snapshot.header, snapshot.records));
}
