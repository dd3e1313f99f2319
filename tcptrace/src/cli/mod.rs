//! The command line, as typed; [`config`] validates it.

pub mod config;
mod daemon;
mod netns;
pub mod settings;
mod trace;
mod values;
mod view;

use clap::{Args, Parser, Subcommand};

pub use self::{
    daemon::{CgroupLabelChoice, DaemonArgs},
    trace::{CaptureArgs, ProbeArgs},
    values::WidthChoice,
    view::{ColorChoice, FilterArgs, ReplayArgs, Show, TailArgs, TimeChoice, ViewArgs},
};

/// The order of a page of help: the examples come before the options.
const HELP: &str = "{about-with-newline}\n{usage-heading} {usage}{after-help}\n\n{all-args}";

/// An eBPF tracer of the TCP connection lifecycle.
#[derive(Debug, Parser)]
#[command(name = "tcptrace", version, about, max_term_width = 100, help_template = HELP)]
#[command(after_help = "\
Examples:
  sudo tcptrace tail                   connections as they open and close
  sudo tcptrace tail --failed          what could not be opened, and why
  sudo tcptrace daemon                 metrics on http://127.0.0.1:9823/metrics
  tcptrace explain reset received      what a verdict means, and what to do
  sudo tcptrace check                  what this kernel and these privileges allow")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show connections as they open and close.
    Tail(Box<TailArgs>),
    /// Trace in the background and serve Prometheus metrics.
    Daemon(DaemonArgs),
    /// Write the raw events to a file.
    Capture(CaptureArgs),
    /// Show what a capture contains, as `tail` would have shown it.
    Replay(Box<ReplayArgs>),
    /// Show what this kernel and these privileges allow.
    Check(CheckArgs),
    /// Explain a verdict: what it looks like on the wire, its causes, and what to do.
    Explain(ExplainArgs),
    /// Print the script that completes the command line in a shell.
    Completions(CompletionsArgs),
}

impl Command {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tail(_) => "tail",
            Self::Daemon(_) => "daemon",
            Self::Capture(_) => "capture",
            Self::Replay(_) => "replay",
            Self::Check(_) => "check",
            Self::Explain(_) => "explain",
            Self::Completions(_) => "completions",
        }
    }
}

/// `tcptrace completions`.
#[derive(Clone, Debug, Args)]
#[command(help_template = HELP, after_help = "\
Examples:
  tcptrace completions bash > /usr/share/bash-completion/completions/tcptrace
  tcptrace completions zsh > /usr/share/zsh/site-functions/_tcptrace
  tcptrace completions fish > /usr/share/fish/vendor_completions.d/tcptrace.fish")]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// `tcptrace explain`.
#[derive(Clone, Debug, Args)]
#[command(help_template = HELP, after_help = "\
Examples:
  tcptrace explain                    what can be explained
  tcptrace explain reset_received
  tcptrace explain reset received     as the table has it
  tcptrace explain handshake          how a connection opens, and where that is measured")]
pub struct ExplainArgs {
    /// A verdict, handshake or release.
    #[arg(value_name = "VERDICT", num_args = 0..)]
    pub topic: Vec<String>,
}

/// `tcptrace check`.
#[derive(Clone, Debug, Args)]
#[command(help_template = HELP, after_help = "\
Examples:
  sudo tcptrace check
  sudo tcptrace check --strict && echo 'nothing is missing'")]
pub struct CheckArgs {
    /// Fail unless every hook is available, not only the required one.
    #[arg(long)]
    pub strict: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_short_help_fits_a_screen() {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        for command in cli
            .get_subcommands_mut()
            .filter(|command| command.get_name() != "help")
        {
            let help = command.render_help().to_string();
            let lines = help.lines().count();
            assert!(lines <= 50, "{}: {lines} lines", command.get_name());
            let places = ["Usage:", "Examples:", "Options:"].map(|heading| help.find(heading));
            assert!(
                places.iter().all(Option::is_some) && places.is_sorted(),
                "{help}"
            );
            let longest = help.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(100), "{help}");
        }
    }
}
