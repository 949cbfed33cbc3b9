//! An outage in the middle of what looks again and again: a coordinator that is started anew, or a job table that is away for a
//! moment, is no reason to stop looking.
use std::time::{Duration, Instant};

use sexton_api::ClientError;

/// How long nobody may answer: a coordinator that is exchanged takes a few seconds. Whoever waits longer wants to know.
const OUTLASTED: Duration = Duration::from_secs(30);

/// How it stands with the answers to one command.
#[derive(Debug, Default)]
pub struct Outage {
    answered: bool,
    since: Option<Instant>,
}

impl Outage {
    /// What was seen; nothing while nobody answers, which is said once.
    ///
    /// # Errors
    /// What it failed with: of the first look in any case, and of a later one if somebody answered, or nobody has for too long.
    pub fn outlast<T>(&mut self, looked: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        let outlasted = |error: &anyhow::Error, since: Option<Instant>| {
            error.downcast_ref().is_some_and(ClientError::is_away)
                && since.is_none_or(|since| since.elapsed() < OUTLASTED)
        };
        match looked {
            Ok(seen) => {
                *self = Self { answered: true, since: None };
                Ok(Some(seen))
            }
            Err(error) if self.answered && outlasted(&error, self.since) => {
                if self.since.is_none() {
                    self.since = Some(Instant::now());
                    eprintln!("sexton: {error:#}; looking again for {} s", OUTLASTED.as_secs());
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use sexton_api::Problem;

    use super::*;

    fn answered(status: u16) -> anyhow::Result<()> {
        let problem = Problem { status, title: "so".to_owned(), detail: "so".to_owned(), field: None };
        Err(ClientError::Problem(problem).into())
    }

    #[test]
    fn an_outage_is_outlasted_for_a_while_and_an_answer_is_not() {
        let mut outage = Outage::default();
        assert!(outage.outlast(answered(503)).is_err(), "nobody was there at all");
        let mut outage = Outage::default();
        assert_eq!(outage.outlast(Ok(7)).unwrap(), Some(7));
        for status in [503, 502, 504] {
            assert_eq!(outage.outlast(answered(status)).unwrap(), None);
        }
        assert!(outage.outlast(answered(404)).is_err());
        outage.since = Instant::now().checked_sub(OUTLASTED);
        assert!(outage.since.is_some() && outage.outlast(answered(503)).is_err(), "for too long");
        outage.outlast(Ok(())).unwrap();
        assert_eq!(outage.outlast(answered(503)).unwrap(), None, "another one");
    }
}
