//! Whether a run's secrets got into its own files. What is found is named, never shown.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ccci_core::redact::telling;
use ccci_core::rundir::{RunDir, file};

use crate::event::{Event, report};

/// So much of a file is in memory at once: a test may have written any amount.
const PART: u64 = 1 << 20;

/// Looks for the secrets in the run's files, and reports where they are.
pub(super) fn search(dir: &RunDir, secrets: &[String]) {
    // One that is empty or very short is in every file, and says nothing.
    let secrets: Vec<&[u8]> = secrets.iter().filter_map(|secret| telling(secret)).map(str::as_bytes).collect();
    let mut leaked_into = Vec::new();
    // The archives of the app's volumes are data of the app, and private to the run.
    let archives = dir.join(file::ARCHIVES);
    let mut queue = vec![dir.path().to_owned()];
    while let Some(path) = queue.pop() {
        let Ok(entries) = std::fs::read_dir(&path) else { continue };
        for entry in entries.flatten() {
            let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
            if kind.is_dir() && path != archives {
                queue.push(path);
            } else if kind.is_file() && has_any(&path, &secrets, PART).unwrap_or(false) {
                leaked_into.push(path.strip_prefix(dir.path()).unwrap_or(&path).display().to_string());
            }
        }
    }
    leaked_into.sort();
    report(dir, Event::Secrets { leaked_into });
}

/// Whether one of these is in a file, also where it lies across two parts of it.
fn has_any(path: &Path, secrets: &[&[u8]], part: u64) -> io::Result<bool> {
    let Some(longest) = secrets.iter().map(|secret| secret.len()).max() else { return Ok(false) };
    let mut file = File::open(path)?;
    let mut text = Vec::new();
    loop {
        let before = text.len();
        file.by_ref().take(part).read_to_end(&mut text)?;
        if secrets.iter().any(|secret| text.windows(secret.len()).any(|window| window == *secret)) {
            return Ok(true);
        }
        if text.len() == before {
            return Ok(false);
        }
        text.drain(..text.len().saturating_sub(longest - 1));
    }
}

#[cfg(test)]
mod tests {
    use ccci_core::name::RunId;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_secret_across_two_parts_is_found_and_an_empty_one_is_nowhere() {
        let runs = tempfile::tempdir().unwrap();
        let (dir, _) = RunDir::create(runs.path(), &RunId::new("1").unwrap()).unwrap();
        let path = dir.join("words");
        std::fs::write(&path, "0123456hunter2x").unwrap();
        for part in 1..20 {
            assert!(has_any(&path, &[b"hunter2"], part).unwrap(), "{part}");
            assert!(!has_any(&path, &[b"hunter3"], part).unwrap(), "{part}");
        }
        for nested in [dir.join(file::ARCHIVES), dir.join("logs/backup")] {
            std::fs::create_dir_all(&nested).unwrap();
            std::fs::write(nested.join("data"), "hunter2").unwrap();
        }
        search(&dir, &[String::new(), "ab".to_owned(), " \n".to_owned(), "hunter2".to_owned()]);
        let events: Vec<Value> = dir.lines(file::EVENTS).unwrap().items;
        assert_eq!(events[0]["leaked_into"], serde_json::json!(["logs/backup/data", "words"]), "{events:?}");
    }
}
