//! `/proc/locks`: who holds and who waits, in the kernel's own words (`proc_locks(5)`).
//!
//! A look is not for nothing: the kernel keeps every lock of the host from changing meanwhile, and for that waits until
//! nobody is in the middle of a change, some 5 to 15 ms. So no run looks but one that has to wait.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One `flock` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whether this is a waiter (`->`) behind the lock of the line above.
    pub waits: bool,
    /// Whether it is exclusive.
    pub exclusive: bool,
    /// The process that took or wants the lock. The kernel keeps the number when that process is
    /// gone and another shares the lock; inside a pid namespace it then leaves the line out.
    pub pid: u32,
    /// Device major and minor.
    pub device: (u32, u32),
    /// Inode.
    pub inode: u64,
}

/// Parses the whole file, keeping what `flock(2)` made; lines of another form are passed over.
#[must_use]
pub fn parse(text: &str) -> Vec<Entry> {
    text.lines().filter_map(parse_line).collect()
}

/// `12: FLOCK  ADVISORY  WRITE 708 00:13:15574 0 EOF`, a waiter with `->` after the number.
fn parse_line(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    words.next()?.strip_suffix(':')?;
    let mut kind = words.next()?;
    let waits = kind == "->";
    if waits {
        kind = words.next()?;
    }
    if kind != "FLOCK" {
        return None;
    }
    words.next()?;
    let exclusive = words.next()? == "WRITE";
    let pid = words.next()?.parse().ok()?;
    let mut place = words.next()?.split(':');
    let major = u32::from_str_radix(place.next()?, 16).ok()?;
    let minor = u32::from_str_radix(place.next()?, 16).ok()?;
    let inode = place.next()?.parse().ok()?;
    Some(Entry { waits, exclusive, pid, device: (major, minor), inode })
}

/// The entries of one lock file: holders first, then waiters in order.
///
/// # Errors
/// When the file or `/proc/locks` cannot be read.
pub fn of(path: &Path) -> io::Result<Vec<Entry>> {
    among(&all()?, path)
}

/// The entries of all lock files of the host.
///
/// # Errors
/// When `/proc/locks` cannot be read.
pub fn all() -> io::Result<Vec<Entry>> {
    Ok(parse(&std::fs::read_to_string("/proc/locks")?))
}

/// The entries of one lock file among all.
///
/// # Errors
/// When there is no such file.
pub fn among(entries: &[Entry], path: &Path) -> io::Result<Vec<Entry>> {
    let meta = path.symlink_metadata()?;
    Ok(of_inode(entries, meta.dev(), meta.ino()))
}

/// The entries of one inode among all.
#[must_use]
pub fn of_inode(entries: &[Entry], dev: u64, inode: u64) -> Vec<Entry> {
    let device = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let mut own: Vec<Entry> = entries.iter().copied().filter(|e| e.inode == inode && e.device == device).collect();
    own.sort_by_key(|entry| entry.waits);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_and_waiters_are_read_and_the_rest_passed_over() {
        let text = "1: POSIX  ADVISORY  READ 3548 fd:01:7867240 128 128\n\
                    2: FLOCK  ADVISORY  WRITE 708 00:13:15574 0 EOF\n\
                    2: -> FLOCK  ADVISORY  WRITE 709 00:13:15574 0 EOF\n\
                    3: OFDLCK ADVISORY  WRITE -1 fd:00:999 0 EOF\n\
                    garbage\n4: FLOCK ADVISORY WRITE x 0:0:0";
        let entries = parse(text);
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].pid, entries[0].waits, entries[0].device), (708, false, (0, 0x13)));
        assert_eq!((entries[1].pid, entries[1].waits, entries[1].inode), (709, true, 15574));
    }

    #[test]
    fn the_kernel_tells_of_a_lock_of_ours() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs2::FileExt::lock_exclusive(file.as_file()).unwrap();
        let entries = of(file.path()).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].pid, std::process::id());
        assert!(entries[0].exclusive);
    }
}
