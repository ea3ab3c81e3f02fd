//! `DELETE /jobs/{id}`.

use crate::engine::command::Command;
use crate::handle::CallError;
use crate::http::App;
use crate::http::reply::{self, Answer, Refusal};
use crate::http::request::Request;

pub(crate) async fn delete(app: &App, request: &Request) -> Answer {
    request.no_query()?;
    let id = request.job_id()?;
    match app.engine.call(Command::Delete(id)).await {
        Ok(_) => Ok(reply::no_content()),
        Err(CallError::Rejected(_)) => Err(Refusal::not_found(format!("no job has the id `{id}`"))),
        Err(error) => Err(error.into()),
    }
}
