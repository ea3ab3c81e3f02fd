//! `POST /ui/session`, `DELETE /ui/session`: people log in with an access token, and get a cookie.

use http::Response;
use http::header::{CACHE_CONTROL, HeaderValue, SET_COOKIE};
use protocol::body;
use serde::Deserialize;
use serde_json::json;

use super::audit::{self, Became};
use super::{App, admit};
use crate::access::{Access, Registry};
use crate::http::reply::{self, Answer, Content, Refusal};
use crate::http::request::Request;

/// What is shown: an access token, or the code of a link.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    token: Option<String>,
    code: Option<String>,
}

pub(crate) async fn log_in(app: &App, request: &Request) -> Answer {
    let shown: LogIn = body::parse(request.body_format()?, &request.body)?;
    request.no_query()?;
    let is_tls = request.party.is_tls;
    let begun = match &shown {
        LogIn { token: Some(token), code: None } => app.access.log_in(token.trim(), is_tls),
        LogIn { token: None, code: Some(code) } => app.access.follow_link(code, is_tls),
        _ => return Err(Refusal::invalid("token: it is missing; or give the `code` of a link instead")),
    };
    let (access, cookie) = match begun {
        Ok(begun) => begun,
        Err(why) => return Err(admit::denied(app, request, &why).await),
    };
    let until = Registry::session_until(&access);
    let shown = json!({"name": access.identity.name, "role": access.identity.role, "until": until});
    let mut answer = reply::ok(request.format, &shown);
    answer.extensions_mut().insert(Became(audit::who(Some(&access))));
    set(&mut answer, &cookie)?;
    Ok(answer)
}

pub(crate) fn log_out(request: &Request) -> Answer {
    request.no_query()?;
    let mut answer = reply::no_content();
    for cookie in [
        "zizq=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict",
        "__Host-zizq=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure",
    ] {
        set(&mut answer, cookie)?;
    }
    Ok(answer)
}

/// Replaces the cookie of a session that goes on.
pub(super) fn renew(app: &App, request: &Request, access: &Access, answer: &mut Response<Content>) {
    if let Some(cookie) = app.access.renewal(access, request.party.is_tls) {
        // What cannot be a header is not sent; the old cookie lasts a while.
        drop(set(answer, &cookie));
    }
}

fn set(answer: &mut Response<Content>, cookie: &str) -> Result<(), Refusal> {
    let value =
        HeaderValue::from_str(cookie).map_err(|_| Refusal::unavailable("the cookie cannot be sent"))?;
    answer.headers_mut().append(SET_COOKIE, value);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(())
}
