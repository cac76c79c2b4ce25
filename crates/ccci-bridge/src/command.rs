//! What somebody asks for in a comment.

/// The shortest begin of a commit id that names one.
const SHORTEST: usize = 7;

/// A build that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// A quick run.
    pub(crate) quick: bool,
    /// The commit, or how its id begins.
    pub(crate) commit: Option<String>,
}

/// The wish of a comment: its first line is the command and nothing else, so that who quotes or explains the
/// command does not give it.
pub(crate) fn parse(body: &str) -> Option<Wish> {
    let mut words = body.trim_start().lines().next()?.split_ascii_whitespace();
    if words.next() != Some("!testme") {
        return None;
    }
    let mut wish = Wish { quick: false, commit: None };
    for word in words {
        match word {
            "--quick" if !wish.quick => wish.quick = true,
            id if wish.commit.is_none() && is_id(id) => wish.commit = Some(id.to_ascii_lowercase()),
            _ => return None,
        }
    }
    Some(wish)
}

fn is_id(word: &str) -> bool {
    (SHORTEST..=64).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The pull request that a comment is on, by the end of the address that the forge gives for it.
pub(crate) fn pull_of(url: &str) -> Option<u64> {
    let (rest, number) = url.trim_end_matches('/').rsplit_once('/')?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    (rest.ends_with("/pulls") || rest.ends_with("/pull")).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_command_itself_is_a_wish() {
        let wish = |quick, commit: &str| Some(Wish { quick, commit: (!commit.is_empty()).then(|| commit.to_owned()) });
        for body in ["!testme", "  !testme  ", "!testme\r\nplease", "\n!testme\n"] {
            assert_eq!(parse(body), wish(false, ""), "{body:?}");
        }
        assert_eq!(parse("!testme --quick"), wish(true, ""));
        assert_eq!(parse("!testme ABCDEF0"), wish(false, "abcdef0"));
        assert_eq!(parse("!testme 0123456789 --quick"), wish(true, "0123456789"));
        assert_eq!(parse("!testme --quick 0123456789\n"), wish(true, "0123456789"));
        for body in [
            "",
            "> !testme",
            "`!testme`",
            "please !testme",
            "!testmee",
            "!TESTME",
            "!testme --fast",
            "!testme x y",
            "!testme abcdef",
            "!testme 0123456 0123456",
            "!testme --quick --quick",
            "!testme main",
        ] {
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
