//! What each request takes: one table.
use axum::http::Method;
use sexton_model::access::Permission;

/// What a request is about, as far as scopes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Something of no scope, or of all.
    Everything,
    /// The deletion `id`.
    Deletion,
    /// The latest deletion of `kind`/`name`.
    DeletionOf,
    /// The receipt of the deletion `id`; or, if that is a kind, the latest deletion of what is called `receipt`.
    Receipt,
    /// The resource `kind`/`name`.
    Resource,
    /// The pause `pause`.
    Pause,
    /// The batch `batch`.
    Batch,
    /// The alarm `id`.
    Alarm,
    /// The survey `survey`.
    Survey,
    /// The override `id`.
    Override,
    /// The handler sees to it: it stands in the body, or what is listed is limited to what may be seen.
    Handled,
}

/// What it takes to ask `method` of the route `path`; nothing for a route that is not here.
pub(super) fn need(method: &Method, path: &str) -> Option<(Permission, Subject)> {
    use Permission::{
        Approve, Cancel, Ceiling, Halt, Hold, Override, Pause, Register, Release, Request, Rescue, Resume,
        Review, See, SeeAll, Steer, Survey, Tokens, Waive,
    };
    // Whoever may read may look at the headers alone.
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    Some(match (method, path) {
        ("POST", "/v1/resources") => (Register, Subject::Handled),
        ("GET", "/v1/resources" | "/v1/deletions") => (See, Subject::Handled),
        ("GET", "/v1/resources/{kind}/{name}") => (See, Subject::Resource),
        // A name is taken or free for everybody.
        ("GET", "/v1/names/{kind}/{name}") => (See, Subject::Handled),
        ("POST", "/v1/deletions") => (Request, Subject::Handled),
        ("POST", "/v1/preview") => (See, Subject::Handled),
        // It makes work for consumers, so it takes who could make the record.
        ("POST", "/v1/surveys") => (Survey, Subject::Handled),
        ("GET", "/v1/surveys/{survey}") => (See, Subject::Survey),
        ("GET", "/v1/deletions/{id}") => (See, Subject::Deletion),
        ("GET", "/v1/deletions/{kind}/{name}") => (See, Subject::DeletionOf),
        ("POST", "/v1/deletions/{id}/cancel") => (Cancel, Subject::Deletion),
        ("POST", "/v1/deletions/{id}/holds") => (Hold, Subject::Deletion),
        ("DELETE", "/v1/deletions/{id}/holds/{hold}") => (Release, Subject::Deletion),
        ("POST", "/v1/deletions/{id}/park" | "/v1/deletions/{id}/bounced") => (Halt, Subject::Deletion),
        ("POST", "/v1/deletions/{id}/retry" | "/v1/deletions/{id}/acknowledge") => (Steer, Subject::Deletion),
        ("POST", "/v1/deletions/{id}/waive") => (Waive, Subject::Deletion),
        ("POST", "/v1/deletions/{id}/rescue") => (Rescue, Subject::Deletion),
        // A stub does not say of which scope its resource was.
        ("GET", "/v1/archived" | "/v1/archived/{id}" | "/v1/archived/{kind}/{name}") => {
            (SeeAll, Subject::Everything)
        }
        (
            "GET",
            "/v1/pauses" | "/v1/ceilings" | "/v1/batches" | "/v1/review" | "/v1/health" | "/v1/whoami",
        ) => (See, Subject::Handled),
        ("GET", "/v1/alarms" | "/v1/digest") => (See, Subject::Handled),
        ("POST", "/v1/alarms/{id}/acknowledge") => (Steer, Subject::Alarm),
        ("POST", "/v1/pauses") => (Pause, Subject::Handled),
        ("DELETE", "/v1/pauses/{pause}") => (Resume, Subject::Pause),
        ("GET", "/v1/deletions/{id}/receipt") => (See, Subject::Receipt),
        ("GET", "/v1/audit/chains/{id}") => (See, Subject::Deletion),
        ("PUT", "/v1/resources/{kind}/{name}/priority") => (Steer, Subject::Resource),
        ("POST", "/v1/resources/{kind}/{name}/holds") => (Hold, Subject::Resource),
        // Whoever asks for deletions does not take away what others hold against them.
        ("DELETE", "/v1/resources/{kind}/{name}/holds" | "/v1/resources/{kind}/{name}/holds/{hold}") => {
            (Release, Subject::Resource)
        }
        ("POST", "/v1/cancellations") => (Cancel, Subject::Handled),
        ("GET", "/v1/pauses/{pause}/stopped") => (See, Subject::Pause),
        ("GET", "/v1/censuses" | "/v1/censuses/latest" | "/v1/findings") => (See, Subject::Handled),
        // To be taken it takes whoever may have subsystems looked at, too: the handler sees to it.
        ("POST", "/v1/censuses" | "/v1/censuses/taken") => (Register, Subject::Handled),
        ("GET", "/v1/drills") => (SeeAll, Subject::Everything),
        ("POST", "/v1/drills") => (Steer, Subject::Everything),
        ("GET", "/v1/canaries") => (SeeAll, Subject::Everything),
        ("POST", "/v1/canaries") => (Steer, Subject::Everything),
        ("GET", "/v1/overrides") => (See, Subject::Handled),
        ("POST", "/v1/overrides") => (Override, Subject::Handled),
        ("DELETE", "/v1/overrides/{id}") => (Override, Subject::Override),
        ("GET", "/v1/ceilings/stopped") => (See, Subject::Handled),
        ("POST", "/v1/ceilings") => (Ceiling, Subject::Handled),
        ("GET", "/v1/batches/{batch}") => (See, Subject::Batch),
        ("POST", "/v1/batches/{batch}/approve") => (Approve, Subject::Batch),
        ("POST", "/v1/review/accept") => (Review, Subject::Everything),
        ("GET", "/v1/audit" | "/v1/audit/access") | ("POST", "/v1/audit/hashes") => {
            (SeeAll, Subject::Everything)
        }
        ("GET" | "POST", "/v1/tokens") | ("DELETE", "/v1/tokens/{token}") => (Tokens, Subject::Everything),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each route, with its methods, as the router's text has it.
    fn routes() -> Vec<(Method, String)> {
        let text = include_str!("../../api.rs");
        let mut all = Vec::new();
        for route in text.split(".route(\"").skip(1) {
            let (path, rest) = route.split_once('"').unwrap();
            let rest = rest.split('\n').next().unwrap();
            for (method, call) in [
                (Method::GET, "get("),
                (Method::POST, "post("),
                (Method::PUT, "put("),
                (Method::DELETE, "delete("),
            ] {
                if rest.contains(call) {
                    all.push((method, path.to_owned()));
                }
            }
        }
        all.retain(|(_, path)| path.starts_with("/v1/"));
        all
    }

    /// What it names may be a kind.
    const RECEIPT: &str = "/v1/deletions/{id}/receipt";

    #[test]
    fn every_route_says_what_it_takes() {
        let routes = routes();
        assert!(routes.len() > 30, "{routes:?}");
        for (method, path) in routes {
            let needed = need(&method, &path);
            let Some((what, of)) = needed else { panic!("{method} {path} takes nothing that is known") };
            assert!(
                method == Method::GET || what != Permission::See || path == "/v1/preview",
                "{method} {path}"
            );
            let below = |stems: &[&str]| stems.iter().any(|stem| path.starts_with(stem));
            let named = match of {
                Subject::Receipt => path == RECEIPT,
                Subject::Deletion => {
                    path != RECEIPT && below(&["/v1/deletions/{id}", "/v1/audit/chains/{id}"])
                }
                Subject::DeletionOf => path == "/v1/deletions/{kind}/{name}",
                Subject::Resource => below(&["/v1/resources/{kind}/{name}"]),
                Subject::Pause => below(&["/v1/pauses/{pause}"]),
                Subject::Batch => below(&["/v1/batches/{batch}"]),
                Subject::Alarm => below(&["/v1/alarms/{id}"]),
                Subject::Survey => below(&["/v1/surveys/{survey}"]),
                Subject::Override => below(&["/v1/overrides/{id}"]),
                Subject::Everything => !path.contains('{') || below(&["/v1/archived/", "/v1/tokens/"]),
                // No handler sees to what the path names, but to names: whether one is free is told to everybody.
                Subject::Handled => !path.contains('{') || below(&["/v1/names/"]),
            };
            assert!(named, "{method} {path}: {of:?}");
        }
        assert_eq!(need(&Method::PUT, "/v1/deletions"), None);
        assert_eq!(need(&Method::GET, "/v1/else"), None);
    }
}
