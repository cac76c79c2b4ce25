//! The index of the runs that are not concluded: `<runs_dir>/.open/<run id>`, a link whose text is the name of the run's
//! lock file.
//!
//! The way to a dead run is its directory, and there may be thousands of finished ones: whoever looks for the unfinished
//! of one name reads this index, which is as long as there are runs at work, waiting, or dead and not yet finished. A
//! link is made and removed in one step, so no entry is ever half-written. An entry is made after the directory was
//! claimed and before anything else is in it, and removed when the run is concluded. So an entry may be stale, which its
//! directory tells; a run without one was made by an earlier version or lost it in a power cut, and the janitor, which
//! reads all directories anyway, enters it again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{RunDir, RunDirError};
use crate::weaken::{self, Protection};

/// The index, inside the runs' directory. No run id begins with a dot.
const INDEX: &str = ".open";
/// How often the index is made again that somebody else has just removed, because it was empty.
const TRIES: usize = 100;

/// An entry of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The run's directory.
    pub dir: PathBuf,
    /// The name of its lock file.
    pub lock: String,
}

impl RunDir {
    /// Where its entry is.
    fn entry(&self) -> io::Result<(PathBuf, PathBuf)> {
        let (Some(runs), Some(id)) = (self.path.parent(), self.path.file_name()) else {
            return Err(io::Error::other(format!("{} is not a run's directory", self.path.display())));
        };
        let index = runs.join(INDEX);
        let entry = index.join(id);
        Ok((index, entry))
    }

    /// Enters the run, whose lock file is called `lock`, among the unfinished. An entry that is there stays.
    ///
    /// # Errors
    /// What the kernel says; the run must not begin then, as nobody would find what it leaves.
    pub fn enter(&self, lock: &str) -> Result<(), RunDirError> {
        self.make_entry(lock).map_err(|source| self.failed("enter in the index of unfinished runs", "", source))
    }

    fn make_entry(&self, lock: &str) -> io::Result<()> {
        if !weaken::on(Protection::OpenIndex) {
            return Ok(());
        }
        let (index, entry) = self.entry()?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..TRIES {
            match std::fs::create_dir(&index) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            match std::os::unix::fs::symlink(lock, &entry) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => return Ok(()),
            }
        }
        Err(last)
    }

    /// Returns when the run's entry is on the disk.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sync_entry(&self) -> Result<(), RunDirError> {
        self.try_sync_entry().map_err(|source| self.failed("sync the index entry of", "", source))
    }

    fn try_sync_entry(&self) -> io::Result<()> {
        match File::open(self.entry()?.0) {
            // Without the protection there is none.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !weaken::on(Protection::OpenIndex) => Ok(()),
            Err(error) => Err(error),
            Ok(index) => index.sync_all(),
        }
    }

    /// Removes the run from the unfinished: it is concluded. No entry is none to remove.
    ///
    /// # Errors
    /// What the kernel says; the entry is then stale, and the janitor removes it.
    pub fn leave_index(&self) -> io::Result<()> {
        let (index, entry) = self.entry()?;
        match std::fs::remove_file(entry) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // With others in it it stays.
        let _not_empty = std::fs::remove_dir(index);
        Ok(())
    }
}

/// The entries of the index of `runs_dir`, stale ones too.
///
/// # Errors
/// When it is there and cannot be read.
pub fn entries(runs_dir: &Path) -> io::Result<Vec<Entry>> {
    let listed = match std::fs::read_dir(runs_dir.join(INDEX)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry?;
        match std::fs::read_link(entry.path()) {
            Ok(lock) => {
                let lock = lock.to_string_lossy().into_owned();
                found.push(Entry { dir: runs_dir.join(entry.file_name()), lock });
            }
            // Concluded meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Not a link: nothing of ours is.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|one, other| one.dir.cmp(&other.dir));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::RunId;

    #[test]
    fn a_run_is_in_the_index_until_it_is_concluded_and_an_empty_index_goes() {
        let runs = tempfile::tempdir().unwrap();
        let make = |id: &str| RunDir::create(runs.path(), &RunId::new(id).unwrap()).unwrap().0;
        let (one, two) = (make("1"), make("2"));
        assert_eq!(entries(runs.path()).unwrap(), []);
        one.enter("a.lock").unwrap();
        two.enter("b.lock").unwrap();
        two.enter("b.lock").unwrap();
        one.sync_entry().unwrap();
        let found: Vec<String> = entries(runs.path()).unwrap().into_iter().map(|entry| entry.lock).collect();
        assert_eq!(found, ["a.lock", "b.lock"]);
        one.leave_index().unwrap();
        one.leave_index().unwrap();
        assert_eq!(entries(runs.path()).unwrap().len(), 1);
        two.leave_index().unwrap();
        assert!(!runs.path().join(INDEX).exists());
    }
}
