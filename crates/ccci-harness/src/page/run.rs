//! The page of one run: what went wrong, the rungs, where the time went, tests, receipt, logs.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use ccci_core::rundir::file;
use ccci_core::teardown::Receipt;
use ccci_core::visible;
use maud::{Markup, html};

use super::{change, colours, level, moment, outcome, took, verdict, whole, work};
use crate::outcome::{Outcome, Verdict};
use crate::results::{Phase, Results, Step};

/// More of a log is not shown on its page; the file has all of it.
const SHOWN: u64 = 512 << 10;

/// A log of the run.
#[derive(Debug)]
struct Log {
    /// The file's name in the run's directory.
    name: String,
    /// What it says.
    text: String,
}

/// What of a run's directory its page shows.
#[derive(Debug, Default)]
pub(crate) struct Files {
    logs: Vec<Log>,
    /// Whether there is a picture of the app.
    picture: bool,
}

impl Files {
    /// What there is.
    ///
    /// # Errors
    /// When the folder of the logs cannot be listed.
    pub(crate) fn of(run: &Path) -> io::Result<Self> {
        Ok(Self { logs: logs(run)?, picture: run.join(file::SCREENSHOT).is_file() })
    }
}

/// The page. `trail` is empty for a page that stands alone.
pub(crate) fn page(results: &Results, files: &Files, trail: &[(&str, &str)]) -> String {
    let title = format!("{} {}", results.recipe, results.version.as_deref().unwrap_or(""));
    let body = html! {
        p.lead { (verdict(results)) " · " (level(results)) }
        @if let Some(reason) = &results.reason {
            div.reason role="note" aria-label="What went wrong" { pre { (colours::shown(reason)) } }
        }
        (facts(results))
        h2 { "Rungs" }
        table {
            tbody {
                @for (rung, of) in &results.rungs {
                    tr { th scope="row" { (rung) } td { (outcome(of)) } td.long { (of.headline()) } }
                }
            }
        }
        h2 { "Timeline" }
        (timeline(results))
        (tests(results))
        @if files.picture {
            h2 { "Screenshot" }
            p { img.shot src=(file::SCREENSHOT) alt="The app, as a browser saw it after the tests"; }
        }
        h2 { "Receipt" }
        (receipt(results.receipt.as_ref()))
        h2 { "Logs" }
        @if files.logs.is_empty() { p.quiet { "None to show." } }
        @for log in &files.logs {
            // What is looked for first is open.
            details open[log.name == "run.log" && results.verdict != Verdict::Green] {
                summary { (visible::text(&log.name)) }
                pre tabindex="0" { (colours::shown(&log.text)) }
            }
        }
    };
    whole(title.trim(), trail, &body)
}

fn facts(results: &Results) -> Markup {
    html! {
        dl {
            dt { "Run" } dd { (results.run_id) }
            dt { "Tested" } dd { (change(results)) @if let Some(commit) = &results.commit { " " code { (commit.chars().take(12).collect::<String>()) } } }
            @if let Some(quick) = &results.quick {
                dt { "Quick run" }
                dd {
                    @match &quick.from {
                        Some(from) => { "began with the data of " (from.version) ", kept by run " (from.run_id) " on " (moment(from.taken)) }
                        None => { "began cold" @if let Some(why) = &quick.why { ": " (why) } }
                    }
                }
            }
            @if let Some(kept) = &results.kept {
                dt { "Kept for quick runs" }
                dd { @match &kept.why { None => { (kept.bytes) " bytes of data" } Some(why) => { "nothing: " (why) } } }
            }
            @for granted in &results.policy.granted { dt { "Allowed by the operator" } dd { (granted) } }
            @if let Some(from) = &results.upgraded_from { dt { "Upgraded from" } dd { (from) } }
            dt { "Began" } dd { (moment(results.started)) ", took " (took(work(results))) }
            dt { "Where" } dd { (results.engine) ", " code { (results.domain) } }
            dt { "Exit code" } dd { (results.exit_code) @if let Some(cause) = &results.cause { ": " (cause) } }
        }
    }
}

