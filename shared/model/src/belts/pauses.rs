//! How many pauses there may be.
use super::PauseSelector;

/// Most pauses in force, those included that belts have placed: each of them is looked at with every decision on a job,
/// and read with every batch. It is four a day for most of a year, none of them ever lifted.
pub const PAUSES_MAX: usize = 1000;

/// There are as many as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "covers: {PAUSES_MAX} pauses are in force, and there may be no more of a part: lift those that are not needed any more \
     (`sexton pause` shows them), or pause everything, which is always taken"
)]
pub struct TooManyPauses;

/// Whether somebody may pause what `covers` says beside `standing` pauses that are in force.
///
/// # Errors
/// If there are too many; never for a pause of everything, since to stop has to be possible at all times.
pub fn room(covers: &PauseSelector, standing: usize) -> Result<(), TooManyPauses> {
    let everything = *covers == PauseSelector::default();
    if standing >= PAUSES_MAX && !everything { Err(TooManyPauses) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_room_for_a_pause_of_everything() {
        let part = PauseSelector { scope: Some("tenants".parse().unwrap()), ..PauseSelector::default() };
        assert_eq!(room(&part, PAUSES_MAX - 1), Ok(()));
        for standing in [PAUSES_MAX, PAUSES_MAX + 1] {
            assert_eq!(room(&part, standing), Err(TooManyPauses));
            assert_eq!(room(&PauseSelector::default(), standing), Ok(()));
        }
    }
}
