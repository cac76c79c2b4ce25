//! The process: a loop that polls, a listener, signals, and the rule that the end of either ends it all.
//!
//! systemd starts again what has ended, and nobody starts again what hangs on with a part of it dead: such a
//! bridge looks well and takes no comment. So nothing here ends silently.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use ccci_core::config::forge::{Bridge, Forge};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::poll::Poll;
use crate::{say, webhook};

/// How long a look that is under way may take when the bridge is told to stop. What it then has not done is in
/// the ledger.
const GRACE: Duration = Duration::from_secs(20);

/// Why it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By a signal.
    Told(&'static str),
    /// It cannot do its work as it is configured.
    Unusable(anyhow::Error),
    /// A part of it ended that never should.
    Broken(String),
}

/// Runs until something ends it.
///
/// # Errors
/// Always: it has no other end.
pub(crate) fn run(forge: Forge, bridge: Bridge) -> Result<(), Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot make an event loop")
        .map_err(Ended::Unusable)?;
    let ended = runtime.block_on(serve(forge, bridge));
    // A look that hangs in a question is not waited for any longer.
    runtime.shutdown_background();
    Err(ended)
}

async fn serve(forge: Forge, bridge: Bridge) -> Ended {
    match begin(forge, bridge).await {
        Ok(ended) => ended,
        Err(error) => Ended::Unusable(error),
    }
}

async fn begin(forge: Forge, bridge: Bridge) -> anyhow::Result<Ended> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let (nudge, nudges) = sync_channel(1);
    let webhook = bridge.webhook.clone();
    let mut poll = Poll::open(forge, bridge)?;
    let listening = match &webhook {
        Some(webhook) => Some(webhook::Listener::open(webhook, nudge.clone()).await?),
        None => None,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut polling = in_a_thread("poll", move || poll.go(&nudges, &stopped))?;
    let listen = async {
        match listening {
            Some(listener) => listener.serve().await,
            // There is nothing to listen for.
            None => std::future::pending().await,
        }
    };
    Ok(tokio::select! {
        told = signals.next() => {
            stop_looking(&stop, &nudge);
            if tokio::time::timeout(GRACE, polling).await.is_err() {
                say("a look is not done yet, and is not waited for");
            }
            Ended::Told(told)
        }
        broken = listen => Ended::Broken(format!("the listener for webhooks ended: {broken}")),
        ended = &mut polling => Ended::Broken(match ended {
            Ok(Ok(())) => "the loop that polls ended".to_owned(),
            Ok(Err(panic)) => format!("the loop that polls ended: {panic}"),
            Err(_) => "the loop that polls is gone".to_owned(),
        }),
    })
}

fn stop_looking(stop: &AtomicBool, nudge: &SyncSender<()>) {
    stop.store(true, Ordering::SeqCst);
    // Full: it has a reason to wake up already.
    let _full = nudge.try_send(());
}

/// Runs `body` in a thread, and tells how it ended: `Err` is what it panicked with.
fn in_a_thread(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> anyhow::Result<oneshot::Receiver<Result<(), String>>> {
    let (tell, told) = oneshot::channel();
    let guarded = move || {
        let ended = catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic without words".to_owned())
        });
        // Nobody listens when the process ends.
        let _ending = tell.send(ended);
    };
    #[expect(clippy::disallowed_methods, reason = "it asks with blocking calls, and the bridge starts no process")]
    std::thread::Builder::new().name(name.to_owned()).spawn(guarded).context("cannot start a thread")?;
    Ok(told)
}

/// What ends it from outside.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
            _ = self.hup.recv() => "SIGHUP",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_says_so() {
        let ended = in_a_thread("test", || panic!("no {}", "more")).unwrap().blocking_recv().unwrap();
        assert_eq!(ended, Err("no more".to_owned()));
        let ended = in_a_thread("test", || {}).unwrap().blocking_recv().unwrap();
        assert_eq!(ended, Ok(()));
    }
}
