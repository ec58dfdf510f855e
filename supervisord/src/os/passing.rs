//! Descriptors on their way from process to process: unix sockets over which a message carries text and descriptors,
//! and the door at which a process can be found by its name in a directory.
//!
//! A message arrives whole or not at all. A door has no name longer than the kernel takes, wherever its directory is.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::unistd::Pid;
use rustix::{
    cmsg_space,
    fs::{AtFlags, Mode, OFlags},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
    },
};

/// Most descriptors of one message; the kernel takes 253.
pub const MOST_DESCRIPTORS: usize = 64;
/// Most bytes of text in one message.
pub const MOST_TEXT: usize = 16 << 10;

/// What has arrived.
#[derive(Debug, Default)]
pub struct Message {
    /// Its text; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// Its descriptors, close-on-exec; fewer than were sent if there is no room for them.
    pub descriptors: Vec<OwnedFd>,
}

/// Whether a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It waits, up to the time set by [`set_patience`].
    Yes,
    /// It fails with `WouldBlock` instead.
    No,
}

/// Two connected sockets.
///
/// # Errors
/// When there are no descriptors left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message. Who holds the descriptors afterwards is the receiver's affair: ours stay open.
///
/// # Errors
/// `WouldBlock` when the receiver is behind; `InvalidInput` for more descriptors than a message takes; those of
/// `sendmsg`.
pub fn send(to: impl AsFd, text: &str, descriptors: &[BorrowedFd<'_>], wait: Wait) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = match wait {
        Wait::Yes => SendFlags::NOSIGNAL,
        Wait::No => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    };
    let send = || rustix::net::sendmsg(to.as_fd(), &[IoSlice::new(text.as_bytes())], &mut control, flags);
    match rustix::io::retry_on_intr(send) {
        Ok(_) => Ok(()),
        // The receiver is behind with too many descriptors at once.
        Err(rustix::io::Errno::TOOMANYREFS) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

/// Waits for the next message; `None` when the other side is gone. `buffer` is room for its text.
///
/// # Errors
/// Those of `recvmsg`; `WouldBlock` after the time set by [`set_patience`].
pub fn receive(from: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Message>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut room = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(from.as_fd(), &mut room, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            done => break done?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = rights.flatten().collect();
    Ok(Some(Message { text: String::from_utf8_lossy(&buffer[..received.bytes]).into_owned(), descriptors }))
}

/// How long sending and receiving on this socket may wait.
///
/// # Errors
/// When it is no socket.
pub fn set_patience(socket: impl AsFd, patience: Duration) -> io::Result<()> {
    sockopt::set_socket_timeout(socket.as_fd(), sockopt::Timeout::Recv, Some(patience))?;
    Ok(sockopt::set_socket_timeout(socket.as_fd(), sockopt::Timeout::Send, Some(patience))?)
}

/// A name in a directory at which a process can be found.
#[derive(Debug)]
pub struct Door {
    /// Bound to the name. Whoever calls [`open_door`] is the one who is found.
    pub socket: OwnedFd,
    /// The file of that name, to see later whether it is still there.
    pub file: OwnedFd,
}

/// Makes a door, which nobody opens yet. A file of that name is replaced.
///
/// # Errors
/// When the directory cannot be written to, or no descriptors are left.
pub fn make_door(directory: impl AsFd, name: &str) -> io::Result<Door> {
    remove_door(directory.as_fd(), name)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &address(directory.as_fd(), name)?)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    Ok(Door { socket, file })
}

/// Removes a door's name; one that is not there is no error.
///
/// # Errors
/// Those of `unlinkat`.
pub fn remove_door(directory: impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// From now on callers are connected, and find this process.
///
/// # Errors
/// Those of `listen`.
pub fn open_door(door: &Door) -> io::Result<()> {
    Ok(rustix::net::listen(&door.socket, 4)?)
}

/// Lets a caller in.
///
/// # Errors
/// Those of `accept`.
pub fn admit(door: &Door) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(&door.socket, SocketFlags::CLOEXEC)?)
}

/// Whether nobody can find the door any more.
pub fn is_removed(door: &Door) -> bool {
    rustix::fs::fstat(&door.file).is_ok_and(|stat| stat.st_nlink == 0)
}

/// Becomes readable when the door's file changes, for example when it is removed.
///
/// # Errors
/// When the kernel or a sandbox refuses.
pub fn watch_door(door: &Door) -> io::Result<OwnedFd> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    add_watch(&watch, format!("/proc/self/fd/{}", door.file.as_raw_fd()), WatchFlags::ATTRIB)?;
    Ok(watch)
}

