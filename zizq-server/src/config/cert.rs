//! The command line of `zizq-server cert`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do about certificates.
#[derive(Debug, Args)]
pub struct CertTask {
    /// The folder of the certificates
    #[arg(long, env = "ZIZQ_CERT_DIR", value_name = "FOLDER", default_value = "./zizq-certs", global = true)]
    pub dir: PathBuf,
    /// The command.
    #[command(subcommand)]
    pub command: CertCommand,
}

/// A command about certificates.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// Make an authority (for 10 years), a certificate for the server, and one for a client if there is a --client
    Init {
        #[command(flatten)]
        hosts: Hosts,
        /// The name of a client that gets a certificate, too; may be repeated
        #[arg(long, value_name = "NAME")]
        client: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Make a certificate for the server
    Server {
        #[command(flatten)]
        hosts: Hosts,
        #[command(flatten)]
        how: How,
    },
    /// Make a certificate for a client
    Client {
        /// Whom or what it is for: its common name, and the name of its files
        name: String,
        /// A URI that it is known by, too, such as spiffe://example.org/worker
        #[arg(long)]
        uri: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Make all certificates of the folder anew, but for the authority: the same names and keys, another time
    Renew {
        #[command(flatten)]
        days: Days,
    },
    /// Show a certificate: its names, when it expires, and whether it fits; ends with 1 if it does not
    Show {
        /// A PEM file, or HOST:PORT of a server
        what: String,
        /// The authority that should have signed it; default: ca.pem in the folder, if there is one
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
}

/// The names of a server.
#[derive(Debug, Args)]
pub struct Hosts {
    /// The names and addresses by which clients reach the server; may be repeated, or a list with commas
    #[arg(long, required = true, value_name = "HOST", value_delimiter = ',', num_args = 1..)]
    pub san: Vec<String>,
}

/// How a certificate is made.
#[derive(Debug, Args)]
pub struct How {
    #[command(flatten)]
    pub days: Days,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
}

/// How long a certificate lasts.
#[derive(Debug, Clone, Copy, Args)]
pub struct Days {
    /// For how many days it is valid
    #[arg(long, default_value_t = 397, value_parser = clap::value_parser!(u16).range(1..=3_650))]
    pub days: u16,
}
