//! Where results are told and where runs are asked for: `[forge]` and `[bridge]`.
//!
//! Both are off unless the file has them. Secrets are never in the file: it names the files that they are in.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// A repository of a forge, `owner/name`, of characters that mean nothing in a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

impl Repository {
    /// Its owner: a person or an organisation.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.0.split_once('/').map_or("", |(owner, _)| owner)
    }

    /// Its name, which is its recipe's too.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

impl std::str::FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = text.split_once('/').is_some_and(|(owner, name)| is_segment(owner) && is_segment(name));
        good.then(|| Self(text.to_owned())).ok_or_else(|| {
            format!("`{text}` is not a repository: write it as owner/name, of letters, digits, `-`, `_` and `.`")
        })
    }
}

impl TryFrom<String> for Repository {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.0
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` can stand in a URL's path as it is, and stays one segment of it.
#[must_use]
pub fn is_segment(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 100 && text.bytes().all(plain) && !text.bytes().all(|byte| byte == b'.')
}

/// `[forge]`: a Gitea or Forgejo that is told of the runs of pull requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forge {
    /// Its address, as `https://git.example.org`.
    pub url: String,
    /// The file with the token.
    pub token_file: PathBuf,
    /// Which repository a run belongs to that does not say so; `{recipe}` is replaced.
    #[serde(default = "of_coop_cloud")]
    pub repository: String,
    /// The name of the check.
    #[serde(default = "cc_ci")]
    pub context: String,
    /// The page of a run; `{run}` is replaced. Default: the build's page, where the CI names it.
    #[serde(default)]
    pub link: Option<String>,
    /// Whether there is a comment besides the commit's status.
    #[serde(default = "yes")]
    pub comment: bool,
    /// The longest that telling may take, tries and pauses included.
    #[serde(default = "twenty_seconds", with = "duration")]
    pub patience: Duration,
}

impl Forge {
    /// The repository of a recipe that does not say its own.
    ///
    /// # Errors
    /// When the setting does not make one of it.
    pub fn repository_of(&self, recipe: &str) -> Result<Repository, String> {
        self.repository.replace("{recipe}", recipe).parse()
    }
}

/// `[bridge]`: from `!testme` in a comment to a build.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// The repositories whose comments are read.
    pub repositories: Vec<Repository>,
    /// The organisation whose members may ask. Default: the repository's owner.
    #[serde(default)]
    pub members_of: Option<String>,
    /// Where it keeps what it has seen. Default: systemd's `StateDirectory=`, else `/var/lib/cc-ci-bridge`.
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    /// How far back it looks for comments that were written while it did not run.
    #[serde(default = "one_day", with = "duration")]
    pub look_back: Duration,
    /// How often the comments are read.
    #[serde(default = "thirty_seconds", with = "duration")]
    pub every: Duration,
    /// Where builds are started.
    pub drone: Drone,
    /// Where the forge may say that there is something to read.
    #[serde(default)]
    pub webhook: Option<Webhook>,
}

impl Bridge {
    /// The organisation whose members may ask for a test of this repository.
    #[must_use]
    pub fn organisation<'a>(&'a self, repository: &'a Repository) -> &'a str {
        self.members_of.as_deref().unwrap_or(repository.owner())
    }
}

/// `[bridge.drone]`: the Drone that builds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drone {
    /// Its address.
    pub url: String,
    /// The file with the token.
    pub token_file: PathBuf,
    /// The repository whose `.drone.yml` has the pipeline.
    pub repository: Repository,
    /// The branch of it.
    #[serde(default = "main")]
    pub branch: String,
}

/// `[bridge.webhook]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where to listen; the reverse proxy in front of it speaks TLS.
    pub listen: SocketAddr,
    /// The file with the secret that the forge signs with.
    pub secret_file: PathBuf,
}

fn of_coop_cloud() -> String {
    "coop-cloud/{recipe}".to_owned()
}

fn cc_ci() -> String {
    "cc-ci".to_owned()
}

fn main() -> String {
    "main".to_owned()
}

const fn yes() -> bool {
    true
}

const fn twenty_seconds() -> Duration {
    Duration::from_secs(20)
}

const fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

const fn one_day() -> Duration {
    Duration::from_secs(24 * 3600)
}

