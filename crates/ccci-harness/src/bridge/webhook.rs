//! A webhook: the forge says that there is something to read. It is a nudge and nothing more. What is to be
//! done is asked of the forge, so a forged or repeated one costs a question.

use std::io::{PipeWriter, Read as _, Write as _};
use std::net::SocketAddr;

use anyhow::Context as _;
use ccci_core::config::forge::Webhook;
use ccci_core::weaken::{self, Protection};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tiny_http::{Method, Request, Response, Server};

use crate::remote::secret::Secret;

/// A longer message is none of a forge's.
const LONGEST: u64 = 1024 * 1024;
/// Where Forgejo, Gitea and their like put the signature.
const SIGNATURES: [&str; 3] = ["X-Forgejo-Signature", "X-Gitea-Signature", "X-Hub-Signature-256"];

/// Listens in a thread of its own, which ends with the process, and writes a byte for every good message.
/// Who sends one slowly holds up that thread and not the bridge: it polls all the same.
///
/// # Errors
/// When the secret cannot be read or the address cannot be had.
pub(super) fn listen(settings: &Webhook, mut nudge: PipeWriter) -> anyhow::Result<SocketAddr> {
    let secret = Secret::read(&settings.secret_file)?;
    let server = Server::http(settings.listen)
        .map_err(|error| anyhow::anyhow!("cannot listen for webhooks on {}: {error}", settings.listen))?;
    let address = server.server_addr().to_ip().context("a webhook's address is an IP address")?;
    // A bridge that looks already needs no further nudge: a full pipe is no reason to wait.
    rustix::io::ioctl_fionbio(&nudge, true)?;
    #[expect(clippy::disallowed_methods, reason = "it blocks in accept(2), and the bridge starts no process")]
    std::thread::Builder::new().name("webhook".to_owned()).spawn(move || {
        for mut request in server.incoming_requests() {
            let status = judge(&mut request, &secret);
            if status == 204 {
                let _full = nudge.write(b"!");
            }
            // Who hangs up has said all there is to say.
            let _gone = request.respond(Response::empty(status));
        }
    })?;
    Ok(address)
}

/// The status that a message deserves; 204 for a good one.
fn judge(request: &mut Request, secret: &Secret) -> u16 {
    if *request.method() != Method::Post {
        return 405;
    }
    if request.body_length().is_none_or(|length| length as u64 > LONGEST) {
        return 413;
    }
    let field =
        |name: &&str| request.headers().iter().find(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name));
    let signature = SIGNATURES.iter().find_map(field).map(|header| header.value.as_str().to_owned());
    let mut body = Vec::new();
    if request.as_reader().take(LONGEST).read_to_end(&mut body).is_err() {
        return 400;
    }
    match signature {
        Some(signature) if is_signed(&body, &signature, secret) => 204,
        _ if !weaken::on(Protection::WebhookSignature) => 204,
        _ => 401,
    }
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
