//! Listening sockets: made so that nobody can reach one before its mode and owner are set, and removed only if ours.

use std::fs::{self, Permissions};
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::config::Owner;

/// Connections that may wait to be accepted; Supervisor's value.
const BACKLOG: i32 = 1024;
/// Times that a stale socket is removed before we take it for contention.
const ATTEMPTS: u32 = 5;

/// Mode and owner of a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits. Key `chmod`.
    pub mode: u32,
    /// User and group; ours if none. Key `chown`.
    pub owner: Option<Owner>,
}

/// Why there is no listening socket. The first two texts are Supervisor's.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error(
        "Another program is already listening on a port that one of our HTTP servers is configured to use.  Shut this \
         program down first before starting supervisord."
    )]
    InUse,
    /// The kernel refuses.
    #[error("Cannot open an HTTP server: socket.error reported errno.{0:?} ({number})", number = *.0 as i32)]
    Socket(Errno),
    /// Something that is no socket has this name; we do not remove it.
    #[error("Cannot open an HTTP server: {} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The kernel's limit on names of sockets.
    #[error(
        "Cannot open an HTTP server: {} is too long for the name of a socket, expected at most {max} bytes",
        path.display()
    )]
    PathTooLong {
        /// The name asked for.
        path: PathBuf,
        /// What it may have at most.
        max: usize,
    },
    /// The host has no address.
    #[error("Cannot open an HTTP server: cannot find an address of host {host:?}: {error}")]
    Host {
        /// The host asked for.
        host: String,
        /// The resolver's answer.
        error: String,
    },
}

impl ListenError {
    /// What is wrong, in words that fit a socket of any kind.
    pub fn cause(&self) -> String {
        let errno = |errno: Errno| format!("{errno:?} ({})", errno.desc());
        match self {
            Self::InUse => errno(Errno::EADDRINUSE),
            Self::Socket(number) => errno(*number),
            Self::NotASocket(path) => format!("{} exists and is not a socket", path.display()),
            Self::PathTooLong { max, .. } => {
                format!("the path is too long for a socket, expected at most {max} bytes")
            }
            Self::Host { host, error } => format!("cannot find an address of host {host:?}: {error}"),
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRINUSE) => Self::InUse,
            Some(errno) => Self::Socket(errno),
            None => Self::Socket(Errno::EIO),
        }
    }
}

/// The owner asked for was refused, and the socket is still ours. The text is Supervisor's, which ends there; the
/// caller may warn and go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Not permitted to chown {} to uid/gid ({}, {}); adjust \"sockchown\" value in config file or on command \
     line to values that the current user ({user}) can successfully chown",
    path.display(), owner.uid, owner.gid
)]
pub struct ChownRefused {
    /// The socket.
    pub path: PathBuf,
    /// The owner asked for.
    pub owner: Owner,
    /// Who we are.
    pub user: String,
}

/// A listening unix socket and the file that names it.
#[derive(Debug)]
pub struct UnixSocket {
    /// Non-blocking.
    pub listener: UnixListener,
    /// The file.
    pub file: SocketFile,
    /// Whether a dead socket had that name. Supervisor says `Unlinking stale socket PATH` on stderr.
    pub was_stale: bool,
    /// Set when the owner was refused.
    pub chown_refused: Option<ChownRefused>,
}

/// The name of a socket of ours, so that we never remove somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its file system.
    pub dev: u64,
    /// Its inode there.
    pub ino: u64,
}

