//! A rehearsal says so with every answer, also with those that refuse something: nobody is to take it for the real thing.
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;
use sexton_api::REHEARSAL;
use sexton_model::time::Day;

/// Say how long a day is, in milliseconds, if this is a rehearsal.
pub(super) async fn said(State(day): State<Day>, mut response: Response) -> Response {
    if let Some(day_ms) = day.rehearsal_ms() {
        response.headers_mut().insert(REHEARSAL, HeaderValue::from(day_ms));
    }
    response
}
