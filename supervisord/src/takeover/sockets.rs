//! The listening sockets of another daemon: found by their addresses, and copied, so that no client is refused.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};

use crate::config::Listen;
use crate::os::foreign::{self, Foreign, Object};

/// The listening sockets of a daemon, copied.
#[derive(Debug)]
pub struct Sockets(Vec<(Address, OwnedFd)>);

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Inet(SocketAddr),
}

impl Sockets {
    /// Copies all listening sockets of a process.
    ///
    /// # Errors
    /// When the process may not be inspected.
    pub fn of(old: &Foreign) -> io::Result<Self> {
        let mut sockets = Vec::new();
        for descriptor in foreign::descriptors_of(old.pid)? {
            if !matches!(descriptor.object, Object::Socket(_)) {
                continue;
            }
            let copy = match old.take(&descriptor) {
                Ok(copy) => copy,
                // A connection that was closed since it was listed.
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => continue,
                Err(error) => return Err(error),
            };
            if socket_acceptconn(&copy).unwrap_or(false)
                && let Some(address) = address_of(&copy)
            {
                sockets.push((address, copy));
            }
        }
        Ok(Self(sockets))
    }

    /// Whether one of them listens at this URL.
    pub fn listens_at(&self, url: &str) -> bool {
        self.0.iter().any(|(address, _)| match (url.strip_prefix("unix://"), address) {
            (Some(path), Address::Unix(bound)) => is_bound_for(bound, Path::new(path)),
            (None, Address::Inet(bound)) => {
                let authority = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
                let wanted = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(80);
                bound.port() == wanted
            }
            (Some(_), Address::Inet(_)) | (None, Address::Unix(_)) => false,
        })
    }

    /// Takes the one for this address out.
    pub fn take(&mut self, listen: &Listen) -> Option<OwnedFd> {
        let is_it = |(address, _): &(Address, OwnedFd)| match (listen, address) {
            (Listen::Unix { path, .. }, Address::Unix(bound)) => is_bound_for(bound, path),
            (Listen::Inet { host, port }, Address::Inet(bound)) => {
                *port == bound.port() && is_host(host, bound.ip())
            }
            (Listen::Unix { .. }, Address::Inet(_)) | (Listen::Inet { .. }, Address::Unix(_)) => false,
        };
        let at = self.0.iter().position(is_it)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Whether a socket bound as `bound` is the one that clients find at `path`: it is bound under a name with the pid of its
/// maker behind, which is then linked to `path`.
fn is_bound_for(bound: &Path, path: &Path) -> bool {
    let directory = |path: &Path| path.parent().and_then(|parent| fs::canonicalize(parent).ok());
    let (Some(name), Some(wanted)) = (bound.file_name(), path.file_name()) else { return false };
    let (name, wanted) = (name.to_string_lossy(), wanted.to_string_lossy());
    let is_named = name.strip_prefix(wanted.as_ref()).is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|pid| pid.parse::<u32>().is_ok())
    });
    is_named && directory(bound) == directory(path)
}

/// Whether `bound` is an address that a configuration means by `host`.
fn is_host(host: &str, bound: IpAddr) -> bool {
    match host {
        "" | "0.0.0.0" => bound.is_unspecified(),
        host => {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            (bare, 0).to_socket_addrs().is_ok_and(|mut all| all.any(|address| address.ip() == bound))
        }
    }
}

/// Where a socket listens.
fn address_of(socket: &OwnedFd) -> Option<Address> {
    let copy = socket.try_clone().ok()?;
    match socket_domain(socket).ok()? {
        AddressFamily::UNIX => {
            let address = UnixListener::from(copy).local_addr().ok()?;
            address.as_pathname().map(|path| Address::Unix(path.to_owned()))
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            TcpListener::from(copy).local_addr().ok().map(Address::Inet)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn unix_socket_is_known_by_its_name_and_by_that_of_its_making() {
        let dir = tempfile::tempdir().unwrap();
        let (path, bound) = (dir.path().join("s.sock"), dir.path().join("s.sock.4711"));
        assert!(is_bound_for(&bound, &path));
        assert!(is_bound_for(&path, &path));
        for other in ["s.sock.x", "s.sock2", "t.sock", "s.sock."] {
            assert!(!is_bound_for(&dir.path().join(other), &path), "{other}");
        }
        assert!(!is_bound_for(Path::new("/elsewhere/s.sock"), &path));
    }

    #[test]
    fn listening_sockets_of_a_process_are_found_by_url_and_by_setting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let _unix = UnixListener::bind(&path).unwrap();
        let inet = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = inet.local_addr().unwrap().port();
        let mut sockets = Sockets::of(&Foreign::open(Pid::this()).unwrap()).unwrap();
        assert!(sockets.listens_at(&format!("unix://{}", path.display())));
        assert!(sockets.listens_at(&format!("http://127.0.0.1:{port}")));
        assert!(!sockets.listens_at("unix:///nowhere"));
        assert!(sockets.take(&Listen::Inet { host: "10.1.2.3".into(), port }).is_none());
        assert!(sockets.take(&Listen::Inet { host: "127.0.0.1".into(), port }).is_some());
        let listen = Listen::Unix { path, mode: 0o700, owner: None };
        assert!(sockets.take(&listen).is_some());
        assert!(sockets.take(&listen).is_none());
    }
}
