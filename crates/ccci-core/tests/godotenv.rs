//! Env files as godotenv itself reads them, which is how abra does: the real program is asked, over a corpus and over
//! what nobody would write. Where our reading differs, both are written down here, and in `docs/recipes.md`.
//!
//! `tests/godotenv.sh` installs it. Where that cannot be, it says so; in CI that is a failure.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its work fails")]
#![expect(clippy::print_stderr, reason = "that a comparison is left out is said to whoever runs it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ccci_core::process::Job;
use ccci_core::substrate::env_file;
use proptest::prelude::*;

/// The program, if it can be had.
fn godotenv() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let dir = workspace.join("target/tools/bin");
        let install = Job::new(workspace.join("tests/godotenv.sh")).args([&dir]);
        install.run_ok(&mut |line| eprintln!("{line}")).unwrap_or_else(|error| panic!("{error}"));
        Some(dir.join("godotenv")).filter(|program| program.exists())
    };
    PROGRAM.get_or_init(find).as_deref()
}

/// What godotenv makes of a text; `None` when it refuses it.
fn theirs(program: &Path, text: &[u8]) -> Option<BTreeMap<String, String>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    // What it sets is what a program that it starts finds, which is given nothing else.
    let job = Job::new(program).bare().args(["-o", "-f"]).args([file.path()]).args(["/usr/bin/env", "-0"]).capture();
    let done = job.run(&mut |_| {}).unwrap();
    if done.ended != ccci_core::process::Ended::Exited(0) {
        return None;
    }
    let entries = done.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    let pair = |entry: &[u8]| {
        let text = String::from_utf8_lossy(entry).into_owned();
        let (name, value) = text.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    Some(entries.map(pair).collect())
}

/// Whether all that a text has of `$` and of quotes is read alike by both.
fn is_common(text: &str) -> bool {
    let name = |char: char| char.is_ascii_uppercase() || char.is_ascii_digit() || char == '_';
    let dollars = text.match_indices('$').all(|(at, _)| {
        let after = &text[at + 1..];
        let (opened, inner) = match after.strip_prefix(['{', '(']) {
            Some(inner) => (&after[..1], inner),
            None => ("", after),
        };
        let end = inner.find(|char| !name(char)).unwrap_or(inner.len());
        let next = inner[end..].chars().next();
        match (opened, end) {
            ("(", 0) => next != Some('{'),
            (_, 0) => true,
            ("{", _) => next == Some('}') && !inner.starts_with(|char: char| char.is_ascii_digit()),
            ("", _) => {
                !inner.starts_with(|char: char| char.is_ascii_digit())
                    && next.is_none_or(|next| next != '}' && !next.is_ascii_lowercase())
            }
            _ => false,
        }
    });
    dollars && !text.contains("\\\"\"") && !text.contains("\\''") && !text.starts_with('\u{feff}')
}

/// Fails unless both read a text alike, as far as they mean to.
fn compare(program: &Path, text: &[u8]) {
    let shown = String::from_utf8_lossy(text);
    if !is_common(&shown) {
        return;
    }
    match (env_file::parse(text), theirs(program, text)) {
        (Ok(ours), Some(theirs)) => assert_eq!(ours, theirs, "{shown:?}"),
        (Ok(ours), None) => panic!("godotenv refuses {shown:?}, which is {ours:?} for us"),
        (Err(_), None) => {}
        // What it takes for a variable without a name, it then cannot set.
        (Err(error), Some(_)) => {
            let nameless = error.why.contains("has no name") || error.why.contains("neither a comment");
            assert!(nameless || error.why.contains("no UTF-8"), "{error}: godotenv reads {shown:?}");
        }
    }
}

/// What samples of recipes look like, and what their authors get wrong.
const CORPUS: &[&str] = &[
    "TYPE=gitea\n\nDOMAIN=gitea.example.com\n## Domain aliases\n#EXTRA_DOMAINS=', `www.gitea.example.com`'\nLETS_ENCRYPT_ENV=production\n",
    "COMPOSE_FILE=\"compose.yml\"\nCOMPOSE_FILE=\"$COMPOSE_FILE:compose.smtp.yml\"\nCOMPOSE_FILE=\"${COMPOSE_FILE}:compose.mariadb.yml\"",
    "SECRET_DB_PASSWORD_VERSION=v1 # length=32 charset=hex\nSECRET_KEY_VERSION=v1\t# generate=false\n",
    "export A=1\nexport\tB=2\nexportC=3\nexport = 4\n",
    "A: one\nB : two\nC:three\n  D  =  four  \n",
    "A=1\r\nB=\"2\"\r\n# note\r\nC='3'",
    "A=\"one\ntwo\"\nB='three\nfour'\nC=five",
    "A=\"one\\ntwo\\tthree\\\\\"\nB='one\\ntwo'\nC=one\\ntwo\n",
    "A=x#y\nB=x #y\nC=x\t#y\nD=#y\nE= #y\nF=x # y # z\nG='x' # y\nH=\"x # y\" #z\n",
    "A=$\nB=$$\nC=a$$b\nD=\\$A\nE=\"\\$A\"\nF='$A'\nG=$small\nH=${small}\nI=$(date)\nJ=$$A\n",
    "A=1\nB=$A$A\nC=${A}${B}-$A\nD=\"$A $UNSET ${UNSET}\"\n",
    "A=\"x\" B=2\nC='y'D=3\n",
    "A='unterminated\nB=2\n",
    "A=\"\"\nB=''\nC=\nD=\"'\"\nE='\"'\n",
    "A=1\rB=2\rC=3",
    "\n\n   # a\n\t# b\n\u{85}A=\u{a0}1\u{a0}\n",
    "A=it's\nB=say \"hi\"\nC=`cmd`\nD=a=b=c\nE=http://x:80/?a=b#c\n",
    "noise\n",
    "A-B=1\n",
    "a.b=1\nA B=2\nê=3\n",
    "A=1",
    "=1\n",
    "",
];

