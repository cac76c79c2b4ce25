//! The owner record inside a lock file: who holds it, for people. Advisory only.
//!
//! It is one block, replaced by one write: a holder that is killed leaves the old record or the new one. What is there
//! and cannot be understood is [`Unreadable`], and never "no record".

use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lifetime::clock::since_boot;

/// A record is padded to a whole number of these: the kernel writes a page as one, whatever signal comes.
const BLOCK: usize = 4096;
/// An owner record never gets near this; more is not ours.
const MAX_RECORD: usize = 16 * 1024;
/// What is shown of a guard's command, or of a ref, in characters: either may be as long as an argument list.
const SHOWN: usize = 200;
/// How often a record is read that is just being replaced.
const LOOKS: usize = 5;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The run.
    pub run_id: String,
    /// The supervisor's pid.
    pub pid: u32,
    /// The supervisor's start, in clock ticks since boot (`/proc/<pid>/stat`, field 22): with the pid it
    /// names one process for ever.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The run's directory.
    pub run_dir: PathBuf,
    /// The recipe, or the command of a guard, shortened.
    pub recipe: String,
    /// The pull request, if any.
    pub pr: Option<String>,
    /// The ref, if any, shortened.
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    /// What the run is doing.
    pub phase: String,
    /// When the lock was acquired.
    pub since: Timestamp,
    /// When the run's clock ends.
    pub deadline: Timestamp,
}

/// A lock file whose record cannot be read. Its holder did not necessarily leave nothing.
#[derive(Debug, thiserror::Error)]
#[error("the owner record in a lock file cannot be read: {why}; its run is found by its run directory")]
pub struct Unreadable {
    why: String,
}

/// The record as it is written: one number at both ends, so that the halves of two records are no record.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    write: Option<u64>,
    #[serde(flatten)]
    owner: Owner,
    #[serde(default)]
    written: Option<u64>,
}

impl Owner {
    /// One line for a person who waits.
    #[must_use]
    pub fn describe(&self) -> String {
        let pr = self.pr.as_ref().map_or_else(String::new, |pr| format!(", PR {pr}"));
        format!("run {} (pid {}{pr}, phase {}, held since {:.0})", self.run_id, self.pid, self.phase, self.since)
    }

    /// With what may be of any length cut to what is shown of it.
    fn shortened(&self) -> Self {
        let git_ref = self.git_ref.as_deref().map(shorten);
        Self { recipe: shorten(&self.recipe), git_ref, phase: shorten(&self.phase), ..self.clone() }
    }
}

/// The beginning of a text, as much as fits a line or two.
#[must_use]
pub fn shorten(text: &str) -> String {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(SHOWN).collect();
    if chars.next().is_none() { shown } else { format!("{shown}…") }
}

/// Replaces the record; the file's mtime stays the moment of acquisition.
///
/// In place, because the locked inode must stay. The file never gets shorter, so that one write is enough.
pub(super) fn write(file: &File, owner: &Owner) -> io::Result<()> {
    let number = u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX);
    let record = Record { write: Some(number), owner: owner.shortened(), written: Some(number) };
    let mut text = serde_json::to_vec(&record)?;
    let there = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let length = (text.len() + 1).max(there.min(MAX_RECORD)).next_multiple_of(BLOCK);
    if length > MAX_RECORD {
        return Err(io::Error::other("the path of the run's directory is too long for an owner record"));
    }
    text.resize(length - 1, b' ');
    text.push(b'\n');
    file.write_all_at(&text, 0)?;
    file.set_times(FileTimes::new().set_modified(SystemTime::from(owner.since)))
}

/// The record of a lock file; `None` for an empty one, which was released or just made.
pub(super) fn read(file: &File) -> Result<Option<Owner>, Unreadable> {
    let mut buffer = vec![0; MAX_RECORD + 1];
    look(|| file.read_at(&mut buffer, 0).map(|length| buffer[..length].to_vec()))
}

/// `read`, by path; `None` where there is no such file either.
///
/// # Errors
/// [`Unreadable`].
pub fn of(path: &Path) -> Result<Option<Owner>, Unreadable> {
    look(|| match crate::lock::open_to_read(path) {
        Ok(file) => {
            let mut buffer = vec![0; MAX_RECORD + 1];
            let length = file.read_at(&mut buffer, 0)?;
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    })
}

/// Reads until there is a record: one that is replaced at this moment may show as half of each.
fn look(mut bytes: impl FnMut() -> io::Result<Vec<u8>>) -> Result<Option<Owner>, Unreadable> {
    let mut looks = 0;
    loop {
        looks += 1;
        let bytes = bytes().map_err(|error| Unreadable { why: error.to_string() })?;
        match parse(&bytes) {
            Err(_) if looks < LOOKS => {}
            other => return other,
        }
    }
}

/// Reads a record from the bytes of a lock file; no bytes are no record.
///
/// # Errors
/// [`Unreadable`] for anything but a whole record.
pub fn parse(bytes: &[u8]) -> Result<Option<Owner>, Unreadable> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let unreadable = |why: String| Unreadable { why };
    if bytes.len() > MAX_RECORD {
        return Err(unreadable(format!("it is longer than {MAX_RECORD} bytes")));
    }
    let record: Record = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
    if record.write != record.written {
        return Err(unreadable("it is half of one record and half of another".to_owned()));
    }
    Ok(Some(record.owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(recipe: &str, run_id: &str) -> Owner {
        Owner {
            run_id: run_id.to_owned(),
            pid: 7,
            start_ticks: 8,
            boot_id: "b".to_owned(),
            run_dir: "/runs/7".into(),
            recipe: recipe.to_owned(),
            pr: None,
            git_ref: Some("main".to_owned()),
            phase: "install".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            deadline: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_command_of_any_length_leaves_a_record_of_one_block() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.as_file(), &owner(&"\u{1}x".repeat(20_000), "7")).unwrap();
        assert_eq!(file.as_file().metadata().unwrap().len(), BLOCK as u64);
        let read = read(file.as_file()).unwrap().unwrap();
        assert!(read.recipe.ends_with('…') && read.recipe.chars().count() == SHOWN + 1);
        let plain: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        assert_eq!(plain["run_id"], "7", "any reader of JSON can read it");
    }

    #[test]
    fn the_halves_of_two_records_are_no_record_and_not_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let blocks = ["one", "two"].map(|id| {
            write(file.as_file(), &owner("hello", id)).unwrap();
            std::fs::read(file.path()).unwrap()
        });
        let end = blocks[0].iter().rposition(|byte| *byte == b'}').unwrap();
        for cut in 1..end {
            let mixed = [&blocks[1][..cut], &blocks[0][cut..]].concat();
            if let Ok(found) = parse(&mixed) {
                assert!(blocks.iter().any(|block| found == parse(block).unwrap()), "cut at {cut}");
            }
            assert!(parse(&blocks[0][..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse(&[0; 100]).is_err(), "what a power cut may leave");
        assert_eq!(parse(b"").unwrap(), None);
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read() {
        let plain = serde_json::to_vec(&owner("hello", "7")).unwrap();
        assert_eq!(parse(&plain).unwrap(), Some(owner("hello", "7")));
    }
}
