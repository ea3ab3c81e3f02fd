//! How to reach the server: its address, the certificates to trust, and the proxy.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::access::AccessToken;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{ClientBuilder, Url};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use crate::address::{http_url, shown, without_password};
use crate::proxy::Proxy;
use crate::trust::{self, Identity, Trust};

/// The variable of the access token.
pub(crate) const TOKEN_VARIABLE: &str = "ZIZQ_TOKEN";

const BEARER: &str = "Bearer ";
const DEFAULT_SERVER: &str = "http://127.0.0.1:7890";

/// How long a connection may take, to any host.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The flags about the server. The URL is parsed later: clap would print a wrong one with its password.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AccessFlags {
    /// URL of the server [default: http://127.0.0.1:7890]. For one with a password use --server-file or the variable:
    /// command lines are visible to all users of a machine
    #[arg(long, env = "ZIZQ_SERVER", value_name = "URL", hide_env_values = true)]
    pub server: Option<String>,

    /// Read the URL of the server, with user name and password, from this file
    #[arg(long, env = "ZIZQ_SERVER_FILE", value_name = "FILE")]
    pub server_file: Option<PathBuf>,

    /// Read the access token from this file; ZIZQ_TOKEN is the token itself
    #[arg(long, env = "ZIZQ_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Trust only this certificate, and those that it has signed, for the server: a PEM file
    #[arg(long, visible_alias = "ca", env = "ZIZQ_SERVER_CA", value_name = "FILE")]
    pub server_ca: Option<PathBuf>,

    /// Show the server this certificate, a PEM file: it may know callers by that instead of an access token
    #[arg(long, env = "ZIZQ_CLIENT_CERT", value_name = "FILE")]
    pub client_cert: Option<PathBuf>,

    /// The private key of --client-cert, a PEM file
    #[arg(long, env = "ZIZQ_CLIENT_KEY", value_name = "FILE")]
    pub client_key: Option<PathBuf>,

    /// Connect directly (none) or through this proxy [default: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY decide]
    #[arg(long, env = "ZIZQ_PROXY", value_name = "none|URL", hide_env_values = true)]
    pub proxy: Option<String>,
}

/// The same settings in a configuration file.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) server: Option<String>,
    pub(crate) server_file: Option<PathBuf>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) server_ca: Option<PathBuf>,
    pub(crate) client_cert: Option<PathBuf>,
    pub(crate) client_key: Option<PathBuf>,
    pub(crate) proxy: Option<String>,
}

/// The settings for reaching the server, checked.
#[derive(Debug, Clone)]
pub struct Access {
    /// The address, with user name and password if there are any.
    pub url: Url,
    /// The access token, as it is sent, and the file that it was read from.
    token: Option<HeaderValue>,
    pub(crate) token_file: Option<PathBuf>,
    /// The trusted certificates, and the file they were read from.
    pub(crate) ca: Option<(PathBuf, Vec<CertificateDer<'static>>)>,
    /// The certificate to show, and the files of it and its key.
    pub(crate) identity: Option<Arc<Shown>>,
    pub(crate) proxy: Proxy,
    /// Warnings about these settings.
    pub(crate) doubts: Vec<String>,
}

/// A certificate to show.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    identity: Identity,
}

impl Shown {
    fn read(
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        doubts: &mut Vec<String>,
    ) -> Result<Option<Arc<Self>>, String> {
        let (cert, key) = match (cert, key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => {
                return Err("`client_cert` needs `client_key`, the private key of it".to_owned());
            }
            (None, Some(_)) => return Err("`client_key` needs `client_cert`, its certificate".to_owned()),
        };
        let identity = Identity::of_files(("client_cert", &cert), ("client_key", &key))?;
        if let Some(doubt) = identity.doubt() {
            doubts.push(format!("`client_cert`: {}: {doubt}", cert.display()));
        }
        if others_can_read(&key) {
            doubts.push(open_to_all(&key, "the private key"));
        }
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        Ok(Some(Arc::new(Self { cert: absolute(cert), key: absolute(key), identity })))
    }
}

