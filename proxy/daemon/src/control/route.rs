//! The table: method, path, roles and handler of each route, side by side.

use std::fmt::Display;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use placement::{Identity, Role};
use serde::de::DeserializeOwned;

use super::reply::{Answer, Refusal};

/// Who may look, and who may more than that.
pub const VIEWER_AND_UP: &[Role] = &[Role::Viewer, Role::Operator, Role::Orchestrator];

/// A call whose route and role are settled.
#[derive(Debug)]
pub struct Request {
    caller: Identity,
    params: Params,
    query: String,
    body: Bytes,
}

impl Request {
    pub(super) fn new(caller: Identity, params: Params, query: String, body: Bytes) -> Request {
        Request { caller, params, query, body }
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> &Identity {
        &self.caller
    }

    /// What stands in the path where the route has `{name}`.
    ///
    /// # Errors
    /// It is no `T`.
    pub fn param<T>(&self, name: &str) -> Result<T, Refusal>
    where
        T: FromStr,
        T::Err: Display,
    {
        let written = self.params.iter().find(|(known, _)| *known == name);
        let Some((_, written)) = written else {
            return Err(Refusal::internal(&format!("the route has no '{{{name}}}'")));
        };
        written.parse::<T>().map_err(|error| {
            let message = format!("'{name}' in the path: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, "bad_path", message, "correct the path")
        })
    }

    /// What follows the path's `?`: these names and no others, each at most once; the values in
    /// their order. Values are taken as they stand: names and numbers need no escaping.
    ///
    /// # Errors
    /// There is another name, or one twice, or a name without a value.
    pub fn query<const N: usize>(
        &self,
        names: [&'static str; N],
    ) -> Result<[Option<QueryValue<'_>>; N], Refusal> {
        let mut values = [None; N];
        for part in self.query.split('&').filter(|part| !part.is_empty()) {
            let known = part.split_once('=').and_then(|(name, value)| {
                let index = names.iter().position(|known| *known == name)?;
                Some((values.get_mut(index)?, QueryValue { name: names.get(index)?, value }))
            });
            match known {
                Some((place @ None, value)) => *place = Some(value),
                _ => {
                    let part: String = part.chars().take(64).collect();
                    let message = format!("'{part}' in the query is unknown, or there twice");
                    let remedy = format!("write NAME=VALUE, each of {} once", names.join(", "));
                    return Err(Refusal::new(
                        StatusCode::BAD_REQUEST,
                        "bad_query",
                        message,
                        remedy,
                    ));
                }
            }
        }
        Ok(values)
    }

    /// The body as it came, within the server's bound.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, as JSON of a `T`.
    ///
    /// # Errors
    /// It is none.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("the body cannot be read: {error}");
            let remedy = "send what this version's API describes; are both of one version?";
            Refusal::new(StatusCode::BAD_REQUEST, "bad_body", message, remedy)
        })
    }
}

/// One value of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryValue<'r> {
    name: &'static str,
    value: &'r str,
}

impl QueryValue<'_> {
    /// The value as a `T`.
    ///
    /// # Errors
    /// It is none.
    pub fn parse<T>(&self) -> Result<T, Refusal>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.value.parse::<T>().map_err(|error| {
            let value: String = self.value.chars().take(64).collect();
            let message = format!("'{}={value}' in the query: {error}", self.name);
            Refusal::new(StatusCode::BAD_REQUEST, "bad_query", message, "correct the query")
        })
    }
}

/// Values of a path's `{…}`, by name.
pub(super) type Params = Vec<(&'static str, String)>;

type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Handler = Box<dyn Fn(Request) -> Work + Send + Sync>;

/// One line of the table.
pub struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) roles: &'static [Role],
    pub(super) handler: Handler,
}

impl Route {
    /// `method` on `path`, for callers of one of `roles`. In the path, `{name}` stands for one
    /// segment. The handler bounds its own waits: the server cuts it off only when it stops.
    pub fn new<F, W>(
        method: Method,
        path: &'static str,
        roles: &'static [Role],
        handler: F,
    ) -> Route
    where
        F: Fn(Request) -> W + Send + Sync + 'static,
        W: Future<Output = Answer> + Send + 'static,
    {
        Route { method, path, roles, handler: Box::new(move |request| Box::pin(handler(request))) }
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} for {:?}", self.method, self.path, self.roles)
    }
}

