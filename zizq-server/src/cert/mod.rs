//! `zizq-server cert`: makes and shows certificates, for those who have no authority of their own.
//!
//! A folder holds one authority (`ca.pem`), one server (`server.pem`) and any number of clients (`NAME.pem`), each with its
//! key (`…-key.pem`).

mod folder;
mod issue;
mod show;

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::bail;
use protocol::certificate::Facts;

use crate::config::{CertCommand, CertTask, DEFAULT_PORT};
use folder::{AUTHORITY, Folder, SERVER};
use issue::{Authority, Owner};

/// Carries out the command.
///
/// # Errors
/// One sentence for people.
pub fn run(task: &CertTask) -> anyhow::Result<()> {
    let folder = Folder::at(&task.dir);
    let mut said = String::new();
    match &task.command {
        CertCommand::Init { hosts, client, how } => {
            let clients =
                client.iter().map(|name| Owner::client(name, None)).collect::<Result<Vec<_>, _>>()?;
            let all = [Owner::server(&hosts.san)?].into_iter().chain(clients);
            init(&folder, all.collect(), how.days.days, how.force)?;
        }
        CertCommand::Server { hosts, how } => {
            make(&folder, &Owner::server(&hosts.san)?, how.days.days, how.force)?;
        }
        CertCommand::Client { name, uri, how } => {
            make(&folder, &Owner::client(name, uri.as_deref())?, how.days.days, how.force)?;
        }
        CertCommand::Renew { days } => said = renew(&folder, days.days)?,
        CertCommand::Show { what, ca } => return show::run(&folder, what, ca.as_deref()),
    }
    let client = match &task.command {
        CertCommand::Init { client, .. } => client.first().map(String::as_str),
        CertCommand::Client { name, .. } => Some(name.as_str()),
        _ => None,
    };
    said.push_str(&lines(&folder, client)?);
    Ok(std::io::stdout().write_all(said.as_bytes())?)
}

fn init(folder: &Folder, owners: Vec<Owner>, days: u16, force: bool) -> anyhow::Result<()> {
    let names = owners.iter().map(|owner| owner.file.as_str());
    if !force {
        folder.free(std::iter::once(AUTHORITY).chain(names))?;
    }
    let hosts = owners.first().map(|owner| owner.common_name.clone()).unwrap_or_default();
    let (authority, made) = Authority::new(&hosts)?;
    folder.write(AUTHORITY, &made, force)?;
    owners.iter().try_for_each(|owner| folder.write(&owner.file, &authority.issue(owner, None, days)?, force))
}

fn make(folder: &Folder, owner: &Owner, days: u16, force: bool) -> anyhow::Result<()> {
    let authority = Authority::read(folder)?;
    if !force {
        folder.free([owner.file.as_str()])?;
    }
    folder.write(&owner.file, &authority.issue(owner, None, days)?, force)
}

/// Makes all certificates anew. Returns what was done.
fn renew(folder: &Folder, days: u16) -> anyhow::Result<String> {
    let authority = Authority::read(folder)?;
    let mut said = String::new();
    for name in folder.owners()? {
        let facts = folder.facts(&name)?;
        let key = folder.key(&name)?;
        let made = authority.issue(&Owner::again(&name, &facts), Some(&key), days)?;
        // The key stays, so that there is no moment in which the two do not fit.
        folder.replace_certificate(&name, &made)?;
        let until = Facts::of(&made.der).map(|facts| protocol::certificate::date(facts.not_after));
        let path = folder.certificate(&name);
        writeln!(said, "{} is valid until {}", path.display(), until.unwrap_or_default())?;
    }
    if said.is_empty() {
        bail!("there is no certificate with its key in {}", folder.shown());
    }
    Ok(said)
}

/// What to paste where.
fn lines(folder: &Folder, client: Option<&str>) -> anyhow::Result<String> {
    let owners = folder.owners()?;
    let client = client.or_else(|| owners.iter().map(String::as_str).find(|name| *name != SERVER));
    let client = client.unwrap_or("NAME");
    let host = folder.facts(SERVER).ok().and_then(|facts| facts.names.first().cloned());
    let host = match host.unwrap_or_else(|| "HOST".to_owned()) {
        address if address.contains(':') => format!("[{address}]"),
        wildcard if wildcard.starts_with("*.") => "HOST".to_owned(),
        host => host,
    };
    let certificate = |name: &str| quoted(&folder.certificate(name).to_string_lossy());
    let key = |name: &str| quoted(&folder.key_file(name).to_string_lossy());
    let (ca, url) = (certificate(AUTHORITY), format!("https://{host}:{DEFAULT_PORT}"));
    let mut said = String::new();
    writeln!(
        said,
        "\nserver:  zizq-server --host 0.0.0.0 --tls-cert {} --tls-key {} --tls-client-ca {ca}",
        certificate(SERVER),
        key(SERVER)
    )?;
    let (cert, key) = (certificate(client), key(client));
    writeln!(said, "worker:  zizq-worker --server {url} --ca {ca} --client-cert {cert} --client-key {key}")?;
    writeln!(said, "curl:    curl --cacert {ca} --cert {cert} --key {key} {url}/whoami")?;
    writeln!(
        said,
        "rights:  zizq-server token create {client} --certificate CN={client} --role worker\n\
         \x20        (without this line it is a worker and a producer of all queues)"
    )?;
    Ok(said)
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let usual = |c: char| c.is_alphanumeric() || "/._-+@%:,".contains(c);
    if path.chars().all(usual) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_quoted_for_the_shell() {
        for (path, quoted) in [
            ("./zizq-certs/ca.pem", "./zizq-certs/ca.pem"),
            ("/a b/c'd", "'/a b/c'\\''d'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(super::quoted(path), quoted);
        }
    }
}
