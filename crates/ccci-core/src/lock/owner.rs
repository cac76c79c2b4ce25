//! The owner record inside a lock file: who holds it, for people. Advisory only.

use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An owner record never gets near this; more is not ours.
const MAX_RECORD: usize = 16 * 1024;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The run.
    pub run_id: String,
    /// The keeper's pid.
    pub pid: u32,
    /// The keeper's start, in clock ticks since boot (`/proc/<pid>/stat`, field 22): with the pid it
    /// names one process for ever.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The run's directory.
    pub run_dir: PathBuf,
    /// The recipe, or the command of a guard.
    pub recipe: String,
    /// The pull request, if any.
    pub pr: Option<String>,
    /// The ref, if any.
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    /// What the run is doing.
    pub phase: String,
    /// When the lock was acquired.
    pub since: Timestamp,
    /// When the run's clock ends.
    pub deadline: Timestamp,
}

impl Owner {
    /// One line for a person who waits.
    #[must_use]
    pub fn describe(&self) -> String {
        let pr = self.pr.as_ref().map_or_else(String::new, |pr| format!(", PR {pr}"));
        format!("run {} (pid {}{pr}, phase {}, held since {:.0})", self.run_id, self.pid, self.phase, self.since)
    }
}

/// Replaces the record; the file's mtime stays the moment of acquisition.
///
/// In place, because the locked inode must stay: a reader may see half a record and shows none.
pub(super) fn write(file: &File, owner: &Owner) -> io::Result<()> {
    let mut text = serde_json::to_vec(owner)?;
    text.push(b'\n');
    file.write_all_at(&text, 0)?;
    file.set_len(text.len() as u64)?;
    file.set_times(FileTimes::new().set_modified(SystemTime::from(owner.since)))
}

/// Reads a record; `None` for anything that is none.
pub(super) fn read(file: &File) -> Option<Owner> {
    let mut buffer = vec![0; MAX_RECORD];
    let length = file.read_at(&mut buffer, 0).ok()?;
    parse(&buffer[..length])
}

/// Reads a record from the bytes of a lock file.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Owner> {
    serde_json::from_slice(bytes).ok()
}
