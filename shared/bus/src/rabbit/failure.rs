//! What the client's errors mean here.
use lapin::ErrorKind;

use crate::BusError;

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// The broker's own words and number, if it was the broker that said no.
pub(super) fn broker_said(error: &lapin::Error) -> Option<(u16, &str)> {
    match error.kind() {
        ErrorKind::ProtocolError(said) => Some((said.get_id(), said.get_message().as_str())),
        _ => None,
    }
}

/// A call that names no queue.
pub(super) fn of_call(doing: &str, error: &lapin::Error) -> BusError {
    match broker_said(error) {
        Some((ACCESS_REFUSED | PRECONDITION_FAILED | NOT_ALLOWED | NOT_FOUND, reason)) => {
            BusError::Refused { doing: doing.to_owned(), reason: reason.to_owned() }
        }
        _ => BusError::Unreachable { doing: doing.to_owned(), reason: error.to_string() },
    }
}

/// A call about one queue.
pub(super) fn of_queue(doing: &str, queue: &str, error: &lapin::Error) -> BusError {
    match broker_said(error) {
        Some((NOT_FOUND, _)) => BusError::NoSuchQueue { queue: queue.to_owned() },
        _ => of_call(doing, error),
    }
}

/// A call that got no answer in time.
pub(super) fn too_late(doing: &str) -> BusError {
    BusError::Unreachable { doing: doing.to_owned(), reason: "no answer in time".to_owned() }
}

/// What a channel's end says about one of the messages that were on their way.
pub(super) enum Blame {
    /// It was this one's exchange that is missing.
    NoExchange,
    /// It was this one that was refused.
    Refused(String),
    /// It was another.
    Innocent,
}

/// The broker names the exchange it refused; for what it says about no exchange in particular, such as a
/// property it objects to, all are to blame, since all are alike.
pub(super) fn blame(code: u16, said: &str, exchange: &str) -> Blame {
    let names_this = said.contains(&format!("exchange '{exchange}'"));
    match code {
        NOT_FOUND if names_this => Blame::NoExchange,
        _ if names_this || !said.contains("exchange '") => Blame::Refused(said.to_owned()),
        _ => Blame::Innocent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exchange_that_is_named_is_to_blame() {
        let said = "ACCESS_REFUSED - write access to exchange 'sexton.send.orders' in vhost '/' refused";
        assert!(matches!(blame(403, said, "sexton.send.orders"), Blame::Refused(_)));
        assert!(matches!(blame(403, said, "sexton.send.pulses"), Blame::Innocent));
        let said = "NOT_FOUND - no exchange 'sexton.send.orders' in vhost '/'";
        assert!(matches!(blame(404, said, "sexton.send.orders"), Blame::NoExchange));
        let said = "PRECONDITION_FAILED - user_id property set to 'a' but authenticated user was 'b'";
        assert!(matches!(blame(406, said, "sexton.send.pulses"), Blame::Refused(_)));
    }
}
