//! What an operator looks at: metrics, health, and a status page, for this machine only.

mod gather;
mod health;
mod metrics;
mod page;
mod process;
pub mod status;
mod view;
mod vitals;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{
    contract::Shutdown,
    http::{self, Limits, Request, Response},
};
use status::Health;
pub use view::{Parts, SinkView, SourceView, View};

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// What looks at an agent is few.
const MAX_CONNECTIONS: usize = 16;

/// Answers on `listener` until shutdown is requested.
pub async fn serve(listener: TcpListener, view: Arc<View>, shutdown: Shutdown) {
    let limits = Limits { max_connections: MAX_CONNECTIONS, ..Limits::default() };
    let follow = view.follow(shutdown.clone());
    let handler = {
        let view = Arc::clone(&view);
        move |request: Request| {
            let view = Arc::clone(&view);
            async move { answer(&view, &request).await }
        }
    };
    tokio::join!(http::serve(listener, None, limits, handler, shutdown), follow);
}

async fn answer(view: &Arc<View>, request: &Request) -> Response {
    let mut response = match *request.method() {
        Method::GET | Method::HEAD => look(view, request.uri().path()).await,
        _ => {
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn look(view: &Arc<View>, path: &str) -> Response {
    match path {
        "/" => match view.report().await {
            Ok(report) => respond(StatusCode::OK, HTML, page::render(&report)),
            Err(error) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, error + "\n"),
        },
        "/metrics" => match view.report().await {
            Ok(report) => respond(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&report)),
            Err(error) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, error + "\n"),
        },
        "/api/status" => match view.report().await {
            Ok(report) => json(StatusCode::OK, &*report),
            Err(error) => json(StatusCode::SERVICE_UNAVAILABLE, &Health::broken(error)),
        },
        "/health" => healthy(match view.report().await {
            Ok(report) => Health::of(&report),
            Err(error) => Health::broken(error),
        }),
        "/health/live" => healthy(view.alive()),
        "/health/ready" => healthy(match view.report().await {
            Ok(report) => health::readiness(&report),
            Err(error) => Health::broken(error),
        }),
        _ => {
            let known = "there is /, /metrics, /health, /health/live, /health/ready and /api/status\n";
            respond(StatusCode::NOT_FOUND, TEXT, known)
        }
    }
}

fn healthy(health: Health) -> Response {
    json(if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &health)
}

fn json(status: StatusCode, content: &impl Serialize) -> Response {
    let text = serde_json::to_vec(content).expect("numbers and text always serialize");
    respond(status, JSON, text)
}

fn respond(status: StatusCode, content_type: &'static str, content: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
