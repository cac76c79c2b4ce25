//! Pages for people: what they share. Each is one file with its style in it, which works from a web
//! server as from a folder, and everything that a stranger wrote is escaped by the template.

pub(crate) mod badge;
mod colours;
pub(crate) mod overview;
pub(crate) mod recipe;
pub(crate) mod run;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::outcome::{Outcome, Verdict};
use crate::results::Results;

const STYLE: &str = include_str!("page/style.css");

/// A whole page. `trail` leads to the pages above it, as (address, name).
fn whole(title: &str, trail: &[(&str, &str)], body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing runs and nothing is fetched from elsewhere, whatever a name in here says.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src *";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                @if !trail.is_empty() {
                    nav aria-label="Where this page is" {
                        ol { @for (address, name) in trail { li { a href=(address) { (name) } } } }
                    }
                }
                main { h1 { (title) } (body) }
            }
        }
    };
    page.into_string()
}

/// A word with the colour and the sign of what it means: nobody needs to see the colour.
fn chip(class: &str, text: &str) -> Markup {
    let sign = match class {
        "pass" => "✓",
        "fail" => "✗",
        "skip" => "–",
        _ => "?",
    };
    html! { span.chip.(class) { span aria-hidden="true" { (sign) } " " (text) } }
}

fn outcome(outcome: &Outcome) -> Markup {
    chip(outcome.word(), outcome.word())
}

fn verdict(results: &Results) -> Markup {
    let class = match results.verdict {
        Verdict::Green => "pass",
        Verdict::Red | Verdict::Deadline => "fail",
        Verdict::Usage | Verdict::Host | Verdict::Incomplete | Verdict::Busy | Verdict::Cancelled => "unver",
    };
    chip(class, results.verdict.word())
}

/// The level, and where it was the last time.
fn level(results: &Results) -> Markup {
    if !results.tells_level() {
        return html! { span.quiet.whole { "no level" } };
    }
    let before = results.previous.as_ref().map_or(results.level, |before| before.level);
    html! {
        span.whole { "level " (results.level) }
        @if results.level > before { " " span.up.whole { "▲ up from " (before) } }
        @if results.level < before { " " span.down.whole { "▼ down from " (before) } }
    }
}

fn moment(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (at.strftime("%Y-%m-%d %H:%M UTC")) } }
}

fn took(milliseconds: u64) -> String {
    ccci_core::config::duration::brief(std::time::Duration::from_millis(milliseconds))
}

/// The whole run's time, without its wait for others.
fn work(results: &Results) -> u64 {
    results.phases.iter().filter(|phase| phase.name != "wait").map(|phase| phase.milliseconds).sum()
}

/// Which change was tested, in a few words.
fn change(results: &Results) -> Markup {
    let pr = results.pr.as_str();
    html! {
        @if !pr.is_empty() && pr != "0" { "PR " (pr) " " }
        @if !results.git_ref.is_empty() { code { (results.git_ref) } } @else if pr.is_empty() || pr == "0" { span.quiet { "HEAD" } }
    }
}
