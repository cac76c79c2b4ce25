//! A picture of the app while it is up, where a headless browser is installed. Best effort: whatever
//! becomes of it is noted and never changes a verdict.
//!
//! The page is a stranger's, and what it loads as well. The browser is another user's where we are root, always in its
//! own sandbox, and reaches the app and nothing else: every name but the app's leads to a proxy that is nowhere, the
//! host's loopback too.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ccci_core::process::Job as Process;
use ccci_core::rundir::{RunDir, file};
use nix::unistd::{Uid, User};
use tempfile::TempDir;

use crate::console::Console;
use crate::event::{Event, report};
use crate::health::Target;

/// What browsers of this family are called.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The longest that it may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Who the browser is when we are root: somebody who owns nothing.
const NOBODY: &str = "nobody";
/// Where everybody may have a folder; a CI's own `TMPDIR` is often closed to others.
const PUBLIC: &str = "/tmp";
/// The proxy of everything but the app: no such name can exist (RFC 6761).
const NOWHERE: &str = "no-way-out.invalid";
/// No picture of a window of this size is larger.
const LARGEST: u64 = 32 << 20;

/// A headless browser, where one is installed.
pub(super) fn browser() -> Option<PathBuf> {
    BROWSERS.iter().find_map(|name| ccci_core::process::find_program(name))
}

/// Takes it.
pub(super) fn take(browser: &Path, target: &Target, path: &str, dir: &RunDir, console: &mut Console) {
    let taken = (|| {
        // It leaves its profile wherever it is told to; nowhere else.
        let (profile, user) = profile()?;
        let shot = profile.path().join(file::SCREENSHOT);
        let job = job(browser, user.as_ref())
            .env([("HOME", profile.path())])
            .args(arguments(target, path, profile.path(), &shot))
            .timeout(LIMIT);
        job.run_ok(&mut |_| {}).map_err(io::Error::other)?;
        let picture = read(&shot).map_err(|error| io::Error::new(error.kind(), format!("its file: {error}")))?;
        dir.put(file::SCREENSHOT, &picture).map_err(io::Error::other)
    })();
    match taken {
        Ok(()) => console.say(&format!("== screenshot: {} ==", dir.join(file::SCREENSHOT).display())),
        Err(error) => note(dir, console, &error.to_string()),
    }
}

/// A folder for the browser, and whose it is if it is not ours.
fn profile() -> io::Result<(TempDir, Option<User>)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("ccci-browser-");
    if !Uid::effective().is_root() {
        return Ok((builder.tempdir()?, None));
    }
    let user = User::from_name(NOBODY)?.ok_or_else(|| io::Error::other(format!("there is no user {NOBODY} to be")))?;
    let profile = builder.tempdir_in(PUBLIC)?;
    std::os::unix::fs::chown(profile.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    Ok((profile, Some(user)))
}

/// The browser, as that user. The change of user takes its death signal away, so it is asked for again.
fn job(browser: &Path, user: Option<&User>) -> Process {
    let Some(user) = user else { return Process::tool(browser) };
    Process::tool("setpriv")
        .args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)])
        .args(["--clear-groups", "--inh-caps=-all", "--pdeathsig", "KILL", "--"])
        .args([browser])
}

fn arguments(target: &Target, path: &str, profile: &Path, shot: &Path) -> Vec<OsString> {
    let Target { host, address, .. } = target;
    let arguments = [
        "--headless".to_owned(),
        "--disable-gpu".to_owned(),
        "--hide-scrollbars".to_owned(),
        "--window-size=1280,800".to_owned(),
        format!("--user-data-dir={}", profile.display()),
        // The app's own name leads to where it answers, whatever port is asked for.
        format!("--host-resolver-rules=MAP {host} {address}, MAP {NOWHERE} ~NOTFOUND"),
        format!("--proxy-server=http://{NOWHERE}"),
        // Browsers go to the loopback without a proxy unless they are told not to.
        format!("--proxy-bypass-list=<-loopback>;{host}"),
        "--force-webrtc-ip-handling-policy=disable_non_proxied_udp".to_owned(),
        format!("--screenshot={}", shot.display()),
        format!("http://{host}{path}"),
    ];
    arguments.into_iter().map(OsString::from).collect()
}

/// The picture. Its folder is the browser's: what is there may be a link to a file of ours.
fn read(shot: &Path) -> io::Result<Vec<u8>> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let picture = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(shot)?;
    if !picture.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    picture.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it has more than {LARGEST} bytes")));
    }
    Ok(bytes)
}

fn note(dir: &RunDir, console: &mut Console, why: &str) {
    let text = console.clean(&format!("no screenshot: {why}"));
    console.say(&format!("   {text}"));
    report(dir, Event::Note { text });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_place_of_the_picture_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let shot = dir.path().join("shot");
        std::os::unix::fs::symlink("/etc/passwd", &shot).unwrap();
        assert!(read(&shot).is_err());
        std::fs::remove_file(&shot).unwrap();
        nix::unistd::mkfifo(&shot, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&shot).unwrap_err().to_string(), "it is no regular file");
        std::fs::remove_file(&shot).unwrap();
        std::fs::write(&shot, "png").unwrap();
        assert_eq!(read(&shot).unwrap(), b"png");
    }
}
