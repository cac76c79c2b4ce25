//! The page of one recipe: its badge and all of its runs.

use maud::{Markup, html};

use super::{badge, change, level, moment, took, verdict, whole, work};
use crate::results::Results;

/// The page, from the recipe's runs, the last one first, each with the address of its page.
pub(crate) fn page(recipe: &str, runs: &[(String, &Results)]) -> String {
    let body = html! {
        p { img src="badge.svg" alt=(badge_text(runs)) height="20"; " " (trend(runs.iter().map(|(_, results)| *results))) }
        div.scroll {
            table {
                caption { (runs.len()) @if runs.len() == 1 { " run" } @else { " runs" } ", the last one first" }
                thead {
                    tr {
                        th scope="col" { "Run" } th scope="col" { "Verdict" } th scope="col" { "Level" }
                        th.wide scope="col" { "Tested" } th scope="col" { "Began" } th.number.wide scope="col" { "Took" }
                        th.wide scope="col" { "What went wrong" }
                    }
                }
                tbody {
                    @for (address, results) in runs {
                        tr {
                            th scope="row" { a href=(address) { (results.run_id) } @if results.quick.is_some() { " " span.quiet { "quick" } } }
                            td { (verdict(results)) }
                            td { (level(results)) }
                            td.wide { (change(results)) }
                            td { (moment(results.started)) }
                            td.number.wide { (took(work(results))) }
                            td.long.wide { (results.reason.as_deref().and_then(|reason| reason.lines().next()).unwrap_or_default()) }
                        }
                    }
                }
            }
        }
    };
    whole(recipe, &[("../../index.html", "All recipes")], &body)
}

fn badge_text(runs: &[(String, &Results)]) -> String {
    let subject = badge::subject(runs.iter().map(|(_, results)| *results));
    subject.map_or_else(String::new, |subject| format!("cc-ci: {}", badge::words(subject)))
}

/// So many runs make a trend.
const TREND: usize = 20;
/// The size of a bar, and its distance to the next.
const BAR: usize = 6;
const GAP: usize = 2;
const HEIGHT: usize = 24;

/// The levels of the last runs as bars, oldest first. A run that tells of no level is a grey dot,
/// a quick one nothing.
pub(super) fn trend<'a>(runs: impl Iterator<Item = &'a Results>) -> Markup {
    let mut last: Vec<&Results> = runs.filter(|results| results.quick.is_none()).take(TREND).collect();
    last.reverse();
    let words = last.iter().map(|results| match results.tells_level() {
        true => results.level.to_string(),
        false => results.verdict.word().to_owned(),
    });
    let label = format!("Levels, oldest first: {}", words.collect::<Vec<_>>().join(", "));
    html! {
        svg.trend role="img" aria-label=(label) width=(last.len() * (BAR + GAP)) height=(HEIGHT) {
            title { (label) }
            @for (place, results) in last.iter().enumerate() {
                @let height = if results.tells_level() { (results.level * 4).max(2) + 4 } else { BAR / 2 };
                @let class = if !results.tells_level() { "unver" } else if results.exit_code == 0 { "pass" } else { "fail" };
                rect class=(class) x=(place * (BAR + GAP)) y=(HEIGHT - height) width=(BAR) height=(height) rx="1" {}
            }
        }
    }
}
