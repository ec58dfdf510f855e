//! Tells the service manager (systemd, `Type=notify`) how the daemon fares, if it asked for it by `NOTIFY_SOCKET`.
//!
//! The variable is taken out of the environment at start: a program must not speak for the daemon.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use sd_notify::NotifyState;

use crate::os::environment;

/// Where the service manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// The service manager, if there is one. A message that it does not take is logged at DEBG and lost.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    address: Option<SocketAddr>,
    /// The address as the variable said it.
    name: Option<OsString>,
}

impl ServiceManager {
    /// Takes `NOTIFY_SOCKET` out of the environment. Call it before any thread exists.
    ///
    /// # Errors
    /// When threads exist, or the variable names no possible socket.
    pub fn take_from_environment() -> io::Result<Self> {
        let name = environment::take(VARIABLE)?;
        let address = name.as_deref().map(address).transpose()?;
        Ok(Self { address, name })
    }

    /// The variable for another image of the daemon, if there is a service manager.
    pub fn variable(&self) -> Option<(&'static str, OsString)> {
        self.name.clone().map(|name| (VARIABLE, name))
    }

    /// The daemon serves; its main process is this one.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
    }

    /// The daemon ends.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// The daemon reads its configuration again; [`Self::ready`] must follow.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!("cannot tell the service manager of a reload: {error}"),
        }
    }

    /// Sends one message of several assignments.
    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(address) = &self.address else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), address)
        });
        if let Err(error) = sent {
            tracing::debug!("cannot tell the service manager {message:?}: {error}");
        }
    }
}

/// A socket by its path, or in the abstract namespace when it starts with `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_message_has_the_words_of_the_protocol() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager { address: Some(address(path.as_os_str()).unwrap()), name: None };
        manager.ready();
        assert_eq!(received(&socket), format!("READY=1\nMAINPID={}\n", std::process::id()));
        manager.reloading();
        assert!(received(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        manager.stopping();
        assert_eq!(received(&socket), "STOPPING=1\n");
    }

    #[test]
    fn abstract_sockets_are_understood() {
        let name = format!("supervisord-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let address = address(OsStr::new(&format!("@{name}"))).unwrap();
        ServiceManager { address: Some(address), name: None }.stopping();
        assert_eq!(received(&socket), "STOPPING=1\n");
    }

    #[test]
    fn missing_manager_is_no_trouble() {
        ServiceManager::default().ready();
    }
}
