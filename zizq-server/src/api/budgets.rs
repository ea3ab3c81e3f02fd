//! Budgets, and the bindings of jobs to them.

use std::sync::Arc;

use protocol::access::Verb;
use protocol::body;
use protocol::budget::{
    BindingRequest, BudgetView, CostRequest, KeyedBindingRequest, PolicyPatch, PolicyRequest, check_bindings,
};
use protocol::error::excerpt;
use protocol::name::BudgetKey;
use protocol::object::Object;
use serde::Deserialize;
use serde_json::json;

use super::bulk::{self, Report};
use super::change::{self, shown};
use super::listing::Listing;
use super::{App, admit, difference};
use crate::engine::command::budgets::{
    BindingChange, CreateBudget, DeleteBudget, GetBudget, ListBudgets, PatchBudget, PutBudget,
};
use crate::engine::command::jobs::Change;
use crate::engine::command::{self, Edited};
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

pub(crate) async fn list(app: &App, request: &Request) -> Answer {
    let mut query = request.query()?;
    let listing = Listing::read(&mut query)?;
    query.finish()?;
    let budgets = app.engine.ask(ListBudgets).await?;
    let key = |budget: &BudgetView| budget.key.to_string();
    listing.answer(request, ("/budgets", "budgets"), budgets, key, |budget| json!(budget))
}

pub(crate) async fn get(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let budget = app.engine.ask(GetBudget(known_key(request, 0)?)).await?;
    Ok(reply::ok(request.format, &budget))
}

pub(crate) async fn create(app: &App, request: &Request) -> Answer {
    let policy: PolicyRequest = body::parse_tolerant(request.body_format()?, &request.body)?;
    request.no_query()?;
    let policy = policy.check().map_err(Refusal::not_allowed)?;
    let budget = app.engine.ask(CreateBudget(new_key(request, 0)?, policy)).await?;
    difference::note(request, None, Some(difference::budget(&budget)));
    Ok(reply::created(request.format, &budget))
}

pub(crate) async fn put(app: &App, request: &Request) -> Answer {
    let policy: PolicyRequest = body::parse_tolerant(request.body_format()?, &request.body)?;
    request.no_query()?;
    let policy = policy.check().map_err(Refusal::not_allowed)?;
    edited(app, request, PutBudget(new_key(request, 0)?, policy)).await
}

pub(crate) async fn patch(app: &App, request: &Request) -> Answer {
    let patch: PolicyPatch = body::parse(request.body_format()?, &request.body)?;
    request.no_query()?;
    edited(app, request, PatchBudget(known_key(request, 0)?, patch)).await
}

pub(crate) async fn delete(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let before = app.engine.ask(DeleteBudget(known_key(request, 0)?)).await?;
    difference::note(request, Some(difference::budget(&before)), None);
    Ok(reply::no_content())
}

/// Has the engine edit a budget and returns it as the response.
async fn edited<R>(app: &App, request: &Request, what: R) -> Answer
where
    R: command::Request<Answer = Edited<BudgetView>>,
{
    let Edited { before, now } = app.engine.ask(what).await?;
    difference::note(request, before.as_deref().map(difference::budget), Some(difference::budget(&now)));
    Ok(reply::ok(request.format, &now))
}

pub(crate) async fn bind(app: &App, request: &Request) -> Answer {
    change_one(app, request, read_bind(request, 1)?).await
}

pub(crate) async fn rebind(app: &App, request: &Request) -> Answer {
    change_one(app, request, read_rebind(request, 1)?).await
}

pub(crate) async fn set_cost(app: &App, request: &Request) -> Answer {
    change_one(app, request, read_cost(request, 1)?).await
}

pub(crate) async fn unbind(app: &App, request: &Request) -> Answer {
    change_one(app, request, BindingChange::Remove(known_key(request, 1)?)).await
}

pub(crate) async fn replace(app: &App, request: &Request) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Replacement {
        budgets: Vec<Object<KeyedBindingRequest>>,
    }
    let Replacement { budgets } = body::parse_tolerant(request.body_format()?, &request.body)?;
    let bindings = check_bindings(budgets).map_err(Refusal::not_allowed)?;
    change_one(app, request, BindingChange::Replace(bindings)).await
}

