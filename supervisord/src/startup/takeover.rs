//! A start that takes the place of a running daemon: what is taken from it before its end, and what only after.
//!
//! Whatever can fail happens while the old daemon stands still and could go on: user, limits, log, sockets, runtime. Then
//! [`commit`] ends it. Pidfile and journal are its own until that moment.

use std::collections::BTreeSet;

use super::{Start, StartError, clean_up_logs, grant_access, open_journal, open_server, warn_of_strangers};
use crate::{
    api::Endpoint,
    config::{DaemonConfig, ServerConfig},
    crit,
    daemonize::Pidfile,
    os::{listen::ListenError, spawn::OpenFiles},
    startup::SocketFiles,
    takeover::{Estate, TakeOver},
};

/// The old daemon's listening sockets where it has such, others where not.
///
/// # Errors
/// The first socket that cannot be opened; the files of the earlier ones of our own are removed.
pub(super) fn take_servers(
    servers: &[ServerConfig],
    old: &mut TakeOver,
) -> Result<(Vec<Endpoint>, SocketFiles), ListenError> {
    let mut files = SocketFiles::default();
    let mut endpoints = Vec::with_capacity(servers.len());
    for server in servers {
        let listener = match old.listener(&server.listen) {
            Some(listener) => {
                grant_access(server);
                listener
            }
            None => open_server(server, &mut files)?,
        };
        if server.credentials.is_none() {
            crit!("Server '{}' running without any HTTP authentication checking", server.section);
            warn_of_strangers(server, &listener);
        }
        endpoints.push(Endpoint::new(server, listener));
    }
    Ok((endpoints, files))
}

/// The limit of open files that programs get: what the old daemon's had, and what the configuration asks for.
pub(super) fn open_files(old: &TakeOver, config: &DaemonConfig) -> Option<OpenFiles> {
    let OpenFiles { soft, hard } = old.open_files()?;
    Some(OpenFiles { soft: soft.max(config.minfds.min(hard)), hard })
}

/// Ends the old daemon, if there is one, and takes its pidfile and journal: from here on its programs are ours, and
/// nothing fails as a whole.
///
/// # Errors
/// When the old daemon cannot be ended; then it goes on.
pub fn commit(start: &mut Start) -> Result<Option<Estate>, StartError> {
    let Some(old) = start.old.take() else { return Ok(None) };
    let mut estate = old.finish()?;
    let config = &start.loaded.config.daemon;
    start.socket_files.0.append(&mut estate.socket_files);
    start.pidfile = Pidfile::acquire(&config.pidfile).inspect_err(|error| crit!("{error}")).ok();
    start.journal = open_journal(&start.loaded);
    if !config.nocleanup {
        let told = estate.processes.iter().map(|(one, _)| &one.old);
        let told = told.flat_map(|old| [&old.stdout_log, &old.stderr_log]).flatten();
        let written = start.journal.found.records.values().flat_map(|record| record.logs.iter().flatten());
        clean_up_logs(config, &told.chain(written).cloned().collect::<BTreeSet<_>>());
    }
    tracing::info!("supervisord started with pid {}", std::process::id());
    Ok(Some(estate))
}
