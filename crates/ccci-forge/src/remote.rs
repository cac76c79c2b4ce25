//! A service that speaks JSON behind a token: a forge, a Drone.
//!
//! Everything here is bounded: an answer in size, an attempt in time, and all attempts together by the
//! deadline that the caller gives. The token goes to that one address only: no redirect is followed.

pub mod retry;
pub mod secret;

use std::sync::Arc;
use std::time::Duration;

use ccci_core::lifetime::clock::Deadline;
use ccci_core::redact::Redactor;
use ccci_core::resolve::Addresses;
use ccci_core::visible;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderValue, Method, Request, Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use secret::Secret;

/// One attempt may take this long.
const ATTEMPT: Duration = Duration::from_secs(10);
/// A longer answer is none of ours.
const LONGEST_ANSWER: u64 = 4 * 1024 * 1024;
/// How much of what a service says about its refusal is passed on.
const LONGEST_WORD: usize = 200;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody answered.
    #[error("{service} at {url} does not answer: {why}")]
    Unreachable {
        /// Which.
        service: &'static str,
        /// Where.
        url: String,
        /// Why not.
        why: String,
        /// Whether it may have heard the question.
        heard: bool,
    },
    /// It cannot now; another time it may.
    #[error("{service} at {url} answered {status}{said}")]
    Busy {
        /// Which.
        service: &'static str,
        /// Where.
        url: String,
        /// With what.
        status: u16,
        /// In its words.
        said: String,
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
    /// It does not want to, and will not.
    #[error("{service} at {url} answered {status}{said}{}", remedy(*status))]
    Refused {
        /// Which.
        service: &'static str,
        /// Where.
        url: String,
        /// With what.
        status: u16,
        /// In its words.
        said: String,
    },
    /// It answered more than anybody reads.
    #[error("{service} at {url} answered what is longer than 4 MiB")]
    TooLong {
        /// Which.
        service: &'static str,
        /// Where.
        url: String,
    },
    /// It answered something that it never answers.
    #[error("{service} at {url} answered what cannot be understood: {why}")]
    Nonsense {
        /// Which.
        service: &'static str,
        /// Where.
        url: String,
        /// Why not.
        why: String,
    },
}

impl Trouble {
    /// The scopes that a token lacks, where the forge says so: `required=[read:organization]`.
    #[must_use]
    pub fn missing_scope(&self) -> Option<&str> {
        let Self::Refused { status: 403, said, .. } = self else { return None };
        let (scopes, _) = said.split_once("required=[")?.1.split_once(']')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | ',' | '_' | '-' | ' ');
        Some(scopes).filter(|scopes| !scopes.is_empty() && scopes.chars().all(plain))
    }
}

fn remedy(status: u16) -> &'static str {
    match status {
        300..=399 => "; redirects are not followed with a token: is the configured url the final one?",
        401 => "; is the token right, and not expired?",
        403 => "; does the token have the scopes and rights for it? docs/operations.md names them",
        404 => "; is it there, and may the token's user see it?",
        _ => "",
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status, a good one.
    pub status: u16,
    /// The service's own clock.
    pub date: Option<Timestamp>,
    body: Vec<u8>,
}

/// The service.
#[derive(Debug)]
pub struct Remote {
    service: &'static str,
    base: String,
    agent: Agent,
    authorization: HeaderValue,
    redactor: Redactor,
    attempt: Duration,
}

impl Remote {
    /// The service at `base`; `scheme` is how it wants its token introduced.
    ///
    /// # Errors
    /// When the token cannot stand in a header.
    pub fn new(service: &'static str, base: &str, scheme: &str, token: &Secret) -> anyhow::Result<Self> {
        let mut authorization = HeaderValue::from_str(&format!("{scheme} {}", token.reveal()))
            .map_err(|_| anyhow::anyhow!("the token for {service} cannot stand in a header"))?;
        authorization.set_sensitive(true);
        let mut redactor = Redactor::default();
        redactor.learn(token.reveal());
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .tls_config(tls(base))
            .user_agent(concat!("cc-ci/", env!("CARGO_PKG_VERSION")));
        Ok(Self {
            service,
            base: base.trim_end_matches('/').to_owned(),
            agent: Agent::with_parts(config.build(), DefaultConnector::default(), Addresses),
            authorization,
            redactor,
            attempt: ATTEMPT,
        })
    }

    /// The same service, an attempt at which may take this long.
    #[must_use]
    pub const fn patient(mut self, attempt: Duration) -> Self {
        self.attempt = attempt;
        self
    }

    /// Asks until there is an answer, it is certain that there will be none, or the deadline has come.
    ///
    /// # Errors
    /// The last [`Trouble`].
    pub fn ask(&self, method: &Method, path: &str, body: Option<&Value>, until: Deadline) -> Result<Answer, Trouble> {
        retry::while_it_may_help(until, || self.ask_once(method, path, body, until))
    }

