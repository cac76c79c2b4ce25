//! Images that nobody uses, and the addresses that are left: what a host runs out of by and by.
//!
//! Pruned is only what has no name, only on a disk that is nearly full, and only while no run is live
//! (`[prune]`): runs hold the host lock together, a prune alone. Never `--all`, never volumes.

use ccci_core::docker::{Docker, DockerError, Endpoint};
use ccci_core::lock::slots::alone;

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
        let lock = match alone(&self.places.lock_dir) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                self.skipped(what, "a run is live");
                return Ok(());
            }
            Err(error) => {
                self.skipped(what, error);
                return Ok(());
            }
        };
        let pruned = docker.prune_images();
        drop(lock);
        let pruned = pruned?;
        self.report.pruned = Some(Pruned { images: pruned.images_deleted.len(), bytes: pruned.space_reclaimed });
        Ok(())
    }
}