/// What is wrong with the two, by key.
///
/// # Errors
/// The first key whose value cannot be, and what would be right.
pub(super) fn judge(forge: Option<&Forge>, bridge: Option<&Bridge>) -> Result<(), (&'static str, String)> {
    if let Some(forge) = forge {
        address(&forge.url).map_err(|why| ("forge.url", why))?;
        absolute(&forge.token_file).map_err(|why| ("forge.token_file", why))?;
        forge.repository_of("x").map_err(|why| ("forge.repository", why))?;
        if !is_segment(&forge.context) {
            return Err(("forge.context", "must be a word of letters, digits, `-`, `_` and `.`".to_owned()));
        }
        if forge.patience.is_zero() {
            return Err(("forge.patience", "must be longer than zero".to_owned()));
        }
    }
    let Some(bridge) = bridge else { return Ok(()) };
    if forge.is_none() {
        return Err(("bridge", "needs [forge]: that is where the comments are".to_owned()));
    }
    if bridge.repositories.is_empty() {
        return Err(("bridge.repositories", "must name at least one owner/name".to_owned()));
    }
    if bridge.members_of.as_deref().is_some_and(|name| !is_segment(name)) {
        return Err(("bridge.members_of", "must be an organisation's name".to_owned()));
    }
    if bridge.every.is_zero() {
        return Err(("bridge.every", "must be longer than zero".to_owned()));
    }
    if let Some(dir) = &bridge.state_dir {
        absolute(dir).map_err(|why| ("bridge.state_dir", why))?;
    }
    if !bridge.drone.branch.split('/').all(is_segment) {
        return Err(("bridge.drone.branch", "must be a branch's name".to_owned()));
    }
    address(&bridge.drone.url).map_err(|why| ("bridge.drone.url", why))?;
    absolute(&bridge.drone.token_file).map_err(|why| ("bridge.drone.token_file", why))?;
    bridge
        .webhook
        .as_ref()
        .map_or(Ok(()), |webhook| absolute(&webhook.secret_file))
        .map_err(|why| ("bridge.webhook.secret_file", why))
}

fn absolute(path: &Path) -> Result<(), String> {
    if path.is_absolute() { Ok(()) } else { Err("must be an absolute path: a run works from `/`".to_owned()) }
}

/// An address to which a token may be sent.
fn address(text: &str) -> Result<(), String> {
    let uri: ureq::http::Uri = text.parse().map_err(|error| format!("`{text}` is not an address: {error}"))?;
    let host = uri.host().unwrap_or_default();
    let ours = host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match uri.scheme_str() {
        _ if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || uri.query().is_some() => {
            Err("must be a plain address, without a user and without a query".to_owned())
        }
        Some("https") => Ok(()),
        Some("http") if ours => Ok(()),
        _ => Err("must begin with https://: a token would travel in the clear (http:// is for loopback)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, strict};

    fn judged(text: &str) -> Result<Settings, String> {
        let settings: Settings = strict::parse("settings.toml", text).map_err(|error| error.to_string())?;
        settings.judge("settings.toml").map_err(|error| error.to_string())?;
        Ok(settings)
    }

    const FORGE: &str = "[forge]\nurl = \"https://git.example.org\"\ntoken_file = \"/run/token\"\n";
    const BRIDGE: &str = "[bridge]\nrepositories = [\"o/n\"]\n";
    const DRONE: &str =
        "[bridge.drone]\nurl = \"https://ci.example.org\"\ntoken_file = \"/run/drone\"\nrepository = \"o/ci\"\n";

    #[test]
    fn what_could_send_a_token_astray_or_never_work_is_refused_with_what_would_be_right() {
        let with = |text: &str, from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            judged(&text.replace(from, to)).unwrap_err()
        };
        let all = format!("{FORGE}{BRIDGE}{DRONE}");
        for (from, to, says) in [
            ("https://git", "http://git", "in the clear"),
            ("https://git", "https://user:pw@git", "without a user"),
            ("/run/token", "token", "forge.token_file"),
            ("/run/token\"", "/run/token\"\ntokn = \"x\"", "unknown key `tokn`"),
            ("/run/token\"", "/run/token\"\ncontext = \"a -->\"", "forge.context"),
            ("/run/token\"", "/run/token\"\nrepository = \"{recipe}\"", "owner/name"),
            ("\"o/n\"", "\"o/../n\"", "owner/name"),
            ("[\"o/n\"]", "[]", "at least one"),
            ("[\"o/n\"]", "[\"o/n\"]\nevery = \"0s\"", "longer than zero"),
            ("[\"o/n\"]", "[\"o/n\"]\nstate_dir = \"x\"", "bridge.state_dir"),
            ("https://ci", "ftp://ci", "https://"),
            ("\"o/ci\"", "\"o/ci\"\nbranch = \"main&x=1\"", "branch"),
        ] {
            let error = with(&all, from, to);
            assert!(error.contains(says), "{to}: {error}");
        }
        let lonely = judged(&format!("{BRIDGE}{DRONE}")).unwrap_err();
        assert!(lonely.contains("needs [forge]"), "{lonely}");
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let settings = judged(&format!("{FORGE}{BRIDGE}{DRONE}")).unwrap();
        let (forge, bridge) = (settings.forge.unwrap(), settings.bridge.unwrap());
        assert_eq!(forge.repository_of("hello").unwrap().to_string(), "coop-cloud/hello");
        assert_eq!((bridge.every, bridge.drone.branch.as_str()), (Duration::from_secs(30), "main"));
        assert_eq!((bridge.repositories[0].owner(), bridge.repositories[0].name()), ("o", "n"));
        assert!(judged(&FORGE.replace("https://git.example.org", "http://[::1]:3000")).is_ok());
    }
}