impl AccessFlags {
    /// Merges flags and file. Flags take precedence over variables, and both over the file.
    pub(crate) fn access(&self, file: Written) -> Result<Access, String> {
        let mut doubts = Vec::new();
        let (flag, flag_file) = self.one_of_two()?;
        let (text, of_file) = match (flag, flag_file, file.server, file.server_file) {
            (Some(text), ..) => (text.to_owned(), None),
            (_, Some(path), ..) => (first_line(path)?, Some(path.to_owned())),
            (_, _, Some(_), Some(_)) => return Err("give `server` or `server_file`, not both".to_owned()),
            (_, _, Some(text), _) => (text, None),
            (_, _, _, Some(path)) => (first_line(&path)?, Some(path)),
            _ => (DEFAULT_SERVER.to_owned(), None),
        };
        let url = match &of_file {
            None => server_url(&text)?,
            Some(path) => server_url(&text).map_err(|e| format!("{}: {e}", path.display()))?,
        };
        if flag.is_some() && !from_variable("ZIZQ_SERVER", flag) && url.password().is_some() {
            doubts.push(
                "all users of this machine can see the password in --server; put the URL into a file: --server-file"
                    .to_owned(),
            );
        }
        if let Some(path) = of_file.filter(|path| url.password().is_some() && others_can_read(path)) {
            doubts.push(open_to_all(&path, "the password of the server"));
        }
        let token_file = self.token_file.clone().or(file.token_file);
        let token = token(token_file.as_deref(), &mut doubts)?;
        if token.is_some() && url.password().is_some() {
            return Err(
                "there is an access token, and a password in the URL of the server, too; give one of them"
                    .to_owned(),
            );
        }
        let ca =
            self.server_ca.clone().or(file.server_ca).map(|path| trusted(path, &mut doubts)).transpose()?;
        let proxy = match self.proxy.as_deref().or(file.proxy.as_deref()) {
            None => Proxy::default(),
            Some(text) => text.parse().map_err(|e| format!("`proxy`: {e}"))?,
        };
        let (cert, key) = match (&self.client_cert, &self.client_key) {
            (None, None) => (file.client_cert, file.client_key),
            (cert, key) => (cert.clone().or(file.client_cert), key.clone().or(file.client_key)),
        };
        let identity = Shown::read(cert, key, &mut doubts)?;
        if identity.is_some() && url.scheme() == "http" {
            doubts.push(
                "a certificate is shown over TLS only, and the URL of the server begins with http://"
                    .to_owned(),
            );
        }
        Ok(Access { url, token, token_file, ca, identity, proxy, doubts })
    }

    /// The address or the file that holds it; a flag wins over a variable.
    fn one_of_two(&self) -> Result<(Option<&str>, Option<&Path>), String> {
        let (server, file) = (self.server.as_deref(), self.server_file.as_deref());
        if server.is_none() || file.is_none() {
            return Ok((server, file));
        }
        if from_variable("ZIZQ_SERVER", server) {
            Ok((None, file))
        } else if from_variable("ZIZQ_SERVER_FILE", file) {
            Ok((server, None))
        } else {
            Err("give --server or --server-file, not both".to_owned())
        }
    }
}

fn from_variable(name: &str, value: Option<impl AsRef<std::ffi::OsStr>>) -> bool {
    value.is_some_and(|value| std::env::var_os(name).is_some_and(|set| set == value.as_ref()))
}

