//! The first page of a host: every recipe with its level and trend; what needs somebody comes first.

use jiff::Timestamp;
use maud::html;

use super::{badge, change, level, moment, recipe::trend, took, verdict, whole, work};
use crate::history::median;
use crate::outcome::Verdict;
use crate::results::Results;

/// The page, from each recipe's runs, the last one first.
pub(crate) fn page(host: &str, recipes: &[(String, Vec<&Results>)], now: Timestamp) -> String {
    let mut rows: Vec<_> = recipes.iter().filter_map(|(name, runs)| Some((name, runs, last(runs)?))).collect();
    rows.sort_by(|one, other| {
        (one.2.verdict == Verdict::Green, one.0).cmp(&(other.2.verdict == Verdict::Green, other.0))
    });
    let green = rows.iter().filter(|(_, _, last)| last.verdict == Verdict::Green).count();
    let body = html! {
        p.lead { (green) " of " (rows.len()) " recipes green" }
        @if rows.is_empty() { p { "No run has ended on this host yet." } } @else {
            div.scroll {
                table {
                    thead {
                        tr {
                            th scope="col" { "Recipe" } th scope="col" { "Last run" } th scope="col" { "Level" }
                            th scope="col" { "Trend" } th.wide scope="col" { "Tested" } th.wide scope="col" { "When" }
                            th.number.wide scope="col" { "Usually takes" }
                        }
                    }
                    tbody {
                        @for (name, runs, last) in rows {
                            tr {
                                th scope="row" { a href=(format!("recipes/{name}/index.html")) { (name) } }
                                td {
                                    a href=(format!("runs/{}/index.html", last.run_id)) { (verdict(last)) }
                                    @if let Some(reason) = last.reason.as_deref().and_then(|reason| reason.lines().next()) {
                                        div.why.wide { (reason) }
                                    }
                                }
                                // A run that was cancelled has not changed what is known of the recipe.
                                td { (level(badge::subject(runs.iter().copied()).unwrap_or(last))) }
                                td { (trend(runs.iter().copied())) }
                                td.wide { (change(last)) }
                                td.wide { (moment(last.started)) }
                                td.number.wide { (usual(runs)) }
                            }
                        }
                    }
                }
            }
        }
        footer { "As of " (moment(now)) ", from the runs that are kept on this host." }
    };
    whole(&format!("cc-ci on {host}"), &[], &body)
}

/// The run that says how a recipe is: a quick one does so only where there is no other.
fn last<'a>(runs: &[&'a Results]) -> Option<&'a Results> {
    runs.iter().find(|run| run.quick.is_none()).or(runs.first()).copied()
}

fn usual(runs: &[&Results]) -> String {
    let green: Vec<u64> =
        runs.iter().filter(|run| run.verdict == Verdict::Green && run.quick.is_none()).map(|run| work(run)).collect();
    if green.is_empty() { String::new() } else { took(median(green)) }
}
