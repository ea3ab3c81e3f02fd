//! `GET /whoami`, and the access tokens: list, create, rotate, revoke.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use protocol::access::{AccessToken, NewToken, RANDOM_BYTES, Rotate, TokenId, TokenView};
use protocol::body;
use protocol::error::excerpt;
use protocol::number::MAX_TIME_MS;
use serde_json::json;

use super::listing::Listing;
use super::{App, admit, audit, difference};
use crate::access::{Access, Credential, DAY_MS, Digest, TokenRecord};
use crate::clock;
use crate::engine::command::access::{self as command, CreateToken, ListTokens, RevokeToken, RotateToken};
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

/// How long a replaced secret still counts unless the call says so, and at most.
const OVERLAP_MS: u64 = DAY_MS;
const MAX_OVERLAP_MS: u64 = 30 * DAY_MS;

pub(crate) fn whoami(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let access = request.access().ok_or_else(|| admit::unauthorized("nobody knows who calls"))?;
    let identity = &access.identity;
    let auth = if app.access.asks() { "required" } else { "open" };
    let mut shown = json!({"who": audit::who(Some(access)), "grants": identity.grants.list(), "auth": auth, "read_only": app.read_only});
    if let Some(members) = shown.as_object_mut() {
        members.extend(identity.role.map(|role| ("role".to_owned(), json!(role))));
        members.extend(app.access.expires_at(access).map(|at| ("expires_at".to_owned(), json!(at))));
    }
    Ok(reply::ok(request.format, &shown))
}

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let listing = Listing::read(&mut query)?;
    query.finish()?;
    let tokens = app.engine.ask(ListTokens).await?;
    let now = clock::now().wall;
    // The engine hears of uses with a delay.
    let used_on = |id: &TokenId| app.access.used_on(id.as_str());
    let view = |(id, record): (&TokenId, &std::sync::Arc<TokenRecord>)| {
        let used_on = record.used_on.max(used_on(id));
        TokenRecord { used_on, ..TokenRecord::clone(record) }.view(id, now)
    };
    let views: Vec<TokenView> = tokens.all.iter().map(view).collect();
    listing.answer(request, ("/tokens", "tokens"), views, |view| view.id.to_string(), |view| json!(view))
}

pub(crate) async fn create(app: &App, request: &Request) -> Answer {
    let new: NewToken = body::parse(request.body_format()?, &request.body)?;
    request.no_query()?;
    let grants = new.grants().map_err(Refusal::not_allowed)?;
    let expires_at = expires_at(&new)?;
    let (id, token) = (TokenId::new(u64::from_be_bytes(random()?)), AccessToken::new(new.role, &random()?));
    app.marker.make().await.map_err(|error| {
        Refusal::unavailable(format!("cannot note that this server asks for access tokens: {error}"))
    })?;
    let is_secret = new.certificate.is_none();
    let credential = match new.certificate {
        Some(name) => Credential::Certificate { name, revoked_at: None },
        None => Credential::Secret { digest: Digest::of(token.reveal()), old: None },
    };
    let (created_by, key) = (named(request.access()), random()?);
    let created = command::NewToken {
        id: id.clone(),
        name: new.name,
        role: new.role,
        grants,
        credential,
        created_by,
        expires_at,
        key,
    };
    let record = app.engine.ask(CreateToken(created.into())).await?;
    difference::note(request, None, Some(difference::token(&id, &record)));
    let token = is_secret.then(|| token.reveal().to_owned());
    let view = TokenView { token, ..record.view(&id, clock::now().wall) };
    Ok(reply::created(request.format, &view))
}

fn expires_at(new: &NewToken) -> Result<Option<u64>, Refusal> {
    let now = clock::now().wall;
    let at = match (new.expires_at, new.expires_in_ms) {
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid("expires_in_ms: it cannot be used together with expires_at"));
        }
        (at, None) => at,
        (None, Some(ms)) => Some(now.saturating_add(ms).min(MAX_TIME_MS)),
    };
    match at.filter(|at| *at <= now) {
        Some(_) => Err(Refusal::not_allowed("expires_at: the access token would have expired already")),
        None => Ok(at),
    }
}

/// Who made something, for people.
fn named(access: Option<&Access>) -> String {
    let Some(access) = access else { return String::new() };
    let (kind, name) = (access.identity.kind.as_str(), &access.identity.name);
    if name.is_empty() { kind.to_owned() } else { format!("{kind}: {name}") }
}

pub(crate) async fn rotate(app: &App, request: &Request) -> Answer {
    let rotate: Rotate = body::parse_optional(request.body_format()?, &request.body)?;
    request.no_query()?;
    let id = known(request)?;
    let overlap_ms = rotate.overlap_ms.unwrap_or(OVERLAP_MS);
    if overlap_ms > MAX_OVERLAP_MS {
        let error = format!("overlap_ms: {overlap_ms} is out of range 0 to {MAX_OVERLAP_MS}");
        return Err(Refusal::invalid(error));
    }
    let tokens = app.engine.ask(ListTokens).await?;
    let before = tokens.all.get(&id);
    let role = before.and_then(|record| record.role);
    let token = AccessToken::new(role, &random()?);
    let rotate = RotateToken { id: id.clone(), digest: Digest::of(token.reveal()), overlap_ms };
    let record = app.engine.ask(rotate).await?;
    let before = before.map(|before| difference::token(&id, before));
    difference::note(request, before, Some(difference::token(&id, &record)));
    let view = TokenView { token: Some(token.reveal().to_owned()), ..record.view(&id, clock::now().wall) };
    Ok(reply::ok(request.format, &view))
}

/// Makes a code that begins the session of a browser, once and soon.
pub(crate) fn link(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let id = known(request)?;
    let code = BASE64_URL_SAFE_NO_PAD.encode(random::<RANDOM_BYTES>()?);
    let until = app.access.link(&id, &code).ok_or_else(|| {
        let error =
            format!("{id}: only an access token with a secret that still counts has sessions of browsers");
        Refusal::not_found(error)
    })?;
    Ok(reply::ok(request.format, &json!({"code": code, "expires_at": until})))
}

pub(crate) async fn revoke(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let id = known(request)?;
    let before = app.engine.ask(RevokeToken(id.clone())).await?;
    difference::note(request, Some(difference::token(&id, &before)), None);
    Ok(reply::no_content())
}

/// Reads the id of an access token from the path. Text that cannot be an id is answered 404; a token itself is not quoted.
fn known(request: &Request) -> Result<TokenId, Refusal> {
    let text = request.params.first().map(String::as_str).unwrap_or_default();
    text.parse().map_err(|_| {
        let shown = if AccessToken::is_meant_by(text) { "***".to_owned() } else { excerpt(text) };
        Refusal::not_found(format!("no access token has the id `{shown}`; GET /tokens lists them"))
    })
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    const { assert!(N <= RANDOM_BYTES) }
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Refusal::unavailable(format!("the operating system provides no random numbers: {e}")))?;
    Ok(bytes)
}
