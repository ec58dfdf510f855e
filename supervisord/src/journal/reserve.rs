//! Space on the disk for the journal that nobody else can take: behind the end of the present file, and a whole file in
//! whose place there is nothing yet. When the disk is full, that file becomes the journal, and the former journal the
//! space for the one after it. Thus two files are enough for any length of time.
//!
//! The former journal is never cut, which would set its space free: what it still has behind the end of a new text is
//! overwritten by empty lines, before it takes its place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FallocateFlags, IFlags, RenameFlags},
    io::Errno,
};

use super::condition::Aside;

/// Name of the file that is nothing but space.
const NAME: &str = "journal.reserve";
/// What the map of its blocks may take of the space of a file, above what is in it.
const MAP: u64 = 16 << 10;

/// Whether there is no space, or no inode, or no more of them for this user.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// Sets space aside for the first `bytes` of `file`. Returns whether the file system can do that.
///
/// # Errors
/// When there is no space.
pub(super) fn set_aside(file: &File, bytes: u64) -> io::Result<bool> {
    loop {
        return match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes + MAP) {
            Ok(()) => Ok(true),
            Err(Errno::INTR) => continue,
            // Some, like XFS, want more for a moment even where there is nothing to be done.
            Err(Errno::NOSPC | Errno::DQUOT) if space_of(file) >= bytes => Ok(true),
            Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(error.into()),
            // Not supported, or forbidden by a sandbox.
            Err(_) => Ok(false),
        };
    }
}

/// Sets space aside for `bytes` in the journal `file` and in the file that will follow it in `directory`.
pub(super) fn set_both_aside(file: &File, directory: &Path, bytes: u64) -> Aside {
    match set_aside(file, bytes) {
        Ok(true) => {}
        Ok(false) => return Aside::Impossible,
        Err(error) => return Aside::Short(space_of(file), format!("{}: {error}", directory.display())),
    }
    let next = path_in(directory);
    let set_next_aside = || {
        let file = open(&next, true)?;
        let space = space_of(&file);
        if space == 0 {
            write_in_place(&file);
        }
        if space > 4 * bytes {
            // There were more programs once.
            file.set_len(bytes)?;
        }
        set_aside(&file, bytes)
    };
    match set_next_aside() {
        Ok(_) => Aside::Complete(bytes),
        Err(error) => Aside::Short(bytes, format!("{}: {error}", next.display())),
    }
}

/// Has a new `file` be written over in place: else btrfs, which writes what is changed elsewhere, would need space for that.
pub(super) fn write_in_place(file: &File) {
    // Others do so anyway, or cannot at all.
    let _ = rustix::fs::ioctl_setflags(file, IFlags::NOCOW);
}

/// Writes what `write` writes into the file that is nothing but space, and puts it in the place of `journal` beside it,
/// which becomes that space. At any moment one of both is whole and named like the journal. Returns the file and its end.
///
/// # Errors
/// Also when there is no such file, or it is too small.
pub(super) fn write_in_reserve(
    journal: &Path,
    write: impl FnOnce(&mut File) -> io::Result<usize>,
) -> io::Result<(File, usize)> {
    let path = journal.with_file_name(NAME);
    let mut file = open(&path, false)?;
    let end = write(&mut file)?;
    blank(&mut file, end as u64)?;
    let exchanged = rustix::fs::renameat_with(CWD, &path, CWD, journal, RenameFlags::EXCHANGE);
    if exchanged.is_err() {
        // There is none yet, or the file system cannot: what is set aside for the next one is lost then.
        fs::rename(&path, journal)?;
    }
    Ok((file, end))
}

/// Removes the file that is nothing but space.
pub(super) fn remove(directory: &Path) {
    // Where there is none, nothing was set aside; elsewhere the whole directory stays.
    let _ = fs::remove_file(path_in(directory));
}

/// Bytes that `file` has on the disk, at least.
fn space_of(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| (metadata.blocks() * 512).saturating_sub(MAP))
}

/// Overwrites what is in `file` from here, which is `at`, to its end by empty lines.
fn blank(file: &mut File, at: u64) -> io::Result<()> {
    let lines = [b'\n'; 4 << 10];
    let mut left = file.metadata()?.len().saturating_sub(at);
    while left > 0 {
        let piece = usize::try_from(left).map_or(lines.len(), |left| left.min(lines.len()));
        file.write_all(&lines[..piece])?;
        left -= piece as u64;
    }
    Ok(())
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join(NAME)
}