pub(crate) async fn clear(app: &App, request: &Request) -> Answer {
    change_one(app, request, BindingChange::Replace(Vec::new())).await
}

pub(crate) async fn bind_bulk(app: &Arc<App>, request: &Request) -> Answer {
    change_bulk(app, request, read_bind(request, 0)?).await
}

pub(crate) async fn rebind_bulk(app: &Arc<App>, request: &Request) -> Answer {
    change_bulk(app, request, read_rebind(request, 0)?).await
}

pub(crate) async fn set_cost_bulk(app: &Arc<App>, request: &Request) -> Answer {
    change_bulk(app, request, read_cost(request, 0)?).await
}

pub(crate) async fn unbind_bulk(app: &Arc<App>, request: &Request) -> Answer {
    change_bulk(app, request, BindingChange::Remove(known_key(request, 0)?)).await
}

pub(crate) async fn clear_bulk(app: &Arc<App>, request: &Request) -> Answer {
    change_bulk(app, request, BindingChange::Replace(Vec::new())).await
}

/// Checks that a call may create the budgets that it brings along, as far as they do not exist.
pub(super) async fn may_create(app: &App, request: &Request, keys: &[BudgetKey]) -> Result<(), Refusal> {
    if keys.is_empty() || request.scope_of(Verb::Configure).is_all() {
        return Ok(());
    }
    let budgets = app.engine.ask(ListBudgets).await?;
    match keys.iter().find(|key| !budgets.iter().any(|budget| budget.key == **key)) {
        Some(key) => {
            admit::everywhere(request, Verb::Configure, &format!("this call creates the budget `{key}`"))
        }
        None => Ok(()),
    }
}

fn read_bind(request: &Request, at: usize) -> Result<BindingChange, Refusal> {
    let new: BindingRequest = body::parse_tolerant_optional(request.body_format()?, &request.body)?;
    Ok(BindingChange::Add(new.check(new_key(request, at)?).map_err(Refusal::not_allowed)?))
}

fn read_rebind(request: &Request, at: usize) -> Result<BindingChange, Refusal> {
    let new: BindingRequest = body::parse_tolerant_optional(request.body_format()?, &request.body)?;
    Ok(BindingChange::Put(new.check(new_key(request, at)?).map_err(Refusal::not_allowed)?))
}

fn read_cost(request: &Request, at: usize) -> Result<BindingChange, Refusal> {
    let cost: CostRequest = body::parse(request.body_format()?, &request.body)?;
    Ok(BindingChange::Cost(known_key(request, at)?, cost.check().map_err(Refusal::not_allowed)?))
}

async fn change_one(app: &App, request: &Request, change: BindingChange) -> Answer {
    request.no_query()?;
    may_create(app, request, &created_by(&change)).await?;
    shown(request, &change::one(app, request, Change::Bind(Arc::new(change))).await?)
}

async fn change_bulk(app: &Arc<App>, request: &Request, change: BindingChange) -> Answer {
    may_create(app, request, &created_by(&change)).await?;
    bulk::answer(app, request, Change::Bind(Arc::new(change)), Report::Bindings).await
}

/// The budgets that a change creates if they do not exist.
fn created_by(change: &BindingChange) -> Vec<BudgetKey> {
    let news = change.news().iter().filter(|new| new.create_with.is_some());
    news.map(|new| new.binding.key.clone()).collect()
}

/// Reads the key of an existing budget from the path. Text that cannot be a key is answered 404.
fn known_key(request: &Request, at: usize) -> Result<BudgetKey, Refusal> {
    let text = request.params.get(at).map(String::as_str).unwrap_or_default();
    text.parse().map_err(|_| Refusal::not_found(format!("no budget has the key `{}`", excerpt(text))))
}

/// Reads the key of a budget that may be created from the path.
fn new_key(request: &Request, at: usize) -> Result<BudgetKey, Refusal> {
    let text = request.params.get(at).map(String::as_str).unwrap_or_default();
    text.parse().map_err(|e| Refusal::invalid(format!("key: {e}")))
}
