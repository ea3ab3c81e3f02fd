//! The folder of certificates and keys.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use protocol::certificate::Facts;
use rustls::pki_types::CertificateDer;
use zizq_client::read_chain;

/// The name of the authority, and that of the server.
pub(super) const AUTHORITY: &str = "ca";
pub(super) const SERVER: &str = "server";

const END: &str = ".pem";
const END_OF_KEY: &str = "-key.pem";

/// A certificate that was made.
pub(super) struct Made {
    pub der: CertificateDer<'static>,
    pub pem: String,
    /// The private key (PKCS #8, PEM).
    pub key: String,
}

#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn shown(&self) -> std::path::Display<'_> {
        self.0.display()
    }

    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}{END}"))
    }

    pub(super) fn key_file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}{END_OF_KEY}"))
    }

    /// Checks that nothing has these names yet.
    pub(super) fn free<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> anyhow::Result<()> {
        for name in names {
            for path in [self.certificate(name), self.key_file(name)] {
                if path.symlink_metadata().is_ok() {
                    bail!("{} exists; nothing was changed. --force replaces it", path.display());
                }
            }
        }
        Ok(())
    }

    /// Writes a certificate and its key.
    pub(super) fn write(&self, name: &str, made: &Made, force: bool) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.0)
            .with_context(|| format!("cannot create the folder {}", self.shown()))?;
        // A certificate without its key is of no use, and a new certificate must not meet an old key.
        put(&self.key_file(name), &made.key, 0o600, force)?;
        put(&self.certificate(name), &made.pem, 0o644, force)
    }

    pub(super) fn replace_certificate(&self, name: &str, made: &Made) -> anyhow::Result<()> {
        put(&self.certificate(name), &made.pem, 0o644, true)
    }

    /// The names of all that have a certificate and a key, but for the authority.
    pub(super) fn owners(&self) -> anyhow::Result<Vec<String>> {
        let entries =
            std::fs::read_dir(&self.0).with_context(|| format!("cannot read the folder {}", self.shown()))?;
        let mut names = Vec::new();
        for entry in entries {
            let file = entry?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(END_OF_KEY));
            names.extend(
                name.filter(|name| *name != AUTHORITY && self.certificate(name).exists()).map(str::to_owned),
            );
        }
        names.sort_unstable_by_key(|name| (name != SERVER, name.clone()));
        Ok(names)
    }

    /// What the certificate of this name says.
    pub(super) fn facts(&self, name: &str) -> anyhow::Result<Facts> {
        let path = self.certificate(name);
        let chain = read_chain(&path)?;
        let facts = chain.first().and_then(|first| Facts::of(first));
        facts.with_context(|| format!("{} cannot be read", path.display()))
    }

    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> anyhow::Result<String> {
        let path = self.key_file(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// Writes a file as a whole, or not at all. Without `force` it must be new.
fn put(path: &Path, text: &str, mode: u32, force: bool) -> anyhow::Result<()> {
    let shown = path.display();
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let write = || -> std::io::Result<()> {
        drop(std::fs::remove_file(&partial));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        // Whatever the umask is.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if force {
            std::fs::rename(&partial, path)?;
        } else {
            std::fs::hard_link(&partial, path)?;
            std::fs::remove_file(&partial)?;
        }
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(|error| {
        drop(std::fs::remove_file(&partial));
        match error.kind() {
            ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{shown} exists; it was not changed. --force replaces it")
            }
            _ => anyhow::anyhow!("cannot write {shown}: {error}"),
        }
    })
}
