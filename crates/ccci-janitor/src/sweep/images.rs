//! Images that nobody uses, and the addresses that are left: what a host runs out of by and by.
//!
//! Pruned is only what has no name, only on a disk that is nearly full, and only while no run is live
//! (`[prune]`): runs hold the host lock together, a prune alone. Never `--all`, never volumes.

use std::fs::File;
use std::io;

use ccci_core::docker::{Docker, DockerError, Endpoint};
use ccci_core::lock::slots::open_host_lock;
use ccci_core::weaken::{self, Protection};

use super::Sweep;
use crate::report::{Finding, Pruned};
use crate::survey::Survey;

/// A disk that is fuller than this, in percent of its bytes or inodes, is worth a prune.
const FULL: u64 = 80;

impl Sweep<'_> {
    /// Looks at the Docker host, if there is one that answered, and prunes where it is due.
    pub(super) fn look_after_images(&mut self, survey: &Survey) {
        if !survey.answered.contains("swarm") || self.until.passed() {
            return;
        }
        match self.look_at_docker() {
            Ok(()) => {}
            Err(error) => self.report.unreadable.push(format!("docker: {error}")),
        }
    }

    fn look_at_docker(&mut self) -> Result<(), DockerError> {
        let Some(endpoint) = Endpoint::find()? else { return Ok(()) };
        let docker = Docker::new(endpoint);
        let host = docker.host()?;
        self.report.addresses = host.addresses;
        let Some(full) = host.disk.map(|disk| disk.percent_full()).filter(|full| *full >= FULL) else { return Ok(()) };
        let what = format!("image prune (disk {full} % full)");
        let live = |finding: &Finding| matches!(finding, Finding::Live { .. } | Finding::PossiblyLeaked { .. });
        if self.report.findings.iter().any(live) {
            self.skipped(what, "a run is live");
            return Ok(());
        }
        if self.options.dry_run {
            self.skipped(what, "would be done");
            return Ok(());
        }
        let lock = match self.alone() {
            Ok(lock) => lock,
            Err(error) => {
                let contended = error.raw_os_error() == fs2::lock_contended_error().raw_os_error();
                let why = if contended { io::Error::other("a run is live") } else { error };
                self.skipped(what, why);
                return Ok(());
            }
        };
        let pruned = docker.prune_images();
        drop(lock);
        let pruned = pruned?;
        self.report.pruned = Some(Pruned { images: pruned.images_deleted.len(), bytes: pruned.space_reclaimed });
        Ok(())
    }

    /// The host lock, alone.
    fn alone(&self) -> io::Result<File> {
        let file = open_host_lock(&self.places.lock_dir)?;
        if weaken::on(Protection::PruneAlone) {
            fs2::FileExt::try_lock_exclusive(&file)?;
        }
        Ok(file)
    }
}
