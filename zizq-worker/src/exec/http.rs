//! Runs a job as an HTTP call: builds the request, repeats it only when a reused connection was closed, reads the answer.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use protocol::job::DeliveredJob;
use protocol::trace::{PARENT, STATE};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, ClientBuilder, Request, Response, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::{Ran, Shared, Stop, after, stopped, webhook};
use crate::access::plain;
use crate::address::http_url;
use crate::client::cause;
use crate::outcome::{Fact, Said};
use crate::proxy::is_local;
use crate::route::{HttpSpec, Route, Target};
use crate::template::Input;
use crate::trust::Trust;
use crate::{clock, public, retry_after};

/// How much of an answer is read: enough for a message, and to reuse the connection.
const MAX_BODY: usize = 64 << 10;
/// How long the body of an answer may take: the status already decides.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// The characters that a header value must encode.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The connections to each host, for all routes.
#[derive(Debug, Default)]
pub(crate) struct Hosts(Mutex<HashMap<(String, u16), Weak<Semaphore>>>);

/// A URL that takes jobs.
#[derive(Debug)]
pub(crate) struct Endpoint {
    route: Arc<Route>,
    hosts: Arc<Hosts>,
    client: Client,
    /// As [`Self::client`], with a new connection per call.
    anew: Client,
    /// Whether there may be reusable connections.
    has_answered: AtomicBool,
}

impl Hosts {
    /// Waits for a free connection to a host.
    async fn place(&self, url: &Url, most: u16) -> Option<OwnedSemaphorePermit> {
        let host = (url.host_str()?.to_owned(), url.port_or_known_default()?);
        let places = {
            let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.retain(|_, places| places.strong_count() > 0);
            hosts.get(&host).and_then(Weak::upgrade).unwrap_or_else(|| {
                let places = Arc::new(Semaphore::new(most.into()));
                hosts.insert(host, Arc::downgrade(&places));
                places
            })
        };
        places.acquire_owned().await.ok()
    }
}

impl Endpoint {
    pub(super) fn new(route: Arc<Route>, shared: &Shared) -> Result<Self, String> {
        let spec = spec(&route)?;
        let client = |idle: u16| {
            let builder = client_for(spec)?.pool_max_idle_per_host(usize::from(idle));
            builder.build().map_err(|e| cause(&e))
        };
        let (client, anew) = (client(route.concurrency.get())?, client(0)?);
        let hosts = shared.hosts.clone();
        Ok(Self { route, hosts, client, anew, has_answered: AtomicBool::new(false) })
    }

    pub(super) async fn call(&self, job: &DeliveredJob, mut stop: watch::Receiver<Stop>) -> (Fact, Ran) {
        let judge = |fact: Fact, detail: &str| {
            let outcome = self.route.rules.judge(&fact, detail, Said::default());
            (fact, Ran { outcome, usage: None })
        };
        let request = match self.request(job) {
            Ok(request) => request,
            Err(why) => return judge(Fact::BadJob(why), ""),
        };
        let spec = spec(&self.route).ok();
        let _place = match spec.and_then(|spec| spec.max_connections_per_host) {
            Some(most) => tokio::select! {
                place = self.hosts.place(request.url(), most.get()) => place,
                () = stopped(&mut stop) => return judge(Fact::Stopped, ""),
            },
            None => None,
        };
        let first_byte = spec.and_then(|spec| spec.first_byte_timeout);
        let call = pin!(self.exchange(job, request, first_byte));
        let (fact, detail) = tokio::select! {
            answer = call => answer,
            time = after(self.route.timeout) => (Fact::TimedOut(time), String::new()),
            () = stopped(&mut stop) => (Fact::Stopped, String::new()),
        };
        judge(fact, &detail)
    }

    async fn exchange(
        &self,
        job: &DeliveredJob,
        request: Request,
        first_byte: Option<Duration>,
    ) -> (Fact, String) {
        let sent = tokio::select! {
            sent = self.send(job, request) => sent,
            time = after(first_byte) => return (Fact::TimedOut(time), String::new()),
        };
        match sent {
            Ok(answer) => {
                let answer = read(answer).await;
                self.has_answered.store(true, Ordering::Relaxed);
                answer
            }
            Err(e) => (Fact::NoAnswer(cause(&e)), String::new()),
        }
    }

    /// Makes a call, and repeats it once if the other side may just have closed a reused connection. The call carries an
    /// idempotency key, in case the first one arrived after all.
    async fn send(&self, job: &DeliveredJob, request: Request) -> reqwest::Result<Response> {
        match self.client.execute(request).await {
            Err(e) if was_closed(&e) && self.has_answered.load(Ordering::Relaxed) => {
                let Ok(again) = self.request(job) else { return Err(e) };
                tracing::debug!(job = %job.id, "the connection closed before the answer; repeating the call: {}", cause(&e));
                self.anew.execute(again).await
            }
            other => other,
        }
    }

