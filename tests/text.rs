//! What an app, a test or git says is only text, and holds no secret, wherever a run passes it on.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ccci_tests::forge::{self, Forge, ME};
use ccci_tests::host::{self, Host};
use ccci_tests::step::Ended;

/// For `printf`: clears the screen, sets the title, overwrites the line, a C1 control, a NUL, another direction.
const HOSTILE: &str = r"PWN\033[2J\033]0;owned\007\rgone\302\2331m\000\342\200\256dlrow\342\201\246";
/// What a person sees of it.
const SEEN: &str = "PWN␛[2J␛]0;owned␇␍gone<U+009B>1m␀<U+202E>dlrow<U+2066>";

/// Everything that a run passes on, by name; its JSON by what its texts are when they are read.
fn passed_on(ended: &Ended<'_>) -> Vec<(String, String)> {
    let dir = ended.run_dir.clone().unwrap();
    let mut all = vec![("stdout".to_owned(), ended.out()), ("stderr".to_owned(), ended.err())];
    for name in ["run.log", "summary.html", "junit.xml", "badge.svg"] {
        all.push((name.to_owned(), fs::read_to_string(dir.join(name)).unwrap()));
    }
    for name in host::list(&dir.join("logs")) {
        all.push((format!("logs/{}", name.escape_debug()), fs::read_to_string(dir.join("logs").join(name)).unwrap()));
    }
    let mut texts = String::new();
    collect(&ended.results(), &mut texts);
    all.push(("results.json".to_owned(), texts));
    all
}

fn collect(value: &serde_json::Value, into: &mut String) {
    match value {
        serde_json::Value::String(text) => *into += &format!("{text}\n"),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        serde_json::Value::Object(items) => items.values().for_each(|item| collect(item, into)),
        _ => {}
    }
}

/// What a terminal or a page would obey.
fn acts(text: &str) -> Option<char> {
    let directions = ['\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'];
    text.chars().find(|c| c.is_control() && !"\n\t".contains(*c) || directions.contains(c))
}

#[test]
fn what_a_test_an_app_and_git_say_does_nothing_wherever_it_is_passed_on() {
    let host = Host::new();
    let forge = Forge::new();
    forge.enlist(&host, "");
    let folder = host.folder("hello").script("test_install.sh", &format!("printf '{HOSTILE}\\n'"));
    let folder = folder.script("custom/fails", &format!("printf '\\033[31mred\\033[0m\\n{HOSTILE}\\n'; exit 1"));
    let odd = folder.path().join("custom/odd\u{1b}[2J\u{202e}name");
    fs::write(&odd, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o755)).unwrap();
    let ended = host.run().env("REF", &forge::head(&host)).end().expect_clean(1);
    let passed_on = passed_on(&ended);
    for (name, text) in &passed_on {
        assert_eq!(acts(text), None, "{name}: {text:?}");
    }
    for name in ["stdout", "run.log", "summary.html", "junit.xml", "results.json"] {
        let text = &passed_on.iter().find(|(known, _)| known == name).unwrap().1;
        let seen = if name.contains("ml") { SEEN.replace('<', "&lt;").replace('>', "&gt;") } else { SEEN.to_owned() };
        // JUnit's writer leaves `>` as it is.
        let found = text.contains(&seen) || text.contains(&SEEN.replace('<', "&lt;"));
        assert!(found, "{name} does not show what was said: {text}");
    }
    let page = &passed_on.iter().find(|(name, _)| name == "summary.html").unwrap().1;
    assert!(page.contains("<span class=\"red\">red</span>"), "colours stay: {page}");
    let state = forge.state();
    let comments = state.comments.iter().filter(|comment| comment.author == ME.0);
    for text in comments.map(|comment| comment.body.clone()).chain(state.statuses.iter().map(ToString::to_string)) {
        assert_eq!(acts(&text), None, "{text:?}");
    }
}

#[test]
fn what_git_and_a_dying_service_say_does_nothing_either() {
    let host = Host::new();
    let ended = host.run().env("REF", "no\u{9b}such\u{202e}ref").end();
    assert_ne!(ended.code, 0);
    for text in [ended.out(), ended.err()] {
        assert_eq!(acts(&text), None, "{text:?}");
    }
    let _folder = host.folder("hello").service("dies", &format!("printf '{HOSTILE}\\n'; exit 3"));
    let ended = host.run().end().expect_clean(1);
    for (name, text) in passed_on(&ended) {
        assert_eq!(acts(&text), None, "{name}: {text:?}");
    }
}

#[test]
fn a_secret_is_masked_in_every_shape_and_where_a_long_line_was_cut() {
    let host = Host::new();
    let say = format!(
        "s=$(cat '{0}'/secrets/admin_token); printf '%s' \"$s\" >'{1}'\n\
         printf 'user:%s' \"$s\" | base64 -w0; echo; printf 'xy%s' \"$s\" | base64 -w0; echo\n\
         printf '%s' \"$s\" | od -An -v -tx1 | tr -d ' \\n'; echo\n\
         printf '%s' \"$s\" | od -An -v -tx1 | tr -d ' \\n' | tr a-f A-F; echo\n\
         head -c 65520 /dev/zero | tr '\\0' y; echo \"$s tail\"\n\
         echo \"the reason has it in base64: $(printf '%s' \"$s\" | base64 -w0)\"; exit 1",
        host.app_dir().display(),
        host.path("secret").display()
    );
    let _folder = host.folder("hello").script("test_install.sh", &say);
    let run = host.run().end().expect_clean(1);
    let secret = fs::read_to_string(host.path("secret")).unwrap();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    // Of base64 what does not depend on its neighbours, and of the cut line the secret's begin.
    let base64 = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let inside = |text: &str| base64(text)[8..36].to_owned();
    let shapes = [
        secret.clone(),
        secret[..12].to_owned(),
        hex.to_uppercase(),
        hex,
        inside(&format!("user:{secret}")),
        inside(&format!("xy{secret}")),
        inside(&secret),
    ];
    for shape in shapes {
        assert_eq!(run.files_with(&shape), [] as [String; 0], "{shape}");
        assert!(!run.out().contains(&shape), "{shape}");
    }
    assert!(run.log().contains("***"), "{}", run.log());
    let results = run.results();
    assert_eq!(results["flags"]["no_secret_leak"], true, "{results:#}");
    assert!(results["reason"].as_str().unwrap().contains("in base64: ***"), "{results:#}");
}

#[test]
fn a_secret_that_was_written_in_another_shape_makes_the_run_red() {
    let host = Host::new();
    let steal = format!("base64 -w 20 '{}'/secrets/admin_token >\"${{CCCI_OP_STATE_FILE}}\"", host.app_dir().display());
    let _folder = host.folder("hello").script("test_install.sh", &steal);
    let results = host.run().end().expect_clean(1).results();
    assert_eq!(results["reason"], "a secret of the app stands in opstate");
    assert_eq!(results["flags"]["no_secret_leak"], false);
}

#[test]
fn the_environment_and_the_arguments_of_tests_carry_no_secret() {
    let host = Host::new();
    let look = format!(
        "s=$(cat '{}'/secrets/admin_token); [ -n \"$s\" ]\n\
         for p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/environ; tr '\\0' '\\n' <$p/cmdline; done 2>/dev/null >all || true\n\
         ! grep -F -e \"$s\" all; rm all",
        host.app_dir().display()
    );
    let _folder = host.folder("hello").script("test_install.sh", &look).script("custom/again", &look);
    let _green = host.run().end().expect_clean(0);
}
