//! Addresses: read with a sentence when they are wrong, and shown without their passwords.

use reqwest::Url;

/// Parses an http or https URL; the error shows `example`.
pub(crate) fn http_url(text: &str, example: &str) -> Result<Url, String> {
    let unusable = |why: String| format!("`{}` {why}; write {example}", without_password(text));
    let url = Url::parse(text).map_err(|e| unusable(format!("is not a URL ({e})")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(unusable("does not begin with http:// or https://".to_owned()));
    }
    Ok(url)
}

/// A text that was meant as a URL, safe to print: without everything before an `@`.
pub(crate) fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        None => text.to_owned(),
        Some((before, after)) => {
            let scheme = before.find("://").and_then(|end| before.get(..end + 3)).unwrap_or_default();
            format!("{scheme}***@{after}")
        }
    }
}

/// An address without user name and password, safe to print.
pub(crate) fn shown(url: &Url) -> Url {
    let mut shown = url.clone();
    // These cannot fail for a URL with a host.
    shown.set_username("").and_then(|()| shown.set_password(None)).ok();
    shown
}
