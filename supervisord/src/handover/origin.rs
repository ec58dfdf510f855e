//! Which file this process was started from, and in which directory: what an upgrade starts again.

use std::{
    env,
    ffi::{CString, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The file, by the name under which it was started and with its symbolic links: a package upgrade replaces what is
    /// there. `/proc/self/exe` would name the file that is gone.
    pub executable: PathBuf,
    /// The working directory, to which options may be relative.
    pub directory: PathBuf,
    /// The command line.
    #[serde(default)]
    pub arguments: Vec<OsString>,
}

impl Origin {
    /// That of this process, which has not yet changed its directory.
    ///
    /// # Errors
    /// When the working directory is gone, or `/proc` does not name the binary.
    pub fn of_this_process() -> io::Result<Self> {
        let directory = env::current_dir()?;
        let binary = fs::read_link("/proc/self/exe")?;
        let arguments: Vec<OsString> = env::args_os().collect();
        let argv0 = arguments.first().cloned().unwrap_or_default();
        let candidate = resolve(Path::new(&argv0), &directory, &env::var_os("PATH").unwrap_or_default());
        // A caller may have given us any name as argv[0].
        let executable = candidate.filter(|found| is_same_file(found, &binary)).unwrap_or(binary);
        Ok(Self { executable, directory, arguments })
    }

    /// The command line, for `execve`.
    pub fn argv(&self) -> Vec<CString> {
        self.arguments.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect()
    }
}

/// The file that a shell means by `name`.
fn resolve(name: &Path, directory: &Path, path: &std::ffi::OsStr) -> Option<PathBuf> {
    if name.components().count() > 1 || name.is_absolute() {
        return Some(directory.join(name.strip_prefix(".").unwrap_or(name)));
    }
    let places = env::split_paths(path).map(|place| directory.join(place).join(name));
    places.into_iter().find(|file| file.is_file())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Ok(_) | Err(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_a_shell_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("prog"), "").unwrap();
        let path = dir.path().as_os_str();
        let found = |name: &str| resolve(Path::new(name), Path::new("/srv"), path);
        assert_eq!(found("prog"), Some(dir.path().join("prog")));
        assert_eq!(found("./prog"), Some("/srv/prog".into()));
        assert_eq!(found("bin/prog"), Some("/srv/bin/prog".into()));
        assert_eq!(found("/usr/bin/prog"), Some("/usr/bin/prog".into()));
        assert_eq!(found("absent"), None);
    }

    #[test]
    fn this_process_was_started_from_an_existing_file() {
        let origin = Origin::of_this_process().unwrap();
        assert!(origin.executable.is_absolute() && origin.executable.is_file(), "{origin:?}");
    }
}
