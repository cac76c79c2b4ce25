//! Whether a comment approves a commit: a member answers for what they could see, not for what is there by the
//! time that somebody looks.
//!
//! A commit's own dates are its author's to choose. What counts is the forge's row of pushes to the pull request,
//! whose numbers are in one row with the comments'. A push is visible before it is in that row, so silence there
//! proves nothing: the last push must have led to the very head.

use ccci_core::weaken::{self, Protection};
use ccci_forge::api::{Comment, Push};

/// What a comment says of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Approval {
    /// It is for this commit.
    Given,
    /// It is not, and why.
    Refused(String),
    /// The forge does not know yet, or never will, and what is missing.
    Unknown(String),
}

/// By the commit that the comment names.
pub(crate) fn by_name(wanted: &str, head: &str) -> Approval {
    if head.starts_with(wanted) {
        Approval::Given
    } else {
        Approval::Refused(format!("the pull request's head is `{}`, not `{}`", short(head), short(wanted)))
    }
}

/// By the moment at which it was written.
pub(crate) fn by_time(comment: &Comment, head: &str, pushes: &[Push]) -> Approval {
    if !weaken::on(Protection::SeenHead) {
        return Approval::Given;
    }
    let Some(last) = pushes.iter().max_by_key(|push| push.id) else {
        return Approval::Unknown("the forge tells of no push to this pull request".to_owned());
    };
    let after = pushes.iter().find(|push| push.id > comment.id || push.created_at > comment.created_at);
    match after {
        Some(push) => Approval::Refused(format!(
            "`{}` was pushed after the comment, at {}",
            short(push.commits.last().map_or(head, String::as_str)),
            push.created_at
        )),
        None if last.led_to(head) => Approval::Given,
        None => Approval::Unknown(format!("the forge does not tell when `{}` was pushed", short(head))),
    }
}

/// How a commit is called in a sentence.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn comment(id: u64, second: i64) -> Comment {
        Comment { id, user: None, body: String::new(), created_at: at(second), pull_request_url: String::new() }
    }

    fn push(id: u64, second: i64, commits: &[&str]) -> Push {
        let commits = commits.iter().map(|commit| (*commit).to_owned()).collect();
        Push { id, created_at: at(second), forced: false, commits }
    }

    #[test]
    fn a_comment_is_for_the_head_that_was_pushed_before_it_and_for_no_other() {
        let said = comment(10, 100);
        let first = push(1, 50, &["aaaa"]);
        assert_eq!(by_time(&said, "aaaa", std::slice::from_ref(&first)), Approval::Given);
        for later in [push(11, 100, &["bbbb"]), push(11, 101, &["bbbb"]), push(9, 101, &["bbbb"])] {
            let pushes = [first.clone(), later];
            for head in ["bbbb", "aaaa"] {
                assert!(matches!(by_time(&said, head, &pushes), Approval::Refused(why) if why.contains("`bbbb`")));
            }
        }
        let same_second = [first.clone(), push(9, 100, &["bbbb"])];
        assert_eq!(by_time(&said, "bbbb", &same_second), Approval::Given, "its number is lower");
    }

    #[test]
    fn a_head_that_no_push_led_to_is_approved_by_nobody() {
        let said = comment(10, 100);
        assert!(matches!(by_time(&said, "bbbb", &[push(1, 50, &["aaaa"])]), Approval::Unknown(_)), "on its way");
        assert!(matches!(by_time(&said, "aaaa", &[]), Approval::Unknown(_)));
        let back = [push(1, 50, &["aaaa"]), Push { forced: true, ..push(2, 60, &["aaaa", "bbbb"]) }];
        assert!(matches!(by_time(&said, "aaaa", &back), Approval::Unknown(_)), "forced back, and not told of yet");
        assert_eq!(by_time(&said, "bbbb", &back), Approval::Given);
    }

    #[test]
    fn a_name_is_the_heads_or_it_is_refused() {
        let head = "0123456789abcdef";
        assert_eq!(by_name("0123456", head), Approval::Given);
        assert!(matches!(by_name("1234567", head), Approval::Refused(_)));
        assert!(matches!(by_name(&format!("{head}0"), head), Approval::Refused(_)));
    }
}
