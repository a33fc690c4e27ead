//! The `meridian` command.

mod command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// glibc's allocator has an arena for each thread and gives back only what is free at its end: read from
/// API servers, a federation of 400,000 shards took half as much again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Authoritative, geo-aware DNS server for federations of Kubernetes clusters.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer DNS queries until told to stop.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// List every mistake in a configuration file; exit status 1 if there is any.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Tell how the answer for a client comes about.
    Explain(command::explain::Arguments),
    /// Tell what the loss of clusters would change, without doing it.
    Drill(command::drill::Arguments),
    /// Print the zones as master-file text.
    Dump {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve { config } => command::serve::run(&config),
        Command::Check { config } => command::check::run(&config),
        Command::Explain(arguments) => command::explain::run(&arguments),
        Command::Drill(arguments) => command::drill::run(&arguments),
        Command::Dump { config } => command::dump::run(&config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::complain(&error);
            ExitCode::FAILURE
        }
    }
}