impl SocketFile {
    /// The file that is at `path` now.
    ///
    /// # Errors
    /// When there is none that could be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), dev: found.dev(), ino: found.ino() })
    }

    /// Whether the file is still there and still the one that we made.
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (self.dev, self.ino))
    }

    /// Removes the file if it is still the one that we made; whether it was.
    ///
    /// # Errors
    /// When it is ours and cannot be removed.
    pub fn remove(&self) -> io::Result<bool> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.dev, self.ino) => {
                fs::remove_file(&self.path).map(|()| true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Listens on a unix socket. It gets its final name when it is complete: until then it stands beside as `PATH.<pid>`,
/// is open to nobody, and is not listening.
///
/// # Errors
/// See [`ListenError`].
pub fn bind_unix(path: &Path, access: Access) -> Result<UnixSocket, ListenError> {
    let private = Private::bind(path)?;
    let chown_refused = set_access(&private.name.path, path, access)?;
    rustix::net::listen(&private.socket, BACKLOG).map_err(|error| ListenError::of(&error.into()))?;
    let was_stale = private.publish(path)?;
    let file = SocketFile::of(path).map_err(|error| ListenError::of(&error))?;
    let listener = UnixListener::from(private.into_socket());
    Ok(UnixSocket { listener, file, was_stale, chown_refused })
}

/// Makes a unix socket for a child to accept connections on. A dead socket of that name is removed; one on which
/// somebody still listens keeps its name until the new one takes it, so that there is always one; anything else stays. A
/// refused owner is an error: the client could not connect.
///
/// # Errors
/// See [`ListenError`].
pub fn lend_unix(path: &Path, access: Access, backlog: Option<u32>) -> Result<OwnedFd, ListenError> {
    let refused = |error: io::Error| ListenError::of(&error);
    let is_beside = clear_name(path)?;
    let socket = if is_beside { Private::bind(path)? } else { Private::bind_as(path.to_owned(), path, 0)? };
    if set_access(&socket.name.path, path, access)?.is_some() {
        return Err(ListenError::Socket(Errno::EPERM));
    }
    // Children accept as they are used to: by waiting.
    rustix::io::ioctl_fionbio(&socket.socket, false).map_err(|error| refused(error.into()))?;
    rustix::net::listen(&socket.socket, queue(backlog)).map_err(|error| refused(error.into()))?;
    if is_beside {
        fs::rename(&socket.name.path, path).map_err(refused)?;
    }
    Ok(socket.keep_name())
}

/// Makes room for a new socket at `path`; whether it has to be made beside a living one. It is not where it can be
/// avoided: the name under which a socket was made is what `getsockname` and `ss` show for ever.
fn clear_name(path: &Path) -> Result<bool, ListenError> {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => (),
        Ok(_) => return Err(ListenError::NotASocket(path.to_owned())),
        Err(error) if is_gone(&error) => return Ok(false),
        Err(error) => return Err(ListenError::of(&error)),
    }
    // Who may not connect learns nothing, but may replace it: so does Supervisor.
    if is_answered(path).unwrap_or(false) && temporary_name(path).as_os_str().len() <= SUN_PATH_MAX {
        return Ok(true);
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(false),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(ListenError::of(&error)),
    }
}

/// Makes a TCP socket for a child to accept connections on; the address is chosen as by [`bind_tcp`].
///
/// # Errors
/// See [`ListenError`].
pub fn lend_tcp(host: &str, port: u16, backlog: Option<u32>) -> Result<OwnedFd, ListenError> {
    let listener = listen_tcp(host, port)?;
    rustix::net::listen(&listener, queue(backlog)).map_err(|error| ListenError::of(&error.into()))?;
    Ok(listener.into())
}

/// Gives a listening socket another queue and, if it has a name, another mode and owner.
///
/// # Errors
/// See [`ListenError`].
pub fn reconfigure(
    socket: BorrowedFd<'_>,
    path: Option<&Path>,
    access: Access,
    backlog: Option<u32>,
) -> Result<(), ListenError> {
    let refused = |error: io::Error| ListenError::of(&error);
    rustix::net::listen(socket, queue(backlog)).map_err(|error| refused(error.into()))?;
    let Some(path) = path else { return Ok(()) };
    if !fs::symlink_metadata(path).map_err(refused)?.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    match set_access(path, path, access)? {
        Some(_) => Err(ListenError::Socket(Errno::EPERM)),
        None => Ok(()),
    }
}

/// The kernel takes its own limit where that is lower.
fn queue(backlog: Option<u32>) -> i32 {
    backlog.map_or(libc::SOMAXCONN, |backlog| i32::try_from(backlog).unwrap_or(i32::MAX))
}

/// A bound socket under its temporary name, which is removed when this is dropped.
struct Private {
    socket: OwnedFd,
    name: TemporaryName,
}

struct TemporaryName {
    path: PathBuf,
    is_kept: bool,
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where a socket is until it may have its name.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

impl Private {
    fn bind(path: &Path) -> Result<Self, ListenError> {
        let name = temporary_name(path);
        let suffix = name.as_os_str().len() - path.as_os_str().len();
        // Left by a killed daemon with this pid.
        let _ = fs::remove_file(&name);
        Self::bind_as(name, path, suffix)
    }

    /// `suffix`: so much longer than `path`, which is asked for, is `name`.
    fn bind_as(name: PathBuf, path: &Path, suffix: usize) -> Result<Self, ListenError> {
        let max = SUN_PATH_MAX.saturating_sub(suffix);
        let too_long = || ListenError::PathTooLong { path: path.to_owned(), max };
        // One byte more would have no room for the final zero that clients write.
        let fits = name.as_os_str().len() <= SUN_PATH_MAX;
        let address = SocketAddrUnix::new(&name).ok().filter(|_| fits).ok_or_else(too_long)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let made = || -> rustix::io::Result<OwnedFd> {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // The file takes its mode from the socket. (A umask would do too, but belongs to all threads.)
            rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
            rustix::net::bind(&socket, &address)?;
            Ok(socket)
        };
        let socket = made().map_err(|error| ListenError::of(&error.into()))?;
        Ok(Self { socket, name: TemporaryName { path: name, is_kept: false } })
    }

    /// Gives the socket its final name, in place of a dead one; whether there was one.
    fn publish(&self, path: &Path) -> Result<bool, ListenError> {
        let mut was_stale = false;
        for _ in 0..ATTEMPTS {
            // Unlike a rename, a link never replaces what another daemon has put there a moment ago.
            match fs::hard_link(&self.name.path, path) {
                Ok(()) => return Ok(was_stale),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    was_stale |= remove_stale(path)?;
                }
                // A file system without hard links.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)
                    ) =>
                {
                    was_stale |= remove_stale(path)?;
                    fs::rename(&self.name.path, path).map_err(|error| ListenError::of(&error))?;
                    return Ok(was_stale);
                }
                Err(error) => return Err(ListenError::of(&error)),
            }
        }
        Err(ListenError::InUse)
    }

    fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// The socket; what it is called now is its name.
    fn keep_name(mut self) -> OwnedFd {
        self.name.is_kept = true;
        self.socket
    }
}

