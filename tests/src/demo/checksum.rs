//! An HTTP endpoint that tells the checksum of a file and now and then fails at first.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;

/// One file of so many is refused at first.
const REFUSED: u32 = 8;

/// The endpoint, and what it has found out.
#[derive(Debug)]
pub(super) struct Checksums {
    url: String,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    files: PathBuf,
    refused: Mutex<HashSet<u32>>,
    found: Mutex<HashMap<u32, u32>>,
}

/// What it needs of a payload.
#[derive(Deserialize)]
struct Payload {
    file: u32,
}

impl Checksums {
    /// Starts an endpoint for the files of a folder, whose names are numbers.
    pub(super) async fn start(files: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/checksum", listener.local_addr()?);
        let state = Arc::new(State { files, refused: Mutex::default(), found: Mutex::default() });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
            }
        });
        Ok(Self { url, state })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How often it failed.
    pub(super) fn refusals(&self) -> u64 {
        self.state.refused.lock().unwrap().len() as u64
    }

    /// The CRC-32 of a file, if it was asked for.
    pub(super) fn of(&self, file: u32) -> Option<u32> {
        self.state.found.lock().unwrap().get(&file).copied()
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let response = match serde_json::from_slice::<Payload>(&body) {
        Ok(Payload { file }) => state.checksum(file),
        Err(e) => Response::builder().status(StatusCode::BAD_REQUEST).body(Full::from(e.to_string())),
    };
    Ok(response.unwrap_or_else(|e| Response::new(Full::from(e.to_string()))))
}

impl State {
    fn checksum(&self, file: u32) -> http::Result<Response<Full<Bytes>>> {
        if file % REFUSED == REFUSED / 2 && self.refused.lock().unwrap().insert(file) {
            let failed =
                Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).header("retry-after", "1");
            return failed.body(Full::from("out of luck, try again"));
        }
        match std::fs::read(self.files.join(file.to_string())) {
            Ok(bytes) => {
                let checksum = crc32(&bytes);
                self.found.lock().unwrap().insert(file, checksum);
                Response::builder().body(Full::from(format!("{checksum:08x}")))
            }
            Err(e) => Response::builder().status(StatusCode::NOT_FOUND).body(Full::from(e.to_string())),
        }
    }
}

/// The checksum that gzip uses.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