#[test]
fn a_corpus_is_read_as_godotenv_reads_it() {
    let Some(program) = godotenv() else { return };
    CORPUS.iter().for_each(|text| compare(program, text.as_bytes()));
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("fuzz/corpus/env_file");
    for entry in std::fs::read_dir(fuzz).unwrap() {
        compare(program, &std::fs::read(entry.unwrap().path()).unwrap());
    }
}

#[test]
fn where_we_read_in_another_way_both_ways_are_known() {
    let Some(program) = godotenv() else { return };
    // After `SET=s`: the value's text, what abra makes of it, and what we do; nothing where it is refused.
    let table: &[(&str, Option<&str>, Option<&str>)] = &[
        ("${NOT:-y}", Some(":-y}"), Some("y")),
        ("${SET-y}", Some("s-y}"), Some("s")),
        ("${SET:+y}", Some("s:+y}"), Some("y")),
        ("${NOT:?why}", Some(":?why}"), None),
        ("$2y$05$abc", Some("y$abc"), None),
        ("${2}", Some(""), None),
        ("${SET", Some("s"), None),
        ("$(SET)", Some("s)"), None),
        ("{$SET}", Some("{s"), Some("{s}")),
        ("$Set", Some("et"), Some("")),
        ("${Set}", Some("et}"), Some("")),
        ("\"say \\\"hi\\\"\"", Some("say \"hi\\"), Some("say \"hi\"")),
    ];
    for (value, abras, own) in table {
        let text = format!("SET=s\nX={value}\n");
        let of = |vars: Option<BTreeMap<String, String>>| vars.and_then(|vars| vars.get("X").cloned());
        assert_eq!(of(theirs(program, text.as_bytes())).as_deref(), *abras, "godotenv's {value}");
        assert_eq!(of(env_file::parse(text.as_bytes()).ok()).as_deref(), *own, "our {value}");
    }
    let marked = "\u{feff}A=1\n".as_bytes();
    assert_eq!((theirs(program, marked), env_file::parse(marked).unwrap()["A"].as_str()), (None, "1"));
    assert!(theirs(program, b"A=caf\xe9\n").is_some() && env_file::parse(b"A=caf\xe9\n").is_err());
}

/// Text with what matters to an env file in it more often than chance would have it.
fn env_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "\n", "\n", "=", "=", "#", " #", "\t#", " ", "\t", "\"", "'", "\\", "\\\"", "\\n", "$", "$A", "${B}", "\\$A",
        "$$", "$small", "export ", "export", ": ", ":", "A=", "B=", "C: ", "\nA='", "'\n", "\nB=\"", "\"\n", "\r\n",
        "\r", ".", "_", "\u{85}", "\u{a0}", "\u{2003}", "é", "ª", "-", "x", "7",
    ]);
    let piece = prop_oneof![8 => pieces.prop_map(str::to_owned), 1 => "[A-Z_]{1,4}", 1 => "\\PC{0,3}"];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_nobody_would_write_is_read_as_godotenv_reads_it(text in env_text()) {
        if let Some(program) = godotenv() {
            compare(program, text.as_bytes());
        }
    }

    #[test]
    fn what_we_write_is_read_by_godotenv_as_it_was_meant(value in "[a-z0-9./:\"' #\n\t\\\\-]{0,12}", comment in "( #[a-z #]{0,6})?") {
        if let Some(program) = godotenv() {
            let text = format!("A=x{comment}\nB=1");
            if let Ok(set) = env_file::set(text.as_bytes(), &[("A", &value)]) {
                let vars = theirs(program, &set).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(&set)));
                let shown = String::from_utf8_lossy(&set).into_owned();
                prop_assert_eq!((vars["A"].as_str(), vars["B"].as_str()), (value.as_str(), "1"), "{:?}", shown);
            } else {
                prop_assert!(value.ends_with(['\\', '"']));
            }
        }
    }
}