    fn request(&self, job: &DeliveredJob) -> Result<Request, String> {
        let spec = spec(&self.route)?;
        let fixed = !spec.url.has_placeholders()
            && !spec.headers.values().any(|value| value.has_placeholders())
            && spec.body.is_none();
        let input = if fixed { None } else { Some(Input::of(job)?) };
        let (url, body) = match &input {
            None => (spec.url.source().to_owned(), job.payload.get().to_owned()),
            Some(input) => {
                let body = spec.body.as_ref().map(|body| body.render(input)).transpose()?;
                (spec.url.render_url(input)?, body.unwrap_or_else(|| job.payload.get().to_owned()))
            }
        };
        let url = http_url(&url, "http://HOST/PATH")?;
        if !spec.private_addresses
            && let Some(ip) =
                url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok())
            && !public::is_public(ip)
        {
            return Err(format!(
                "{ip} is not a public address, and `private_addresses = false` allows no others"
            ));
        }
        let mut request = Request::new(spec.method.clone(), url);
        *request.headers_mut() = headers(spec, job, input.as_ref(), &body)?;
        *request.body_mut() = Some(body.into());
        Ok(request)
    }
}

/// The HTTP client for an endpoint.
fn client_for(spec: &HttpSpec) -> Result<ClientBuilder, String> {
    let any = Url::parse("https://any.invalid").map_err(|e| e.to_string())?;
    let base = spec.base.as_ref().unwrap_or(&any);
    let trust = Trust { known: true, named: spec.ca.clone(), how: "ca = \"FILE\"" };
    let mut builder = plain(base, &trust, spec.identity.as_ref())?.connect_timeout(spec.connect_timeout);
    if is_local(base) {
        builder = builder.no_proxy();
    }
    if !spec.private_addresses {
        builder = builder.dns_resolver(Arc::new(public::PublicOnly)).no_proxy();
    }
    Ok(builder)
}

/// Whether an established connection closed before an answer.
fn was_closed(error: &reqwest::Error) -> bool {
    if error.is_connect() || error.is_timeout() {
        return false;
    }
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.into_iter().any(|cause| {
        let closed = cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(|e| e.is_incomplete_message() || e.is_canceled());
        closed
            || cause.downcast_ref::<io::Error>().is_some_and(|e| {
                use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
                matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
            })
    })
}

fn spec(route: &Route) -> Result<&HttpSpec, String> {
    match &route.target {
        Target::Http(spec) => Ok(spec),
        Target::Command(_) => Err("the route is not an endpoint".to_owned()),
    }
}

fn headers(
    spec: &HttpSpec,
    job: &DeliveredJob,
    input: Option<&Input>,
    body: &str,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str| -> Result<(), String> {
        let name = HeaderName::try_from(name).map_err(|_| format!("`{name}` is not a header name"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("the value that the job gives for the header `{name}` has characters that headers cannot carry"))?;
        headers.insert(name, value);
        Ok(())
    };
    let text = |name: &str| utf8_percent_encode(name, ENCODED).to_string();
    let id = job.id.to_string();
    set(CONTENT_TYPE.as_str(), "application/json")?;
    set("zizq-job-id", &id)?;
    set("zizq-job-type", &text(&job.job_type))?;
    set("zizq-job-queue", &text(&job.queue))?;
    set("zizq-job-attempt", &job.attempts.saturating_add(1).to_string())?;
    set("idempotency-key", &id)?;
    if let Some(trace) = &job.trace {
        set(PARENT, &trace.parent.to_string())?;
        if let Some(state) = trace.state() {
            set(STATE, state)?;
        }
    }
    if spec.cloud_events {
        for (name, value) in webhook::cloud_event(job) {
            set(name, &value)?;
        }
    }
    if !spec.secrets.is_empty() {
        let timestamp = clock::now_ms() / 1000;
        set("webhook-id", &id)?;
        set("webhook-timestamp", &timestamp.to_string())?;
        set("webhook-signature", &webhook::signature(&spec.secrets, &id, timestamp, body.as_bytes()))?;
    }
    for (name, value) in &spec.headers {
        match input {
            None => set(name, value.source())?,
            Some(input) => set(name, &value.render(input)?)?,
        }
    }
    Ok(headers)
}

async fn read(mut answer: Response) -> (Fact, String) {
    let status = answer.status();
    let pause = retry_after::pause(answer.headers(), clock::now_ms());
    let elsewhere = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = answer.chunk().await
            && body.len() < MAX_BODY
        {
            body.extend_from_slice(&chunk);
        }
    };
    if timeout(BODY_TIMEOUT, reading).await.is_err() {
        tracing::debug!("timed out reading the body of an answer; the status {status} counts");
    }
    let mut detail = String::from_utf8_lossy(&body).into_owned();
    if let Some(place) = elsewhere.filter(|_| status.is_redirection()) {
        detail =
            format!("it redirects to {place}, and redirects are not followed; use that URL in the route");
    }
    (Fact::Status { status, pause }, detail)
}
