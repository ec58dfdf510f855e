//! What the user should read in the daemon's log about the logs of programs. Pure.

use std::path::PathBuf;

/// Something that is to be logged once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Report {
    /// Writing started to fail.
    #[error("cannot write {path}: {error}; what does not fit into the pipe is being dropped", path = path.display())]
    Failing {
        /// The log.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The target has taken nothing for [`PATIENCE`](super::PATIENCE).
    #[error("{path} takes no output; it is being dropped", path = path.display())]
    Stuck {
        /// The log.
        path: PathBuf,
    },
    /// The end of [`Report::Failing`] or [`Report::Stuck`], or a slow target could not be given all.
    #[error("writing {path} again; {lost} bytes were lost", path = path.display())]
    Recovered {
        /// The log.
        path: PathBuf,
        /// Bytes dropped meanwhile.
        lost: u64,
    },
    /// The file had been deleted or replaced under us.
    #[error("{path} was deleted or replaced; opened it again", path = path.display())]
    Recreated {
        /// The log.
        path: PathBuf,
    },
    /// The file has reached its size but cannot be renamed.
    #[error("cannot rotate {path}: {error}; it goes on growing", path = path.display())]
    NotRotated {
        /// The log.
        path: PathBuf,
        /// Why.
        error: String,
    },
}
