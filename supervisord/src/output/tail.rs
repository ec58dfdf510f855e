//! Reads parts of log files for clients, with Supervisor's rules for offsets and lengths.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A part of a log that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A negative length, or a length with a negative offset.
    #[error("offset {offset} with length {length}: a length must be positive or, with a negative offset, 0")]
    BadArguments {
        /// The offset asked for.
        offset: i64,
        /// The length asked for.
        length: i64,
    },
    /// The file is not there.
    #[error("no file {path}", path = .0.display())]
    NoFile(PathBuf),
    /// More than the daemon is willing to hold in memory.
    #[error("{size} bytes are more than {LARGEST} bytes, the most that is read at once")]
    TooLarge {
        /// What the arguments amount to, in bytes.
        size: u64,
    },
    /// It cannot be opened or read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A part of a log that is read piece by piece: between two pieces others have their turn.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    file: File,
    at: u64,
    end: u64,
}

impl Part {
    /// The part that [`read_range`] reads.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn range(path: &Path, offset: i64, length: i64) -> Result<Self, ReadError> {
        let (file, start, size) = open_at(path, offset, length)?;
        let wanted = if length == 0 { u64::MAX } else { length.unsigned_abs() };
        Self::new(path, file, start, wanted.min(size - start))
    }

    fn new(path: &Path, file: File, at: u64, length: u64) -> Result<Self, ReadError> {
        if length > LARGEST {
            return Err(ReadError::TooLarge { size: length });
        }
        Ok(Self { path: path.to_path_buf(), file, at, end: at + length })
    }

    /// Bytes that are still to come, at most [`LARGEST`].
    pub fn left(&self) -> usize {
        usize::try_from(self.end - self.at).unwrap_or(usize::MAX)
    }

    /// The next piece; `None` at the end, which comes early if the file has been truncated.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let piece = read(&self.path, &self.file, self.at, PIECE.min(self.end - self.at))?;
        self.at += piece.len() as u64;
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// The answer to a client that polls a log's end.
#[derive(Debug)]
pub struct Tail {
    /// The bytes, if there is a file.
    pub part: Option<Part>,
    /// The size of the file: the offset to ask for next.
    pub new_offset: u64,
    /// There was more between the offset asked for and `part`.
    pub overflow: bool,
}

/// Reads `length` bytes from `offset` on; with length 0, everything from there on; with a negative offset and length 0
/// the last `-offset` bytes. What is beyond the end is empty.
///
/// # Errors
/// [`ReadError`].
pub fn read_range(path: &Path, offset: i64, length: i64) -> Result<Vec<u8>, ReadError> {
    let mut part = Part::range(path, offset, length)?;
    let mut data = Vec::with_capacity(part.left());
    while let Some(piece) = part.next_piece()? {
        data.extend_from_slice(&piece);
    }
    Ok(data)
}

/// A part of a log, and the place where it stands.
#[derive(Debug)]
pub struct Window {
    /// The bytes.
    pub part: Part,
    /// Offset of the first byte in the file.
    pub offset: i64,
    /// Size of the file.
    pub size: i64,
}

impl Window {
    /// As [`Part::range`], but at most the first `limit` bytes of the range.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(path: &Path, offset: i64, length: i64, limit: u64) -> Result<Self, ReadError> {
        let (file, start, size) = open_at(path, offset, length)?;
        let wanted = if length == 0 { limit } else { length.unsigned_abs().min(limit) };
        let part = Part::new(path, file, start, wanted.min(size - start))?;
        Ok(Self { part, offset: start.cast_signed(), size: size.cast_signed() })
    }
}

/// Reads at most `length` bytes at the end of the file, for a client which has seen `offset` bytes of it. A missing file is
/// an empty one.
///
/// # Errors
/// [`ReadError::Io`] and [`ReadError::TooLarge`].
pub fn tail(path: &Path, offset: i64, length: i64) -> Result<Tail, ReadError> {
    let (file, size) = match open(path) {
        Ok(opened) => opened,
        Err(ReadError::NoFile(_)) => return Ok(Tail { part: None, new_offset: 0, overflow: false }),
        Err(error) => return Err(error),
    };
    let (start, length, overflow) = place(offset, length, size as i64);
    // Supervisor reads from the clamped offset, which may leave less than `length` to read.
    let length = length.min(size.saturating_sub(start));
    Ok(Tail { part: Some(Part::new(path, file, start, length)?), new_offset: size, overflow })
}

/// Supervisor's rule for where a tail begins, how long it is, and whether something was left out. Pure.
fn place(mut offset: i64, mut length: i64, size: i64) -> (u64, u64, bool) {
    let overflow = size > offset.saturating_add(length);
    if overflow {
        offset = size - 1;
    }
    if offset.saturating_add(length) > size {
        if offset > size - 1 {
            length = 0;
        }
        offset = size - length;
    }
    (offset.max(0).unsigned_abs(), length.max(0).unsigned_abs(), overflow)
}