/// Why a set of routes is no table: a mistake in the program, found before it serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A path that is none.
    #[error("route {0}: write /segments, each a word or one whole {{name}}, each name once")]
    Path(String),
    /// Nobody may call it.
    #[error("route {0}: has no roles")]
    Roles(String),
    /// Two routes would take one call.
    #[error("routes {0} and {1}: one call could be either")]
    Ambiguous(String, String),
}

/// All routes of a server.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
}

/// A table as it is written: line after line, each handler with the one thing that it acts on.
#[derive(Debug)]
pub struct Lines<T> {
    of: Arc<T>,
    routes: Vec<Route>,
}

impl<T: Send + Sync + 'static> Lines<T> {
    /// No lines yet, for handlers that act on `of`.
    #[must_use]
    pub fn of(of: &Arc<T>) -> Lines<T> {
        Lines { of: Arc::clone(of), routes: Vec::new() }
    }

    /// The next line; see [`Route::new`].
    #[must_use]
    pub fn at<F, W>(
        mut self,
        method: Method,
        path: &'static str,
        roles: &'static [Role],
        handler: F,
    ) -> Lines<T>
    where
        F: Fn(Arc<T>, Request) -> W + Send + Sync + 'static,
        W: Future<Output = Answer> + Send + 'static,
    {
        let of = Arc::clone(&self.of);
        let handler = move |request| handler(Arc::clone(&of), request);
        self.routes.push(Route::new(method, path, roles, handler));
        self
    }

    /// All of them.
    ///
    /// # Errors
    /// See [`RouteTable::new`].
    pub fn table(self) -> Result<RouteTable, TableError> {
        RouteTable::new(self.routes)
    }
}

/// What a method and a path lead to.
#[derive(Debug)]
pub(super) enum Found<'t> {
    Route(&'t Route, Params),
    OtherMethods(String),
    Nothing,
}

impl RouteTable {
    /// Takes routes that no call could mistake for one another.
    ///
    /// # Errors
    /// A path is none, has no roles, or collides.
    pub fn new(routes: Vec<Route>) -> Result<RouteTable, TableError> {
        for (index, route) in routes.iter().enumerate() {
            let name = || format!("{} {}", route.method, route.path);
            if !is_path(route.path) {
                return Err(TableError::Path(name()));
            }
            if route.roles.is_empty() {
                return Err(TableError::Roles(name()));
            }
            let mut earlier = routes.iter().take(index);
            if let Some(other) = earlier.find(|other| collide(route, other)) {
                return Err(TableError::Ambiguous(
                    format!("{} {}", other.method, other.path),
                    name(),
                ));
            }
        }
        Ok(RouteTable { routes })
    }

    pub(super) fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let mut others = Vec::new();
        for route in &self.routes {
            let Some(params) = matched(route.path, path) else { continue };
            if route.method == *method {
                return Found::Route(route, params);
            }
            others.push(route.method.as_str());
        }
        if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
    }
}

fn segments(path: &str) -> Option<impl Iterator<Item = &str>> {
    path.strip_prefix('/').map(|rest| rest.split('/'))
}

