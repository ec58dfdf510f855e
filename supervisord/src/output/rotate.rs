//! Which files a rotation renames, and in which order. Pure: `writer.rs` performs the steps.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// One step of a rotation. A missing file is no error in any step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Rename `from` to `to`, replacing `to`.
    Rename {
        /// The file as it is called now.
        from: PathBuf,
        /// Its name afterwards, one number higher.
        to: PathBuf,
    },
    /// Empty the log itself: with no backups its content is given up.
    Truncate,
}

/// The steps which make room for a fresh `path`, keeping `backups` rotated files: highest number first, so that
/// every step's destination is free or the one file to be given up. As in Supervisor, a gap in the numbers keeps
/// what is above it, and files above `backups` (left from a larger setting) are not touched.
pub fn steps(path: &Path, backups: u32) -> impl Iterator<Item = Step> + use<> {
    let path = path.to_path_buf();
    let truncate = (backups == 0).then_some(Step::Truncate);
    let renames = (0..backups).rev().map(move |number| Step::Rename {
        from: if number == 0 { path.clone() } else { backup(&path, number) },
        to: backup(&path, number + 1),
    });
    truncate.into_iter().chain(renames)
}

/// The name of the rotated file with this number: `path.NUMBER`, 1 being the newest.
pub fn backup(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A directory in memory: name → content.
    type Dir = BTreeMap<PathBuf, Vec<u8>>;

    fn perform(dir: &mut Dir, path: &Path, backups: u32) {
        for step in steps(path, backups) {
            match step {
                Step::Rename { from, to } => {
                    if let Some(content) = dir.remove(&from) {
                        dir.insert(to, content);
                    }
                }
                Step::Truncate => {
                    dir.remove(path);
                }
            }
        }
        dir.insert(path.to_path_buf(), Vec::new());
    }

    fn rename(from: &str, to: &str) -> Step {
        Step::Rename { from: from.into(), to: to.into() }
    }

    #[test]
    fn renames_run_from_the_highest_number_down() {
        let all: Vec<_> = steps(Path::new("/l/a.log"), 3).collect();
        assert_eq!(
            all,
            [
                rename("/l/a.log.2", "/l/a.log.3"),
                rename("/l/a.log.1", "/l/a.log.2"),
                rename("/l/a.log", "/l/a.log.1")
            ]
        );
    }

    #[test]
    fn without_backups_the_log_is_emptied() {
        assert_eq!(steps(Path::new("a"), 0).collect::<Vec<_>>(), [Step::Truncate]);
    }

    #[test]
    fn a_gap_keeps_what_is_above_it_and_higher_numbers_stay() {
        let path = Path::new("a");
        let mut dir =
            Dir::from([("a", "new"), ("a.2", "two"), ("a.5", "five")].map(|(n, c)| (n.into(), c.into())));
        perform(&mut dir, path, 3);
        let names: Vec<_> = dir.keys().map(|name| name.to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["a", "a.1", "a.3", "a.5"]);
        assert_eq!(dir[Path::new("a.3")], b"two");
    }

    proptest! {
        #[test]
        fn rotated_files_and_the_current_one_are_the_input(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..60),
            maxbytes in 1usize..100,
            backups in 0u32..70,
        ) {
            let path = Path::new("log");
            let mut dir = Dir::from([(path.to_path_buf(), Vec::new())]);
            let mut rotations = 0;
            for chunk in &chunks {
                let current = dir.get_mut(path).expect("the current file always exists");
                current.extend_from_slice(chunk);
                if current.len() >= maxbytes {
                    perform(&mut dir, path, backups);
                    rotations += 1;
                }
            }
            let kept: Vec<u8> = (1..=backups)
                .rev()
                .map(|number| backup(path, number))
                .chain([path.to_path_buf()])
                .filter_map(|name| dir.get(&name).cloned())
                .flatten()
                .collect();
            let input = chunks.concat();
            prop_assert!(input.ends_with(&kept));
            if rotations <= backups {
                prop_assert_eq!(kept, input);
            }
            prop_assert_eq!(dir.len(), 1 + rotations.min(backups) as usize);
        }
    }
}
