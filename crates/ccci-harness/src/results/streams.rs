//! Incident `[lost-event]`: verdicts over streams of events that something has happened to: lines that are missing, cut, glued, doubled, out of
//! order, or somebody else's. Green is only what all of it says.

use ccci_core::name::RunId;
use ccci_core::rundir::{RunDir, file};
use ccci_core::teardown::Receipt;
use jiff::Timestamp;
use proptest::prelude::*;

use super::evidence::Evidence;
use super::story::Story;
use super::verdict::{Asked, Case, judge, missing};
use crate::event::{Event, Stamped, WorkerEnd};
use crate::keeper::Facts;
use crate::outcome::{Outcome, Tier, Verdict};

/// The lines of a run in which each tier comes to `outcome`: the keeper's, the worker's with its numbers, the reaper's.
fn stream(outcome: impl Fn(Tier) -> Outcome) -> Vec<String> {
    let mut number = 0;
    let mut line = |workers: bool, event: Event| {
        number += u64::from(workers);
        let at = Timestamp::from_second(1000 + i64::try_from(number).unwrap()).unwrap();
        serde_json::to_string(&Stamped { at, n: workers.then_some(number), event }).unwrap()
    };
    let phase = |name: &str| Event::Phase { name: name.to_owned() };
    let version = Event::Version { version: "1.0.0".to_owned(), commit: "c0ffee".to_owned(), base: None };
    let mut lines = vec![line(false, Event::Locked { waited_ms: 5 }), line(true, phase("fetch")), line(true, version)];
    lines.push(line(true, Event::Lint { outcome: Outcome::unverified("no abra") }));
    for tier in Tier::ALL {
        lines.push(line(true, phase(&tier.to_string())));
        for name in ["generic/converged", "test.sh"] {
            let outcome = if outcome(tier) == Outcome::Pass { Outcome::Pass } else { Outcome::skip("not here") };
            lines.push(line(true, Event::Test { tier, name: name.to_owned(), outcome, milliseconds: 1 }));
        }
        lines.push(line(true, Event::Stage { tier, outcome: outcome(tier), milliseconds: 2, tests: 2 }));
    }
    lines.push(line(true, Event::Deploys { counted: 1, expected: 1 }));
    lines.push(line(true, Event::Secrets { leaked_into: Vec::new() }));
    lines.push(line(true, Event::Done { end: WorkerEnd::Finished }));
    lines.push(line(false, phase("teardown")));
    lines
}

fn passed() -> Vec<String> {
    stream(|_| Outcome::Pass)
}

fn verdict_of(events: &[u8], tiers: &[Tier]) -> (Verdict, Vec<String>) {
    let runs = tempfile::tempdir().unwrap();
    let (dir, _) = RunDir::create(runs.path(), &RunId::new("1").unwrap()).unwrap();
    std::fs::write(dir.join(file::EVENTS), events).unwrap();
    dir.put_json(file::RECEIPT, &Receipt { verified: true, ..Receipt::default() }).unwrap();
    let (facts, evidence) = (Facts::default(), Evidence::read(&dir));
    let story = Story::of(&evidence.events, Timestamp::UNIX_EPOCH);
    let case = Case { facts: &facts, story: &story, evidence: &evidence, asked: Asked::Tiers { tiers, quick: false } };
    (judge(&case).0, missing(&case))
}

/// What may become of a file of events.
#[derive(Debug, Clone)]
enum Harm {
    Drop(prop::sample::Index),
    Cut(prop::sample::Index, prop::sample::Index),
    Glue(prop::sample::Index),
    Double(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    EndAt(prop::sample::Index),
    Foreign(prop::sample::Index, usize),
}

/// Lines that a test may put there, whole or not.
const FOREIGN: [&[u8]; 6] = [
    b"{\"at\":\"2026-01-01T00:00:00Z\",\"event\":\"note\",\"text\":\"u",
    b"{\"text\":\"\xc3",
    b"\n\n\0",
    b"{\"at\":\"2026-01-01T00:00:00Z\",\"event\":\"stage\",\"tier\":\"upgrade\",\"outcome\":\"pass\",\"milliseconds\":1,\"tests\":0}",
    b"{\"at\":\"2026-01-01T00:00:00Z\",\"event\":\"done\",\"end\":\"finished\"}",
    b"[]",
];

fn harm() -> impl Strategy<Value = Harm> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        at().prop_map(Harm::Drop),
        (at(), at()).prop_map(|(line, byte)| Harm::Cut(line, byte)),
        at().prop_map(Harm::Glue),
        at().prop_map(Harm::Double),
        (at(), at()).prop_map(|(one, other)| Harm::Swap(one, other)),
        at().prop_map(Harm::EndAt),
        (at(), 0..FOREIGN.len()).prop_map(|(line, which)| Harm::Foreign(line, which)),
    ]
}

