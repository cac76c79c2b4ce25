//! The small disk of some rounds; unmounted at the end, whatever happens.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ccci_tests::host::Host;

#[derive(Debug)]
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts it; `None` where we may not.
    pub(crate) fn mount(host: &Host) -> Option<Self> {
        let path = host.path("small");
        fs::create_dir_all(&path).unwrap();
        let size = Some(c"size=2m,mode=755");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("chaos", &path, "tmpfs", flags, size).ok().map(|()| Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    pub(crate) fn free(&self) {
        let _gone = fs::remove_file(self.0.join("filler"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
