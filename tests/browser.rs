//! What a browser makes of a host's site: every page on a phone and on a screen, light and dark, from `file://`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use ccci_core::process::{Job, find_program};
use ccci_tests::host::Host;
use ccci_tests::step::Ended;

/// What does the judging, inside the page.
const PROBE: &str = include_str!("browser.js");
/// What browsers of this family are called. Debian's smallest comes first (`tests/tools.sh` installs it).
const BROWSERS: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
/// A phone and a screen, in CSS pixels.
const WIDTHS: [u32; 2] = [390, 1280];

/// What is wrong with a page in a window of this width and scheme.
fn wrong(page: &Path, width: u32, dark: bool) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    // Beside the page, so that what it names is found; its own policy would not let us look at it.
    let beside = tempfile::Builder::new().suffix(".html").tempfile_in(page.parent().unwrap()).unwrap();
    let text = fs::read_to_string(page).unwrap();
    let policy = "http-equiv=\"Content-Security-Policy\"";
    assert!(text.contains(policy), "{} has no policy", page.display());
    let probe = format!("<script>const WIDTH = {width}, DARK = {dark};\n{PROBE}</script></body>");
    let text = text.replace(policy, "name=\"policy\"").replacen("</body>", &probe, 1);
    fs::write(beside.path(), text).unwrap();

    let browser = BROWSERS.iter().find_map(|name| find_program(name));
    let browser = browser.expect("no browser: install chromium-headless-shell, as tests/tools.sh does");
    let scheme = if dark { 0 } else { 1 };
    let seen = Job::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"])
        .args([format!("--user-data-dir={}", dir.path().display()), format!("--window-size={width},900")])
        .args([format!("--blink-settings=preferredColorScheme={scheme}")])
        .args([format!("file://{}", beside.path().display())])
        .env([("HOME", dir.path())])
        .capture()
        .run_ok(&mut |_| {})
        .unwrap();
    let seen = String::from_utf8(seen.stdout).unwrap();
    let (_, found) = seen.split_once("data-wrong=\"").unwrap_or_else(|| panic!("the probe did not end:\n{seen}"));
    let found = percent_encoding::percent_decode_str(found.split('"').next().unwrap()).decode_utf8().unwrap();
    serde_json::from_str(&found).unwrap()
}

fn report<'host>(host: &'host Host, site: &Path) -> Ended<'host> {
    host.command(&["cc-ci-run", "report", "--site", site.to_str().unwrap()]).end()
}

/// A site of a green run and a red one, with long words in names and log.
fn site(host: &Host) -> PathBuf {
    let site = host.path("www");
    host.run().end().expect_clean(0);
    let long = "no-blank-for-a-line-break-".repeat(12);
    let _folder = host.folder("hello").script("custom/check", &format!("echo {long}; exit 3"));
    host.run().end().expect_clean(1);
    report(host, &site).expect_clean(0);
    site
}

fn pages(dir: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let below = entries.iter().filter(|path| path.is_dir()).flat_map(|path| pages(path));
    let here = entries.iter().filter(|path| path.extension().is_some_and(|ending| ending == "html")).cloned();
    here.chain(below).collect()
}

#[test]
fn every_page_reads_well_on_a_phone_and_on_a_screen_in_light_and_in_dark() {
    let host = Host::new();
    let pages = pages(&site(&host));
    assert_eq!(pages.len(), 4, "{pages:?}");
    for page in &pages {
        for width in WIDTHS {
            for dark in [false, true] {
                let wrong = wrong(page, width, dark);
                assert!(wrong.is_empty(), "{} at {width}, dark {dark}:\n{}", page.display(), wrong.join("\n"));
            }
        }
    }
}

#[test]
fn a_page_that_reads_badly_is_found_out() {
    let host = Host::new();
    let site = site(&host);
    let page = site.join("index.html");
    let good = fs::read_to_string(&page).unwrap();
    for (bad, what) in [
        ("<p style='width: 600px'>wide</p>", "wider than the window"),
        ("<p style='color: #888'>pale</p>", "contrast"),
        ("<img src='missing.png' alt=''>", "an image that is none"),
        ("<a href='index.html'></a>", "a link without a name"),
        ("<h1>another</h1>", "not one h1"),
    ] {
        fs::write(&page, good.replacen("</main>", &format!("{bad}</main>"), 1)).unwrap();
        let wrong = wrong(&page, WIDTHS[0], false);
        assert!(wrong.len() == 1 && wrong[0].starts_with(what), "{bad}: {wrong:?}");
    }
}
