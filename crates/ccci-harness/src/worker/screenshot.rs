//! A picture of the app while it is up, where a headless browser is installed. Best effort: whatever
//! becomes of it is noted and never changes a verdict.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ccci_core::process::Job as Process;
use ccci_core::rundir::{RunDir, file};

use crate::console::Console;
use crate::event::{Event, report};
use crate::health::Target;

/// What browsers of this family are called.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The longest that it may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A headless browser, where one is installed.
pub(super) fn browser() -> Option<PathBuf> {
    BROWSERS.iter().find_map(|name| ccci_core::process::find_program(name))
}

/// Takes it.
pub(super) fn take(browser: &Path, target: &Target, path: &str, dir: &RunDir, console: &mut Console) {
    let shot = dir.join(file::SCREENSHOT);
    // It leaves its profile wherever it is told to; nowhere else.
    let profile = match tempfile::Builder::new().prefix("ccci-browser-").tempdir() {
        Ok(profile) => profile,
        Err(error) => return note(dir, console, &error.to_string()),
    };
    let job = Process::tool(browser)
        .env([("HOME", profile.path())])
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,800"])
        .args([format!("--user-data-dir={}", profile.path().display())])
        // The app's own name leads to where it answers.
        .args([format!("--host-resolver-rules=MAP {} {}", target.host, target.address)])
        .args([format!("--screenshot={}", shot.display()), format!("http://{}{path}", target.host)])
        .timeout(LIMIT);
    match job.run_ok(&mut |_| {}) {
        Ok(_) if shot.is_file() => console.say(&format!("== screenshot: {} ==", shot.display())),
        Ok(_) => note(dir, console, "the browser made no file"),
        Err(error) => note(dir, console, &error.to_string()),
    }
}

fn note(dir: &RunDir, console: &mut Console, why: &str) {
    let text = console.clean(&format!("no screenshot: {why}"));
    console.say(&format!("   {text}"));
    report(dir, Event::Note { text });
}
