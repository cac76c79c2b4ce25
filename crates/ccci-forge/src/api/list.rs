//! Lists, which come in pages.
//!
//! Anybody may write a comment, so no entry may hide the others: not one that cannot be understood, not one that
//! is longer than an answer may be, not a thousand of them.

use std::collections::BTreeSet;

use ccci_core::lifetime::clock::Deadline;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::Method;

use super::List;
use crate::remote::{Remote, Trouble};

/// How much of a list is asked for at once.
const PAGE: usize = 50;
/// A list that does not end here is not read any further.
const MOST: usize = 10_000;

/// A list to its end. A forge that does not page repeats itself, which is an end too.
pub(super) fn read<T: DeserializeOwned>(
    remote: &Remote,
    path: &str,
    until: Deadline,
    id: impl Fn(&T) -> u64,
) -> Result<List<T>, Trouble> {
    let (mut list, mut known) = (List { items: Vec::new(), unread: Vec::new(), date: None }, BTreeSet::new());
    // The page that comes next, in pages of this size.
    let (mut size, mut page, mut before) = (PAGE, 1, Vec::new());
    while size * page <= MOST {
        let answer = match remote.ask(&Method::GET, &format!("{path}limit={size}&page={page}"), None, until) {
            Ok(answer) => answer,
            // Several long ones, or one: each is asked for by itself.
            Err(Trouble::TooLong { .. }) if size > 1 => {
                (size, page) = (1, size * (page - 1) + 1);
                continue;
            }
            Err(Trouble::TooLong { .. }) => {
                list.unread.push("an entry of more than 4 MiB".to_owned());
                page += 1;
                continue;
            }
            Err(other) => return Err(other),
        };
        // The first page's: what comes later may miss what is written meanwhile.
        list.date = list.date.or(answer.date);
        let entries: Vec<Value> = remote.understand(&answer)?;
        // A page may be shorter than what was asked for, if the forge's own limit is.
        if entries.is_empty() || entries == before {
            return Ok(list);
        }
        // Null is Gitea's entry for what it cannot load itself.
        for entry in entries.iter().filter(|entry| !entry.is_null()) {
            match T::deserialize(entry) {
                Ok(item) if known.insert(id(&item)) => list.items.push(item),
                Ok(_repeated) => {}
                Err(error) => list.unread.push(format!("entry {}: {error}", entry["id"])),
            }
        }
        before = entries;
        page += 1;
        if size == 1 && (page - 1) % PAGE == 0 {
            (size, page) = (PAGE, (page - 1) / PAGE + 1);
        }
    }
    Err(remote.nonsense(&format!("a list of more than {MOST} entries")))
}
