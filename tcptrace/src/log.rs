//! Logging on standard error.

use std::{fmt, io::IsTerminal as _};

use clap::ValueEnum;
use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, format},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::stdio;

/// A level of logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A time, a level and a message.
    Text,
    /// The same as a JSON object (timestamp, level, message).
    Json,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug)]
pub enum LogStyle {
    /// As the messages of a command: `tcptrace: …`.
    Message,
    /// With its time and level.
    Log(LogFormat),
}

/// Starts logging on standard error and returns the function that changes the level.
pub fn log_to_stderr(level: LogLevel, style: LogStyle) -> impl Fn(LogLevel) {
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(|| stdio::Stderr)
        // They would be written with eprintln!.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let stderr = match style {
        LogStyle::Message => stderr.event_format(MessageFormat).boxed(),
        LogStyle::Log(LogFormat::Text) => stderr.boxed(),
        LogStyle::Log(LogFormat::Json) => stderr.json().flatten_event(true).boxed(),
    };
    let (filter, handle) = reload::Layer::new(targets(level));
    tracing_subscriber::registry()
        .with(stderr)
        .with(filter)
        .init();
    // It fails only when the subscriber is gone.
    move |level| drop(handle.reload(targets(level)))
}

/// Formats a line as `tcptrace: …`, with its level when that is below a warning.
struct MessageFormat;

impl<S, N> FormatEvent<S, N> for MessageFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "tcptrace: ")?;
        let level = *event.metadata().level();
        if level > Level::WARN {
            write!(writer, "{}: ", level.as_str().to_lowercase())?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The loader logs its own work at these levels: of use only to its developers.
    let quiet = if level == LevelFilter::TRACE {
        level
    } else {
        level.min(LevelFilter::WARN)
    };
    Targets::new()
        .with_default(level)
        .with_target("aya", quiet)
        .with_target("aya_obj", quiet)
}
