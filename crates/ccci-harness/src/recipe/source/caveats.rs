//! What a clone does not have though its commit names it: said, as what is tested is then not what the author sees.

use std::io::Read as _;
use std::path::Path;

use ccci_core::process::git;

use super::SourceError;

/// How the content of a file begins that is in Git LFS, and not here.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// A longer file is no pointer.
const LONGEST_POINTER: u64 = 1024;

/// What is missing in a tree that is checked out, one line each.
///
/// # Errors
/// [`SourceError::Host`], when git cannot tell.
pub(super) fn of(tree: &Path, commit: &str) -> Result<Vec<String>, SourceError> {
    let ask = |args: &[&str]| {
        let asked = git(tree).args(args).capture().run_ok(&mut |_| {});
        asked.map(|done| done.stdout).map_err(|error| SourceError::Host(error.to_string()))
    };
    let mut found = Vec::new();
    if ask(&["rev-parse", "--is-shallow-repository"])?.trim_ascii() == b"true" {
        found.push(
            "the source is shallow: releases and commits before what it has are not known; fetch it with its history"
                .to_owned(),
        );
    }
    let mut pointers = Vec::new();
    for entry in ask(&["ls-tree", "-r", "-l", "-z", commit])?.split(|byte| *byte == 0).filter(|entry| !entry.is_empty())
    {
        let text = String::from_utf8_lossy(entry);
        let Some((head, path)) = text.split_once('\t') else {
            return Err(SourceError::Host(format!("git ls-tree printed `{text}`, which is no entry")));
        };
        let words: Vec<&str> = head.split_whitespace().collect();
        let [mode, _, _, size] = words.as_slice() else {
            return Err(SourceError::Host(format!("git ls-tree printed `{text}`, which is no entry")));
        };
        if *mode == "160000" {
            found.push(format!("`{path}` is a submodule, and its files are not fetched"));
            continue;
        }
        let small = mode.starts_with("100") && size.parse().is_ok_and(|size: u64| size <= LONGEST_POINTER);
        let cannot = |error| SourceError::Host(format!("cannot read {path}: {error}"));
        if small && is_pointer(&tree.join(path)).map_err(cannot)? {
            pointers.push(path.to_owned());
        }
    }
    if let Some(first) = pointers.first() {
        let number = pointers.len();
        found.push(format!(
            "{number} file(s), `{first}` the first, are in Git LFS, and only their pointers are fetched"
        ));
    }
    Ok(found)
}

/// Whether a file has a pointer in the place of its content. One that is not there was not checked out, and is none.
fn is_pointer(path: &Path) -> std::io::Result<bool> {
    let kind = match path.symlink_metadata() {
        Ok(kind) => kind,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !kind.is_file() {
        return Ok(false);
    }
    let mut begin = Vec::new();
    std::fs::File::open(path)?.take(POINTER.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == POINTER)
}
