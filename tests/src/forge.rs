//! A forge and a Drone of one's own, on loopback: what `cc-ci-run` asks of Gitea, Forgejo and Drone, answered
//! as they do, with faults on order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use ccci_core::process::Job;
use jiff::Timestamp;
use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response, Server};

use crate::host::{Host, until};

/// The token that it wants.
pub const TOKEN: &str = "0123456789abcdef-forge";
/// The token that its Drone wants.
pub const DRONE_TOKEN: &str = "fedcba9876543210-drone";
/// The token's user.
pub const ME: (u64, &str) = (7, "ci");
/// A member of the organisation.
pub const MEMBER: (u64, &str) = (11, "mallory");
/// The organisation.
pub const ORG: &str = "coop";
/// The repository of the example recipe.
pub const REPOSITORY: &str = "coop/hello";

/// What goes wrong with a request, instead of or after what it asks for.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This answer, and nothing is done.
    Answer {
        /// The status.
        status: u16,
        /// A header.
        header: Option<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// It is done, and the connection ends without an answer.
    AnswerLost,
    /// It waits for [`Forge::release`].
    Held,
}

impl Fault {
    /// An answer with a status alone.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self::Answer { status, header: None, body: String::new() }
    }
}

/// A comment.
#[derive(Debug, Clone)]
pub struct Comment {
    /// Its number.
    pub id: u64,
    /// Its author's number.
    pub author: u64,
    /// Its text.
    pub body: String,
    /// Its author is gone: `Null` for an entry without one, `Ghost` for Gitea's deleted account.
    pub gone: Option<Gone>,
    login: String,
    pull: u64,
    created: Timestamp,
    updated: Timestamp,
}

/// How a forge tells of what is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// `user: null`.
    Null,
    /// `user: { id: -1, login: "Ghost" }`.
    Ghost,
    /// The whole entry is `null`.
    Entry,
}

/// What was pushed to a pull request, as an entry of its timeline.
#[derive(Debug, Clone)]
pub struct Push {
    /// Its number, in one row with the comments'.
    pub id: u64,
    /// When.
    pub created: Timestamp,
    /// The commit.
    pub sha: String,
    pull: u64,
}

/// What it knows.
#[derive(Debug, Default)]
pub struct State {
    /// Every request, `METHOD /path?query`.
    pub requests: Vec<String>,
    /// The statuses, in the order in which they came, with their commit as `sha`.
    pub statuses: Vec<Value>,
    /// The comments.
    pub comments: Vec<Comment>,
    /// The reactions, `comment:content`.
    pub reactions: BTreeSet<String>,
    /// The builds that were started, by their parameters.
    pub builds: Vec<BTreeMap<String, String>>,
    /// The state, the commit and the source of each pull request.
    pub pulls: BTreeMap<u64, (String, String, String)>,
    /// What was pushed to each.
    pub pushes: Vec<Push>,
    /// Who opens pull requests.
    pub author: Option<(u64, String)>,
    /// What Drone answers to a build that it does not start.
    pub no_build: bool,
    last_id: u64,
    faults: Vec<(String, Fault)>,
    held: Vec<Request>,
    /// Everything that it was sent, to look for what should not be there.
    pub bodies: Vec<String>,
}

/// A forge.
pub struct Forge {
    server: Arc<Server>,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Forge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Also while the test looks at it.
        write!(f, "{:#?}", self.state)
    }
}

impl Default for Forge {
    fn default() -> Self {
        Self::new()
    }
}

impl Forge {
    /// Starts one.
    #[must_use]
    pub fn new() -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let (own, shared) = (Arc::clone(&server), Arc::clone(&state));
        #[expect(clippy::disallowed_methods, reason = "it answers while the test waits, and starts no process")]
        let thread = std::thread::spawn(move || own.incoming_requests().for_each(|request| serve(&shared, request)));
        Self { server, state, thread: Some(thread) }
    }

    fn address(&self) -> SocketAddr {
        self.server.server_addr().to_ip().unwrap()
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// What it knows now.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until it knows something.
    pub fn until<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        until(what, || look(&self.state()))
    }

    /// The next request that begins so has this fault.
    pub fn fault(&self, request: &str, fault: Fault) {
        self.state().faults.push((request.to_owned(), fault));
    }

    /// Nothing more goes wrong.
    pub fn forget_faults(&self) {
        self.state().faults.clear();
    }

    /// Answers what was held.
    pub fn release(&self) {
        let held = std::mem::take(&mut self.state().held);
        held.into_iter().for_each(|request| serve(&self.state, request));
    }

    /// Somebody comments; the comment's number.
    pub fn comment(&self, pull: u64, author: (u64, &str), body: &str) -> u64 {
        self.state().add(pull, author, body)
    }

    /// Somebody opens a pull request, or pushes to it. The forge knows of it at once where `told`; else the head is
    /// seen before the push is.
    pub fn push(&self, pull: u64, sha: &str, told: bool) {
        let (source, mut state) = (format!("{}/fork/hello.git", self.url()), self.state());
        state.pulls.insert(pull, ("open".to_owned(), sha.to_owned(), source));
        if told {
            state.pushed(pull, sha);
        }
    }

    /// The host's settings that lead to it; `more` follows in `[forge]`.
    pub fn enlist(&self, host: &Host, more: &str) {
        let token = secret(host, "forge-token", TOKEN);
        let repository = REPOSITORY.replace("hello", "{recipe}");
        host.settings(&format!(
            "[forge]\nurl = \"{}\"\ntoken_file = \"{}\"\nrepository = \"{repository}\"\n{more}\n",
            self.url(),
            token.display()
        ));
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write as _;
            let _unseen = writeln!(std::io::stderr(), "--- forge\n{self:?}");
        }
        self.state().held.clear();
        self.server.unblock();
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

