//! Metrics for node_exporter's textfile collector: a whole file, replaced atomically.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use ccci_core::rundir::write_atomic;

use crate::report::Report;

/// Writes the metrics of a sweep.
///
/// # Errors
/// When the file cannot be replaced.
pub(crate) fn write(path: &Path, report: &Report) -> anyhow::Result<()> {
    write_atomic(path, text(report).as_bytes())
        .with_context(|| format!("cannot write metrics to {}", path.display()))?;
    // node_exporter is another user.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))?;
    Ok(())
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
        // Writing to a String cannot fail.
        let _ok = writeln!(text, "# HELP cc_ci_{name} {help}\n# TYPE cc_ci_{name} {kind}");
        for (labels, value) in values {
            let _ok = writeln!(text, "cc_ci_{name}{labels} {value}");
        }
    };
    let findings: Vec<_> =
        report.counts().into_iter().map(|(kind, n)| (format!("{{kind=\"{kind}\"}}"), n as u64)).collect();
    let one = |value: u64| [(String::new(), value)];
    let count = |kind: &str| report.counts().get(kind).map_or(0, |n| *n as u64);
    metric("live_runs", "gauge", "Runs that hold their lock.", &one(count("live") + count("possibly_leaked")));
    metric("waiting_runs", "gauge", "Runs that wait for a lock.", &one(report.waiting() as u64));
    metric("leftovers", "gauge", "Dead runs of which something is left.", &one(report.leftovers() as u64));
    metric("quarantined", "gauge", "Apps whose reaping failed too often.", &one(count("quarantined")));
    let left: Vec<_> = report
        .addresses
        .iter()
        .map(|a| (format!("{{network=\"{}\",subnet=\"{}\"}}", escape(&a.network), escape(&a.subnet)), a.left))
        .collect();
    metric("network_addresses_left", "gauge", "Addresses left on networks that all stacks share.", &left);
    metric("sweep_findings", "gauge", "What the last sweep found, by kind.", &findings);
    metric(
        "sweep_unreadable_sources",
        "gauge",
        "Sources that the last sweep could not read.",
        &one(report.unreadable.len() as u64),
    );
    metric("sweep_milliseconds", "gauge", "How long the last sweep took.", &one(report.milliseconds));
    metric("sweep_not_reached", "gauge", "What the last sweep's budget left undone.", &one(report.not_reached as u64));
    metric(
        "sweep_timestamp_seconds",
        "gauge",
        "When the last sweep ended.",
        &one(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)),
    );
    let runs: Vec<_> =
        report.history.runs.iter().map(|(verdict, n)| (format!("{{verdict=\"{}\"}}", escape(verdict)), *n)).collect();
    metric("runs_total", "counter", "Runs that ended, by verdict.", &runs);
    metric("waits_total", "counter", "Runs that had to wait for their lock.", &one(report.history.waited));
    metric(
        "wait_milliseconds_total",
        "counter",
        "How long runs waited for their lock.",
        &one(report.history.waited_ms),
    );
    metric("reaped_total", "counter", "Apps of dead runs that were reaped.", &one(report.reaped_total));
    metric("reap_failures_total", "counter", "Reaps that left something.", &one(report.failed_total));
    text
}

/// A label's value.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_help_and_type() {
        let text = text(&Report::default());
        assert_eq!(text.matches("# HELP ").count(), text.matches("# TYPE ").count());
        assert!(text.contains("cc_ci_sweep_findings{kind=\"live\"} 0\n"));
        assert!(text.ends_with('\n'));
    }
}
