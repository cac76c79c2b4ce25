//! What somebody asks for in a comment.

/// A build that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// A quick run.
    pub(super) quick: bool,
}

/// The wish of a comment: its first line is the command and nothing else, so that who quotes or explains the
/// command does not give it.
pub(super) fn parse(body: &str) -> Option<Wish> {
    let mut words = body.trim_start().lines().next()?.split_ascii_whitespace();
    if words.next() != Some("!testme") {
        return None;
    }
    let quick = match words.next() {
        None => false,
        Some("--quick") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Wish { quick })
}

/// The pull request that a comment is on, by the end of the address that the forge gives for it.
pub(super) fn pull_of(url: &str) -> Option<u64> {
    let (rest, number) = url.trim_end_matches('/').rsplit_once('/')?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    (rest.ends_with("/pulls") || rest.ends_with("/pull")).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_command_itself_is_a_wish() {
        for body in ["!testme", "  !testme  ", "!testme\r\nplease", "\n!testme\n"] {
            assert_eq!(parse(body), Some(Wish { quick: false }), "{body:?}");
        }
        assert_eq!(parse("!testme --quick"), Some(Wish { quick: true }));
        for body in
            ["", "> !testme", "`!testme`", "please !testme", "!testmee", "!TESTME", "!testme --fast", "!testme x y"]
        {
            assert_eq!(parse(body), None, "{body:?}");
        }
    }

    #[test]
    fn a_comment_on_an_issue_is_on_no_pull_request() {
        assert_eq!(pull_of("https://git.example.org/o/n/pulls/12"), Some(12));
        for url in
            ["", "https://git.example.org/o/n/issues/12", "https://x/pulls/0", "https://x/pulls/1/files", "pulls"]
        {
            assert_eq!(pull_of(url), None, "{url}");
        }
    }
}