/// Sets owner, then mode (a change of owner may clear bits of the mode) of the socket file `file`, which is or will be
/// known as `path`. Returns a refusal to set the owner.
///
/// # Errors
/// When the mode cannot be set.
pub fn set_access(file: &Path, path: &Path, access: Access) -> Result<Option<ChownRefused>, ListenError> {
    let mut refused = None;
    if let Some(owner) = access.owner {
        match chown(file, Some(owner.uid), Some(owner.gid)) {
            Ok(()) => (),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                refused = Some(ChownRefused { path: path.to_owned(), owner, user: current_user() });
            }
            Err(error) => return Err(ListenError::of(&error)),
        }
    }
    fs::set_permissions(file, Permissions::from_mode(access.mode))
        .map_err(|error| ListenError::of(&error))?;
    Ok(refused)
}

/// Bytes of a socket's name, without the final zero.
const SUN_PATH_MAX: usize = 107;

/// Removes the socket at `path` if nobody answers there; whether there was one.
fn remove_stale(path: &Path) -> Result<bool, ListenError> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => (),
        Ok(_) => return Err(ListenError::NotASocket(path.to_owned())),
        Err(error) if gone(&error) => return Ok(false),
        Err(error) => return Err(ListenError::of(&error)),
    }
    if is_answered(path)? {
        return Err(ListenError::InUse);
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if gone(&error) => Ok(false),
        Err(error) => Err(ListenError::of(&error)),
    }
}

/// Whether somebody listens at `path`. Does not wait: a full backlog is an answer as well.
fn is_answered(path: &Path) -> Result<bool, ListenError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let attempt = || -> rustix::io::Result<()> {
        let address = SocketAddrUnix::new(path)?;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &address)
    };
    use rustix::io::Errno as E;
    match attempt() {
        Ok(()) | Err(E::AGAIN | E::PROTOTYPE | E::INPROGRESS) => Ok(true),
        Err(E::CONNREFUSED | E::NOENT) => Ok(false),
        Err(error) => Err(ListenError::of(&error.into())),
    }
}

fn current_user() -> String {
    let uid = nix::unistd::geteuid().as_raw();
    match super::users::by_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}

/// Listens on a TCP port: on all IPv4 addresses if `host` is empty, as Supervisor does, else on the host's first
/// address, an IPv4 one if it has any.
///
/// # Errors
/// See [`ListenError`].
pub fn bind_tcp(host: &str, port: u16) -> Result<TcpListener, ListenError> {
    let listener = listen_tcp(host, port)?;
    let configure = || -> io::Result<()> {
        rustix::net::listen(listener.as_fd(), BACKLOG)?;
        listener.set_nonblocking(true)
    };
    configure().map_err(|error| ListenError::of(&error))?;
    Ok(listener)
}

fn listen_tcp(host: &str, port: u16) -> Result<TcpListener, ListenError> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let unknown = |error: String| ListenError::Host { host: host.to_owned(), error };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let addresses: Vec<_> =
        (bare, port).to_socket_addrs().map_err(|error| unknown(error.to_string()))?.collect();
    let ipv4 = addresses.iter().find(|address| address.is_ipv4());
    let address = ipv4.or(addresses.first()).ok_or_else(|| unknown("none".to_owned()))?;
    // Sets SO_REUSEADDR.
    TcpListener::bind(address).map_err(|error| ListenError::of(&error))
}

#[cfg(test)]
#[path = "listen/tests.rs"]
mod tests;
