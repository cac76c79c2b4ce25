//! A gate: two FIFOs at which a script of a run stands still until the test has seen it there.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::host;

/// A gate. Whoever comes to it says so and waits; dropping it lets everybody through.
#[derive(Debug)]
pub struct Gate {
    reached: PathBuf,
    open: PathBuf,
    // Both are held for reading and writing, so that nobody blocks in `open(2)`.
    arrivals: File,
    key: File,
}

impl Gate {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let fifo = |suffix: &str| {
            let path = dir.join(format!("{name}.{suffix}"));
            nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
            let flags = OFlag::O_NONBLOCK.bits();
            let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path).unwrap();
            (path, file)
        };
        let ((reached, arrivals), (open, key)) = (fifo("reached"), fifo("open"));
        Self { reached, open, arrivals, key }
    }

    /// What a script does at the gate: says its pid, and waits.
    #[must_use]
    pub fn pass(&self) -> String {
        format!("echo $$ >'{}'; read -r _ <'{}'", self.reached.display(), self.open.display())
    }

    /// What a script does to say that it has come, without waiting.
    #[must_use]
    pub fn knock(&self) -> String {
        format!("echo $$ >'{}'", self.reached.display())
    }

    /// What a script does to wait, without saying so.
    #[must_use]
    pub fn wait(&self) -> String {
        format!("read -r _ <'{}'", self.open.display())
    }

    /// Waits until somebody has come; its pid.
    pub fn reached(&self) -> i32 {
        host::until("somebody comes to the gate", || self.arrival())
    }

    /// Who has come and was not asked for yet, if anybody.
    pub fn arrival(&self) -> Option<i32> {
        let mut line = Vec::new();
        let mut byte = [0];
        // One `echo` is one write, so a line that has begun is there.
        while (&self.arrivals).read(&mut byte).is_ok_and(|n| n == 1) {
            if byte[0] == b'\n' {
                return Some(String::from_utf8_lossy(&line).trim().parse().unwrap());
            }
            line.push(byte[0]);
        }
        None
    }

    /// Lets one through.
    pub fn open(&self) {
        (&self.key).write_all(b"\n").unwrap();
    }
}