fn param(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn matched(pattern: &'static str, path: &str) -> Option<Params> {
    let (mut wanted, mut given) = (segments(pattern)?, segments(path)?);
    let mut params = Params::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(params),
            (Some(wanted), Some(given)) => match param(wanted) {
                Some(name) if !given.is_empty() => params.push((name, given.to_owned())),
                None if wanted == given => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

fn is_path(path: &str) -> bool {
    let Some(segments) = segments(path) else { return false };
    let mut names = Vec::new();
    for segment in segments {
        let word = param(segment).unwrap_or(segment);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if word.is_empty() || !word.bytes().all(plain) {
            return false;
        }
        if let Some(name) = param(segment) {
            if names.contains(&name) {
                return false;
            }
            names.push(name);
        }
    }
    true
}

fn collide(one: &Route, other: &Route) -> bool {
    if one.method != other.method {
        return false;
    }
    let (Some(mut these), Some(mut those)) = (segments(one.path), segments(other.path)) else {
        return false;
    };
    loop {
        match (these.next(), those.next()) {
            (None, None) => return true,
            (Some(this), Some(that)) if this == that => {}
            (Some(this), Some(that)) if param(this).is_some() || param(that).is_some() => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::Reply;

    fn route(method: Method, path: &'static str) -> Route {
        Route::new(method, path, VIEWER_AND_UP, |_| async { Reply::json(&()) })
    }

    fn table() -> RouteTable {
        RouteTable::new(vec![
            route(Method::GET, "/v1/flows"),
            route(Method::GET, "/v1/flows/{flow}"),
            route(Method::DELETE, "/v1/flows/{flow}"),
            route(Method::POST, "/v1/vms/{vm}/claims/{epoch}"),
        ])
        .unwrap()
    }

    #[test]
    fn a_path_leads_to_its_route_with_what_stands_in_it() {
        let table = table();
        let Found::Route(route, params) = table.find(&Method::POST, "/v1/vms/web-01/claims/7")
        else {
            panic!("no route");
        };
        assert_eq!(route.path, "/v1/vms/{vm}/claims/{epoch}");
        assert_eq!(params, [("vm", "web-01".to_owned()), ("epoch", "7".to_owned())]);
    }

    #[test]
    fn a_known_path_names_the_methods_it_has_and_an_unknown_one_nothing() {
        let table = table();
        let Found::OtherMethods(methods) = table.find(&Method::PUT, "/v1/flows/7") else {
            panic!("taken");
        };
        assert_eq!(methods, "GET, DELETE");
        for path in
            ["", "/", "*", "v1/flows", "/v1/flows/", "/v1//flows", "/v1/flows/7/8", "/V1/flows"]
        {
            assert!(matches!(table.find(&Method::GET, path), Found::Nothing), "{path:?}");
        }
    }

    #[test]
    fn a_table_that_could_be_misread_is_refused() {
        let made = |paths: &[&'static str]| {
            RouteTable::new(paths.iter().map(|path| route(Method::GET, path)).collect())
        };
        for path in ["", "v1", "/v1/", "/v1//x", "/v1/a{x}", "/v1/{}", "/{a}/{a}", "/a?b"] {
            assert!(matches!(made(&[path]), Err(TableError::Path(_))), "{path:?}");
        }
        for pair in [["/a/{x}", "/a/b"], ["/a/{x}", "/a/{y}"], ["/a", "/a"], ["/{x}/b", "/a/{y}"]] {
            assert!(matches!(made(&pair), Err(TableError::Ambiguous(..))), "{pair:?}");
        }
        let nobody = Route::new(Method::GET, "/a", &[], |_| async { Reply::json(&()) });
        assert!(matches!(RouteTable::new(vec![nobody]), Err(TableError::Roles(_))));
    }

    #[test]
    fn a_param_that_is_none_of_its_type_is_refused_by_name() {
        let caller = "causeway://site/a/role/viewer/name/v".parse().unwrap();
        let request =
            Request::new(caller, vec![("epoch", "x".to_owned())], String::new(), Bytes::new());
        assert_eq!(request.param::<u64>("epoch").unwrap_err().code(), "bad_path");
        assert_eq!(request.param::<u64>("other").unwrap_err().code(), "internal");
        assert_eq!(request.json::<u64>().unwrap_err().code(), "bad_body");
    }

    #[test]
    fn a_query_has_known_names_once_each_and_values_of_their_type() {
        let asked = |query: &str| {
            let caller = "causeway://site/a/role/viewer/name/v".parse().unwrap();
            Request::new(caller, vec![], query.to_owned(), Bytes::new())
        };
        let request = asked("limit=7&service=web");
        let [service, limit, after] = request.query(["service", "limit", "after"]).unwrap();
        assert_eq!(service.unwrap().parse::<String>().unwrap(), "web");
        assert_eq!(limit.unwrap().parse::<usize>().unwrap(), 7);
        assert_eq!(limit.unwrap().parse::<bool>().unwrap_err().code(), "bad_query");
        assert_eq!(after, None);
        for query in ["x=1", "limit", "limit=1&limit=1", "=", "limit=1&x"] {
            assert_eq!(asked(query).query(["limit"]).unwrap_err().code(), "bad_query", "{query}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_paths_never_panic(path in ".*", method in "[A-Z]{1,9}") {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let _ = table().find(&method, &path);
        }

        #[test]
        fn what_matched_is_the_path_itself(vm in "[^/]+", epoch in "[^/]+") {
            let path = format!("/v1/vms/{vm}/claims/{epoch}");
            let table = table();
            let Found::Route(_, params) = table.find(&Method::POST, &path) else {
                return Err(TestCaseError::fail("no route"));
            };
            prop_assert_eq!(params, vec![("vm", vm), ("epoch", epoch)]);
        }
    }
}
