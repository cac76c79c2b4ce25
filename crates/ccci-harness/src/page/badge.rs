//! A badge with the level.

use maud::html;

use crate::outcome::Verdict;
use crate::results::Results;

/// What it says: the level, where the run tells of one.
pub(super) fn words(results: &Results) -> String {
    match results.tells_level() {
        true => format!("level {}", results.level),
        false if results.quick.is_some() => format!("quick: {}", results.verdict.word()),
        false => results.verdict.word().to_owned(),
    }
}

/// The run that a recipe's badge is about: the last one that tells of a level, else the last one.
pub(crate) fn subject<'a>(mut runs: impl Iterator<Item = &'a Results> + Clone) -> Option<&'a Results> {
    let told = runs.clone().find(|results| results.tells_level());
    told.or_else(|| runs.clone().find(|results| results.quick.is_none())).or_else(|| runs.next())
}

/// The badge, as SVG.
pub(crate) fn svg(results: &Results) -> String {
    let (left, right) = ("cc-ci", words(results));
    let colour = match results.verdict {
        Verdict::Green => "#2e7d32",
        Verdict::Red => "#c62828",
        _ => "#616161",
    };
    let width = |text: &str| 10 + 7 * text.len();
    let (a, b) = (width(left), width(&right));
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(a + b) height="20" role="img" aria-label=(format!("{left}: {right}")) {
            title { (left) ": " (right) }
            rect width=(a) height="20" fill="#444" {}
            rect x=(a) width=(b) height="20" fill=(colour) {}
            g fill="#fff" text-anchor="middle" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11" {
                text x=(a / 2) y="14" { (left) }
                text x=(a + b / 2) y="14" { (right) }
            }
        }
    };
    markup.into_string()
}
