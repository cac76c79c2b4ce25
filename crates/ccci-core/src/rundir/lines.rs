//! Files that grow by a line of JSON at a time, and are written by several processes at once.
//!
//! A full disk, a SIGKILL or a program that is none of ours may leave part of a line. That costs this part alone: who
//! appends next begins a line of its own, and who reads gets every other line, and is told of what it did not get.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;

use crate::weaken::{self, Protection};

/// No line of ours gets near this; more than that is not read into memory.
const LONGEST: u64 = 16 << 20;
/// How often a line is written anew that was cut short, or was glued to what somebody else had left.
const TRIES: u32 = 4;

/// What could be read of such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines<T> {
    /// The lines that could be understood, in order.
    pub items: Vec<T>,
    /// The others.
    pub torn: Vec<Torn>,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { items: Vec::new(), torn: Vec::new() }
    }
}

/// A line that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Torn {
    /// Its number, from one.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// A plain file, also where somebody has put a link or a FIFO in its place: that is an error, and blocks nobody.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Appends `line`, which ends with a newline, in one write, so that the lines of several processes do not mix.
///
/// The line is whole and by itself when this returns; what of it was written before an error is cut off by the next
/// line that is appended.
pub(super) fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = open(path, OpenOptions::new().read(true).append(true).create(true).mode(0o600))?;
    let mut apart = Vec::with_capacity(line.len() + 1);
    apart.push(b'\n');
    apart.extend_from_slice(line);
    for tried in 0..TRIES {
        // After a try that failed nothing is looked at any more: behind a newline of its own a line is whole, whoever
        // leaves a half in this moment.
        let behind_half = tried > 0 || !ends_a_line(&file, file.metadata()?.len())?;
        let heal = behind_half && weaken::on(Protection::HealedLine);
        let bytes = if heal { &*apart } else { line };
        let written = match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if written < bytes.len() {
            // The rest could only go behind what another process has written by now.
            continue;
        }
        let begun = file.stream_position()?.saturating_sub(bytes.len() as u64);
        if heal || ends_a_line(&file, begun)? || !weaken::on(Protection::HealedLine) {
            return Ok(());
        }
        // Between the look and the write somebody left part of a line.
    }
    Err(io::Error::new(io::ErrorKind::WriteZero, "each try was cut short"))
}

/// Whether what is before `end` is a whole line, or nothing.
fn ends_a_line(file: &File, end: u64) -> io::Result<bool> {
    let Some(last) = end.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    // Nothing is there where somebody has emptied the file in between.
    Ok(file.read_at(&mut byte, last)? == 0 || byte == *b"\n")
}

/// The lines of a file; a missing file has none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Lines<T>> {
    let mut lines = Lines::default();
    let mut file = match open(path, OpenOptions::new().read(true)) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lines),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if file.by_ref().take(LONGEST).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let whole = bytes.pop_if(|last| *last == b'\n').is_some();
        if !whole && bytes.len() as u64 == LONGEST {
            file.skip_until(b'\n')?;
        }
        if bytes.is_empty() {
            continue;
        }
        match serde_json::from_slice(&bytes) {
            Ok(item) => lines.items.push(item),
            Err(error) => lines.torn.push(Torn { line, why: error.to_string() }),
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(path: &Path, bytes: &[u8]) {
        OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn a_torn_line_costs_only_itself_and_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        append(&path, b"1\n").unwrap();
        for torn in [&b"{\"tor"[..], b"{\"text\":\"\xc3", b"\xff\xfe\n", b"\"\0", b"[1,"] {
            add(&path, torn);
            append(&path, b"2\n").unwrap();
        }
        add(&path, b"\n\n3");
        let lines = read::<u32>(&path).unwrap();
        assert_eq!(lines.items, [1, 2, 2, 2, 2, 2, 3], "a whole number at the end is taken for what it is");
        assert_eq!(lines.torn.iter().map(|torn| torn.line).collect::<Vec<_>>(), [2, 4, 6, 8, 10]);
        assert_eq!(read::<u32>(&dir.path().join("none")).unwrap(), Lines::default());
    }

    #[test]
    fn what_is_no_regular_file_is_an_error_and_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, link, folder) = (dir.path().join("fifo"), dir.path().join("link"), dir.path().join("folder"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("elsewhere", &link).unwrap();
        std::fs::create_dir(&folder).unwrap();
        for path in [fifo, link, folder] {
            assert!(read::<u32>(&path).is_err(), "{}", path.display());
            assert!(append(&path, b"1\n").is_err(), "{}", path.display());
        }
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn lines_of_many_writers_are_whole_beside_one_that_leaves_halves() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::thread::scope(|scope| {
            for writer in 0..4_u32 {
                let path = &path;
                scope.spawn(move || {
                    for number in 0..250 {
                        append(path, format!("{}\n", writer * 1000 + number).as_bytes()).unwrap();
                    }
                });
            }
            scope.spawn(|| (0..500).for_each(|_| add(&path, b"{\"half")));
        });
        let mut items = read::<u32>(&path).unwrap().items;
        items.sort_unstable();
        items.dedup();
        assert_eq!(items.len(), 1000);
    }
}
