//! `tcptrace completions`: prints the completion script of a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, stdio};

pub fn run(shell: Shell) -> anyhow::Result<()> {
    stdio::print(String::from_utf8_lossy(&script(shell)))
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tcptrace", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shells_script_knows_commands_and_values() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            for word in ["completions", "min-handshake", "handshakes"] {
                assert!(script.contains(word), "{shell}: no {word}");
            }
        }
    }
}