/// A file of a secret, its owner's alone.
#[must_use]
pub fn secret(host: &Host, name: &str, text: &str) -> PathBuf {
    let path = host.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The commit that the example recipe's repository is at.
#[must_use]
pub fn head(host: &Host) -> String {
    let dir = host.recipe("hello");
    let asked = Job::new("git").args(["rev-parse", "HEAD"]).dir(&dir).capture().run_ok(&mut |_| {}).unwrap();
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

fn serve(state: &Arc<Mutex<State>>, mut request: Request) {
    let line = format!("{} {}", request.method(), request.url());
    let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    state.requests.push(line.clone());
    let fault = state.faults.iter().position(|(begins, _)| line.starts_with(begins.as_str()));
    match fault.map(|at| state.faults.remove(at).1) {
        Some(Fault::Answer { status, header, body }) => {
            let mut response = Response::from_string(body).with_status_code(status);
            if let Some((name, value)) = header {
                response.add_header(Header::from_bytes(name, value).unwrap());
            }
            let _gone = request.respond(response);
        }
        Some(Fault::AnswerLost) => {
            let _lost = state.answer(&mut request);
            drop(request.into_writer());
        }
        Some(Fault::Held) => state.held.push(request),
        None => {
            let (status, body) = state.answer(&mut request);
            // Drone's answer to what no pipeline takes has a body: `null`.
            let empty = body.is_null() && !line.contains("/builds?");
            let text = if empty { String::new() } else { body.to_string() };
            let _gone = request.respond(Response::from_string(text).with_status_code(status));
        }
    }
}

impl State {
    /// Somebody comments; the comment's number.
    pub fn add(&mut self, pull: u64, author: (u64, &str), body: &str) -> u64 {
        let (id, now) = (self.next_id(), Timestamp::now());
        let (author, login, body, gone) = (author.0, author.1.to_owned(), body.to_owned(), None);
        self.comments.push(Comment { id, author, login, pull, body, gone, created: now, updated: now });
        id
    }

    /// The forge takes note of a push.
    pub fn pushed(&mut self, pull: u64, sha: &str) {
        let (id, created, sha) = (self.next_id(), Timestamp::now(), sha.to_owned());
        self.pushes.push(Push { id, created, sha, pull });
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A comment, to change it.
    pub fn comment(&mut self, id: u64) -> &mut Comment {
        self.comments.iter_mut().find(|comment| comment.id == id).unwrap()
    }

    fn answer(&mut self, request: &mut Request) -> (u16, Value) {
        let mut body = String::new();
        request.as_reader().read_to_string(&mut body).unwrap();
        self.bodies.push(body.clone());
        let sent: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
        let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
        let query: BTreeMap<String, String> =
            query.split('&').filter_map(|pair| pair.split_once('=')).map(decoded).collect();
        let authorization = request.headers().iter().find(|header| header.field.equiv("Authorization"));
        let wanted =
            if path.starts_with("/api/v1/") { format!("token {TOKEN}") } else { format!("Bearer {DRONE_TOKEN}") };
        if authorization.map(|header| header.value.as_str()) != Some(wanted.as_str()) {
            return (401, json!({ "message": "token is required" }));
        }
        let method = request.method().clone();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, segments.as_slice()) {
            (Method::Get, ["api", "v1", "user"]) => (200, json!({ "id": ME.0, "login": ME.1 })),
            (Method::Get, ["api", "v1", "orgs", org, "members", who]) => {
                (if *org == ORG && [MEMBER.1, ME.1].contains(who) { 204 } else { 404 }, Value::Null)
            }
            (Method::Post, ["api", "repos", _, _, "builds"]) => {
                if self.no_build {
                    return (200, Value::Null);
                }
                self.builds.push(query);
                (200, json!({ "number": self.builds.len() }))
            }
            (method, ["api", "v1", "repos", owner, name, rest @ ..]) if format!("{owner}/{name}") == REPOSITORY => {
                self.of_repository(&method, rest, &query, sent)
            }
            _ => (404, json!({ "message": "not found" })),
        }
    }

    fn of_repository(
        &mut self,
        method: &Method,
        path: &[&str],
        query: &BTreeMap<String, String>,
        sent: Value,
    ) -> (u16, Value) {
        let number = |text: &str| text.parse::<u64>().unwrap();
        match (method, path) {
            (Method::Post, ["statuses", sha]) => {
                let mut status = sent;
                status["sha"] = json!(sha);
                self.statuses.push(status.clone());
                (201, status)
            }
            (Method::Get, ["pulls", pull]) => match self.pulls.get(&number(pull)) {
                Some((state, sha, clone_url)) => {
                    let (id, login) = self.author.clone().unwrap_or((MEMBER.0, MEMBER.1.to_owned()));
                    let head = json!({ "sha": sha, "repo": { "clone_url": clone_url } });
                    (200, json!({ "state": state, "user": { "id": id, "login": login }, "head": head }))
                }
                None => (404, json!({ "message": "no such pull request" })),
            },
            (Method::Get, ["issues", "comments"]) => {
                let since: Timestamp = query["since"].parse().unwrap();
                let fresh = self.comments.iter().filter(|comment| comment.updated >= since).map(Comment::json);
                (200, page(fresh, query))
            }
            (Method::Get, ["issues", pull, "timeline"]) => {
                let pull = number(pull);
                let comments = self.comments.iter().filter(|comment| comment.pull == pull).map(Comment::happened);
                let pushes = self.pushes.iter().filter(|push| push.pull == pull).map(Push::happened);
                let mut all: Vec<Value> = comments.chain(pushes).collect();
                all.sort_by_key(|entry| entry["id"].as_u64());
                (200, page(all.into_iter(), query))
            }
            // This list knows no pages.
            (Method::Get, ["issues", pull, "comments"]) => {
                (200, self.comments.iter().filter(|comment| comment.pull == number(pull)).map(Comment::json).collect())
            }
            (Method::Post, ["issues", pull, "comments"]) => {
                let id = self.add(number(pull), ME, sent["body"].as_str().unwrap());
                (201, json!({ "id": id }))
            }
            (Method::Patch, ["issues", "comments", id]) => {
                let id = number(id);
                let Some(comment) = self.comments.iter_mut().find(|comment| comment.id == id) else {
                    return (404, Value::Null);
                };
                sent["body"].as_str().unwrap().clone_into(&mut comment.body);
                comment.updated = Timestamp::now();
                (200, json!({ "id": id }))
            }
            (Method::Post, ["issues", "comments", id, "reactions"]) => {
                let fresh = self.reactions.insert(format!("{id}:{}", sent["content"].as_str().unwrap()));
                (if fresh { 201 } else { 200 }, json!({}))
            }
            _ => (404, json!({ "message": "not found" })),
        }
    }
}

impl Comment {
    fn json(&self) -> Value {
        let user = match self.gone {
            Some(Gone::Entry) => return Value::Null,
            Some(Gone::Null) => Value::Null,
            Some(Gone::Ghost) => json!({ "id": -1, "login": "Ghost" }),
            None => json!({ "id": self.author, "login": self.login }),
        };
        json!({
            "id": self.id,
            "user": user,
            "body": self.body,
            "a_field_of_a_later_version": [{}],
            "created_at": self.created.to_string(),
            "updated_at": self.updated.to_string(),
            "pull_request_url": if self.pull == 0 { String::new() } else { format!("https://elsewhere.example/pulls/{}", self.pull) },
        })
    }
}

impl Comment {
    /// It was written so many seconds earlier.
    pub fn backdate(&mut self, seconds: i64) {
        let earlier = jiff::SignedDuration::from_secs(seconds);
        (self.created, self.updated) = (self.created - earlier, self.updated - earlier);
    }

    fn happened(&self) -> Value {
        let mut entry = self.json();
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("type".to_owned(), json!("comment"));
        }
        entry
    }
}

impl Push {
    fn happened(&self) -> Value {
        let body = json!({ "is_force_push": false, "commit_ids": [self.sha] }).to_string();
        json!({ "id": self.id, "type": "pull_push", "created_at": self.created.to_string(), "body": body })
    }
}

/// The page of a list that was asked for.
fn page(list: impl Iterator<Item = Value>, query: &BTreeMap<String, String>) -> Value {
    let number = |key: &str| query[key].parse::<usize>().unwrap();
    let (limit, page) = (number("limit"), number("page"));
    list.skip(limit * (page - 1)).take(limit).collect()
}

/// A pair of a query, its percent-encoding taken off.
fn decoded((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned())
}