/// Opens a file for a range: with the place where the range begins and the size of the file.
fn open_at(path: &Path, offset: i64, length: i64) -> Result<(File, u64, u64), ReadError> {
    if length < 0 || (offset < 0 && length != 0) {
        return Err(ReadError::BadArguments { offset, length });
    }
    let (file, size) = open(path)?;
    let start = match u64::try_from(offset) {
        Ok(offset) => offset.min(size),
        Err(_) => size.saturating_sub(offset.unsigned_abs()),
    };
    Ok((file, start, size))
}

fn open(path: &Path) -> Result<(File, u64), ReadError> {
    let opened = super::target::open_to_read(path).and_then(|file| {
        let size = file.metadata()?.len();
        Ok((file, size))
    });
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ReadError::NoFile(path.to_path_buf()),
        _ => ReadError::Io { path: path.to_path_buf(), source },
    })
}

fn read(path: &Path, file: &File, start: u64, length: u64) -> Result<Vec<u8>, ReadError> {
    let mut data = vec![0; length as usize];
    let mut filled = 0;
    while filled < data.len() {
        match file.read_at(&mut data[filled..], start + filled as u64) {
            // Truncated since its size was read.
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ReadError::Io { path: path.to_path_buf(), source }),
        }
    }
    data.truncate(filled);
    Ok(data)
}

/// Bytes of a piece: what takes far less than a millisecond to be read and written down.
const PIECE: u64 = 64 << 10;

/// Most bytes read for one request: Supervisor's default size of a log, with room.
pub const LARGEST: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    #[test]
    fn ranges_follow_the_table() {
        let (_dir, path) = file(b"0123456789");
        for (offset, length, data) in [
            (0, 0, "0123456789"),
            (4, 0, "456789"),
            (4, 3, "456"),
            (8, 100, "89"),
            (10, 0, ""),
            (99, 5, ""),
            (-3, 0, "789"),
            (-99, 0, "0123456789"),
        ] {
            assert_eq!(read_range(&path, offset, length).unwrap(), data.as_bytes(), "({offset}, {length})");
        }
        for (offset, length) in [(-1, 1), (0, -1), (-1, -1)] {
            assert!(matches!(read_range(&path, offset, length), Err(ReadError::BadArguments { .. })));
        }
        assert!(matches!(read_range(&path.with_extension("x"), 0, 0), Err(ReadError::NoFile(_))));
    }

    #[test]
    fn tails_are_those_of_supervisor() {
        let (_dir, path) = file(b"hi\n");
        // Observed with Supervisor 4.3.0.
        for (offset, length, data, overflow) in [
            (0, 0, "", true),
            (0, 1, "\n", true),
            (0, 2, "i\n", true),
            (0, 3, "hi\n", false),
            (0, 100, "hi\n", false),
            (1, 2, "i\n", false),
            (2, 1, "\n", false),
            (3, 5, "", false),
            (100, 5, "", false),
            (-1, 2, "i\n", true),
            (i64::MAX, i64::MAX, "", false),
        ] {
            let found = tail(&path, offset, length).unwrap();
            let mut part = found.part.unwrap();
            let piece = part.next_piece().unwrap().unwrap_or_default();
            assert!(part.next_piece().unwrap().is_none());
            let found = (piece, found.new_offset, found.overflow);
            assert_eq!(found, (data.into(), 3, overflow), "({offset}, {length})");
        }
        let missing = tail(&path.with_extension("x"), 0, 10).unwrap();
        assert!(missing.part.is_none() && missing.new_offset == 0 && !missing.overflow);
    }

    #[test]
    fn much_is_read_in_pieces_up_to_where_the_file_ends_by_then() {
        let (_dir, path) = file(&[b'x'; 200_000]);
        let mut part = Part::range(&path, 10_000, 0).unwrap();
        assert_eq!(part.left(), 190_000);
        assert_eq!(part.next_piece().unwrap().unwrap().len(), 65536);
        File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
        assert_eq!(part.next_piece().unwrap().unwrap().len(), 24464);
        assert_eq!(part.next_piece().unwrap(), None);
        assert_eq!(read_range(&path, 0, 0).unwrap().len(), 100_000);
    }

    #[test]
    fn a_fifo_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read_range(&path, 0, 0), Err(ReadError::Io { .. })));
        assert!(matches!(tail(&path, 0, 10), Err(ReadError::Io { .. })));
    }

    #[test]
    fn too_much_is_refused_not_loaded() {
        let (_dir, path) = file(b"");
        File::options().write(true).open(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(matches!(read_range(&path, 0, 0), Err(ReadError::TooLarge { .. })));
        assert_eq!(read_range(&path, -5, 0).unwrap().len(), 5);
    }
}