    /// [`Remote::ask`], once.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn ask_once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        until: Deadline,
    ) -> Result<Answer, Trouble> {
        let attempt = until.left().min(self.attempt);
        match self.send(method, path, body, attempt) {
            Ok(response) => self.judge(response),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        attempt: Duration,
    ) -> Result<Response<ureq::Body>, ureq::Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::ACCEPT, "application/json");
        let attempt = Some(attempt.max(Duration::from_millis(1)));
        if *method == Method::GET {
            let request = self.agent.configure_request(request.body(())?).timeout_global(attempt).build();
            return self.agent.run(request);
        }
        // Also where there is nothing to say: some proxies refuse a POST without a length.
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body)?;
        self.agent.run(self.agent.configure_request(request).timeout_global(attempt).build())
    }

    fn judge(&self, mut response: Response<ureq::Body>) -> Result<Answer, Trouble> {
        let status = response.status().as_u16();
        let field = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let date = field(header::DATE).and_then(retry::http_date);
        let after = field(header::RETRY_AFTER).and_then(|text| retry::after(text, date));
        let body = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec();
        let (service, url) = (self.service, self.base.clone());
        match status {
            200..=299 => match body {
                Ok(body) => Ok(Answer { status, date, body }),
                Err(ureq::Error::BodyExceedsLimit(_)) => Err(Trouble::TooLong { service, url }),
                Err(error) => Err(self.unreachable(&error)),
            },
            429 | 500..=599 => Err(Trouble::Busy { service, url, status, said: self.word(body), after }),
            _ => Err(Trouble::Refused { service, url, status, said: self.word(body) }),
        }
    }

    /// The answer, understood.
    ///
    /// # Errors
    /// [`Trouble::Nonsense`].
    pub fn understand<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Trouble> {
        serde_json::from_slice(&answer.body).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// An answer that makes no sense.
    pub fn nonsense(&self, why: &str) -> Trouble {
        Trouble::Nonsense { service: self.service, url: self.base.clone(), why: self.redactor.clean(why) }
    }

    fn unreachable(&self, error: &ureq::Error) -> Trouble {
        let why = self.redactor.clean(&error.to_string());
        Trouble::Unreachable { service: self.service, url: self.base.clone(), why, heard: !before_sending(error) }
    }

    /// What it said about a refusal, short, on one line, and without the token that it may have echoed.
    fn word(&self, body: Result<Vec<u8>, ureq::Error>) -> String {
        let body = body.unwrap_or_default();
        let text = match serde_json::from_slice::<Value>(&body) {
            Ok(json) => json["message"].as_str().unwrap_or_default().to_owned(),
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        let text = one_line(&self.redactor.clean(&text), LONGEST_WORD);
        if text.is_empty() { text } else { format!(": {text}") }
    }
}

/// Whether it went wrong before anything was sent.
fn before_sending(error: &ureq::Error) -> bool {
    use ureq::{Error, Timeout};
    match error {
        Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        Error::Io(error) => {
            // The second: no thread for the resolver.
            matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::OutOfMemory)
        }
        _ => false,
    }
}

/// The roots that the host trusts, an operator's own among them (`SSL_CERT_FILE` is honoured).
fn tls(base: &str) -> TlsConfig {
    if !base.starts_with("https:") {
        return TlsConfig::default();
    }
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a root certificate is passed over");
    }
    let roots = found.certs.iter().map(|der| Certificate::from_der(der).to_owned());
    TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

/// A text on one line, without control characters, cut at `longest` characters.
#[must_use]
pub fn one_line(text: &str, longest: usize) -> String {
    let text = visible::text(text);
    let mut words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.by_ref().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= longest {
        line
    } else {
        line.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_that_is_missing_is_read_from_the_refusal_and_from_nothing_else() {
        let refused = |status, said: &str| Trouble::Refused {
            service: "the forge",
            url: String::new(),
            status,
            said: said.to_owned(),
        };
        let says =
            ": token does not have at least one of required scope(s), required=[read:organization], token scope=x";
        assert_eq!(refused(403, says).missing_scope(), Some("read:organization"));
        assert_eq!(refused(404, says).missing_scope(), None);
        for other in ["", ": no", "required=[]", "required=[<b>]", "required=[a"] {
            assert_eq!(refused(403, other).missing_scope(), None, "{other}");
        }
    }

    #[test]
    fn what_a_service_says_is_passed_on_short_on_one_line_and_without_the_token() {
        let token = Secret::of("0123456789abcdef");
        let remote = Remote::new("the forge", "http://127.0.0.1:1/", "token", &token).unwrap();
        let said = |body: &str| remote.word(Ok(body.as_bytes().to_vec()));
        assert_eq!(said(r#"{"message":"no\n\u001b[31mway"}"#), ": no ␛[31mway");
        assert_eq!(said("<html>0123456789abcdef</html>"), ": <html>***</html>");
        assert_eq!(said(""), "");
        assert_eq!(said(&"x".repeat(1000)).chars().count(), 2 + LONGEST_WORD);
        assert!(!format!("{remote:?} {token:?}").contains("0123456789abcdef"));
    }
}
