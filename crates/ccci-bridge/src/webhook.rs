//! A webhook: the forge says that there is something to read. It is a nudge and nothing more. What is to be
//! done is asked of the forge, so a forged or repeated one costs a question.
//!
//! Anybody can connect, so everything has a limit: headers, body, time, connections. Who connects when there are
//! too many takes the place of whoever has been there longest: a good message takes milliseconds, and only what
//! idles gets old.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::Context as _;
use ccci_core::config::forge::Webhook;
use ccci_core::weaken::{self, Protection};
use ccci_forge::remote::secret::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::{say, secret_file};

/// A longer message is none of a forge's.
const LONGEST: usize = 1024 * 1024;
/// Longer headers neither.
const HEADERS: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;
/// The headers have to be there by then, and everything by then.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
const ALL_WITHIN: Duration = Duration::from_secs(15);
/// So many connections at once.
const MOST: usize = 64;
/// The pause after a connection that could not be accepted, and how many in a row are no passing trouble.
const PAUSE: Duration = Duration::from_millis(100);
const MOST_FAILURES: u32 = 100;
/// Where Forgejo, Gitea and their like put the signature.
const SIGNATURES: [&str; 3] = ["X-Forgejo-Signature", "X-Gitea-Signature", "X-Hub-Signature-256"];

/// Who listens.
pub(crate) struct Listener {
    listener: TcpListener,
    hook: Arc<Hook>,
}

/// What a message is measured by, and what a good one does.
struct Hook {
    secret: Secret,
    nudge: SyncSender<()>,
    /// Whether a bad signature was said since the last good one: a flood is one line.
    said: AtomicBool,
}

impl Listener {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the secret cannot be read or the address cannot be had.
    pub(crate) async fn open(settings: &Webhook, nudge: SyncSender<()>) -> anyhow::Result<Self> {
        let secret = Secret::read(&secret_file("webhook-secret", &settings.secret_file))?;
        let listen = || format!("cannot listen for webhooks on {}", settings.listen);
        let listener = TcpListener::bind(settings.listen).await.with_context(listen)?;
        let address: SocketAddr = listener.local_addr().with_context(listen)?;
        say(&format!("listening for webhooks on {address}"));
        Ok(Self { listener, hook: Arc::new(Hook { secret, nudge, said: AtomicBool::new(false) }) })
    }

    /// Serves until it cannot accept any more, which is why.
    pub(crate) async fn serve(self) -> io::Error {
        let (mut connections, mut ages) = (JoinSet::new(), VecDeque::<AbortHandle>::new());
        let mut failures = 0;
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) if failures >= MOST_FAILURES => return error,
                Err(_passing) => {
                    failures += 1;
                    // It may be the number of open files: the oldest connection gives its own back.
                    ages.pop_front().iter().for_each(AbortHandle::abort);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            failures = 0;
            while let Some(ended) = connections.try_join_next() {
                if let Err(panic) = ended.map_err(tokio::task::JoinError::try_into_panic)
                    && panic.is_ok()
                {
                    say("a webhook's connection ended in a panic; the next is served");
                }
            }
            ages.retain(|connection| !connection.is_finished());
            if ages.len() >= MOST {
                ages.pop_front().iter().for_each(AbortHandle::abort);
            }
            ages.push_back(connections.spawn(converse(stream, Arc::clone(&self.hook))));
        }
    }
}

/// One connection, one message.
async fn converse(stream: TcpStream, hook: Arc<Hook>) {
    let service = hyper::service::service_fn(move |request| {
        let hook = Arc::clone(&hook);
        async move {
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = hook.judge(request).await;
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADERS)
        .max_headers(MOST_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Who hangs up, is slow or talks nonsense has said all there is to say.
    let _over = tokio::time::timeout(ALL_WITHIN, connection).await;
}

impl Hook {
    /// The status that a message deserves; 204 for a good one, which nudges.
    async fn judge(&self, request: Request<Incoming>) -> StatusCode {
        if request.method() != Method::POST {
            return StatusCode::METHOD_NOT_ALLOWED;
        }
        match request.body().size_hint().exact() {
            None => return StatusCode::LENGTH_REQUIRED,
            Some(length) if length > LONGEST as u64 => return StatusCode::PAYLOAD_TOO_LARGE,
            Some(_) => {}
        }
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, LONGEST).collect().await else { return StatusCode::BAD_REQUEST };
        let signed = signature(&head.headers).is_some_and(|text| is_signed(&body.to_bytes(), text, &self.secret));
        if !signed && weaken::on(Protection::WebhookSignature) {
            if !self.said.swap(true, Ordering::Relaxed) {
                say("a webhook without a good signature is not listened to: is the secret the same on both sides, \
                     and the content type JSON?");
            }
            return StatusCode::UNAUTHORIZED;
        }
        self.said.store(false, Ordering::Relaxed);
        // Full: it looks soon anyway.
        let _full = self.nudge.try_send(());
        StatusCode::NO_CONTENT
    }
}

fn signature(headers: &HeaderMap) -> Option<&str> {
    SIGNATURES.iter().find_map(|name| headers.get(*name)).and_then(|value| value.to_str().ok())
}

/// Whether the signature is the body's, compared in constant time.
fn is_signed(body: &[u8], signature: &str, secret: &Secret) -> bool {
    let Some(signature) = unhex(signature.strip_prefix("sha256=").unwrap_or(signature)) else { return false };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()) else { return false };
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(*pair.get(1)?)?).ok();
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_own_body_and_secret_alone() {
        // RFC 4231, test case 2.
        let (secret, body) = (Secret::of("Jefe"), b"what do ya want for nothing?");
        let good = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert!(is_signed(body, good, &secret) && is_signed(body, &format!("sha256={good}"), &secret));
        assert!(!is_signed(b"what do ya want for nothing!", good, &secret));
        assert!(!is_signed(body, good, &Secret::of("jefe")));
        for bad in ["", "5bdc", "sha256=", &good[..63], &format!("{good}00"), &good.replace('5', "x"), "ü"] {
            assert!(!is_signed(body, bad, &secret), "{bad}");
        }
    }
}
