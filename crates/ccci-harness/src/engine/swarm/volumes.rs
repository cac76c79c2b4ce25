//! Backup and restore of a stack's volumes for the engine without abra: a tar per volume, read and
//! written where the daemon keeps it, which needs the daemon on this host and its owner's rights.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ccci_core::docker::Docker;
use ccci_core::docker::answers::{STACK_LABEL, Service, Volume};
use ccci_core::docker::change::Mark;
use ccci_core::docker::events::Event;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::process::is_exhausted;
use jiff::Timestamp;

use super::stack::Volume as Wanted;
use super::{look, stack};
use crate::engine::{Archive, EngineError, tarball};

/// How long the services may take to stop for a restore.
const STOP: Duration = Duration::from_secs(120);

/// The stack's volumes.
///
/// # Errors
/// [`EngineError::Host`] when Docker does not answer.
pub(super) fn of(docker: &Docker, stack: &str) -> Result<Vec<Volume>, EngineError> {
    let all = docker.volumes()?;
    Ok(all.into_iter().filter(|volume| volume.labels.get(STACK_LABEL).is_some_and(|label| label == stack)).collect())
}

/// The volumes that the recipe wants left out of its backup, by their names in it.
///
/// # Errors
/// [`EngineError::Host`] when Docker does not answer.
pub(super) fn left_out(docker: &Docker, stack: &str) -> Result<BTreeSet<String>, EngineError> {
    let services = look::services(docker, stack)?;
    let labels = services.iter().flat_map(|service| &service.spec.labels);
    Ok(labels.filter_map(|(key, value)| excluded(key, value)).map(str::to_owned).collect())
}

/// The volume that a label leaves out of the backup.
fn excluded<'key>(key: &'key str, value: &str) -> Option<&'key str> {
    let volume =
        ["backupbot.backup.volumes.", "backupbot.volumes."].iter().find_map(|begin| key.strip_prefix(begin))?;
    (value.trim().eq_ignore_ascii_case("false") && !volume.is_empty()).then_some(volume)
}

/// Saves every volume but those that are left out.
///
/// # Errors
/// [`EngineError`].
pub(super) fn save(
    docker: &Docker,
    stack: &str,
    left_out: &BTreeSet<String>,
    dir: &Path,
) -> Result<Archive, EngineError> {
    fs::create_dir_all(dir).map_err(|error| EngineError::Host(format!("cannot create {}: {error}", dir.display())))?;
    let mut files = BTreeMap::new();
    for volume in of(docker, stack)?.into_iter().filter(|volume| !left_out.contains(stack::of_any(&volume.name, stack)))
    {
        let file = dir.join(format!("{}.tar", volume.name));
        tarball::pack(Path::new(&volume.mountpoint), &file).map_err(|error| failed("save", &volume, &error))?;
        files.insert(volume.name, file);
    }
    Ok(Archive::Files(files))
}

/// That every volume's files are where Docker keeps volumes: one with options (`nfs`, `bind`) is mounted there
/// only while a container uses it, and what would be kept of it, or put there, is hidden then.
///
/// # Errors
/// [`EngineError`], naming the volume.
pub(super) fn expect_own(docker: &Docker, stack: &str) -> Result<(), EngineError> {
    match of(docker, stack)?.into_iter().find(|volume| !volume.options.is_empty()) {
        Some(volume) => Err(EngineError::Host(format!("volume {} is mounted from elsewhere", volume.name))),
        None => Ok(()),
    }
}

/// [`expect_own`], and that the volumes together are not longer than `most` bytes.
///
/// # Errors
/// [`EngineError`], with how much it is.
pub(super) fn expect_small(docker: &Docker, stack: &str, most: u64) -> Result<(), EngineError> {
    expect_own(docker, stack)?;
    let volumes = of(docker, stack)?;
    let bytes: io::Result<u64> = volumes.iter().map(|volume| tarball::bytes(Path::new(&volume.mountpoint))).sum();
    let bytes = bytes.map_err(|error| EngineError::Host(format!("cannot read the volumes: {error}")))?;
    if bytes > most {
        let why = format!("its data are {} MB, `[snapshots] max_mb` is {}", bytes >> 20, most >> 20);
        return Err(EngineError::Host(why));
    }
    Ok(())
}

