//! `POST /ui/session`, `DELETE /ui/session`: people log in with an access token, and get a cookie.

use http::Response;
use http::header::{CACHE_CONTROL, HeaderValue, SET_COOKIE};
use protocol::body;
use serde::Deserialize;
use serde_json::json;

use super::{App, admit};
use crate::access::{Access, Registry};
use crate::http::reply::{self, Answer, Content, Refusal};
use crate::http::request::Request;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    token: String,
}

pub(crate) async fn log_in(app: &App, request: &Request) -> Answer {
    let LogIn { token } = body::parse(request.body_format()?, &request.body)?;
    request.no_query()?;
    let (access, cookie) = match app.access.log_in(token.trim(), request.party.is_tls) {
        Ok(begun) => begun,
        Err(why) => return Err(admit::denied(app, request, &why).await),
    };
    let until = Registry::session_until(&access);
    let shown = json!({"name": access.identity.name, "role": access.identity.role, "until": until});
    let mut answer = reply::ok(request.format, &shown);
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
