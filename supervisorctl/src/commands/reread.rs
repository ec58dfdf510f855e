//! `reread`.

use serde_json::json;
use supervisor_proto::v1::RereadRequest;

use super::{Verb, refuse_arguments};
use crate::{
    client::Failure,
    render::{Change, Format, Plain},
    session::Session,
};

/// Reads the configuration again and shows how it differs from the active groups.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if refuse_arguments(session, Verb::Reread, arg) {
        return Ok(());
    }
    let reply = session.rpc().await?.reread(RereadRequest {}).await?.into_inner();
    session.begin_list();
    let named = |change| move |group| Change { group, change };
    let mut changes: Vec<Change<'_>> = Vec::new();
    changes.extend(reply.added.iter().map(String::as_str).map(named("available")));
    changes.extend(reply.changed.iter().map(String::as_str).map(named("changed")));
    changes.extend(reply.removed.iter().map(String::as_str).map(named("disappeared")));
    changes.sort_by_key(|change| change.group);
    for change in &changes {
        session.say(change);
    }
    if changes.is_empty() && session.format == Format::Text {
        session.say(&Plain::new("No config updates to processes", json!(null)));
    }
    for warning in &reply.warnings {
        session.hint(&format!("warning: {warning}"));
    }
    Ok(())
}
