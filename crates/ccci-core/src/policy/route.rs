//! A rule of Traefik's: whether all that it catches is asked for by one of the app's own names.

/// Whether every request that `rule` catches has a host that `is_own` knows. A rule that cannot be understood
/// catches anything.
pub(super) fn is_bounded(rule: &str, is_own: &dyn Fn(&str) -> bool) -> bool {
    // The form of the first version: `Host:a,b;PathPrefix:/x`, all of which must hold.
    if !rule.contains('(') {
        return rule.split(';').any(|part| {
            let (matcher, hosts) = part.split_once(':').unwrap_or_default();
            matcher.trim().eq_ignore_ascii_case("host") && hosts.split(',').all(|host| is_own(host.trim()))
        });
    }
    let mut parser = Parser { rest: rule.trim(), is_own, depth: 0 };
    parser.either().is_some_and(|bounded| bounded && parser.rest.is_empty())
}

struct Parser<'a> {
    rest: &'a str,
    is_own: &'a dyn Fn(&str) -> bool,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn take(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    /// `a || b` is bounded if both are.
    fn either(&mut self) -> Option<bool> {
        let mut bounded = self.both()?;
        while self.take("||") {
            bounded &= self.both()?;
        }
        Some(bounded)
    }

    /// `a && b` is bounded if one is.
    fn both(&mut self) -> Option<bool> {
        let mut bounded = self.one()?;
        while self.take("&&") {
            bounded |= self.one()?;
        }
        Some(bounded)
    }

    fn one(&mut self) -> Option<bool> {
        self.depth += 1;
        if self.depth > 100 {
            return None;
        }
        if self.take("!") {
            return self.one().map(|_| false);
        }
        if self.take("(") {
            let bounded = self.either()?;
            return self.take(")").then_some(bounded);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric())?;
        let (matcher, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if !self.take("(") {
            return None;
        }
        let arguments = self.arguments()?;
        let by_host = ["host", "hostheader", "hostsni"].iter().any(|known| matcher.eq_ignore_ascii_case(known));
        Some(by_host && !arguments.is_empty() && arguments.iter().all(|host| (self.is_own)(host)))
    }

    fn arguments(&mut self) -> Option<Vec<&'a str>> {
        let mut arguments = Vec::new();
        loop {
            if self.take(")") {
                return Some(arguments);
            }
            // Recipes add further hosts by a variable that begins with a comma.
            if self.take(",") {
                continue;
            }
            let quote = self.rest.chars().next().filter(|c| ['`', '"', '\''].contains(c))?;
            let inside = &self.rest[1..];
            let end = inside.find(quote)?;
            // An escaped quote would end somewhere else for others.
            arguments.push(Some(&inside[..end]).filter(|text| !text.contains('\\'))?);
            self.rest = inside[end + 1..].trim_start();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_bounded_by_the_apps_own_hosts_or_not_at_all() {
        let own = |host: &str| host == "a" || host == "b";
        for rule in [
            "Host(`a`)",
            "Host(`a`, `b`)",
            "Host(`a`,)",
            "Host(\"a\") && PathPrefix(`/x`)",
            "PathPrefix(`/x`) && Host(`b`)",
            "(Host(`a`) || Host(`b`)) && !Path(`/x`)",
            "HostSNI(`a`)",
            "Host:a,b;PathPrefix:/x",
            "PathPrefix:/;Host:a",
        ] {
            assert!(is_bounded(rule, &own), "{rule}");
        }
        for rule in [
            "Host(`c`)",
            "Host(`a`, `c`)",
            "Host(`a`) || PathPrefix(`/x`)",
            "Host(`a`) || Host(`c`) && Path(`/`)",
            "!Host(`a`)",
            "!(Host(`a`))",
            "PathPrefix(`/`)",
            "HostRegexp(`.*`)",
            "HostSNI(`*`)",
            "Host(`a`) Host(`c`)",
            "Host(`a`",
            "Host()",
            "Host(`a\\`, `c`)",
            "Host:a,c",
            "PathPrefix:/",
            "anything",
            "(",
        ] {
            assert!(!is_bounded(rule, &own), "{rule}");
        }
        assert!(!is_bounded(&"!".repeat(100_000), &own), "it ends");
        assert!(!is_bounded(&"(".repeat(100_000), &own), "it ends");
    }
}