/// Makes a volume as the stack would, and fills it.
///
/// # Errors
/// [`EngineError`].
pub(super) fn fill(docker: &Docker, mark: &Mark, wanted: &Wanted, archive: &File) -> Result<(), EngineError> {
    let driver = wanted.driver.iter().flat_map(|driver| ["--driver".to_owned(), driver.clone()]);
    let options = wanted.options.iter().flat_map(|(key, value)| ["--opt".to_owned(), format!("{key}={value}")]);
    let labels = mark.labels().into_iter().flat_map(|(key, value)| ["--label".to_owned(), format!("{key}={value}")]);
    let job = docker.job(["volume", "create"]).args(labels).args(driver).args(options).args([&wanted.name]);
    let made = job.timeout(Duration::from_secs(60)).run_ok(&mut |_| {});
    made.map_err(|error| EngineError::Host(error.to_string()))?;
    let volume = of(docker, &mark.stack)?.into_iter().find(|volume| volume.name == wanted.name);
    let volume = volume.ok_or_else(|| EngineError::Host(format!("Docker does not have volume {}", wanted.name)))?;
    // Kept data, and the room for them, are the host's affair: nothing of what is tested.
    tarball::unpack_open(archive, Path::new(&volume.mountpoint))
        .map_err(|error| EngineError::Host(format!("cannot fill volume {}: {error}", volume.name)))
}

/// Stops the services, puts the volumes back, starts the services again.
///
/// # Errors
/// [`EngineError`].
pub(super) fn put_back(docker: &Docker, stack: &str, files: &BTreeMap<String, PathBuf>) -> Result<(), EngineError> {
    let services: Vec<Service> = docker.services()?;
    let own: Vec<(String, u64)> = services
        .iter()
        .filter(|service| service.spec.labels.get(STACK_LABEL).is_some_and(|label| label == stack))
        .filter_map(|service| Some((service.spec.name.clone(), service.spec.mode.replicated.as_ref()?.replicas)))
        .collect();
    scale(docker, own.iter().map(|(name, _)| (name, 0)))?;
    wait_until_stopped(docker, stack)?;
    for volume in of(docker, stack)? {
        if let Some(file) = files.get(&volume.name) {
            tarball::unpack(file, Path::new(&volume.mountpoint)).map_err(|error| failed("restore", &volume, &error))?;
        }
    }
    scale(docker, own.iter().map(|(name, replicas)| (name, *replicas)))
}

fn scale<'name>(docker: &Docker, to: impl Iterator<Item = (&'name String, u64)>) -> Result<(), EngineError> {
    let wanted = to.map(|(name, replicas)| format!("{name}={replicas}"));
    let job = docker.job(["service", "scale", "--detach"]).args(wanted).timeout(Duration::from_secs(60));
    job.run_ok(&mut |_| {}).map(drop).map_err(|error| EngineError::Host(error.to_string()))
}

fn wait_until_stopped(docker: &Docker, stack: &str) -> Result<(), EngineError> {
    let until = Deadline::after(STOP);
    loop {
        let since = Timestamp::now();
        let containers = docker.containers()?;
        let left = containers
            .iter()
            .filter(|container| {
                container.state == "running" && container.labels.get(STACK_LABEL).is_some_and(|label| label == stack)
            })
            .count();
        if left == 0 {
            return Ok(());
        }
        if until.passed() {
            return Err(EngineError::Recipe(format!("{left} containers did not stop for the restore")));
        }
        docker.wait_for_change(&[Event::Container], since, until.left().min(Duration::from_secs(5)))?;
    }
}

fn failed(doing: &str, volume: &Volume, error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => EngineError::Host(format!(
            "cannot {doing} volume {} at {}: {error}; without abra this needs a daemon on this host, and root",
            volume.name, volume.mountpoint
        )),
        _ if is_exhausted(error) => EngineError::Host(format!("cannot {doing} volume {}: {error}", volume.name)),
        _ => EngineError::Recipe(format!("cannot {doing} volume {}: {error}", volume.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_left_out_by_its_label() {
        assert_eq!(excluded("backupbot.backup.volumes.cache", "false"), Some("cache"));
        assert_eq!(excluded("backupbot.volumes.cache", "False"), Some("cache"));
        assert_eq!(excluded("backupbot.backup.volumes.data", "true"), None);
        assert_eq!(excluded("backupbot.backup.volumes.data.path", "dump.sql"), None);
        assert_eq!(excluded("backupbot.backup", "false"), None);
    }
}
