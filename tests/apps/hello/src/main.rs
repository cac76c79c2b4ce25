//! `hello-app`: the example recipe's web app, a guest book whose entries are a file on a volume.
//!
//! Configured as such apps are, by environment: `LISTEN` (address and port), `VOLUME_DATA` (where the
//! book is), `GREETING_FILE`, `DOMAIN` (the only name it answers to), `SECRET_ADMIN_TOKEN_FILE` (who may
//! empty the book). `GET /` greets, `GET /entries` lists, `POST /entries` adds the body as an entry,
//! `DELETE /entries` with the token empties the book, `GET /healthz` says whether the book can be read.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use tiny_http::{Method, Request, Response, Server};

/// An entry is a line; nobody needs a longer one.
const MAX_ENTRY: u64 = 4096;

struct Book {
    file: PathBuf,
    greeting: String,
    domain: String,
    token: Option<String>,
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last line of its log says why, and nothing comes after it.
            let _unseen = writeln!(std::io::stderr(), "hello-app: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    let get = |key: &str| std::env::var(key).with_context(|| format!("{key} is not set"));
    let listen = get("LISTEN")?;
    let data = PathBuf::from(get("VOLUME_DATA")?);
    let token = match std::env::var("SECRET_ADMIN_TOKEN_FILE") {
        Ok(file) => Some(fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?.trim().to_owned()),
        Err(_) => None,
    };
    let greeting = std::env::var("GREETING_FILE").unwrap_or_else(|_| "greeting.txt".to_owned());
    let book = Book {
        file: data.join("entries"),
        greeting: fs::read_to_string(&greeting).with_context(|| format!("cannot read {greeting}"))?.trim().to_owned(),
        domain: std::env::var("DOMAIN").unwrap_or_default(),
        token,
    };
    let server = Server::http(&listen).map_err(|error| anyhow::anyhow!("cannot listen on {listen}: {error}"))?;
    // The first process of a container gets no default action for a signal.
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))?;
    }
    for request in server.incoming_requests() {
        // A visitor who hangs up is no reason to stop.
        let _gone = book.answer(request);
    }
    Ok(())
}

impl Book {
    fn answer(&self, mut request: Request) -> std::io::Result<()> {
        let (status, body) = match self.respond(&mut request) {
            Ok(answer) => answer,
            Err(error) => (500, format!("{error:#}\n")),
        };
        request.respond(Response::from_string(body).with_status_code(status))
    }

    fn respond(&self, request: &mut Request) -> anyhow::Result<(u16, String)> {
        let header = |name: &'static str| {
            request
                .headers()
                .iter()
                .find(|header| header.field.equiv(name))
                .map(|header| header.value.as_str().to_owned())
        };
        // As behind a reverse proxy: another Host is another site.
        if !self.domain.is_empty() && header("Host").as_deref() != Some(self.domain.as_str()) {
            return Ok((404, "no such site\n".to_owned()));
        }
        let authorized = self.token.is_some()
            && header("Authorization") == self.token.as_ref().map(|token| format!("Bearer {token}"));
        Ok(match (request.method(), request.url()) {
            (Method::Get, "/") => (200, format!("{}\n", self.greeting)),
            (Method::Get, "/healthz") => self.entries().map(|_| (200, "ok\n".to_owned()))?,
            (Method::Get, "/entries") => (200, self.entries()?),
            (Method::Post, "/entries") => {
                let mut entry = String::new();
                request.as_reader().take(MAX_ENTRY).read_to_string(&mut entry)?;
                self.add(entry.trim())?;
                (201, "added\n".to_owned())
            }
            (Method::Delete, "/entries") if authorized => {
                fs::write(&self.file, "").context("cannot empty the book")?;
                (200, "emptied\n".to_owned())
            }
            (Method::Delete, "/entries") => (403, "the admin token is missing or wrong\n".to_owned()),
            _ => (404, "no such page\n".to_owned()),
        })
    }

    fn entries(&self) -> anyhow::Result<String> {
        match fs::read_to_string(&self.file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            other => other.with_context(|| format!("cannot read {}", self.file.display())),
        }
    }

    fn add(&self, entry: &str) -> anyhow::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.file).context("cannot open the book")?;
        writeln!(file, "{}", entry.replace('\n', " ")).context("cannot write the book")
    }
}
