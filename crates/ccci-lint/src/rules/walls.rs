//! The walls of `docs/architecture.md`, where the compiler and clippy do not hold them: who may name whom, and
//! what may be done in one place only. `clippy.toml` forbids the calls; here the list of exceptions ends.

use xshell::Shell;

/// The modules of core from the bottom up: each may name those before it. `name` names nothing but the switch
/// of a test build.
const LAYERS: [&str; 18] = [
    "weaken",
    "name",
    "reason",
    "redact",
    "visible",
    "resolve",
    "config",
    "policy",
    "lifetime",
    "lock",
    "process",
    "abra",
    "docker",
    "substrate",
    "rundir",
    "snapshot",
    "memory",
    "teardown",
];
const CORE: &str = "crates/ccci-core/src/";

/// Whom of the workspace a crate may depend on.
const CRATES: [(&str, &[&str]); 7] = [
    ("ccci-core", &[]),
    ("ccci-manual", &[]),
    // Two programs that must agree do so in core: what one knows of the other's inside drifts apart.
    ("ccci-janitor", &["ccci-core", "ccci-manual"]),
    ("ccci-lint", &["ccci-core", "ccci-manual"]),
    // What is asked of a forge, by a run and by the bridge.
    ("ccci-forge", &["ccci-core"]),
    // The one program that the network reaches: it is no part of another, and the only one that is asynchronous.
    ("ccci-bridge", &["ccci-core", "ccci-forge", "ccci-manual"]),
    ("ccci-harness", &["ccci-core", "ccci-forge", "ccci-manual", "ccci-lint"]),
];

/// What is said in some places only.
struct Wall {
    words: &'static [&'static str],
    /// Where it may stand: a path, or what it begins with.
    home: &'static [&'static str],
    /// Whether tests keep to it too.
    tests: bool,
    why: &'static str,
}

const WALLS: [Wall; 6] = [
    Wall {
        words: &["unsafe"],
        home: &["crates/ccci-core/src/lifetime/"],
        tests: true,
        why: "unsafe code is in ccci_core::lifetime only",
    },
    Wall {
        words: &["process::Command", "libc::clone", "vfork", "fork", "execv", "execve", "posix_spawn"],
        home: &["crates/ccci-core/src/process", "crates/ccci-core/src/lifetime"],
        tests: false,
        why: "processes start in ccci_core::process only: own group, no lock fd, death signal, timeout",
    },
    Wall {
        words: &["process::exit", "process::abort", "_exit"],
        home: &["crates/ccci-core/src/lifetime/"],
        tests: true,
        why: "an exit in the middle skips the teardown: return an ExitCode",
    },
    Wall {
        words: &["thread::spawn", "thread::Builder", "thread::scope"],
        // A name that is looked up, and the bridge's loop: they start no process either.
        home: &["crates/ccci-core/src/lock.rs", "crates/ccci-core/src/resolve.rs", "crates/ccci-bridge/src/service.rs"],
        tests: false,
        why: "a child dies with the thread that started it: threads are where the lock is waited for",
    },
    Wall {
        words: &["killpg"],
        home: &["crates/ccci-core/src/process/watch.rs"],
        tests: false,
        why: "a group's number may be another's: only who has not collected its leader yet may use it",
    },
    Wall {
        words: &["#[ignore", "todo!", "unimplemented!"],
        home: &[],
        tests: true,
        why: "what is not done is not there, and a test runs or does not exist",
    },
];

/// Everything that goes through a wall, a line each.
pub(super) fn check(shell: &Shell, files: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        let manifest = file.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml"));
        if manifest.is_none() && !file.ends_with(".rs") {
            continue;
        }
        // One that was deleted and not committed yet breaks no rule.
        let Ok(text) = shell.read_file(file) else { continue };
        match manifest {
            Some(name) => problems.extend(dependencies(name, &text)),
            None => problems.extend(source(file, &text)),
        }
    }
    problems
}

fn dependencies(name: &str, text: &str) -> Vec<String> {
    let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else {
        return vec![format!("crates/{name}: say in docs/architecture.md and in the lint whom it may depend on")];
    };
    let named = text.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    let siblings = named.filter(|word| CRATES.iter().any(|(known, _)| known == word));
    let astray = siblings.filter(|sibling| !allowed.contains(sibling));
    astray.map(|sibling| format!("crates/{name}/Cargo.toml: {name} must not depend on {sibling}")).collect()
}

fn source(file: &str, text: &str) -> Vec<String> {
    let whole = code(text);
    let own = whole.split("#[cfg(test)]").next().unwrap_or_default();
    let is_test = !file.starts_with("crates/") || !file.contains("/src/");
    let mut problems = Vec::new();
    for wall in &WALLS {
        let looked_at = if wall.tests { whole.as_str() } else { own };
        if is_test && !wall.tests || wall.home.iter().any(|home| file.starts_with(home)) {
            continue;
        }
        let found = wall.words.iter().filter(|word| has(looked_at, word));
        problems.extend(found.map(|word| format!("{file}: `{word}`: {}", wall.why)));
    }
    if let Some(path) = file.strip_prefix(CORE) {
        problems.extend(layers(path, own).into_iter().map(|problem| format!("{file}: {problem}")));
    }
    problems
}

