//! A volume as one archive file.

use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::path::Path;

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
    let mut tar = tar::Archive::new(file);
    tar.set_preserve_permissions(true);
    tar.set_preserve_ownerships(nix::unistd::geteuid().is_root());
    tar.unpack(dir)
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
        fs::write(volume.join("later"), "y").unwrap();
        fs::remove_file(volume.join("sub/a")).unwrap();
        unpack(&file, &volume).unwrap();
        assert!(!volume.join("later").exists());
        assert_eq!(fs::read_to_string(volume.join("link")).unwrap().len(), 100_000);
        File::options().write(true).open(&file).unwrap().set_len(50_000).unwrap();
        assert!(read_through(&file).is_err());
    }
}