impl Access {
    /// The files that are read again when they change.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(|shown| [&shown.cert, &shown.key]);
        let ca = self.ca.iter().map(|(path, _)| path);
        self.token_file.iter().chain(identity).chain(ca).cloned().collect()
    }

    /// The same with what is in the files now.
    pub(crate) fn read_again(&self) -> Result<Self, String> {
        let mut doubts = Vec::new();
        let token = match &self.token_file {
            Some(path) => token(Some(path), &mut doubts)?,
            None => self.token.clone(),
        };
        let files = self.identity.as_ref().map(|shown| (shown.cert.clone(), shown.key.clone()));
        let (cert, key) = files.unzip();
        let identity = Shown::read(cert, key, &mut doubts)?;
        let ca = self.ca.as_ref().map(|(path, _)| trusted(path.clone(), &mut doubts)).transpose()?;
        Ok(Self { token, identity, ca, doubts, ..self.clone() })
    }

    /// An HTTP client for the server.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, String> {
        let headers = self.token.iter().map(|token| (AUTHORIZATION, token.clone())).collect();
        let builder = plain(&self.url, &self.trust(), self.identity())?.default_headers(headers);
        self.proxy.apply(builder, &self.url).map_err(|e| e.to_string())
    }

    /// The TLS configuration of another client for the server.
    pub(crate) fn tls(&self) -> Result<ClientConfig, String> {
        self.trust().config(self.identity())
    }

    fn trust(&self) -> Trust {
        let (known, named) = match &self.ca {
            None => (true, Vec::new()),
            Some((_, certificates)) => (false, certificates.clone()),
        };
        Trust { known, named, how: "--server-ca FILE" }
    }

    fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref().map(|shown| &shown.identity)
    }

    /// The access token, as it is sent.
    pub(crate) const fn token(&self) -> Option<&HeaderValue> {
        self.token.as_ref()
    }

    /// The variables for commands that call the server: without user name, password, access token and client certificate,
    /// unless `pass_credentials`.
    pub(crate) fn variables(&self, pass_credentials: bool) -> Vec<(&'static str, OsString)> {
        let url = if pass_credentials { self.url.clone() } else { self.shown() };
        let server = ("ZIZQ_SERVER", url.as_str().trim_end_matches('/').into());
        let ca = self.ca.as_ref().map(|(path, _)| ("ZIZQ_SERVER_CA", path.clone().into_os_string()));
        let token = self.token.as_ref().filter(|_| pass_credentials).and_then(|token| token.to_str().ok());
        let token =
            token.and_then(|token| token.strip_prefix(BEARER)).map(|token| (TOKEN_VARIABLE, token.into()));
        let files = self
            .identity
            .as_ref()
            .filter(|_| pass_credentials)
            .map(|shown| [("ZIZQ_CLIENT_CERT", &shown.cert), ("ZIZQ_CLIENT_KEY", &shown.key)]);
        let files = files.into_iter().flatten().map(|(name, path)| (name, path.clone().into_os_string()));
        std::iter::once(server).chain(ca).chain(token).chain(files).collect()
    }

    /// The address without user name and password.
    pub(crate) fn shown(&self) -> Url {
        shown(&self.url)
    }
}

