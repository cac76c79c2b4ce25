//! Whether a run's secrets got into its own files. What is found is named, never shown; where nobody could look, nobody
//! says that there is nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ccci_core::redact::Searcher;
use ccci_core::rundir::{RunDir, file};

use crate::console::Console;
use crate::event::{Event, report};

/// No more than this is read of one run: a test may have written any amount, and a deadline is running.
const MOST: u64 = 4 << 30;

/// What was found.
#[derive(Debug, Default)]
struct Found {
    leaked_into: Vec<String>,
    /// What could not be looked at, and why.
    unseen: Vec<String>,
    read: u64,
}

/// Looks for the secrets in the run's files, and reports where they are.
pub(super) fn search(dir: &RunDir, secrets: &[String], console: &mut Console) {
    let mut found = match Searcher::new(secrets) {
        Ok(searcher) if searcher.looks() => look(dir, &searcher, MOST),
        // There is nothing that could have got anywhere.
        Ok(_) => Found::default(),
        Err(error) => Found { unseen: vec![error.to_string()], ..Found::default() },
    };
    found.leaked_into.sort();
    if !found.unseen.is_empty() {
        let text = format!("not searched for secrets: {}", found.unseen.join("; "));
        console.say(&format!("!! {text}"));
        report(dir, Event::Note { text });
        // Nothing was found, and not everything was looked at: nobody knows.
        if found.leaked_into.is_empty() {
            return;
        }
    }
    report(dir, Event::Secrets { leaked_into: found.leaked_into });
}

fn look(dir: &RunDir, searcher: &Searcher, most: u64) -> Found {
    let mut found = Found::default();
    // The archives of the app's volumes are data of the app, and private to the run.
    let archives = dir.join(file::ARCHIVES);
    let mut queue = vec![dir.path().to_owned()];
    while let Some(folder) = queue.pop() {
        let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match entries {
            Ok(entries) => entries,
            // A test's process that is not quite gone may still tidy up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                found.unseen.push(format!("{}: {error}", folder.display()));
                continue;
            }
        };
        for entry in entries {
            let path = entry.path();
            match examine(&path, &entry, searcher, &mut found.read, most) {
                Ok(Seen::Folder) if path != archives => queue.push(path),
                Ok(Seen::Secret) => found.leaked_into.push(shown(dir, &path)),
                Ok(Seen::Folder | Seen::Nothing) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => found.unseen.push(format!("{}: {error}", shown(dir, &path))),
            }
        }
    }
    found
}

enum Seen {
    Folder,
    Secret,
    Nothing,
}

fn examine(path: &Path, entry: &fs::DirEntry, searcher: &Searcher, read: &mut u64, most: u64) -> io::Result<Seen> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        return Ok(Seen::Folder);
    }
    // What is behind a link is not the run's, and a pipe has no end.
    if !kind.is_file() {
        return Ok(Seen::Nothing);
    }
    let text = File::open(path)?;
    let size = text.metadata()?.len();
    if size > most.saturating_sub(*read) {
        return Err(io::Error::other(format!("{size} bytes are more than are searched")));
    }
    *read += size;
    Ok(if searcher.is_in(text)? { Seen::Secret } else { Seen::Nothing })
}

fn shown(dir: &RunDir, path: &Path) -> String {
    let inside: PathBuf = path.strip_prefix(dir.path()).unwrap_or(path).to_owned();
    inside.display().to_string()
}

#[cfg(test)]
mod tests {
    use ccci_core::name::RunId;
    use serde_json::{Value, json};

    use super::*;

    fn searched(files: &[(&str, &str)], prepare: impl Fn(&RunDir)) -> Vec<Value> {
        let runs = tempfile::tempdir().unwrap();
        let (dir, _) = RunDir::create(runs.path(), &RunId::new("1").unwrap()).unwrap();
        for (name, text) in files {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), text).unwrap();
        }
        prepare(&dir);
        let secrets = [String::new(), "ab".to_owned(), " \n".to_owned(), "hunter2".to_owned()];
        search(&dir, &secrets, &mut Console::silent());
        dir.lines(file::EVENTS).unwrap().items
    }

    #[test]
    fn a_secret_is_found_in_every_file_but_the_apps_own_archives() {
        let events = searched(
            &[
                ("words", "ab hunter2x"),
                ("half", "hunt"),
                ("logs/a.log", "aHVudGVyMg=="),
                ("logs/backup/data", "68756e74\n657232"),
                (&format!("{}/data", file::ARCHIVES), "hunter2"),
            ],
            |_| {},
        );
        assert_eq!(events[0]["leaked_into"], json!(["logs/a.log", "logs/backup/data", "words"]), "{events:?}");
        assert_eq!(searched(&[("words", "hunter")], |_| {})[0]["leaked_into"], json!([]));
    }

    #[test]
    fn where_nobody_could_look_nobody_says_that_there_is_nothing() {
        let runs = tempfile::tempdir().unwrap();
        let (dir, _) = RunDir::create(runs.path(), &RunId::new("1").unwrap()).unwrap();
        fs::write(dir.join("big"), "0123456789").unwrap();
        let searcher = Searcher::new(&["hunter2".to_owned()]).unwrap();
        let found = look(&dir, &searcher, 9);
        assert!(found.leaked_into.is_empty());
        assert_eq!(found.unseen, ["big: 10 bytes are more than are searched"]);
        let none: &[(&str, &str)] = &[];
        let events = searched(none, |dir| std::os::unix::fs::symlink("/proc/self/mem", dir.join("link")).unwrap());
        assert_eq!(events[0]["leaked_into"], json!([]), "a link leads elsewhere");
        // A file of the kernel's that cannot be read from its begin stands for a bad disk.
        assert!(searcher.is_in(File::open("/proc/self/mem").unwrap()).is_err());
    }
}