/// A row for each phase and, below it, each of its steps; where the bars are says when.
fn timeline(results: &Results) -> Markup {
    let begin = results.phases.iter().map(|phase| phase.started).min().unwrap_or(results.started);
    let offset = |at: jiff::Timestamp| u64::try_from(at.duration_since(begin).as_millis()).unwrap_or(0);
    let end = results.phases.iter().map(|phase| offset(phase.started) + phase.milliseconds).max().unwrap_or(1).max(1);
    let track = |started, milliseconds| {
        let percent = |part: u64| format!("{}.{:02}", part * 100 / end, part * 10_000 / end % 100);
        let place = format!("left:{}%;width:{}%", percent(offset(started).min(end)), percent(milliseconds));
        html! { td aria-hidden="true" { span.track { span style=(place) {} } } }
    };
    html! {
        div.scroll {
            table.timeline {
                thead { tr { th scope="col" { "Phase" } th.number scope="col" { "Took" } th scope="col" aria-hidden="true" { "When" } } }
                tbody {
                    @for Phase { name, started, milliseconds, steps } in &results.phases {
                        tr { th scope="row" { (name) } td.number { (took(*milliseconds)) } (track(*started, *milliseconds)) }
                        @for Step { name, started, milliseconds } in steps {
                            tr.step { th scope="row" title=(name) { (name) } td.number { (took(*milliseconds)) } (track(*started, *milliseconds)) }
                        }
                    }
                }
            }
        }
    }
}

fn tests(results: &Results) -> Markup {
    let mut all: Vec<_> =
        results.stages.iter().flat_map(|stage| stage.tests.iter().map(move |test| (stage.tier, test))).collect();
    // What failed comes first.
    all.sort_by_key(|(_, test)| !matches!(test.outcome, Outcome::Fail { .. }));
    html! {
        h2 { "Tests" }
        @if all.is_empty() { p.quiet { "None ran." } } @else {
            div.scroll {
                table {
                    thead { tr { th scope="col" { "Tier" } th scope="col" { "Test" } th scope="col" { "Outcome" } th.number.wide scope="col" { "Took" } } }
                    tbody {
                        @for (tier, test) in all {
                            tr {
                                td { (tier) }
                                td.long { (test.name) @if !test.outcome.reason().is_empty() { br; span.quiet { (test.outcome.headline()) } } }
                                td { (outcome(&test.outcome)) }
                                td.number.wide { (took(test.milliseconds)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn receipt(receipt: Option<&Receipt>) -> Markup {
    let Some(receipt) = receipt else {
        return html! { p { "There is none: nothing was deployed, or the teardown did not finish." } };
    };
    html! {
        @if receipt.is_clean() {
            p { span.pass { "Nothing is left." } " Looked for twice after " (took(receipt.milliseconds)) "." }
        } @else {
            p.fail { strong { "Something is left." } }
            ul { @for residue in &receipt.residue { li { (residue.what) ": " (residue.why) } } }
        }
        @if !receipt.processes.is_empty() { p { "Processes ended: " (receipt.processes.join(", ")) } }
        @if !receipt.removed.is_empty() {
            details {
                summary { (receipt.removed.len()) " removed" }
                div.scroll {
                    table {
                        thead { tr { th scope="col" { "Kind" } th scope="col" { "Name" } th scope="col" { "Gone at" } } }
                        tbody {
                            @for removed in &receipt.removed {
                                tr {
                                    td { (removed.object.kind) } td { (removed.object.name) }
                                    td { time datetime=(removed.removed_at) { (removed.removed_at.strftime("%H:%M:%S UTC")) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The run's log and those of its tests and hooks.
fn logs(run: &Path) -> io::Result<Vec<Log>> {
    let mut names = vec![file::LOG.to_owned()];
    let own = match fs::read_dir(run.join("logs")) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut own: Vec<String> =
        own.into_iter().map(|entry| format!("logs/{}", entry.file_name().to_string_lossy())).collect();
    own.sort();
    names.extend(own);
    // One that went meanwhile, or that a full disk never let be written, is not there to be shown.
    Ok(names.into_iter().filter_map(|name| Some(Log { text: tail(&run.join(&name)).ok()?, name })).collect())
}

/// The last part of a log, which is where a run fails.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let hidden = file.metadata()?.len().saturating_sub(SHOWN);
    file.seek(SeekFrom::Start(hidden))?;
    let mut bytes = Vec::new();
    file.take(SHOWN).read_to_end(&mut bytes)?;
    // What a test has written there by itself is only text as well.
    let text = visible::text(&String::from_utf8_lossy(&bytes)).into_owned();
    Ok(if hidden == 0 { text } else { format!("… {hidden} bytes before this are left out here\n{text}") })
}
