//! A volume as one archive file.

use std::fs::{self, File, Permissions};
use std::io::{self, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};

/// Packs a directory, its symlinks as they are.
///
/// # Errors
/// What the kernel says.
pub(crate) fn pack(dir: &Path, file: &Path) -> io::Result<()> {
    let mut tar = tar::Builder::new(File::create(file)?);
    tar.follow_symlinks(false);
    tar.append_dir_all(".", dir)?;
    tar.into_inner()?.sync_all()
}

/// How many bytes the files below a directory have. What goes away meanwhile has none.
///
/// # Errors
/// What the kernel says.
pub(crate) fn bytes(dir: &Path) -> io::Result<u64> {
    let (mut sum, mut open) = (0, vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) => sum += meta.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(sum)
}

/// Empties a directory and unpacks an archive into it. The directory itself stays: something may have
/// it mounted.
///
/// # Errors
/// What the kernel says.
pub(crate) fn unpack(file: &Path, dir: &Path) -> io::Result<()> {
    unpack_open(&File::open(file)?, dir)
}

/// [`unpack`], from the beginning of an open file.
///
/// # Errors
/// What the kernel says.
pub(crate) fn unpack_open(mut file: &File, dir: &Path) -> io::Result<()> {
    file.rewind()?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    let root = nix::unistd::geteuid().is_root();
    let mut tar = tar::Archive::new(file);
    tar.set_preserve_permissions(true);
    tar.set_preserve_ownerships(root);
    tar.unpack(dir)?;
    // The directory itself is passed over by that, and an app that is not root must be able to write into it.
    file.rewind()?;
    if let Some(entry) = tar::Archive::new(file).entries()?.next() {
        let header = entry?.header().clone();
        if header.entry_type().is_dir() && header.path()?.components().eq([Component::CurDir]) {
            if root {
                let id = |id: u64| u32::try_from(id).map_err(io::Error::other);
                std::os::unix::fs::chown(dir, Some(id(header.uid()?)?), Some(id(header.gid()?)?))?;
            }
            fs::set_permissions(dir, Permissions::from_mode(header.mode()? & 0o7777))?;
        }
    }
    Ok(())
}

/// Reads an archive to its end; how many entries it has.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_through(file: &Path) -> io::Result<usize> {
    let mut entries = 0;
    for entry in tar::Archive::new(File::open(file)?).entries()? {
        io::copy(&mut entry?, &mut io::sink())?;
        entries += 1;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_replaces_and_a_truncated_archive_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir_all(volume.join("sub")).unwrap();
        fs::write(volume.join("sub/a"), "x".repeat(100_000)).unwrap();
        std::os::unix::fs::symlink("sub/a", volume.join("link")).unwrap();
        let file = dir.path().join("v.tar");
        pack(&volume, &file).unwrap();
        assert_eq!(read_through(&file).unwrap(), 4);
        assert_eq!(bytes(&volume).unwrap(), 100_005, "the link by its own length");
        fs::write(volume.join("later"), "y").unwrap();
        fs::remove_file(volume.join("sub/a")).unwrap();
        unpack(&file, &volume).unwrap();
        assert!(!volume.join("later").exists());
        assert_eq!(fs::read_to_string(volume.join("link")).unwrap().len(), 100_000);
        let fresh = dir.path().join("fresh");
        fs::create_dir(&fresh).unwrap();
        fs::set_permissions(&volume, Permissions::from_mode(0o2770)).unwrap();
        pack(&volume, &file).unwrap();
        unpack(&file, &fresh).unwrap();
        assert_eq!(fs::metadata(&fresh).unwrap().permissions().mode() & 0o7777, 0o2770, "its own rights too");
        File::options().write(true).open(&file).unwrap().set_len(50_000).unwrap();
        assert!(read_through(&file).is_err());
    }
}