/// A plain HTTP client for `url`. It follows no redirects, because the URL should be corrected instead. For `http` it
/// loads no certificates, because a bare machine may have none.
pub(crate) fn plain(url: &Url, trust: &Trust, identity: Option<&Identity>) -> Result<ClientBuilder, String> {
    let builder = ClientBuilder::new()
        .user_agent(concat!("zizq-worker/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .http1_only();
    Ok(match url.scheme() {
        "http" => builder.tls_certs_only([]),
        _ => builder.tls_backend_preconfigured(trust.config(identity)?),
    })
}

fn server_url(text: &str) -> Result<Url, String> {
    let url = http_url(text, "http://HOST:PORT")?;
    if url.query().is_some() || url.fragment().is_some() {
        let text = without_password(text);
        return Err(format!("`{text}` has a `?` or `#` part; the address of a server ends before it"));
    }
    Ok(url)
}

/// Reads the access token from a file, or from the variable. Nothing of it is repeated.
fn token(file: Option<&Path>, doubts: &mut Vec<String>) -> Result<Option<HeaderValue>, String> {
    let set = std::env::var(TOKEN_VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let (text, place) = match (file, set) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| format!("`token_file`: cannot read {}: {e}", path.display()))?;
            if others_can_read(path) {
                doubts.push(open_to_all(path, "the access token"));
            }
            (text, path.display().to_string())
        }
        (None, Some(text)) => (text, TOKEN_VARIABLE.to_owned()),
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    if text.is_empty() || text.contains(|c: char| c.is_whitespace()) {
        return Err(format!("{place} must hold one line, an access token"));
    }
    if AccessToken::is_meant_by(text) {
        text.parse::<AccessToken>().map_err(|e| format!("{place}: {e}"))?;
    }
    let mut value = HeaderValue::from_str(&format!("{BEARER}{text}"))
        .map_err(|_| format!("{place}: an access token has letters, digits and the like only"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Reads the certificates that are trusted.
fn trusted(
    path: PathBuf,
    doubts: &mut Vec<String>,
) -> Result<(PathBuf, Vec<CertificateDer<'static>>), String> {
    let certificates = trust::read("server_ca", &path)?;
    if let Some(doubt) = trust::doubt(&certificates) {
        doubts.push(format!("`server_ca`: {}: {doubt}", path.display()));
    }
    Ok((std::path::absolute(&path).unwrap_or(path), certificates))
}

fn first_line(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("`server_file`: cannot read {}: {e}", path.display()))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line.to_owned()),
        _ => Err(format!("`server_file`: {} must hold one line, the URL of the server", path.display())),
    }
}

/// Whether all users can read a file.
pub(crate) fn others_can_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

/// The warning about such a file.
pub(crate) fn open_to_all(path: &Path, what: &str) -> String {
    let path = path.display();
    format!("all users of this machine can read {what} in {path}; run chmod o= {path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (url, seen) in [
            ("http://me:secret@localhost:1/x", "http://localhost:1/x"),
            ("http://localhost:1/", "http://localhost:1/"),
        ] {
            assert_eq!(shown(&Url::parse(url).unwrap()).as_str(), seen);
        }
    }

    #[test]
    fn the_address_of_the_server_comes_from_a_flag_a_file_or_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        let private = write("private", "\nhttp://me:secret@far:1/\n", 0o600);
        let open = write("open", "http://me:secret@far:1", 0o644);
        let two = write("two", "http://a\nhttp://b\n", 0o600);
        let wrong = write("wrong", "me:secret@far:1\n", 0o600);
        let flags = |server: Option<&str>, file: Option<&PathBuf>| AccessFlags {
            server: server.map(str::to_owned),
            server_file: file.cloned(),
            ..AccessFlags::default()
        };
        let in_file = || Written { server: Some("http://of-file".to_owned()), ..Written::default() };
        for (flags, url, doubt) in [
            (flags(None, None), "http://of-file/", None),
            (flags(Some("http://x"), None), "http://x/", None),
            (
                flags(Some("http://me:secret@x"), None),
                "http://me:secret@x/",
                Some("the password in --server"),
            ),
            (flags(None, Some(&private)), "http://me:secret@far:1/", None),
            (
                flags(None, Some(&open)),
                "http://me:secret@far:1/",
                Some("can read the password of the server in"),
            ),
        ] {
            let access = flags.access(in_file()).unwrap();
            assert_eq!(access.url.as_str(), url);
            let doubts = access.doubts.join("\n");
            assert_eq!(!doubts.is_empty(), doubt.is_some(), "{doubts}");
            assert!(doubts.contains(doubt.unwrap_or_default()) && !doubts.contains("secret@"), "{doubts}");
        }
        assert_eq!(
            flags(None, None).access(Written::default()).unwrap().url.as_str(),
            "http://127.0.0.1:7890/"
        );
        for (flags, said) in [
            (flags(Some("http://x"), Some(&private)), "not both"),
            (flags(None, Some(&two)), "must hold one line"),
            (flags(None, Some(&wrong)), "wrong: `***@far:1` does not begin with http://"),
            (flags(None, Some(&folder.path().join("none"))), "`server_file`: cannot read"),
            (flags(Some("ftp://me:secret@x"), None), "`ftp://***@x` does not begin with http://"),
            (flags(Some("http://me:secret@x?y"), None), "`http://***@x?y` has a `?` or `#` part"),
            (flags(Some("http://me:sec ret@x:y"), None), "`http://***@x:y` is not a URL"),
        ] {
            let error = flags.access(Written::default()).map(|_| ()).unwrap_err();
            assert!(error.contains(said) && !error.contains("sec"), "{error}");
        }
    }
}