/// Goes to a door and waits to be let in.
///
/// # Errors
/// When there is no such door, or nobody behind it.
pub fn knock(directory: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address(directory.as_fd(), name)?)?;
    Ok(socket)
}

/// Who is at the other end: pid and user.
///
/// # Errors
/// When it is no connected unix socket.
pub fn peer(socket: impl AsFd) -> io::Result<(Pid, u32)> {
    let peer = nix::sys::socket::getsockopt(&socket.as_fd(), nix::sys::socket::sockopt::PeerCredentials)?;
    Ok((Pid::from_raw(peer.pid()), peer.uid()))
}

/// Through the descriptor of the directory, for a path may be longer than an address.
fn address(directory: BorrowedFd<'_>, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

/// Whether an error of [`send`] means that nobody is there any more.
pub fn is_gone(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn descriptors_arrive_with_the_message_that_carried_them() {
        let (ours, theirs) = pair().unwrap();
        let (read, mut write) = io::pipe().unwrap();
        send(&ours, "one\n", &[read.as_fd()], Wait::No).unwrap();
        send(&ours, "two\n", &[], Wait::No).unwrap();
        drop(read);
        let mut buffer = [0; 64];
        let mut first = receive(&theirs, &mut buffer).unwrap().unwrap();
        assert_eq!((first.text.as_str(), first.descriptors.len()), ("one\n", 1));
        write.write_all(b"kept").unwrap();
        drop(write);
        let mut text = String::new();
        std::fs::File::from(first.descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
        assert_eq!(receive(&theirs, &mut buffer).unwrap().unwrap().text, "two\n");
        drop(ours);
        assert!(receive(&theirs, &mut buffer).unwrap().is_none());
    }

    #[test]
    fn a_receiver_that_is_behind_is_not_waited_for() {
        let (ours, theirs) = pair().unwrap();
        let error = (0..100_000).find_map(|_| send(&ours, "word\n", &[], Wait::No).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        // The kernel says first that what was on its way is lost.
        let kinds = [(); 2].map(|()| send(&ours, "word\n", &[], Wait::No).unwrap_err().kind());
        assert!(is_gone(kinds[0]) && kinds[1] == io::ErrorKind::BrokenPipe, "{kinds:?}");
    }

    #[test]
    fn a_door_leads_to_who_opened_it_until_its_name_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(200));
        std::fs::create_dir(&long).unwrap();
        let directory = std::fs::File::open(&long).unwrap();
        assert!(knock(&directory, "door").is_err());
        let door = make_door(&directory, "door").unwrap();
        assert!(knock(&directory, "door").is_err(), "nobody is behind it");
        open_door(&door).unwrap();
        let caller = knock(&directory, "door").unwrap();
        let guest = admit(&door).unwrap();
        assert_eq!(peer(&caller).unwrap().0, Pid::this());
        send(&caller, "word", &[], Wait::Yes).unwrap();
        assert_eq!(receive(&guest, &mut [0; 8]).unwrap().unwrap().text, "word");
        let watch = watch_door(&door).unwrap();
        assert!(!is_removed(&door));
        remove_door(&directory, "door").unwrap();
        assert!(is_removed(&door));
        assert!(rustix::io::read(&watch, &mut [0; 256]).unwrap() > 0);
    }
}
