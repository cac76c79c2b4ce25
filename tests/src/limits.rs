//! Limits that a test puts on a process of its own.

use std::fs;
use std::path::{Path, PathBuf};

/// A process, and what it will start, that can start nothing more: a control group without room for another.
#[derive(Debug)]
pub struct NoRoom {
    group: PathBuf,
}

impl NoRoom {
    /// Puts a process where it can start nothing.
    ///
    /// # Panics
    /// Where no control group can be made, which root can wherever the suites run.
    #[must_use]
    pub fn around(pid: i32) -> Self {
        let base = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
        let base = base.into_iter().find(|base| base.is_dir()).unwrap();
        let group = base.join(format!("ccci-test-no-room-{pid}"));
        fs::create_dir(&group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
        let room = Self { group };
        room.set("1");
        fs::write(room.group.join("cgroup.procs"), pid.to_string()).unwrap();
        room
    }

    /// Takes the limit away.
    pub fn lift(&self) {
        self.set("max");
    }

    fn set(&self, limit: &str) {
        let file = self.group.join("pids.max");
        fs::write(&file, limit).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

impl Drop for NoRoom {
    fn drop(&mut self) {
        // Who was in it has ended, and is gone from it a moment after it was collected.
        let gone = || fs::remove_dir(&self.group).ok();
        if std::thread::panicking() {
            gone();
        } else {
            crate::host::until("the group of the test is empty", gone);
        }
    }
}
