//! Listening sockets when everything starts anew: those that are wanted again stay open, the others are closed before new
//! ones are made.

use tracing::error;

use super::Driver;
use crate::{
    api::{Endpoint, Listener, Servers},
    config::{Config, Listen, ServerConfig},
    startup,
};

impl Driver {
    /// Listens as `config` says. Whoever connects meanwhile at a place that stays waits in its queue, and is let in by what
    /// the new configuration asks for.
    pub(super) fn reopen_servers(&mut self, config: &Config) {
        let names = config.rpc_interfaces.keys();
        // What is served, and not what was read last: `reread` reads too, and some place may have been taken.
        if self.servers.as_ref().is_some_and(|servers| servers.serves(&config.servers))
            && config.servers.iter().all(|server| self.is_found(&server.listen))
        {
            for server in &config.servers {
                startup::announce(server, names.clone(), None);
            }
            return;
        }
        let old = self.servers.take();
        let is_wanted = |listen: &Listen| {
            self.is_found(listen)
                && config.servers.iter().any(|server| startup::is_same_place(listen, &server.listen))
        };
        let mut kept = Vec::new();
        if let Some(mut old) = old {
            kept = old.retire(is_wanted);
            self.jobs.spawn(old.shutdown());
        }
        self.socket_files.keep(|path| kept.iter().any(|(listen, _)| is_at(listen, path)));
        let mut endpoints = Vec::with_capacity(config.servers.len());
        for server in &config.servers {
            match self.reopen(server, &mut kept) {
                Ok(listener) => {
                    startup::announce(server, names.clone(), Some(&listener));
                    endpoints.push(Endpoint::new(server, listener));
                }
                // The other sockets are all the more needed.
                Err(error) => error!("no client can connect to [{}]: {error}", server.section),
            }
        }
        match Servers::start(endpoints, &self.routers) {
            Ok(servers) => self.servers = Some(servers),
            Err(error) => error!("no client can connect any more: {error}"),
        }
    }

    /// Whether clients find the socket; somebody may have removed its file.
    fn is_found(&self, listen: &Listen) -> bool {
        match listen {
            Listen::Unix { path, .. } => {
                self.socket_files.find(path).is_some_and(crate::os::listen::SocketFile::is_there)
            }
            Listen::Inet { .. } => true,
        }
    }

    /// The socket of a section: the one that is there, else a new one.
    fn reopen(
        &mut self,
        server: &ServerConfig,
        kept: &mut Vec<(Listen, Listener)>,
    ) -> Result<Listener, crate::os::listen::ListenError> {
        match kept.iter().position(|(listen, _)| startup::is_same_place(listen, &server.listen)) {
            Some(at) => {
                startup::grant_access(server);
                Ok(kept.swap_remove(at).1)
            }
            None => startup::open_server(server, &mut self.socket_files),
        }
    }
}

fn is_at(listen: &Listen, file: &std::path::Path) -> bool {
    matches!(listen, Listen::Unix { path, .. } if path == file)
}
