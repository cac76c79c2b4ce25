//! What the documents' tables name exists: files, what is in them, tests.

use std::collections::BTreeSet;

use xshell::Shell;

/// The documents with such a table, and the section that it is in.
const CODE: (&str, &str) = ("docs/concurrency.md", "## Index");
const INCIDENTS: (&str, &str) = ("docs/incidents.md", "# ");

/// Everything that is named and does not exist, a line each.
pub(super) fn check(shell: &Shell, files: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for (document, heading) in [CODE, INCIDENTS].into_iter().filter(|(document, _)| files.iter().any(|f| f == document))
    {
        match shell.read_file(document) {
            Err(error) => problems.push(error.to_string()),
            Ok(text) => {
                let Some((_, section)) = text.split_once(heading) else {
                    problems.push(format!("{document}: has no section `{heading}`"));
                    continue;
                };
                let section = section.split("\n## ").next().unwrap_or_default();
                problems.extend(if document == INCIDENTS.0 { incidents(shell, section) } else { code(shell, section) });
            }
        }
    }
    problems
}

/// A row per file: the file, and what is in it.
fn code(shell: &Shell, section: &str) -> Vec<String> {
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    if rows.is_empty() {
        return vec![format!("{}: the index has no row", CODE.0)];
    }
    rows.into_iter().flat_map(|row| named(shell, CODE.0, row)).collect()
}

/// A row per incident: its tag, what went wrong, what guards against it, the test that shows it.
fn incidents(shell: &Shell, section: &str) -> Vec<String> {
    let document = INCIDENTS.0;
    let (mut problems, mut tags) = (Vec::new(), BTreeSet::new());
    for row in section.lines().filter(|line| line.starts_with("| [")) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect();
        let [tag, _, guard, test] = cells.as_slice() else {
            problems.push(format!("{document}: not tag, what, guard and test: {row:.60}"));
            continue;
        };
        if !tags.insert(*tag) {
            problems.push(format!("{document}: {tag} is there twice"));
        }
        problems.extend(named(shell, document, guard));
        let tests = named(shell, document, test);
        let names_one = test.split('`').skip(1).step_by(2).any(|word| !is_path(word));
        if tests.is_empty() && !names_one {
            problems.push(format!("{document}: {tag} names no test"));
        }
        problems.extend(tests);
    }
    if tags.is_empty() {
        problems.push(format!("{document}: has no row"));
    }
    problems
}

/// Of what stands in backticks: each path is a file, and each word behind it is in that file's code.
fn named(shell: &Shell, document: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut file: Option<(&str, String)> = None;
    for word in text.split('`').skip(1).step_by(2) {
        if is_path(word) {
            file = shell.read_file(word).ok().map(|source| (word, without_comments(&source)));
            if file.is_none() {
                problems.push(format!("{document}: the index names {word}, which does not exist"));
                // What would be in it is not missed as well.
                file = Some((word, word.to_owned()));
            }
            continue;
        }
        match &file {
            None => problems.push(format!("{document}: `{word}` stands behind no file")),
            Some((path, source)) if path != source && !has_word(source, word) => {
                problems.push(format!("{document}: {path} has no `{word}`"));
            }
            Some(_) => {}
        }
    }
    problems
}

fn is_path(word: &str) -> bool {
    word.contains('/')
        || word.rsplit_once('.').is_some_and(|(_, ending)| ["rs", "sh", "toml", "nix", "yml"].contains(&ending))
}

fn without_comments(source: &str) -> String {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| [line, "\n"]).collect()
}

/// Whether `word` is in `text` as a whole word, and not as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Shell) {
        let dir = tempfile::tempdir().unwrap();
        let shell = Shell::new().unwrap();
        shell.change_dir(dir.path());
        shell.write_file("a.rs", "// fn gone() {}\nfn here() {}\nfn it_holds() {}").unwrap();
        (dir, shell)
    }

    #[test]
    fn the_index_names_what_exists() {
        let (_dir, shell) = tree();
        assert!(code(&shell, "\n| `a.rs` | `here` |").is_empty());
        assert_eq!(code(&shell, "\n| `a.rs` | `gone`, `her` |\n| `b.rs` | `x` |").len(), 3);
        assert_eq!(code(&shell, "nothing").len(), 1, "an empty index is not a good one");
    }

    #[test]
    fn every_incident_names_a_guard_and_a_test_that_exist() {
        let (_dir, shell) = tree();
        let row = |guard: &str, test: &str| incidents(&shell, &format!("| [x] | it broke | {guard} | {test} |\n"));
        assert!(row("`a.rs` `here`", "`a.rs` `it_holds`").is_empty());
        assert_eq!(row("`a.rs` `gone`", "`a.rs` `it_holds`").len(), 1, "only a comment speaks of it");
        assert_eq!(row("`a.rs`", "`b.rs` `it_holds`").len(), 1);
        assert_eq!(row("`a.rs`", "`a.rs` `it_hold`").len(), 1, "half a name");
        assert_eq!(row("`a.rs`", "`a.rs`").len(), 1, "no test");
        assert_eq!(row("`here`", "`a.rs` `it_holds`").len(), 1, "no file");
        assert_eq!(incidents(&shell, "| [x] | it broke | `a.rs` |\n").len(), 2, "no fourth column, so no row");
        let twice = "| [x] | it broke | `a.rs` | `a.rs` `it_holds` |\n".repeat(2);
        assert_eq!(incidents(&shell, &twice).len(), 1);
        assert_eq!(incidents(&shell, "").len(), 1, "[hollow]: an empty table is not a good one");
    }
}
