//! What Swarm's and Docker's own words mean: whose fault it is, and whether waiting can help.
//!
//! The words are theirs and may change with a version. What is not known here is waited for as long as the recipe
//! says, and told as it is.

use std::time::Duration;

use crate::engine::Blame;

/// Words for a network of the host that takes no more tasks: without an address left (incidents `[9]`, `[vip]`), or
/// broken by a restart of Docker (moby/libnetwork#1765). Nothing gets better by waiting.
const NO_NETWORK: [&str; 4] = [
    "could not find an available IP",
    "ip addresses may be exhausted",
    "missing network attachments",
    "error creating vxlan interface",
];

/// Words for what this host has too little of, or has given to somebody else.
const SCARCE: [&str; 9] = [
    "address already in use",
    "port is already allocated",
    "host-mode port already in use",
    "insufficient resources",
    "not available for new tasks",
    "no space left on device",
    "cannot allocate memory",
    "resource temporarily unavailable",
    "too many open files",
];

/// Words for a pending task that no waiting places on this node: what the recipe asks for is not there.
const NEVER_HERE: [&str; 3] = ["scheduling constraints not satisfied", "unsupported platform", "missing plugin"];

/// What no node has yet, and other nodes' tasks give back: looked at for longer.
const MAX_REPLICAS: &str = "max replicas per node limit exceed";
/// A pending task's words are its last ones; before that they may be of a moment.
const SURE: Duration = Duration::from_secs(3);
/// What another stack may give back while it goes, it has given back by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether these words tell of a network of the host that takes no task.
pub(super) fn no_network(error: &str) -> bool {
    NO_NETWORK.iter().any(|words| error.contains(words))
}

/// Whose fault it is that a task ended, or waits, with these words.
pub(super) fn blame(error: &str) -> Blame {
    let host = no_network(error) || SCARCE.iter().any(|words| error.contains(words));
    if host { Blame::Host } else { Blame::Recipe }
}

/// For how long a pending task may say this until it is certain that it is never placed; `None` when it may always
/// still be. `too_large`: it reserves more than the node has in all. `own`: what it waits for is its own stack's.
pub(super) fn hopeless_after(error: &str, too_large: bool, own: bool) -> Option<Duration> {
    if NEVER_HERE.iter().any(|words| error.contains(words)) {
        return Some(SURE);
    }
    if error.contains("insufficient resources") {
        return too_large.then_some(SURE);
    }
    if error.contains("host-mode port already in use") {
        // An update gives it back when the old task has stopped.
        return (!own).then_some(PATIENCE);
    }
    (error.contains("not available for new tasks") || error.contains(MAX_REPLICAS)).then_some(PATIENCE)
}

/// One line of what somebody else wrote.
pub(super) fn line(text: &str) -> String {
    const MOST: usize = 300;
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() > MOST {
        words = words.chars().take(MOST).chain(['…']).collect();
    }
    words
}

/// The last lines of a log, equal ones that follow each other folded.
pub(super) fn folded(lines: &[String]) -> String {
    const MOST: usize = 20;
    let folded: Vec<String> = lines
        .chunk_by(|one, two| one == two)
        .filter_map(|same| {
            let first = same.first()?;
            Some(if same.len() == 1 { first.clone() } else { format!("{first} (×{})", same.len()) })
        })
        .collect();
    folded[folded.len().saturating_sub(MOST)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scarce_is_the_hosts_and_what_was_written_the_recipes() {
        for host in [
            "could not find an available IP while allocating VIP",
            "network sandbox join failed: error creating vxlan interface: file exists",
            "no suitable node (insufficient resources on 1 node)",
            "no suitable node (host-mode port already in use on 1 node)",
            "no suitable node (1 node not available for new tasks)",
            "driver failed: listen tcp4 0.0.0.0:80: bind: address already in use",
            "write /var/lib/docker/x: no space left on device",
        ] {
            assert_eq!(blame(host), Blame::Host, "{host}");
        }
        for recipe in [
            "no suitable node (scheduling constraints not satisfied on 1 node)",
            "No such image: x:1",
            "task: non-zero exit (3)",
            "invalid mount config for type \"bind\": bind source path does not exist: /x",
        ] {
            assert_eq!(blame(recipe), Blame::Recipe, "{recipe}");
        }
    }

    #[test]
    fn what_cannot_change_on_one_node_is_not_waited_for() {
        let after = |words: &str, too_large| hopeless_after(&format!("no suitable node ({words})"), too_large, false);
        assert_eq!(after("scheduling constraints not satisfied on 1 node", false), Some(SURE));
        assert_eq!(after("unsupported platform on 1 node", false), Some(SURE));
        assert_eq!(after("insufficient resources on 1 node", true), Some(SURE));
        assert_eq!(after("insufficient resources on 1 node", false), None, "another stack may give some back");
        assert_eq!(after("host-mode port already in use on 1 node", false), Some(PATIENCE));
        assert_eq!(hopeless_after("host-mode port already in use on 1 node", false, true), None, "an update's own");
        assert_eq!(after("something new", false), None);
    }

    #[test]
    fn equal_lines_of_a_log_are_folded() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(folded(&lines("a b b b c")), "a\nb (×3)\nc");
        assert_eq!(folded(&vec!["x".to_owned(); 21]), "x (×21)");
        assert_eq!(folded(&[]), "");
    }
}
