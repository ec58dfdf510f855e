//! Where the journal is: in the place that the configuration names, and if that has changed since the last daemon began,
//! in the place where that one had it.
//!
//! A daemon that was killed could not tell where its journal is. Its keeper can: it waits for the next daemon, and its
//! command line names the directory.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::Pid;

use crate::{
    config::load::Loaded,
    journal::{Snapshot, file::Journal},
    keeper,
    os::search,
};

/// The journal as it was found.
#[derive(Debug, Default)]
pub struct OpenJournal {
    /// Where to write on; none if there is a problem.
    pub journal: Option<Journal>,
    /// What the last daemon has written.
    pub found: Snapshot,
    /// Why nothing can be written.
    pub problem: Option<String>,
    /// The present boot of the machine.
    pub boot: String,
    /// Where the last daemon had it, if not in the same place: to be removed when all of it is written down here.
    pub former: Option<Journal>,
}

/// A journal, and what was found in it.
type Found = (Journal, Snapshot);

/// Opens the journal and reads what the last daemon has left. Without one programs are supervised all the same.
pub(super) fn open_journal(loaded: &Loaded) -> OpenJournal {
    let place = &loaded.config.daemon.runtime_directory;
    let opened = Journal::open(place).map(understood).map_err(|error| error.to_string());
    let is_empty = opened.as_ref().map_or(true, |(_, found)| found.header.is_none());
    let former = if is_empty { find_former(&loaded.path, place) } else { None };
    choose(opened, former)
}

/// The same for a daemon that was replaced in place and had its journal in `carried`.
pub(super) fn succeed_journal(loaded: &Loaded, carried: Option<&Path>) -> OpenJournal {
    let place = &loaded.config.daemon.runtime_directory;
    let Some(carried) = carried.filter(|carried| *carried != place) else {
        return choose(Journal::open(place).map(understood).map_err(|error| error.to_string()), None);
    };
    let boot = search::boot_id().unwrap_or_default();
    let opened = Journal::open_another(place, &boot).map(|journal| (journal, Snapshot::default()));
    choose(opened.map_err(|error| error.to_string()), Journal::open(carried).map(understood).ok())
}

/// What is used of the journal in its place and of a former one.
fn choose(opened: Result<Found, String>, former: Option<Found>) -> OpenJournal {
    let boot = match search::boot_id() {
        Ok(boot) => boot,
        Err(error) => return no_journal(error.to_string(), String::new()),
    };
    match (opened, former) {
        (Ok((journal, found)), None) => {
            OpenJournal { journal: Some(journal), found, boot, ..OpenJournal::default() }
        }
        (Ok((journal, _)), Some((former, found))) => {
            let (old, new) = (former.directory().display(), journal.directory().display());
            tracing::info!("what the last supervisord has left is in {old}, and moves to {new}");
            OpenJournal { journal: Some(journal), found, boot, former: Some(former), problem: None }
        }
        (Err(problem), Some((former, found))) => {
            tracing::error!("the journal stays in {}: {problem}", former.directory().display());
            OpenJournal { journal: Some(former), found, boot, ..OpenJournal::default() }
        }
        (Err(problem), None) => no_journal(problem, boot),
    }
}

fn no_journal(problem: String, boot: String) -> OpenJournal {
    tracing::warn!("programs cannot be taken over if supervisord is killed: no journal: {problem}");
    OpenJournal { problem: Some(problem), boot, ..OpenJournal::default() }
}

fn understood((journal, found): (Journal, Result<Snapshot, crate::journal::Alien>)) -> Found {
    let found = found.unwrap_or_else(|alien| {
        let path = journal.path();
        tracing::warn!("what the last supervisord has left is not taken over: {}: {alien}", path.display());
        Snapshot::default()
    });
    (journal, found)
}

/// The journal of a daemon with the configuration file `configuration` that was killed, elsewhere than in `place`.
fn find_former(configuration: &Path, place: &Path) -> Option<Found> {
    let configuration = configuration.to_string_lossy();
    let directories = search::all_processes().filter_map(directory_of_keeper);
    let mut of_ours = directories.filter(|directory| {
        directory != place
            && Journal::header_in(directory).is_some_and(|header| header.configuration == configuration)
    });
    // One that lives has its journal locked.
    of_ours.find_map(|directory| Journal::open(&directory).map(understood).ok())
}

/// The directory of the journal that names this process as its keeper, if it may be one of ours.
fn directory_of_keeper(pid: Pid) -> Option<PathBuf> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let directory = keeper::directory_in(&command)?;
    // Others may call themselves so.
    let owner = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let is_ours = owner == nix::unistd::geteuid().as_raw();
    is_ours.then(|| PathBuf::from(std::ffi::OsStr::from_bytes(directory)))
}
