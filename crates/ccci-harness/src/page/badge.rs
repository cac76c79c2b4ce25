//! A badge with the level.

use maud::html;

use crate::outcome::Verdict;
use crate::results::Results;

/// The badge, as SVG.
pub(crate) fn svg(results: &Results) -> String {
    let right = match results.verdict {
        Verdict::Green | Verdict::Red => format!("level {}", results.level),
        other => other.word().to_owned(),
    };
    let left = "cc-ci";
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
