//! Who may do what: access tokens, their grants and queues, and those who try without.

mod attacks;
mod audit;
mod difference;
mod matrix;
mod modes;
mod proxy;
mod scope;
mod sessions;
mod tokens;
mod worker;

use std::process::Output;

use serde_json::Value;
use tests::{Client, Server};

/// What a command printed, if it went well.
fn printed(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap().trim_end().to_owned()
}

/// Makes an access token as people do, and returns it.
async fn token(server: &Server, name: &str, args: &[&str]) -> String {
    printed(&server.control(&[&["token", "create", name], args].concat()).await)
}

/// A client with a new access token, and the id of the token.
async fn caller(server: &Server, name: &str, args: &[&str]) -> (Client, String) {
    let client = server.client().with_token(&token(server, name, args).await);
    let who = client.get("/whoami").await.expect(200);
    (client, who["who"]["id"].as_str().unwrap().to_owned())
}

/// A server that asks, and a client that may do everything.
async fn asking() -> (Server, Client) {
    let server = Server::with(["--auth", "required"]).await;
    let (admin, _) = caller(&server, "root", &["--role", "admin"]).await;
    (server, admin)
}

/// The names in a list of objects, or of names.
fn names(list: &Value) -> Vec<String> {
    let name = |one: &Value| one["name"].as_str().or(one.as_str()).unwrap_or_default().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}
