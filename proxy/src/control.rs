//! The proxy's control API: who may call what, and what then happens.

use std::sync::Arc;

use daemon::control::{
    Answer, Method, Refusal, Reply, Route, RouteTable, StatusCode, TableError, VIEWER_AND_UP,
};
use daemon::telemetry::METRICS_TYPE;
use placement::{Identity, Role};
use proxy_api::{Reloaded, Status, path};

use crate::running::{LoadError, Proxy, ReloadError, seconds};

/// Who may have the proxy read its configuration again.
const RELOADERS: &[Role] = &[Role::Operator, Role::Orchestrator];

/// The table.
///
/// # Errors
/// The routes below contradict each other.
pub fn routes(proxy: &Arc<Proxy>) -> Result<RouteTable, TableError> {
    RouteTable::new(vec![
        Route::new(Method::GET, path::STATUS, VIEWER_AND_UP, {
            let proxy = Arc::clone(proxy);
            move |_| std::future::ready(status(&proxy))
        }),
        Route::new(Method::GET, path::METRICS, VIEWER_AND_UP, {
            let proxy = Arc::clone(proxy);
            move |_| std::future::ready(Ok(Reply::text(METRICS_TYPE, proxy.telemetry().render())))
        }),
        Route::new(Method::POST, path::RELOAD, RELOADERS, {
            let proxy = Arc::clone(proxy);
            move |request| reload(Arc::clone(&proxy), request.caller().clone())
        }),
    ])
}

fn status(proxy: &Proxy) -> Answer {
    let snapshot = proxy.snapshot();
    let credentials = &snapshot.loaded.credentials;
    Reply::json(&Status {
        identity: credentials.identity().clone(),
        version: crate::VERSION.to_owned(),
        uptime_s: proxy.telemetry().uptime().as_secs(),
        generation: snapshot.generation,
        certificate_valid_until_s: seconds(credentials.valid_until()),
    })
}

async fn reload(proxy: Arc<Proxy>, caller: Identity) -> Answer {
    match proxy.reload().await {
        Ok(generation) => {
            tracing::info!(%caller, generation, "reload taken");
            Reply::json(&Reloaded { generation })
        }
        Err(error) => {
            let (status, code) = match &error {
                ReloadError::Load(LoadError::Config(_)) | ReloadError::Telemetry(_) => {
                    (StatusCode::UNPROCESSABLE_ENTITY, "bad_config")
                }
                ReloadError::Load(LoadError::Credentials(_)) => {
                    (StatusCode::UNPROCESSABLE_ENTITY, "bad_credentials")
                }
                ReloadError::NeedsRestart { .. } => (StatusCode::CONFLICT, "needs_restart"),
                ReloadError::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
            };
            let remedy = "the proxy runs on as before; mend this and reload again";
            Err(Refusal::caused(status, code, &error, remedy))
        }
    }
}
