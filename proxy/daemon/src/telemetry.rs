//! What a daemon tells about itself: events on stderr, and metrics that its control server serves.
//!
//! The metrics' recorder opens no socket of its own; `/metrics` is a route like any other, with
//! roles beside it.

use std::env;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is logged where nobody says how much.
pub const LEVEL_DEFAULT: &str = "info";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// How often samples are folded into their histograms, so that they cannot pile up where nobody
/// scrapes.
pub const UPKEEP_S: u64 = 5;

/// Upper bounds of the histograms whose names end in `_seconds`: from a neighbour on the same host
/// to a time-out.
const SECONDS_BUCKETS: [f64; 13] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The media type of [`Telemetry::render`].
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// For whom events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// A line for people; coloured on a terminal.
    #[default]
    Human,
    /// A JSON object a line.
    Json,
}

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level, from `source`, is none.
    #[error("{origin}: '{level}' is no log level; write error, warn, info, debug or trace")]
    Level {
        /// Where it was written.
        origin: &'static str,
        /// What was written.
        level: String,
    },
    /// This process has telemetry already.
    #[error("telemetry was started twice in one process")]
    Twice,
}

/// Whether `level` is one: a word, or a list as in `info,daemon=debug`. Stricter than the filter
/// itself, which takes a misspelt word for a module's name and then logs nothing else.
#[must_use]
pub fn level_is_valid(level: &str) -> bool {
    let sound = |part: &str| match part.split_once('=') {
        Some((module, word)) => !module.is_empty() && LEVELS.contains(&word),
        None => LEVELS.contains(&part),
    };
    level.split(',').all(sound) && EnvFilter::try_new(level).is_ok()
}

/// A daemon's log and metrics.
#[derive(Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    level_is_fixed: bool,
    metrics: PrometheusHandle,
    started: Instant,
}

impl Telemetry {
    /// Starts the log and installs the recorder, for the whole process. The command line's level
    /// wins over `RUST_LOG`, which wins over the configuration's.
    ///
    /// # Errors
    /// A level that is none, or a second start.
    pub fn start(
        format: LogFormat,
        flag: Option<&str>,
        configured: &str,
    ) -> Result<Telemetry, TelemetryError> {
        let environment = env::var("RUST_LOG").ok().filter(|level| !level.is_empty());
        let (origin, level) = match (flag, environment.as_deref()) {
            (Some(level), _) => ("--log-level", level),
            (None, Some(level)) => ("RUST_LOG", level),
            (None, None) => ("log.level", configured),
        };
        let (filter, handle) = reload::Layer::new(filter(origin, level)?);
        let lines = fmt::layer().with_writer(io::stderr);
        let registry = tracing_subscriber::registry().with(filter);
        let started = match format {
            LogFormat::Human => {
                registry.with(lines.with_ansi(io::stderr().is_terminal())).try_init()
            }
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        started.map_err(|_| TelemetryError::Twice)?;

        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            .expect("there are buckets")
            .build_recorder();
        let metrics = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Twice)?;
        let level_is_fixed = origin != "log.level";
        Ok(Telemetry { filter: handle, level_is_fixed, metrics, started: Instant::now() })
    }

    /// Takes the level of a new configuration, unless the command line or the environment said
    /// one: they go on to win.
    ///
    /// # Errors
    /// The level is none.
    pub fn reconfigure(&self, configured: &str) -> Result<(), TelemetryError> {
        let new = filter("log.level", configured)?;
        if !self.level_is_fixed {
            // Fails only when the subscriber is gone, which lives as long as the process.
            let _ = self.filter.reload(new);
        }
        Ok(())
    }

    /// How long this daemon has run.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Names the program and its version among the metrics.
    pub fn introduce(&self, program: &'static str, version: &'static str) {
        gauge!("causeway_build_info", "program" => program, "version" => version).set(1.0);
    }

    /// All metrics, as text for Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        gauge!("causeway_uptime_seconds").set(self.uptime().as_secs_f64());
        self.metrics.render()
    }

    /// Keeps the recorder's memory bounded; runs beside the daemon's work and never ends.
    pub fn upkeep(&self) -> impl Future<Output = ()> + Send + use<> {
        let metrics = self.metrics.clone();
        async move {
            let mut tick = tokio::time::interval(Duration::from_secs(UPKEEP_S));
            loop {
                tick.tick().await;
                metrics.run_upkeep();
            }
        }
    }
}

fn filter(origin: &'static str, level: &str) -> Result<EnvFilter, TelemetryError> {
    let wrong = || TelemetryError::Level { origin, level: level.chars().take(64).collect() };
    if !level_is_valid(level) {
        return Err(wrong());
    }
    EnvFilter::try_new(level).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_or_a_list_of_them() {
        for level in ["error", "info", "trace", "warn,daemon=debug"] {
            assert!(level_is_valid(level), "{level} was refused");
        }
        for level in
            ["", "inof", "info,", "INFO ", "daemon=loudly", "=info", "a=b=c", "info,daemon"]
        {
            assert!(!level_is_valid(level), "{level} was taken");
        }
    }
}