/// Who names a module above its own.
fn layers(path: &str, own: &str) -> Vec<String> {
    let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if module == "lib" {
        return Vec::new();
    }
    let rank = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    let Some(mine) = rank(module) else {
        return vec![format!("`{module}` has no place among the layers of docs/architecture.md and of the lint")];
    };
    // As many steps up as the file is deep lead out of its module too.
    let up = "super::".repeat(path.split('/').count());
    let mut problems = Vec::new();
    for root in ["crate::", up.as_str()] {
        for (at, _) in
            own.match_indices(root).filter(|(at, _)| !own[..*at].ends_with(is_part) && !own[..*at].ends_with("::"))
        {
            let name: String = own[at + root.len()..].chars().take_while(|c| is_part(*c)).collect();
            let fine = match rank(&name) {
                _ if name == module => true,
                Some(other) => other < mine,
                // Several at once, or all, hide which.
                None => false,
            };
            if !fine {
                problems.push(format!("`{root}{name}`: `{module}` may name only {}", LAYERS[..mine].join(", ")));
            }
        }
    }
    problems
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` is in the code, not as a part of a longer one.
fn has(code: &str, word: &str) -> bool {
    let ends = word.ends_with(is_part);
    code.match_indices(word).any(|(at, _)| {
        let begins = !word.starts_with(is_part) || !code[..at].ends_with(is_part);
        begins && !(ends && code[at + word.len()..].starts_with(is_part))
    })
}

/// The text without comments and without what stands in quotes.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let raw = rest.strip_prefix('r').filter(|_| !code.ends_with(is_part)).map(|rest| rest.trim_start_matches('#'));
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(inner) = raw.and_then(|rest| rest.strip_prefix('"')) {
            let hashes = rest.len() - inner.len() - 2;
            let end = format!("\"{}", "#".repeat(hashes));
            inner.find(&end).map_or(rest.len(), |at| rest.len() - inner.len() + at + end.len())
        } else if c == '"' {
            quoted(rest)
        } else if ["'\"'", "'\\\"'"].iter().any(|quote| rest.starts_with(quote)) {
            rest[1..].find("'").map_or(1, |end| end + 2)
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[skipped..];
    }
    code
}

/// How long the string at the begin of `text` is, with its quotes.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_what_is_quoted_is_no_code() {
        let text = "a // unsafe\n/* todo! */ b \"un\\\"safe\" c '\"' d r#\"x \" unsafe\"# e 'x' for<'a> f";
        assert_eq!(code(text), "a \n b  c  d  e 'x' for<'a> f");
    }

    #[test]
    fn core_is_named_downwards_only() {
        let fine = |file: &str, text: &str| source(&format!("{CORE}{file}"), text).is_empty();
        assert!(fine("teardown.rs", "use crate::substrate::Object;\nuse crate::weaken;"));
        assert!(fine("lock/slots.rs", "use super::Owner; use crate::lock::Owner; use crate::config;"));
        assert!(fine("name.rs", "use crate::weaken;\n#[cfg(test)]\nmod tests { use crate::config; }"));
        assert!(fine("process.rs", "pub(crate) use crate::lifetime::exec; // crate::teardown"));
        assert!(!fine("name.rs", "use crate::config;"), "name imports nothing");
        assert!(!fine("substrate/local.rs", "crate::teardown::take_down()"));
        assert!(!fine("lock.rs", "use crate::process::Job;"));
        assert!(!fine("lock.rs", "use super::process::Job;"), "by another way");
        assert!(!fine("lock/slots.rs", "use super::super::process::Job;"));
        assert!(!fine("lock.rs", "use crate::{config, process};"), "several at once");
        assert!(!fine("news.rs", "fn f() {}"), "a module without a place");
    }

    #[test]
    fn the_janitor_never_imports_the_harness() {
        assert!(dependencies("ccci-janitor", "[dependencies]\nccci-core.workspace = true\n").is_empty());
        assert_eq!(dependencies("ccci-janitor", "ccci-harness = { path = \"../ccci-harness\" }").len(), 1);
        assert_eq!(dependencies("ccci-core", "ccci-manual.workspace = true").len(), 1);
        assert_eq!(dependencies("ccci-new", "").len(), 1, "a crate without a place");
    }

    #[test]
    fn what_has_one_place_is_nowhere_else() {
        for (home, text) in [
            ("crates/ccci-core/src/lifetime/exec.rs", "unsafe { f() }"),
            ("crates/ccci-core/src/process/job.rs", "use std::process::Command;"),
            ("crates/ccci-core/src/lock.rs", "std::thread::Builder::new()"),
            ("crates/ccci-core/src/process/watch.rs", "killpg(pid, signal)"),
            ("crates/ccci-core/src/lifetime/exec.rs", "libc::_exit(143)"),
        ] {
            assert!(source(home, text).is_empty(), "{text} in {home}");
            assert_eq!(source("crates/ccci-harness/src/keeper.rs", text).len(), 1, "{text} elsewhere");
        }
        for text in ["process::exit(1)", "todo!()", "unimplemented!()", "#[ignore = \"slow\"]"] {
            for file in ["crates/ccci-core/src/process.rs", "tests/state.rs", "crates/ccci-core/tests/parsers.rs"] {
                assert_eq!(source(file, &format!("#[cfg(test)]\nmod tests {{ {text} }}")).len(), 1, "{text} in {file}");
            }
        }
        // Tests start what they like.
        assert!(source("tests/src/step.rs", "std::process::Command::new(x); std::thread::spawn(f)").is_empty());
        assert!(source("crates/ccci-lint/src/x.rs", "unsafely(); forked(); exit::GREEN").is_empty());
    }
}