fn harmed(lines: Vec<String>, harms: &[Harm]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = lines.into_iter().map(|line| (line + "\n").into_bytes()).collect();
    let mut end = None;
    for harm in harms {
        let all = lines.len().max(1);
        match harm {
            _ if lines.is_empty() => {}
            Harm::Drop(line) => drop(lines.remove(line.index(all))),
            Harm::Cut(line, byte) => {
                let line = &mut lines[line.index(all)];
                line.truncate(byte.index(line.len()));
                line.push(b'\n');
            }
            Harm::Glue(line) => drop(lines[line.index(all)].pop()),
            Harm::Double(line) => lines.push(lines[line.index(all)].clone()),
            Harm::Swap(one, other) => lines.swap(one.index(all), other.index(all)),
            Harm::EndAt(at) => end = Some(at),
            Harm::Foreign(line, which) => {
                lines.insert(line.index(all), [FOREIGN[*which], b"\n"].concat());
            }
        }
    }
    let mut bytes = lines.concat();
    if let Some(at) = end {
        bytes.truncate(at.index(bytes.len().max(1)));
    }
    bytes
}

/// Whether each line of the worker's is in there, whole and by itself.
fn is_all_there(bytes: &[u8], lines: &[String]) -> bool {
    let there: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    lines.iter().filter(|line| line.contains("\"n\":")).all(|line| there.contains(&line.as_bytes()))
}

proptest! {
    #[test]
    fn a_run_is_green_exactly_if_all_that_its_worker_said_is_there(harms in prop::collection::vec(harm(), 0..6)) {
        let bytes = harmed(passed(), &harms);
        let (verdict, missing) = verdict_of(&bytes, &Tier::ALL);
        let wanted = if is_all_there(&bytes, &passed()) { Verdict::Green } else { Verdict::Incomplete };
        prop_assert_eq!(verdict, wanted, "{:?}: {}", missing, String::from_utf8_lossy(&bytes));
        prop_assert_eq!(missing.is_empty(), verdict == Verdict::Green);
    }

    #[test]
    fn a_run_with_a_tier_that_did_not_pass_is_never_green(
        harms in prop::collection::vec(harm(), 0..6),
        tier in prop::sample::select(Tier::ALL.to_vec()),
        bad in prop::sample::select(vec![Outcome::fail("x"), Outcome::unverified("x"), Outcome::skip("")]),
    ) {
        let lines = stream(|of| if of == tier { bad.clone() } else { Outcome::Pass });
        let (verdict, _) = verdict_of(&harmed(lines, &harms), &Tier::ALL);
        prop_assert!(matches!(verdict, Verdict::Red | Verdict::Incomplete), "{verdict:?}");
    }
}

#[test]
fn each_line_of_the_worker_is_missed() {
    let all = passed();
    assert_eq!(verdict_of(all.join("\n").as_bytes(), &Tier::ALL), (Verdict::Green, Vec::new()));
    for number in (0..all.len()).filter(|number| all[*number].contains("\"n\":")) {
        let mut lines = all.clone();
        let gone = lines.remove(number);
        let (verdict, missing) = verdict_of(lines.join("\n").as_bytes(), &Tier::ALL);
        assert_eq!(verdict, Verdict::Incomplete, "{gone}");
        assert!(!missing.is_empty(), "{gone}");
    }
}

#[test]
fn a_tier_that_was_not_asked_for_need_not_pass_and_a_skip_has_its_reason() {
    let lines = stream(|tier| match tier {
        Tier::Custom => Outcome::unverified("not asked for"),
        Tier::Upgrade => Outcome::skip("the recipe has no release before this ref"),
        _ => Outcome::Pass,
    });
    let verdict = |tiers: &[Tier]| verdict_of(lines.join("\n").as_bytes(), tiers).0;
    assert_eq!(verdict(&Tier::ALL[..4]), Verdict::Green);
    assert_eq!(verdict(&Tier::ALL), Verdict::Incomplete);
    // Without an install there is nothing to test, whether or not it was named.
    let no_install = stream(|tier| if tier == Tier::Install { Outcome::unverified("x") } else { Outcome::Pass });
    assert_eq!(verdict_of(no_install.join("\n").as_bytes(), &[Tier::Custom]).0, Verdict::Incomplete);
}

#[test]
fn an_event_that_is_there_twice_and_differs_is_not_believed() {
    let mut lines = passed();
    let forged = lines
        .iter()
        .find(|line| line.contains("\"stage\""))
        .unwrap()
        .replace("\"milliseconds\":2", "\"milliseconds\":3");
    lines.push(forged);
    let (verdict, missing) = verdict_of(lines.join("\n").as_bytes(), &Tier::ALL);
    assert_eq!(verdict, Verdict::Incomplete);
    assert!(missing[0].contains("twice"), "{missing:?}");
}
